"""Runs PTX, the assembly that a GPU kernel is compiled to, on the CPU, and stops at what a GPU lets
pass in silence.

All threads of the grid go together through NumPy, those with the lowest program counter first. It
traps a load or store out of range or misaligned; a load of what was never written; a load or plain
store of what another thread stored; and threads that wait for ever for others of their warp. It
knows what the kernels of `ops/gpu` compile to; any other instruction is a `NotImplementedError`.

NVIDIA, Parallel Thread Execution ISA, version 9.0.
"""

import re
from typing import NamedTuple

import ml_dtypes
import numpy as np

WARP = 32
DTYPES = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "f64": np.float64,
    **{f"u{n}": f"u{n // 8}" for n in (16, 32, 64)},
    **{f"b{n}": f"u{n // 8}" for n in (16, 32, 64)},
    **{f"s{n}": f"i{n // 8}" for n in (16, 32, 64)},
}
DTYPES = {name: np.dtype(dtype) for name, dtype in DTYPES.items()}


class Trap(Exception):
    """What a correct kernel never does."""


# ---- memory --------------------------------------------------------------------------------------


class Memory:
    """Buffers in one address space, far apart."""

    def __init__(self):
        self.buffers = []  # (first address, bytes, thread that stored each byte or -1, written)

    def add(self, a: np.ndarray, written: bool = True) -> int:
        """Places a copy of `a`; its address. What is not `written` must be before it is read."""
        base = (len(self.buffers) + 1) << 40
        data = np.frombuffer(np.ascontiguousarray(a).tobytes(), np.uint8).copy()
        self.buffers.append((base, data, np.full(data.size, -1), np.full(data.size, written)))
        return base

    def get(self, base: int, like: np.ndarray) -> np.ndarray:
        """The array at `base`, of the shape and type of `like`."""
        (data,) = (data for b, data, *_ in self.buffers if b == base)
        return data.view(like.dtype).reshape(like.shape)

    def _places(self, address, width, what):
        # per buffer touched: (which lanes, buffer, index in units of `width` bytes)
        if (address % np.uint64(width)).any():
            raise Trap(f"misaligned {what} of {width} bytes at {hex(int(address[0]))}")
        found = np.zeros(address.size, bool)
        places = []
        for buffer in self.buffers:
            base, data = buffer[:2]
            inside = (address >= base) & (address + np.uint64(width) <= np.uint64(base + data.size))
            if inside.any():
                index = ((address[inside] - np.uint64(base)) // np.uint64(width)).astype(np.int64)
                places.append((inside, buffer, index))
                found |= inside
        if not found.all():
            raise Trap(f"{what} out of range at {hex(int(address[~found][0]))}")
        return places

    def load(self, address, dtype, thread):
        out = np.zeros(address.size, dtype)
        for lanes, (_, data, owner, written), index in self._places(
            address, dtype.itemsize, "load"
        ):
            first = index * dtype.itemsize
            if not written[first].all():
                raise Trap("load of what was never written")
            if ((owner[first] >= 0) & (owner[first] != thread[lanes])).any():
                raise Trap("load of what another thread stored")
            out[lanes] = data.view(dtype)[index]
        return out

    def store(self, address, value, thread):
        width = value.dtype.itemsize
        for lanes, (_, data, owner, written), index in self._places(address, width, "store"):
            first = index * width
            mine = thread[lanes]
            if np.unique(index).size < index.size:
                raise Trap("two threads store at one place")
            if ((owner[first] >= 0) & (owner[first] != mine)).any():
                raise Trap("store over what another thread stored")
            data.view(value.dtype)[index] = value[lanes]
            for byte in range(width):
                owner[first + byte], written[first + byte] = mine, True

    def add_atomically(self, address, value):
        """Adds, one thread after the other; what was there before each."""
        old = np.zeros_like(value)
        for lanes, (_, data, owner, written), index in self._places(
            address, value.dtype.itemsize, "atomic addition"
        ):
            first = index * value.dtype.itemsize
            if not written[first].all() or (owner[first] >= 0).any():
                raise Trap("atomic addition to what was never written, or stored by a thread")
            cells = data.view(value.dtype)
            for lane, i in zip(np.flatnonzero(lanes), index, strict=True):
                old[lane] = cells[i]
                cells[i] += value[lane]
        return old


# ---- the program ---------------------------------------------------------------------------------


class Instruction(NamedTuple):
    guard: str  # "", "%p1" or "!%p1"
    op: str
    args: list[str]


class Program(NamedTuple):
    instructions: list[Instruction]
    labels: dict[str, int]
    parameters: list[str]
    block: int  # threads


def parse(ptx: str) -> Program:
    """The one kernel in `ptx`."""
    (head, body) = re.search(r"\.entry\s+(\w+\(.*?\)[^{]*)\{(.*)\n\}", ptx, re.S).groups()
    parameters = re.findall(r"(\w+_param_\d+)", head)
    threads = re.search(r"\.(?:maxntid|reqntid)\s+(\d+)", head)
    body = re.sub(r"//[^\n]*", "", body)
    body = re.sub(r"\.(loc|file|reg|pragma)\b[^\n;]*[\n;]", " ", body)
    instructions, labels = [], {}
    for statement in body.split(";"):
        statement = statement.lstrip("{} \t\n").rstrip()  # a block has registers of its own
        while label := re.match(r"(\$\w+):[{}\s]*", statement):
            labels[label[1]] = len(instructions)
            statement = statement[label.end() :]
        if not statement:
            continue
        guard = ""
        if statement[0] == "@":
            guard, statement = statement[1:].split(None, 1)
        op, _, rest = statement.replace("\t", " ").partition(" ")
        args = [a.strip() for a in re.split(r",(?![^{]*\})", rest)] if rest.strip() else []
        instructions.append(Instruction(guard, op, args))
    return Program(instructions, labels, parameters, int(threads[1]) if threads else 128)


COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "neu": lambda x, y: ~(x == y),  # also where one is NaN
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "min": np.minimum,
    "max": np.maximum,
    "div": np.divide,
}
IGNORED = ("fence", "bar", "membar")  # one block's threads share nothing here


class Threads:
    """All threads of a grid, and their registers as bits in 64."""

    def __init__(self, program: Program, grid: int, arguments: list[int], memory: Memory):
        self.program, self.memory = program, memory
        self.n = grid * program.block
        self.number = np.arange(self.n)
        self.parameters = dict(zip(program.parameters, arguments, strict=True))
        self.registers: dict[str, np.ndarray] = {}
        self.special = {
            "%tid.x": self.number % program.block,
            "%ctaid.x": self.number // program.block,
            "%ntid.x": np.full(self.n, program.block),
            "%nctaid.x": np.full(self.n, grid),
            "%laneid": self.number % WARP,
        }
        for name in ("%tid.y", "%tid.z", "%ctaid.y", "%ctaid.z"):
            self.special[name] = np.zeros(self.n)
        self.pc = np.zeros(self.n, np.int64)
        self.alive, self.waiting = np.ones(self.n, bool), np.zeros(self.n, bool)

    def read(self, arg, lanes, dtype):
        """The operand `arg` of the threads `lanes`, as values of `dtype`."""
        if arg in self.special:
            bits = self.special[arg][lanes].astype(np.uint64)
        elif re.fullmatch(r"-?\d+", arg):
            bits = np.full(lanes.size, int(arg) & (2**64 - 1), np.uint64)
        elif match := re.fullmatch(r"0[xXfFdD]([0-9A-Fa-f]+)", arg):
            bits = np.full(lanes.size, int(match[1], 16), np.uint64)
        elif arg in self.registers:
            bits = self.registers[arg][lanes]
        else:
            raise Trap(f"register {arg} is read and never written")
        return np.ascontiguousarray(bits.view(np.uint8).reshape(-1, 8)[:, : dtype.itemsize]).view(
            dtype
        )[:, 0]

    def write(self, arg, lanes, value):
        value = np.ascontiguousarray(value)
        bits = np.zeros((lanes.size, 8), np.uint8)
        bits[:, : value.dtype.itemsize] = value.view(np.uint8).reshape(lanes.size, -1)
        register = self.registers.setdefault(arg, np.zeros(self.n, np.uint64))
        register[lanes] = bits.view(np.uint64)[:, 0]

    def predicate(self, arg, lanes):
        return self.read(arg.lstrip("!"), lanes, DTYPES["b64"]).astype(bool) ^ (arg[0] == "!")

    def address(self, arg, lanes):
        register, _, offset = arg.strip("[] ").partition("+")
        base = self.read(register, lanes, DTYPES["u64"])
        return base + np.uint64(int(offset or 0) & (2**64 - 1))

    def run(self, max_steps: int) -> None:
        for _ in range(max_steps):
            ready = self.alive & ~self.waiting
            if not ready.any():
                if self.alive.any():
                    raise Trap("threads wait for others of their warp, for ever")
                return
            at = self.pc[ready].min()
            if at >= len(self.program.instructions):
                self.alive[self.pc == at] = False
                continue
            self.step(at, np.flatnonzero(self.alive & (self.pc == at)))
        raise Trap(f"more than {max_steps} steps")

    def step(self, at, lanes):
        guard, op, args = self.program.instructions[at]
        base, *modifiers = op.split(".")
        if base in ("shfl", "elect"):
            lanes = self.together(lanes, args[-1])
        self.pc[lanes] = at + 1
        if guard:
            lanes = lanes[self.predicate(guard, lanes)]
        if lanes.size == 0 or base in IGNORED:
            return
        if base == "bra":
            self.pc[lanes] = self.program.labels[args[0]]
        elif base == "ret":
            self.alive[lanes] = False
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                self.compute(base, modifiers, args, lanes)

    def together(self, lanes, mask):
        # Those whose partners in the mask have all come; the others wait.
        here = np.zeros(self.n, bool)
        here[lanes] = True
        ballot = (here.reshape(-1, WARP) * (1 << np.arange(WARP, dtype=np.int64))).sum(1)
        members = self.read(mask, lanes, DTYPES["u32"]).astype(np.int64)
        complete = (members & ~ballot[lanes // WARP]) == 0
        self.waiting[lanes] = ~complete
        return lanes[complete]

    def compute(self, base, modifiers, args, lanes):
        kind = modifiers[-1] if modifiers else ""
        dtype = DTYPES.get(kind)

        def value(n, as_dtype=None):
            return self.read(args[n], lanes, as_dtype or dtype)

        def put(result):
            self.write(args[0], lanes, result)

        if base in ("fma", "add", "sub", "mul") and modifiers[-2:-1] in (["f32"], ["f64"]):
            self.mixed(base, DTYPES[modifiers[-2]], dtype, args, lanes)
        elif kind == "pred":
            x, y = (self.predicate(a, lanes) for a in (args[1], args[-1]))
            put({"and": x & y, "or": x | y, "xor": x ^ y, "not": ~x, "mov": x}[base])
        elif base == "ld" and modifiers[0].startswith("param"):
            put(np.full(lanes.size, self.parameters[args[1].strip("[]")], np.uint64))
        elif base == "ld" and modifiers[0] == "global":
            put(self.memory.load(self.address(args[1], lanes), dtype, lanes))
        elif base == "st" and modifiers[0] == "global":
            self.memory.store(self.address(args[0], lanes), value(1), lanes)
        elif base == "red" and "add" in modifiers:
            self.memory.add_atomically(self.address(args[0], lanes), value(1))
        elif base == "atom" and "add" in modifiers:
            put(self.memory.add_atomically(self.address(args[1], lanes), value(2)))
        elif base == "mov" and "{" in args[0] + args[1]:
            self.move_halves(dtype, args, lanes)
        elif base in ("mov", "cvta"):
            put(value(1))
        elif base == "not":
            put(~value(1))
        elif base == "neg":
            put(-value(1))
        elif base == "cvt":
            self.convert(modifiers, args, lanes)
        elif base == "setp":
            result = COMPARE[modifiers[0]](value(1), value(2))
            if modifiers[1] in ("and", "or"):
                other = self.predicate(args[3], lanes)
                result = result & other if modifiers[1] == "and" else result | other
            put(result.astype(np.uint64))
        elif base == "selp":
            put(np.where(self.predicate(args[3], lanes), value(1), value(2)))
        elif base in ("mul", "mad") and modifiers[0] in ("wide", "hi"):
            result = value(1).astype(object) * value(2).astype(object)
            if modifiers[0] == "hi":
                result = (result >> 8 * dtype.itemsize).astype(dtype)
            else:
                result = result.astype(f"{dtype.kind}{2 * dtype.itemsize}")
            put(result + value(3, result.dtype) if base == "mad" else result)
        elif base in ("mad", "fma"):
            # In twice the precision a product is exact; the sum is then rounded twice, which is
            # once more than the device does.
            exact = {2: np.float32, 4: np.float64, 8: np.longdouble}
            exact = exact[dtype.itemsize] if base == "fma" else dtype
            put((value(1).astype(exact) * value(2) + value(3)).astype(dtype))
        elif base in ("shl", "shr"):
            count = value(2, DTYPES["u32"]).astype(np.int64)
            bits = 8 * dtype.itemsize
            shifted = (np.left_shift if base == "shl" else np.right_shift)(
                value(1), np.minimum(count, bits - 1).astype(dtype)
            )
            signed = dtype.kind == "i" and base == "shr"
            put(np.where((count >= bits) & (not signed), dtype.type(0), shifted))
        elif base == "bfe" and kind == "u32":
            first, length = (value(n).astype(np.uint64) & np.uint64(255) for n in (2, 3))
            mask = (np.uint64(1) << np.minimum(length, 32)) - np.uint64(1)
            put(((value(1).astype(np.uint64) >> np.minimum(first, 32)) & mask).astype(dtype))
        elif base == "popc":
            put(np.bitwise_count(value(1)).astype(np.uint32))
        elif base == "clz":
            lengths = [int(v).bit_length() for v in value(1)]
            put((8 * dtype.itemsize - np.array(lengths)).astype(np.uint32))
        elif base == "shfl":
            self.shuffle(modifiers[1], args, lanes)
        elif base == "elect":
            register, flag = args[0].split("|")
            members = value(-1, DTYPES["u32"]).astype(np.int64)
            leader = np.array([(int(m) & -int(m)).bit_length() - 1 for m in members])
            self.write(register, lanes, leader.astype(np.uint32))
            self.write(flag, lanes, (lanes % WARP == leader).astype(np.uint64))
        elif base in BINARY and dtype is not None:
            put(BINARY[base](value(1), value(2)).astype(dtype))
        else:
            raise NotImplementedError(f"{'.'.join([base, *modifiers])} {', '.join(args)}")

    def mixed(self, base, wide, narrow, args, lanes):
        # fma.rn.f32.bf16: factors, or the first term, of less precision than the rest.
        if base not in ("fma", "add") or wide != np.float32:
            raise NotImplementedError(f"{base} of {wide} and {narrow}")
        exact = np.float64
        first = self.read(args[1], lanes, narrow).astype(exact)
        if base == "fma":
            first = first * self.read(args[2], lanes, narrow).astype(exact)
        self.write(args[0], lanes, (first + self.read(args[-1], lanes, wide)).astype(wide))

    def move_halves(self, dtype, args, lanes):
        # Two registers of half the bits to one, or back; `_` is none.
        def names(arg):
            return [a.strip() for a in arg.strip("{}").split(",")]

        half, bits = np.dtype(f"u{dtype.itemsize // 2}"), np.uint64(4 * dtype.itemsize)
        if "{" in args[1]:
            low, high = (self.read(a, lanes, half).astype(np.uint64) for a in names(args[1]))
            self.write(args[0], lanes, (low | high << bits).astype(dtype))
            return
        whole = self.read(args[1], lanes, dtype).astype(np.uint64)
        for name, shift in zip(names(args[0]), (np.uint64(0), bits), strict=True):
            if name != "_":
                self.write(name, lanes, (whole >> shift).astype(half))

    def convert(self, modifiers, args, lanes):
        to, source = DTYPES[modifiers[-2]], DTYPES[modifiers[-1]]
        x = self.read(args[1], lanes, source)
        if source.kind in "fV" and to.kind in "iu":
            if "rzi" not in modifiers:
                raise NotImplementedError(f"cvt.{'.'.join(modifiers)}")
            limits = np.iinfo(to)
            x = np.clip(np.trunc(x.astype(np.float64)), limits.min, limits.max)
        self.write(args[0], lanes, x.astype(to))

    def shuffle(self, kind, args, lanes):
        lane = lanes % WARP
        offset, control = (self.read(a, lanes, DTYPES["s32"]) for a in args[2:4])
        clamp, segment = control & 31, (control >> 8) & 31
        first = lane & segment
        if kind == "up":
            source = lane - offset
            there = source >= (first | (clamp & ~segment))
        else:
            source = {"bfly": lane ^ offset, "idx": first | (offset & ~segment)}[kind]
            there = source <= (first | (clamp & ~segment))
        source = np.where(there, source, lane)
        value = np.zeros(self.n, np.uint32)
        value[lanes] = self.read(args[1], lanes, DTYPES["u32"])
        members = self.read(args[-1], lanes, DTYPES["u32"]).astype(np.int64)
        if not ((members >> source) & 1).all():
            raise Trap("shfl reads a lane that is not in its mask")
        self.write(args[0].split("|")[0], lanes, value[lanes - lane + source])


def run(
    ptx: str, grid: int, parameters: list[int], memory: Memory, max_steps: int = 200_000
) -> None:
    """Executes the kernel in `ptx` on `grid` blocks; its parameters are addresses in `memory`.

    **Raises:** `Trap` for what a correct kernel does not do.
    """
    Threads(parse(ptx), grid, parameters, memory).run(max_steps)

"""Kernels as one thread sees them: scalars, loops, loads and stores by any index, atomics.

Mosaic GPU computes on arrays spread over the threads of a block, and has no load or addition by an
array of indices. But its scalars are values of each thread. So a kernel that gets its thread's
number as a scalar is a kernel as in CUDA, in plain `jnp` and `lax`: rows of any length need no
padding and no masks, and the compiler sees every address. Only what follows is not plain `jnp`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax._src.lib.mlir import ir
from jax._src.lib.mlir.dialects import arith, llvm, nvvm
from jax.experimental.mosaic import gpu as mgpu
from jax.experimental.mosaic.gpu import utils as mgpu_utils
from jax.experimental.pallas import mosaic_gpu as plgpu

from ._tuning import BLOCK, WARP

SCALAR = plgpu.Layout.WG_SPLAT(())
REF = plgpu.RefType()


class Machine(NamedTuple):
    """What a kernel's thread is, and can do beside `jnp`: on the device or in the interpreter."""

    thread: Array  # its number among all
    n_threads: int
    lane: Array  # its number in its warp
    lanes: int  # how many threads share a row
    add: Callable  # (ref, index, value): ref[index] += value, whatever other threads do
    reserve: Callable  # (ref, n) -> the old ref[0], of which n more are then taken
    group_sum: Callable  # value -> the sum over the threads that share the row


def _scalar(dtype):
    return plgpu.ShapeDtypeStruct((), dtype, layout=SCALAR)


def _value(a) -> ir.Value:
    (register,) = a.registers.flat
    return register


def _splat(value, signed) -> mgpu.FragmentedArray:
    return mgpu.FragmentedArray.splat(value, (), is_signed=signed)


def _i32() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def _constant(n: int) -> ir.Value:
    return arith.constant(_i32(), n)


def _thread():
    @plgpu.inline_mgpu(return_type=_scalar(jnp.int32))
    def inside(ctx):
        return _splat(mgpu_utils.thread_idx(), True)

    return lax.axis_index("program") * BLOCK + inside()


def _address(ref, index, dtype):
    # The offset of ref[index], in elements and 64 bits: synapses may be more than 2^31.
    memref = ir.MemRefType(ref.type)
    strides, _ = memref.get_strides_and_offset()
    i64 = ir.IntegerType.get_signless(64)
    offset = arith.constant(i64, 0)
    for i, stride in zip(index, strides, strict=True):
        step = arith.muli(arith.extsi(i64, i), arith.constant(i64, stride))
        offset = arith.addi(offset, step)
    pointer = mgpu_utils.memref_ptr(ref)
    space = llvm.PointerType.get(address_space=1)
    pointer = pointer if pointer.type == space else llvm.addrspacecast(space, pointer)
    return mgpu_utils.getelementptr(pointer, [offset], dtype)


def _add(ref, index, value):
    # One instruction that returns nothing: nobody waits for it.
    @plgpu.inline_mgpu(arg_types=(REF, *[SCALAR] * (len(index) + 1)))
    def inside(ctx, ref, *args):
        *index, value = map(_value, args)
        letter = {32: "f", 64: "d"}[value.type.width]
        instruction = f"red.relaxed.gpu.global.add.{value.type} [$0], $1;"
        pointer = _address(ref, index, value.type)
        void = ir.Type.parse("!llvm.void")
        llvm.inline_asm(void, [pointer, value], instruction, f"l,{letter}", has_side_effects=True)

    inside(ref, *index, value)


def _shuffle(value, distance, kind, mask):
    # The value of another lane of the warp, where `mask` has the lanes that take part.
    bits = value.type.width
    integer = ir.IntegerType.get_signless(bits)
    if bits == 64:
        whole = arith.bitcast(integer, value)
        parts = (arith.shrui(whole, arith.constant(integer, n)) for n in (0, 32))
        halves = (arith.trunci(_i32(), part) for part in parts)
        low, high = (_shuffle(half, distance, kind, mask) for half in halves)
        high = arith.shli(arith.extui(integer, high), arith.constant(integer, 32))
        return arith.bitcast(value.type, arith.ori(arith.extui(integer, low), high))
    whole = arith.bitcast(_i32(), value) if value.type != _i32() else value
    clamp = 0 if kind == nvvm.ShflKind.up else WARP - 1
    got = nvvm.shfl_sync(mask, whole, _constant(distance), _constant(clamp), kind)
    return arith.bitcast(value.type, got) if value.type != _i32() else got


def _lane():
    return arith.andi(mgpu_utils.thread_idx(), _constant(WARP - 1))


def _group_sum(value, lanes):
    @plgpu.inline_mgpu(arg_types=(SCALAR,), return_type=_scalar(value.dtype))
    def inside(ctx, value):
        value = _value(value)
        # Other groups of the warp may be elsewhere in the code: they must not be waited for.
        first = arith.andi(_lane(), _constant(WARP - lanes))
        ones = (1 << lanes) - 1
        mask = arith.shli(_constant(ones - (1 << 32) if lanes == WARP else ones), first)
        distance = lanes // 2
        while distance:
            value = arith.addf(value, _shuffle(value, distance, nvvm.ShflKind.bfly, mask))
            distance //= 2
        return _splat(value, None)

    return inside(value)


def _reserve(ref, n):
    # One atomic addition a warp, not a thread: all go to one address.
    @plgpu.inline_mgpu(arg_types=(REF, SCALAR), return_type=_scalar(jnp.int32))
    def inside(ctx, ref, n):
        n, lane, everyone = _value(n), _lane(), _constant(-1)
        upto = n  # the sum over the lanes up to this one
        for distance in (1, 2, 4, 8, 16):
            below = _shuffle(upto, distance, nvvm.ShflKind.up, everyone)
            there = arith.cmpi(arith.CmpIPredicate.uge, lane, _constant(distance))
            upto = arith.addi(upto, arith.select(there, below, _constant(0)))
        pointer = _address(ref, [_constant(0)], _i32())
        last = arith.cmpi(arith.CmpIPredicate.eq, lane, _constant(WARP - 1))
        start = llvm.inline_asm(
            _i32(),
            [pointer, upto, arith.extui(_i32(), last)],
            "{ .reg .pred p; setp.ne.s32 p, $3, 0; mov.b32 $0, 0; "
            "@p atom.relaxed.gpu.global.add.u32 $0, [$1], $2; }",
            "=&r,l,r,r",
            has_side_effects=True,
        )
        start = _shuffle(start, WARP - 1, nvvm.ShflKind.idx, everyone)
        return _splat(arith.addi(start, arith.subi(upto, n)), True)

    return inside(ref, n)


def _device(programs, lanes):
    thread = _thread()
    lane = lax.rem(thread, jnp.int32(WARP))
    total = partial(_group_sum, lanes=lanes)
    return Machine(thread, programs * BLOCK, lane, lanes, _add, _reserve, total)


def _interpreted(programs):
    # One thread a program, one program after the other.
    def add(ref, index, value):
        ref[index] = ref[index] + value

    def reserve(ref, n):
        old = ref[0]
        ref[0] = old + n
        return old

    thread = lax.axis_index("program")
    return Machine(thread, programs, jnp.int32(0), 1, add, reserve, lambda value: value)


def programs(tuning, threads: int) -> int:
    """How many blocks are launched for `threads` threads that have work."""
    return max(1, min(tuning.programs, -(-threads // (1 if tuning.interpret else BLOCK))))


def launch(tuning, name, body, threads, inputs, outputs):
    """Runs `body(machine, *input refs, *output refs)` on as many threads as the tuning allows of
    those that have work; returns the outputs.

    `inputs` is a tuple of pytrees of arrays. An output is an array that is updated in place, or the
    shape and type of one that is written.
    """
    n = programs(tuning, threads)
    flat, tree = jax.tree.flatten(inputs)
    state = [jax.new_ref(a) for a in outputs if isinstance(a, Array)]
    made = [a for a in outputs if not isinstance(a, Array)]

    def kernel(*refs):
        given, refs = refs[: len(flat)], refs[len(flat) :]
        updated, written = iter(refs[: len(state)]), iter(refs[len(state) :])
        outs = [next(updated if isinstance(a, Array) else written) for a in outputs]
        machine = _interpreted(n) if tuning.interpret else _device(n, tuning.lanes)
        body(machine, *jax.tree.unflatten(tree, given), *outs)

    kernel.__name__ = f"purebrain_{name.strip('_')}"
    results = plgpu.kernel(
        kernel,
        out_type=tuple(made),
        grid=(n,),
        grid_names=("program",),
        interpret=plgpu.InterpretGPUParams() if tuning.interpret else None,
        compiler_params=plgpu.CompilerParams(
            lowering_semantics=plgpu.LoweringSemantics.Lane,
            # A barrier in a loop of which each thread has its own count would wait for ever, and
            # none is needed: no thread reads what another wrote.
            unsafe_no_auto_barriers=True,
        ),
    )(*flat, *state)
    written, updated = iter(results), iter(state)
    return [next(updated)[...] if isinstance(a, Array) else next(written) for a in outputs]


def accumulator(dtype):
    """The precision of sums of values of `dtype`: single at least."""
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


def split(flat, n: int):
    """(row, column) of a place in an array with rows of n."""
    return lax.div(flat, jnp.int32(n)), lax.rem(flat, jnp.int32(n))


def when(condition, do):
    """Calls `do` where the condition holds, which None always does."""
    if condition is None:
        do()
    else:
        lax.cond(condition, do, lambda: None)


def strided(first, stop, step: int, visit, *carry):
    """Folds `carry = visit(n, *carry)` over n = first, first + step, ... below `stop`."""

    def body(state):
        n, *carry = state
        return n + jnp.int32(step), *(visit(n, *carry) or ())

    return lax.while_loop(lambda state: state[0] < stop, body, (first, *carry))[1:]

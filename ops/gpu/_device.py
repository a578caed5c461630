"""What a thread of the device does beside `jnp`: the instructions themselves."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jax.experimental.mosaic import gpu as mgpu
from jax.experimental.mosaic.gpu import utils as mgpu_utils
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import arith, llvm, nvvm

from ._tuning import BLOCK, WARP

SCALAR = plgpu.Layout.WG_SPLAT(())


def _inline(emit: Callable, dtype, *args, refs: int = 0):
    """The result, a number of `dtype` if any, of the instructions that `emit(*args)` writes; the
    first `refs` of the arguments are refs, the others numbers of this thread."""
    signed = True if dtype == jnp.int32 else None
    kinds = [plgpu.RefType()] * refs + [SCALAR] * (len(args) - refs)

    def inside(ctx, *args):
        values = [a.registers.flat[0] for a in args[refs:]]
        result = emit(*args[:refs], *values)
        return None if dtype is None else mgpu.FragmentedArray.splat(result, (), is_signed=signed)

    returns = None if dtype is None else plgpu.ShapeDtypeStruct((), dtype, layout=SCALAR)
    decorate: Callable = plgpu.inline_mgpu(arg_types=kinds, return_type=returns)
    return decorate(inside)(*args)


def _i32() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def _i64() -> ir.Type:
    return ir.IntegerType.get_signless(64)


def _constant(n: int) -> ir.Value:
    return arith.constant(_i32(), n)


def _lane() -> ir.Value:
    return arith.andi(mgpu_utils.thread_idx(), _constant(WARP - 1))


def _address(ref, index, dtype) -> ir.Value:
    # In 64 bits: synapses may be more than 2^31.
    strides, _ = ir.MemRefType(ref.type).get_strides_and_offset()
    offset = arith.constant(_i64(), 0)
    for i, stride in zip(index, strides, strict=True):
        step = arith.muli(arith.extsi(_i64(), i), arith.constant(_i64(), stride))
        offset = arith.addi(offset, step)
    pointer = mgpu_utils.memref_ptr(ref)
    space = llvm.PointerType.get(address_space=1)
    pointer = pointer if pointer.type == space else llvm.addrspacecast(space, pointer)
    return mgpu_utils.getelementptr(pointer, [offset], dtype)


def _shuffle(value, lane: int, kind, mask) -> ir.Value:
    # The value of another lane of the warp, where `mask` has the lanes that take part.
    if value.type.width == 64:
        whole = arith.bitcast(_i64(), value)
        parts = (arith.shrui(whole, arith.constant(_i64(), n)) for n in (0, 32))
        halves = (_shuffle(arith.trunci(_i32(), part), lane, kind, mask) for part in parts)
        low, high = (arith.extui(_i64(), half) for half in halves)
        high = arith.shli(high, arith.constant(_i64(), 32))
        return arith.bitcast(value.type, arith.ori(low, high))
    word = value if value.type == _i32() else arith.bitcast(_i32(), value)
    clamp = 0 if kind == nvvm.ShflKind.up else WARP - 1
    got = nvvm.shfl_sync(mask, word, _constant(lane), _constant(clamp), kind)
    return got if value.type == _i32() else arith.bitcast(value.type, got)


def thread():
    """The thread's number among all, int32."""
    return lax.axis_index("program") * BLOCK + _inline(mgpu_utils.thread_idx, jnp.int32)


def add(ref, index, value):
    """ref[index] += value, atomically; it returns nothing, so nobody waits for it."""

    def emit(ref, *args):
        *index, value = args
        letter = {32: "f", 64: "d"}[value.type.width]
        instruction = f"red.relaxed.gpu.global.add.{value.type} [$0], $1;"
        operands = [_address(ref, index, value.type), value]
        void = ir.Type.parse("!llvm.void")
        llvm.inline_asm(void, operands, instruction, f"l,{letter}", has_side_effects=True)

    _inline(emit, None, ref, *index, value, refs=1)


def group_sum(value, lanes: int):
    """The sum over the `lanes` threads of a group, in a fixed order."""

    def emit(value):
        # Other groups of the warp may be elsewhere in the code, and must not be waited for.
        first = arith.andi(_lane(), _constant(WARP - lanes))
        mask = arith.shli(_constant((1 << lanes) - 1 if lanes < WARP else -1), first)
        distance = lanes // 2
        while distance:
            value = arith.addf(value, _shuffle(value, distance, nvvm.ShflKind.bfly, mask))
            distance //= 2
        return value

    return _inline(emit, value.dtype, value)


def reserve(ref, n):
    """The old ref[0], of which `n` more are then taken. All threads of a warp come here together:
    they make one atomic addition, for all go to one address."""

    def emit(ref, n):
        lane, everyone = _lane(), _constant(-1)
        upto = n  # the sum over the lanes up to this one
        for distance in (1, 2, 4, 8, 16):
            below = _shuffle(upto, distance, nvvm.ShflKind.up, everyone)
            there = arith.cmpi(arith.CmpIPredicate.uge, lane, _constant(distance))
            upto = arith.addi(upto, arith.select(there, below, _constant(0)))
        last = arith.cmpi(arith.CmpIPredicate.eq, lane, _constant(WARP - 1))
        some = arith.cmpi(arith.CmpIPredicate.ne, upto, _constant(0))
        start = llvm.inline_asm(
            _i32(),
            [
                _address(ref, [_constant(0)], _i32()),
                upto,
                arith.extui(_i32(), arith.andi(last, some)),
            ],
            "{ .reg .pred p; setp.ne.s32 p, $3, 0; mov.b32 $0, 0; "
            "@p atom.relaxed.gpu.global.add.u32 $0, [$1], $2; }",
            "=&r,l,r,r",
            has_side_effects=True,
        )
        start = _shuffle(start, WARP - 1, nvvm.ShflKind.idx, everyone)
        return arith.addi(start, arith.subi(upto, n))

    return _inline(emit, jnp.int32, ref, n, refs=1)

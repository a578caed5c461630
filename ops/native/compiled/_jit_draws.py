"""The draws of a random matrix's weights (`ops._jit_weights`), many at once, and the weights."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..._jit_matrix import ROUNDS, shifts
from ..._jit_weights import CUBIC, STEP
from .._kinds import NORMAL, UNIFORM
from ._jit_columns import (
    AHEAD,
    KEY_WORDS,
    LONG,
    SHORT,
    all_of,
    count_from,
    folded,
    hashed,
    times_odd,
    upper_half,
)

ZERO_OF_NORMAL = 1 << 15  # added to normal draws, so that words have no sign
u32 = np.uint32


def _two_words(builder, keys, first, column):
    key = [builder.extract_value(keys, ROUNDS + q) for q in range(4)]
    x = count_from(builder, first, AHEAD)
    for q in range(3):
        x = hashed(builder, x, key[q + 1])
        x = folded(builder, x, all_of(builder, shifts(1 << 16)[q % 2], AHEAD))
    return x, times_odd(builder, column, key[0])


def _popcount(builder, x):
    kind = ir.FunctionType(x.type, [x.type])
    name = f"llvm.ctpop.v{x.type.count}i16"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x])


def _rounded(builder, x, y):
    # x y / 2^15, as one operation has it
    lanes, longs = x.type.count, ir.VectorType(LONG, x.type.count)
    product = builder.mul(builder.sext(x, longs), builder.sext(y, longs))
    product = builder.lshr(product, all_of(builder, 14, lanes, LONG))
    product = builder.add(product, all_of(builder, 1, lanes, LONG))
    return builder.trunc(builder.lshr(product, all_of(builder, 1, lanes, LONG)), x.type)


def _uniform(builder, keys, first, column):
    return builder.add(*_two_words(builder, keys, first, column))


def _normal(builder, keys, first, column):
    def all_(number):
        return all_of(builder, number, AHEAD)

    x, y = _two_words(builder, keys, first, column)
    x = builder.add(x, y)
    count = all_(-32)
    for q in range(4):
        count = builder.add(count, _popcount(builder, x))
        x = builder.add(times_odd(builder, x, builder.extract_value(keys, q)), y)
        x = folded(builder, x, all_(7))
        y = times_odd(builder, y, builder.extract_value(keys, q + 4))
        y = builder.add(y, builder.shl(x, all_(1)))
    up, down = (upper_half(builder, word, all_(STEP), builder.zext) for word in (x, y))
    steps = builder.add(builder.mul(count, all_(STEP)), builder.sub(up, down))
    cube = _rounded(builder, upper_half(builder, steps, steps, builder.sext), steps)
    draw = builder.add(steps, _rounded(builder, cube, all_(CUBIC)))
    return builder.add(draw, all_(ZERO_OF_NORMAL))


def _weights(builder, draw, law, w):
    """`_jit_weights.combine`."""
    lanes, kind = draw.type.count, w[0].type
    if law == NORMAL:
        draw = builder.sub(draw, all_of(builder, ZERO_OF_NORMAL, lanes))
    convert = builder.sitofp if law == NORMAL else builder.uitofp
    draw = convert(draw, ir.VectorType(kind, lanes))
    a, *parts = (all_of(builder, x, lanes, kind) for x in w)
    exact = [builder.fmul(part, draw, flags=["contract"]) for part in reversed(parts)]
    total = exact[0]
    for x in (*exact[1:], a):
        total = builder.fadd(total, x, flags=["contract"])
    return total


def _put(law, kind):
    """Puts the draws of `AHEAD` synapses from `first` on at the address `out`, of those whose
    columns, words of `kind`, are at another; or the weights of these coefficients."""

    @intrinsic
    def put(typing, out, columns, keys, first, w):
        def code(context, builder, signature, args):
            out, columns, keys, first, w = args
            place = builder.inttoptr(columns, ir.VectorType(kind, AHEAD).as_pointer())
            column = builder.load(place, align=kind.width // 8)
            if kind is LONG:
                column = builder.trunc(column, ir.VectorType(SHORT, AHEAD))
            values, size = (_normal if law == NORMAL else _uniform)(builder, keys, first, column), 2
            if signature.args[4] != types.none:
                coefficients = [builder.extract_value(w, q) for q in range(4)]
                values, size = _weights(builder, values, law, coefficients), signature.args[4].dtype
                size = size.bitwidth // 8
            builder.store(values, builder.inttoptr(out, values.type.as_pointer()), align=size)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, KEY_WORDS, types.uint32, w), code

    return put


_uniform_narrow, _uniform_wide = _put(UNIFORM, SHORT), _put(UNIFORM, LONG)
_normal_narrow, _normal_wide = _put(NORMAL, SHORT), _put(NORMAL, LONG)


@njit(error_model="numpy", forceinline=True)
def _put_terms(out, columns, law, narrow, keys, first, n, w):
    to, of, size = out.ctypes.data, columns.ctypes.data, out.itemsize
    for j in range(0, n, AHEAD):
        if law == UNIFORM and narrow:
            _uniform_narrow(to + size * j, of + 2 * j, keys, u32(first + j), w)
        if law == UNIFORM and not narrow:
            _uniform_wide(to + size * j, of + 4 * j, keys, u32(first + j), w)
        if law == NORMAL and narrow:
            _normal_narrow(to + size * j, of + 2 * j, keys, u32(first + j), w)
        if law == NORMAL and not narrow:
            _normal_wide(to + size * j, of + 4 * j, keys, u32(first + j), w)


@njit(error_model="numpy", forceinline=True)
def put_draws(out, columns, law, narrow, keys, first, n):
    """Puts the draws of a law of synapses first to first + n - 1 at the start of `out`, of their
    columns, words of 16 bits or not. Both arrays have room for a multiple of `AHEAD`."""
    _put_terms(out, columns, law, narrow, keys, first, n, None)


@njit(error_model="numpy", forceinline=True)
def put_weights(out, columns, law, narrow, keys, first, n, w):
    """Puts their weights, of the coefficients w."""
    _put_terms(out, columns, law, narrow, keys, first, n, (w[0], w[1], w[2], w[3]))

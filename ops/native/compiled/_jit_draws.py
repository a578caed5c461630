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


def _put(law):
    """Puts the draws of `AHEAD` synapses from `first` on at the start of `out`, of those whose
    columns are at the start of another array; or the weights of these coefficients."""

    @intrinsic
    def put(typing, out, columns, keys, first, w):
        def code(context, builder, signature, args):
            kinds, (*arrays, keys, first, w) = signature.args, args
            out, columns = (
                context.make_array(kind)(context, builder, array).data
                for kind, array in zip(kinds, arrays, strict=False)
            )
            size = kinds[1].dtype.bitwidth
            words = ir.VectorType(ir.IntType(size), AHEAD).as_pointer()
            column = builder.load(builder.bitcast(columns, words), align=size // 8)
            if size > SHORT.width:
                column = builder.trunc(column, ir.VectorType(SHORT, AHEAD))
            values = (_normal if law == NORMAL else _uniform)(builder, keys, first, column)
            if kinds[4] != types.none:
                coefficients = [builder.extract_value(w, q) for q in range(4)]
                values = _weights(builder, values, law, coefficients)
            place = builder.bitcast(out, values.type.as_pointer())
            builder.store(values, place, align=kinds[0].dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(out, columns, KEY_WORDS, types.uint32, w), code

    return put


_put_uniform, _put_normal = _put(UNIFORM), _put(NORMAL)


@njit(error_model="numpy", forceinline=True)
def put_ahead(out, columns, law, keys, first, w):
    """Puts the weights of a law, of the coefficients w, or its draws if there are none, of synapses
    first to first + AHEAD - 1, of their columns."""
    if law == UNIFORM:
        _put_uniform(out, columns, keys, u32(first), w)
    if law == NORMAL:
        _put_normal(out, columns, keys, u32(first), w)


@njit(error_model="numpy", forceinline=True)
def put_weights(out, columns, law, keys, first, n, w):
    """The same of n synapses; both arrays have room for a multiple of `AHEAD`."""
    for j in range(0, n, AHEAD):
        put_ahead(out[j:], columns[j:], law, keys, first + j, (w[0], w[1], w[2], w[3]))

"""The columns of a random matrix (`_jit_matrix`), many at once.

Vectors are spelled out, for in loops of words of 16 bits LLVM takes words of 32.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..._jit_matrix import GOLDEN, KEYS, ROUNDS, WORD_ROUNDS

LANES = 128  # columns made at once: four of the widest vectors, whose rounds overlap
WORD_LANES = 64  # of words: a core sees past the use of so few, to the arithmetic of the next
SHORT, LONG = ir.IntType(16), ir.IntType(32)
SHORTS, LONGS = ir.VectorType(SHORT, LANES), ir.VectorType(LONG, LANES)
WORDS = types.UniTuple(types.uint32, KEYS)
u32 = np.uint32


@njit
def mix(x):
    """`_jit_matrix._mix`."""
    x = u32(u32(x ^ (x >> u32(16))) * u32(0x7FEB352D))
    x = u32(u32(x ^ (x >> u32(15))) * u32(0x846CA68B))
    return u32(x ^ (x >> u32(16)))


@njit
def row_keys(seed, i):
    """`_jit_matrix.row_keys`."""
    s0 = mix(u32(seed ^ u32(GOLDEN)))
    s1 = mix(u32(s0 + u32(0x85EBCA6B)))
    k0 = mix(u32(s0 ^ mix(u32(i * u32(0x9E3779B1) + u32(1)))))
    k1 = mix(u32(u32(k0 + s1) ^ u32(i * u32(0x85EBCA77) + u32(0xC2B2AE3D))))

    def key(q):
        return u32(mix(u32(k0 + u32(q * GOLDEN))) ^ k1)

    first = key(0), key(1), key(2), key(3), key(4), key(5), key(6), key(7)
    return (*first, key(8), key(9), key(10), key(11))


def _all_of(builder, x, kind=SHORTS):
    """A vector of one number."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), x, LONG(0))
    return builder.shuffle_vector(
        one, one, ir.Constant(ir.VectorType(LONG, kind.count), [0] * kind.count)
    )


def _short(builder, x, kind=SHORTS):
    return _all_of(builder, builder.trunc(x, SHORT), kind)


def _count(builder, first, kind=SHORTS):
    """first, first + 1, ..."""
    return builder.add(_short(builder, first, kind), ir.Constant(kind, list(range(kind.count))))


def _hashed(builder, x, key):
    product = builder.mul(x, _short(builder, builder.or_(key, LONG(1)), x.type))
    return builder.add(product, _short(builder, builder.lshr(key, LONG(16)), x.type))


@intrinsic
def put_words(typing, out, keys, first):
    """Puts the columns of synapses first to first + WORD_LANES - 1, of the 2^16 of a word, at the
    address `out`, as `_jit_matrix.target` does."""
    words = ir.VectorType(SHORT, WORD_LANES)

    def code(context, builder, signature, args):
        out, keys, first = args
        x = _count(builder, first, words)
        for q in range(WORD_ROUNDS):
            x = _hashed(builder, x, builder.extract_value(keys, q))
            shift = ir.Constant(words, [7 if q % 2 else 9] * WORD_LANES)
            x = builder.xor(x, builder.lshr(x, shift))
        builder.store(x, builder.inttoptr(out, words.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, WORDS, types.uint32), code


def _low_and_high(builder, keys, first, bits, blocks):
    mask = builder.sub(builder.shl(LONG(1), bits), LONG(1))
    # Shifted by 16 - bits; of no bits, what is left is masked in the end.
    some = builder.icmp_unsigned("!=", bits, LONG(0))
    rest = _short(builder, builder.select(some, builder.sub(LONG(16), bits), LONG(15)))
    # Read at each turn: only of a number of 16 bits, seen to be one, LLVM takes the upper half of a
    # product in one operation.
    size = _all_of(builder, builder.load(builder.inttoptr(blocks, SHORT.as_pointer())))
    k = _count(builder, builder.and_(first, mask))
    low = builder.and_(k, _short(builder, mask))
    high = _short(builder, builder.lshr(first, bits))
    high = builder.add(high, builder.lshr(k, _short(builder, bits)))
    for q in range(ROUNDS):
        hashed = _hashed(builder, low if q % 2 else high, builder.extract_value(keys, q))
        if q % 2:
            step = builder.mul(builder.zext(hashed, LONGS), builder.zext(size, LONGS))
            step = builder.lshr(step, ir.Constant(LONGS, [16] * LANES))
            high = builder.add(high, builder.trunc(step, SHORTS))
            less = builder.sub(high, size)
            high = builder.select(builder.icmp_unsigned("<", high, less), high, less)
        else:
            low = builder.xor(low, builder.lshr(hashed, rest))
    return builder.and_(low, _short(builder, mask)), high


ARGS = types.int64, WORDS, types.uint32, types.uint32, types.int64


@intrinsic
def _put_narrow(typing, out, keys, first, bits, blocks):
    """The same of any columns that words of 16 bits can tell; `blocks` is an address too."""

    def code(context, builder, signature, args):
        low, high = _low_and_high(builder, *args[1:])
        column = builder.or_(builder.shl(high, _short(builder, args[3])), low)
        builder.store(column, builder.inttoptr(args[0], SHORTS.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(*ARGS), code


@intrinsic
def _put_wide(typing, out, keys, first, bits, blocks):
    """The same as words of 32 bits."""

    def code(context, builder, signature, args):
        low, high = (builder.zext(x, LONGS) for x in _low_and_high(builder, *args[1:]))
        column = builder.or_(builder.shl(high, _all_of(builder, args[3], LONGS)), low)
        builder.store(column, builder.inttoptr(args[0], LONGS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(*ARGS), code


@njit(error_model="numpy")
def put_wide(out, keys, first, n, bits, blocks):
    """Puts the columns of synapses first to first + n - 1, as words of 32 bits, at the address
    `out`, which has room for a multiple of `LANES`."""
    for j in range(0, n, LANES):
        _put_wide(out + 4 * j, keys, u32(first + j), u32(bits), blocks)


@njit(error_model="numpy")
def put_narrow(out, keys, first, n, bits, blocks, words):
    """The same as words of 16 bits, which the columns are if `words`."""
    if words:
        for j in range(0, n, WORD_LANES):
            put_words(out + 2 * j, keys, u32(first + j))
    else:
        for j in range(0, n, LANES):
            _put_narrow(out + 2 * j, keys, u32(first + j), u32(bits), blocks)

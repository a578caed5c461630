"""The columns of a random matrix (`_jit_matrix`), many at once.

Vectors are spelled out, for in loops of words of 16 bits LLVM takes words of 32.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..._jit_matrix import GOLDEN, KEYS, ROUNDS, WORD_ROUNDS, WORDS, shifts

LANES = 128  # columns made at once: four of the widest vectors, whose rounds overlap
AHEAD = 64  # made ahead: a core sees past the use of so few, to the arithmetic of the next
SHORT, LONG = ir.IntType(16), ir.IntType(32)
KEY_WORDS = types.UniTuple(types.uint32, KEYS)
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


def all_of(builder, x, lanes, kind=SHORT):
    """A vector of one number, truncated to `kind`."""
    if isinstance(x, int):
        return ir.Constant(ir.VectorType(kind, lanes), [x] * lanes)
    if kind in (SHORT, LONG) and x.type.width > kind.width:
        x = builder.trunc(x, kind)
    one = builder.insert_element(ir.Constant(ir.VectorType(kind, lanes), ir.Undefined), x, LONG(0))
    first = ir.Constant(ir.VectorType(LONG, lanes), [0] * lanes)
    return builder.shuffle_vector(one, one, first)


def count_from(builder, first, lanes):
    """first, first + 1, ..."""
    count = ir.Constant(ir.VectorType(SHORT, lanes), list(range(lanes)))
    return builder.add(all_of(builder, first, lanes), count)


def times_odd(builder, x, key):
    """x times the odd number of a key."""
    return builder.mul(x, all_of(builder, builder.or_(key, LONG(1)), x.type.count))


def hashed(builder, x, key):
    """`_jit_matrix._hashed`."""
    shift = all_of(builder, builder.lshr(key, LONG(16)), x.type.count)
    return builder.add(times_odd(builder, x, key), shift)


def folded(builder, x, shift, mask=None):
    """x ^ (x >> shift), of words below mask + 1; what lies above is left there."""
    part = builder.lshr(x, shift)
    return builder.xor(x, part if mask is None else builder.and_(part, builder.lshr(mask, shift)))


@intrinsic
def put_words(typing, out, keys, first, size):
    """Puts the columns of synapses first to first + AHEAD - 1, of the `size` of `WORDS`, at the
    address `out`, as `_jit_matrix.target` does."""

    def code(context, builder, signature, args):
        out, keys, first, size = args
        mask = all_of(builder, builder.sub(size, LONG(1)), AHEAD)
        whole = builder.icmp_unsigned("==", size, LONG(1 << 16))
        turns = [
            all_of(builder, builder.select(whole, LONG(x), LONG(y)), AHEAD)
            for x, y in zip(shifts(1 << 16), shifts(1 << 15), strict=True)  # as of 1 << 14
        ]
        x = count_from(builder, first, AHEAD)
        for q in range(WORD_ROUNDS):
            x = hashed(builder, x, builder.extract_value(keys, q))
            x = folded(builder, x, turns[q % 2], mask)
        x = builder.and_(x, mask)
        builder.store(x, builder.inttoptr(out, x.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, KEY_WORDS, types.uint32, types.uint32), code


def _low_and_high(builder, lanes, keys, first, bits, blocks):
    mask = builder.sub(builder.shl(LONG(1), bits), LONG(1))
    # Shifted by 16 - bits; of no bits, what is left is masked in the end.
    some = builder.icmp_unsigned("!=", bits, LONG(0))
    rest = all_of(builder, builder.select(some, builder.sub(LONG(16), bits), LONG(15)), lanes)
    # Read at each turn: only of a number of 16 bits, seen to be one, LLVM takes the upper half of a
    # product in one operation.
    size = builder.load(builder.inttoptr(blocks, SHORT.as_pointer()))
    size = all_of(builder, size, lanes)
    k = count_from(builder, builder.and_(first, mask), lanes)
    low = builder.and_(k, all_of(builder, mask, lanes))
    high = all_of(builder, builder.lshr(first, bits), lanes)
    high = builder.add(high, builder.lshr(k, all_of(builder, bits, lanes)))
    for q in range(ROUNDS):
        word = hashed(builder, low if q % 2 else high, builder.extract_value(keys, q))
        if q % 2:
            high = builder.add(high, upper_half(builder, word, size, builder.zext))
            less = builder.sub(high, size)
            high = builder.select(builder.icmp_unsigned("<", high, less), high, less)
        else:
            low = builder.xor(low, builder.lshr(word, rest))
    return builder.and_(low, all_of(builder, mask, lanes)), high


def upper_half(builder, x, y, extend):
    """The upper half of the product of two words, unsigned (`extend` is `builder.zext`) or signed
    (`builder.sext`)."""
    longs = ir.VectorType(LONG, x.type.count)
    product = builder.mul(extend(x, longs), extend(y, longs))
    return builder.trunc(builder.lshr(product, all_of(builder, 16, x.type.count, LONG)), x.type)


def _put(lanes, kind):
    """Puts so many columns of any number of columns, as words of `kind`; `blocks` is an address
    too."""

    @intrinsic
    def put(typing, out, keys, first, bits, blocks):
        def code(context, builder, signature, args):
            words = ir.VectorType(kind, lanes)
            halves = _low_and_high(builder, lanes, *args[1:])
            low, high = halves if kind is SHORT else (builder.zext(x, words) for x in halves)
            bits = all_of(builder, args[3], lanes, kind)
            column = builder.or_(builder.shl(high, bits), low)
            place = builder.inttoptr(args[0], words.as_pointer())
            builder.store(column, place, align=kind.width // 8)
            return context.get_dummy_value()

        return types.void(types.int64, KEY_WORDS, types.uint32, types.uint32, types.int64), code

    return put


put_halves, _put_narrow, _put_wide = _put(AHEAD, SHORT), _put(LANES, SHORT), _put(LANES, LONG)


@njit(error_model="numpy")
def put_wide(out, keys, first, n, domain):
    """Puts the columns of synapses first to first + n - 1, as words of 32 bits, at the address
    `out`, which has room for a multiple of `LANES`. The domain is its bits, where the number of its
    blocks is, and its size."""
    bits, blocks, _ = domain
    for j in range(0, n, LANES):
        _put_wide(out + 4 * j, keys, u32(first + j), u32(bits), blocks)


@njit(error_model="numpy")
def put_narrow(out, keys, first, n, domain):
    """The same as words of 16 bits."""
    bits, blocks, size = domain
    if size in WORDS:
        for j in range(0, n, AHEAD):
            put_words(out + 2 * j, keys, u32(first + j), u32(size))
    else:
        for j in range(0, n, LANES):
            _put_narrow(out + 2 * j, keys, u32(first + j), u32(bits), blocks)

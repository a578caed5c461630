"""The columns of a random matrix (`_jit_matrix`), made 64 at once."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..._jit_matrix import GOLDEN, KEYS, ROUNDS

LANES = 64  # columns made at once: two of the widest vectors, whose rounds overlap
SHORT, LONG = ir.IntType(16), ir.IntType(32)
SHORTS, LONGS = ir.VectorType(SHORT, LANES), ir.VectorType(LONG, LANES)
WORDS = types.UniTuple(types.uint32, KEYS)
u32 = np.uint32


@njit(cache=True)
def mix(x):
    """`_jit_matrix._mix`."""
    x = u32(u32(x ^ (x >> u32(16))) * u32(0x7FEB352D))
    x = u32(u32(x ^ (x >> u32(15))) * u32(0x846CA68B))
    return u32(x ^ (x >> u32(16)))


@njit(cache=True)
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


@intrinsic
def _put(typing, out, keys, first, bits, blocks):
    """Puts the columns of synapses first to first + LANES - 1 at the address `out`, as
    `_jit_matrix.target` does; `blocks` is an address too.

    Vectors are spelled out, for in loops of words of 16 bits LLVM takes words of 32.
    """

    def code(context, builder, signature, args):
        out, keys, first, bits, blocks = args

        def all_of(x, kind):
            one = builder.insert_element(ir.Constant(kind, ir.Undefined), x, LONG(0))
            return builder.shuffle_vector(one, one, ir.Constant(LONGS, [0] * LANES))

        def short(x):
            return all_of(builder.trunc(x, SHORT), SHORTS)

        mask = builder.sub(builder.shl(LONG(1), bits), LONG(1))
        # Shifted by 16 - bits; of no bits, what is left is masked in the end.
        some = builder.icmp_unsigned("!=", bits, LONG(0))
        rest = short(builder.select(some, builder.sub(LONG(16), bits), LONG(15)))
        # Read at each turn: only of a number of 16 bits, seen to be one, LLVM takes the upper half
        # of a product in one operation.
        size = all_of(builder.load(builder.inttoptr(blocks, SHORT.as_pointer())), SHORTS)
        count = ir.Constant(SHORTS, list(range(LANES)))
        k = builder.add(short(builder.and_(first, mask)), count)
        low = builder.and_(k, short(mask))
        high = builder.add(short(builder.lshr(first, bits)), builder.lshr(k, short(bits)))
        for q in range(ROUNDS):
            key = builder.extract_value(keys, q)
            hashed = builder.mul(low if q % 2 else high, short(builder.or_(key, LONG(1))))
            hashed = builder.add(hashed, short(builder.lshr(key, LONG(16))))
            if q % 2:
                step = builder.mul(builder.zext(hashed, LONGS), builder.zext(size, LONGS))
                step = builder.lshr(step, ir.Constant(LONGS, [16] * LANES))
                high = builder.add(high, builder.trunc(step, SHORTS))
                less = builder.sub(high, size)
                high = builder.select(builder.icmp_unsigned("<", high, less), high, less)
            else:
                low = builder.xor(low, builder.lshr(hashed, rest))
        low = builder.and_(builder.zext(low, LONGS), all_of(mask, LONGS))
        column = builder.or_(builder.shl(builder.zext(high, LONGS), all_of(bits, LONGS)), low)
        builder.store(column, builder.inttoptr(out, LONGS.as_pointer()), align=4)
        return context.get_dummy_value()

    word = types.uint32
    return types.void(types.int64, WORDS, word, word, types.int64), code


@njit(cache=True, error_model="numpy")
def put_columns(out, keys, first, n, bits, blocks):
    """Puts the columns of synapses first to first + n - 1 at the address `out`, which has room for
    a multiple of `LANES`."""
    for j in range(0, n, LANES):
        _put(out + 4 * j, keys, u32(first + j), u32(bits), blocks)

"""Random matrices from a hash: any synapse of any row, at once and in any order.

Row i has a number of synapses d_i, and its k-th synapse (k < d_i) goes to the place pi_i(k) of a
keyed permutation pi_i of the columns. With d_i ~ Binomial(n, p) a row is then an exact Bernoulli(p)
row: every set of columns of one size is as likely as any other, and none comes twice. Against
geometric skips, the usual way, no synapse waits for the one before it: rows are vectors on every
machine.

The permutation is a Feistel network over Z_A x Z_B, with A = 2^a about sqrt(n) and B = ceil(n / A),
whose round functions are multiply-shift hashes with keys from (seed, i). The fewer than A places
beyond the last column are no synapses: d_i is Binomial(A B, p), and what falls there is left out.
Of 2^14, 2^15 or 2^16 places all bits of a word are permuted at once, by multiplications and shifts
in turn, in a third of the time. Long rows are made of bands of so many columns (`_jit_bands`).

Only integer operations of 32 bits are used, so the matrix is the same bit for bit on every platform
and in every kernel: forwards, transposed, and for derivatives. Weights too (`_jit_weights`).

Luby and Rackoff (1988), SIAM J. Comput. 17 (Feistel permutations); Dietzfelbinger et al. (1997),
J. Algorithms 25 (multiply-shift); the 32-bit mixer is Wellons' lowbias32 (2018).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, UInt32

ROUNDS = 8  # 6 leave correlations between columns a power of two apart
KEYS = ROUNDS + 4
WORDS = 1 << 14, 1 << 15, 1 << 16  # numbers of columns that are permuted at once
WORD_ROUNDS = 5  # 4 leave correlations in rows of thousands of synapses
MAX_POST = 1 << 30  # the halves of a column's number have at most 15 and 16 bits
GOLDEN = 0x9E3779B9


class Law(NamedTuple):
    """How the weights a + b draw are drawn: `draw` of (keys, k, column) gives whole multiples of
    `unit`, of 16 bits."""

    draw: Callable
    unit: float


class JITForm(NamedTuple):
    """What is static about a random matrix."""

    bits: int  # a
    blocks: int  # B
    law: Law | None  # None: one weight
    longest: int  # no row has more synapses
    width: int  # synapses of a row visited at once
    bands: int = 1  # of columns, each with a, B and a row of its own


def halves(n: int) -> tuple[int, int]:
    """(a, B) of the domain 2^a B >= n."""
    bits = n.bit_length() // 2
    return bits, -(-n // (1 << bits))


def u32(x: int) -> Array:
    """A whole number as a word of 32 bits, modulo 2^32."""
    return jnp.uint32(x & 0xFFFFFFFF)


def mix(x):
    """A bijection of words of 32 bits, none of which tells of the others."""
    x = x ^ (x >> 16)
    x = x * u32(0x7FEB352D)
    x = x ^ (x >> 15)
    x = x * u32(0x846CA68B)
    return x ^ (x >> 16)


def row_keys(seed: UInt32[Array, "..."], row: Int32[Array, "..."]) -> tuple[Array, ...]:
    """The 32-bit words that all of row `row` comes from."""
    i = row.astype(jnp.uint32)
    s0 = mix(seed ^ u32(GOLDEN))
    s1 = mix(s0 + u32(0x85EBCA6B))
    k0 = mix(s0 ^ mix(i * u32(0x9E3779B1) + u32(1)))
    k1 = mix((k0 + s1) ^ (i * u32(0x85EBCA77) + u32(0xC2B2AE3D)))
    return tuple(mix(k0 + u32(q * GOLDEN)) ^ k1 for q in range(KEYS))


def odd(key, word):
    """The odd number of 16 bits of a key."""
    return (key & u32(0xFFFF) | u32(1)).astype(word)


def _hashed(x, key, size, word):
    return (x * odd(key, word) + (key >> 16).astype(word)) & word(size - 1)


def shifts(size: int) -> tuple[int, int]:
    """Of the bits of words below `size`, a power of two, in turns of their permutation."""
    half = (size.bit_length() - 1) // 2
    return half + 1, half - 1


def permuted(keys, x, size: int, word):
    """A permutation of the words below `size`, a power of two: a round a key."""
    for q, key in enumerate(keys):
        x = _hashed(x, key, size, word)
        x = x ^ (x >> shifts(size)[q % 2])
    return x


def _min(x, y):
    # Of numbers below 2^31: in words of 32 bits as signed ones, for the TPU compares no others.
    if x.dtype != jnp.uint32:
        return lax.min(x, y)
    return lax.min(x.astype(jnp.int32), y.astype(jnp.int32)).astype(jnp.uint32)


def target_halves(keys, k: UInt32[Array, "..."], bits: int, blocks: int, word=jnp.uint32):
    """(low, high), of the column 2^bits high + low of synapse k.

    The arithmetic is modulo 2^16; in words of that size, where the machine has them, it takes half
    the time.
    """
    if blocks << bits in WORDS:
        x = permuted(keys[:WORD_ROUNDS], k.astype(word), blocks << bits, word)
        return x & word((1 << bits) - 1), x >> bits
    low, high = (k & u32((1 << bits) - 1)).astype(word), (k >> bits).astype(word)
    for q in range(ROUNDS):
        hashed = _hashed(low if q % 2 else high, keys[q], 1 << 16, word)
        if q % 2:
            step = (hashed.astype(jnp.uint32) * u32(blocks)) >> 16
            high = high + step.astype(word)
            high = _min(high, (high - word(blocks)) & word(0xFFFF))  # modulo blocks
        elif bits:
            low = low ^ (hashed >> (16 - bits))
    return low, high


def target(keys, k: UInt32[Array, "..."], bits: int, blocks: int, word=jnp.uint32):
    """The column of synapse k, uint32, which may lie fewer than 2^bits beyond the last."""
    return join(*target_halves(keys, k, bits, blocks, word), bits)


def join(low, high, bits: int) -> UInt32[Array, "..."]:
    """The column of the halves `target_halves` gives."""
    return (high.astype(jnp.uint32) << bits) | low.astype(jnp.uint32)


def degree_bits(keys) -> UInt32[Array, "..."]:
    """32 random bits of the row, for its number of synapses."""
    return keys[ROUNDS]


def row(layout, keys, degree, k: Int32[Array, "..."]):
    """The columns of synapses k of a row, int32, and which of them are there."""
    column = target(keys, k.astype(jnp.uint32), layout.form.bits, layout.form.blocks)
    return present(layout, column, degree, k)


def present(layout, column: UInt32[Array, "..."], degree, k: Int32[Array, "..."]):
    """The columns of synapses k, int32, in bounds, and which of them are there."""
    inside = (k < degree) & (column < u32(layout.n_post))
    return _min(column, u32(layout.n_post - 1)).astype(jnp.int32), inside

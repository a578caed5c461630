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

Weights are drawn from the same operations on words of 16 bits, which machines do many at once: a
permutation of the synapses' numbers that is independent of that of the columns, plus a multiple of
the column. The sum of two permutations is no permutation, but as good as a random function.

Only integer operations of 32 bits are used, so the matrix is the same bit for bit on every platform
and in every kernel: forwards, transposed, and for derivatives. Weights too: see `combine`.

Luby and Rackoff (1988), SIAM J. Comput. 17 (Feistel permutations); Dietzfelbinger et al. (1997),
J. Algorithms 25 (multiply-shift); the 32-bit mixer is Wellons' lowbias32 (2018).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32, UInt32

from ._spikes import popcount

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


def _u32(x: int) -> Array:
    return jnp.uint32(x & 0xFFFFFFFF)


def _mix(x):
    x = x ^ (x >> 16)
    x = x * _u32(0x7FEB352D)
    x = x ^ (x >> 15)
    x = x * _u32(0x846CA68B)
    return x ^ (x >> 16)


def row_keys(seed: UInt32[Array, "..."], row: Int32[Array, "..."]) -> tuple[Array, ...]:
    """The 32-bit words that all of row `row` comes from."""
    i = row.astype(jnp.uint32)
    s0 = _mix(seed ^ _u32(GOLDEN))
    s1 = _mix(s0 + _u32(0x85EBCA6B))
    k0 = _mix(s0 ^ _mix(i * _u32(0x9E3779B1) + _u32(1)))
    k1 = _mix((k0 + s1) ^ (i * _u32(0x85EBCA77) + _u32(0xC2B2AE3D)))
    return tuple(_mix(k0 + _u32(q * GOLDEN)) ^ k1 for q in range(KEYS))


def _odd(key, word):
    return (key & _u32(0xFFFF) | _u32(1)).astype(word)


def _hashed(x, key, size, word):
    return (x * _odd(key, word) + (key >> 16).astype(word)) & word(size - 1)


def shifts(size: int) -> tuple[int, int]:
    """Of the bits of words below `size`, a power of two, in turns of their permutation."""
    half = (size.bit_length() - 1) // 2
    return half + 1, half - 1


def _permuted(keys, x, size, word):
    # A permutation of the words below `size`, a power of two.
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
        x = _permuted(keys[:WORD_ROUNDS], k.astype(word), blocks << bits, word)
        return x & word((1 << bits) - 1), x >> bits
    low, high = (k & _u32((1 << bits) - 1)).astype(word), (k >> bits).astype(word)
    for q in range(ROUNDS):
        hashed = _hashed(low if q % 2 else high, keys[q], 1 << 16, word)
        if q % 2:
            step = (hashed.astype(jnp.uint32) * _u32(blocks)) >> 16
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


def _two_words(keys, k, column):
    # Two words of 16 bits, each a permutation of the synapses' numbers below 2^16.
    k, column = k.astype(jnp.uint32) & _u32(0xFFFF), column.astype(jnp.uint32)
    x = _permuted(keys[ROUNDS + 1 :], k, 1 << 16, jnp.uint32)
    return x, (column * _odd(keys[ROUNDS], jnp.uint32)) & _u32(0xFFFF)


def uniform_draw(keys, k: Array, column: Array) -> Int32[Array, "..."]:
    """A whole number uniform in [0, 2^16)."""
    x, y = _two_words(keys, k, column)
    return ((x + y) & _u32(0xFFFF)).astype(jnp.int32)


STEP = 900  # of the count of bits
_VARIANCE = 16 * STEP**2 + (STEP**2 - 1) / 6
_KAPPA = -(8 + 2 / 120) * STEP**4 / _VARIANCE**2
_LINEAR = 1 + _KAPPA / 8
CUBIC = round(-_KAPPA / 24 / _LINEAR / _VARIANCE * 2**46)


def normal_draw(keys, k: Array, column: Array) -> Int32[Array, "..."]:
    """A standard normal number in units of `NORMAL.unit`, rounded, by whole numbers of 16 bits.

    The count of 64 bits is Binomial(64, 1/2); the difference of two uniform numbers, each of one
    step's width, makes it continuous. Its fourth cumulant kappa is then made up for by the first
    term of the Cornish-Fisher expansion, z - kappa/24 (z^3 - 3 z), whose linear part is left to the
    unit. Within 4e-4 of the normal quantile up to 3 sd, 0.04 at 5.
    """
    x, y = _two_words(keys, k, column)
    x = (x + y) & _u32(0xFFFF)
    words = [x]
    for q in range(4):
        x = (x * _odd(keys[q], jnp.uint32) + y) & _u32(0xFFFF)
        x = x ^ (x >> 7)
        # Twice x: with x alone, there are keys for which the next x is of y alone.
        y = (y * _odd(keys[q + 4], jnp.uint32) + 2 * x) & _u32(0xFFFF)
        words.append(x)
    a, b, c, d, dither = words
    count = popcount(a | (b << 16)) + popcount(c | (d << 16))
    up, down = (((word * _u32(STEP)) >> 16).astype(jnp.int32) for word in (dither, y))
    steps = (count - 32) * STEP + up - down
    cube = _rounded(((steps * steps) >> 16) * steps)  # / 2^31
    return steps + _rounded(cube * CUBIC)


def _rounded(x):
    # x / 2^15
    return ((x >> 14) + 1) >> 1


def split(weight: Float[Array, "*batch 2"], law: Law) -> tuple[Array, ...]:
    """(a, high, middle, low), with b unit = high + middle + low, each of a third of the bits of the
    mantissa."""
    a, rest = weight[..., 0], weight[..., 1] * jnp.asarray(law.unit, weight.dtype)
    whole, mask = {4: (jnp.int32, -(1 << 16)), 8: (jnp.int64, -(1 << 35))}[rest.dtype.itemsize]
    parts = []
    for _ in range(2):
        bits = lax.bitcast_convert_type(rest, whole) & whole(mask)
        parts.append(lax.bitcast_convert_type(bits, rest.dtype))
        rest = rest - parts[-1]
    return a, *parts, rest


def combine(coefficients, draw: Int32[Array, "..."]) -> Float[Array, "..."]:
    """a + b draw. Every product is exact, so a fused multiply-add gives the same bits as two
    operations do."""
    a, high, middle, low = coefficients
    draw = draw.astype(a.dtype)
    return ((low * draw + middle * draw) + high * draw) + a


UNIFORM = Law(uniform_draw, 2.0**-16)
NORMAL = Law(normal_draw, _LINEAR / math.sqrt(_VARIANCE))


def row(layout, keys, degree, k: Int32[Array, "..."]):
    """The columns of synapses k of a row, int32, and which of them are there."""
    column = target(keys, k.astype(jnp.uint32), layout.form.bits, layout.form.blocks)
    return present(layout, column, degree, k)


def present(layout, column: UInt32[Array, "..."], degree, k: Int32[Array, "..."]):
    """The columns of synapses k, int32, in bounds, and which of them are there."""
    inside = (k < degree) & (column < _u32(layout.n_post))
    return _min(column, _u32(layout.n_post - 1)).astype(jnp.int32), inside


def coefficients(layout, w) -> Array | tuple[Array, ...]:
    """The weights' parameters as `weights` takes them; half precision is drawn in single."""
    if layout.form.law is None:
        return w
    return split(w if w.dtype.itemsize >= 4 else w.astype(jnp.float32), layout.form.law)


def weights(layout, keys, k: Int32[Array, "..."], column: Int32[Array, "..."], coef) -> Array:
    """The weights of synapses k of a row, of these columns."""
    law = layout.form.law
    return coef if law is None else combine(coef, law.draw(keys, k, column))


def parts(layout, keys, k: Int32[Array, "..."], column: Int32[Array, "..."], terms):
    """The sum over the last axis of weights * terms, derived by the weights' parameters."""
    law = layout.form.law
    if law is None:
        return jnp.sum(terms, -1)
    wide = terms.dtype if terms.dtype.itemsize >= 4 else jnp.float32  # float16 ends at 2^16
    draw = law.draw(keys, k, column).astype(wide) * jnp.asarray(law.unit, wide)
    draw = jnp.broadcast_to(draw.astype(terms.dtype), terms.shape)
    return jnp.stack([jnp.sum(terms, -1), jnp.sum(terms * draw, -1)], -1)

"""Random matrices from a hash: any synapse of any row, at once and in any order.

Row i has a number of synapses d_i, and its k-th synapse (k < d_i) goes to the place pi_i(k) of a
keyed permutation pi_i of the columns. With d_i ~ Binomial(n, p) a row is then an exact Bernoulli(p)
row: every set of columns of one size is as likely as any other, and none comes twice. Against
geometric skips, the usual way, no synapse waits for the one before it: rows are vectors on every
machine.

The permutation is a Feistel network over Z_A x Z_B, with A = 2^a about sqrt(n) and B = ceil(n / A),
whose round functions are multiply-shift hashes with keys from (seed, i). The fewer than A places
beyond the last column are no synapses: d_i is Binomial(A B, p), and what falls there is left out.
Of 2^16 places all bits of a word are permuted at once, by multiplications and shifts in turn, in a
third of the time. Long rows are made of bands of so many columns (`_jit_bands`).

Only 32-bit integer operations are used, so the matrix is the same bit for bit on every platform and
in every kernel: forwards, transposed, and for derivatives. Weights too: see `combine`.

Luby and Rackoff (1988), SIAM J. Comput. 17 (Feistel permutations); Dietzfelbinger et al. (1997),
J. Algorithms 25 (multiply-shift); the 32-bit mixer is Wellons' lowbias32 (2018).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32, UInt32

from ._spikes import popcount

ROUNDS = 8  # 6 leave correlations between columns a power of two apart
KEYS = ROUNDS + 4
WORD_ROUNDS = 5  # 4 leave correlations in rows of thousands of synapses
MAX_POST = 1 << 30  # the halves of a column's number have at most 15 and 16 bits
GOLDEN = 0x9E3779B9
FRACTION_BITS = 20  # of the uniform draws
NORMAL_BITS = 16  # below the point of the normal draws


class Law(NamedTuple):
    """How the weights a + b draw are drawn: `draw` of (keys, k) gives whole multiples of `unit`."""

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


def _word_of(keys, k, word):
    # A permutation of the words of 16 bits.
    x, modulo = k.astype(word), word(0xFFFF)
    for q, key in enumerate(keys[:WORD_ROUNDS]):
        multiplier, shift = (key & _u32(0xFFFF) | _u32(1)).astype(word), key >> 16
        x = (x * multiplier + shift.astype(word)) & modulo
        x = x ^ (x >> (7 if q % 2 else 9))
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
    if blocks << bits == 1 << 16:
        x = _word_of(keys, k, word)
        return x & word((1 << bits) - 1), x >> bits
    low, high = (k & _u32((1 << bits) - 1)).astype(word), (k >> bits).astype(word)
    modulo = word(0xFFFF)
    for q in range(ROUNDS):
        x = low if q % 2 else high
        multiplier, shift = (keys[q] & _u32(0xFFFF) | _u32(1)).astype(word), keys[q] >> 16
        hashed = (x * multiplier + shift.astype(word)) & modulo
        if q % 2:
            step = (hashed.astype(jnp.uint32) * _u32(blocks)) >> 16
            high = high + step.astype(word)
            high = _min(high, (high - word(blocks)) & modulo)  # modulo blocks
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


def _word(keys, q, k):
    return _mix(k * (keys[ROUNDS + q] | _u32(1)) + keys[ROUNDS + q + 1])


def uniform_draw(keys, k: UInt32[Array, "..."]) -> Int32[Array, "..."]:
    """A whole number uniform in [0, 2^20)."""
    return (_word(keys, 1, k) >> (32 - FRACTION_BITS)).astype(jnp.int32)


def normal_draw(keys, k: UInt32[Array, "..."]) -> Int32[Array, "..."]:
    """A standard normal number times 2^16, rounded, by whole numbers only.

    The count of 64 bits is Binomial(64, 1/2); the difference of two uniform numbers, each of one
    step's width, makes it continuous. Its fourth cumulant kappa is then made up for by the first
    term of the Cornish-Fisher expansion, z - kappa/24 (z^3 - 3 z). Within 5e-4 of the normal
    quantile up to 3 sd, 0.02 at 5.
    """
    first = _word(keys, 1, k)
    second = _word(keys, 2, k)
    third = _mix(first ^ (second * _u32(GOLDEN)))
    dither = (third >> 16).astype(jnp.int32) - (third & _u32(0xFFFF)).astype(jnp.int32)
    count = popcount(first) + popcount(second)
    steps = (count - 32) * 65536 + dither  # of variance 16 + 1/6, times 2^32
    z = (steps >> 2) - ((steps >> 7) * 169 >> 10)  # divided by its sqrt
    t = z >> 6
    cube = (t * t >> 10) * t >> 10
    return z + ((cube - 3 * t) * 335 >> 12)  # -kappa/24 2^6 2^12


def split(weight: Float[Array, "*batch 2"], law: Law) -> tuple[Array, Array, Array]:
    """(a, high, low), with b unit = high + low, each of half the bits of the mantissa."""
    a, b = weight[..., 0], weight[..., 1] * jnp.asarray(law.unit, weight.dtype)
    whole, mask = {4: (jnp.int32, -(1 << 12)), 8: (jnp.int64, -(1 << 27))}[b.dtype.itemsize]
    high = lax.bitcast_convert_type(lax.bitcast_convert_type(b, whole) & whole(mask), b.dtype)
    return a, high, b - high


def combine(coefficients, draw: Int32[Array, "..."]) -> Float[Array, "..."]:
    """a + b draw. Every product is exact, so a fused multiply-add gives the same bits as two
    operations do."""
    a, high, low = coefficients
    d_low = (draw & 1023).astype(a.dtype)
    d_high = (draw - (draw & 1023)).astype(a.dtype)
    return (((low * d_low + low * d_high) + high * d_low) + high * d_high) + a


UNIFORM = Law(uniform_draw, 2.0**-FRACTION_BITS)
NORMAL = Law(normal_draw, 2.0**-NORMAL_BITS)


def row(layout, keys, degree, k: Int32[Array, "..."]):
    """The columns of synapses k of a row, int32, and which of them are there."""
    column = target(keys, k.astype(jnp.uint32), layout.form.bits, layout.form.blocks)
    return present(layout, column, degree, k)


def present(layout, column: UInt32[Array, "..."], degree, k: Int32[Array, "..."]):
    """The columns of synapses k, int32, in bounds, and which of them are there."""
    inside = (k < degree) & (column < _u32(layout.n_post))
    return _min(column, _u32(layout.n_post - 1)).astype(jnp.int32), inside


def coefficients(layout, w) -> Array | tuple[Array, Array, Array]:
    """The weights' parameters as `weights` takes them; half precision is drawn in single."""
    if layout.form.law is None:
        return w
    return split(w if w.dtype.itemsize >= 4 else w.astype(jnp.float32), layout.form.law)


def weights(layout, keys, k: Int32[Array, "..."], coef) -> Array:
    """The weights of synapses k of a row."""
    law = layout.form.law
    return coef if law is None else combine(coef, law.draw(keys, k.astype(jnp.uint32)))


def parts(layout, keys, k: Int32[Array, "..."], terms):
    """The sum over the last axis of weights * terms, derived by the weights' parameters."""
    law = layout.form.law
    if law is None:
        return jnp.sum(terms, -1)
    wide = terms.dtype if terms.dtype.itemsize >= 4 else jnp.float32  # float16 ends at 2^16
    draw = law.draw(keys, k.astype(jnp.uint32)).astype(wide) * jnp.asarray(law.unit, wide)
    draw = jnp.broadcast_to(draw.astype(terms.dtype), terms.shape)
    return jnp.stack([jnp.sum(terms, -1), jnp.sum(terms * draw, -1)], -1)

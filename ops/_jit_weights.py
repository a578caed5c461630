"""The weights of random matrices (`_jit_matrix`).

They are drawn from words of 16 bits, which machines make many at once, by two permutations of a
row's synapses: one of their numbers, which is independent of that of the columns, and a multiple of
the column. The sum of two permutations is no permutation, but as good as a random function.

Dietzfelbinger et al. (1997), J. Algorithms 25 (multiply-shift); Cornish and Fisher (1938), Rev.
Inst. Int. Stat. 5.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from ._jit_matrix import ROUNDS, Law, odd, permuted, u32
from ._spikes import popcount


def _two_words(keys, k, column):
    # Two words of 16 bits, each a permutation of the synapses' numbers below 2^16.
    k, column = k.astype(jnp.uint32) & u32(0xFFFF), column.astype(jnp.uint32)
    x = permuted(keys[ROUNDS + 1 :], k, 1 << 16, jnp.uint32)
    return x, (column * odd(keys[ROUNDS], jnp.uint32)) & u32(0xFFFF)


def uniform_draw(keys, k: Array, column: Array) -> Int32[Array, "..."]:
    """A whole number uniform in [0, 2^16)."""
    x, y = _two_words(keys, k, column)
    return ((x + y) & u32(0xFFFF)).astype(jnp.int32)


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
    unit. Within 6e-4 of the normal quantile up to 2 sd, 0.003 up to 3, and 0.025 up to 5.
    """
    x, y = _two_words(keys, k, column)
    x = (x + y) & u32(0xFFFF)
    words = [x]
    for q in range(4):
        x = (x * odd(keys[q], jnp.uint32) + y) & u32(0xFFFF)
        x = x ^ (x >> 7)
        # Twice x: with x alone, there are keys for which the next x is of y alone.
        y = (y * odd(keys[q + 4], jnp.uint32) + 2 * x) & u32(0xFFFF)
        words.append(x)
    a, b, c, d, dither = words
    count = popcount(a | (b << 16)) + popcount(c | (d << 16))
    up, down = (((word * u32(STEP)) >> 16).astype(jnp.int32) for word in (dither, y))
    steps = (count - 32) * STEP + up - down
    cube = _rounded(((steps * steps) >> 16) * steps)  # / 2^31
    return steps + _rounded(cube * CUBIC)


def _rounded(x):
    # x / 2^15
    return ((x >> 14) + 1) >> 1


def split(weight: Float[Array, "*batch 2"], law: Law) -> tuple[Array, ...]:
    """(a, high, middle, low), with b unit = high + middle + low, each of a third of the bits of the
    mantissa, but for its last bit: taken away, the product is no operand of a subtraction, which a
    compiler may make one operation of both, of another result."""
    dtype = weight.dtype
    whole, bits = {4: (jnp.int32, 16), 8: (jnp.int64, 35)}[dtype.itemsize]

    def upper(x, bits):
        kept = lax.bitcast_convert_type(x, whole) & whole(-(1 << bits))
        return lax.bitcast_convert_type(kept, dtype)

    rest = upper(weight[..., 1] * jnp.asarray(law.unit, dtype), 1)
    high = upper(rest, bits)
    middle = upper(rest - high, bits)
    return weight[..., 0], high, middle, rest - high - middle


def combine(coefficients, draw: Int32[Array, "..."]) -> Float[Array, "..."]:
    """a + b draw. Every product is exact, so a fused multiply-add gives the same bits as two
    operations do."""
    a, high, middle, low = coefficients
    draw = draw.astype(a.dtype)
    return ((low * draw + middle * draw) + high * draw) + a


UNIFORM = Law(uniform_draw, 2.0**-16)
NORMAL = Law(normal_draw, _LINEAR / math.sqrt(_VARIANCE))


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

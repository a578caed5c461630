"""The phi functions of numbers and of matrices, several at once.

phi_0(z) = e^z,  phi_k(z) = (phi_{k-1}(z) - 1 / (k - 1)!) / z,  phi_k(0) = 1 / k!

y' = z y + sum_k w_k t^{k-1} / (k - 1)! has y(1) = e^z y(0) + sum_k phi_k(z) w_k.
"""

import math

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax

SQUARINGS = 32


def phis(z, count):
    """phi_1 to phi_count of each entry of `z`."""
    inside = jnp.abs(z) < 1
    near, far = jnp.where(inside, z, 0), jnp.where(inside, 1, z)
    degree = 10 if jnp.finfo(z.dtype).bits <= 32 else 17
    last = jnp.full_like(near, 1 / math.factorial(degree + count))
    for k in reversed(range(degree)):
        last = 1 / math.factorial(k + count) + near * last
    small = [last]
    for k in reversed(range(1, count)):
        small.insert(0, 1 / math.factorial(k) + near * small[0])
    large = [jnp.exp(far)]
    for k in range(count):
        large.append((large[k] - 1 / math.factorial(k)) / far)
    return [jnp.where(inside, a, b) for a, b in zip(small, large[1:], strict=True)]


@jax.checkpoint  # a derivative would keep every squaring of every step
def matrix_phis(a):
    """phi_1, phi_2 and phi_3 of the matrices `a`, (..., d, d), by scaling and squaring.

    A diagonal similarity evens out the units of the variables (mV beside gates of at most 1), each
    matrix is halved until its 1-norm is below 1/2, the series of phi_3 is summed, and the rest
    follows:

        phi_k(z) = z phi_{k+1}(z) + 1 / k!
        phi_k(2 z) = 2^-k (phi_0(z) phi_k(z) + sum_{j=1}^k phi_j(z) / (k - j)!)

    with phi_0 - 1 carried in place of phi_0, so that slow modes beside fast ones keep their digits.

    A norm above 2^31 gives NaN.

    Skaflestad and Wright (2009), Appl. Numer. Math. 59, with a series in place of their Pade
    approximant; James, Langou and Lowery (2014), arXiv 1401.5766, on balancing.
    """
    scale = lax.stop_gradient(_balance(a))
    balanced = a * scale[..., None, :] / scale[..., :, None]
    norm = lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(balanced), axis=-2), axis=-1, initial=0))
    halvings = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(norm, 0.5)) + 1), 0, SQUARINGS + 1)
    halvings = jnp.where(jnp.isfinite(halvings), halvings, 0)
    factor = jnp.where(halvings > SQUARINGS, jnp.nan, 2.0**-halvings).astype(a.dtype)
    most = eqxi.unvmap_max(jnp.max(halvings, initial=0))

    def double(old, i):
        more = (i < halvings)[..., None, None]
        return [jnp.where(more, x, y) for x, y in zip(_doubled(old), old, strict=True)]

    def square(old, i):
        return lax.cond(i < most, double, lambda old, _: old, old, i), None

    phi = _series(balanced * factor[..., None, None])
    phi, _ = lax.scan(square, phi, jnp.arange(SQUARINGS, dtype=halvings.dtype))
    return [p * scale[..., :, None] / scale[..., None, :] for p in phi[1:]]


def _balance(a):
    """Powers of two, (..., d), that make the rows of D^-1 a D about as large as its columns."""
    size = jnp.abs(a) * (1 - jnp.eye(a.shape[-1], dtype=a.dtype))[(None,) * (a.ndim - 2)]
    exponent = jnp.zeros(a.shape[:-1], a.dtype)
    for _ in range(4):
        now = size * jnp.exp2(exponent)[..., None, :] / jnp.exp2(exponent)[..., :, None]
        row, column = now.sum(-1), now.sum(-2)
        apart = (row > 0) & (column > 0) & jnp.isfinite(row) & jnp.isfinite(column)
        # A quarter: with a half, two variables would change places for ever.
        ratio = jnp.where(apart, row, 1) / jnp.where(apart, column, 1)
        exponent = exponent + jnp.round(0.25 * jnp.log2(ratio))
    return jnp.exp2(exponent)


def _series(a):
    """phi_0 - 1 and phi_1 to phi_3 where the norm is below 1/2: powers of `a` in threes, as
    Paterson and Stockmeyer have it."""
    blocks = 2 if jnp.finfo(a.dtype).bits <= 32 else 4  # degree 6 or 12
    one = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    a2 = a @ a
    a3 = a2 @ a
    phi_3 = one / math.factorial(3 * blocks + 3)
    for k in reversed(range(0, 3 * blocks, 3)):
        c = [1 / math.factorial(k + j + 3) for j in range(3)]
        phi_3 = c[0] * one + c[1] * a + c[2] * a2 + a3 @ phi_3
    phi_2 = one / 2 + a @ phi_3
    phi_1 = one + a @ phi_2
    return [a @ phi_1, phi_1, phi_2, phi_3]


def _doubled(phi):
    """The same at twice the argument."""
    psi, p1, p2, p3 = phi
    products = psi @ jnp.concatenate(phi, axis=-1)
    psi_psi, psi_1, psi_2, psi_3 = jnp.split(products, 4, axis=-1)
    return [
        2 * psi + psi_psi,
        (2 * p1 + psi_1) / 2,
        (2 * p2 + psi_2 + p1) / 4,
        (2 * p3 + psi_3 + p1 / 2 + p2) / 8,
    ]

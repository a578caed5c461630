"""Two functions that are singular as they are usually written.

Both take one exponential and one division, and a polynomial near 0. The argument of the branch that
is XX"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

RADIUS = 0.5  # the series inside, exp outside


def phi_1(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(e^z - 1) / z, and 1 at 0 (also called `exprel`): the weight of exponential Euler.

    **Arguments:** `z`: dimensionless, any shape.

    **Returns:** the function to within 3 units in the last place, with finite derivatives of first
    and second order wherever e^z is finite.

    Hochbruck and Ostermann (2010), Exponential integrators, Acta Numerica 19.
    """
    inside = jnp.abs(z) < RADIUS
    near, far = jnp.where(inside, z, 0), jnp.where(inside, 1, z)
    return jnp.where(inside, _series(near), (jnp.exp(far) - 1) / far)


def x_over_expm1(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x / (e^x - 1), and 1 at 0 (the Bernoulli function): the shape of a linoid gating rate.

    **Arguments:** `x`: dimensionless, any shape.

    **Returns:** the function, with finite derivatives of first and second order, for any finite
    `x`.

    Hodgkin and Huxley (1952), J. Physiol. 117: their rates alpha_m and alpha_n.
    """
    inside = jnp.abs(x) < RADIUS
    near, far = jnp.where(inside, x, 0), jnp.where(inside, 1, x)
    decay = jnp.exp(-jnp.abs(far))
    numerator = jnp.abs(far) * jnp.where(far < 0, 1, decay)
    numerator = jnp.where(inside, 1, numerator)
    return numerator / jnp.where(inside, _series(near), 1 - decay)


def _series(z):
    # (e^z - 1) / z = sum of z^k / (k + 1)!, to the precision of the type within RADIUS.
    degree = 7 if jnp.finfo(z.dtype).bits <= 32 else 14
    total = jnp.asarray(1 / math.factorial(degree + 1), z.dtype)
    for k in reversed(range(degree)):
        total = 1 / math.factorial(k + 1) + z * total
    return total

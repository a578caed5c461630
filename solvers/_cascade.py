"""The impulse response of decays in a row, exact where their rates are near or equal."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._functions import phi_1


def cascade(t: Float[Array, "..."], *rates: Float[Array, "..."]) -> Float[Array, "..."]:
    """The last variable at t of a row of decays of which the first starts at 1, the others at 0:

        x_1' = -r_1 x_1,   x_k' = x_(k-1) - r_k x_k

    that is (e^(-r_1 t) - e^(-r_2 t)) / (r_2 - r_1) for two, whose order does not matter; and
    t e^(-r t) where they are equal. It is a divided difference of exp, and evaluated as one: by
    `phi_1` for two, and for three by the difference of two of them, or where all are near by the
    series in complete symmetric polynomials.

    **Arguments:** `t`: time, at least 0; `rates`: one to three, 1 / time; all broadcast.

    **Returns:** the value to within a relative error of 10 (1 + r t) eps, whatever the gaps between
    rates, with derivatives of first and second order in all arguments.

    **Raises:** `TypeError` for another number of rates.

    McCurdy, Ng and Parlett (1984), Math. Comp. 43; for neurons Rotter and Diesmann (1999), Biol.
    Cybern. 81.
    """
    nodes = [-rate * t for rate in rates]
    if len(nodes) == 1:
        return jnp.exp(nodes[0])
    if len(nodes) == 2:
        x, y = _sorted(*nodes)
        return t * jnp.exp(x) * phi_1(y - x)
    if len(nodes) != 3:
        raise TypeError(f"rates: {len(rates)}; they must be one to three.")
    x, y = _sorted(nodes[0], nodes[1])
    y, z = _sorted(y, nodes[2])
    x, y = _sorted(x, y)
    return t * t * jnp.exp(x) * _second(y - x, z - x)


def _sorted(x, y):
    # Not by minimum and maximum: at a tie these share the derivative, and a second one is wrong.
    swap = x < y
    return jnp.where(swap, y, x), jnp.where(swap, x, y)


def _second(p, q):
    """The divided difference of exp at 0 >= p >= q."""
    inside = q > -1
    near_p, near_q = jnp.where(inside, p, 0), jnp.where(inside, q, 0)
    far_p, far_q = jnp.where(inside, 0, p), jnp.where(inside, -1, q)
    far = (jnp.exp(far_p) * phi_1(far_q - far_p) - phi_1(far_p)) / far_q
    # sum of h_k(p, q) / (k + 2)!, where h_k = p^k + q h_(k - 1)
    power = h = jnp.ones_like(q)
    near = h / 2
    for k in range(1, 12 if jnp.finfo(q.dtype).bits <= 32 else 20):
        power = power * near_p
        h = power + near_q * h
        near = near + h * (1 / math.factorial(k + 2))
    return jnp.where(inside, near, far)

"""The weighted phase code."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._latency_code import intensities


def phase_code(x: ArrayLike, *, bits: int, steps: int) -> Float[Array, "steps ..."]:
    """Binary digits as spikes: in phase k of a period of `bits` steps, the k-th digit of x after
    the point, weighted by its place:

        s_t = digit_k(x) 2^-(k + 1),   k = t mod bits

    So the sum over a period is x, rounded down to `bits` digits. Values from 1 - 2^-bits up are the
    largest that there is.

    **Arguments:** `x`: intensities in [0, 1], of any shape; `bits`: digits, 1 to 23; `steps`: how
    many, `bits` for one period.

    **Returns:** floats, (steps, *shape of x).

    **Raises:** `ValueError` for values out of range.

    Kim, Kim, Huh, Lee, Choi (2018), Neurocomputing 311.

        >>> phase_code([0.75, 0.25], bits=2, steps=2).tolist()
        [[0.5, 0.0], [0.25, 0.25]]
    """
    intensities("x", x, most=1.0)
    if not (isinstance(bits, int) and 1 <= bits <= 23):
        raise ValueError(f"bits: {bits!r}; it must be a whole number from 1 to 23.")
    x = jnp.asarray(x, float)
    number = jnp.minimum(jnp.floor(x * 2**bits), 2**bits - 1).astype(jnp.int32)
    place = bits - 1 - jnp.arange(steps, dtype=jnp.int32) % bits
    place = place.reshape(steps, *[1] * x.ndim)
    digit = (number[None] >> place) & 1
    return digit.astype(x.dtype) * 2.0 ** (place - bits).astype(x.dtype)

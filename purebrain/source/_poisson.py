"""The Poisson source."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float

from .._check import concrete, parameters
from .._core import AbstractSource, as_param

CHUNK = 32  # points drawn at once


class PoissonSource(AbstractSource[tuple[()], Array]):
    """Independent Poisson spike trains. Each step's output is the true count of each neuron, a
    float.

    All neurons together make one Poisson process of n times the highest rate: its points are drawn
    one after the other (exponential gaps), each is given to a neuron at random, and kept in
    proportion to that neuron's rate. So the time follows the spikes, and a neuron may spike twice
    in a step, as it must for its counts to be Poisson. It takes no input, and no derivative with
    respect to the rate.

    **Arguments:** `n`: the number of neurons; `rate`: Hz, one number or one a neuron.

    **Raises:** `ValueError` for a negative or infinite rate, another number of rates, and (in
    `step`) a missing key.

    Lewis and Shedler (1979), Naval Research Logistics 26 (thinning).
    """

    n: int = eqx.field(static=True)
    rate: Float[Array, "..."] = eqx.field(converter=as_param)

    def __check_init__(self):
        parameters(self, self.n)
        host = concrete(self.rate)
        if host is not None and not (host >= 0).all():
            raise ValueError(f"rate: {host} Hz; it must not be negative.")

    def init(self, *, dt, key=None):
        return ()

    def step(self, state, x, tick):
        if tick.key is None:
            raise ValueError(
                "key: missing, but PoissonSource is random; write "
                "simulate(..., key=jax.random.key(0))."
            )
        expected = lax.stop_gradient(self.rate) * (tick.dt * 1e-3)
        return (), poisson_counts(tick.key, expected, self.n)


def poisson_counts(key, expected: Float[Array, "..."], n: int) -> Float[Array, " n"]:
    """Counts of `n` neurons with `expected` spikes each (one number, or (n,)), in time
    O(spikes)."""
    dtype = expected.dtype
    if n == 0:
        return jnp.zeros(0, dtype)
    highest = jnp.max(expected)
    total = n * highest

    def more(carry):
        return carry[1] < total

    def draw(carry):
        chunk, reached, counts = carry
        k_gap, k_id, k_keep = jr.split(jr.fold_in(key, chunk), 3)
        at = reached + jnp.cumsum(jr.exponential(k_gap, (CHUNK,), dtype))
        ids = jr.randint(k_id, (CHUNK,), 0, n, jnp.int32)
        keep = at < total
        if expected.ndim:
            keep &= jr.uniform(k_keep, (CHUNK,), dtype) * highest < expected[ids]
        counts = counts.at[ids].add(keep.astype(dtype), mode="promise_in_bounds")
        return chunk + 1, at[-1], counts

    start = (jnp.int32(0), jnp.zeros((), dtype), jnp.zeros(n, dtype))
    return lax.while_loop(more, draw, start)[2]

"""The van Rossum distance between spike trains."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._over_time import record


def van_rossum(
    spikes: Float[Array, "steps trials n"],
    target: Float[Array, "steps trials n"],
    *,
    dt: float,
    tau: float,
) -> Float[Array, "trials n"]:
    """The squared van Rossum distance of spike trains, each filtered by exp(-t / tau):

        D^2 = 1/tau integral from 0 to infinity of (f(t) - g(t))^2 dt

    Integrated exactly, what remains after the last step too. A spike more or less adds 1/2; a
    spike moved by d adds 1 - exp(-d / tau): so `tau` sets how exact timing has to be.

    **Arguments:** `spikes`, `target`: (steps, trials, neurons), floats; `dt`, `tau`: ms.

    **Returns:** (trials, neurons); take the mean for a loss.

    van Rossum (2001), Neural Computation 13.

        >>> import jax.numpy as jnp
        >>> one, none = jnp.array([[[0.0]], [[1.0]], [[0.0]]]), jnp.zeros((3, 1, 1))
        >>> round(float(van_rossum(one, none, dt=1.0, tau=5.0)[0, 0]), 6)
        0.5
    """
    record("spikes", spikes, 3)
    record("target", target, 3)
    if spikes.shape != target.shape:
        raise ValueError(f"target: shape {target.shape}; it must be {spikes.shape}, as spikes.")
    if not tau > 0:
        raise ValueError(f"tau: {tau} ms; it must be above 0.")
    decay, during = math.exp(-dt / tau), -math.expm1(-2 * dt / tau) / 2

    def step(carry, difference):
        x, total = carry
        total = total + during * x**2  # of the step that leads here
        return (decay * x + difference, total), None

    zero = jnp.zeros(spikes.shape[1:], spikes.dtype)
    x, total = lax.scan(step, (zero, zero), spikes - target)[0]
    return total + x**2 / 2

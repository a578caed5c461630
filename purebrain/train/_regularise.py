"""Penalties that keep activity in bounds."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._over_time import counts, record
from ._rate_loss import firing_rates


def spike_l1(spikes: Float[Array, "steps trials n"]) -> Float[Array, ""]:
    """The number of spikes of all neurons in a trial, the mean over trials.

    Zenke and Vogels (2021), Neural Computation 33.
    """
    record("spikes", spikes, 3)
    return jnp.sum(spikes) / spikes.shape[1]


def spike_l2(spikes: Float[Array, "steps trials n"]) -> Float[Array, ""]:
    """The square of each neuron's number of spikes in a trial (the mean over trials), the mean over
    neurons: few neurons may not do all the work.

    Zenke and Vogels (2021), Neural Computation 33.
    """
    record("spikes", spikes, 3)
    return jnp.mean(jnp.mean(counts(spikes), 0) ** 2)


def rate_bounds(
    spikes: Float[Array, "steps trials n"], low: ArrayLike, high: ArrayLike, *, dt: float
) -> Float[Array, ""]:
    """How far firing rates (Hz, the mean over trials) are out of bounds, squared, the mean over
    neurons; 0 within. A lower bound revives silent neurons.

    **Arguments:** `spikes`: (steps, trials, neurons); `low`, `high`: Hz, one number or (neurons,);
    `dt`: ms.

        >>> import jax.numpy as jnp
        >>> silent = jnp.zeros((10, 2, 3))
        >>> float(rate_bounds(silent, 5.0, 50.0, dt=1.0))
        25.0
    """
    return _outside(jnp.mean(firing_rates(spikes, dt=dt), 0), low, high)


def membrane_bounds(
    v: Float[Array, "steps trials n"], low: ArrayLike, high: ArrayLike
) -> Float[Array, ""]:
    """How far potentials are out of bounds, squared, the mean over steps, trials and neurons; 0
    within. Keeps potentials where the surrogate has a slope.

    **Arguments:** `v`: (steps, trials, neurons), mV, before the reset or after; `low`, `high`: mV,
    one number or (neurons,).

    Bellec et al. (2020), Nature Communications 11.
    """
    record("v", v, 3)
    return _outside(v, low, high)


def _outside(x, low, high):
    low, high = (jnp.broadcast_to(jnp.asarray(b, x.dtype), x.shape[-1:]) for b in (low, high))
    low, high = (b.reshape((1,) * (x.ndim - 1) + b.shape) for b in (low, high))
    return jnp.mean(jnp.maximum(low - x, 0) ** 2 + jnp.maximum(x - high, 0) ** 2)

"""Losses on firing rates."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from ._over_time import counts, cross_entropy, record


def firing_rates(spikes: Float[Array, "steps trials n"], *, dt: float) -> Float[Array, "trials n"]:
    """The rate of each neuron in each trial, Hz: spikes / (steps dt).

    **Arguments:** `spikes`: (steps, trials, neurons), floats; `dt`: ms.
    """
    record("spikes", spikes, 3)
    return counts(spikes) * (1000.0 / (spikes.shape[0] * dt))


def rate_error(
    spikes: Float[Array, "steps trials n"], target: ArrayLike, *, dt: float
) -> Float[Array, ""]:
    """The mean squared difference of firing rates (Hz) from their targets:

        mean over trials and neurons of (rate - target)^2

    **Arguments:** `spikes`: (steps, trials, neurons); `target`: Hz, one number or (trials,
    neurons); `dt`: ms.

        >>> import jax.numpy as jnp
        >>> spikes = jnp.array([[[1.0]], [[0.0]]])  # one spike in 20 ms: 50 Hz
        >>> float(rate_error(spikes, 40.0, dt=10.0))
        100.0
    """
    rates = firing_rates(spikes, dt=dt)
    return jnp.mean((rates - jnp.asarray(target, rates.dtype)) ** 2)


def rate_cross_entropy(
    spikes: Float[Array, "steps trials classes"], labels: Int[Array, " trials"]
) -> Float[Array, ""]:
    """The cross entropy of spike counts taken as logits, one output neuron a class:

        mean over trials of -log softmax(counts)[label]

    **Arguments:** `spikes`: (steps, trials, classes); `labels`: (trials,), 0 to classes - 1. A
    label out of range makes the loss NaN.

    Eshraghian et al. (2023), Proc. IEEE 111.
    """
    record("spikes", spikes, 3)
    return cross_entropy(counts(spikes), labels)

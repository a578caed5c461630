"""Losses on first spikes."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ._over_time import cross_entropy, record


def first_spike_time(
    spikes: Float[Array, "steps trials n"], *, dt: float
) -> Float[Array, "trials n"]:
    """The time of each neuron's first spike, ms; the length of the record where there is none.

    Spikes are stamped at the end of their step. To be differentiable, it is the expected time if
    the entries of `spikes` were probabilities:

        E = sum over n of t_n s_n prod over m < n of (1 - s_m),   t_n = (n + 1) dt

    which for spikes of 0 and 1 is the latency itself. Its derivative with respect to a spike
    that might have come earlier is how much earlier (negative), and with respect to the first spike
    the wait for the second; a surrogate carries both on. Later spikes get none.

    **Arguments:** `spikes`: (steps, trials, neurons); `dt`: ms.

        >>> import jax.numpy as jnp
        >>> spikes = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])[:, None]
        >>> first_spike_time(spikes, dt=2.0).tolist()
        [[4.0, 6.0]]
    """
    record("spikes", spikes, 3)
    dtype, steps = spikes.dtype, spikes.shape[0]
    times = jnp.arange(1, steps + 1).astype(dtype) * jnp.asarray(dt, dtype)

    def earlier(later, x):
        s, t = x
        return later + s * (t - later), None

    none = jnp.full(spikes.shape[1:], times[-1])
    return lax.scan(earlier, none, (spikes, times), reverse=True)[0]


def latency_cross_entropy(
    spikes: Float[Array, "steps trials classes"],
    labels: Int[Array, " trials"],
    *,
    dt: float,
    tau: float,
) -> Float[Array, ""]:
    """The cross entropy of first-spike times: the label's neuron is to be the first.

        mean over trials of -log softmax(-t_first / tau)[label]

    **Arguments:** `spikes`: (steps, trials, classes); `labels`: (trials,), 0 to classes - 1; `dt`,
    `tau`: ms. A label out of range makes the loss NaN.

    Mostafa (2018), IEEE Trans. Neural Netw. Learn. Syst. 29.
    """
    return cross_entropy(-first_spike_time(spikes, dt=dt) / tau, labels)

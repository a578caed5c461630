"""Sums over the steps of a record."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..ops import Spikes


def record(name: str, x, ndim: int) -> None:
    """Refuses a record of another number of axes, and spikes as bits, which have no derivative."""
    if isinstance(x, Spikes) or not jnp.issubdtype(x.dtype, jnp.floating):
        kind = "Spikes" if isinstance(x, Spikes) else x.dtype
        raise TypeError(
            f"{name}: {kind}, which have no derivative; give the neuron a surrogate such as "
            f"surrogate.SuperSpike(), or write {name}.astype(float) to measure only."
        )
    if x.ndim != ndim or 0 in x.shape:
        axes = ("steps", "trials", "neurons")[:ndim]
        raise ValueError(f"{name}: shape {x.shape}; it must be ({', '.join(axes)}), none empty.")


def counts(spikes: Float[Array, "steps trials n"]) -> Float[Array, "trials n"]:
    """The number of spikes of each neuron in each trial."""
    steps, *rest = spikes.shape
    # As a product: XLA's sum over a leading axis takes 30 times as long on a CPU.
    return (jnp.ones(steps, spikes.dtype) @ spikes.reshape(steps, -1)).reshape(rest)


def check_labels(labels, trials: int) -> None:
    """Refuses labels that are not one whole number a trial. (Their range is checked when data are
    read: inside compiled code it cannot be.)"""
    if labels.shape != (trials,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels: {labels.dtype}{list(labels.shape)}; they must be {trials} whole numbers, one "
            "a trial."
        )


def cross_entropy(logits: Float[Array, "trials classes"], labels) -> Float[Array, ""]:
    """The mean of -log softmax(logits)[label]; NaN where a label is out of range."""
    check_labels(labels, logits.shape[0])
    log_p = jax.nn.log_softmax(logits, axis=1)
    inside = (labels >= 0) & (labels < logits.shape[1])
    right = jnp.take_along_axis(log_p, jnp.where(inside, labels, 0)[:, None], 1)[:, 0]
    return -jnp.mean(jnp.where(inside, right, jnp.nan))

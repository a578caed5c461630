"""Losses on the potentials of readout neurons."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._over_time import cross_entropy, record


def max_over_time_cross_entropy(
    v: Float[Array, "steps trials classes"], labels: Int[Array, " trials"]
) -> Float[Array, ""]:
    """The cross entropy of the highest potential that each readout neuron reaches:

        mean over trials of -log softmax(max over steps of v)[label]

    The gradient goes to the step of the maximum only.

    **Arguments:** `v`: (steps, trials, classes), of neurons that do not spike; `labels`: (trials,),
    0 to classes - 1. A label out of range makes the loss NaN.

    Cramer, Stradmann, Schemmel, Zenke (2022), IEEE Trans. Neural Netw. Learn. Syst. 33.

        >>> import jax.numpy as jnp
        >>> v = jnp.array([[[0.0, 3.0]], [[3.0, 0.0]]])  # either class once at 3
        >>> round(float(max_over_time_cross_entropy(v, jnp.array([0]))), 4)  # log 2
        0.6931
    """
    record("v", v, 3)
    return cross_entropy(jnp.max(v, 0), labels)

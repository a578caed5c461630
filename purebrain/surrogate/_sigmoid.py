import jax
from jaxtyping import Array, Float

from .._core import param
from ._abstract import AbstractSurrogate


class Sigmoid(AbstractSurrogate):
    """The derivative of a sigmoid: beta s (1 - s), s = 1 / (1 + exp(-beta x)).

    **Arguments:** `beta`: the steepness.

    Zenke and Vogels (2021), Neural Computation 33.
    """

    beta: Float[Array, ""] = param(default=4.0)

    def derivative(self, x):
        s = jax.nn.sigmoid(self.beta * x)
        return self.beta * s * (1 - s)

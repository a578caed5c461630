import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class Sigmoid(AbstractSurrogate):
    """The derivative of a sigmoid: beta s (1 - s), s = 1 / (1 + exp(-beta x)).

    **Arguments:** `beta`: the steepness.

    Zenke and Vogels (2021), Neural Computation 33.
    """

    beta: Float[Array, ""] = eqx.field(converter=as_param, default=4.0)

    def __check_init__(self):
        above(0, beta=self.beta)

    def derivative(self, x):
        # Not s (1 - s): above threshold 1 - s has no digits left, and the tail would be lost.
        return self.beta * jax.nn.sigmoid(self.beta * x) * jax.nn.sigmoid(-self.beta * x)

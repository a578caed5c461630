import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class SuperSpike(AbstractSurrogate):
    """The derivative of a fast sigmoid: 1 / (1 + beta |x|)^2.

    **Arguments:** `beta`: the steepness.

    Zenke and Ganguli (2018), SuperSpike, Neural Computation 30.
    """

    beta: Float[Array, ""] = eqx.field(converter=as_param, default=10.0)

    def __check_init__(self):
        above(0, beta=self.beta)

    def derivative(self, x):
        # The square of the quotient: that of its denominator would be infinite far from threshold.
        return (1 / (1 + self.beta * jnp.abs(x))) ** 2

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class SoftSign(AbstractSurrogate):
    """The derivative of a soft sign, of area 1: (alpha / 2) / (1 + alpha |x|)^2.

    `SuperSpike` times alpha / 2.

    **Arguments:** `alpha`: the steepness.

    Zenke and Ganguli (2018), SuperSpike, Neural Computation 30.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        above(0, alpha=self.alpha)

    def derivative(self, x):
        # The square of the quotient: that of its denominator would be infinite far from threshold.
        return self.alpha / 2 * (1 / (1 + self.alpha * jnp.abs(x))) ** 2

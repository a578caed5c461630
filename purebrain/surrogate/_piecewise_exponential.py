import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class PiecewiseExponential(AbstractSurrogate):
    """The derivative of two exponentials, of area 1: (alpha / 2) exp(-alpha |x|).

    **Arguments:** `alpha`: the steepness.

    Neftci, Mostafa, Zenke (2019), IEEE Signal Processing Magazine 36.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        above(0, alpha=self.alpha)

    def derivative(self, x):
        return self.alpha / 2 * jnp.exp(-self.alpha * jnp.abs(x))

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class NonzeroSignLog(AbstractSurrogate):
    """The derivative of +-log(1 + alpha |x|): alpha / (1 + alpha |x|). Its tail has no finite area.

    **Arguments:** `alpha`: the steepness, and the value at threshold.

    Fang et al. (2023), SpikingJelly, Science Advances 9.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        above(0, alpha=self.alpha)

    def derivative(self, x):
        return self.alpha / (1 + self.alpha * jnp.abs(x))

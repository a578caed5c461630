import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above
from ._within import within


class Gaussian(AbstractSurrogate):
    """A normal density: alpha exp(-x^2 / (2 sigma^2)) / (sigma sqrt(2 pi)).

    (BrainPy's code has x^2 sigma^2 / 2 in the exponent, and alpha = 0.5 by default.)

    **Arguments:** `sigma`: the standard deviation; `alpha`: the area under it.

    Yin, Corradi, Bohte (2021), Nature Machine Intelligence 3.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_param, default=0.5)
    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        above(0, sigma=self.sigma)

    def derivative(self, x):
        height = self.alpha / (self.sigma * math.sqrt(2 * math.pi))
        return height * jnp.exp(-0.5 * within(x / self.sigma) ** 2)

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate


class Gaussian(AbstractSurrogate):
    """A normal density: exp(-x^2 / (2 sigma^2)) / (sigma sqrt(2 pi)).

    **Arguments:** `sigma`: the standard deviation.

    Yin, Corradi, Bohte (2021), Nature Machine Intelligence 3.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_param, default=0.5)

    def derivative(self, x):
        return jnp.exp(-0.5 * (x / self.sigma) ** 2) / (self.sigma * math.sqrt(2 * math.pi))

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above
from ._within import within


class Erf(AbstractSurrogate):
    """The derivative of erfc(-alpha x) / 2, of area 1: alpha / sqrt(pi) exp(-(alpha x)^2).

    `Gaussian` with sigma = 1 / (alpha sqrt(2)).

    **Arguments:** `alpha`: the steepness.

    Esser et al. (2015), Backpropagation for energy-efficient neuromorphic computing, NeurIPS.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        above(0, alpha=self.alpha)

    def derivative(self, x):
        return self.alpha / math.sqrt(math.pi) * jnp.exp(-(within(self.alpha * x) ** 2))

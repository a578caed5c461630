import math

import equinox as eqx
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class ArcTan(AbstractSurrogate):
    """The derivative of an arcus tangent: (alpha / 2) / (1 + (pi alpha x / 2)^2).

    **Arguments:** `alpha`: the steepness.

    Fang et al. (2021), Incorporating learnable membrane time constant, ICCV.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=2.0)

    def __check_init__(self):
        above(0, alpha=self.alpha)

    def derivative(self, x):
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x) ** 2)

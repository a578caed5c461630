import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above
from ._within import within


class MultiGaussian(AbstractSurrogate):
    """A normal density less two broad ones beside it, so that it is negative away from threshold:
    scale ((1 + h) N(x; 0, sigma) - h N(x; sigma, s sigma) - h N(x; -sigma, s sigma)).

    N(x; m, d) is the normal density of mean m and standard deviation d.

    **Arguments:** `h`: the weight of the broad ones; `s`: how many times broader they are; `sigma`:
    the standard deviation; `scale`: a factor on all.

    Yin, Corradi, Bohte (2021), Nature Machine Intelligence 3.
    """

    h: Float[Array, ""] = eqx.field(converter=as_param, default=0.15)
    s: Float[Array, ""] = eqx.field(converter=as_param, default=6.0)
    sigma: Float[Array, ""] = eqx.field(converter=as_param, default=0.5)
    scale: Float[Array, ""] = eqx.field(converter=as_param, default=0.5)

    def __check_init__(self):
        above(0, s=self.s, sigma=self.sigma)

    def derivative(self, x):
        broad = self.s * self.sigma
        sides = _normal(x - self.sigma, broad) + _normal(x + self.sigma, broad)
        return self.scale * ((1 + self.h) * _normal(x, self.sigma) - self.h * sides)


def _normal(x, sd):
    return jnp.exp(-0.5 * within(x / sd) ** 2) / (sd * math.sqrt(2 * math.pi))

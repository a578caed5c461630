import math

import equinox as eqx
import jax.numpy as jnp
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
        # Far from threshold by the inverse of z, whose square is not infinite.
        z = math.pi / 2 * self.alpha * x
        far = jnp.abs(z) > 1
        near = jnp.where(far, 1 / jnp.where(far, z, 1), z)
        return self.alpha / 2 * jnp.where(far, near**2, 1) / (1 + near**2)

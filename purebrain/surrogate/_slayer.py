import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class SLAYER(AbstractSurrogate):
    """An exponential of the distance to threshold: exp(-alpha |x|).

    `PiecewiseExponential`, of height 1. (The paper's density has a further factor, here 1.)

    **Arguments:** `alpha`: the steepness, the paper's beta.

    Shrestha and Orchard (2018), SLAYER: spike layer error reassignment in time, NeurIPS.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        above(0, alpha=self.alpha)

    def derivative(self, x):
        return jnp.exp(-self.alpha * jnp.abs(x))

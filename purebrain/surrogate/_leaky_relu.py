import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate


class LeakyReLU(AbstractSurrogate):
    """The derivative of a leaky ReLU: alpha for x < 0, beta for x >= 0.

    It reaches every neuron, however far from threshold.

    **Arguments:** `alpha`: the value below threshold; `beta`: the value above it.

    Maas, Hannun, Ng (2013), Rectifier nonlinearities improve acoustic models, ICML.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=0.1)
    beta: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def derivative(self, x):
        return jnp.where(x < 0, self.alpha, self.beta)

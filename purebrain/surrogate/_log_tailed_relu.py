import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate


class LogTailedReLU(AbstractSurrogate):
    """The derivative of a ReLU that goes on as a logarithm: alpha for x <= 0, 1 for 0 < x <= 1,
    1 / x for x > 1.

    With alpha = 0 (the default) neurons below threshold have no gradient.

    **Arguments:** `alpha`: the value below threshold.

    Cai et al. (2017), Deep learning with low precision by half-wave Gaussian quantization, CVPR.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=0.0)

    def derivative(self, x):
        return jnp.where(x > 0, 1 / jnp.maximum(x, 1), self.alpha)

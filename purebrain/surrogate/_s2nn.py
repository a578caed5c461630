import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class S2NN(AbstractSurrogate):
    """A sigmoid's derivative below threshold, a logarithm's above it: alpha s (1 - s) for x < 0,
    s = 1 / (1 + exp(-alpha x)), and beta / (1 + x) for x >= 0.

    (BrainPy's epsilon guards that logarithm at x = -1, and is no part of the derivative.)

    **Arguments:** `alpha`: the steepness below threshold; `beta`: the value at threshold.

    Suetake et al. (2022), S2NN, arXiv:2201.10879.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=4.0)
    beta: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        above(0, alpha=self.alpha)

    def derivative(self, x):
        below = self.alpha * jax.nn.sigmoid(self.alpha * x) * jax.nn.sigmoid(-self.alpha * x)
        # |x| for x: at x = -1 the branch not taken would be infinite, and its gradient NaN.
        return jnp.where(x < 0, below, self.beta / (1 + jnp.abs(x)))

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class QPseudoSpike(AbstractSurrogate):
    """A power law of area 1: (1 + 2 |x| / (alpha - 1))^-alpha.

    The larger alpha, the thinner the tail; in the limit exp(-2 |x|). (BrainPy's code has alpha + 1
    where its documentation and the paper have alpha - 1.)

    **Arguments:** `alpha`: the exponent, the paper's q, above 1.

    Herranz-Celotti and Rouat (2022), Surrogate gradients design, arXiv:2202.00282.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_param, default=2.0)

    def __check_init__(self):
        above(1, alpha=self.alpha)

    def derivative(self, x):
        # A quotient of at most 1: its inverse would be infinite far from threshold.
        half = (self.alpha - 1) / 2
        return (half / (half + jnp.abs(x))) ** self.alpha

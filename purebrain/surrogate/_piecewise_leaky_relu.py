import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class PiecewiseLeakyReLU(AbstractSurrogate):
    """A rectangle of area 1 on a floor: 1 / (2 w) for |x| <= w, c elsewhere.

    (BrainPy has 1 / w, twice the derivative of its own function and of the paper's.)

    **Arguments:** `c`: the value away from threshold; `w`: half the width of the rectangle.

    Wu et al. (2018), Spatio-temporal backpropagation, Frontiers in Neuroscience 12 (where c = 0).
    """

    c: Float[Array, ""] = eqx.field(converter=as_param, default=0.01)
    w: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        above(0, w=self.w)

    def derivative(self, x):
        return jnp.where(jnp.abs(x) <= self.w, 1 / (2 * self.w), self.c)

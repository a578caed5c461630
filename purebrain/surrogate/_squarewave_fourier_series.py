import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core import as_param
from ._abstract import AbstractSurrogate
from ._check import above


class SquarewaveFourierSeries(AbstractSurrogate):
    """The derivative of a square wave's first n harmonics:
    (4 / t_period) sum_i cos((2 i - 1) 2 pi x / t_period), i = 1 ... n.

    It is periodic and changes sign: for x within t_period / 4 of threshold. At infinity it is NaN.
    (BrainPy leaves out the n-th harmonic.)

    **Arguments:** `n`: how many harmonics; `t_period`: the period, in units of x.

    **Raises:** `ValueError` for fewer than one harmonic.

    Fang et al. (2023), SpikingJelly, Science Advances 9.
    """

    n: int = eqx.field(static=True, default=2)
    t_period: Float[Array, ""] = eqx.field(converter=as_param, default=8.0)

    def __check_init__(self):
        if not isinstance(self.n, int | np.integer) or self.n < 1:
            raise ValueError(f"n: {self.n!r}; it must be a whole number >= 1, such as n=2.")
        above(0, t_period=self.t_period)

    def derivative(self, x):
        # The remainder is exact; far from threshold x / t_period would leave the phase no digits.
        phase = 2 * math.pi / self.t_period * jnp.fmod(x, self.t_period)
        return 4 / self.t_period * sum(jnp.cos((2 * i + 1) * phase) for i in range(self.n))

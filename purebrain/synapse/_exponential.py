"""The exponential synapse."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._check import parameters, positive
from .._core import as_param
from ._abstract import AbstractExponentialSynapse, seen


class Exponential(AbstractExponentialSynapse[Array]):
    """A jump at each spike and an exponential decay: dg/dt = -g / tau, g -> g + w at a spike.

    Integrated exactly: g(t + dt) = g(t) exp(-dt / tau).

    **Arguments:** `tau`: the time constant of the decay, ms; one number, or one a target.

    **Raises:** `ValueError` if `tau` is not finite and above 0.

    Destexhe, Mainen, Sejnowski (1994), J. Comput. Neurosci. 1.
    """

    tau: Float[Array, "..."] = eqx.field(converter=as_param)

    def __check_init__(self):
        positive("tau", self.tau)

    def init(self, n, dtype):
        parameters(self, n)
        return jnp.zeros(n, dtype)

    def flow(self, state, tick):
        return state * jnp.exp(-tick.dt / self.tau).astype(state.dtype)

    def receive(self, state, add):
        return add(state)

    def output(self, state):
        return state

    def mean(self, state, tau_m, dt):
        return state * seen(dt, tau_m, self.tau).astype(state.dtype)

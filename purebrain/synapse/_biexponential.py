"""Synapses that rise and decay: alpha and bi-exponential."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._check import parameters, positive
from .._core import as_param
from ..solvers import cascade
from ._abstract import AbstractExponentialSynapse, seen
from ._psp import gain


class RisingState(eqx.Module):
    """`g`: the synaptic variable; `x`: what drives it, which jumps at a spike."""

    g: Float[Array, " n"]
    x: Float[Array, " n"]


class BiExponential(AbstractExponentialSynapse[RisingState]):
    """A difference of two exponentials, 1 at its peak: after a spike of weight w at t = 0

        g = w a (exp(-t / tau_decay) - exp(-t / tau_rise))
        dg/dt = -g / tau_decay + c x,   dx/dt = -x / tau_rise,   x -> x + w at a spike

    Integrated exactly; the two may be equal (then it is `Alpha`), and change places.

    **Arguments:** `tau_rise`, `tau_decay`: time constants, ms; one number, or one a target.

    **Raises:** `ValueError` if one is not finite and above 0.

    Destexhe, Mainen, Sejnowski (1994), J. Comput. Neurosci. 1; Rotter and Diesmann (1999), Biol.
    Cybern. 81.
    """

    tau_rise: Float[Array, "..."] = eqx.field(converter=as_param)
    tau_decay: Float[Array, "..."] = eqx.field(converter=as_param)

    def __check_init__(self):
        positive("tau_rise", self.tau_rise)
        positive("tau_decay", self.tau_decay)

    def init(self, n, dtype):
        parameters(self, n)
        return RisingState(jnp.zeros(n, dtype), jnp.zeros(n, dtype))

    def flow(self, state, tick):
        return _flow(state, tick.dt, self.tau_rise, self.tau_decay)

    def receive(self, state, add):
        return RisingState(state.g, add(state.x))

    def output(self, state):
        return state.g

    def mean(self, state, tau_m, dt):
        return _mean(state, tau_m, dt, self.tau_rise, self.tau_decay)


class Alpha(AbstractExponentialSynapse[RisingState]):
    """The alpha function, 1 at its peak: after a spike of weight w at t = 0

        g = w t / tau exp(1 - t / tau)
        dg/dt = -g / tau + e / tau x,   dx/dt = -x / tau,   x -> x + w at a spike

    Integrated exactly. (The weight is that of NEST's `iaf_psc_alpha`.)

    **Arguments:** `tau`: when it peaks, ms; one number, or one a target.

    **Raises:** `ValueError` if `tau` is not finite and above 0.

    Rall (1967), J. Neurophysiol. 30; Rotter and Diesmann (1999), Biol. Cybern. 81.
    """

    tau: Float[Array, "..."] = eqx.field(converter=as_param)

    def __check_init__(self):
        positive("tau", self.tau)

    def init(self, n, dtype):
        parameters(self, n)
        return RisingState(jnp.zeros(n, dtype), jnp.zeros(n, dtype))

    def flow(self, state, tick):
        return _flow(state, tick.dt, self.tau, self.tau)

    def receive(self, state, add):
        return RisingState(state.g, add(state.x))

    def output(self, state):
        return state.g

    def mean(self, state, tau_m, dt):
        return _mean(state, tau_m, dt, self.tau, self.tau)


def _flow(state, dt, rise, decay):
    dtype = state.g.dtype
    passed = gain(rise, decay) * cascade(jnp.asarray(dt, rise.dtype), 1 / rise, 1 / decay)
    g = jnp.exp(-dt / decay).astype(dtype) * state.g + passed.astype(dtype) * state.x
    return RisingState(g, jnp.exp(-dt / rise).astype(dtype) * state.x)


def _mean(state, tau_m, dt, rise, decay):
    dtype, c = state.g.dtype, gain(rise, decay)
    g = seen(dt, tau_m, decay).astype(dtype) * state.g
    return g + (c * seen(dt, tau_m, rise, decay)).astype(dtype) * state.x

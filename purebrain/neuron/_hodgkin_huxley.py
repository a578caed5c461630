"""The Hodgkin-Huxley neuron of the squid."""

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._check import parameters, positive
from .._core import as_param
from .._init import AbstractDistribution, as_initial, as_initial_or_none, initial
from ..solvers import ExpEuler, x_over_expm1
from ..surrogate import AbstractSpike, SuperSpike
from ._abstract import AbstractNeuron, NeuronState


class HodgkinHuxleyState(NeuronState):
    """`v`: the potential, mV; `m`, `h`, `n`: the gates of the sodium and potassium channel; all
    (n,)."""

    v: Float[Array, " n"]
    m: Float[Array, " n"]
    h: Float[Array, " n"]
    n: Float[Array, " n"]


class HodgkinHuxley(AbstractNeuron):
    """The squid's giant axon at 6.3 degrees C, with potentials as they are written today (rest at
    -65 mV, depolarisation upward):

        c_m dv/dt = g_l (e_l - v) + g_na m^3 h (e_na - v) + g_k n^4 (e_k - v) + I(v)
        dx/dt = alpha_x(v) (1 - x) - beta_x(v) x,   x = m, h, n
        alpha_m = 0.1 (-40 - v) / (exp((-40 - v) / 10) - 1),   beta_m = 4 exp((-65 - v) / 18)
        alpha_h = 0.07 exp((-65 - v) / 20),   beta_h = 1 / (1 + exp((-35 - v) / 10))
        alpha_n = 0.01 (-55 - v) / (exp((-55 - v) / 10) - 1),   beta_n = 0.125 exp((-65 - v) / 80)

    A spike is an upward crossing of v_th; nothing is reset. Everything is of 1 cm^2 of membrane:
    capacitance in uF, conductances in mS, the input I in uA. (Of a whole cell: nF, uS and nA.)

    **Arguments:**

    - `n`: the number of neurons.
    - `c_m`: capacitance, uF/cm^2; `g_l`, `g_na`, `g_k`: conductances, mS/cm^2; `e_l`, `e_na`,
      `e_k`: reversal potentials, mV; `v_th`: where spikes are counted, mV.
    - `v_init`, `m_init`, `h_init`, `n_init`: initial values: a number, an array or a distribution;
      gates by default at the steady state of their potential.
    - `spike`: the spike function of (v - v_th) / v_scale, with `v_scale` in mV.
    - `solver`: a diffrax solver.

    **Raises:** `ValueError` if c_m <= 0.

        >>> import purebrain as pb
        >>> neuron = pb.HodgkinHuxley(1)
        >>> run = pb.simulate(neuron, neuron.init(dt=0.025), 10.0, dt=0.025, duration=100.0)
        >>> int(run.saved.sum())  # spikes
        7

    Hodgkin and Huxley (1952), J. Physiol. 117.
    """

    n: int = eqx.field(static=True)
    c_m: Float[Array, "..."] = eqx.field(converter=as_param, default=1.0)
    g_l: Float[Array, "..."] = eqx.field(converter=as_param, default=0.3)
    g_na: Float[Array, "..."] = eqx.field(converter=as_param, default=120.0)
    g_k: Float[Array, "..."] = eqx.field(converter=as_param, default=36.0)
    e_l: Float[Array, "..."] = eqx.field(converter=as_param, default=-54.387)
    e_na: Float[Array, "..."] = eqx.field(converter=as_param, default=50.0)
    e_k: Float[Array, "..."] = eqx.field(converter=as_param, default=-77.0)
    v_th: Float[Array, "..."] = eqx.field(converter=as_param, default=0.0)
    v_scale: Float[Array, "..."] = eqx.field(converter=as_param, default=20.0)
    v_init: AbstractDistribution | Array = eqx.field(converter=as_initial, default=-65.0)
    m_init: AbstractDistribution | Array | None = eqx.field(
        converter=as_initial_or_none, default=None
    )
    h_init: AbstractDistribution | Array | None = eqx.field(
        converter=as_initial_or_none, default=None
    )
    n_init: AbstractDistribution | Array | None = eqx.field(
        converter=as_initial_or_none, default=None
    )
    spike: AbstractSpike = eqx.field(default_factory=SuperSpike)
    solver: dfx.AbstractSolver = ExpEuler()

    def __check_init__(self):
        parameters(self, self.n)
        positive("c_m", self.c_m, "uF/cm^2")
        positive("v_scale", self.v_scale, "mV")

    def init(self, *, dt, key=None):
        keys = [None] * 4 if key is None else jr.split(key, 4)
        v = initial("v_init", self.v_init, self.n, self.e_l.dtype, keys[0])
        starts = dict(m_init=self.m_init, h_init=self.h_init, n_init=self.n_init)
        gates = [
            initial(name, a / (a + b) if start is None else start, self.n, v.dtype, k)
            for (name, start), (a, b), k in zip(starts.items(), rates(v), keys[1:], strict=True)
        ]
        return HodgkinHuxleyState(v, *gates)

    @property
    def silent_while_held(self) -> bool:
        return True

    def vf(self, t, y, args):
        v, m, h, n = y.v, y.m, y.h, y.n
        sodium = self.g_na * m * m * m * h * (self.e_na - v)
        potassium = self.g_k * (n * n) * (n * n) * (self.e_k - v)
        dv = (self.g_l * (self.e_l - v) + sodium + potassium + args(v)) * (1 / self.c_m)
        gates = [a * (1 - x) - b * x for (a, b), x in zip(rates(v), (m, h, n), strict=True)]
        return HodgkinHuxleyState(dv, *gates)

    def threshold(self, y):
        return (y.v - self.v_th) * (1 / self.v_scale)

    def fire(self, before, after):
        s = self.spike(self.threshold(after))
        below = before.v < self.v_th
        return s & below if s.dtype == bool else jnp.where(below, s, 0)

    def reset(self, y, s):
        return y


def rates(v: Array) -> list[tuple[Array, Array]]:
    """alpha and beta of the gates m, h and n at the potentials `v` (mV), 1/ms."""
    return [
        (x_over_expm1((-40 - v) * 0.1), 4 * jnp.exp((-65 - v) * (1 / 18))),
        (0.07 * jnp.exp((-65 - v) * (1 / 20)), 1 / (1 + jnp.exp((-35 - v) * 0.1))),
        (0.1 * x_over_expm1((-55 - v) * 0.1), 0.125 * jnp.exp((-65 - v) * (1 / 80))),
    ]

"""The Hodgkin-Huxley neuron of Traub and Miles."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._check import parameters, positive
from .._core import as_param
from .._init import AbstractDistribution, as_initial, as_initial_or_none, initial
from ..solvers import ExpEuler, x_over_expm1
from ..surrogate import AbstractSpike, SuperSpike
from ._abstract import AbstractNeuron, NeuronState


class TraubMilesState(NeuronState):
    """`v`: the potential, mV; `m`, `h`, `n`: the gates of the sodium and potassium channel; all
    (n,)."""

    v: Float[Array, " n"]
    m: Float[Array, " n"]
    h: Float[Array, " n"]
    n: Float[Array, " n"]


class TraubMiles(AbstractNeuron):
    """Hodgkin-Huxley with the hippocampal sodium and potassium channels of Traub and Miles:

        c_m dv/dt = g_l (e_l - v) + g_na m^3 h (e_na - v) + g_k n^4 (e_k - v) + I(v)
        dx/dt = alpha_x(u) (1 - x) - beta_x(u) x,   x = m, h, n,   u = v - v_t
        alpha_m = 0.32 (13 - u) / (exp((13 - u) / 4) - 1)
        beta_m = 0.28 (u - 40) / (exp((u - 40) / 5) - 1)
        alpha_h = 0.128 exp((17 - u) / 18),  beta_h = 4 / (1 + exp((40 - u) / 5))
        alpha_n = 0.032 (15 - u) / (exp((15 - u) / 5) - 1)
        beta_n = 0.5 exp((10 - u) / 40)

    A spike is an upward crossing of v_th; nothing is reset. The input I is in pA (conductances in
    nS).

    **Arguments:**

    - `n`: the number of neurons.
    - `c_m`: capacitance, pF; `g_l`, `g_na`, `g_k`: conductances, nS; `e_l`, `e_na`, `e_k`: reversal
      potentials, mV; `v_t`: the shift of the rates, mV; `v_th`: where spikes are counted, mV.
    - `v_init`, `m_init`, `h_init`, `n_init`: initial values: a number, an array or a distribution;
      by default e_l and closed gates (0).
    - `spike`: the spike function of (v - v_th) / v_scale, with `v_scale` in mV.
    - `solver`: a diffrax solver.

    **Raises:** `ValueError` if c_m <= 0.

    Traub and Miles (1991), Neuronal Networks of the Hippocampus; in this form Brette et al. (2007),
    J. Comput. Neurosci. 23, benchmark 3.
    """

    n: int = eqx.field(static=True)
    c_m: Float[Array, "..."] = eqx.field(converter=as_param, default=200.0)
    g_l: Float[Array, "..."] = eqx.field(converter=as_param, default=10.0)
    g_na: Float[Array, "..."] = eqx.field(converter=as_param, default=20_000.0)
    g_k: Float[Array, "..."] = eqx.field(converter=as_param, default=6_000.0)
    e_l: Float[Array, "..."] = eqx.field(converter=as_param, default=-60.0)
    e_na: Float[Array, "..."] = eqx.field(converter=as_param, default=50.0)
    e_k: Float[Array, "..."] = eqx.field(converter=as_param, default=-90.0)
    v_t: Float[Array, "..."] = eqx.field(converter=as_param, default=-63.0)
    v_th: Float[Array, "..."] = eqx.field(converter=as_param, default=-20.0)
    v_scale: Float[Array, "..."] = eqx.field(converter=as_param, default=20.0)
    v_init: AbstractDistribution | Array | None = eqx.field(
        converter=as_initial_or_none, default=None
    )
    m_init: AbstractDistribution | Array = eqx.field(converter=as_initial, default=0.0)
    h_init: AbstractDistribution | Array = eqx.field(converter=as_initial, default=0.0)
    n_init: AbstractDistribution | Array = eqx.field(converter=as_initial, default=0.0)
    spike: AbstractSpike = eqx.field(default_factory=SuperSpike)
    solver: dfx.AbstractSolver = ExpEuler()

    def __check_init__(self):
        parameters(self, self.n)
        positive("c_m", self.c_m, "pF")
        positive("v_scale", self.v_scale, "mV")

    def init(self, *, dt, key=None):
        starts = dict(v_init=self.e_l if self.v_init is None else self.v_init)
        starts |= dict(m_init=self.m_init, h_init=self.h_init, n_init=self.n_init)
        keys = [None] * len(starts) if key is None else jr.split(key, len(starts))
        values = [
            initial(name, start, self.n, self.e_l.dtype, k)
            for (name, start), k in zip(starts.items(), keys, strict=True)
        ]
        return TraubMilesState(*values)

    @property
    def silent_while_held(self) -> bool:
        """A potential that does not move crosses nothing."""
        return True

    def vf(self, t, y, args):
        v, m, h, n = y.v, y.m, y.h, y.n
        u = v - self.v_t
        sodium = self.g_na * m * m * m * h * (self.e_na - v)
        potassium = self.g_k * (n * n) * (n * n) * (self.e_k - v)
        dv = (self.g_l * (self.e_l - v) + sodium + potassium + args(v)) * (1 / self.c_m)
        alpha_m = 1.28 * x_over_expm1((13 - u) * 0.25)
        beta_m = 1.4 * x_over_expm1((u - 40) * 0.2)
        alpha_h = 0.128 * jnp.exp((17 - u) * (1 / 18))
        beta_h = 4 * jax.nn.sigmoid((u - 40) * 0.2)  # the exp alone overflows, and then its slope
        alpha_n = 0.16 * x_over_expm1((15 - u) * 0.2)
        beta_n = 0.5 * jnp.exp((10 - u) * (1 / 40))
        return TraubMilesState(
            dv,
            alpha_m * (1 - m) - beta_m * m,
            alpha_h * (1 - h) - beta_h * h,
            alpha_n * (1 - n) - beta_n * n,
        )

    def threshold(self, y):
        return (y.v - self.v_th) * (1 / self.v_scale)

    def fire(self, before, after):
        s = self.spike(self.threshold(after))
        below = before.v < self.v_th
        return s & below if s.dtype == bool else jnp.where(below, s, 0)

    def reset(self, y, s):
        return y

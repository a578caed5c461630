"""Exact integration of a leaky membrane under synaptic currents."""

from typing import TypeVar

import equinox as eqx
from jaxtyping import Array, Float

from .._check import instance, positive, time_step
from .._core import as_param
from ._abstract import AbstractExponentialSynapse, AbstractLinearSynapse

S = TypeVar("S")


class Averaged(AbstractLinearSynapse[S]):
    """Makes the step of a `LIF` under synaptic currents exact.

    A step takes currents for constant, and a current that decays moves the membrane less (for an
    exponential one by a share of dt / (2 tau)). This gives the membrane the constant that moves it
    just as far: the mean of the current over the step, weighed by exp(-(t + dt - s) / tau_m). With
    `LIF`, `ExpEuler` and the drive `Current()` every potential on the grid is then that of the
    continuous equation, as in NEST's `iaf_psc_exp` and `iaf_psc_alpha`; a threshold is looked at on
    the grid only.

        >>> import purebrain as pb
        >>> syn = pb.Averaged(pb.Alpha(tau=2.0), tau_m=20.0, dt=0.1)
        >>> to = pb.connect.all_to_all(1.5)
        >>> net = pb.Network({"P": pb.PoissonSource(9, 100.0), "N": pb.LIF(3, tau=20.0)},
        ...                  [pb.Projection("P", "N", to, syn, pb.Current(), delay=1.0)])

    **Arguments:** `syn`: `Exponential`, `Alpha` or `BiExponential`, whose state is kept;
    `tau_m`: the time constant of the neurons, ms, one number, or one a target; `dt`: the step that
    it is for, ms.

    **Raises:** `TypeError` for other kinetics, `ValueError` for a `tau_m` or `dt` that is not above
    0, and when run with another `dt`.

    Rotter and Diesmann (1999), Biol. Cybern. 81.
    """

    syn: AbstractExponentialSynapse[S]
    tau_m: Float[Array, "..."]
    dt: float = eqx.field(static=True)

    def __init__(self, syn, tau_m, dt: float):
        instance("syn", syn, AbstractExponentialSynapse)
        self.syn, self.tau_m, self.dt = syn, as_param(tau_m), time_step(dt)
        positive("tau_m", self.tau_m)

    def init(self, n, dtype):
        return self.syn.init(n, dtype)

    def flow(self, state, tick):
        if tick.dt != self.dt:
            raise ValueError(
                f"dt: {tick.dt} ms, but this synapse is averaged over {self.dt} ms; write "
                f"Averaged(syn, tau_m, dt={tick.dt})."
            )
        return self.syn.flow(state, tick)

    def receive(self, state, add):
        return self.syn.receive(state, add)

    def output(self, state):
        return self.syn.mean(state, self.tau_m, self.dt)

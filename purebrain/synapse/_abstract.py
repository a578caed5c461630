"""The interface of synaptic kinetics."""

import abc
from collections.abc import Callable
from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._core import Tick
from ..solvers import cascade, phi_1

S = TypeVar("S")


class AbstractSynapse(eqx.Module, Generic[S]):
    """Kinetics between arriving spikes and the synaptic variable g, for as many synapses as asked.

    A step is `flow` over dt, then `receive`: after it, g is as of the end of the step, spikes that
    arrive then included.
    """

    @abc.abstractmethod
    def init(self, n: int, dtype) -> S:
        """The state of `n` synapses at rest."""

    @abc.abstractmethod
    def flow(self, state: S, tick: Tick) -> S:
        """The state dt later, if nothing arrives."""

    @abc.abstractmethod
    def receive(self, state: S, add: Callable[[Array], Array]) -> S:
        """The state after arrivals; `add(y)` is y plus the weighted spikes, added in place."""

    @abc.abstractmethod
    def output(self, state: S) -> Array:
        """The synaptic variable g, [n]."""


class AbstractLinearSynapse(AbstractSynapse[S]):
    """Kinetics linear and time-invariant in what arrives: the sum over synapses has the same
    kinetics.

    Only these can be aligned with the post-synaptic side and merged.
    """


class AbstractExponentialSynapse(AbstractLinearSynapse[S]):
    """Linear kinetics whose g is, until something arrives, a sum of exponentials: so what it does
    to a leaky membrane is known exactly."""

    @abc.abstractmethod
    def mean(self, state: S, tau_m: Array, dt: float) -> Array:
        """The mean of g over the next dt, each instant weighed by what a membrane of time constant
        `tau_m` keeps of it until the end: the constant that moves the membrane as g does."""


def seen(dt: float, tau_m: Array, *taus: Array) -> Array:
    """That mean, for what decays through `taus` one after the other."""
    step, rate = jnp.asarray(dt, tau_m.dtype), 1 / tau_m
    return cascade(step, rate, *(1 / tau for tau in taus)) / (dt * phi_1(-dt * rate))

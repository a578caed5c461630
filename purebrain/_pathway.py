"""Pathways: what a network makes of projections, each with one synaptic state and one drive."""

import abc
import math
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._check import concrete, step_counts, steps
from ._combine import as_floats
from ._core import Tick
from ._delay import Ring, Sloped
from ._drive import AbstractDrive
from .ops import AbstractOperator, DelayedCSR, Spikes
from .synapse import AbstractLinearSynapse, AbstractSynapse

History = Mapping[str, Ring]
Emitted = Mapping[str, Array | Spikes]


class Span(eqx.Module):
    """The neurons lo to hi - 1 of a population."""

    name: str = eqx.field(static=True)
    lo: int = eqx.field(static=True)
    hi: int = eqx.field(static=True)

    @property
    def n(self) -> int:
        """The number of neurons."""
        return self.hi - self.lo

    def of(self, spikes: Array | Spikes) -> Array | Spikes:
        """These neurons' part of a population's spikes of one step."""
        return spikes[self.lo : self.hi]


class Input(eqx.Module):
    """A connectivity whose synapses share one delay (ms): reads the history of its source.

    Its targets are those of the pathway from the `offset`-th on.
    """

    pre: Span
    comm: AbstractOperator
    delay: float = eqx.field(static=True)
    offset: int = eqx.field(static=True, default=0)

    def age(self, dt: float) -> int:
        """The delay in steps."""
        return steps("delay", self.delay, dt, at_least=1)

    def due(self, history: History, tick: Tick) -> Array | Spikes | Sloped:
        """What of the spikes of the whole population arrives at the end of this step."""
        return history[self.pre.name].read(tick, self.age(tick.dt))

    def init(self, dt: float, dtype) -> tuple[()]:
        """Nothing is under way but the source's history."""
        return ()

    def deliver(self, g: Array, ring, history: History, out: Emitted, tick: Tick):
        """`g` with what is due, and what is under way."""
        s, part = self.due(history, tick), slice(self.offset, self.offset + self.comm.n_post)

        def add(g):
            if isinstance(s, Sloped):
                return self.comm.mv_add_where(g, s.values, s.sloped, self.pre.lo)
            return self.comm.mv_add(g, self.pre.of(s))

        if self.comm.n_post == g.shape[0]:
            return add(g), ring
        return g.at[part].set(add(g[part])), ring


class DelayedInput(eqx.Module):
    """A connectivity with a delay a synapse: keeps a ring of sums under way."""

    pre: Span
    comm: DelayedCSR

    def init(self, dt: float, dtype) -> Array:
        """An empty ring, as long as the longest delay."""
        if concrete(self.comm.delay) is not None:  # else checked when it was: it is no parameter
            step_counts("delay", self.comm.delays(), dt, jnp.int32, at_least=1)
        length = max(1, math.floor(self.comm.max_delay / dt + 0.5))
        return self.comm.ring(length, dtype)

    def deliver(self, g: Array, ring: Array, history: History, out: Emitted, tick: Tick):
        """`g` with what is due, and what is under way."""
        due, ring = self.comm.due(ring, tick.i)
        return g + due, self.comm.send(ring, self.pre.of(out[self.pre.name]), tick.i, tick.dt)


class AbstractPathway(eqx.Module):
    """One synaptic state, and how it drives the neurons of `post`."""

    inputs: eqx.AbstractVar[tuple[Input | DelayedInput, ...]]
    post: eqx.AbstractVar[Span]
    syn: eqx.AbstractVar[AbstractSynapse]
    drive: eqx.AbstractVar[AbstractDrive]

    @abc.abstractmethod
    def init(self, dt: float) -> tuple[PyTree, tuple]:
        """The synaptic state at rest, and nothing under way."""

    @abc.abstractmethod
    def conductance(self, state: PyTree) -> Array:
        """The synaptic variable of each neuron of `post`."""

    @abc.abstractmethod
    def deliver(
        self, state: PyTree, rings: tuple, history: History, out: Emitted, tick: Tick
    ) -> tuple[PyTree, tuple]:
        """The synaptic state at the end of the step, and what is under way then."""


class PostPathway(AbstractPathway):
    """Linear kinetics, a state a target: any number of inputs share it (AlignPost)."""

    inputs: tuple[Input | DelayedInput, ...]
    post: Span
    syn: AbstractLinearSynapse
    drive: AbstractDrive

    def init(self, dt):
        dtype = jnp.result_type(*(i.comm.dtype for i in self.inputs))
        return self.syn.init(self.post.n, dtype), tuple(i.init(dt, dtype) for i in self.inputs)

    def conductance(self, state):
        return self.syn.output(state)

    def deliver(self, state, rings, history, out, tick):
        new = []

        def add(g):
            for inp, ring in zip(self.inputs, rings, strict=True):
                g, ring = inp.deliver(g, ring, history, out, tick)
                new.append(ring)
            return g

        return self.syn.receive(self.syn.flow(state, tick), add), tuple(new)


class PrePathway(AbstractPathway):
    """Any kinetics, a state a source, and a full product at each step (AlignPre)."""

    inputs: tuple[Input]
    post: Span
    syn: AbstractSynapse
    drive: AbstractDrive

    def init(self, dt):
        (inp,) = self.inputs
        dtype = inp.comm.dtype
        return self.syn.init(inp.pre.n, dtype), (inp.init(dt, dtype),)

    def conductance(self, state):
        return self.inputs[0].comm.mv(self.syn.output(state))

    def deliver(self, state, rings, history, out, tick):
        (inp,) = self.inputs
        s = inp.due(history, tick)
        s = inp.pre.of(s.values if isinstance(s, Sloped) else s)
        state = self.syn.flow(state, tick)
        return self.syn.receive(state, lambda g: g + as_floats(s, g.dtype)), rings


def history_lengths(pathways: tuple[AbstractPathway, ...], dt: float) -> dict[str, int]:
    """How many steps of each population's spikes are to be kept."""
    longest: dict[str, int] = {}
    for path in pathways:
        for inp in path.inputs:
            if isinstance(inp, Input):
                longest[inp.pre.name] = max(inp.age(dt), longest.get(inp.pre.name, 0))
    return longest

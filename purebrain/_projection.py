"""Projections: what a user writes, and the pathway that a network makes of it."""

import operator
from collections.abc import Callable, Mapping

import equinox as eqx
import numpy as np
from jaxtyping import Array, PyTree

from ._combine import as_floats, check_linear
from ._core import Tick
from ._delay import Ring
from ._drive import AbstractDrive
from .ops import CSR, AbstractOperator, DelayedCSR, Spikes
from .synapse import AbstractSynapse


class View(eqx.Module):
    """The neurons lo to hi - 1 of a population: `View("E")[:3200]`, or all of them: `View("E")`."""

    name: str = eqx.field(static=True)
    lo: int = eqx.field(static=True, default=0)
    hi: int | None = eqx.field(static=True, default=None)

    def __getitem__(self, index: slice) -> "View":
        if not isinstance(index, slice) or index.step not in (None, 1):
            raise TypeError(
                f"View({self.name!r})[{index}]: a view is a slice without stride, [lo:hi]."
            )
        if (self.lo, self.hi) != (0, None):
            raise TypeError(
                f"View({self.name!r}) is a slice already; write View({self.name!r})[lo:hi]."
            )
        stop = None if index.stop is None else operator.index(index.stop)
        return View(self.name, operator.index(index.start or 0), stop)

    @property
    def n(self) -> int:
        """The number of neurons (of a view whose population is known)."""
        assert self.hi is not None
        return self.hi - self.lo

    def within(self, sizes: Mapping[str, int], role: str) -> "View":
        """The view with its end known."""
        if self.name not in sizes:
            raise KeyError(f"{role}: unknown population {self.name!r}; there are {sorted(sizes)}.")
        n = sizes[self.name]
        hi = n if self.hi is None else self.hi
        if not 0 <= self.lo <= hi <= n:
            raise ValueError(
                f"{role}: View({self.name!r})[{self.lo}:{hi}], but the population has {n} neurons; "
                f"bounds must ascend within [0, {n}]."
            )
        return View(self.name, self.lo, hi)


class AtPre(eqx.Module):
    """Asks a projection to keep its synaptic state on the pre-synaptic side, as any kinetics
    can."""

    syn: AbstractSynapse


class Projection(eqx.Module):
    """Synapses from one population, or a view of it, to another.

    **Arguments:**

    - `pre`, `post`: names, or views such as `View("N")[:3200]`.
    - `comm`: the connectivity: a rule of `purebrain.connect`, which is given the sizes, or an
      operator.
    - `syn`: the kinetics, such as `Exponential(tau=5.0)`. Linear kinetics are kept on the
      post-synaptic side; `AtPre(kinetics)` keeps any on the pre-synaptic side.
    - `drive`: how they drive the membrane: `Current()`, `COBA(e_rev)`, `MgBlock(...)`.
    - `delay`: ms, a multiple of dt, at least one dt; one number, or one a synapse (in the order of
      the CSR operator `comm`).

    **Raises:** `TypeError` if `syn` is not linear and not `AtPre`.
    """

    pre: View
    post: View
    comm: AbstractOperator | Callable
    syn: AbstractSynapse | AtPre
    drive: AbstractDrive
    delay: float | np.ndarray = eqx.field(static=True)

    def __init__(self, pre, post, comm, syn, drive, delay):
        self.pre = View(pre) if isinstance(pre, str) else pre
        self.post = View(post) if isinstance(post, str) else post
        if not isinstance(syn, AtPre):
            check_linear(syn)
        self.comm, self.syn, self.drive = comm, syn, drive
        self.delay = delay if np.ndim(delay) else float(delay)


class Input(eqx.Module):
    """One source of a pathway: a view, a connectivity, and a delay (ms; None where the connectivity
    has it)."""

    pre: View
    comm: AbstractOperator | DelayedCSR
    delay: float | None = eqx.field(static=True)


class Pathway(eqx.Module):
    """Inputs that share one synaptic state and one drive."""

    inputs: tuple[Input, ...]
    post: View
    syn: AbstractSynapse | AtPre
    drive: AbstractDrive

    @property
    def n_state(self) -> int:
        """How many synaptic variables there are."""
        return self.inputs[0].pre.n if isinstance(self.syn, AtPre) else self.post.n

    @property
    def kinetics(self) -> AbstractSynapse:
        """The synapse, on whichever side."""
        return self.syn.syn if isinstance(self.syn, AtPre) else self.syn

    def conductance(self, state: PyTree) -> Array:
        """The synaptic variable of each target."""
        g = self.kinetics.output(state)
        return self.inputs[0].comm.mv(g) if isinstance(self.syn, AtPre) else g

    def deliver(
        self,
        state: PyTree,
        arrivals: tuple[Array | None, ...],
        history: Mapping[str, Ring],
        out: Mapping[str, Array | Spikes],
        tick: Tick,
    ) -> tuple[PyTree, tuple[Array | None, ...]]:
        """The synaptic state a step later, with the spikes that are due."""
        state = self.kinetics.flow(state, tick)
        rings = []

        def add(g):
            for inp, ring in zip(self.inputs, arrivals, strict=True):
                view = slice(inp.pre.lo, inp.pre.hi)
                if inp.delay is not None:
                    age = int(np.floor(inp.delay / tick.dt + 0.5))
                    s = history[inp.pre.name].read(tick, age)[view]
                    g = (
                        g + as_floats(s, g.dtype)
                        if isinstance(self.syn, AtPre)
                        else inp.comm.mv_add(g, s)
                    )
                else:
                    due, ring = inp.comm.due(ring, tick.i)
                    g = g + due
                    ring = inp.comm.send(ring, out[inp.pre.name][view], tick.i, tick.dt)
                rings.append(ring)
            return g

        state = self.kinetics.receive(state, add)
        return state, tuple(rings)


def resolve(projection: Projection | Pathway, sizes: Mapping[str, int]) -> Pathway:
    """The pathway of a projection, once the sizes of the populations are known."""
    if isinstance(projection, Pathway):
        return projection
    pre, post = projection.pre.within(sizes, "pre"), projection.post.within(sizes, "post")
    comm = projection.comm
    if not isinstance(comm, AbstractOperator):
        comm = comm(pre.n, post.n, same=pre == post)
    if comm.shape != (pre.n, post.n):
        raise ValueError(
            f"comm: {type(comm).__name__} of shape {comm.shape}, but the projection from "
            f"{pre.name!r} to {post.name!r} is {(pre.n, post.n)}."
        )
    delay = projection.delay
    if isinstance(delay, np.ndarray):
        if not isinstance(comm, CSR):
            raise TypeError(
                f"delay: one a synapse, but comm is {type(comm).__name__}; that needs an ops.CSR."
            )
        comm, delay = DelayedCSR(comm, delay), None
    return Pathway((Input(pre, comm, delay),), post, projection.syn, projection.drive)

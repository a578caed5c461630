"""Projections: what a user writes, and the pathway that a network makes of it."""

import operator
from collections.abc import Callable, Mapping

import equinox as eqx
import numpy as np

from ._check import instance, number
from ._combine import check_linear
from ._drive import AbstractDrive
from ._pathway import AbstractPathway, DelayedInput, Input, PostPathway, PrePathway, Span
from .ops import CSR, AbstractOperator, DelayedCSR
from .synapse import AbstractLinearSynapse, AbstractSynapse


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

    def within(self, sizes: Mapping[str, int], role: str) -> "Span":
        """The view of a population whose size is known."""
        if self.name not in sizes:
            raise KeyError(f"{role}: unknown population {self.name!r}; there are {sorted(sizes)}.")
        n = sizes[self.name]
        hi = n if self.hi is None else self.hi
        if not 0 <= self.lo <= hi <= n:
            raise ValueError(
                f"{role}: View({self.name!r})[{self.lo}:{hi}], but the population has {n} neurons; "
                f"bounds must ascend within [0, {n}]."
            )
        return Span(self.name, self.lo, hi)


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
    syn: AbstractLinearSynapse | AtPre
    drive: AbstractDrive
    delay: float | np.ndarray

    def __init__(self, pre, post, comm, syn, drive, delay):
        self.pre = View(pre) if isinstance(pre, str) else pre
        self.post = View(post) if isinstance(post, str) else post
        instance("pre", self.pre, View)
        instance("post", self.post, View)
        instance("comm", comm, AbstractOperator, Callable)
        instance("drive", drive, AbstractDrive)
        if not isinstance(syn, AtPre):
            check_linear(syn)
        self.comm, self.syn, self.drive = comm, syn, drive
        self.delay = np.asarray(delay) if np.ndim(delay) else number("delay", delay)


def resolve(projection: Projection | AbstractPathway, sizes: Mapping[str, int]) -> AbstractPathway:
    """The pathway of a projection, once the sizes of the populations are known."""
    if isinstance(projection, AbstractPathway):
        return projection
    instance("projections", projection, Projection)
    pre, post = projection.pre.within(sizes, "pre"), projection.post.within(sizes, "post")
    comm, syn, drive = projection.comm, projection.syn, projection.drive
    if not isinstance(comm, AbstractOperator):
        comm = comm(pre.n, post.n, same=pre == post)
    if comm.shape != (pre.n, post.n):
        raise ValueError(
            f"comm: {type(comm).__name__} of shape {comm.shape}, but the projection from "
            f"{pre.name!r} to {post.name!r} is {(pre.n, post.n)}."
        )
    delay = projection.delay
    if isinstance(delay, float):
        inp = Input(pre, comm, delay)
        if isinstance(syn, AtPre):
            return PrePathway((inp,), post, syn.syn, drive)
        return PostPathway((inp,), post, syn, drive)
    comm = projection.comm  # not one that a rule draws: its order is not known before
    if isinstance(syn, AtPre) or not isinstance(comm, CSR):
        raise TypeError(
            f"delay: one a synapse needs an ops.CSR and linear kinetics, but comm is "
            f"{type(comm).__name__} and syn is {type(syn).__name__}; or give one delay, delay=1.0."
        )
    return PostPathway((DelayedInput(pre, DelayedCSR(comm, delay)),), post, syn, drive)

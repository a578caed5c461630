"""Combinators: dynamics from dynamics."""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from ._core import AbstractDynamics, split
from .ops import AbstractOperator
from .synapse import AbstractLinearSynapse, AbstractSynapse


class Stateless(AbstractDynamics):
    """A function as dynamics without a state: an `eqx.nn` layer, an operator's `mv`,
    `jax.nn.relu`."""

    fn: Callable

    def init(self, *, dt, key=None):
        return ()

    def step(self, state, x, tick):
        return (), self.fn(x)


class Chain(AbstractDynamics):
    """One after the other within a step: the output of each is the input of the next.

    **Arguments:** `parts`: dynamics.
    """

    parts: tuple[AbstractDynamics, ...]

    def __init__(self, *parts: AbstractDynamics):
        self.parts = parts

    def init(self, *, dt, key=None):
        return tuple(p.init(dt=dt, key=split(key, n)) for n, p in enumerate(self.parts))

    def step(self, state, x, tick):
        new = []
        for n, (part, s) in enumerate(zip(self.parts, state, strict=True)):
            s, x = part.step(s, x, tick.fold(n))
            new.append(s)
        return tuple(new), x


class Sum(AbstractDynamics):
    """Side by side: a tuple of inputs, one a part, and the sum of their outputs.

    **Arguments:** `parts`: dynamics with outputs of one shape.
    """

    parts: tuple[AbstractDynamics, ...]

    def __init__(self, *parts: AbstractDynamics):
        if not parts:
            raise ValueError("parts: none; write Sum(a, b, ...).")
        self.parts = parts

    def init(self, *, dt, key=None):
        return tuple(p.init(dt=dt, key=split(key, n)) for n, p in enumerate(self.parts))

    def step(self, state, x, tick):
        check_count(x, self.parts)
        steps = [
            part.step(s, x_n, tick.fold(n))
            for n, (part, s, x_n) in enumerate(zip(self.parts, state, x, strict=True))
        ]
        total = reduce(lambda a, b: jtu.tree_map(jnp.add, a, b), [y for _, y in steps])
        return tuple(s for s, _ in steps), total


class AlignPre(AbstractDynamics):
    """A synapse whose state has the shape of the pre-synaptic side, then the connectivity.

    Any synapse can be aligned so; one state a pre-synaptic neuron, and a full product a step.

    **Arguments:** `syn`: the kinetics; `comm`: the connectivity.
    """

    syn: AbstractSynapse
    comm: AbstractOperator

    def init(self, *, dt, key=None):
        return self.syn.init(self.comm.n_pre, self.comm.dtype)

    def step(self, state, x, tick):
        state = self.syn.receive(self.syn.flow(state, tick), lambda g: g + as_floats(x, g.dtype))
        return state, self.comm.mv(self.syn.output(state))


class AlignPost(AbstractDynamics):
    """The connectivity, then a synapse whose state has the shape of the post-synaptic side.

    One state a target however many synapses, and a product over spikes only: for linear
    time-invariant kinetics the same as `AlignPre`, and refused for any other.

    **Arguments:** `comm`: the connectivity, or a tuple of them, whose sum the synapse receives
    (then the input is a tuple too); `syn`: linear kinetics.

    **Raises:** `TypeError` if `syn` is not linear.

    Lundqvist, Rehn, Djurfeldt, Lansner (2006), Network 17; the name after Wang et al. (2024), ICLR.
    """

    comm: tuple[AbstractOperator, ...]
    syn: AbstractLinearSynapse

    def __init__(self, comm: AbstractOperator | tuple[AbstractOperator, ...], syn):
        check_linear(syn)
        self.comm = comm if isinstance(comm, tuple) else (comm,)
        if len({c.n_post for c in self.comm}) != 1:
            raise ValueError(
                f"comm: of shapes {[c.shape for c in self.comm]}; one or more are needed, with one "
                f"number of post-synaptic neurons."
            )
        self.syn = syn

    def init(self, *, dt, key=None):
        return self.syn.init(self.comm[0].n_post, self.comm[0].dtype)

    def step(self, state, x, tick):
        inputs = x if isinstance(x, tuple) else (x,)
        check_count(inputs, self.comm)

        def add(g):
            for comm, s in zip(self.comm, inputs, strict=True):
                g = comm.mv_add(g, s)
            return g

        state = self.syn.receive(self.syn.flow(state, tick), add)
        return state, self.syn.output(state)


def check_count(x, parts) -> None:
    """Refuses a tuple of inputs that is not one for each part."""
    if not isinstance(x, tuple) or len(x) != len(parts):
        got = f"{len(x)} inputs" if isinstance(x, tuple) else type(x).__name__
        raise ValueError(f"x: {got} for {len(parts)} parts; it must be a tuple, one for each.")


def check_linear(syn) -> None:
    """Refuses kinetics that may not be summed over synapses."""
    if not isinstance(syn, AbstractLinearSynapse):
        raise TypeError(
            f"syn: {type(syn).__name__} is not linear, so its sum over synapses has no state of "
            "its own. Keep it on the pre-synaptic side: AlignPre(syn, comm), or AtPre(syn) in a "
            "Projection."
        )


def as_floats(s, dtype) -> jax.Array:
    """Spikes of any kind as floats."""
    dense = s.to_dense() if hasattr(s, "to_dense") else s
    return dense.astype(dtype)

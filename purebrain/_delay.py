"""Delays, counted in whole steps on a ring that the shared clock indexes.

The slot of step i is i modulo the ring's length. Being the clock's and not the state's, the index
is never batched: under `vmap` a delay stays one dynamic slice, where a pointer in the state would
become a gather and a scatter.
"""

from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from ._check import steps
from ._core import AbstractDynamics, Tick, X, Y
from .ops import Spikes, after, materialize, pack

S = TypeVar("S")


class Ring(eqx.Module):
    """The last `length` values of a pytree, by step."""

    slots: PyTree[Array]
    length: int = eqx.field(static=True)

    def read(self, tick: Tick, age: int) -> PyTree[Array]:
        """What was written `age` steps ago (1 to `length`), before this step writes."""
        if self.length == 1:
            return jtu.tree_map(lambda a: a[0], self.slots)
        length = jnp.asarray(self.length, tick.i.dtype)
        # Reduced first: the sum with a step near the end of the clock would overflow.
        slot = lax.rem(lax.rem(tick.i, length) + (self.length - age), length)

        def pick(a):
            return lax.dynamic_index_in_dim(a, slot, keepdims=False, allow_negative_indices=False)

        return jtu.tree_map(pick, self.slots)

    def write(self, tick: Tick, value: PyTree[Array]) -> "Ring":
        """The ring after this step's value."""
        slot = lax.rem(tick.i, jnp.asarray(self.length, tick.i.dtype))

        def put(a, x):
            if (x.shape, x.dtype) != (a.shape[1:], a.dtype):
                raise ValueError(
                    f"x: {x.dtype}{list(x.shape)} into a delay of {a.dtype}{list(a.shape[1:])}; "
                    f"write Delayed(..., like=x)."
                )
            return lax.dynamic_update_index_in_dim(a, x, slot, 0, allow_negative_indices=False)

        return Ring(jtu.tree_map(put, self.slots, value), self.length)


def ring_of(length: int, like: PyTree) -> Ring:
    """A ring of zeros for values like `like` (arrays or their shapes and dtypes), which may have a
    derivative all of them."""

    def slots(a):
        zeros = jtu.tree_map(lambda a: jnp.zeros((length, *a.shape), a.dtype), a)
        return Sloped(zeros.values, ~zeros.sloped) if isinstance(a, Sloped) else zeros

    return Ring(jtu.tree_map(slots, like, is_leaf=lambda a: isinstance(a, Sloped)), length)


class Sloped(eqx.Module):
    """Spikes that are floats and, but at `sloped`, 0 without a derivative."""

    values: Float[Array, "*slots n"]
    sloped: Bool[Array, "*slots n"]


def emitted(spikes: Array) -> Array | Spikes:
    """Spikes as they are recorded: booleans as bits, floats as they are."""
    return pack(spikes) if spikes.dtype == bool else spikes


def under_way(spikes: Array | Spikes, sloped: Bool[Array, " n"] | None) -> Array | Spikes | Sloped:
    """Spikes as they are kept until they arrive; `sloped`: as of `AbstractPopulation`."""
    if sloped is None or isinstance(spikes, Spikes):
        return spikes
    return Sloped(spikes, sloped | (spikes != 0))


class Delayed(AbstractDynamics[tuple[Ring | None, S], X, Y], Generic[S, X, Y]):
    """Dynamics, fed what came in `delay` ms ago (zeros before the first).

    `Delayed(m, 0)` is m, and `Delayed(Delayed(m, a), b)` is `Delayed(m, a + b)`.

    **Arguments:** `part`: the dynamics; `delay`: ms, a multiple of dt; `like`: an input of `part`,
    or its shapes and dtypes (`jax.ShapeDtypeStruct`).

    **Raises:** `ValueError` (in `init`) where `delay` is negative or not a multiple of dt.
    """

    part: AbstractDynamics[S, X, Y]
    delay: float = eqx.field(static=True)
    like: PyTree[jax.ShapeDtypeStruct]

    def __init__(self, part, delay: float, like):
        self.part, self.delay = part, delay
        self.like = jtu.tree_map(
            lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), like
        )

    def init(self, *, dt, key=None):
        age = steps("delay", self.delay, dt)
        return ring_of(age, self.like) if age else None, self.part.init(dt=dt, key=key)

    def step(self, state, x, tick):
        ring, part = state
        if ring is not None:
            due = jtu.tree_map(materialize, ring.read(tick, ring.length))
            # Written after it is read, or the whole ring would be copied at every step.
            ring, x = ring.write(tick, jtu.tree_map(after, x, due)), due
        part, y = self.part.step(part, x, tick)
        return (ring, part), y

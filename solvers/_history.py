"""The past of a delay equation: a function before t0, and a ring of the steps since."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Int, PyTree


class Past:
    """What a delay equation's vector field sees of the past.

    `past[k]` is y(t - tau_k), tau_k being the k-th delay, and `past.derivative(k)` is y'(t -
    tau_k), the derivative of the dense output (or of the history). Each is computed when it is
    asked for.
    """

    def __init__(self, at: Callable[[int, bool], Any], n: int):
        self._at, self._n = at, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, k: int) -> PyTree[Array]:
        return self._at(self._checked(k), False)

    def derivative(self, k: int) -> PyTree[Array]:
        return self._at(self._checked(k), True)

    def _checked(self, k):
        if not -self._n <= k < self._n:
            raise IndexError(f"past[{k}]: there are {self._n} delays.")
        return k % self._n


class Segments(eqx.Module):
    """The dense output of some successive steps; that of step j is in slot j modulo their number.

    What is not written yet reads as zeros.
    """

    infos: PyTree[Array]
    length: int = eqx.field(static=True)

    @classmethod
    def like(cls, info: PyTree, length: int) -> "Segments":
        return cls(jtu.tree_map(lambda a: jnp.zeros((length, *a.shape), a.dtype), info), length)

    def read(self, j: Int[Array, ""]) -> PyTree[Array]:
        slot = jnp.mod(j, self.length)
        return jtu.tree_map(lambda a: lax.dynamic_index_in_dim(a, slot, keepdims=False), self.infos)

    def write(self, j: Int[Array, ""], info: PyTree) -> "Segments":
        slot = jnp.mod(j, self.length)
        put = lax.dynamic_update_index_in_dim
        infos = jtu.tree_map(lambda a, x: put(a, x, slot, 0), self.infos, info)
        return Segments(infos, self.length)

    def two(self, j: Int[Array, ""]) -> "Segments":
        """Those of steps j and j + 1 alone."""
        pair = self.read(j), self.read(j + 1)
        infos = jtu.tree_map(lambda *a: jnp.stack(a), *pair)
        # In their slots, for j may be odd.
        return Segments(jtu.tree_map(lambda a: jnp.where(j % 2 == 0, a, a[::-1]), infos), 2)


def split(c, delay):
    """Where c - delay (both in steps) lies: the whole number below it, and the rest in [0, 1].

    A delay of a whole number of steps maps a step onto one step, its ends too: there the past may
    have a kink, and the stages at either end of a step must see it from their own side.
    """
    whole = jnp.round(delay)
    on_grid = jnp.abs(delay - whole) <= 16 * jnp.finfo(delay.dtype).eps * (1 + delay)
    below = jnp.minimum(jnp.where(on_grid, -whole, jnp.floor(c - delay)), -1)
    return below.astype(jnp.int32), c - delay - below


def evaluate(
    solver: dfx.AbstractSolver,
    segments: Segments,
    history: Callable,
    time: Callable,
    i: Int[Array, ""],
    c,
    delay,
    width,
    derivative: bool,
) -> PyTree[Array]:
    """y or y' at the time c - delay steps after the start of step i."""
    below, rest = split(c, delay)
    j = i + below
    path: Any = solver.interpolation_cls(t0=jnp.zeros_like(width), t1=width, **segments.read(j))
    before = time(jnp.minimum(j.astype(rest.dtype) + rest, 0))
    if derivative:
        late = path.derivative(rest * width)
        early = jax.jvp(history, (before,), (jnp.ones_like(before),))[1]
    else:
        late, early = path.evaluate(rest * width), history(before)
    return jtu.tree_map(lambda a, b: jnp.where(j < 0, a, b), early, late)

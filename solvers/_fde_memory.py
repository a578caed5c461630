"""The memory of a fractional derivative: a ring of past values, summed with weights by age."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Int, PyTree


class Memory(eqx.Module):
    """The last `length` values of a pytree by step, and the weight of each by its age.

    What is not written yet counts as 0, so that a memory as long as the run is a full one.
    """

    slots: PyTree[Array]
    weights: PyTree[Array]
    length: int = eqx.field(static=True)

    def write(self, j: Int[Array, ""], value: PyTree[Array]) -> "Memory":
        slot = jnp.mod(j, self.length)

        def put(a, x):
            return lax.dynamic_update_index_in_dim(a, x, slot, 0)

        slots = jtu.tree_map(put, self.slots, value)
        return Memory(slots, self.weights, self.length)

    def sum(self, j: Int[Array, ""]) -> PyTree[Array]:
        """The sum of weights[age] * (value of step j - age) over the ages."""
        first = self.length - 1 - jnp.mod(j, self.length)

        def weighted(twice, a):
            by_slot = lax.dynamic_slice_in_dim(twice, first, self.length)
            if by_slot.ndim < a.ndim:
                return jnp.tensordot(by_slot, a, 1, precision=lax.Precision.HIGHEST)
            return (by_slot * a).sum(0)

        return jtu.tree_map(weighted, self.weights, self.slots)


def memory_of(weights: Callable, alpha: PyTree[Array], like: PyTree[Array], length: int) -> Memory:
    """An empty memory for values like `like`; `weights(alpha, ages)` for each leaf."""

    def by_age(a):
        ages = jnp.arange(length).astype(a.dtype)
        w = weights(a[None] if a.ndim else a, ages.reshape(-1, *[1] * a.ndim))
        # Twice, from old to young: every rotation of the ring is one slice.
        return jnp.concatenate([w[::-1], w[::-1]])

    slots = jtu.tree_map(lambda a: jnp.zeros((length, *a.shape), a.dtype), like)
    return Memory(slots, jtu.tree_map(by_age, alpha), length)


def gamma(x):
    """The gamma function for x > 0, and 1 at 1 and 2 to the last digit."""
    rough = jax.scipy.special.gamma(x)
    return rough + lax.stop_gradient(jnp.where((x == 1) | (x == 2), 1 - rough, 0))


def difference(k, power):
    """(k + 1)^power - k^power for k = 0, 1, ...: 1 for k = 0, and no digits lost for large k."""
    late = jnp.maximum(k, 1)
    rest = late**power * jnp.expm1(power * jnp.log1p(1 / late))
    return jnp.where(k == 0, 1, rest)

"""Fixed out-degree: every pre-synaptic neuron has the same number of synapses (ELL)."""

from collections.abc import Hashable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from . import gpu, native, tpu
from ._check import (
    as_weight,
    check_ids,
    check_size,
    check_values,
    checked_events,
    checked_values,
    gather,
    scatter,
    scatter_where,
)
from ._family import Layout, family
from ._operator import AbstractOperator
from .cpu import _fixed_outdegree as cpu
from .xla import _fixed_outdegree as xla

FAMILY = family(
    "fixed_outdegree",
    xla.KERNELS,
    cpu=native.preferred(native.FIXED_OUTDEGREE, cpu.KERNELS),
    cuda=gpu.fixed_outdegree,
    tpu=tpu.fixed_outdegree,
)


class FixedOutdegree(AbstractOperator):
    """K synapses from each neuron: W_ij = sum over k with indices[i, k] = j of weight[i, k].

    **Arguments:**

    - `weight`: one number for all synapses, or shape (n_pre, K).
    - `indices`: target ids, whole numbers in [0, n_post), shape (n_pre, K). A target may stand
      twice.
    - `n_post`: the number of post-synaptic neurons.

    **Raises:** `ValueError` or `TypeError` for ids out of range or not whole, a weight of another
    shape, and weights that are not finite.

        >>> import jax.numpy as jnp
        >>> op = FixedOutdegree(0.5, jnp.array([[0, 2], [2, 2]]), n_post=3)
        >>> op.mv(jnp.array([True, True])).tolist()
        [0.5, 0.0, 1.5]
    """

    weight: Float[Array, ""] | Float[Array, "n_pre k"]
    indices: Int32[Array, "n_pre k"]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    tuning: Hashable = eqx.field(static=True, default=None)

    def __init__(self, weight, indices, n_post: int):
        self.n_post = check_size("n_post", n_post)
        self.indices = check_ids("indices", indices, self.n_post)
        if self.indices.ndim != 2:
            raise ValueError(f"indices: shape {self.indices.shape}; it must be (n_pre, K).")
        self.n_pre = self.indices.shape[0]
        self.weight = as_weight(weight)
        if self.weight.shape not in ((), self.indices.shape):
            raise ValueError(
                f"weight: shape {self.weight.shape}; it must be one number, or one a synapse, "
                f"{self.indices.shape}."
            )

    @property
    def layout(self) -> Layout:
        """What the kernels need to know at compile time."""
        return Layout(self.n_pre, self.n_post, self.weight.shape, tuning=self.tuning)

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        return scatter(FAMILY, self.layout, y, s, self.weight.astype(y.dtype), self.indices)

    def mv_add_where(self, y, s, where, lo=0):
        check_values("y", y, self.n_post)
        weight = self.weight.astype(y.dtype)
        return scatter_where(FAMILY, self.layout, y, s, where, lo, weight, self.indices)

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return gather(FAMILY, self.layout, self.weight.astype(x.dtype), x, self.indices)

    def as_matrix(self):
        rows = jnp.arange(self.n_pre)[:, None]
        zeros = jnp.zeros((self.n_pre, self.n_post), self.weight.dtype)
        return zeros.at[rows, self.indices].add(self.weight)

    def as_coo(self):
        targets = np.asarray(self.indices)
        pre = np.repeat(np.arange(self.n_pre, dtype=np.int32), targets.shape[1])
        return pre, targets.reshape(-1), self.weight.reshape(-1 if self.weight.ndim else ())

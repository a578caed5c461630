"""Fixed in-degree: every post-synaptic neuron has the same number of synapses."""

from collections.abc import Hashable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from . import gpu, native, tpu
from ._check import (
    as_numbers,
    as_weight,
    check_ids,
    check_size,
    check_values,
    checked_events,
    checked_values,
    concrete,
    gather,
    scatter,
)
from ._csr import check_count, slice_width
from ._family import Layout, family
from ._operator import AbstractOperator
from .cpu import _fixed_indegree as cpu
from .cpu._csr import Rows
from .xla import _fixed_indegree as xla

FAMILY = family(
    "fixed_indegree",
    xla.KERNELS,
    cpu=native.preferred(native.FIXED_INDEGREE, cpu.KERNELS),
    cuda=gpu.fixed_indegree,
    tpu=tpu.fixed_indegree,
)


class FixedIndegree(AbstractOperator):
    """K synapses to each neuron: W_ij = sum over k with indices[j, k] = i of weight[j, k].

    Weights lie by target, so that a target's own (for plasticity, or normalisation) are a row. Few
    spikes are walked over; many are summed target by target, always in one order.

    **Arguments:**

    - `weight`: one number for all synapses, or shape (n_post, K).
    - `indices`: source ids, whole numbers in [0, n_pre), shape (n_post, K). A source may stand
      twice.
    - `n_pre`: the number of pre-synaptic neurons.

    **Raises:** `ValueError` or `TypeError` for ids out of range, not whole or traced, a weight of
    another shape, and weights that are not finite.

        >>> import jax.numpy as jnp
        >>> op = FixedIndegree(0.5, jnp.array([[0, 2], [2, 2]]), n_pre=3)
        >>> op.mv(jnp.array([True, False, True])).tolist()
        [1.0, 1.0]
    """

    weight: Float[Array, ""] | Float[Array, "n_post k"]
    indices: Int32[Array, "n_post k"]
    indptr: Int32[Array, " n_pre_plus_1"]
    order: Int32[Array, " n_synapses"]  # where the synapses of each source lie
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    rows: Rows = eqx.field(static=True)
    tuning: Hashable = eqx.field(static=True, default=None)

    def __init__(self, weight, indices, n_pre: int):
        self.n_pre = check_size("n_pre", n_pre)
        host = concrete(as_numbers("indices", indices))
        if host is None:
            raise TypeError("indices: traced; the synapses are sorted on the host, outside jit.")
        check_count(host.size)
        self.indices = check_ids("indices", host, self.n_pre)
        if host.ndim != 2:
            raise ValueError(f"indices: shape {host.shape}; it must be (n_post, K).")
        self.n_post, indegree = host.shape
        self.weight = as_weight(weight)
        if self.weight.shape not in ((), host.shape):
            raise ValueError(
                f"weight: shape {self.weight.shape}; it must be one number, or one a synapse, "
                f"{host.shape}."
            )
        flat = host.reshape(-1)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=self.n_pre))])
        self.order = jnp.asarray(np.argsort(flat, kind="stable"), jnp.int32)
        self.indptr = jnp.asarray(indptr, jnp.int32)
        width, one_slice = slice_width(indptr, flat.size)
        self.rows = Rows(flat.size, width, one_slice, indegree=max(indegree, 1))

    @property
    def layout(self) -> Layout:
        """What the kernels need to know at compile time."""
        return Layout(
            self.n_pre, self.n_post, self.weight.shape, form=self.rows, tuning=self.tuning
        )

    @property
    def _structure(self):
        return self.indices, self.indptr, self.order

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        return scatter(FAMILY, self.layout, y, s, self.weight.astype(y.dtype), *self._structure)

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return gather(FAMILY, self.layout, self.weight.astype(x.dtype), x, *self._structure)

    def as_matrix(self):
        columns = jnp.arange(self.n_post)[:, None]
        zeros = jnp.zeros((self.n_pre, self.n_post), self.weight.dtype)
        return zeros.at[self.indices, columns].add(self.weight)

    def as_coo(self):
        sources = np.asarray(self.indices)
        post = np.repeat(np.arange(self.n_post, dtype=np.int32), sources.shape[1])
        return sources.reshape(-1), post, self.weight.reshape(-1 if self.weight.ndim else ())

"""Compressed sparse rows: any connectivity."""

from collections.abc import Hashable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
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
    scatter_where,
)
from ._family import Layout, family
from ._operator import AbstractOperator
from .cpu import _csr as cpu
from .xla import _csr as xla

FAMILY = family(
    "csr", xla.KERNELS, cpu=native.preferred(native.CSR, cpu.KERNELS), cuda=gpu.csr, tpu=tpu.csr
)
MAX_WIDTH = 1024  # synapses of a row visited at once


class CSR(AbstractOperator):
    """Any synapses, by rows: those of neuron i are at positions indptr[i] to indptr[i + 1] - 1.

    **Arguments:**

    - `weight`: one number for all synapses, or one each, shape (n_synapses,).
    - `indptr`: shape (n_pre + 1,), ascending from 0 to n_synapses.
    - `indices`: target ids, whole numbers in [0, n_post), shape (n_synapses,). Duplicates add up.
    - `n_post`: the number of post-synaptic neurons.

    **Raises:** `ValueError` or `TypeError` for an `indptr` that does not ascend or ends elsewhere,
    ids out of range or not whole, a weight of another length, and weights that are not finite.

        >>> import jax.numpy as jnp
        >>> indptr, indices = jnp.array([0, 2, 3]), jnp.array([0, 2, 2])
        >>> op = CSR(jnp.array([1.0, 2.0, 4.0]), indptr, indices, n_post=3)
        >>> op.mv(jnp.array([True, True])).tolist()
        [1.0, 0.0, 6.0]
    """

    weight: Float[Array, ""] | Float[Array, " n_synapses"]
    indptr: Int32[Array, " n_pre_plus_1"]
    indices: Int32[Array, " n_synapses"]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    one_slice: bool = eqx.field(static=True)
    tuning: Hashable = eqx.field(static=True, default=None)

    def __init__(self, weight, indptr, indices, n_post: int):
        self.n_post = check_size("n_post", n_post)
        check_count(as_numbers("indices", indices).size)
        self.indices = check_ids("indices", indices, self.n_post)
        if self.indices.ndim != 1:
            raise ValueError(f"indices: shape {self.indices.shape}; it must be (n_synapses,).")
        self.indptr = _check_indptr(indptr, self.indices.size)
        self.n_pre = self.indptr.size - 1
        self.weight = as_weight(weight)
        if self.weight.shape not in ((), self.indices.shape):
            raise ValueError(
                f"weight: shape {self.weight.shape}; it must be one number, or one a synapse, "
                f"{self.indices.shape}."
            )
        self.width, self.one_slice = slice_width(concrete(self.indptr), self.indices.size)

    @property
    def layout(self) -> Layout:
        """What the kernels need to know at compile time."""
        shape = self.weight.shape
        return Layout(self.n_pre, self.n_post, shape, form=self.rows, tuning=self.tuning)

    @property
    def rows(self) -> cpu.Rows:
        """How rows are visited."""
        return cpu.Rows(self.indices.size, self.width, self.one_slice)

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        weight = self.weight.astype(y.dtype)
        return scatter(FAMILY, self.layout, y, s, weight, self.indptr, self.indices)

    def mv_add_where(self, y, s, where, lo=0):
        check_values("y", y, self.n_post)
        weight = self.weight.astype(y.dtype)
        return scatter_where(
            FAMILY, self.layout, y, s, where, lo, weight, self.indptr, self.indices
        )

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return gather(
            FAMILY, self.layout, self.weight.astype(x.dtype), x, self.indptr, self.indices
        )

    def as_matrix(self):
        rows = jnp.repeat(
            jnp.arange(self.n_pre), jnp.diff(self.indptr), total_repeat_length=self.indices.size
        )
        zeros = jnp.zeros((self.n_pre, self.n_post), self.weight.dtype)
        return zeros.at[rows, self.indices].add(self.weight)

    def as_coo(self):
        pre = np.repeat(np.arange(self.n_pre, dtype=np.int32), np.diff(np.asarray(self.indptr)))
        return pre, np.asarray(self.indices), self.weight


def _check_indptr(indptr, n_synapses: int) -> Array:
    known = as_numbers("indptr", indptr)
    host = concrete(known)
    if known.ndim != 1 or known.size == 0 or not np.issubdtype(known.dtype, np.integer):
        raise ValueError(
            f"indptr: shape {known.shape}, dtype {known.dtype}; it must be n_pre + 1 integers."
        )
    if host is None:
        return lax.convert_element_type(indptr, jnp.int32)
    if host[0] != 0 or host[-1] != n_synapses:
        raise ValueError(
            f"indptr: starts at {host[0]} and ends at {host[-1]}; it must go from 0 to the number "
            f"of synapses, {n_synapses}."
        )
    descents = np.flatnonzero(np.diff(host) < 0)
    if descents.size:
        i = int(descents[0])
        raise ValueError(
            f"indptr: descends from {host[i]} to {host[i + 1]} at position {i + 1}; it must ascend."
        )
    return jnp.asarray(host, jnp.int32)


def check_count(n_synapses: int) -> None:
    """Refuses more synapses than slices of rows can be numbered of."""
    # A slice that starts at the last synapse ends beyond it, at an int32 all the same.
    if n_synapses > 2**31 - MAX_WIDTH:
        raise ValueError(
            f"indices: {n_synapses} synapses; at most 2**31 - {MAX_WIDTH} fit one operator. Split "
            "the projection."
        )


def slice_width(indptr: np.ndarray | None, n_synapses: int) -> tuple[int, bool]:
    """How many synapses of a row are visited at once, and whether that holds every row whole."""
    # A slice that holds the whole row saves the loop over slices, 0.2 us an event, which is as long
    # as 130 places take. So: the longest row, unless much more of it would be empty.
    if indptr is None or indptr.size < 2 or n_synapses == 0:
        return min(32, n_synapses), n_synapses == 0
    rows = np.diff(indptr)
    longest, mean = int(rows.max()), float(rows[rows > 0].mean())
    if longest <= min(max(mean + 130, 1.6 * mean), MAX_WIDTH):
        return longest, True
    return max(1, min(int(np.ceil(mean / 2)), MAX_WIDTH)), False

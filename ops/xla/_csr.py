"""Kernels of CSR on any platform."""

import jax.numpy as jnp

from ..cpu._csr import delayed_targets
from ._coo import kernels, part


def _rows(layout, *structure):
    return layout.form.n_synapses, 1


def _pre(first, n, indptr):
    # How many rows end up to each synapse.
    ends = jnp.maximum(indptr[1:] - first, 0)
    ended = jnp.zeros(n, jnp.int32).at[ends].add(1, mode="drop", wrap_negative_indices=False)
    return jnp.cumsum(ended, dtype=jnp.int32)


def _plain(layout, first, n, indptr, indices):
    return _pre(first, n, indptr), part(indices, first, n)


def _delayed(layout, first, n, indptr, indices, delay, slot, dt):
    indices, delay = part(indices, first, n), part(delay, first, n)
    return _pre(first, n, indptr), delayed_targets(layout, indices, delay, slot, dt)


KERNELS = kernels(_rows, _plain)
DELAYED_KERNELS = kernels(_rows, _delayed)

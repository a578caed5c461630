"""Kernels of CSR on any platform."""

import jax.numpy as jnp

from ..cpu._csr import delayed_targets
from ._coo import kernels


def _rows(layout, indptr):
    ids = jnp.arange(layout.n_pre, dtype=jnp.int32)
    return jnp.repeat(ids, jnp.diff(indptr), total_repeat_length=layout.form.n_synapses)


def _plain(layout, indptr, indices):
    return _rows(layout, indptr), indices


def _delayed(layout, indptr, indices, delay, slot, dt):
    return _rows(layout, indptr), delayed_targets(layout, indices, delay, slot, dt)


KERNELS = kernels(_plain)
DELAYED_KERNELS = kernels(_delayed)

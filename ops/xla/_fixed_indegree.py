"""Kernels of fixed in-degree on any platform: each target adds up its own row, in one order."""

import jax.numpy as jnp

from .._family import Kernels
from .._spikes import as_floats
from ..cpu._events import take
from ._coo import kernels


def _synapses(layout, sources, *_):
    columns = jnp.repeat(jnp.arange(layout.n_post, dtype=jnp.int32), sources.shape[1])
    return sources.reshape(-1), columns


_COO = kernels(_synapses)


def scatter(layout, y, s, w, sources, *_):
    terms = take(as_floats(layout, s, y.dtype), sources)
    if layout.synapses:
        return y + jnp.sum(w * terms, -1)
    return y + w[:, None] * jnp.sum(terms, -1)


KERNELS = Kernels(scatter, _COO.gather, _COO.outer)

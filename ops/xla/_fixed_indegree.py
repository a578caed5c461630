"""Kernels of fixed in-degree on any platform: each target adds up its own row, in one order."""

import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._spikes import as_floats
from ..cpu._events import take
from ._coo import for_each_block, kernels, part, weights


def _synapses(layout, first, n, sources, *_):
    post = first + jnp.arange(n, dtype=jnp.int32)
    return part(sources, first, n).reshape(-1), jnp.repeat(post, sources.shape[1])


_COO = kernels(lambda layout, sources, *_: sources.shape, _synapses)


def scatter(layout, y, s, w, sources, *_):
    s = as_floats(layout, s, y.dtype)

    def visit(y, first, n):
        terms = take(s, part(sources, first, n))
        if layout.synapses:
            sums = jnp.sum(weights(w, first, n, y.dtype) * terms, -1)
        else:
            sums = w[:, None] * jnp.sum(terms, -1)
        return lax.dynamic_update_slice_in_dim(y, part(y, first, n, 1) + sums, first, 1)

    return for_each_block(layout, y.shape[0], sources.shape, visit, y)


KERNELS = Kernels(scatter, _COO.gather, _COO.outer)

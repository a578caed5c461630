"""CPU kernels of fixed out-degree: a row of K targets for each pre-synaptic neuron."""

import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._spikes import as_floats
from ._events import for_each_event, scatter_add, take


def _row(a, i):
    return lax.dynamic_index_in_dim(a, i, keepdims=False, allow_negative_indices=False)


def scatter(layout, y, s, w, targets):
    def visit(y, b, i, value):
        ids = _row(targets, i)
        row = _row(w, b if w.shape[0] > 1 else jnp.int32(0))
        row = _row(row, i) if layout.synapses else row
        row = row if value is None else row * value
        return scatter_add(y, b * layout.n_post, ids, jnp.broadcast_to(row, ids.shape))

    return for_each_event(layout, s, visit, y.reshape(-1)).reshape(y.shape)


def gather(layout, w, x, targets):
    if layout.synapses:
        return jnp.sum(w * take(x, targets), -1)
    return w[:, None] * jnp.sum(take(x, targets), -1)


def outer(layout, s, x, targets):
    s = as_floats(layout, s, x.dtype)
    if layout.synapses:
        return s[..., None] * take(x, targets)
    return jnp.sum(s * jnp.sum(take(x, targets), -1), -1)


KERNELS = Kernels(scatter, gather, outer)

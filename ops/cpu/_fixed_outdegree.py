"""CPU kernels of fixed out-degree: a row of K targets for each pre-synaptic neuron."""

import jax.numpy as jnp

from .._family import Kernels
from .._spikes import as_floats
from ._events import take
from ._rows import add_rows


def _rows(a, ids):
    return a.at[ids].get(mode="promise_in_bounds", wrap_negative_indices=False)


def scatter(layout, y, s, w, targets):
    def rows(i, w_at, add, carry):
        weights = None
        if layout.synapses:
            weights = _rows(w, (w_at, i))
        return add(carry, _rows(targets, i), True, weights)

    return add_rows(layout, y, s, w, targets.shape[1], rows)


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

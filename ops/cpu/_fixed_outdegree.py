"""CPU kernels of fixed out-degree: a row of K targets for each pre-synaptic neuron."""

import jax.numpy as jnp

from .._family import Kernels, of_view
from .._spikes import as_floats
from ._events import take
from ._rows import add_rows
from ._sums import sum_rows


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
        values = take(x.astype(w.dtype), targets)  # of which many more are made than there are
        return jnp.sum(w.astype(x.dtype) * values.astype(x.dtype), -1)
    return w[:, None] * jnp.sum(take(x, targets), -1)


def outer(layout, s, x, targets):
    s = as_floats(layout, s, x.dtype)
    if layout.synapses:
        return s[..., None] * take(x, targets)
    return jnp.sum(s * jnp.sum(take(x, targets), -1), -1)


def gather_where(layout, w, x, m, targets):
    flat = x.reshape(-1)

    def sums(b, i):
        w_at = b if w.shape[0] > 1 else jnp.zeros_like(b)
        terms = take(flat, b[:, None] * layout.n_post + _rows(targets, i))
        if layout.synapses:
            return jnp.sum(terms * _rows(w, (w_at, i)).astype(x.dtype), -1)
        return take(w, w_at) * jnp.sum(terms, -1)

    if 0 in (*x.shape, *targets.shape):
        return jnp.zeros((x.shape[0], layout.n_pre), x.dtype)
    return sum_rows(layout, m, sums)


KERNELS = Kernels(scatter, gather, outer, gather_where=of_view(gather_where))

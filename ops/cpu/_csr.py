"""CPU kernels of CSR: rows of any length, visited in slices of `layout.form.width` synapses.

A slice that reaches past its row's end is masked. One that would reach past the arrays starts
earlier, and what it then holds of before its place is masked too (JAX would move it by itself,
silently).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from ._events import for_each_event, scatter_add, take


class Rows(NamedTuple):
    """What is static about rows of several lengths."""

    n_synapses: int
    width: int  # synapses of a row visited at once
    one_slice: bool  # whether that is the longest row
    stride: int = 0  # neurons of a slot, where targets lie on a ring of slots
    indegree: int = 0  # where weights are stored by target, so many each


def _for_each_slice(layout, indptr, i, visit, carry):
    """Folds `carry = visit(carry, first, inside [width])` over the slices of row i."""
    at = lax.dynamic_slice(indptr, (i,), (2,))
    start, stop = at[0], at[1]
    last = jnp.int32(layout.form.n_synapses - layout.form.width)

    def one(p, carry):
        first = jnp.minimum(p, last)
        place = first + jnp.arange(layout.form.width, dtype=jnp.int32)
        return visit(carry, first, (place >= p) & (place < stop))

    if layout.form.one_slice:
        return one(start, carry)
    return lax.while_loop(
        lambda state: state[0] < stop,
        lambda state: (state[0] + layout.form.width, one(*state)),
        (start, carry),
    )[1]


def _slice(a, start, layout):
    return lax.dynamic_slice_in_dim(a, start, layout.form.width, axis=-1)


def _batch_row(a, b):
    zero = jnp.int32(0)
    b = b if a.shape[0] > 1 else zero
    return lax.dynamic_index_in_dim(a, b, keepdims=False, allow_negative_indices=False)


def _weights(layout, weights, p, *_):
    return _slice(weights, p, layout)


def kernels(targets, weights_of=_weights) -> Kernels:
    """The kernels, for rows whose targets from synapse p on are `targets(layout, p, *structure)`,
    and their weights `weights_of(layout, weights, p, *structure)`.

    `structure` is the index arrays behind indptr.
    """

    def scatter(layout, y, s, w, indptr, *rest):
        def visit(y, b, i, value):
            weights = _batch_row(w, b)

            def add(y, p, inside):
                row = weights_of(layout, weights, p, *rest) if layout.synapses else weights
                row = row if value is None else row * value
                ids = targets(layout, p, *rest)
                return scatter_add(
                    y, b * layout.n_post, ids, jnp.where(inside, row, jnp.zeros((), y.dtype))
                )

            return _for_each_slice(layout, indptr, i, add, y)

        return for_each_event(layout, s, visit, y.reshape(-1)).reshape(y.shape)

    def gather(layout, w, x, indptr, *rest):
        def row(carry, i):
            def add(total, p, inside):
                terms = take(x, targets(layout, p, *rest))
                terms = terms * _slice(w, p, layout) if layout.synapses else terms
                return total + jnp.sum(jnp.where(inside, terms, jnp.zeros((), x.dtype)), -1)

            zero = jnp.zeros(x.shape[0], x.dtype)
            return carry, _for_each_slice(layout, indptr, i, add, zero)

        if layout.n_pre == 0:
            return jnp.zeros((x.shape[0], 0), x.dtype)
        _, out = lax.scan(row, None, jnp.arange(layout.n_pre, dtype=jnp.int32))
        out = jnp.moveaxis(out, 0, 1)
        return out if layout.synapses else w[:, None] * out

    def outer(layout, s, x, indptr, *rest):
        def visit(out, b, i, value):
            xs = _batch_row(x, b)

            def add(out, p, inside):
                terms = take(xs, targets(layout, p, *rest))
                terms = terms if value is None else terms * value
                terms = jnp.where(inside, terms, jnp.zeros((), x.dtype))
                if not layout.synapses:
                    return out.at[b].add(jnp.sum(terms))
                old = lax.dynamic_slice(out, (b, p), (1, layout.form.width))
                return lax.dynamic_update_slice(out, old + terms[None], (b, p))

            return _for_each_slice(layout, indptr, i, add, out)

        out = jnp.zeros((x.shape[0], *layout.synapses), x.dtype)
        return for_each_event(layout, s, visit, out)

    return Kernels(scatter, gather, outer)


def _plain(layout, p, indices):
    return _slice(indices, p, layout)


def delayed_targets(layout, indices, delay, slot, dt):
    """The places on a ring of slots, one a step, each with `stride` neurons."""
    n_slots = layout.n_post // layout.form.stride
    age = (delay.astype(dt.dtype) / dt + 0.5).astype(jnp.int32)  # above 0: rounded down
    at = slot + age
    at = jnp.where(at >= n_slots, at - n_slots, at)
    return at * layout.form.stride + indices


def _delayed(layout, p, indices, delay, slot, dt):
    at = (_slice(indices, p, layout), _slice(delay, p, layout))
    return delayed_targets(layout, *at, slot, dt)


KERNELS = kernels(_plain)
DELAYED_KERNELS = kernels(_delayed)

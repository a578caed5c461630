"""CPU kernels of CSR: rows of any length, visited in slices of `layout.form.width` synapses.

A slice that reaches past its row's end is masked. One that would reach past the arrays starts
earlier, and what it then holds of before its place is masked too (JAX would move it by itself,
silently).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from .._family import Kernels, of_view
from .._walk import for_each_part
from ._events import at, for_each_event, take
from ._rows import add_rows
from ._sums import sum_rows

TERMS = 1 << 15  # of the sums of `gather` at once


class Rows(NamedTuple):
    """What is static about rows of several lengths."""

    n_synapses: int
    width: int  # synapses of a row visited at once
    one_slice: bool  # whether that is the longest row
    stride: int = 0  # neurons of a slot, where targets lie on a ring of slots
    indegree: int = 0  # where weights are stored by target, so many each


def _for_each_slice(layout, indptr, i, visit, carry):
    """Folds `carry = visit(carry, first, inside [..., width])` over the slices of rows i [...]."""
    start, stop = take(indptr, i), take(indptr, i + 1)
    last = jnp.int32(layout.form.n_synapses - layout.form.width)
    places = jnp.arange(layout.form.width, dtype=jnp.int32).reshape(*[1] * jnp.ndim(i), -1)

    def one(carry, done):
        p = start + done
        first = jnp.minimum(p, last)
        place = first[..., None] + places
        return visit(carry, first, (place >= p[..., None]) & (place < stop[..., None]))

    if layout.form.one_slice:
        return one(carry, jnp.int32(0))
    return for_each_part(jnp.max(stop - start), layout.form.width, one, carry)


def slices(layout, a, first):
    """a[..., p : p + width] for each of the places p, or the one."""
    if jnp.ndim(first) == 0:
        return lax.dynamic_slice_in_dim(a, first, layout.form.width, axis=-1)
    batch = tuple(range(a.ndim - 1))
    numbers = lax.GatherDimensionNumbers((*batch, a.ndim), (), (a.ndim - 1,))
    sizes = *a.shape[:-1], layout.form.width
    return lax.gather(a, first[:, None], numbers, sizes, mode="promise_in_bounds")


def _weights(layout, w, w_at, first, *_):
    numbers = lax.GatherDimensionNumbers((1,), (0,), (0, 1))
    places, size = jnp.stack([w_at, first], -1), (1, layout.form.width)
    return lax.gather(w, places, numbers, size, mode="promise_in_bounds")


def kernels(targets, weights_of=_weights) -> Kernels:
    """The kernels, for rows whose targets from synapse p on are `targets(layout, p, *structure)`,
    and their weights `weights_of(layout, w, w_at, p, *structure)`, in the batch `w_at` of w.

    `structure` is the index arrays behind indptr.
    """

    def scatter(layout, y, s, w, indptr, *rest):
        def rows(i, w_at, add, carry):
            def part(carry, p, inside):
                weights = weights_of(layout, w, w_at, p, *rest) if layout.synapses else None
                return add(carry, targets(layout, p, *rest), inside, weights)

            return _for_each_slice(layout, indptr, i, part, carry)

        return add_rows(layout, y, s, w, layout.form.width, rows)

    def gather(layout, w, x, indptr, *rest):
        def rows(i):
            def add(total, p, inside):
                terms = take(x, targets(layout, p, *rest))
                terms = terms * slices(layout, w, p).astype(x.dtype) if layout.synapses else terms
                return total + jnp.sum(jnp.where(inside, terms, jnp.zeros((), x.dtype)), -1)

            zeros = jnp.zeros((x.shape[0], *i.shape), x.dtype)
            return _for_each_slice(layout, indptr, i, add, zeros)

        if 0 in (*x.shape, layout.n_pre, layout.form.width):
            return jnp.zeros((x.shape[0], layout.n_pre), x.dtype)
        # Rows of one slice go many at once, in blocks that stay in a cache.
        many = max(TERMS // (x.shape[0] * layout.form.width), 1)
        block = min(many, layout.n_pre) if layout.form.one_slice else 1
        n_blocks = -(-layout.n_pre // block)
        i = jnp.minimum(jnp.arange(n_blocks * block, dtype=jnp.int32), layout.n_pre - 1)
        out = lax.map(rows, i.reshape(n_blocks, block))
        out = jnp.moveaxis(out, 1, 0).reshape(x.shape[0], -1)[:, : layout.n_pre]
        return out if layout.synapses else w[:, None] * out

    def gather_where(layout, w, x, m, indptr, *rest):
        flat = x.reshape(-1)

        def sums(b, i):
            w_at = b if w.shape[0] > 1 else jnp.zeros_like(b)

            def add(total, p, inside):
                terms = take(flat, b[:, None] * layout.n_post + targets(layout, p, *rest))
                if layout.synapses:
                    terms = terms * weights_of(layout, w, w_at, p, *rest).astype(x.dtype)
                return total + jnp.sum(jnp.where(inside, terms, jnp.zeros((), x.dtype)), -1)

            total = _for_each_slice(layout, indptr, i, add, jnp.zeros(i.shape, x.dtype))
            return total if layout.synapses else take(w, w_at) * total

        if 0 in (*x.shape, layout.n_pre, layout.form.width):
            return jnp.zeros((x.shape[0], layout.n_pre), x.dtype)
        return sum_rows(layout, m, sums)

    def outer(layout, s, x, indptr, *rest):
        def visit(out, b, i, value):
            xs = at(x, b)

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

    return Kernels(scatter, gather, outer, gather_where=of_view(gather_where))


def _plain(layout, p, indices):
    return slices(layout, indices, p)


def delayed_targets(layout, indices, delay, slot, dt):
    """The places on a ring of slots, one a step, each with `stride` neurons."""
    n_slots = layout.n_post // layout.form.stride
    age = (delay.astype(dt.dtype) / dt + 0.5).astype(jnp.int32)  # above 0: rounded down
    at = slot + age
    at = jnp.where(at >= n_slots, at - n_slots, at)
    return at * layout.form.stride + indices


def _delayed(layout, p, indices, delay, slot, dt):
    return delayed_targets(layout, slices(layout, indices, p), slices(layout, delay, p), slot, dt)


KERNELS = kernels(_plain)
DELAYED_KERNELS = kernels(_delayed)

"""Rows of synapses added to their targets, several at once.

A step of an XLA loop costs 20 ns for each of its operations: for one row at a time 170 ns, as much
as 200 synapses.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from ._events import BLOCK, for_each_block, for_each_event, take

NOWHERE = np.int32(2**31 - 1)  # beyond any array's end
# How many rows are added at once, up to which length (measured at 20,000 neurons, one core).
GROUPS = ((16, 64), (8, 512), (4, 1024))
# Of fewer neurons, rows are added one by one: the program is half as long, and a dozen events of a
# step take no longer.
MANY = 1 << 13


def scatter_add(y, ids, updates):
    """y[ids] += updates, in place, for y flat. The ids were validated on the host; one at or behind
    y's end is left out (XLA looks anyway)."""
    numbers = lax.ScatterDimensionNumbers((), (0,), (0,))
    mode = lax.GatherScatterMode.FILL_OR_DROP
    return lax.scatter_add(y, ids.reshape(-1, 1), updates.reshape(-1), numbers, mode=mode)


def for_each_group(layout, s, size, of_rows, visit, carry):
    """Folds `carry = visit(carry, b, i, values, event, *more)` over the events of `s` in groups of
    `size`, which divides `BLOCK`: b, i and values as of `for_each_block`, [size], which of them are
    events, and the group's part of `of_rows(i)`, arrays made for `BLOCK` rows at once."""

    def block(carry, b, i, values, left):
        more = of_rows(i)

        def group(g, carry):
            def of(a):
                return lax.dynamic_slice_in_dim(a, g * size, size)

            event = g * size + jnp.arange(size, dtype=jnp.int32) < left
            mine = None if values is None else of(values)
            return visit(carry, of(b), of(i), mine, event, *map(of, more))

        n_groups = lax.min((left + (size - 1)) // size, jnp.int32(BLOCK // size))
        return lax.fori_loop(jnp.int32(0), n_groups, group, carry)

    return for_each_block(layout, s, block, carry)


def add_rows(layout, y, s, w, width, rows, of_rows=None, size=None):
    """y[b] + s[b] W, for `s` and `w` as the family's scatter takes them, by the rows of the events.

    `rows(i, w_at, add, carry)` gives `carry = add(carry, targets, there, weights)`, once or several
    times, for the rows i [group]: targets and weights [group, width] (or no weights where all share
    one), of which the weights lie in the batch `w_at` [group] of `w`, and which synapses are there.
    It is also given the parts of `of_rows`, as of `for_each_group`. A group has `size` rows, or as
    many as suit stored ones.
    """
    if 0 in (layout.n_pre, width, *y.shape):
        return y
    shape = y.shape
    many = s.shape[0] * layout.n_pre >= MANY or size is not None
    size = size or next((size for size, longest in GROUPS if width <= longest), 1)
    one_weight = not layout.synapses and w.shape[0] == 1 and s.dtype == jnp.uint32

    # Targets and weights of a group go through buffers one column wider than rows. What fills a
    # buffer whole is fused with the flat scatter, which then finds each synapse's row by a
    # division, and is split between threads by the size of the connectivity.
    def start(y, size):
        if size == 1:
            return y.reshape(-1), ()
        ids = jnp.full((size, width + 1), NOWHERE)
        # What all rows share is flat already, or the scatter would copy it each time.
        one = jnp.broadcast_to(w.reshape(-1)[:1], (ids.size,))
        return y.reshape(-1), (ids, one if one_weight else jnp.zeros(ids.shape, y.dtype))

    def put(buffer, rows):
        return lax.dynamic_update_slice(buffer, rows, (jnp.int32(0), jnp.int32(0)))

    def visit(carry, b, i, values, event, *more):
        w_at = b if w.shape[0] > 1 else jnp.zeros_like(b)

        def add(carry, targets, there, weights=None):
            y, buffers = carry
            ids = b[:, None] * layout.n_post + targets
            ids = jnp.where(there & event[:, None], ids, NOWHERE)
            weights = take(w, w_at)[:, None] if weights is None else weights.astype(y.dtype)
            weights = weights if values is None else weights * values[:, None]
            new = ids, jnp.broadcast_to(weights, ids.shape)
            if buffers:
                updates = buffers[1] if one_weight else put(buffers[1], new[1])
                new = buffers = put(buffers[0], ids), updates
            return scatter_add(y, *new), buffers

        return rows(i, w_at, add, carry, *more)

    def one(carry, b, i, value):
        values = None if value is None else value[None]
        return visit(carry, b[None], i[None], values, jnp.ones(1, bool))

    if many:
        of_rows = of_rows or (lambda i: ())
        y, *_ = for_each_group(layout, s, size, of_rows, visit, start(y, size))
    else:
        y, *_ = for_each_event(layout, s, one, start(y, 1))
    return y.reshape(shape)

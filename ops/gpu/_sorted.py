"""Scatter in a fixed order: what is added is sorted by target, and each target has one thread."""

import jax.numpy as jnp
from jax import lax

from .._family import accumulator
from .._walk import for_each_part
from ._events import sorted_events
from ._simt import launch, split, strided, when

INT32 = 2**31 - 1


def sorted_scatter(form, layout, tuning, y, s, w, structure, weight_of):
    """y + s W, with the terms of a target added in the order of their events.

    Rows are cut into slices of `tuning.lanes` synapses, so many at once as `tuning.chunk` holds.
    """
    batch, width, dtype = y.shape[0], tuning.lanes, accumulator(y.dtype)
    most = batch * (layout.n_pre + form.size(layout, *structure) // width)
    at_once = max(min(tuning.chunk // width, most), 1)
    if most > INT32 - at_once:
        raise ValueError(
            f"s: {batch} rows with {most} slices of {width} synapses; at most 2**31 - 1 - "
            f"{at_once} can be numbered. Take fewer rows: jax.lax.map(op.mv, s, batch_size=...)."
        )
    listed, count = sorted_events(layout, s)
    _, i = split(listed, layout.n_pre)
    row = form.row(layout, i, *structure)
    slices = jnp.broadcast_to(-(-(row.stop - row.start) // width), listed.shape)
    slices = jnp.where(jnp.arange(listed.size, dtype=jnp.int32) < count, slices, 0)
    ends = jnp.cumsum(slices, dtype=jnp.int32)

    def terms(first):
        # (targets, values) of the slices from `first` on; a target that is none is the last
        n = first + jnp.arange(at_once, dtype=jnp.int32)[:, None]
        e = jnp.minimum(jnp.searchsorted(ends, n, side="right").astype(jnp.int32), ends.size - 1)
        b, i = split(listed[e], layout.n_pre)
        row = form.row(layout, i, *structure)
        p = row.start + (n - (ends[e] - slices[e])) * width
        p = p + jnp.arange(width, dtype=jnp.int32)[None, :]
        target, there = row.target(p)
        there = (p < row.stop) & (n < ends[-1]) & (True if there is None else there)
        value = weight_of(row, w, b, p, y.dtype)
        if s.dtype != jnp.uint32:
            value = value * s[b, i].astype(dtype)
        target = jnp.where(there, b * layout.n_post + target, jnp.int32(y.size))
        return target.reshape(-1), jnp.broadcast_to(value, target.shape).reshape(-1)

    def chunk(out, first):
        target, value = lax.sort(terms(first), num_keys=1, is_stable=True)
        return _add_segments(tuning, out, target, value)

    out = y.astype(dtype).reshape(-1)
    if at_once == most:
        out = chunk(out, jnp.int32(0))
    else:
        out = for_each_part(ends[-1], at_once, chunk, out)
    return out.astype(y.dtype).reshape(y.shape)


def _add_segments(tuning, out, target, value):
    """out[target] += value for ascending targets; those that `out` has not are left out."""

    def body(machine, target, value, out):
        def visit(n):
            own = target[n]
            before = target[lax.max(n - 1, jnp.int32(0))]

            def add():
                def more(state):
                    m, _ = state
                    return (m < target.size) & (
                        target[lax.min(m, jnp.int32(target.size - 1))] == own
                    )

                def one(state):
                    m, total = state
                    return m + 1, total + value[m]

                _, total = lax.while_loop(more, one, (n + 1, value[n]))
                out[own] = out[own] + total

            when(((n == 0) | (before != own)) & (own < out.size), add)

        strided(machine.thread, jnp.int32(target.size), machine.n_threads, visit)

    (out,) = launch(tuning, "add_segments", body, target.size, (target, value), (out,))
    return out

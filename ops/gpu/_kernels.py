"""The three kernels of any form of connectivity: each group of lanes takes one row at a time.

Sums are made in single precision at least. Beside its operands and its result, a kernel needs the
list of events: 4 bytes a pre-synaptic neuron and row of the batch, whatever the synapses.
"""

from functools import partial

import jax.numpy as jnp
from jax import lax

from .._family import Kernels, accumulator
from ._events import events
from ._rows import Form
from ._simt import launch, split, strided, when
from ._sorted import sorted_scatter
from ._tuning import BLOCK, Tuning

INT32 = 2**31 - 1


def _prepared(form, layout, batch, structure):
    """The tuning, and the structure as the kernels take it; refuses what int32 cannot count."""
    tuning = layout.tuning if isinstance(layout.tuning, Tuning) else Tuning()  # or a TPU's
    step = tuning.programs * BLOCK
    if batch * layout.n_pre > INT32 - step:
        raise ValueError(
            f"s: {batch} rows of {layout.n_pre} neurons; the list of events holds at most "
            f"2**31 - 1 - {step}. Take fewer rows: jax.lax.map(op.mv, s, batch_size=...)."
        )
    longest = max((a.shape[-1] for a in structure if a.ndim), default=0)
    if longest > INT32 - tuning.lanes:
        raise ValueError(
            f"indices: {longest} synapses along one axis; at most 2**31 - 1 - {tuning.lanes} can "
            "be numbered. Split the projection."
        )
    # Mosaic has no refs of single numbers.
    return tuning, tuple(a.reshape(1) if a.ndim == 0 else a for a in structure)


def _each_row(machine, stop, visit):
    """visit(n) for the rows n below `stop` that this thread's group of lanes serves."""
    group = lax.div(machine.thread, jnp.int32(machine.lanes))
    strided(group, stop, machine.n_threads // machine.lanes, visit)


def _each_synapse(machine, row, visit, *totals):
    lane = lax.rem(machine.thread, jnp.int32(machine.lanes))
    return strided(row.start + lane, row.stop, machine.lanes, visit, *totals)


def _weight(row, w, b, p, dtype):
    # Rounded to the precision of the operands, and then summed in that of the accumulator.
    b = b if w[0].shape[0] > 1 else jnp.int32(0)
    return row.weight(w, b, p).astype(dtype).astype(accumulator(dtype))


def _scatter(form, layout, y, s, w, *structure):
    tuning, structure = _prepared(form, layout, y.shape[0], structure)
    weights = form.weights(layout, w)
    if tuning.deterministic:
        return sorted_scatter(form, layout, tuning, y, s, weights, structure, _weight)
    dtype, packed = accumulator(y.dtype), s.dtype == jnp.uint32

    def body(machine, listed, count, s, w, structure, out):
        def visit(n):
            b, i = split(listed[n], layout.n_pre)
            row = form.row(layout, i, *structure)
            value = None if packed else s[b, i].astype(dtype)

            def synapse(p):
                target, there = row.target(p)
                weight = _weight(row, w, b, p, y.dtype)
                weight = weight if value is None else weight * value
                when(there, lambda: machine.add(out, (b, target), weight))

            _each_synapse(machine, row, synapse)

        _each_row(machine, count[0], visit)

    threads = s.shape[0] * layout.n_pre * tuning.lanes
    inputs = (*events(layout, tuning, s), s, weights, structure)
    name = f"scatter{form.row.__name__}"
    (out,) = launch(tuning, name, body, threads, inputs, (y.astype(dtype),))
    return out.astype(y.dtype)


def _sums(form, layout, tuning, name, n, dtype, listed, inputs, terms):
    """n arrays [B, n_pre] of sums over the synapses of rows, all or the events' (else 0).

    `terms(b, i, *inputs)` gives (row, p -> the n terms of synapse p).
    """
    zeros = jnp.zeros((inputs[0].shape[0], layout.n_pre), dtype)

    def body(machine, listed, inputs, *outs):
        def visit(m):
            b, i = split(listed[0][m] if listed else m, layout.n_pre)
            row, term = terms(b, i, *inputs)

            def synapse(p, *totals):
                return tuple(t + x for t, x in zip(totals, term(p), strict=True))

            totals = _each_synapse(machine, row, synapse, *[jnp.zeros((), dtype)] * n)
            totals = [machine.group_sum(total) for total in totals]

            def store():
                for out, total in zip(outs, totals, strict=True):
                    out[b, i] = total

            when(lax.rem(machine.thread, jnp.int32(machine.lanes)) == 0, store)

        _each_row(machine, listed[1][0] if listed else jnp.int32(zeros.size), visit)

    name = f"{name}{form.row.__name__}"
    return launch(tuning, name, body, zeros.size * tuning.lanes, (listed, inputs), (zeros,) * n)


def _gather(form, layout, w, x, *structure):
    tuning, structure = _prepared(form, layout, x.shape[0], structure)
    dtype = accumulator(x.dtype)

    def terms(b, i, x, w, structure):
        row = form.row(layout, i, *structure)

        def term(p):
            target, there = row.target(p)
            value = x[b, target].astype(dtype) * _weight(row, w, b, p, x.dtype)
            return (value if there is None else jnp.where(there, value, jnp.zeros((), dtype)),)

        return row, term

    inputs = (x, form.weights(layout, w), structure)
    (out,) = _sums(form, layout, tuning, "gather", 1, dtype, (), inputs, terms)
    return out.astype(x.dtype)


def _outer(form, layout, s, x, *structure):
    tuning, structure = _prepared(form, layout, x.shape[0], structure)
    dtype, packed = accumulator(x.dtype), s.dtype == jnp.uint32
    listed = tuple(events(layout, tuning, s))

    def value(s, b, i):
        return jnp.ones((), dtype) if packed else s[b, i].astype(dtype)

    def summed(n):
        def terms(b, i, x, s, structure):
            row, scale = form.row(layout, i, *structure), value(s, b, i)

            def term(p):
                target, there = row.target(p)
                product = scale * x[b, target].astype(dtype)
                if there is not None:
                    product = jnp.where(there, product, jnp.zeros((), dtype))
                return tuple(product * f(p, dtype) for f in row.factors) or (product,)

            return row, term

        sums = _sums(form, layout, tuning, "outer", n, dtype, listed, (x, s, structure), terms)
        sums = jnp.stack([jnp.sum(a, -1) for a in sums], -1)
        return sums.reshape(-1, *layout.synapses).astype(x.dtype)

    def body(machine, listed, count, s, x, structure, out):
        def visit(n):
            b, i = split(listed[n], layout.n_pre)
            row, scale = form.row(layout, i, *structure), value(s, b, i)

            def synapse(p):
                target, _ = row.target(p)
                out[(b, *row.place(p))] = (scale * x[b, target].astype(dtype)).astype(out.dtype)

            _each_synapse(machine, row, synapse)

        _each_row(machine, count[0], visit)

    if form.drawn or not layout.synapses:
        return summed(*layout.synapses or (1,))
    zeros = jnp.zeros((x.shape[0], *layout.synapses), x.dtype)
    threads = x.shape[0] * layout.n_pre * tuning.lanes
    name = f"outer{form.row.__name__}"
    (out,) = launch(tuning, name, body, threads, (*listed, s, x, structure), (zeros,))
    return out


def kernels(form: Form) -> Kernels:
    """The kernels of one form of connectivity."""
    return Kernels(*(partial(f, form) for f in (_scatter, _gather, _outer)))

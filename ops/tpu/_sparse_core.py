"""Scatter on SparseCores: every vector subcore serves its share of the neurons, on its own.

Neuron n of all rows of a batch belongs to subcore n modulo their number, so that populations of
unlike activity load all alike. A subcore lists the events of its share, fetches their rows, several
at a time, and adds them: into an accumulator of its own where targets are few, else, with all
subcores of a core, into one in their shared memory, whose streams add in place. XLA adds up what
the accumulators hold.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import tpu_sc as plsc

LISTED = 2048  # neurons of a share listed at once
STREAM = 128  # indices of one stream
ALIGN = 8  # of the places where a copy may begin


class Machine(NamedTuple):
    """What is not the same in the interpreter, which lacks the gather and scatter instructions."""

    lanes: int
    interpret: bool

    def iota(self):
        return lax.iota(jnp.int32, self.lanes)

    def read(self, ref, *index):
        """ref[index] for vectors (or numbers) of indices, a vector."""
        index = [jnp.broadcast_to(i, (self.lanes,)) for i in index]
        return ref[...][tuple(index)] if self.interpret else plsc.load_gather(ref, index)

    def add(self, ref, index, x, there):
        if self.interpret:
            ref[...] = ref[...].at[index].add(jnp.where(there, x, 0))
        else:
            plsc.addupdate_scatter(ref, [index], x, mask=there)

    def begin_stream(self, source, ref, index, semaphore):
        """Begins ref[index] += source, for refs."""
        if self.interpret:
            ref[...] = ref[...].at[index[...]].add(source[...])
        else:
            pltpu.make_async_copy(source, ref.at[index], semaphore).start(add=True)

    def end_stream(self, source, ref, index, semaphore):
        if not self.interpret:
            pltpu.make_async_copy(source, ref.at[index], semaphore).wait()

    def append(self, ref, n, x, there):
        """Writes those of x that are there to ref from n on; what follows them is not kept."""
        if self.interpret:
            ref[pl.ds(n, self.lanes)] = x[jnp.argsort(~there, stable=True)]
        else:
            plsc.store_compressed(ref.at[pl.ds(n, self.lanes)], x, mask=there)

    def count(self, there):
        if self.interpret:
            return jnp.sum(there, dtype=jnp.int32)
        return plsc.all_reduce_population_count(there)[0]


def _loop(n, visit):
    # Not pl.loop, whose counter has 64 bits where JAX has.
    lax.fori_loop(np.int32(0), n, lambda m, _: visit(m), None)


def _shares(a, workers, total):
    a = jnp.pad(a.reshape(-1), (0, workers * total - a.size))
    return a.reshape(total, workers).T.reshape(-1)


def scatter(form, layout, tuning, info, s, w, *structure):
    """The sums [B, n_post] for float `s` [B, n_pre]."""
    mesh = plsc.VectorSubcoreMesh(
        core_axis_name="core",
        subcore_axis_name="subcore",
        num_cores=info.num_cores,
        num_subcores=info.num_subcores,
    )
    lanes, ns, batch = info.num_lanes, info.num_subcores, s.shape[0]
    workers = info.num_cores * ns
    machine, alone = Machine(lanes, tuning.interpret), tuning.interpret and workers == 1
    f32, i32, vmem, zero = jnp.float32, np.int32, pltpu.VMEM, np.int32(0)

    arrays = form.arrays(layout, w, *structure)
    width = form.width(layout, tuning.width, ALIGN, *structure)
    n_blocks = -(-width // STREAM)
    depth = tuning.in_flight

    words = form.constants(layout, w, *structure)
    n_words = words.size * STREAM
    words = jnp.repeat(words, STREAM)

    n_targets = batch * layout.n_post
    private = n_targets <= tuning.private
    # Behind the targets lie places for what is not there, one a lane.
    part = -(-(n_targets + lanes) // (ns * STREAM)) * STREAM
    size = part * ns

    columns = (s, *(jnp.tile(c, batch) for c in form.carried(layout, *structure)))
    listed = min(-(-s.size // (workers * STREAM)) * STREAM, LISTED)
    total = -(-s.size // (workers * listed)) * listed  # neurons of a share
    columns = tuple(_shares(c, workers, total) for c in columns)

    def body(columns, words, arrays, zeros, result, refs):

        core, sub = map(lax.axis_index, ("core", "subcore"))
        worker = core * ns + sub
        out, own = refs["out"], pl.ds(pl.multiple_of(sub * part, STREAM), part)

        def push(source, to):
            # Newer versions track these copies by themselves.
            newer = hasattr(plsc, "SparseCorePushStreamWarning") and not tuning.interpret
            copy = pltpu.make_async_copy(source, to, *([] if newer else [refs["streamed"]]))
            copy.start()
            copy.wait()

        def split(n):
            return (zero, n) if batch == 1 else (lax.div(n, i32(layout.n_pre)), lax.rem(n, i32(layout.n_pre)))

        def event(e):
            """Of event e of the list: (n, value, carried), as vectors."""
            n, value, *carried = (machine.read(ref, e) for ref in refs["lists"])
            return n, value, carried

        def begin(span):
            return lax.div(span[0], i32(ALIGN)) * ALIGN

        def span(e):
            return form.span(width, *(c[0] for c in event(e)[2]))

        def after(e, first):
            more = first + width < span(e)[1]
            return (
                jnp.where(more, e, e + 1),
                jnp.where(more, first + width, begin(span(e + 1))),
            )

        def copies(slot, e, first):
            b, i = split(event(e)[0][0])
            b = b if w.shape[0] > 1 else zero
            return [
                pltpu.make_async_copy(
                    form.at(array, b, i, form.place(layout, width, first), width), row.at[slot], refs["sem"].at[slot]
                )
                for array, row in zip(arrays, refs["rows"], strict=True)
            ]

        def add(slot, e, first):
            n, value, carried = event(e)
            b, i = split(n)
            constants = [refs["words"][pl.ds(m, lanes)] for m in range(0, n_words, STREAM)]
            row = form.row(layout, i, constants, *carried)
            start, stop = form.span(width, *carried)
            start, stop = jnp.maximum(start, first), jnp.minimum(stop, first + width)
            place = form.place(layout, width, first)

            def vector(m):
                k = m * lanes + machine.iota()
                held = jnp.minimum(k, width - 1)
                k = k + place
                target, weight, there = row(k, [machine.read(r, slot, held) for r in refs["rows"]])
                inside = (k >= start) & (k < stop)
                there = inside if there is None else inside & there
                return target + b * layout.n_post, value if weight is None else value * weight, there

            used = jnp.broadcast_to(stop, (lanes,))[0] - place
            if private:
                _loop(lax.div(used + (lanes - 1), i32(lanes)), lambda m: machine.add(out, *vector(m)))
                return

            def stream(m):
                def fill(v):
                    target, x, there = vector(m * (STREAM // lanes) + v)
                    at = m, pl.ds(v * lanes, lanes)
                    refs["targets"][at] = jnp.where(there, target, n_targets + machine.iota())
                    refs["values"][at] = jnp.where(there, x, jnp.zeros((), x.dtype))

                _loop(i32(STREAM // lanes), fill)
                machine.begin_stream(refs["values"].at[m], out, refs["targets"].at[m], refs["streamed"])

            used = lax.div(used + (STREAM - 1), i32(STREAM))
            _loop(used, stream)
            _loop(used, lambda m: machine.end_stream(refs["values"].at[m], out, refs["targets"].at[m], refs["streamed"]))

        def lists(m):
            """Lists the events of the m-th part of the share; (events, pieces)."""
            first = m * listed
            for c, ref in zip(columns, refs["given"], strict=True):
                at = pl.multiple_of(worker * total + first, STREAM)
                pltpu.sync_copy(c.at[pl.ds(at, listed)], ref)

            def visit(v, state):
                n_events, n_pieces = state
                at = pl.ds(v * lanes, lanes)
                value, *carried = (ref[at] for ref in refs["given"])
                n = (first + v * lanes + machine.iota()) * workers + worker
                start, stop = form.span(width, *carried)
                there = (value != 0) & (stop > start)
                for ref, x in zip(refs["lists"], (n, value, *carried), strict=True):
                    machine.append(ref, n_events, x, there)
                pieces = lax.div(stop - begin((start, stop)) + (width - 1), i32(width))
                pieces = jnp.where(there, pieces, zero)
                return n_events + machine.count(there), n_pieces + pieces

            n = np.int32(listed // lanes)
            n_events, n_pieces = lax.fori_loop(zero, n, visit, (zero, jnp.zeros(lanes, i32)))
            return jnp.sum(n_pieces, dtype=i32)

        def serve(m):
            n = lists(m)
            one = (zero, begin(span(zero)))
            ahead = one
            for slot in range(depth if arrays else 0):
                @pl.when(slot < n)
                def _(slot=slot, ahead=ahead):
                    for copy in copies(slot, *ahead):
                        copy.start()
                ahead = after(*ahead)

            def visit(p, state):
                one, ahead = state
                slot = lax.rem(p, i32(depth))
                for copy in copies(slot, *one):
                    copy.wait()
                add(slot, *one)
                if not arrays:
                    return after(*one), ahead

                @pl.when(p + depth < n)
                def _():
                    for copy in copies(slot, *ahead):
                        copy.start()

                return after(*one), after(*ahead)

            lax.fori_loop(zero, n, visit, (one, ahead))

        pltpu.sync_copy(words, refs["words"])
        if private:
            _loop(i32(size // lanes), lambda m: out.__setitem__(pl.ds(m * lanes, lanes), jnp.zeros(lanes, f32)))
        else:
            pltpu.sync_copy(zeros, out.at[own])
            if not alone:
                plsc.subcore_barrier()
        _loop(i32(total // listed), serve)
        if private:
            push(out, result.at[pl.ds(pl.multiple_of(worker * size, STREAM), size)])
        else:
            if not alone:
                plsc.subcore_barrier()
            at = pl.multiple_of(worker * part, STREAM)
            push(out.at[own], result.at[pl.ds(at, part)])

    scratch = {
        "given": [vmem((listed,), c.dtype) for c in columns],
        "lists": [vmem((listed + lanes,), d) for d in (i32, *(c.dtype for c in columns))],
        "rows": [vmem((depth, width), a.dtype) for a in arrays],
        "words": vmem((n_words,), i32),
        "out": vmem((size,), f32) if private else pltpu.VMEM_SHARED((size,), f32),
        "targets": vmem((n_blocks, STREAM), i32),
        "values": vmem((n_blocks, STREAM), f32),
        "sem": pltpu.SemaphoreType.DMA((depth,)),
        "streamed": pltpu.SemaphoreType.DMA(()),
    }
    copies = workers if private else info.num_cores
    options = {"use_tc_tiling_on_sc": True, "needs_layout_passes": False}
    known = {field.name for field in dataclasses.fields(pltpu.CompilerParams)}
    kernel = pl.kernel(
        lambda *args, refs: body(*args, refs),
        jax.ShapeDtypeStruct((copies * size,), f32),
        mesh=mesh,
        scratch_types={"refs": scratch},
        compiler_params=pltpu.CompilerParams(**{k: v for k, v in options.items() if k in known}),
        interpret=pltpu.InterpretParams() if tuning.interpret else False,
        name=f"purebrain_scatter_{'private' if private else 'shared'}",
    )
    sums = kernel(columns, words, arrays, jnp.zeros(part, f32))
    return jnp.sum(sums.reshape(copies, size), 0)[:n_targets].reshape(batch, layout.n_post)

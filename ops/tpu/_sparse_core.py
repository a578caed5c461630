"""Scatter on SparseCores: every vector subcore serves its share of the neurons, on its own.

Neuron n of all rows of a batch belongs to subcore n modulo their number, so that populations of
unlike activity load all alike. A subcore lists the events of its share, fetches their rows, several
at a time, and adds them: into an accumulator of its own where targets are few, else, with all
subcores of a core, into one in their shared memory, whose streams add in place. XLA adds up what
the accumulators hold.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import tpu_sc as plsc

from ._pieces import ZERO, count, for_each_piece, loop
from ._rows import JIT

ALIGN = 8  # of the places in HBM where a copy may begin
LISTED = 2048  # neurons of a share listed at once
STREAM = 128  # indices of one stream
OVERHEAD = 2048  # words of a subcore that are not ours


def _up(n, multiple):
    return -(-n // multiple) * multiple


class Plan(NamedTuple):
    """The sizes of a launch, and how a subcore of this kind reads, writes and adds.

    The interpreter lacks the instructions that gather, scatter and compress.
    """

    cores: int
    subcores: int
    lanes: int
    listed: int  # neurons of a share listed at once
    share: int  # neurons of a subcore
    width: int  # synapses of a piece
    n_targets: int  # of all rows of the batch
    private: bool
    depth: int
    interpret: bool

    @property
    def workers(self):
        return self.cores * self.subcores

    @property
    def part(self):
        """Of the accumulator, what one subcore clears and writes out. Behind the targets lie places
        for what is not there, one a lane."""
        return _up(-(-(self.n_targets + self.lanes) // self.subcores), STREAM)

    @property
    def size(self):
        return self.part * self.subcores

    def iota(self):
        return lax.iota(jnp.int32, self.lanes)

    def read(self, ref, index):
        """ref[index] for a vector of indices, or a number: a vector."""
        index = jnp.broadcast_to(index, (self.lanes,))
        return ref[...][index] if self.interpret else plsc.load_gather(ref, [index])

    def read_slot(self, ref, slot, index):
        if self.interpret or len(ref.shape) == 1:
            return self.read(self.slot(ref, slot), index)
        return plsc.load_gather(ref, [jnp.full_like(index, slot), index])

    def rows(self, array):
        """Memory for the pieces on their way, tiled as HBM is where they come from: the only
        copies that older compilers know."""
        first, *_ = jax.tree.leaves(array)
        if first.ndim > 1:
            return pltpu.VMEM((self.depth, self.width), first.dtype)
        return pltpu.VMEM((self.depth * self.width,), first.dtype)

    def slot(self, ref, slot):
        """Where a piece lies in it."""
        if len(ref.shape) > 1:
            return ref.at[slot]
        return ref.at[pl.ds(pl.multiple_of(slot * self.width, STREAM), self.width)]

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

    def push(self, source, to, semaphore):
        # Newer versions wait for these copies without one.
        newer = hasattr(plsc, "SparseCorePushStreamWarning") and not self.interpret
        copy = pltpu.make_async_copy(source, to, None if newer else semaphore)
        copy.start()
        copy.wait()

    def barrier(self):
        if not self.interpret:  # which runs one subcore only
            plsc.subcore_barrier()


def _plan(form, layout, tuning, info, batch, *structure) -> Plan:
    workers, n = info.num_cores * info.num_subcores, batch * layout.n_pre
    listed = min(_up(-(-n // workers), STREAM), LISTED)
    return Plan(
        cores=info.num_cores,
        subcores=info.num_subcores,
        lanes=info.num_lanes,
        listed=listed,
        share=_up(-(-n // workers), listed),
        width=form.width(layout, tuning.width, ALIGN, *structure),
        n_targets=batch * layout.n_post,
        private=batch * layout.n_post <= tuning.private,
        depth=tuning.in_flight,
        interpret=bool(tuning.interpret),
    )


def _bytes(form, layout, plan, *structure):
    """What a core's memory must hold: its subcores' scratch, and what they share."""
    columns = 1 + len(form.carried(layout, *structure))
    arrays = 1 + bool(layout.synapses) if form.row is not JIT.row else 0
    words = (2 * columns + 1) * _up(plan.listed + plan.lanes, STREAM)
    words += arrays * plan.depth * _up(plan.width, STREAM) + OVERHEAD
    words += plan.size if plan.private else 2 * _up(plan.width, STREAM)
    return 4 * (plan.subcores * words + (0 if plan.private else plan.size))


def launcher(form, layout, tuning, info, batch, *structure):
    """(`scatter` as a function of (s, w), None), or (None, why not). `info`: a `SparseCoreInfo`.

    Rows of the batch whose targets do not fit together go one after the other.
    """
    if tuning.interpret:  # which runs one subcore only
        info = dataclasses.replace(info, num_cores=1, num_subcores=1)
        limit = math.inf
    else:
        limit = info.num_subcores * info.vmem_capacity_bytes
    divisors = (n for n in range(batch, 0, -1) if batch % n == 0)
    for n in divisors:
        plan = _plan(form, layout, tuning, info, n, *structure)
        needed = _bytes(form, layout, plan, *structure)
        if needed <= limit:
            break
    else:
        return None, (
            f"n_post: {layout.n_post}, in rows of {plan.width} synapses, needs {needed >> 10} KiB "
            f"of the memory of a SparseCore, which has {limit / 1024:.0f} KiB"
        )

    def launch(s, w):
        if n == batch:
            return scatter(form, layout, plan, s, w, *structure)

        def group(s, w):
            return scatter(form, layout, plan, s, w, *structure)

        s = s.reshape(batch // n, n, -1)
        if w.shape[0] == 1:
            sums = lax.map(lambda s: group(s, w), s)
        else:
            sums = lax.map(lambda a: group(*a), (s, w.reshape(batch // n, n, *w.shape[1:])))
        return sums.reshape(batch, -1)

    return launch, None


def _shares(plan, a):
    a = jnp.pad(a.reshape(-1), (0, plan.workers * plan.share - a.size))
    return a.reshape(plan.share, plan.workers).T.reshape(-1)


def _list_events(form, plan, worker, m, columns, refs):
    """Lists the events of the m-th part of the worker's share; (events, pieces)."""
    first = m * plan.listed
    for column, ref in zip(columns, refs["given"], strict=True):
        at = pl.multiple_of(worker * plan.share + first, STREAM)
        pltpu.sync_copy(column.at[pl.ds(at, plan.listed)], ref)

    def visit(v, state):
        n_events, n_pieces = state
        at = pl.ds(v * plan.lanes, plan.lanes)
        value, *carried = (ref[at] for ref in refs["given"])
        n = (first + v * plan.lanes + plan.iota()) * plan.workers + worker
        start, stop = form.span(plan.width, *carried)
        pieces = count(start, stop, plan.width, ALIGN)
        there = (value != 0) & (pieces > 0)
        for ref, x in zip(refs["lists"], (n, value, *carried), strict=True):
            plan.append(ref, n_events, x, there)
        return n_events + plan.count(there), n_pieces + jnp.where(there, pieces, ZERO)

    state = (ZERO, jnp.zeros(plan.lanes, jnp.int32))
    n_events, n_pieces = lax.fori_loop(ZERO, np.int32(plan.listed // plan.lanes), visit, state)
    return n_events, jnp.sum(n_pieces, dtype=jnp.int32)


def _add(plan, vector, used, refs):
    """Adds the first `used` synapses of a piece; `vector(m)` is its m-th: (targets, x, there)."""
    out, lanes = refs["out"], plan.lanes
    if plan.private:
        n = lax.div(used + (lanes - 1), np.int32(lanes))
        return loop(n, lambda m: plan.add(out, *vector(m)))

    def stream(m):
        values, targets = refs["values"], refs["targets"]
        return values.at[m], out, targets.at[m], refs["streamed"]

    def begin(m):
        def fill(v):
            target, x, there = vector(m * (STREAM // lanes) + v)
            at = m, pl.ds(v * lanes, lanes)
            refs["targets"][at] = jnp.where(there, target, plan.n_targets + plan.iota())
            refs["values"][at] = jnp.where(there, x, jnp.zeros((), x.dtype))

        loop(np.int32(STREAM // lanes), fill)
        plan.begin_stream(*stream(m))

    n = lax.div(used + (STREAM - 1), np.int32(STREAM))
    loop(n, begin)
    return loop(n, lambda m: plan.end_stream(*stream(m)))


def _serve(form, layout, plan, worker, columns, words, arrays, refs):
    """Adds the rows of the worker's events."""
    batched = plan.n_targets > layout.n_post

    def split(n):
        n_pre = np.int32(layout.n_pre)
        return (lax.div(n, n_pre), lax.rem(n, n_pre)) if batched else (ZERO, n)

    def event(e):
        n, value, *carried = (plan.read(ref, e) for ref in refs["lists"])
        return n, value, carried

    def span(e):
        return form.span(plan.width, *(c[0] for c in event(e)[2]))

    def copies(slot, e, first):
        b, i = split(event(e)[0][0])
        place = form.place(layout, plan.width, ALIGN, first)
        for array, ref in zip(arrays, refs["rows"], strict=True):
            to, semaphore = plan.slot(ref, slot), refs["fetched"].at[slot]
            yield form.copy(array, b, i, place, plan.width, ALIGN, to, semaphore)

    def add(slot, e, first):
        n, value, carried = event(e)
        b, i = split(n)
        constants = [refs["words"][pl.ds(m * STREAM, plan.lanes)] for m in range(words)]
        row = form.row(layout, i, constants, *carried)
        start, stop = form.span(plan.width, *carried)
        start, stop = jnp.maximum(start, first), jnp.minimum(stop, first + plan.width)
        place = form.place(layout, plan.width, ALIGN, first)

        def vector(m):
            k = m * plan.lanes + plan.iota()
            at = jnp.minimum(k, plan.width - 1)
            pieces = [plan.read_slot(ref, slot, at) for ref in refs["rows"]]
            target, weight, there = row(place + k, pieces)
            inside = (place + k >= start) & (place + k < stop)
            there = inside if there is None else inside & there
            x = value if weight is None else value * weight
            return target + b * layout.n_post, x, there

        _add(plan, vector, jnp.broadcast_to(stop, (plan.lanes,))[0] - place, refs)

    def part(m):
        n = _list_events(form, plan, worker, m, columns, refs)
        for_each_piece(n, plan.depth, plan.width, ALIGN, span, copies, add)

    loop(np.int32(plan.share // plan.listed), part)


def scatter(form, layout, plan, s, w, *structure):
    """The sums [B, n_post] for float `s` [B, n_pre]."""
    batch = s.shape[0]
    arrays = form.arrays(layout, plan.width, ALIGN, w, *structure)
    words = form.constants(layout, w, *structure)
    columns = (s, *(jnp.tile(c, batch) for c in form.carried(layout, *structure)))
    columns = tuple(_shares(plan, c) for c in columns)
    f32, i32, vmem = jnp.float32, jnp.int32, pltpu.VMEM

    def kernel(columns, constants, arrays, zeros, result, refs):
        core, sub = lax.axis_index("core"), lax.axis_index("subcore")
        worker = core * plan.subcores + sub
        out = refs["out"]
        pltpu.sync_copy(constants, refs["words"])

        def serve():
            _serve(form, layout, plan, worker, columns, words.size, arrays, refs)

        def clear(m):
            out[pl.ds(m * plan.lanes, plan.lanes)] = jnp.zeros(plan.lanes, f32)

        if plan.private:
            loop(np.int32(plan.size // plan.lanes), clear)
            serve()
            to = pl.ds(pl.multiple_of(worker * plan.size, STREAM), plan.size)
            plan.push(out, result.at[to], refs["streamed"])
            return
        own = pl.ds(pl.multiple_of(sub * plan.part, STREAM), plan.part)
        to = pl.ds(pl.multiple_of(worker * plan.part, STREAM), plan.part)
        pltpu.sync_copy(zeros, out.at[own])
        plan.barrier()
        serve()
        plan.barrier()
        pltpu.sync_copy(out.at[own], result.at[to])

    streams = (1, 1) if plan.private else (-(-plan.width // STREAM), STREAM)
    scratch = {
        "given": [vmem((plan.listed,), c.dtype) for c in columns],
        "lists": [vmem((plan.listed + plan.lanes,), a.dtype) for a in (words, *columns)],
        "rows": [plan.rows(a) for a in arrays],
        "words": vmem((words.size * STREAM,), i32),
        "out": (vmem if plan.private else pltpu.VMEM_SHARED)((plan.size,), f32),
        "targets": vmem(streams, i32),
        "values": vmem(streams, f32),
        "fetched": pltpu.SemaphoreType.DMA((plan.depth,)),
        "streamed": pltpu.SemaphoreType.DMA(()),
    }
    copies = plan.workers if plan.private else plan.cores
    options: dict[str, Any] = {"use_tc_tiling_on_sc": True, "needs_layout_passes": False}
    known = {field.name for field in dataclasses.fields(pltpu.CompilerParams)}
    launch: Any = pl.kernel(
        kernel,
        jax.ShapeDtypeStruct((copies * plan.size,), f32),
        mesh=plsc.VectorSubcoreMesh(
            core_axis_name="core",
            subcore_axis_name="subcore",
            num_cores=plan.cores,
            num_subcores=plan.subcores,
        ),
        scratch_types={"refs": scratch},
        compiler_params=pltpu.CompilerParams(**{k: v for k, v in options.items() if k in known}),
        interpret=pltpu.InterpretParams(detect_races=True) if plan.interpret else False,
        name=f"purebrain_scatter_{'private' if plan.private else 'shared'}",
    )
    zeros = jnp.zeros(plan.part, f32)
    sums = launch(columns, jnp.repeat(words, STREAM), arrays, zeros).reshape(copies, plan.size)
    return jnp.sum(sums[:, : plan.n_targets], 0).reshape(batch, layout.n_post)

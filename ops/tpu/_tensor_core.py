"""Scatter on the TensorCore: rows of a dense matrix added up, or one-hot matrix products.

The scalar core lists the events of a block of neurons from packed words, and then visits them while
their rows are on their way. It has no scatter: target 128 h + l of a synapse is entry (h, l) of the
product of two one-hot matrices, which all synapses of a row share.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from .._spikes import pack_bits
from ._pieces import ZERO, count, for_each_piece, loop

ALIGN = 128  # of the places in HBM where a copy may begin
LANES = 128
WORDS = 512  # of a block of neurons
VECTOR_MEMORY = 16 << 20  # bytes that any TPU lets a kernel have


def _blocks(a, n):
    """[B, n_pre] as [B, blocks, 1, n], padded with zeros."""
    n_blocks = -(-a.shape[1] // n)
    a = jnp.pad(a, ((0, 0), (0, n * n_blocks - a.shape[1])))
    return a.reshape(a.shape[0], n_blocks, 1, n)


def _list_events(form, width, n_words, words, carried, listed):
    """Lists the events of a block by their number in it; (events, pieces)."""

    def visit(j, state):
        def bit(state):
            word, n_events, n_pieces = state
            k = np.int32(31) - lax.clz(word)
            n = k * n_words + j
            start, stop = form.span(width, *(c[0, 0, 0, n] for c in carried))
            pieces = count(start, stop, width, ALIGN)
            listed[n_events] = n  # overwritten by the next one where there are no synapses
            n_events = jnp.where(pieces > 0, n_events + 1, n_events)
            return word ^ lax.shift_left(np.int32(1), k), n_events, n_pieces + pieces

        return lax.while_loop(lambda state: state[0] != 0, bit, (words[0, 0, 0, j], *state))[1:]

    n_events, n_pieces = lax.fori_loop(ZERO, np.int32(n_words), visit, (ZERO, ZERO))
    listed[n_events] = ZERO  # is read, and nothing done
    return n_events, n_pieces


def _one_hot(out, block, targets, x):
    """out[h, l] += x of the targets 128 h + l, for rows [1, n]."""
    n, dtype = targets.shape[1], x.dtype
    high, low = targets >> 7, targets & 127
    lanes = (lax.broadcasted_iota(jnp.int32, (LANES, n), 0) == low).astype(dtype)

    def visit(m):
        at = pl.multiple_of(m * block, 8)
        rows = lax.broadcasted_iota(jnp.int32, (block, n), 0) + at == high
        out[pl.ds(at, block)] += lax.dot_general(
            jnp.where(rows, jnp.broadcast_to(x, rows.shape), jnp.zeros((), dtype)),
            lanes,
            (((1,), (1,)), ((), ())),
            precision=lax.Precision.HIGHEST,
            preferred_element_type=dtype,
        )

    loop(np.int32(out.shape[0] // block), visit)


def _out_shape(form, layout, tuning):
    """Of one row of the batch: the targets as rows of 128, whole blocks of them."""
    if form.row is None:
        return 1, layout.n_post
    n = -(-layout.n_post // LANES)
    block = min(-(-n // 8) * 8, tuning.block)
    return -(-n // block) * block, LANES


def launcher(form, layout, tuning, info, batch, *structure):
    """(`scatter` as a function of (s, w), None), or (None, why not)."""
    width = form.width(layout, tuning.width, ALIGN, *structure)
    rows, lanes = _out_shape(form, layout, tuning)
    words = 2 * rows * lanes + tuning.in_flight * width
    if form.row is not None:
        words += width * (2 * (LANES + min(rows, tuning.block)) + 8 * tuning.in_flight)
    if 4 * words > VECTOR_MEMORY and not tuning.interpret:
        return None, (
            f"n_post: {layout.n_post}, in rows of {width} synapses, needs {4 * words >> 10} KiB of "
            f"the TensorCore's memory, and kernels get {VECTOR_MEMORY >> 10} KiB"
        )
    return lambda s, w: scatter(form, layout, tuning, s, w, *structure), None


def scatter(form, layout, tuning, s, w, *structure):
    """The sums [B, n_post] for float `s` [B, n_pre]."""
    batch = s.shape[0]
    width = form.width(layout, tuning.width, ALIGN, *structure)
    arrays = form.arrays(layout, width, ALIGN, w, *structure)
    constants = form.constants(layout, w, *structure)
    n_words = min(-(-layout.n_pre // (32 * LANES)) * LANES, WORDS)
    n_listed = 32 * n_words
    values = _blocks(s, n_listed)
    words = lax.bitcast_convert_type(pack_bits(values != 0), jnp.int32)
    carried = tuple(_blocks(c[None], n_listed) for c in form.carried(layout, *structure))
    shape = _out_shape(form, layout, tuning)
    block = min(shape[0], tuning.block)

    def kernel(words, values, carried, constants, arrays, out, listed, rows, fetched):
        b, c = pl.program_id(0), pl.program_id(1)

        @pl.when(c == 0)
        def _():
            out[...] = jnp.zeros_like(out)

        def event(e):
            n = listed[e]
            return n, c * n_listed + n, [column[0, 0, 0, n] for column in carried]

        def span(e):
            return form.span(width, *event(e)[2])

        def copies(slot, e, first):
            place = form.place(layout, width, ALIGN, first)
            for array, row in zip(arrays, rows, strict=True):
                to, semaphore = row.at[slot], fetched.at[slot]
                yield form.copy(array, b, event(e)[1], place, width, ALIGN, to, semaphore)

        def add(slot, e, first):
            n, i, entries = event(e)
            value = values[0, 0, 0, n]
            pieces = [row[pl.ds(slot, 1)] for row in rows]
            if form.row is None:
                out[0] += value * pieces[0]
                return
            start, stop = form.span(width, *entries)
            k = form.place(layout, width, ALIGN, first)
            k = k + lax.broadcasted_iota(jnp.int32, (1, width), 1)
            row = form.row(
                layout, jnp.full(k.shape, i), list(map(constants.__getitem__, numbers)), *entries
            )
            targets, weight, there = row(k, pieces)
            inside = (k >= jnp.maximum(start, first)) & (k < jnp.minimum(stop, first + width))
            inside = inside if there is None else inside & there
            x = jnp.full(k.shape, value) if weight is None else value * weight
            _one_hot(out.at[0], block, targets, jnp.where(inside, x, jnp.zeros((), x.dtype)))

        numbers = range(constants.shape[0])
        n = _list_events(form, width, n_words, words, carried, listed)
        for_each_piece(n, tuning.in_flight, width, ALIGN, span, copies, add)

    def of_block(n, batched):
        place = (lambda b, c: (b, c, 0, 0)) if batched else (lambda b, c: (0, c, 0, 0))
        return pl.BlockSpec((1, 1, 1, n), place, memory_space=pltpu.SMEM)

    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    sums = pl.pallas_call(
        kernel,
        jax.ShapeDtypeStruct((batch, *shape), s.dtype),
        grid=(batch, values.shape[1]),
        in_specs=[
            of_block(n_words, True),
            of_block(n_listed, True),
            tuple(of_block(n_listed, False) for _ in carried),
            pl.BlockSpec(memory_space=pltpu.SMEM),
            jax.tree.map(lambda _: anywhere, arrays),
        ],
        out_specs=pl.BlockSpec((1, *shape), lambda b, c: (b, 0, 0)),
        scratch_shapes=[
            pltpu.SMEM((n_listed + 1,), jnp.int32),
            [pltpu.VMEM((tuning.in_flight, width), jax.tree.leaves(a)[0].dtype) for a in arrays],
            pltpu.SemaphoreType.DMA((tuning.in_flight,)),
        ],
        interpret=pltpu.InterpretParams(detect_races=True) if tuning.interpret else False,
        name=f"purebrain_{'rows' if form.row is None else 'one_hot'}",
    )(words, values, carried, constants, arrays)
    return sums.reshape(batch, -1)[:, : layout.n_post]

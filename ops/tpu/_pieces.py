"""Rows on their way from HBM: several at once, while one that has come is added."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

ZERO = np.int32(0)


def loop(n, visit):
    """visit(m) for m below n. (The counter of pl.loop has 64 bits where JAX has.)"""
    lax.fori_loop(ZERO, n, lambda m, _: visit(m), None)


def first_piece(start, align):
    """Where the first piece of a row begins: a copy begins at multiples of `align`."""
    return lax.div(start, np.int32(align)) * align


def count(start, stop, width, align):
    """How many pieces a row has."""
    n = lax.div(stop - first_piece(start, align) + (width - 1), np.int32(width))
    return jnp.where(stop > start, n, ZERO)


def for_each_piece(counts, depth, width, align, span, copies, add):
    """add(slot, e, first) for all pieces of the listed events, in order.

    `counts` are the numbers of events and of pieces, `span(e)` the synapses of event e, and
    `copies(slot, e, first)` bring a piece into one of `depth` slots.
    """
    n_events, n = counts

    def begin(e):
        return first_piece(span(e)[0], align)

    def after(piece):
        e, first = piece
        more = first + width < span(e)[1]
        next_e = lax.min(e + 1, n_events)  # behind the last, nothing is listed
        return jnp.where(more, e, next_e), jnp.where(more, first + width, begin(next_e))

    def start(slot, piece):
        for copy in copies(slot, *piece):
            copy.start()

    def visit(p, state):
        piece, ahead = state
        slot = lax.rem(p, np.int32(depth))
        for copy in copies(slot, *piece):
            copy.wait()
        add(slot, *piece)

        @pl.when(p + depth < n)
        def _():
            start(slot, ahead)

        return after(piece), after(ahead)

    piece = ahead = (ZERO, begin(ZERO))
    for slot in range(depth):

        @pl.when(slot < n)
        def _(slot=slot, ahead=ahead):
            start(slot, ahead)

        ahead = after(ahead)
    lax.fori_loop(ZERO, n, visit, (piece, ahead))

"""The compiled functions of stored synapses."""

import numpy as np
from numba import carray, cfunc, njit

from .._kinds import GATHER, SCATTER
from ._events import list_bits, list_marks, list_values
from ._frame import (
    FUNCTION,
    OPERANDS,
    RESULTS,
    address_of,
    array,
    data,
    in_place,
    is_question,
    out_of_bounds,
    pointer,
    prefetch,
)

# The row of the next event but one is fetched while one is worked on: so many of its ids, of which
# a line of the cache holds some. All ids of small connectivities stay in the cache.
AHEAD, FAR, LINE, NEAR = 2, 256, 16, 1 << 17


@njit
def row_sum(x, ids, w, start, stop, each):
    """The sum of the values at the targets of a row, times their weights."""
    zero = x.dtype.type(0)
    # Four sums: one would wait for each addition, and vectors, which gather, take longer.
    a, b, c, d = zero, zero, zero, zero
    p, four = start, np.uint64(4)
    while p + four <= stop:
        q, r, t = p + np.uint64(1), p + np.uint64(2), p + np.uint64(3)
        if each:
            a += x[ids[p]] * w[p]
            b += x[ids[q]] * w[q]
            c += x[ids[r]] * w[r]
            d += x[ids[t]] * w[t]
        else:
            a += x[ids[p]]
            b += x[ids[q]]
            c += x[ids[r]]
            d += x[ids[t]]
        p += four
    while p < stop:
        a += x[ids[p]] * w[p] if each else x[ids[p]]
        p += np.uint64(1)
    return (a + b) + (c + d)


def stored_rows(kind, number, event, each, ragged, by_target, stamp, keep):
    """`native._stored.visit_rows`, compiled for one kind of it, and types of numbers and events."""
    number, event = np.dtype(number).type, np.dtype(event).type
    packed, masked = event is np.uint32, event is np.bool_
    word = np.dtype(f"uint{8 * np.dtype(event).itemsize}").type

    @cfunc(FUNCTION, cache=keep, error_model="numpy")
    def function(address):
        frame = address_of(address)
        if is_question(frame, stamp):
            return pointer(0)
        out = array(frame, RESULTS, 0, number)
        found = array(frame, RESULTS, 1, np.int32)
        x = array(frame, OPERANDS, 0, number)
        s = array(frame, OPERANDS, 1, event)
        sizes = carray(data(frame, OPERANDS, 2), 6, np.int32)
        w = array(frame, OPERANDS, 3, number)
        indptr = array(frame, OPERANDS, 4, np.int32)
        ids = array(frame, OPERANDS, 5, np.uint32)

        if kind != SCATTER or not in_place(frame):
            for k in range(out.size):
                out[k] = x[k] if kind == SCATTER else 0
        batch, n_pre, n_post = np.int64(sizes[0]), np.int64(sizes[2]), np.int64(sizes[3])
        lo, degree = np.int64(sizes[4]), np.int64(sizes[5])
        n_out, n_events, n_weights = out.size // batch, s.size // batch, w.size // sizes[1]
        for b in range(batch):
            mine, own = out[b * n_out : (b + 1) * n_out], x[b * n_post : (b + 1) * n_post]
            first = b * n_weights if sizes[1] > 1 else 0
            weights, events = w[first : first + n_weights], s[b * n_events : (b + 1) * n_events]
            if packed:
                n = list_bits(found, events, lo)
            else:
                events = events[lo : lo + n_pre]
                raw = events.view(word)
                n = list_marks(found, raw) if masked else list_values(found, raw)
            for e in range(n):
                if e + AHEAD < n and ids.size > NEAR:
                    i = np.int64(found[e + AHEAD])
                    start, stop = i * degree, (i + 1) * degree
                    if ragged:
                        start, stop = np.int64(indptr[i]), np.int64(indptr[i + 1])
                    for p in range(start, min(stop, start + FAR), LINE):
                        prefetch(ids, p)
                i = np.int64(found[e])
                start, stop = i * degree, (i + 1) * degree
                if ragged:
                    start, stop = np.int64(indptr[i]), np.int64(indptr[i + 1])
                if not 0 <= start <= stop <= ids.size:
                    return out_of_bounds(frame)
                start, stop = np.uint64(start), np.uint64(stop)
                highest = np.uint32(0)
                for p in range(start, stop):
                    highest = max(highest, ids[p])
                if highest >= (ids.size if by_target else n_post) and start < stop:
                    return out_of_bounds(frame)
                value = number(1) if packed or masked else number(events[i])
                if kind == SCATTER:
                    for p in range(start, stop):
                        place = ids[p] if by_target else p
                        target = np.uint32(ids[p] // degree) if by_target else ids[p]
                        mine[target] += value * weights[place if each else 0]
                elif kind == GATHER:
                    total = row_sum(own, ids, weights, start, stop, each)
                    mine[lo + i] = total if each else total * weights[0]
                elif each:
                    for p in range(start, stop):
                        mine[p] += value * own[ids[p]]
                else:
                    mine[0] += value * row_sum(own, ids, weights, start, stop, False)
        return pointer(0)

    return function

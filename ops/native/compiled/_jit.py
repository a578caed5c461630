"""The compiled functions of random matrices."""

import numpy as np
from numba import carray, cfunc, njit

from .._kinds import GATHER, ONE, SCATTER
from ._events import list_bits, list_values
from ._frame import FUNCTION, OPERANDS, RESULTS, address_of, data, is_question, pointer, size
from ._jit_columns import put_columns, row_keys
from ._jit_weights import put_weights


@njit(cache=True, error_model="numpy")
def row_sum(x, columns, weights, n, each):
    """The sum of the values at n columns, a multiple of 4, that are there, times weights if `each`.

    In four parts, which are added at once.
    """
    a = b = c = d = x.dtype.type(0)
    for j in range(np.uint64(0), np.uint64(n), np.uint64(4)):
        k, p, q = j + np.uint64(1), j + np.uint64(2), j + np.uint64(3)
        if columns[j] < x.size:
            a += x[columns[j]] * weights[j] if each else x[columns[j]]
        if columns[k] < x.size:
            b += x[columns[k]] * weights[k] if each else x[columns[k]]
        if columns[p] < x.size:
            c += x[columns[p]] * weights[p] if each else x[columns[p]]
        if columns[q] < x.size:
            d += x[columns[q]] * weights[q] if each else x[columns[q]]
    return (a + b) + (c + d)


def jit_rows(kind, number, event, law, stamp):
    """`native._jit.visit_rows`, compiled for one kind of it, a law, and types of numbers and
    events."""
    number, event = np.dtype(number).type, np.dtype(event).type
    packed, each = event is np.uint32, law != ONE
    word = np.dtype(f"uint{8 * np.dtype(event).itemsize}").type

    @cfunc(FUNCTION, cache=True, error_model="numpy")
    def function(address):
        frame = address_of(address)
        if is_question(frame, stamp):
            return pointer(0)
        out = carray(data(frame, RESULTS, 0), size(frame, RESULTS, 0), number)
        found = carray(data(frame, RESULTS, 1), size(frame, RESULTS, 1), np.int32)
        room = size(frame, RESULTS, 2)
        columns = carray(data(frame, RESULTS, 2), room, np.uint32)
        columns_at = address_of(data(frame, RESULTS, 2))
        weights = carray(data(frame, RESULTS, 3), room, number)
        x = carray(data(frame, OPERANDS, 0), size(frame, OPERANDS, 0), number)
        sizes = carray(data(frame, OPERANDS, 2), 5, np.int32)
        s = carray(data(frame, OPERANDS, 1), size(frame, OPERANDS, 1), event)
        w = carray(data(frame, OPERANDS, 3), size(frame, OPERANDS, 3), number)
        blocks = address_of(data(frame, OPERANDS, 4))
        seed = carray(data(frame, OPERANDS, 5), 1, np.uint32)[0]
        degree = carray(data(frame, OPERANDS, 6), size(frame, OPERANDS, 6), np.int32)

        if address_of(data(frame, RESULTS, 0)) != address_of(data(frame, OPERANDS, 0)):
            for k in range(out.size):
                out[k] = x[k] if kind == SCATTER else 0
        batch, n_post, n_weights = np.int64(sizes[0]), np.int64(sizes[2]), w.size // sizes[1]
        n_out, n_events = out.size // batch, s.size // batch
        # Rows that are gathered are made once for the whole batch.
        for b in range(1 if kind == GATHER else batch):
            events, n = s[b * n_events : (b + 1) * n_events], degree.size
            if packed and kind != GATHER:
                n = list_bits(found, events, sizes[3])
            elif kind != GATHER:
                n = list_values(found, events.view(word))
            for e in range(n):
                i = e if kind == GATHER else np.int64(found[e])
                keys = row_keys(seed, np.uint32(i))
                value = number(1) if packed or kind == GATHER else number(events[i])
                for first in range(0, degree[i], room):
                    m = min(degree[i] - first, room)
                    put_columns(columns_at, keys, first, m, sizes[4], blocks)
                    whole = (m + 3) // 4 * 4
                    for j in range(m, whole):
                        columns[j] = n_post
                    for at in range(b, batch if kind == GATHER else b + 1):
                        ours = at * n_weights if sizes[1] > 1 else 0
                        if each and (at == b or sizes[1] > 1):
                            put_weights(weights, law, keys, first, m, w[ours : ours + n_weights])
                        mine = out[at * n_out : (at + 1) * n_out]
                        own = x[at * n_post : (at + 1) * n_post]
                        if kind == SCATTER:
                            one = value * w[ours]
                            for j in range(m):
                                if columns[j] < n_post:
                                    mine[columns[j]] += value * weights[j] if each else one
                        elif kind == GATHER:
                            total = row_sum(own, columns, weights, whole, each)
                            mine[i] += total if each else w[ours] * total
                        else:
                            mine[0] += value * row_sum(own, columns, weights, whole, False)
                            if each:
                                mine[1] += value * row_sum(own, columns, weights, whole, True)
        return pointer(0)

    return function

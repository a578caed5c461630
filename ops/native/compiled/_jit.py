"""The compiled functions of random matrices."""

import numpy as np
from numba import carray, cfunc, njit

from ..._jit_matrix import GOLDEN
from .._kinds import GATHER, ONE, SCATTER
from ._events import list_bits, list_values
from ._frame import (
    FUNCTION,
    OPERANDS,
    RESULTS,
    address_of,
    array,
    data,
    in_place,
    is_question,
    pointer,
    prefetch,
    size,
)
from ._jit_columns import put_narrow, put_wide, row_keys
from ._jit_draws import put_weights
from ._jit_narrow import add_band, sum_band


@njit(error_model="numpy")
def row_sum(x, columns, weights, n, each):
    """The sum of the values at n columns that are there, times weights if `each`.

    In four parts, which are added at once.
    """
    a = b = c = d = x.dtype.type(0)
    whole = np.uint64(n - n % 4)
    for j in range(np.uint64(0), whole, np.uint64(4)):
        k, p, q = j + np.uint64(1), j + np.uint64(2), j + np.uint64(3)
        if columns[j] < x.size:
            a += x[columns[j]] * weights[j] if each else x[columns[j]]
        if columns[k] < x.size:
            b += x[columns[k]] * weights[k] if each else x[columns[k]]
        if columns[p] < x.size:
            c += x[columns[p]] * weights[p] if each else x[columns[p]]
        if columns[q] < x.size:
            d += x[columns[q]] * weights[q] if each else x[columns[q]]
    for j in range(whole, np.uint64(n)):
        if columns[j] < x.size:
            a += x[columns[j]] * weights[j] if each else x[columns[j]]
    return (a + b) + (c + d)


@njit(error_model="numpy")
def add_row(y, columns, weights, n, value, one, each):
    """Adds value times weights if `each`, else `one`, to y at n columns that are there."""
    for j in range(np.uint64(0), np.uint64(n)):
        if columns[j] < y.size:
            y[columns[j]] += value * weights[j] if each else one


def jit_rows(kind, number, event, sums_of, law, narrow, ahead, stamp, keep):
    """`native._jit.visit_rows`, compiled for one kind of it, a law, whether columns are words of 16
    bits and are made ahead, and types of numbers, events and sums."""
    number, event = np.dtype(number).type, np.dtype(event).type
    packed, each = event is np.uint32, law != ONE
    word = np.dtype(f"uint{8 * np.dtype(event).itemsize}").type
    column = np.uint16 if narrow else np.uint32
    sums_of = np.dtype(sums_of).type
    counted = sums_of is not number

    @cfunc(FUNCTION, cache=keep, error_model="numpy")
    def function(address):
        frame = address_of(address)
        if is_question(frame, stamp):
            return pointer(0)
        out = array(frame, RESULTS, 0, number)
        found = array(frame, RESULTS, 1, np.int32)
        room = size(frame, RESULTS, 2)
        columns = carray(data(frame, RESULTS, 2), room, column)
        columns_at = address_of(data(frame, RESULTS, 2))
        weights = carray(data(frame, RESULTS, 3), room, number)
        draws = carray(data(frame, RESULTS, 3), room, np.uint16)  # in the same place
        sums = array(frame, RESULTS, 4, sums_of)
        x = array(frame, OPERANDS, 0, number)
        s = array(frame, OPERANDS, 1, event)
        sizes = carray(data(frame, OPERANDS, 2), 6, np.int32)
        w = array(frame, OPERANDS, 3, number)
        domains = array(frame, OPERANDS, 4, np.uint16)
        domains_at = address_of(data(frame, OPERANDS, 4))
        seed = carray(data(frame, OPERANDS, 5), 1, np.uint32)[0]
        degree = array(frame, OPERANDS, 6, np.int32)

        if kind == SCATTER:
            for k in range(sums.size):
                sums[k] = 0
        if not in_place(frame):
            for k in range(out.size):
                out[k] = x[k] if kind == SCATTER else 0
        batch, n_pre, n_post = np.int64(sizes[0]), np.int64(sizes[2]), np.int64(sizes[3])
        n_out, n_events, n_weights = out.size // batch, s.size // batch, w.size // sizes[1]
        n_bands = domains.size // 2
        # Rows that are gathered are made once for the whole batch.
        for b in range(1 if kind == GATHER else batch):
            events, n = s[b * n_events : (b + 1) * n_events], n_pre
            if packed and kind != GATHER:
                n = list_bits(found, events, sizes[4])
            elif kind != GATHER:
                n = list_values(found, events.view(word))
            for band in range(n_bands):
                lo = band * np.int64(sizes[5])
                width = min(n_post - lo, np.int64(sizes[5]))
                bits, blocks = domains[2 * band], domains_at + 4 * band + 2
                domain = bits, blocks, np.int64(domains[2 * band + 1]) << np.int64(bits)
                band_seed = np.uint32(seed + np.uint32(band * GOLDEN))
                if ahead:
                    ours, mine = b * n_weights if sizes[1] > 1 else 0, b * n_out + lo
                    degrees, coefficients = degree[band * n_pre :], w[ours:]
                    rows = band_seed, degrees, domain, law, coefficients, (columns, weights, draws)
                    if kind == GATHER:
                        sum_band(out, x[lo : lo + width], sums, *rows)
                    else:
                        y = out[mine : mine + width]
                        add_band(y, sums, counted, found[:n], events, packed, *rows)
                    continue
                for e in range(n):
                    i = e if kind == GATHER else np.int64(found[e])
                    keys = row_keys(band_seed, np.uint32(i))
                    value = number(1) if packed or kind == GATHER else number(events[i])
                    synapses = degree[band * n_pre + i]
                    if kind != GATHER and e + 1 < n:
                        prefetch(degree, band * n_pre + found[e + 1])
                    for first in range(0, synapses, room):
                        m = min(synapses - first, room)
                        if narrow:
                            put_narrow(columns_at, keys, first, m, domain)
                        else:
                            put_wide(columns_at, keys, first, m, domain)
                        for at in range(b, batch if kind == GATHER else b + 1):
                            ours = at * n_weights if sizes[1] > 1 else 0
                            if each and (at == b or sizes[1] > 1):
                                own = w[ours : ours + n_weights]
                                put_weights(weights, columns, law, keys, first, m, own)
                            mine = out[at * n_out : (at + 1) * n_out]
                            if kind == SCATTER:
                                mine = mine[lo : lo + width]
                                one = value * w[ours]
                                add_row(mine, columns, weights, m, value, one, each)
                                continue
                            values = x[at * n_post + lo : at * n_post + lo + width]
                            if kind == GATHER:
                                total = row_sum(values, columns, weights, m, each)
                                mine[i] += total if each else w[ours] * total
                            else:
                                mine[0] += value * row_sum(values, columns, weights, m, False)
                                if each:
                                    mine[1] += value * row_sum(values, columns, weights, m, True)
        return pointer(0)

    return function

"""Rows of random matrices whose columns are words of 16 bits: of at most 2^16, or bands of so many.

Columns and weights are made a vector ahead of their use: what one has to compute fills the time in
which the other waits for memory.
"""

import numpy as np
from numba import njit

from ..._jit_bands import BAND
from .._kinds import ONE
from ._frame import prefetch
from ._jit_columns import AHEAD, put_halves, put_words, row_keys
from ._jit_weights import put_weights

MOST = 255  # synapses that a byte counts

u32, u64 = np.uint32, np.uint64


@njit(error_model="numpy", forceinline=True)
def look_ahead(columns, weights, first, words, keys, n, domain, law, w):
    """Puts the vector of columns and, of a law, weights that comes after synapse `first`'s, if any,
    in its half of the room for two. Where those of `first` begin and end: nowhere before a row."""
    bits, blocks, _ = domain
    then = first + AHEAD
    if then < n:
        place = then % (2 * AHEAD)
        if words:
            put_words(columns.ctypes.data + 2 * place, keys, u32(then))
        else:
            put_halves(columns.ctypes.data + 2 * place, keys, u32(then), u32(bits), blocks)
        if law != ONE:
            put_weights(weights[place : place + AHEAD], law, keys, then, AHEAD, w)
    if first < 0:
        return u64(0), u64(0)
    here = u64(first % (2 * AHEAD))
    return here, here + u64(min(n - first, AHEAD))


@njit(error_model="numpy", forceinline=True)
def add_row(y, every, words, keys, n, domain, law, w, columns, weights, value, one):
    """Adds value times the weights of a law, else `one`, to y at the n columns of a row: at every
    one, or those that are there."""
    for first in range(-AHEAD, n, AHEAD):
        here, end = look_ahead(columns, weights, first, words, keys, n, domain, law, w)
        if not every:
            for j in range(here, end):
                if columns[j] < y.size:
                    y[columns[j]] += one if law == ONE else value * weights[j]
            continue
        whole = end - end % u64(4)
        for start in range(here, whole, u64(4)):
            for j in range(start, start + u64(4)):
                y[columns[j]] += one if law == ONE else value * weights[j]
        for j in range(whole, end):
            y[columns[j]] += one if law == ONE else value * weights[j]


@njit(error_model="numpy", forceinline=True)
def row_sum(x, words, keys, n, domain, law, w, columns, weights):
    """The sum of the values at the n columns of a row, times the weights of a law.

    In four parts, which are added at once.
    """
    each = law != ONE
    a = b = c = d = x.dtype.type(0)
    for first in range(-AHEAD, n, AHEAD):
        here, end = look_ahead(columns, weights, first, words, keys, n, domain, law, w)
        whole = end - end % u64(4)
        for j in range(here, whole, u64(4)):
            k, p, q = j + u64(1), j + u64(2), j + u64(3)
            a += x[columns[j]] * weights[j] if each else x[columns[j]]
            b += x[columns[k]] * weights[k] if each else x[columns[k]]
            c += x[columns[p]] * weights[p] if each else x[columns[p]]
            d += x[columns[q]] * weights[q] if each else x[columns[q]]
        for j in range(whole, end):
            a += x[columns[j]] * weights[j] if each else x[columns[j]]
    return (a + b) + (c + d)


@njit(error_model="numpy", forceinline=True)
def add_rows(y, every, counted, found, events, packed, seed, degree, domain, law, w, room):
    """Adds the rows of events to y, or counts their synapses."""
    number = w.dtype.type
    for e in range(found.size):
        i = np.int64(found[e])
        if e + 1 < found.size:
            prefetch(degree, np.int64(found[e + 1]))
        value = number(1) if packed else number(events[i])
        one = y.dtype.type(value if counted else value * w[0])
        keys = row_keys(seed, u32(i))
        row = keys, degree[i], domain, law, w
        if domain[2] == BAND:
            add_row(y, every, True, *row, *room, value, one)
        else:
            add_row(y, every, False, *row, *room, value, one)


@njit(error_model="numpy", forceinline=True)
def add_band(y, sums, found, events, packed, seed, degree, domain, law, w, room):
    """Adds the rows of the events that were found to y.

    Many by way of sums, which stay in the cache and have room for every word, so that y is met
    once, in order. Of events without values and of one weight they are numbers of synapses, which
    take a byte.
    """
    n, size = found.size, domain[2]
    rows = events, packed, seed, degree, domain, law, w, room
    if n == 0 or n * degree[found[0]] < 2 * size:
        add_rows(y, False, False, found, *rows)
        return
    number, counted = y.dtype.type, packed and law == ONE
    most, factor = (MOST, w[0]) if counted else (n, number(1))
    for e in range(0, n, most):
        for k in range(size):
            sums[k] = 0
        add_rows(sums, True, counted, found[e : e + most], *rows)
        for k in range(y.size):
            if sums[k] != 0:
                y[k] += factor * number(sums[k])


@njit(error_model="numpy", forceinline=True)
def sum_band(out, x, sums, seed, degree, domain, law, w, room):
    """Adds the sums of all rows, of the values x at their columns, to `out`."""
    for k in range(domain[2]):
        sums[k] = x[k] if k < x.size else 0  # at columns that are not there
    for i in range(out.size):
        row = row_keys(seed, u32(i)), degree[i], domain, law, w
        if domain[2] == BAND:
            total = row_sum(sums, True, *row, *room)
        else:
            total = row_sum(sums, False, *row, *room)
        out[i] += total if law != ONE else w[0] * total

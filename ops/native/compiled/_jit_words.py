"""Rows of the 2^16 columns of a whole band of a random matrix (`_jit_bands`).

Columns and weights are made a vector ahead of their use: what one has to compute fills the time in
which the other waits for memory.
"""

import numpy as np
from numba import njit

from .._kinds import ONE
from ._frame import prefetch
from ._jit_columns import WORD_LANES, put_words, row_keys
from ._jit_weights import put_weights

MOST = 255  # synapses that a byte counts

u32, u64 = np.uint32, np.uint64


@njit(error_model="numpy", forceinline=True)
def put(columns, weights, keys, first, law, coefficients):
    """Puts a vector of columns and, of a law, weights from synapse `first` on in their half of the
    room for two."""
    place = first % (2 * WORD_LANES)
    put_words(columns.ctypes.data + 2 * place, keys, u32(first))
    if law != ONE:
        own = weights[place : place + WORD_LANES]
        put_weights(own, law, keys, first, WORD_LANES, coefficients)


@njit(error_model="numpy", forceinline=True)
def add_row(sums, keys, n, law, w, columns, weights, value, one):
    """Adds value times the weights of a law, else `one`, to the sums at the n columns of a row."""
    put(columns, weights, keys, 0, law, w)
    for first in range(0, n, WORD_LANES):
        if first + WORD_LANES < n:
            put(columns, weights, keys, first + WORD_LANES, law, w)
        here = u64(first % (2 * WORD_LANES))
        end = here + u64(min(n - first, WORD_LANES))
        whole = end - end % u64(4)
        for start in range(here, whole, u64(4)):
            for j in range(start, start + u64(4)):
                sums[columns[j]] += one if law == ONE else value * weights[j]
        for j in range(whole, end):
            sums[columns[j]] += one if law == ONE else value * weights[j]


@njit(error_model="numpy", forceinline=True)
def row_sum(x, keys, n, law, w, columns, weights):
    """The sum of the values at the n columns of a row, times the weights of a law.

    In four parts, which are added at once.
    """
    each = law != ONE
    a = b = c = d = x.dtype.type(0)
    put(columns, weights, keys, 0, law, w)
    for first in range(0, n, WORD_LANES):
        if first + WORD_LANES < n:
            put(columns, weights, keys, first + WORD_LANES, law, w)
        here = u64(first % (2 * WORD_LANES))
        end = here + u64(min(n - first, WORD_LANES))
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
def add_band(y, found, events, packed, seed, degree, law, w, columns, weights, sums):
    """Adds the rows of the events that were found to y.

    By way of sums, which are 0 before and after: they stay in the cache, y is met once, in order.
    Of events without values and of one weight they are numbers of synapses, which take a byte.
    """
    number = y.dtype.type
    counted = packed and law == ONE
    factor = w[0] if counted else number(1)
    n = found.size
    for e in range(n):
        i = np.int64(found[e])
        if e + 1 < n:
            prefetch(degree, np.int64(found[e + 1]))
        value = number(1) if packed else number(events[i])
        one = sums.dtype.type(value if counted else value * w[0])
        keys = row_keys(seed, u32(i))
        add_row(sums, keys, degree[i], law, w, columns, weights, value, one)
        if e + 1 == n or (counted and e % MOST == MOST - 1):
            for k in range(sums.size):
                if sums[k] != 0:
                    y[k] += factor * number(sums[k])
            sums[:] = 0


@njit(error_model="numpy", forceinline=True)
def sum_band(out, x, seed, degree, law, w, columns, weights):
    """Adds the sums of all rows, of the values x at their columns, to `out`."""
    for i in range(out.size):
        total = row_sum(x, row_keys(seed, u32(i)), degree[i], law, w, columns, weights)
        out[i] += total if law != ONE else w[0] * total

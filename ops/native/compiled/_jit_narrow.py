"""Rows of random matrices whose columns are words of 16 bits: of at most 2^16, or bands of so many.

Columns and weights are made a vector ahead of their use: what one has to compute fills the time in
which the other waits for memory.
"""

import numpy as np
from numba import njit

from ..._jit_matrix import WORDS
from .._kinds import NORMAL, ONE
from ._frame import prefetch
from ._jit_columns import AHEAD, put_halves, put_words, row_keys
from ._jit_draws import ZERO_OF_NORMAL, put_ahead

MOST = 255  # synapses that a byte counts
COUNT = 24  # the bits of the sum of so many draws; their number is above it

i32, u32, u64 = np.int32, np.uint32, np.uint64


@njit(error_model="numpy", forceinline=True)
def look_ahead(room, first, words, keys, n, domain, law, counted, w):
    """Puts the vector of columns and, of a law, weights or draws that comes after that of synapse
    `first`, if any, in its half of the room for two. Where those of `first` begin and end: nowhere
    before a row."""
    columns, weights, draws = room
    bits, blocks, size = domain
    then = first + AHEAD
    if then < n:
        place = then % (2 * AHEAD)
        at = columns.ctypes.data + 2 * place
        if words:
            put_words(at, keys, u32(then), u32(size))
        else:
            put_halves(at, keys, u32(then), u32(bits), blocks)
        if law != ONE:
            if counted:
                put_ahead(draws[place:], columns[place:], law, keys, then, None)
            else:
                each = w[0], w[1], w[2], w[3]
                put_ahead(weights[place:], columns[place:], law, keys, then, each)
    if first < 0:
        return u64(0), u64(0)
    here = u64(first % (2 * AHEAD))
    return here, here + u64(min(n - first, AHEAD))


@njit(error_model="numpy", forceinline=True)
def term(room, j, law, counted, value, one):
    """What synapse j adds: `one`, and its draw if counted; or, of a law, value times its weight."""
    if law == ONE:
        return one
    if counted:
        return u32(one + u32(room[2][j]))
    return value * room[1][j]


@njit(error_model="numpy", forceinline=True)
def add_row(y, every, words, keys, n, domain, law, counted, w, room, value, one):
    """Adds the terms of a row to y at its n columns: at every one, or those that are there."""
    columns = room[0]
    for first in range(-AHEAD, n, AHEAD):
        here, end = look_ahead(room, first, words, keys, n, domain, law, counted, w)
        if not every:
            for j in range(here, end):
                if columns[j] < y.size:
                    y[columns[j]] += term(room, j, law, counted, value, one)
            continue
        whole = end - end % u64(4)
        for start in range(here, whole, u64(4)):
            for j in range(start, start + u64(4)):
                y[columns[j]] += term(room, j, law, counted, value, one)
        for j in range(whole, end):
            y[columns[j]] += term(room, j, law, counted, value, one)


@njit(error_model="numpy", forceinline=True)
def row_sum(x, words, keys, n, domain, law, w, room):
    """The sum of the values at the n columns of a row, times the weights of a law.

    In four parts, which are added at once.
    """
    each = law != ONE
    columns, weights, _ = room
    a = b = c = d = x.dtype.type(0)
    for first in range(-AHEAD, n, AHEAD):
        here, end = look_ahead(room, first, words, keys, n, domain, law, False, w)
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
        if counted:
            one = y.dtype.type(1 if law == ONE else 1 << COUNT)
        else:
            one = y.dtype.type(value * w[0])
        row = row_keys(seed, u32(i)), degree[i], domain, law, counted, w, room, value, one
        if domain[2] in WORDS:
            add_row(y, every, True, *row)
        else:
            add_row(y, every, False, *row)


@njit(error_model="numpy", fastmath={"contract"}, forceinline=True)
def value_of(total, counted, law, w):
    """What a sum stands for."""
    if not counted:
        return total
    number = w.dtype.type
    if law == ONE:
        return w[0] * number(total)
    count = i32(u32(total) >> u32(COUNT))
    draws = i32(u32(total) & u32((1 << COUNT) - 1))
    draws = number(i32(draws - i32(count * i32(ZERO_OF_NORMAL if law == NORMAL else 0))))
    # `_jit_weights.combine`, of so many synapses.
    return ((w[3] * draws + w[2] * draws) + w[1] * draws) + w[0] * number(count)


@njit(error_model="numpy", forceinline=True)
def most_counted(sums, size, law):
    """The greatest number of synapses that one of so many targets has."""
    most = sums.dtype.type(0)
    for k in range(size):
        most = max(most, sums[k])
    return np.int64(most) if law == ONE else np.int64(u32(most) >> u32(COUNT))


@njit(error_model="numpy", forceinline=True)
def add_band(y, sums, counted, found, events, packed, seed, degree, domain, law, w, room):
    """Adds the rows of the events that were found to y.

    Many by way of sums, which stay in the cache and have room for every word, so that y is met
    once, in order: 0 before and after. If `counted`, of events without values, they are numbers of
    synapses: a byte; above the sums of their draws, if they have any.
    """
    n, size = found.size, domain[2]
    rows = events, packed, seed, degree, domain, law, w, room
    if n == 0 or n * degree[found[0]] < 2 * size:
        add_rows(y, False, False, found, *rows)
        return
    done, left = 0, MOST
    while done < n:
        some = found[done : done + left] if counted else found
        add_rows(sums, True, counted, some, *rows)
        done += some.size
        # Few of a sparse matrix's rows meet at one target: then there is room for more.
        left = MOST - most_counted(sums, size, law) if counted else 0
        if done < n and left >= MOST // 4:
            continue
        for k in range(y.size):
            # Where nothing came, nothing is added: not 0 times a weight that may be infinite.
            value = value_of(sums[k], counted, law, w)
            y[k] += value if sums[k] != 0 else y.dtype.type(0)
        for k in range(size):
            sums[k] = 0
        left = MOST


@njit(error_model="numpy", forceinline=True)
def sum_band(out, x, sums, seed, degree, domain, law, w, room):
    """Adds the sums of all rows, of the values x at their columns, to `out`."""
    for k in range(domain[2]):
        sums[k] = x[k] if k < x.size else 0  # at columns that are not there
    for i in range(out.size):
        row = row_keys(seed, u32(i)), degree[i], domain, law, w, room
        if domain[2] in WORDS:
            total = row_sum(sums, True, *row)
        else:
            total = row_sum(sums, False, *row)
        out[i] += total if law != ONE else w[0] * total

"""The compiled functions of delayed synapses."""

import numpy as np
from numba import carray, cfunc, njit

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
    out_of_bounds,
    pointer,
    size,
)

i32, u32 = np.int32, np.uint32


@njit(error_model="numpy")
def put_places(places, ids, delay, first, n, slot, dt, n_slots, stride):
    """Puts the places on the ring of synapses first to first + n - 1, as `delayed_targets` does;
    gives whether all are on it."""
    number, bad = type(dt), u32(0)
    for j in range(n):
        p = np.uint64(first + j)
        steps = number(number(number(delay[p]) / dt) + number(0.5))
        near = number(-n_slots) < steps < number(2 * n_slots)  # or a whole number may not hold it
        at = i32(slot + i32(steps if near else number(0)))
        at = i32(at - n_slots) if at >= n_slots else at
        bad |= u32(not near) | u32(u32(at) >= u32(n_slots)) | u32(ids[p] >= stride)
        places[j] = u32(u32(u32(at) * stride) + ids[p])
    return bad == 0


def delayed_rows(number, event, time, each, stamp, keep):
    """`native._delayed.scatter`, compiled for types of numbers, events and dt."""
    number, event = np.dtype(number).type, np.dtype(event).type
    time, packed = np.dtype(time).type, event is np.uint32
    word = np.dtype(f"uint{8 * np.dtype(event).itemsize}").type

    @cfunc(FUNCTION, cache=keep, error_model="numpy")
    def function(address):
        frame = address_of(address)
        if is_question(frame, stamp):
            return pointer(0)
        out = array(frame, RESULTS, 0, number)
        found = array(frame, RESULTS, 1, i32)
        room = size(frame, RESULTS, 2)
        places = carray(data(frame, RESULTS, 2), room, u32)
        y = carray(data(frame, OPERANDS, 0), out.size, number)
        sizes = carray(data(frame, OPERANDS, 2), 5, i32)
        s = array(frame, OPERANDS, 1, event)
        w = array(frame, OPERANDS, 3, number)
        indptr = array(frame, OPERANDS, 4, i32)
        ids = array(frame, OPERANDS, 5, u32)
        delay = carray(data(frame, OPERANDS, 6), ids.size, i32)
        slot = carray(data(frame, OPERANDS, 7), 1, i32)[0]
        dt = carray(data(frame, OPERANDS, 8), 1, time)[0]

        if not in_place(frame):
            for k in range(out.size):
                out[k] = y[k]
        batch, n_ring, stride = np.int64(sizes[0]), np.int64(sizes[2]), u32(sizes[3])
        n_slots, n_events, n_weights = (
            i32(sizes[2] // sizes[3]),
            s.size // batch,
            w.size // sizes[1],
        )
        for b in range(batch):
            mine, events = out[b * n_ring : (b + 1) * n_ring], s[b * n_events : (b + 1) * n_events]
            shift = b * n_weights if sizes[1] > 1 else 0
            weights = w[shift : shift + n_weights]
            n = (
                list_bits(found, events, sizes[4])
                if packed
                else list_values(found, events.view(word))
            )
            for e in range(n):
                i = np.int64(found[e])
                value = number(1) if packed else number(events[i])
                start, stop = np.int64(indptr[i]), np.int64(indptr[i + 1])
                if not 0 <= start <= stop <= ids.size:
                    return out_of_bounds(frame)
                for first in range(start, stop, room):
                    m = min(stop - first, room)
                    if not put_places(places, ids, delay, first, m, slot, dt, n_slots, stride):
                        return out_of_bounds(frame)
                    for j in range(m):
                        weight = weights[np.uint64(first + j) if each else np.uint64(0)]
                        mine[places[j]] += value * weight
        return pointer(0)

    return function

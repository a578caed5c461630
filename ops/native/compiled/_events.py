"""Lists of the events of a step."""

import numpy as np
from numba import njit

from ._frame import trailing_zeros


@njit
def list_bits(found, words, lo):
    """Puts the neurons whose bits are set into `found`; gives their number."""
    n = 0
    for j in range(words.size):
        bits = words[j]
        while bits != 0:
            k = np.int64(trailing_zeros(np.uint64(bits))) * words.size + j - lo
            bits = np.uint32(bits & np.uint32(bits - np.uint32(1)))
            if 0 <= k < found.size:
                found[n] = k
                n += 1
    return n


@njit
def list_values(found, s):
    """The same, of the values that are not 0: `s` as unsigned integers of 4 or 8 bytes."""
    n, block = 0, 64 // s.itemsize
    whole = s.size - s.size % block
    words = s[:whole].view(np.uint64)
    for j in range(0, words.size, 8):
        some = np.uint64(0)
        for k in range(j, j + 8):
            some |= words[k]
        if some != 0:
            first = j // 8 * block
            for k in range(first, first + block):
                if s[k] != 0:
                    found[n] = k
                    n += 1
    for k in range(whole, s.size):
        if s[k] != 0:
            found[n] = k
            n += 1
    return n


@njit
def list_marks(found, m):
    """The same, of the marks that are set: `m` as bytes."""
    n, whole = 0, m.size - m.size % 8
    words = m[:whole].view(np.uint64)
    for j in range(words.size):
        if words[j] != 0:
            for k in range(8 * j, 8 * j + 8):  # a branch would often be predicted wrongly
                found[n] = k
                n += m[k] != 0
    for k in range(whole, m.size):
        if m[k] != 0:
            found[n] = k
            n += 1
    return n

"""Lists of the events of a step. Imports Numba."""

import numpy as np
from numba import njit

from ._frame import trailing_zeros


@njit(cache=True)
def list_bits(found, words, lo):
    """Puts the neurons whose bits are set into `found`; gives their number."""
    n = 0
    for j in range(words.size):
        bits = words[j]
        while bits != 0:
            found[n] = np.int64(trailing_zeros(bits)) * words.size + j - lo
            bits = np.uint32(bits & np.uint32(bits - np.uint32(1)))
            n += 1
    return n


@njit(cache=True)
def list_values(found, s):
    """The same, of the values that are not 0."""
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

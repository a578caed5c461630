"""The random matrices of `ops.JIT`, written once more: with NumPy, in 64-bit words, loop by loop.

The hash is stated here as a definition: whoever changes `ops/_jit_matrix.py` changes
everybody's networks.
"""

import numpy as np
from scipy import stats

WORD = np.uint64(0xFFFFFFFF)
HALF = np.uint64(0xFFFF)
U = np.uint64


def mix(x):
    """lowbias32 (Wellons 2018)."""
    x = x ^ (x >> U(16))
    x = (x * U(0x7FEB352D)) & WORD
    x = x ^ (x >> U(15))
    x = (x * U(0x846CA68B)) & WORD
    return x ^ (x >> U(16))


def row_words(seed, rows):
    i = rows.astype(U)
    s0 = mix(np.array(seed, U) ^ U(0x9E3779B9))
    s1 = mix((s0 + U(0x85EBCA6B)) & WORD)
    k0 = mix(s0 ^ mix((i * U(0x9E3779B1) + U(1)) & WORD))
    k1 = mix(((k0 + s1) & WORD) ^ ((i * U(0x85EBCA77) + U(0xC2B2AE3D)) & WORD))
    return [mix((k0 + U(q * 0x9E3779B9 & 0xFFFFFFFF)) & WORD) ^ k1 for q in range(12)]


def domain(n_post):
    """(a, B) of the domain of 2^a B places."""
    a = n_post.bit_length() // 2
    return a, -(-n_post // 2**a)


def columns(words, k, n_post):
    """Column of synapse k of each row; n_post and more are none."""
    a, n_blocks = domain(n_post)
    if n_blocks * 2**a == 2**16:
        for q in range(5):
            k = (k * ((words[q] & HALF) | U(1)) + (words[q] >> U(16))) & HALF
            k = k ^ (k >> U(7 if q % 2 else 9))
        return k.astype(np.int64)
    low, high = k % U(2**a), k // U(2**a)
    for q in range(8):
        multiplier, shift = (words[q] & HALF) | U(1), words[q] >> U(16)
        if q % 2:
            hashed = (low * multiplier + shift) & HALF
            high = (high + (hashed * U(n_blocks) >> U(16))) % U(n_blocks)
        else:
            low = low ^ (((high * multiplier + shift) & HALF) >> U(16 - a))
    return (high * U(2**a) + low).astype(np.int64)


def degrees(words, p, n_post):
    """Binomial(A B, p) by the inverse of scipy's distribution function."""
    a, n_blocks = domain(n_post)
    size = n_blocks * 2**a
    return stats.binom.ppf((words[8].astype(float) + 0.5) / 2.0**32, size, p).astype(int)


def bands(p, n_post):
    """(first column, number of columns) of each band."""
    if n_post <= 2**16 or p * 2**16 < 2**8:
        return [(0, n_post)]
    return [(lo, min(2**16, n_post - lo)) for lo in range(0, n_post, 2**16)]


def synapses(seed, p, n_pre, n_post):
    """(pre, post), int32, by bands, row by row in the order of k."""
    if 0 in (n_pre, n_post):
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    pre, post = [], []
    for b, (lo, n) in enumerate(bands(p, n_post)):
        for i in range(n_pre):
            words = row_words((seed + b * 0x9E3779B9) % 2**32, np.array(i))
            k = np.arange(degrees(words, p, n), dtype=U)
            column = columns(words, k, n)
            column = column[column < n]
            pre.append(np.full(column.size, i))
            post.append(lo + column)
    return np.concatenate(pre).astype(np.int32), np.concatenate(post).astype(np.int32)

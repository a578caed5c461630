"""The random matrices of `ops.JIT`, written once more: with NumPy, in 64-bit words, loop by loop.

The hash is stated here as a definition: whoever changes `ops/_jit_matrix.py` or `_jit_weights.py`
changes everybody's networks.
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


def odd(word):
    return (word & HALF) | U(1)


def permuted(words, k, b):
    """A permutation of the words of b bits."""
    for q, word in enumerate(words):
        k = (k * odd(word) + (word >> U(16))) % U(2**b)
        k = k ^ (k >> U(b // 2 - 1 if q % 2 else b // 2 + 1))
    return k


def columns(words, k, n_post):
    """Column of synapse k of each row; n_post and more are none."""
    a, n_blocks = domain(n_post)
    for b in (14, 15, 16):
        if n_blocks * 2**a == 2**b:
            return permuted(words[:5], k, b).astype(np.int64)
    low, high = k % U(2**a), k // U(2**a)
    for q in range(8):
        multiplier, shift = (words[q] & HALF) | U(1), words[q] >> U(16)
        if q % 2:
            hashed = (low * multiplier + shift) & HALF
            high = (high + (hashed * U(n_blocks) >> U(16))) % U(n_blocks)
        else:
            low = low ^ (((high * multiplier + shift) & HALF) >> U(16 - a))
    return (high * U(2**a) + low).astype(np.int64)


def uniform(words, k, column):
    """The draws of synapses k, in [0, 1), which have these columns."""
    a = permuted(words[9:], k % U(2**16), 16)
    return ((a + column.astype(U) * odd(words[8])) % U(2**16)).astype(float) / 2**16


def bits(x):
    return np.bitwise_count(x).astype(np.int64)


def normal(words, k, column):
    """The draws of synapses k, standard normal, which have these columns."""
    x = permuted(words[9:], k % U(2**16), 16)
    y = column.astype(U) * odd(words[8]) & HALF
    x = x + y & HALF
    count = bits(x)
    for q in range(4):
        x = x * odd(words[q]) + y & HALF
        x = x ^ (x >> U(7))
        y = y * odd(words[q + 4]) + U(2) * x & HALF
        count += bits(x) if q < 3 else 0
    return normal_of_steps((count - 32) * 900 + dither(x) - dither(y))


def dither(word):
    """A number uniform in [0, 900)."""
    return (word * U(900) >> U(16)).astype(int)


def normal_of_steps(steps):
    """Standard normal numbers of those of 900 times the standard deviation of 64 bits' count."""
    cube = np.floor(steps**2 // 2**16 * steps / 2**15 + 0.5).astype(int)
    variance = 16 * 900**2 + (900**2 - 1) / 6
    kappa = -(8 + 1 / 60) * 900**4 / variance**2  # the fourth cumulant, over the variance squared
    # z - kappa / 24 (z^3 - 3 z), of which (1 + kappa / 8) z is the linear part.
    cubic = -kappa / 24 / (1 + kappa / 8) / variance
    draw = steps + np.floor(cube * np.round(cubic * 2**46) / 2**15 + 0.5).astype(int)
    return draw * (1 + kappa / 8) / np.sqrt(variance)


def degrees(words, p, n_post):
    """Binomial(A B, p) by the inverse of scipy's distribution function."""
    a, n_blocks = domain(n_post)
    size = n_blocks * 2**a
    return stats.binom.ppf((words[8].astype(float) + 0.5) / 2.0**32, size, p).astype(int)


def bands(p, n_post):
    """(first column, number of columns) of each band."""
    for n in (2**14, 2**15, 2**16):
        if n < n_post <= n * n / 2**8 and p * n >= 2**8:
            return [(lo, min(n, n_post - lo)) for lo in range(0, n_post, n)]
    return [(0, n_post)]


def synapses(seed, p, n_pre, n_post, draws=None):
    """(pre, post), int32, by bands, row by row in the order of k; and their draws, by a law."""
    if 0 in (n_pre, n_post):
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    pre, post, drawn = [], [], []
    parts = bands(p, n_post)
    if len(parts) > 1:
        seed = int(mix(np.array(seed, U)))
    for b, (lo, n) in enumerate(parts):
        for i in range(n_pre):
            words = row_words((seed + b * 0x9E3779B9) % 2**32, np.array(i))
            k = np.arange(degrees(words, p, n), dtype=U)
            column = columns(words, k, n)
            there = column < n
            pre.append(np.full(there.sum(), i))
            post.append(lo + column[there])
            drawn.append(draws(words, k, column)[there] if draws else [])
    found = np.concatenate(pre).astype(np.int32), np.concatenate(post).astype(np.int32)
    return (*found, np.concatenate(drawn)) if draws else found

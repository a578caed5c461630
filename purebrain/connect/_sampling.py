"""Uniform draws of pairs and of partners, in time and memory in proportion to the synapses."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from . import _check as check

_CHUNK = 2**16  # pairs in work at once: their arrays of int64 stay in the cache


def draw_weight(weight: Any, rng: np.random.Generator, *shape: int) -> Any:
    """The weight of an operator that has one weight, or weights of this shape."""
    if not callable(weight):
        return weight
    size = int(np.prod(shape))
    return check.weights(weight(rng, size), (size,)).reshape(shape)


def bernoulli(rng: np.random.Generator, p: float, n: int) -> Iterator[np.ndarray]:
    """Keeps each of `range(n)` with probability p; yields those kept, ascending, in chunks."""
    # From one success to the next is a geometric number of trials, so only successes are drawn.
    # NumPy draws it for p < 1/3 as ceil(E / -log1p(-p)), E exponential. As a float64 E comes in
    # steps of about 1e-15, so the probability of a gap is right to about 1e-15 / p of itself: 5e-12
    # at p = 2e-4; and where p is tiny, what one gap has too much its neighbours have too little.
    done = 0
    while p > 0 and done < n:
        gaps = rng.geometric(p, min(_CHUNK, int((n - done) * p) + 100)).view(np.uint64)
        gaps[0] += done
        trials = np.cumsum(gaps)  # counted from 1
        # As n < 2^62 and a gap < 2^63, the first sum past n is below 2^64: only later ones wrap.
        past = np.flatnonzero(trials > n)
        yield (trials[: past[0]] if past.size else trials).view(np.int64) - 1
        done = n if past.size else int(trials[-1])


def distinct_pairs(rng: np.random.Generator, k: int, n: int) -> np.ndarray:
    """k ascending members of `range(n)`, each set of k as likely as any other."""
    # Given its size a Bernoulli sample is a uniform set, and so is what a uniform choice leaves of
    # it. Aimed at 6 standard deviations above k, it falls short once in 1e9 times: then again.
    while True:
        p = min(1.0, (k + 6 * k**0.5 + 20) / max(n, 1))
        kept = np.concatenate([np.empty(0, np.int64), *bernoulli(rng, p, n)])
        if kept.size >= k:
            return np.delete(kept, rng.choice(kept.size, kept.size - k, replace=False))


def distinct(rng: np.random.Generator, rows: int, k: int, n: int) -> np.ndarray:
    """int32[rows, k]: in each row k ascending members of `range(n)`, each set as likely as any."""
    if 2 * k > n:  # draw the few that are left out
        kept = np.ones((rows, n), bool)
        np.put_along_axis(kept, distinct(rng, rows, n - k, n), False, axis=1)
        return np.broadcast_to(np.arange(n, dtype=np.int32), kept.shape)[kept].reshape(rows, k)
    # Draw again what repeats another one of its row, until nothing does. Unbiased: what is drawn
    # again depends only on which are equal, so no member is treated unlike another. At least half
    # of what is drawn again is new: the rounds are about log2 of the synapses at most.
    drawn = rng.integers(max(n, 1), size=(rows, k), dtype=np.int32)
    todo = np.arange(rows)
    while todo.size:
        part = np.sort(drawn[todo], axis=1)
        again = part[:, 1:] == part[:, :-1]
        part[:, 1:][again] = rng.integers(max(n, 1), size=again.sum(), dtype=np.int32)
        drawn[todo] = part
        todo = todo[again.any(axis=1)]
    return drawn


def partners(
    rng: np.random.Generator, rows: int, k: int, n: int, autapses: bool, multapses: bool
) -> np.ndarray:
    """int32[rows, k]: k ascending partners in `range(n)` of each row; none if n = 0."""
    if rows == 0 or n == 0:
        return np.empty((rows, 0), np.int32)
    others = n - (not autapses)
    check.synapses(rows * k)
    check.enough("k", k, others, multapses)
    if multapses:
        drawn = rng.integers(max(others, 1), size=(rows, k), dtype=np.int32)
        drawn.sort(axis=1)
    else:
        drawn = distinct(rng, rows, k, others)
    if not autapses:  # numbers from its own on are one up
        drawn += drawn >= np.arange(rows)[:, None]
    return drawn


def csr_of_pairs(
    chunks: Iterable[np.ndarray], n_pre: int, n_post: int, autapses: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`indptr` and `indices` of ascending positions in the flattened matrix of all pairs."""
    others = n_post - (not autapses)
    indptr = np.zeros(n_pre + 1, np.int64)
    indices = [np.empty(0, np.int32)]
    for pairs in chunks:
        if pairs.size:
            pre = pairs // others
            post = pairs - pre * others
            if not autapses:
                post += post >= pre
            indptr[pre[0] + 1 : pre[-1] + 2] += np.bincount(pre - pre[0])
            indices.append(post.astype(np.int32))
    indptr = np.cumsum(indptr)
    check.synapses(indptr[-1])
    return indptr.astype(np.int32), np.concatenate(indices)


def in_chunks(pairs: np.ndarray) -> Iterator[np.ndarray]:
    return (pairs[i : i + _CHUNK] for i in range(0, pairs.size, _CHUNK))


def sort_by_pre(pre: np.ndarray, n_pre: int) -> tuple[np.ndarray, np.ndarray]:
    """`indptr`, and the order in which synapses are sorted by `pre`, ties as they stand."""
    # By SciPy's counting sort (JAX needs SciPy, too), 4 times as fast as argsort: column s of the
    # sorted matrix holds synapse s.
    from scipy.sparse import csc_array

    columns = np.arange(pre.size + 1, dtype=np.int32)
    synapses = (np.ones(pre.size, np.int8), pre, columns)
    rows = csc_array(synapses, shape=(n_pre, pre.size)).tocsr()
    return rows.indptr.astype(np.int32), rows.indices.astype(np.int32)

"""Rows of synapses as one thread sees them, for each form of connectivity.

The functions take refs and single numbers in a kernel, arrays and columns of numbers outside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import _jit_matrix as jit_matrix
from .. import _jit_weights as jit_weights
from ..cpu._csr import delayed_targets
from ._simt import split


class Row(NamedTuple):
    """The synapses p = start, ..., stop - 1 of one pre-synaptic neuron."""

    start: Any
    stop: Any
    target: Callable  # p -> (post-synaptic neuron, whether the synapse is there or None: it is)
    weight: Callable  # (w, b, p) -> the weight, of what `Form.weights` gave
    place: Callable  # p -> where the synapse lies among all, behind the batch axis
    factors: tuple = ()  # of p: the derivatives by the weights' parameters are sums times these


class Form(NamedTuple):
    """A form of connectivity."""

    row: Callable  # (layout, i, *structure) -> Row
    size: Callable  # (layout, *structure) -> a bound on the number of synapses
    weights: Callable = lambda layout, w: (w,)  # as arrays for the kernels, from w [1 | B, ...]
    drawn: bool = False  # whether weights are drawn, not stored


def _row(layout, i, targets) -> Row:
    def weight(w, b, k):
        return w[0][b, i, k] if layout.synapses else w[0][b]

    stop = jnp.int32(targets.shape[1])
    return Row(jnp.int32(0), stop, lambda k: (targets[i, k], None), weight, lambda k: (i, k))


FIXED_OUTDEGREE = Form(_row, lambda layout, targets: targets.size)


def _compressed(layout, i, indptr, target) -> Row:
    def weight(w, b, p):
        return w[0][b, p] if layout.synapses else w[0][b]

    return Row(indptr[i], indptr[i + 1], lambda p: (target(p), None), weight, lambda p: (p,))


def _csr(layout, i, indptr, indices) -> Row:
    return _compressed(layout, i, indptr, lambda p: indices[p])


def _delayed_csr(layout, i, indptr, indices, delay, slot, dt) -> Row:
    def target(p):
        return delayed_targets(layout, indices[p], delay[p], slot[0], dt[0])

    return _compressed(layout, i, indptr, target)


CSR = Form(_csr, lambda layout, *_: layout.form.n_synapses)
DELAYED_CSR = Form(_delayed_csr, CSR.size)


def _fixed_indegree(layout, i, sources, indptr, order) -> Row:
    def place(q):
        return split(order[q], sources.shape[1])

    def weight(w, b, q):
        return w[0][(b, *place(q))] if layout.synapses else w[0][b]

    return Row(indptr[i], indptr[i + 1], lambda q: (place(q)[0], None), weight, place)


FIXED_INDEGREE = Form(_fixed_indegree, lambda layout, sources, *_: sources.size)


def _random(layout, i, seed, degree) -> Row:
    keys, law = jit_matrix.row_keys(seed[0], i), layout.form.law
    stop = degree[i]

    def target(k):
        return jit_matrix.row(layout, keys, stop, k)

    # The compilers find that the column of a weight is the one that is there already.
    def weight(w, b, k):
        coefficients = [a[b] for a in w]
        if law is None:
            return coefficients[0]
        return jit_weights.weights(layout, keys, k, target(k)[0], coefficients)

    def draw(k, dtype):
        drawn = law.draw(keys, k, target(k)[0]).astype(dtype)
        return drawn * jnp.asarray(law.unit, dtype)

    def one(k, dtype):
        return jnp.ones((), dtype)

    factors = (one, draw) if law else ()
    return Row(jnp.int32(0), stop, target, weight, lambda k: (), factors)


def _random_weights(layout, w):
    if layout.form.law is None:
        return (w,)
    return jax.vmap(lambda line: tuple(jit_weights.coefficients(layout, line)))(w)


JIT = Form(_random, lambda layout, *_: layout.n_pre * layout.form.longest, _random_weights, True)

"""Kernels of random matrices on any platform: blocks of whole rows."""

import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._jit_matrix import row, row_keys
from .._jit_weights import coefficients, parts, weights
from .._spikes import as_floats
from ..cpu._events import take

BLOCK = 1 << 20  # synapses made at once


def blocks(layout) -> tuple[int, int]:
    """(rows of a block, number of blocks)."""
    size = min(max(BLOCK // max(layout.form.longest, 1), 1), max(layout.n_pre, 1))
    return size, -(-layout.n_pre // size)


def block(layout, i, seed, degree):
    """Rows i: (keys, numbers k, columns, which synapses are there)."""
    keys = tuple(key[:, None] for key in row_keys(seed, i))
    k = jnp.arange(layout.form.longest, dtype=jnp.int32)[None, :]
    # The last block may reach beyond the last row: those rows are empty.
    there = jnp.where(i < layout.n_pre, take(degree, lax.min(i, jnp.int32(layout.n_pre - 1))), 0)
    return keys, k, *row(layout, keys, there[:, None], k)


def _ids(layout, n):
    size, _ = blocks(layout)
    return n * size + jnp.arange(size, dtype=jnp.int32)


def _padded(layout, a):
    size, n = blocks(layout)
    return jnp.pad(a, ((0, 0), (0, size * n - layout.n_pre))).reshape(a.shape[0], n, size)


def _weights(layout, keys, k, columns, w, dtype):
    # w of one example; [rows, synapses], or one number
    return weights(layout, keys, k, columns, coefficients(layout, w)).astype(w.dtype).astype(dtype)


def _loop(layout, visit, carry):
    if 0 in (layout.n_pre, layout.n_post):
        return carry
    return lax.fori_loop(jnp.int32(0), jnp.int32(blocks(layout)[1]), visit, carry)


def _row_of(a, n):
    return lax.dynamic_index_in_dim(a, n, 1, keepdims=False)


def scatter(layout, y, s, w, seed, degree):
    s = _padded(layout, as_floats(layout, s, y.dtype))

    def visit(n, y):
        keys, k, columns, inside = block(layout, _ids(layout, n), seed, degree)
        part = _row_of(s, n)

        def one(y, s, w):
            terms = jnp.where(
                inside, s[:, None] * _weights(layout, keys, k, columns, w, y.dtype), 0
            )
            return y.at[columns].add(terms, mode="promise_in_bounds")

        return _each(one, y, part, w)

    return _loop(layout, visit, y)


def _each(one, a, b, w):
    # Over the batch, one by one; the weights may lack its axis.
    if w.shape[0] == 1:
        return lax.map(lambda args: one(*args, w[0]), (a, b))
    return lax.map(lambda args: one(*args), (a, b, w))


def gather(layout, w, x, seed, degree):
    size, n_blocks = blocks(layout)

    def visit(n, out):
        keys, k, columns, inside = block(layout, _ids(layout, n), seed, degree)

        def one(x, _, w):
            terms = take(x, columns) * _weights(layout, keys, k, columns, w, x.dtype)
            return jnp.sum(jnp.where(inside, terms, 0), -1)

        return lax.dynamic_update_slice_in_dim(out, _each(one, x, x, w), n * size, 1)

    out = jnp.zeros((x.shape[0], n_blocks * size), x.dtype)
    return _loop(layout, visit, out)[:, : layout.n_pre]


def outer(layout, s, x, seed, degree):
    s = _padded(layout, as_floats(layout, s, x.dtype))

    def visit(n, out):
        keys, k, columns, inside = block(layout, _ids(layout, n), seed, degree)
        part = _row_of(s, n)
        terms = jnp.where(inside, take(x, columns), 0) * part[..., None]
        return out + jnp.sum(parts(layout, keys, k, columns, terms), 1)

    return _loop(layout, visit, jnp.zeros((x.shape[0], *layout.synapses), x.dtype))


KERNELS = Kernels(scatter, gather, outer)

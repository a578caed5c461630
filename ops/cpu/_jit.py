"""CPU kernels of random matrices: rows made on the fly, `layout.form.width` synapses at once."""

import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._jit_matrix import coefficients, parts, row, row_keys, weights
from ._events import for_each_event, scatter_add, take


def _for_each_slice(layout, degree, visit, carry):
    if layout.form.width >= layout.form.longest:
        return visit(carry, jnp.int32(0))
    return lax.while_loop(
        lambda state: state[0] < degree,
        lambda state: (state[0] + layout.form.width, visit(state[1], state[0])),
        (jnp.int32(0), carry),
    )[1]


def _at(a, i):
    return lax.dynamic_index_in_dim(a, i, keepdims=False, allow_negative_indices=False)


def scatter(layout, y, s, w, seed, degree):
    def visit(y, b, i, value):
        keys, d = row_keys(seed, i), _at(degree, i)
        coef = coefficients(layout, _at(w, b if w.shape[0] > 1 else jnp.int32(0)))

        def add(y, first):
            k = first + jnp.arange(layout.form.width, dtype=jnp.int32)
            column, inside = row(layout, keys, d, k)
            weight = weights(layout, keys, k, coef).astype(y.dtype)
            weight = weight if value is None else weight * value
            weight = jnp.where(inside, weight, jnp.zeros((), y.dtype))
            return scatter_add(y, b * layout.n_post, column, weight)

        return _for_each_slice(layout, d, add, y)

    return for_each_event(layout, s, visit, y.reshape(-1)).reshape(y.shape)


def _sums(layout, x, weigh, i, seed, degree, zero):
    # Of one row: the sum over its synapses of weigh(keys, k, x at the columns).
    keys, d = row_keys(seed, i), _at(degree, i)

    def add(total, first):
        k = first + jnp.arange(layout.form.width, dtype=jnp.int32)
        column, inside = row(layout, keys, d, k)
        terms = jnp.where(inside, take(x, column), jnp.zeros((), x.dtype))
        return total + weigh(keys, k, terms)

    return _for_each_slice(layout, d, add, zero)


def gather(layout, w, x, seed, degree):
    coef = coefficients(layout, w if layout.form.law is None else w[:, None])

    def weigh(keys, k, terms):
        if layout.form.law is None:
            return jnp.sum(terms, -1)
        return jnp.sum(weights(layout, keys, k, coef).astype(x.dtype) * terms, -1)

    def one(carry, i):
        zero = jnp.zeros(x.shape[0], x.dtype)
        return carry, _sums(layout, x, weigh, i, seed, degree, zero)

    if layout.n_pre == 0:
        return jnp.zeros((x.shape[0], 0), x.dtype)
    out = lax.scan(one, None, jnp.arange(layout.n_pre, dtype=jnp.int32))[1].T
    return w[:, None] * out if layout.form.law is None else out


def outer(layout, s, x, seed, degree):
    def visit(out, b, i, value):
        def weigh(keys, k, terms):
            return parts(layout, keys, k, terms)

        zero = jnp.zeros(layout.synapses, x.dtype)
        total = _sums(layout, _at(x, b), weigh, i, seed, degree, zero)
        return out.at[b].add(total if value is None else total * value)

    out = jnp.zeros((x.shape[0], *layout.synapses), x.dtype)
    return for_each_event(layout, s, visit, out)


KERNELS = Kernels(scatter, gather, outer)

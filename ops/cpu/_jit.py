"""CPU kernels of random matrices: rows made on the fly, `layout.form.width` synapses at once.

The words that rows come from are made for many rows at once: one row's are too little work for a
loop's step.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._jit_matrix import coefficients, parts, row, row_keys, weights
from ._events import event_list, take
from ._rows import NOWHERE, scatter_add

BLOCK = 64  # rows whose words are made at once


def _at(a, i):
    return lax.dynamic_index_in_dim(a, i, keepdims=False, allow_negative_indices=False)


def _for_each_row(layout, seed, degree, i, n, visit, carry):
    """Folds `carry = visit(carry, e, slices)` over the rows i[:n], where `slices(fold, carry)`
    folds `carry = fold(carry, keys, k, columns, inside)` over the synapses of row i[e]."""
    words, degrees = jnp.stack(row_keys(seed, i), -1), take(degree, i)

    def one(e, carry):
        d, keys = _at(degrees, e), tuple(_at(words, e))

        def slices(fold, carry):
            def part(carry, first):
                k = first + jnp.arange(layout.form.width, dtype=jnp.int32)
                return fold(carry, keys, k, *row(layout, keys, d, k, jnp.uint16))

            if layout.form.width >= layout.form.longest:
                return part(carry, jnp.int32(0))
            return lax.while_loop(
                lambda state: state[0] < d,
                lambda state: (state[0] + layout.form.width, part(state[1], state[0])),
                (jnp.int32(0), carry),
            )[1]

        return visit(carry, e, slices)

    return lax.fori_loop(jnp.int32(0), n, one, carry)


def _for_each_event(layout, s, seed, degree, visit, carry):
    """Folds `carry = visit(carry, b, value, slices)` over the events of `s`."""
    ids, values, count = event_list(layout, s, BLOCK)
    single = s.shape[0] == 1

    def block(n, carry):
        first = n * BLOCK
        at = lax.dynamic_slice(ids, (first,), (BLOCK,))
        i = at if single else lax.rem(at, jnp.int32(layout.n_pre))

        def one(carry, e, slices):
            b = jnp.int32(0) if single else _at(at, e) // layout.n_pre
            value = None if values is None else _at(values, first + e)
            return visit(carry, b, value, slices)

        left = lax.min(count - first, jnp.int32(BLOCK))
        return _for_each_row(layout, seed, degree, i, left, one, carry)

    return lax.fori_loop(jnp.int32(0), (count + (BLOCK - 1)) // BLOCK, block, carry)


def scatter(layout, y, s, w, seed, degree):
    def visit(y, b, value, slices):
        coef = coefficients(layout, _at(w, b if w.shape[0] > 1 else jnp.int32(0)))

        def add(y, keys, k, columns, inside):
            weight = weights(layout, keys, k, coef).astype(y.dtype)
            weight = weight if value is None else weight * value
            # XLA's scatter leaves out what is out of bounds; were the weights masked instead, the
            # columns would be computed twice, for each of the two.
            ids = jnp.where(inside, b * layout.n_post + columns, NOWHERE)
            return scatter_add(y, ids, jnp.broadcast_to(weight, ids.shape))

        return slices(add, y)

    if 0 in (layout.n_pre, *y.shape):
        return y
    return _for_each_event(layout, s, seed, degree, visit, y.reshape(-1)).reshape(y.shape)


def gather(layout, w, x, seed, degree):
    if 0 in (layout.n_pre, *x.shape):
        return jnp.zeros((x.shape[0], layout.n_pre), x.dtype)
    n_blocks = -(-layout.n_pre // BLOCK)
    law = layout.form.law
    coef = jax.tree.map(lambda c: c[:, None], coefficients(layout, w))

    def block(n, out):
        i = lax.min(n * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32), jnp.int32(layout.n_pre - 1))

        def one(out, e, slices):
            def add(total, keys, k, columns, inside):
                terms = jnp.where(inside, take(x, columns), jnp.zeros((), x.dtype))
                if law is not None:
                    terms = terms * weights(layout, keys, k[None], coef).astype(x.dtype)
                return total + jnp.sum(terms, -1)

            total = slices(add, jnp.zeros(x.shape[0], x.dtype))
            return lax.dynamic_update_slice(out, total[:, None], (jnp.int32(0), n * BLOCK + e))

        return _for_each_row(layout, seed, degree, i, jnp.int32(BLOCK), one, out)

    out = jnp.zeros((x.shape[0], n_blocks * BLOCK), x.dtype)
    out = lax.fori_loop(jnp.int32(0), jnp.int32(n_blocks), block, out)[:, : layout.n_pre]
    return w[:, None] * out if law is None else out


def outer(layout, s, x, seed, degree):
    def visit(out, b, value, slices):
        row_of_x = _at(x, b)

        def add(total, keys, k, columns, inside):
            terms = jnp.where(inside, take(row_of_x, columns), jnp.zeros((), x.dtype))
            return total + parts(layout, keys, k, terms)

        total = slices(add, jnp.zeros(layout.synapses, x.dtype))
        return out.at[b].add(total if value is None else total * value)

    out = jnp.zeros((x.shape[0], *layout.synapses), x.dtype)
    empty = 0 in (layout.n_pre, *x.shape)
    return out if empty else _for_each_event(layout, s, seed, degree, visit, out)


KERNELS = Kernels(scatter, gather, outer)

"""CPU kernels of random matrices: rows made on the fly, several at once, `layout.form.width`
synapses of each.

They run where Numba's do not.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._jit_matrix import KEYS, join, present, row_keys, target_halves
from .._jit_weights import coefficients, parts, weights
from .._walk import for_each_part
from ._events import BLOCK, take
from ._rows import add_rows, for_each_group

AT_ONCE = 1 << 12  # synapses: more are faster for many events, fewer for few


def _rows_at_once(layout) -> int:
    return 1 << min(max(AT_ONCE // layout.form.width, 1), BLOCK).bit_length() - 1


def _words(seed, degree):
    """What rows i come from: (words [rows, KEYS], numbers of synapses)."""
    return lambda i: (jnp.stack(row_keys(seed, i), -1), take(degree, i))


def _halves(layout, keys, k, degree):
    """The halves of the columns of synapses k, as arrays of their own.

    Were they fused with what follows, which has words of 32 bits, half of each vector of 16-bit
    words would be empty. What a loop makes is not fused with what is outside; this one has one
    turn, which XLA cannot know.
    """
    form, words = layout.form, jnp.zeros((degree.size, k.size), jnp.uint16)

    def turn(_):
        halves = target_halves(keys, k.astype(jnp.uint32), form.bits, form.blocks, jnp.uint16)
        # Of one column, the low halves are the same for all rows.
        return jnp.array(True), *(jnp.broadcast_to(half, words.shape) for half in halves)

    start = degree[0] < 0, words, words
    _, low, high = lax.while_loop(lambda state: ~state[0], turn, start)
    return low, high


def _for_each_slice(layout, words, degree, fold, carry):
    """Folds `carry = fold(carry, keys, k, columns, inside)` over slices of rows, from `_words`:
    keys [rows, 1], k [1, width], the others [rows, width]."""
    keys = tuple(words[:, q : q + 1] for q in range(KEYS))

    def part(carry, first):
        k = first + jnp.arange(layout.form.width, dtype=jnp.int32)[None]
        column = join(*_halves(layout, keys, k, degree), layout.form.bits)
        return fold(carry, keys, k, *present(layout, column, degree[:, None], k))

    if layout.form.width >= layout.form.longest:
        return part(carry, jnp.int32(0))
    return for_each_part(jnp.max(degree), layout.form.width, part, carry)


def scatter(layout, y, s, w, seed, degree):
    def rows(i, w_at, add, carry, words, degree):
        coef = jax.tree.map(lambda c: c[:, None], coefficients(layout, w[w_at]))

        def fold(carry, keys, k, columns, inside):
            if layout.form.law is None:
                return add(carry, columns, inside)
            drawn = weights(layout, keys, k, columns, coef)
            return add(carry, columns, inside, drawn.astype(w.dtype))

        return _for_each_slice(layout, words, degree, fold, carry)

    size = _rows_at_once(layout)
    return add_rows(layout, y, s, w, layout.form.width, rows, _words(seed, degree), size)


def gather(layout, w, x, seed, degree):
    if 0 in (layout.n_pre, *x.shape):
        return jnp.zeros((x.shape[0], layout.n_pre), x.dtype)
    size = _rows_at_once(layout)
    n_blocks = -(-layout.n_pre // BLOCK)
    law = layout.form.law
    coef = jax.tree.map(lambda c: c[:, None, None], coefficients(layout, w))

    def block(n, out):
        i = lax.min(n * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32), jnp.int32(layout.n_pre - 1))
        words, degrees = _words(seed, degree)(i)

        def group(g, out):
            def add(total, keys, k, columns, inside):
                terms = take(x, columns)
                if law is not None:
                    deep = tuple(key[None] for key in keys)
                    drawn = weights(layout, deep, k[None], columns[None], coef)
                    terms = terms * drawn.astype(w.dtype).astype(x.dtype)
                # The product within: XLA gives sums of products to a library, which is slower here.
                terms = jnp.where(inside[None], terms, jnp.zeros((), x.dtype))
                return total + jnp.sum(terms, -1)

            def of(a):
                return lax.dynamic_slice_in_dim(a, g * size, size)

            zeros = jnp.zeros((x.shape[0], size), x.dtype)
            total = _for_each_slice(layout, of(words), of(degrees), add, zeros)
            return lax.dynamic_update_slice(out, total, (jnp.int32(0), n * BLOCK + g * size))

        return lax.fori_loop(jnp.int32(0), jnp.int32(BLOCK // size), group, out)

    out = jnp.zeros((x.shape[0], n_blocks * BLOCK), x.dtype)
    out = lax.fori_loop(jnp.int32(0), jnp.int32(n_blocks), block, out)[:, : layout.n_pre]
    return w[:, None] * out if law is None else out


def outer(layout, s, x, seed, degree):
    def visit(out, b, i, values, event, words, degree):
        def add(total, keys, k, columns, inside):
            terms = x[b[:, None], columns]
            terms = jnp.where(inside & event[:, None], terms, jnp.zeros((), x.dtype))
            return total + parts(layout, keys, k, columns, terms)

        total = jnp.zeros((b.size, *layout.synapses), x.dtype)
        total = _for_each_slice(layout, words, degree, add, total)
        if values is not None:
            total = total * values.reshape(-1, *[1] * len(layout.synapses))
        return out.at[b].add(total)

    out = jnp.zeros((x.shape[0], *layout.synapses), x.dtype)
    if 0 in (layout.n_pre, *x.shape):
        return out
    size = _rows_at_once(layout)
    return for_each_group(layout, s, size, _words(seed, degree), visit, out)


KERNELS = Kernels(scatter, gather, outer)

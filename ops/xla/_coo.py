"""Kernels over the list of all synapses, for any form of connectivity that can be listed.

They go through the list in blocks: what is made of each synapse on the way, its row and its term,
takes the memory of a block, not of all. Arrays of synapses are cut without their batch axis where
that is 1: it was put there by the family, and a TPU would copy them to lie as such arrays do.
"""

import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._spikes import as_floats
from ..cpu._events import take

BLOCK = 1 << 20  # synapses of all rows of a batch at once
PER_NEURON = 8  # or so many a neuron, if that is more: a block of CSR visits all neurons


def for_each_block(layout, batch, rows, visit, carry):
    """Folds `carry = visit(carry, first, n)` over blocks of rows, n from `first` on.

    `rows` are those of the arrays that the synapses lie in: how many, and how long. The last block,
    or the only one, is outside the loop: it may have fewer.
    """
    number, length = rows
    synapses = max(BLOCK, PER_NEURON * layout.n_pre)
    size = max(synapses // max(batch * length, 1), 1)
    looped = max(number - 1, 0) // size
    if looped:
        carry = lax.fori_loop(
            jnp.int32(0), jnp.int32(looped), lambda b, carry: visit(carry, b * size, size), carry
        )
    return visit(carry, jnp.int32(looped * size), number - looped * size)


def part(a, first, n, axis=0):
    """The rows of a block."""
    return a if n == a.shape[axis] else lax.dynamic_slice_in_dim(a, first, n, axis)


def weights(w, first, n, dtype):
    """The weights of a block, with their batch axis."""
    some = part(w[0], first, n)[None] if w.shape[0] == 1 else part(w, first, n, 1)
    return some.astype(dtype)


def kernels(rows, synapses) -> Kernels:
    """The kernels, for the rows `rows(layout, *structure)` of `for_each_block`; the pre- and post-
    synaptic neurons of a block's synapses are `synapses(layout, first, n, *structure)`."""

    def fold(layout, batch, structure, visit, carry):
        def block(carry, first, n):
            return visit(carry, first, n, *synapses(layout, first, n, *structure))

        return for_each_block(layout, batch, rows(layout, *structure), block, carry)

    def flat(layout, w, first, n, dtype):
        if not layout.synapses:
            return w[:, None]
        return weights(w, first, n, dtype).reshape(w.shape[0], -1)

    def scatter(layout, y, s, w, *structure):
        s = as_floats(layout, s, y.dtype)

        def visit(y, first, n, pre, post):
            terms = take(s, pre) * flat(layout, w, first, n, y.dtype)
            return y.at[:, post].add(terms, mode="promise_in_bounds")

        return fold(layout, y.shape[0], structure, visit, y)

    def gather(layout, w, x, *structure):
        def visit(out, first, n, pre, post):
            terms = take(x, post) * flat(layout, w, first, n, x.dtype)
            return out.at[:, pre].add(terms, mode="promise_in_bounds")

        out = jnp.zeros((x.shape[0], layout.n_pre), x.dtype)
        return fold(layout, x.shape[0], structure, visit, out)

    def outer(layout, s, x, *structure):
        s, batch = as_floats(layout, s, x.dtype), x.shape[0]
        lead = () if batch == 1 else (batch,)

        def visit(out, first, n, pre, post):
            terms = take(s, pre) * take(x, post)
            if not layout.synapses:
                return out + jnp.sum(terms, -1).reshape(lead)
            terms = terms.reshape(*lead, n, *layout.synapses[1:])
            return lax.dynamic_update_slice_in_dim(out, terms, first, len(lead))

        out = fold(layout, batch, structure, visit, jnp.zeros((*lead, *layout.synapses), x.dtype))
        return out.reshape(batch, *layout.synapses)

    return Kernels(scatter, gather, outer)

"""What the CPU kernels share: a walk over the events of a batch."""

import jax.numpy as jnp
from jax import lax

from .._spikes import pack_bits
from .._walk import walk


def for_each_event(layout, s, visit, carry):
    """Folds `carry = visit(carry, b, i, value)` over the events of `s` [B, n_pre], or packed words.

    `value` is s[b, i], or None for packed spikes (each counts 1).
    """
    if layout.n_pre == 0:
        return carry
    packed = s.dtype == jnp.uint32
    words = s if packed else pack_bits(s != 0)
    n_words = words.shape[1]
    single = words.shape[0] == 1

    def visit_bit(carry, word, bit):
        b, j = (jnp.int32(0), word) if single else (word // n_words, word % n_words)
        i = bit * n_words + j - layout.lo
        value = None if packed else lax.dynamic_slice(s, (b, i), (1, 1))[0, 0]
        return visit(carry, b, i, value)

    return walk(words.reshape(-1), visit_bit, carry)


def event_list(layout, s, padding):
    """All events of `s` [B, n_pre] or packed words: (ids b n_pre + i, values or None, their
    number).

    The list has room for all neurons and `padding` more; behind the last event it holds nothing of
    use.
    """
    size = s.shape[0] * layout.n_pre + padding
    ids = jnp.zeros(size, jnp.int32)
    packed = s.dtype == jnp.uint32
    values = None if packed else jnp.zeros(size, s.dtype)

    def visit(carry, b, i, value):
        ids, values, count = carry
        ids = lax.dynamic_update_slice(ids, (b * layout.n_pre + i)[None], (count,))
        if not packed:
            values = lax.dynamic_update_slice(values, value[None], (count,))
        return ids, values, count + 1

    return for_each_event(layout, s, visit, (ids, values, jnp.int32(0)))


def scatter_add(y, start, targets, updates):
    """y[start + targets] += updates, in place, for y flat. The ids were validated on the host; one
    at or behind y's end is left out (XLA looks anyway)."""
    ids = (start + targets)[:, None]
    numbers = lax.ScatterDimensionNumbers((), (0,), (0,))
    mode = lax.GatherScatterMode.FILL_OR_DROP
    return lax.scatter_add(y, ids, updates, numbers, mode=mode)


def take(x, ids):
    """x[..., ids], the ids known to be in bounds."""
    return x.at[..., ids].get(mode="promise_in_bounds")

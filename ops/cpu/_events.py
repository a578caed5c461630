"""What the CPU kernels share: a walk over the events of a batch."""

import jax.numpy as jnp
from jax import lax

from .._spikes import pack_bits
from .._walk import walk


def for_each_event(layout, s, visit, carry):
    """Folds `carry = visit(carry, b, i, value)` over the events of `s` [B, n_pre], or packed words.

    `value` is s[b, i], or None for packed spikes (each counts 1).
    """
    packed = s.dtype == jnp.uint32
    words = s if packed else pack_bits(s != 0)
    n_words = words.shape[1]
    single = words.shape[0] == 1
    zero = jnp.int32(0)

    def visit_bit(carry, word, bit):
        b, j = (zero, word) if single else (word // n_words, word % n_words)
        i = bit * n_words + j - layout.lo
        value = None if packed else lax.dynamic_slice(s, (b, i), (1, 1))[0, 0]
        return visit(carry, b, i, value)

    return walk(words.reshape(-1), visit_bit, carry)


def scatter_add(y, b, targets, updates):
    """y[b, targets] += updates, in place. The ids were validated on the host, so none is checked here."""
    single = y.shape[0] == 1
    if single:
        ids = targets[:, None]
        flat = y.reshape(-1)
    else:
        ids = jnp.stack([jnp.broadcast_to(b, targets.shape), targets], -1)
        flat = y
    n = ids.shape[1]
    numbers = lax.ScatterDimensionNumbers((), tuple(range(n)), tuple(range(n)))
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.scatter_add(flat, ids, updates, numbers, mode=mode).reshape(y.shape)


def take(x, ids):
    """x[..., ids], the ids known to be in bounds."""
    return x.at[..., ids].get(mode="promise_in_bounds")

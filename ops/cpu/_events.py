"""What the CPU kernels share: the events of a batch, visited one by one or listed in blocks."""

import jax.numpy as jnp
from jax import lax

from .._spikes import pack_bits
from .._walk import for_each_part, walk

BLOCK = 64  # events listed at once
RADIX = 8  # terms of a sum


def packed_words(s):
    """Which values are not zero, packed; `s` may be packed already."""
    return s if s.dtype == jnp.uint32 else pack_bits(s != 0)


def count(words):
    """How many bits are set in each."""
    return lax.population_count(words).astype(jnp.int32)


def for_each_event(layout, s, visit, carry):
    """Folds `carry = visit(carry, b, i, value)` over the events of `s` [B, n_pre], or packed words.

    `value` is s[b, i], or None for packed spikes (each counts 1).
    """
    if layout.n_pre == 0:
        return carry
    packed = s.dtype == jnp.uint32
    words = packed_words(s)
    n_words = words.shape[1]
    single = words.shape[0] == 1

    def visit_bit(carry, word, bit):
        b, j = (jnp.int32(0), word) if single else (word // n_words, word % n_words)
        i = bit * n_words + j - layout.lo
        value = None if packed else lax.dynamic_slice(s, (b, i), (1, 1))[0, 0]
        return visit(carry, b, i, value)

    return walk(words.reshape(-1), visit_bit, carry)


def take(x, ids):
    """x[..., ids], the ids known to be in bounds."""
    return x.at[..., ids].get(mode="promise_in_bounds", wrap_negative_indices=False)


def at(a, i):
    """a[i], the id known to be in bounds."""
    return lax.dynamic_index_in_dim(a, i, keepdims=False, allow_negative_indices=False)


def _starts(counts):
    # The sum of the counts before each, and of all, by rounds of RADIX terms.
    starts, reach = jnp.pad(counts, (1, 0)), 1
    while reach <= counts.size:
        before = [((RADIX - 1) * reach, 0)]
        starts = lax.reduce_window(
            starts, jnp.int32(0), lax.add, [RADIX], [1], before, window_dilation=[reach]
        )
        reach *= RADIX
    return starts


def _greatest(n_bits, reaches, like):
    """The greatest number of `n_bits` bits that `reaches`, for each; 0 does."""

    def bit(k, number):
        larger = number + (jnp.int32(1 << n_bits >> 1) >> k)
        return jnp.where(reaches(larger), larger, number)

    return lax.fori_loop(jnp.int32(0), jnp.int32(n_bits), bit, jnp.zeros_like(like))


def for_each_block(layout, s, visit, carry):
    """Folds `carry = visit(carry, b, i, values, left)` over the events of `s` [B, n_pre], or packed
    words, in blocks of `BLOCK`, of which `left` are left: of these, values = s[b, i] (None for
    packed spikes, each of which counts 1); what is behind the last is any neuron.

    Takes a microsecond or two before the first event and 10 to 20 ns for each, where
    `for_each_event` takes 100.
    """
    words = packed_words(s)
    n_words = words.shape[1]
    words = words.reshape(-1)
    starts = _starts(count(words))
    last = jnp.int32(words.size - 1)

    def block(carry, first):
        rank = first + jnp.arange(BLOCK, dtype=jnp.int32)

        def reaches(j):
            return (j <= last) & (take(starts, lax.min(j, last)) <= rank)

        j = _greatest((words.size - 1).bit_length(), reaches, rank)
        word, in_word = take(words, j), rank - take(starts, j)

        def reaches_bit(bit):
            below = (jnp.uint32(1) << bit.astype(jnp.uint32)) - 1
            return count(word & below) <= in_word

        bit = _greatest(5, reaches_bit, rank)
        b, j = j // n_words, j % n_words
        i = lax.clamp(jnp.int32(0), bit * n_words + j - layout.lo, jnp.int32(layout.n_pre - 1))
        values = None if s.dtype == jnp.uint32 else take(s.reshape(-1), b * layout.n_pre + i)
        return visit(carry, b, i, values, starts[-1] - first)

    return for_each_part(starts[-1], BLOCK, block, carry)

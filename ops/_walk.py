"""Loops: over parts of a length; over the spikes of one step and nothing else, on a machine that
runs loops well (the CPU)."""

from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, UInt32

from ._spikes import pack_bits

C = TypeVar("C")


def for_each_part(
    length: Int32[Array, ""], size: int, visit: Callable[[C, Int32[Array, ""]], C], carry: C
) -> C:
    """Folds `carry = visit(carry, first)` over first = 0, size, 2 size, ... below `length`.

    Turns are counted one by one: of `while i < n: i += 2`, with numbers it knows, the XLA of JAX
    0.10 may take a turn too few (none for n = 1).
    """
    turns = lax.div(length + jnp.int32(size - 1), jnp.int32(size))
    return lax.fori_loop(jnp.int32(0), turns, lambda n, c: visit(c, n * size), carry)


def walk(
    words: UInt32[Array, " words"],
    visit: Callable[[C, Int32[Array, ""], Int32[Array, ""]], C],
    carry: C,
) -> C:
    """Folds `carry = visit(carry, word, bit)` over the set bits of `words`.

    Time grows with the set bits, not with the words: the words are packed once more ("which words
    are not zero"), and set bits are found by counting leading zeros. For 4,000 neurons with 10
    spikes this takes 1.5 us with a row of 80 targets added for each; `jnp.nonzero` alone takes 47,
    a sort 16.
    """
    if words.size == 0:
        return carry
    occupied = pack_bits(words != 0)
    n_occupied = occupied.size

    def set_bits(word, visit_bit, carry):
        def body(state):
            word, carry = state
            bit = jnp.uint32(31) - lax.clz(word)
            return word ^ (jnp.uint32(1) << bit), visit_bit(carry, bit.astype(jnp.int32))

        return lax.while_loop(lambda state: state[0] != 0, body, (word, carry))[1]

    def block(j, carry):
        def visit_word(carry, k):
            index = k * n_occupied + j
            word = lax.dynamic_index_in_dim(
                words, index, keepdims=False, allow_negative_indices=False
            )
            return set_bits(word, lambda c, bit: visit(c, index, bit), carry)

        word = lax.dynamic_index_in_dim(occupied, j, keepdims=False, allow_negative_indices=False)
        return set_bits(word, visit_word, carry)

    return lax.fori_loop(jnp.int32(0), jnp.int32(n_occupied), block, carry)

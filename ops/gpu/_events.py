"""Which neurons spiked, as a list on the device: its length is not known to the host."""

import jax
import jax.numpy as jnp
from jax import lax

from .._spikes import popcount, unpack_bits
from ._simt import launch, split, strided


def events(layout, tuning, s):
    """(list [B * n_pre], count [1]) of the events of `s`, floats or packed words of B rows.

    An event is b * n_pre + i. They are in no order, and behind the count the list is not written.
    """
    packed, width = s.dtype == jnp.uint32, s.shape[1]

    def body(machine, s, listed, count):
        def visit(first):
            # All threads of a warp come here together, as `reserve` asks.
            n = first + machine.lane
            b, j = split(lax.min(n, jnp.int32(s.size - 1)), width)
            word = s[b, j] if packed else (s[b, j] != 0).astype(jnp.uint32)
            word = jnp.where(n < s.size, word, jnp.uint32(0))
            place = machine.reserve(count, popcount(word))

            def bit(word, place):
                k = jnp.uint32(31) - lax.clz(word)
                i = k.astype(jnp.int32) * width + j - layout.lo if packed else j
                listed[place] = b * layout.n_pre + i
                return word ^ (jnp.uint32(1) << k), place + 1

            lax.while_loop(lambda state: state[0] != 0, lambda state: bit(*state), (word, place))

        strided(machine.thread - machine.lane, jnp.int32(s.size), machine.n_threads, visit)

    space = jax.ShapeDtypeStruct((s.shape[0] * layout.n_pre,), jnp.int32)
    name = "packed_events" if packed else "events"
    return launch(tuning, name, body, s.size, (s,), (space, jnp.zeros(1, jnp.int32)))


def sorted_events(layout, s):
    """As `events`, in ascending order."""
    mask = s != 0
    if s.dtype == jnp.uint32:
        mask = unpack_bits(s, 32 * s.shape[1])[:, layout.lo : layout.lo + layout.n_pre]
    mask = mask.reshape(-1)
    place = jnp.cumsum(mask, dtype=jnp.int32)
    ids = jnp.arange(mask.size, dtype=jnp.int32)
    listed = jnp.zeros(mask.size, jnp.int32)
    return listed.at[jnp.where(mask, place - 1, mask.size)].set(ids, mode="drop"), place[-1:]

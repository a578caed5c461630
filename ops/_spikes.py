"""Spikes as bits: 32 neurons a word."""

import reprlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int32, UInt32


def pack(spikes: Bool[Array, "*batch n"]) -> "Spikes":
    """Packs booleans into `ops.Spikes`, 32 to a word.

    **Arguments:** `spikes`: which of `n` neurons spiked, with any leading axes (time, batch).

    **Returns:** the same spikes in an eighth of the memory.

        >>> import jax.numpy as jnp
        >>> pack(jnp.array([True, False, True])).to_dense().tolist()
        [True, False, True]
    """
    if not isinstance(spikes, jax.Array | np.ndarray):
        raise TypeError(
            f"spikes: {reprlib.repr(spikes)}; pack takes an array of booleans, such as "
            "pack(jnp.asarray([True, False]))."
        )
    if spikes.dtype != bool:
        raise TypeError(f"spikes: dtype {spikes.dtype}; pack takes booleans: pack(spikes > 0).")
    if spikes.ndim == 0:
        raise ValueError(
            "spikes: shape (); the last axis is that of the neurons: pack(spikes[None])."
        )
    return Spikes(pack_bits(spikes), spikes.shape[-1])


def pack_bits(x: Bool[Array, "*batch n"]) -> UInt32[Array, "*batch words"]:
    # Bit k of word j is element k * n_words + j: neighbours lie in neighbouring words, so that the
    # compiler packs with full vectors. (Bit k of word j for element 32 j + k takes 3 times as
    # long.)
    *batch, n = x.shape
    n_words = -(-n // 32)
    if n % 32:
        x = jnp.pad(x, [(0, 0)] * len(batch) + [(0, 32 * n_words - n)])
    bits = x.reshape(*batch, 32, n_words).astype(jnp.uint32)
    shifted = bits << jnp.arange(32, dtype=jnp.uint32)[:, None].reshape(*[1] * len(batch), 32, 1)
    # No two have a bit in common: their sum, which XLA can also take over several devices.
    return lax.reduce(shifted, jnp.uint32(0), lax.add, (len(batch),))


def unpack_bits(words: UInt32[Array, "*batch words"], n: int) -> Bool[Array, "*batch n"]:
    shifts = jnp.arange(32, dtype=jnp.uint32).reshape(*[1] * (words.ndim - 1), 32, 1)
    bits = (words[..., None, :] >> shifts) & jnp.uint32(1)
    return bits.reshape(*words.shape[:-1], 32 * words.shape[-1])[..., :n].astype(bool)


def popcount(word: UInt32[Array, "*shape"]) -> Int32[Array, "*shape"]:
    """The number of set bits, for kernels: not every compiler has `lax.population_count`, and those
    that have it know these lines for what they are."""
    word = word - ((word >> 1) & jnp.uint32(0x55555555))
    word = (word & jnp.uint32(0x33333333)) + ((word >> 2) & jnp.uint32(0x33333333))
    word = (word + (word >> 4)) & jnp.uint32(0x0F0F0F0F)
    return (word * jnp.uint32(0x01010101) >> 24).astype(jnp.int32)


def as_floats(layout, s, dtype):
    """Pre-synaptic values [B, n_pre] from what kernels are given: floats, or packed words."""
    if s.dtype != jnp.uint32:
        return s
    return unpack_bits(s, 32 * s.shape[-1])[:, layout.lo : layout.lo + layout.n_pre].astype(dtype)


def _takes_one_axis(index) -> bool:
    whole = isinstance(index, int) and not isinstance(index, bool)
    return (
        whole
        or isinstance(index, slice)
        or jnp.issubdtype(getattr(index, "dtype", bool), jnp.integer)
    )


class Spikes(eqx.Module):
    """The spikes of `size` neurons as bits, with any leading axes; made by `ops.pack`.

    Indexing is that of the dense array, the neurons last (`spikes[lo:hi]` of one step,
    `spikes[t0:t1, lo:hi]` of several), by a slice without stride: a view of a sub-population, also
    `spikes.neurons(slice(lo, hi))`, masks, and moves no data. Bits have no derivative: to
    differentiate through spikes give the neuron a surrogate, whose spikes are floats.
    """

    words: UInt32[Array, "*batch words"]
    n: int = eqx.field(static=True)
    lo: int = eqx.field(static=True, default=0)
    hi: int = eqx.field(static=True, default=-1)

    def __post_init__(self):
        if self.hi < 0:
            object.__setattr__(self, "hi", self.n)

    @property
    def size(self) -> int:
        """The number of neurons (Python int)."""
        return self.hi - self.lo

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `to_dense()`."""
        return (*self.words.shape[:-1], self.size)

    def __getitem__(self, index) -> "Spikes":
        """As of the dense array: the leading axes (time, batch), then the neurons."""
        index = index if isinstance(index, tuple) else (index,)
        axes = self.words.ndim - 1
        # An index that takes more or less than one axis could reach the words.
        if len(index) > axes + 1 or not all(_takes_one_axis(i) for i in index):
            raise IndexError(
                f"spikes[{index}]: it must be whole numbers, arrays of them, or slices, one an "
                f"axis of {self.shape}."
            )
        spikes = Spikes(self.words[index[:axes]], self.n, self.lo, self.hi)
        return spikes.neurons(*index[axes:]) if len(index) > axes else spikes

    def neurons(self, index: slice) -> "Spikes":
        """The neurons lo to hi - 1, whatever the leading axes: `spikes.neurons(slice(lo, hi))`."""
        if not isinstance(index, slice) or index.step not in (None, 1):
            raise IndexError(f"neurons {index}: they must be a slice without stride, [lo:hi].")
        lo, hi, _ = index.indices(self.size)
        lo, hi = self.lo + lo, self.lo + max(lo, hi)
        if (lo, hi) == (self.lo, self.hi):
            return self
        position = np.arange(32 * self.words.shape[-1]).reshape(32, -1)
        inside = (position >= lo) & (position < hi)
        mask = np.bitwise_or.reduce(
            inside.astype(np.uint32) << np.arange(32, dtype=np.uint32)[:, None]
        )
        words = self.words & jnp.broadcast_to(mask, self.words.shape)
        return Spikes(words, self.n, lo, hi)

    def to_dense(self) -> Bool[Array, "*batch size"]:
        """The spikes as booleans."""
        return unpack_bits(self.words, self.n)[..., self.lo : self.hi]

    def count(self):
        """The number of spikes along the last axis, int32."""
        bits = lax.population_count(self.words).astype(jnp.int32)
        return jnp.sum(bits, axis=-1, dtype=jnp.int32)

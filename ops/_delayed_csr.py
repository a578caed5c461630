"""Compressed sparse rows with a delay for each synapse."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int32

from . import gpu, native, tpu
from ._check import as_numbers, check_type, check_values, checked_events, concrete, scatter
from ._csr import CSR
from ._family import family
from ._schedule import after, materialize
from .cpu import _csr as cpu
from .xla import _csr as xla

NANOSECOND = 1e-6  # ms
FAMILY = family(
    "delayed_csr",
    xla.DELAYED_KERNELS,
    cpu=native.preferred(native.DELAYED_CSR, cpu.DELAYED_KERNELS),
    cuda=gpu.delayed_csr,
    tpu=tpu.delayed_csr,
)


class DelayedCSR(eqx.Module):
    """Synapses with delays of their own: spikes are sent when emitted, to the slots of a ring of
    sums.

    A ring has a slot a step, of one sum a target; slot i modulo the length is due in step i. One
    walk over the spikes of a step serves all delays, where a history of spikes would be walked once
    a delay. A ring of half precision is made single and back at every step, to be added to.

    **Arguments:** `csr`: the synapses; `delay`: ms, one each, finite and above 0.

    **Raises:** `ValueError` for a `delay` of another length, not finite, or not above 0.

    Morrison et al. (2005), Neural Computation 17 (NEST's ring buffers).
    """

    csr: CSR
    delay: Int32[Array, " n_synapses"]  # in nanoseconds: not to be trained, cast or rounded
    min_delay: float = eqx.field(static=True)
    max_delay: float = eqx.field(static=True)

    def __init__(self, csr: CSR, delay):
        check_type("csr", csr, CSR, "ops.CSR(weight, indptr, indices, n_post)")
        host = concrete(as_numbers("delay", delay))
        if host is None:
            raise TypeError("delay: traced; delays size a buffer and must be known when built.")
        if host.shape != csr.indices.shape:
            raise ValueError(
                f"delay: shape {host.shape}; it must be {csr.indices.shape}, one a synapse."
            )
        longest = np.iinfo(np.int32).max * NANOSECOND
        bad = np.flatnonzero(~(np.isfinite(host) & (host > 0) & (host < longest)))
        if bad.size:
            raise ValueError(
                f"delay: {host[bad[0]]} ms at position {bad[0]}; delays must be finite, above 0 "
                f"and below {longest:.0f} ms."
            )
        self.csr = csr
        self.delay = jnp.asarray(np.round(host / NANOSECOND), jnp.int32)
        self.min_delay = float(host.min()) if host.size else 0.0
        self.max_delay = float(host.max()) if host.size else 0.0

    @property
    def weight(self) -> Array:
        """The weights of the synapses."""
        return self.csr.weight

    @property
    def dtype(self):
        """The precision of the weights."""
        return self.csr.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(n_pre, n_post)."""
        return self.csr.shape

    def delays(self) -> np.ndarray:
        """The delays on the host, ms."""
        return np.asarray(self.delay) * NANOSECOND

    def ring(self, length: int, dtype) -> Float[Array, " slots_times_n_post"]:
        """An empty ring of `length` slots: as many steps as the longest delay has.

        **Raises:** `ValueError` for a ring of more places than can be numbered.
        """
        self._check_places(length)
        return jnp.zeros(length * self.csr.n_post, dtype)

    def due(self, ring: Array, i: Int[Array, ""]) -> tuple[Array, Array]:
        """What is due in step i, and the ring without it."""
        n = self.csr.n_post
        start = self._slot(ring, i) * n
        due = materialize(lax.dynamic_slice(ring, (start,), (n,)))
        # Without the order of read and write, the whole ring would be copied at every step.
        empty = after(jnp.zeros(n, ring.dtype), due)
        return due, lax.dynamic_update_slice(ring, empty, (start,))

    def send(self, ring: Array, s, i: Int[Array, ""], dt: float) -> Array:
        """The ring with the spikes `s` of step i under way, after `due` of the same step.

        **Raises:** `ValueError` for a delay under one step or longer than the ring.
        """
        check_values("ring", ring, np.size(ring))
        if self.csr.indices.size == 0:
            return ring
        length = ring.size // self.csr.n_post
        self._check_places(length)
        for delay in (self.min_delay, self.max_delay):
            steps = int(np.floor(delay / dt + 0.5))
            if not 1 <= steps <= length:
                raise ValueError(
                    f"delay: {delay} ms is {steps} steps of dt = {dt} ms; on a ring of {length} "
                    f"slots it must be 1 to {length}."
                )
        s = checked_events(s, self.csr.n_pre, ring.dtype)
        weight = self.csr.weight.astype(ring.dtype)
        layout = self.csr.layout
        rows = self.csr.rows._replace(stride=self.csr.n_post)
        layout = layout._replace(n_post=ring.size, form=rows)
        structure = (self.csr.indptr, self.csr.indices, self.delay, self._slot(ring, i))
        dt_array = jnp.asarray(dt / NANOSECOND, float)
        return scatter(FAMILY, layout, ring, s, weight, *structure, dt_array)

    def _check_places(self, length):
        if length * self.csr.n_post > np.iinfo(np.int32).max:
            raise ValueError(
                f"delay: {self.max_delay} ms, for a ring of {length} steps x {self.csr.n_post} "
                f"neurons = {length * self.csr.n_post} places; at most 2**31 - 1 can be numbered. "
                "Use shorter delays or a longer dt, or split the post-synaptic population."
            )

    def _slot(self, ring, i):
        length = ring.size // max(self.csr.n_post, 1)
        return lax.rem(i, jnp.asarray(max(length, 1), i.dtype)).astype(jnp.int32)

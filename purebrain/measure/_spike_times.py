"""Spike times from recorded spikes."""

import numpy as np
from jaxtyping import Array

from ..ops import Spikes


def spike_times(spikes: Spikes | Array, dt: float, i0: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The times and ids of all spikes, in order of time.

    **Arguments:** `spikes`: as recorded, with a leading axis of time, packed or dense; `dt`: ms;
    `i0`: the step at which the recording started.

    **Returns:** times, ms (float64; step * dt, at the end of the step of the spike), and neuron
    ids.
    """
    if isinstance(spikes, Spikes):
        starts = range(0, spikes.shape[0], CHUNK)
        parts = [np.nonzero(_dense(spikes, lo)) for lo in starts]
        empty = np.zeros(0, np.int64)
        step = np.concatenate([empty, *(p[0] + lo for p, lo in zip(parts, starts, strict=True))])
        ids = np.concatenate([empty, *(p[1] for p in parts)])
    else:
        step, ids = np.nonzero(np.asarray(spikes))
    return (np.asarray(step, np.int64) + 1 + i0) * float(dt), np.asarray(ids, np.int64)


CHUNK = 1024  # steps unpacked at once


def _dense(spikes: Spikes, lo: int) -> np.ndarray:
    words = np.asarray(spikes.words[lo : lo + CHUNK])
    bits = (words[:, None, :] >> np.arange(32, dtype=np.uint32)[:, None]) & np.uint32(1)
    return bits.reshape(len(words), -1)[:, spikes.lo : spikes.hi]

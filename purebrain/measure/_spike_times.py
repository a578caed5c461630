"""Spike times from recorded spikes."""

import numpy as np
from jaxtyping import Array

from ..ops import Spikes

CHUNK = 1024  # steps unpacked at once


def spike_times(
    spikes: Spikes | Array | np.ndarray, dt: float, i0: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The times and ids of all spikes, in order of time.

    **Arguments:** `spikes`: as recorded, with a leading axis of time, packed or dense; or counts,
    of which each spike is one entry; `dt`: ms; `i0`: the step at which the recording started.

    **Returns:** times, ms (float64; step * dt, at the end of the step of the spike), and neuron
    ids.
    """
    steps, ids = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, spikes.shape[0], CHUNK):
        counts = _dense(spikes, start)
        step, neuron = np.nonzero(counts)
        times = counts[step, neuron].astype(np.int64)
        steps.append(np.repeat(start + step, times))
        ids.append(np.repeat(neuron, times))
    return (np.concatenate(steps) + (1 + i0)) * float(dt), np.concatenate(ids)


def _dense(spikes: Spikes | Array | np.ndarray, start: int) -> np.ndarray:
    if not isinstance(spikes, Spikes):
        return np.asarray(spikes[start : start + CHUNK])
    words = np.asarray(spikes.words[start : start + CHUNK])
    bits = (words[:, None, :] >> np.arange(32, dtype=np.uint32)[:, None]) & np.uint32(1)
    return bits.reshape(len(words), -1)[:, spikes.lo : spikes.hi]

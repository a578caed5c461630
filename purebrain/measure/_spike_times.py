"""Spike times from recorded spikes."""

import numpy as np
from jaxtyping import Array

from ..ops import Spikes

CHUNK = 2**22  # neurons times steps unpacked at once


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
    length, n = spikes.shape
    rows = max(1, CHUNK // max(1, n))
    for start in range(0, length, rows):
        part = spikes[start : start + rows]
        counts = np.asarray(part.to_dense() if isinstance(part, Spikes) else part)
        step, neuron = np.nonzero(counts)
        times = counts[step, neuron].astype(np.int64)
        steps.append(np.repeat(start + step, times))
        ids.append(np.repeat(neuron, times))
    return (np.concatenate(steps) + (1 + i0)) * float(dt), np.concatenate(ids)

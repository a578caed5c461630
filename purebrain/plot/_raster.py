"""The raster plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._simulate import Run
from ..measure import spike_times

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def raster(run: Run, names: Sequence[str] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draws every recorded spike as a dot: time to the right, neurons upwards, populations stacked.

    **Arguments:** `run`: whose `saved` is a dict from names to spikes; `names`: the populations to draw, in
    order (default: all); `ax`: where (default: a new figure).

    **Returns:** the axes.

    **Raises:** `ImportError` without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("raster needs matplotlib: pip install 'purebrain[plot]'.") from error
    if ax is None:
        _, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
    start, duration = 0.0, 0.0
    offset, ticks = 0, []
    for name in names or list(run.saved):
        spikes = run.saved[name]
        n_steps, n = spikes.shape
        i0 = int(run.i) - n_steps
        times, ids = spike_times(spikes, run.dt, i0)
        size = float(np.clip(4e4 / max(len(times), 1), 0.2, 6.0))
        ax.scatter(times, ids + offset, s=size, linewidths=0, rasterized=True)
        ticks.append((offset + n / 2, f"{name}\n{n:,} neurons"))
        start, duration = i0 * run.dt, n_steps * run.dt
        offset += n
    ax.set(xlim=(start, start + duration), ylim=(0, max(offset, 1)), xlabel="time (ms)")
    ax.set_yticks([t for t, _ in ticks], [label for _, label in ticks])
    return ax

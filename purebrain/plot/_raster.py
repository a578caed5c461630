"""The raster plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._projection import View
from .._simulate import Run
from ..measure import spike_times
from ..ops import Spikes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def raster(run: Run, names: Sequence[str | View] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draws every recorded spike as a dot: time to the right, neurons upwards, populations stacked.

    **Arguments:** `run`: whose `saved` is a dict from names to spikes; `names`: the populations to
    draw, upwards, or views of them such as `View("N")[:3200]` (default: all); `ax`: where (default:
    a new figure).

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
        view = View(name) if isinstance(name, str) else name
        spikes = run.saved[view.name]
        if view.name != name:
            part = slice(view.lo, view.hi)
            spikes = spikes.neurons(part) if isinstance(spikes, Spikes) else spikes[:, part]
        n_steps, n = spikes.shape
        i0 = int(run.i) - n_steps
        times, ids = spike_times(spikes, run.dt, i0)
        size = float(np.clip(4e4 / max(len(times), 1), 0.2, 6.0))
        ax.scatter(times, ids + offset, s=size, linewidths=0, rasterized=True)
        label = view.name if view.name == name else f"{view.name}[{view.lo}:{view.lo + n}]"
        ticks.append((offset + n / 2, f"{label}\n{n:,} neurons"))
        start, duration = i0 * run.dt, n_steps * run.dt
        offset += n
    ax.set(xlim=(start, start + duration), ylim=(0, max(offset, 1)), xlabel="time (ms)")
    ax.set_yticks([t for t, _ in ticks], [label for _, label in ticks])
    return ax

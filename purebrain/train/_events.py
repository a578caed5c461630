"""Spikes that are known before the run, as lists of events, and their projection.

The input of a feed-forward layer does not depend on its state. So `project` delivers all steps at
once, outside the loop over time, and its time and memory follow the events: of the digits of MNIST
in a latency code 0.15% of the entries of (time, trial, neuron) are events, and of the 8 GFLOP that
a dense product and its gradient take, 99.8% multiply zeros.

Both directions are sums of listed rows, never scatters. The rows of the result go side by side and
take one event each in turn, a contiguous row of `weight`, for as long as any has one left; so what
runs is vector additions. With events sorted by (time, trial) this is the product, and sorted by
neuron, with the cotangent in place of `weight`, its transpose.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Int32

from .._check import concrete, instance

UNROLL = 8  # events a turn: at 1 a turn the sums are written and read 8 times as often


class Lists(eqx.Module):
    """For each row k, the ids `ids[starts[k] : starts[k + 1]]`; rows go in `blocks` blocks."""

    ids: Int32[Array | np.ndarray, "*parts capacity"]
    starts: Int32[Array | np.ndarray, "*parts rows_and_1"]
    blocks: int = eqx.field(static=True)


class EventList(eqx.Module):
    """The spikes of `trials` trials of `steps` steps and `n` neurons; made by `event_list` or
    `events_from_times`."""

    by_step: Lists  # of each (step, trial): its neurons
    by_neuron: Lists  # of each neuron: its (step, trial)s
    steps: int = eqx.field(static=True)
    trials: int = eqx.field(static=True)
    n: int = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(steps, trials, n)."""
        return self.steps, self.trials, self.n

    def to_dense(self) -> Int32[Array, "steps trials n"]:
        """The number of events of each neuron in each step and trial."""
        lists, rows = self.by_step, self.steps * self.trials
        at = jnp.arange(lists.ids.size, dtype=jnp.int32)
        row = jnp.searchsorted(lists.starts, at, side="right").astype(jnp.int32) - 1
        row = jnp.where(at < lists.starts[-1], row, rows)  # past the last event: dropped
        counts = jnp.zeros((rows, self.n), jnp.int32).at[row, lists.ids].add(1, mode="drop")
        return counts.reshape(self.shape)


def event_list(
    step: np.ndarray,
    trial: np.ndarray,
    neuron: np.ndarray,
    *,
    shape: tuple[int, int, int],
    capacity: int | None = None,
) -> EventList:
    """Events in any order as an `EventList`, sorted on the host (28,000 take about 1 ms).

    **Arguments:**

    - `step`, `trial`, `neuron`: whole numbers, one an event; repeated events count repeatedly.
    - `shape`: (steps, trials, n).
    - `capacity`: how many events there is room for. Compiled code is reused for events of the same
      shape and capacity. By default the number of events, rounded up by at most a quarter.

    **Raises:** `TypeError` for fractions, `ValueError` for ids out of range, arrays of several
    lengths, or more events than `capacity`.

        >>> import numpy as np
        >>> step, trial, neuron = np.array([0, 2]), np.array([0, 0]), np.array([1, 1])
        >>> event_list(step, trial, neuron, shape=(3, 1, 2)).to_dense()[:, 0].tolist()
        [[0, 1], [0, 0], [0, 1]]
    """
    return jtu.tree_map(jnp.asarray, _on_host(step, trial, neuron, shape=shape, capacity=capacity))


def events_from_times(
    times, steps: int, *, capacity: int | None = None, parts: int | None = None
) -> EventList:
    """At most one spike a neuron and trial, such as of `latency_code`.

    **Arguments:**

    - `times`: (trials, n), in steps. A spike at time t is in step floor(t); there is none where t
      is infinite, or at the end of the run or later.
    - `steps`: the length of the run.
    - `capacity`: as of `event_list`, of each part.
    - `parts`: for `in_parts`: so many lists of trials / parts trials each, stacked along a leading
      axis.

    **Raises:** `ValueError` for times below 0 or NaN, and trials that `parts` does not divide.

        >>> import numpy as np
        >>> events_from_times(np.array([[1.5, np.inf]]), 3).to_dense()[:, 0].tolist()
        [[0, 0], [1, 0], [0, 0]]
    """
    host = concrete(times)
    if host is None:
        raise TypeError("times: traced, but events are sorted on the host; call it outside jit.")
    if host.ndim != 2:
        raise ValueError(f"times: shape {host.shape}; it must be (trials, n).")
    if not (host >= 0).all():
        raise ValueError(f"times: {host[~(host >= 0)][0]}; they must be 0 or more, inf for none.")
    if parts is not None and (parts < 1 or len(host) % parts):
        raise ValueError(f"parts: {parts}, for {len(host)} trials; it must divide them.")
    found = []
    for part in np.split(host, parts or 1):
        trial, neuron = np.nonzero(part < steps)
        found.append([part[trial, neuron].astype(np.int32), trial, neuron])
    capacity = capacity or _room(max(step.size for step, _, _ in found))
    shape = (steps, len(host) // len(found), host.shape[1])
    lists = [_on_host(*e, shape=shape, capacity=capacity) for e in found]
    if parts is None:
        return jtu.tree_map(jnp.asarray, lists[0])
    return jtu.tree_map(lambda *a: jnp.asarray(np.stack(a)), *lists)


def _room(count: int) -> int:
    quarter = 1 << max(0, count.bit_length() - 3)
    return max(1, -(-count // quarter) * quarter)


def _on_host(step, trial, neuron, *, shape, capacity) -> EventList:
    ids = {"step": np.asarray(step), "trial": np.asarray(trial), "neuron": np.asarray(neuron)}
    for (name, a), n in zip(ids.items(), shape, strict=True):
        if not np.issubdtype(a.dtype, np.integer):
            raise TypeError(f"{name}: dtype {a.dtype}; write {name}.astype(np.int32).")
        if a.ndim != 1 or a.shape != ids["step"].shape:
            raise ValueError(f"{name}: shape {a.shape}; it must be one number an event.")
        if a.size and not (0 <= a.min() and a.max() < n):
            raise ValueError(f"{name}: {a.min()} to {a.max()}; of shape {shape} it is in [0, {n}).")
    step, trial, neuron = ids.values()
    steps, trials, n = shape
    capacity = _room(step.size) if capacity is None else capacity
    if step.size > capacity:
        raise ValueError(f"capacity: {capacity}, but there are {step.size} events.")
    order = _order(trial)
    order = order[_order(step[order])]
    cell, neuron = (step.astype(np.int64) * trials + trial)[order], neuron[order]
    order = _order(neuron)
    by_step = _lists(cell, neuron, steps * trials, capacity, steps)
    by_neuron = _lists(neuron[order], cell[order], n, capacity, 1)
    return EventList(by_step, by_neuron, steps, trials, n)


def _order(keys: np.ndarray) -> np.ndarray:
    """The stable order of `keys`; NumPy takes linear time where 16 bits do."""
    return np.argsort(keys.astype(np.min_scalar_type(keys.max(initial=0))), kind="stable")


def _lists(row, value, rows, capacity, blocks) -> Lists:
    ids, starts = np.zeros(max(1, capacity), np.int32), np.zeros(rows + 1, np.int32)
    ids[: value.size] = value
    np.cumsum(np.bincount(row, minlength=rows), out=starts[1:])
    return Lists(ids, starts, blocks)


def project(
    events: EventList, weight: Float[Array, "n n_post"]
) -> Float[Array, "steps trials n_post"]:
    """What every step of every trial delivers through `weight`:

        y[t, b] = sum over the events (t, b, i) of weight[i]

    The same as `events.to_dense() @ weight` up to the order of sums; forward and reverse mode of
    any order, and `vmap` over `weight`.

    **Raises:** `ValueError` for a weight of another number of rows.

        >>> import jax, jax.numpy as jnp, numpy as np
        >>> events = events_from_times(np.array([[0.0, 1.0]]), 2)
        >>> project(events, jnp.array([[1.0], [2.0]]))[:, 0].tolist()
        [[1.0], [2.0]]
        >>> jax.grad(lambda w: project(events, w)[1].sum())(jnp.ones((2, 1))).tolist()
        [[0.0], [1.0]]
    """
    instance("events", events, EventList)
    if weight.ndim != 2 or weight.shape[0] != events.n:
        raise ValueError(f"weight: shape {weight.shape}; it must be ({events.n}, n_post).")
    there, back = events.by_step, events.by_neuron
    layout = _Layout(there.blocks, back.blocks)
    y = _sum_p.bind(weight, there.ids, there.starts, back.ids, back.starts, layout=layout)
    return y.reshape(events.steps, events.trials, -1)


class _Layout(NamedTuple):
    blocks: int
    blocks_back: int


def _sum_of_rows(x, ids, starts, ids_back, starts_back, *, layout):
    """y[k] = sum of x[i] over the ids i of row k."""
    rows, last = (starts.size - 1) // layout.blocks, x.shape[0]
    if rows == 0:
        return jnp.zeros((0, x.shape[1]), x.dtype)
    x = jnp.pad(x, ((0, 1), (0, 0)))  # a row of zeros, for rows without an event left
    bounds = starts[:-1].reshape(-1, rows), starts[1:].reshape(-1, rows)

    def block(_, bounds):
        start, stop = bounds
        # Counted by turns: XLA may take a turn too few of a loop by UNROLL to a number it knows.
        turns = (jnp.max(stop - start) + UNROLL - 1) // UNROLL

        def turn(n, y):
            part = jnp.zeros_like(y)
            for k in range(UNROLL):
                at = start + n * UNROLL + k
                i = jnp.where(at < stop, ids[jnp.minimum(at, ids.size - 1)], last)
                part = part + x.at[i].get(mode="promise_in_bounds")
            return y + part

        y = jnp.zeros((rows, x.shape[1]), x.dtype)
        return None, lax.fori_loop(jnp.int32(0), turns, turn, y)

    return lax.scan(block, None, bounds)[1].reshape(starts.size - 1, -1)


_sum_p = Primitive("purebrain_sum_of_rows")
_sum_p.def_impl(jax.jit(_sum_of_rows, static_argnames="layout"))
_sum_p.def_abstract_eval(
    lambda x, ids, starts, *back, layout: ShapedArray((starts.shape[0] - 1, x.shape[1]), x.dtype)
)
mlir.register_lowering(_sum_p, mlir.lower_fun(_sum_of_rows, multiple_results=False))


def _jvp(primals, tangents, *, layout):
    y, dx = _sum_p.bind(*primals, layout=layout), tangents[0]  # the lists are whole numbers
    if type(dx) is ad.Zero:
        return y, ad.Zero(jax.typeof(y).to_tangent_aval())
    return y, _sum_p.bind(dx, *primals[1:], layout=layout)


def _transpose(ct, x, ids, starts, ids_back, starts_back, *, layout):
    if type(ct) is ad.Zero:
        return [None] * 5
    # The transpose of sums over one sorting is sums over the other.
    back = _Layout(layout.blocks_back, layout.blocks)
    dx = _sum_p.bind(ct, ids_back, starts_back, ids, starts, layout=back)
    return [dx, None, None, None, None]


def _batch(args, dims, *, layout):
    if any(d is not None for d in dims[1:]):
        size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
        each = [
            jnp.broadcast_to(a, (size, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
            for a, d in zip(args, dims, strict=True)
        ]
        return lax.map(lambda args: _sum_p.bind(*args, layout=layout), tuple(each)), 0
    x = jnp.moveaxis(args[0], dims[0], 1)  # more columns
    y = _sum_p.bind(x.reshape(x.shape[0], -1), *args[1:], layout=layout)
    return y.reshape(y.shape[0], *x.shape[1:]), 1


ad.primitive_jvps[_sum_p] = _jvp
ad.primitive_transposes[_sum_p] = _transpose
batching.primitive_batchers[_sum_p] = _batch

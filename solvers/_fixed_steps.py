"""A loop of equal steps that saves what `diffrax.SaveAt` asks for, for solvers with a memory."""

import math
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jax.core import Tracer

from ._fault import fail_if


def number(name: str, value) -> float:
    """A finite number of Python; it sizes loops and buffers."""
    if isinstance(value, Tracer):
        raise TypeError(f"{name}: traced; it sizes the loop and must be a number, not an argument.")
    try:
        value = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {value!r}; it must be one number.") from error
    if not math.isfinite(value):
        raise ValueError(f"{name}: {value}; it must be finite.")
    return value


def grid(t0, t1, dt0) -> tuple[float, float, int]:
    """The start, the step and the number of steps; an error where dt0 does not divide t1 - t0."""
    t0, t1, dt0 = number("t0", t0), number("t1", t1), number("dt0", dt0)
    if not t1 > t0:
        raise ValueError(f"t1: {t1} is not after t0 = {t0}; time runs forward here.")
    if not dt0 > 0:
        raise ValueError(f"dt0: {dt0}; it must be above 0.")
    n = max(math.floor((t1 - t0) / dt0 + 0.5), 1)
    nearest = (t1 - t0) / n
    if abs(t1 - t0 - n * dt0) > 1e-6 * dt0:
        raise ValueError(
            f"dt0: {dt0} does not divide t1 - t0 = {t1 - t0}; the nearest that does is "
            f"dt0={nearest!r}, in {n} steps."
        )
    if n >= 2**31:
        raise ValueError(f"dt0: {dt0} makes {n} steps; at most 2^31 - 1 are counted.")
    return t0, nearest, n


def floating(y0):
    """The state as arrays of floats; one type for all, that of the clock too."""

    def as_float(a):
        kind = jnp.result_type(a)
        return jnp.asarray(a, kind if jnp.issubdtype(kind, jnp.floating) else float)

    y0 = jtu.tree_map(as_float, y0)
    types = {a.dtype for a in jtu.tree_leaves(y0)}
    if len(types) != 1:
        names = sorted(str(t) for t in types)
        raise TypeError(f"y0: leaves of type {names}; it must have leaves, all of one type.")
    return y0


def same_structure(name: str, got, y0) -> None:
    """Refuses a value that is not built as y0 is: tree, shapes and types."""
    got, expected = jax.eval_shape(lambda: (got, y0))

    def show(tree):
        return jtu.tree_map(lambda a: f"{a.dtype}{list(a.shape)}", tree)

    if jtu.tree_structure(got) != jtu.tree_structure(expected) or show(got) != show(expected):
        raise TypeError(f"{name} gives {show(got)}; it must be built as y0: {show(expected)}.")


def checked(saveat: dfx.SaveAt, t0: float, t1: float, *, dense: bool) -> dfx.SaveAt:
    """Refuses what cannot be saved."""
    sub = saveat.subs
    if saveat.solver_state or saveat.controller_state or saveat.made_jump:
        raise ValueError("saveat: only t0, t1, ts, steps, fn and dense can be saved here.")
    if not (sub is None or isinstance(sub, dfx.SubSaveAt)):
        raise ValueError("saveat: only one is saved here; write SaveAt(...) without subs.")
    if not dense and (saveat.dense or (sub is not None and sub.ts is not None)):
        raise ValueError("saveat: there is no dense output here; write SaveAt(steps=True).")
    if sub is not None and sub.ts is not None:
        if sub.steps:
            raise ValueError("saveat: both ts and steps; save one of them.")
        if not isinstance(sub.ts, Tracer):
            ts, tiny = np.asarray(sub.ts), 1e-6 * (t1 - t0)
            if not ((ts >= t0 - tiny) & (ts <= t1 + tiny) & np.isfinite(ts)).all():
                raise ValueError(f"saveat.ts: {ts}; all must lie from t0 = {t0} to t1 = {t1}.")
            if (np.diff(ts) < 0).any():
                raise ValueError(f"saveat.ts: {ts}; it must be sorted: jnp.sort(ts).")
    return saveat


def solve(
    step: Callable[[Any, Any, Any], tuple[Any, Any, Any]],
    y0,
    carry,
    args,
    *,
    clock: tuple[float, float, int],
    saveat: dfx.SaveAt,
    interpolation: Callable,
    checkpoints: int | None,
) -> tuple[dfx.Solution, Any]:
    """The solution, and the last carry, of `y, carry, info = step(i, y, carry)` for i < n.

    `interpolation(t0=..., t1=..., **info)` is a step's dense output.
    """
    t0, h, n = clock
    dtype = jtu.tree_leaves(y0)[0].dtype
    dense, sub = saveat.dense, saveat.subs
    if sub is None:
        sub = dfx.SubSaveAt(ts=jnp.zeros(0), steps=n + 1)  # nothing
    every = sub.steps
    ts = jnp.zeros(0, dtype) if sub.ts is None else sub.ts.astype(dtype)
    start, width = jnp.asarray(t0, dtype), jnp.asarray(h, dtype)
    end = jnp.asarray(t0 + n * h, dtype)

    def time(i):
        return jnp.where(i == n, end, start + i.astype(dtype) * width)

    def save(t, y):
        return sub.fn(t, y, args)

    def empty(size, like):
        return jtu.tree_map(lambda a: jnp.zeros((size, *a.shape), a.dtype), like)

    shapes = jax.eval_shape(lambda: (save(start, y0), step(jnp.int32(0), y0, carry)[2]))
    kept = empty(n // every if every else 0, shapes[0])
    # The dense output of the steps that hold a time, each in the slot of its first time.
    place = (ts - start) / width
    where = jnp.clip(jnp.ceil(place).astype(jnp.int32) - 1, 0, n - 1)
    infos = empty(ts.size, shapes[1])

    def body(state, i):
        y, carry, bad, kept, infos = state
        y, carry, info = step(i, y, carry)
        finite = jnp.stack([jnp.isfinite(a).all() for a in jtu.tree_leaves(y)])
        bad = jnp.minimum(bad, jnp.where(finite, n, i))
        if every:
            slot = jnp.where((i + 1) % every == 0, i // every, n)
            kept = put(kept, slot, save(time(i + 1), y))
        if ts.size:
            first = jnp.searchsorted(where, i)
            held = where[jnp.minimum(first, ts.size - 1)] == i
            infos = put(infos, jnp.where(held, first, ts.size), info)
        return (y, carry, bad, kept, infos), (info if dense else None)

    def put(buffer, slot, value):
        return jtu.tree_map(lambda a, x: a.at[slot].set(x, mode="drop"), buffer, value)

    leaves = jtu.tree_leaves_with_path(y0)
    bad = jnp.full(len(leaves), n, jnp.int32)
    state = (y0, carry, bad, kept, infos)
    steps = jnp.arange(n, dtype=jnp.int32)
    if checkpoints is None:
        state, every_info = lax.scan(body, state, steps)
    else:
        state, every_info = eqxi.scan(
            body, state, steps, kind="checkpointed", checkpoints=checkpoints
        )
    y1, carry, bad, kept, infos = state

    def describe(i, leaf):
        name = jtu.keystr(leaves[leaf][0])
        return (
            f"y{name}: not finite after step {i}, from t = {t0 + i * h:.12g} to "
            f"{t0 + (i + 1) * h:.12g}; the right-hand side is not finite there, or dt0 = {h:.12g} "
            "is too long for it."
        )

    def at(position, i):
        info = jtu.tree_map(lambda a: a[jnp.searchsorted(where, i)], infos)
        path = interpolation(t0=jnp.zeros((), dtype), t1=width, **info)
        return path.evaluate((position - i.astype(dtype)) * width)

    def one(t, y):
        return t[None], jtu.tree_map(lambda a: jnp.asarray(a)[None], save(t, y))

    parts = [one(start, y0)] if sub.t0 else []
    if every:
        parts.append((time(every * jnp.arange(1, n // every + 1)), kept))
    if ts.size:
        parts.append((ts, jax.vmap(save)(ts, jax.vmap(at)(place, where))))
    if sub.t1 and not (every and n % every == 0):
        parts.append(one(end, y1))
    times, ys = jtu.tree_map(lambda *a: jnp.concatenate(a), *parts) if parts else (None, None)
    # On all that is returned: an error that nothing depends on is not compiled.
    results = (ys, every_info, y1, carry)
    ys, every_info, y1, carry = fail_if(
        results, bad.min() < n, describe, bad.min(), jnp.argmin(bad)
    )
    path = None
    if dense:
        path = dfx.DenseInterpolation(
            ts=jnp.append(time(steps), end),
            ts_size=n + 1,
            infos=every_info,
            interpolation_cls=interpolation,
            direction=1,
            t0_if_trivial=start,
            y0_if_trivial=y0,
        )
    return dfx.Solution(
        t0=start,
        t1=end,
        ts=times,
        ys=ys,
        interpolation=path,
        stats={"num_steps": n},
        result=dfx.RESULTS.successful,
        solver_state=None,
        controller_state=None,
        made_jump=None,
        event_mask=None,
    ), carry

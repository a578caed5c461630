"""Running a model."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ._adjoint import AbstractAdjoint, Direct
from ._check import steps, time_step
from ._core import AbstractDynamics, Tick
from ._progress import progress_hook


class Run(eqx.Module):
    """What `simulate` returns.

    `state`: the state at the end; `i`: the next step, for going on: `simulate(model, run.state,
    ..., i0=run.i)`; `saved`: what `save` returned, with a leading axis of time; `dt`: ms.
    """

    state: PyTree
    i: Int[Array, ""]
    saved: PyTree
    dt: float = eqx.field(static=True)


def save_output(tick: Tick, state: PyTree, out: PyTree) -> PyTree:
    """The default of `simulate(save=...)`: the model's output, for a network its spikes."""
    return out


class Series(eqx.Module):
    """Inputs that change with the step: `Series({"N": array})`, arrays with a leading axis of time.

    Step i gets entry i of every array. A function `tick -> inputs` of your own does as well.
    """

    values: PyTree[Array]

    def __init__(self, values):
        self.values = jtu.tree_map(jnp.asarray, values)

    def __call__(self, tick: Tick) -> PyTree:
        """The inputs of one step."""
        return jtu.tree_map(lambda a: a[tick.i], self.values)


def simulate(
    model: AbstractDynamics,
    state: PyTree,
    inputs: PyTree | Callable[[Tick], PyTree] = None,
    *,
    dt: float,
    duration: float,
    i0: int | Int[Array, ""] = 0,
    key: PRNGKeyArray | None = None,
    save: Callable[[Tick, PyTree, PyTree], PyTree] = save_output,
    progress: bool = False,
    adjoint: AbstractAdjoint | None = None,
    check_finite: bool = False,
) -> Run:
    """Steps `model` from `state` for `duration`, compiled once for every length of the same kind.

    A pure function: under `jax.jit`, `jax.vmap` and `jax.grad` it does what they say. Splitting a
    run changes no bit of it: `simulate(model, run.state, inputs, ..., i0=run.i)` goes on where
    `run` ended, with the same noise, since keys are folded with the step.

    **Arguments:**

    - `model`, `state`: dynamics, and a state of theirs: `model.init(dt=dt, key=...)`.
    - `inputs`: the input of every step, or a function `tick -> input` (`Series(arrays)` is one).
      For a network a dict from population names to currents.
    - `dt`: the step, ms. `duration`: ms, a multiple of dt.
    - `i0`: the step to start at.
    - `key`: for models with noise.
    - `save`: what to record of each step, a function of the tick, the state after the step, and its
      output. Pass the same function again, not a new lambda, or the run compiles anew.
    - `progress`: show a progress bar (needs tqdm).
    - `adjoint`: `Direct()` (the default) or `Checkpointed()`, for reverse mode.
    - `check_finite`: raise at the end of the run if any state became infinite or not a number,
      naming the first step and the variable. Costs one more pass over the state a step.

    **Returns:** a `Run`.

    **Raises:** `ValueError` or `TypeError` for a `dt` not above 0, a `duration` off the grid, a
    state of another model; `FloatingPointError` with `check_finite`.
    """
    dt = time_step(dt)
    length = steps("duration", duration, dt)
    i0 = _start(i0)
    if isinstance(inputs, Series):
        _check_series(inputs, i0, length)
    adjoint = Direct() if adjoint is None else adjoint
    hook = progress_hook(length) if progress else None
    out = _run(model, state, inputs, dt, length, i0, key, save, adjoint, hook, check_finite)
    run, first_bad = out
    if check_finite:
        run = _report(run, first_bad)
    return run


@eqx.filter_jit
def _run(model, state, inputs, dt, length, i0, key, save, adjoint, hook, check_finite):
    _check_state(model, state, inputs, dt, i0, key)
    feed = inputs if callable(inputs) else lambda tick: inputs
    floats = [eqx.is_inexact_array(leaf) for leaf in jtu.tree_leaves(state)]
    unset = jnp.full(sum(floats), -1, jnp.int32) if check_finite else None

    def body(carry, _):
        state, i, first_bad = carry
        tick = Tick(i, dt, None if key is None else jr.fold_in(key, i))
        state, out = model.step(state, feed(tick), tick)
        if check_finite:
            leaves = [a for a, f in zip(jtu.tree_leaves(state), floats, strict=True) if f]
            bad = jnp.stack([~jnp.isfinite(a).all() for a in leaves])
            first_bad = jnp.where(bad & (first_bad < 0), i.astype(jnp.int32), first_bad)
        if hook is not None:
            hook(i - i0)
        return (state, i + 1, first_bad), save(tick, state, out)

    (state, i, first_bad), saved = adjoint.scan(body, (state, i0, unset), length)
    return Run(state, i, saved, dt), first_bad


def _start(i0) -> Array:
    if not eqx.is_array(i0) and not (isinstance(i0, int) and i0 >= 0):
        raise ValueError(f"i0: {i0!r}; it must be a step, a whole number >= 0, such as run.i.")
    return jnp.asarray(i0, jnp.int32)


def _check_series(series: Series, i0, length) -> None:
    for path, a in jtu.tree_leaves_with_path(series.values):
        stop = None if isinstance(i0, jax.core.Tracer) else int(i0) + length
        if a.ndim == 0 or (stop is not None and a.shape[0] < stop):
            raise ValueError(
                f"inputs{jtu.keystr(path)}: shape {a.shape}, but the run goes to step {stop}; the "
                "first axis is time and must have at least as many entries."
            )


def _check_state(model, state, inputs, dt, i0, key) -> None:
    """Refuses the state of another model: the step must give back what it was given."""
    tick = Tick(i0, dt, key)
    feed = inputs if callable(inputs) else lambda tick: inputs
    old = jtu.tree_structure(state)
    try:
        new = eqx.filter_eval_shape(lambda s: model.step(s, feed(tick), tick)[0], state)
    except (AttributeError, IndexError) as error:
        raise ValueError(
            f"state: {type(state).__name__} is none of this {type(model).__name__} ({error}); "
            f"write state = model.init(dt={dt}, key=...)."
        ) from error
    if jtu.tree_structure(new) != old:
        raise ValueError(
            f"state: of another model than this {type(model).__name__}; write "
            f"state = model.init(dt={dt}, key=...)."
        )
    for (path, a), b in zip(jtu.tree_leaves_with_path(state), jtu.tree_leaves(new), strict=True):
        if (jnp.shape(a), jnp.result_type(a)) != (b.shape, b.dtype):
            raise ValueError(
                f"state{jtu.keystr(path)}: {jnp.result_type(a)}{list(jnp.shape(a))}, but a step "
                f"makes it "
                f"{b.dtype}{list(b.shape)}; is it of another model, dt or precision?"
            )


def _report(run: Run, first_bad) -> Run:
    paths = [
        jtu.keystr(p) for p, a in jtu.tree_leaves_with_path(run.state) if eqx.is_inexact_array(a)
    ]
    if isinstance(first_bad, jax.core.Tracer):
        message = f"not finite: one of {', '.join(paths)}"
        return eqx.error_if(run, jnp.any(first_bad >= 0), message)
    steps_bad = np.asarray(first_bad)
    if (steps_bad >= 0).any():
        first = int(steps_bad[steps_bad >= 0].min())
        names = [p for p, n in zip(paths, steps_bad, strict=True) if n == first]
        raise FloatingPointError(
            f"not finite: state{names[0]} after step {first} (t = {(first + 1) * run.dt:.6g} ms)"
            + (f", with {', '.join(names[1:])}" if names[1:] else "")
            + ". Is dt too long for the model, or a parameter wrong?"
        )
    return run

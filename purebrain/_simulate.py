"""Running a model."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ._adjoint import AbstractAdjoint, Direct
from ._check import concrete, instance, one_key, steps, time_step
from ._core import AbstractDynamics, Tick
from ._drive import Drives
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
    - `adjoint`: how the run is differentiated: `Direct()` (the default; forward mode too),
      `Checkpointed()`, `Reverse()`, `Truncated(steps)` or `TimeParallel()`.
    - `check_finite`: raise at the end of the run if any state became infinite or not a number,
      naming the first step and the variable. Costs one more pass over the state a step.

    **Returns:** a `Run`.

    **Raises:** `ValueError` or `TypeError` for a `dt` not above 0, a `duration` off the grid, a
    state of another model; `FloatingPointError` with `check_finite`.
    """
    dt = time_step(dt)
    length = steps("duration", duration, dt)
    i0 = _start(i0, length)
    adjoint = Direct() if adjoint is None else adjoint
    one_key(key)
    instance("model", model, AbstractDynamics)
    instance("adjoint", adjoint, AbstractAdjoint)
    instance("save", save, Callable)
    if isinstance(inputs, Series):
        i0 = _check_series(inputs, i0, length)
    elif isinstance(inputs, Drives) or not callable(inputs):
        # A Python number would be a constant of the compiled code, compiled anew for every other.
        inputs = jtu.tree_map(
            lambda a: jnp.asarray(a, float) if isinstance(a, int | float) else a, inputs
        )
    _check_state(model, state, dt)
    hook = progress_hook(length) if progress else None
    out = _run(model, state, inputs, dt, length, i0, key, save, adjoint, hook, check_finite)
    run, first_bad = out
    if check_finite:
        run = _report(run, first_bad)
    return run


@eqx.filter_jit
def _run(model, state, inputs, dt, length, i0, key, save, adjoint, hook, check_finite):
    feed = inputs
    if isinstance(inputs, Drives) or not callable(inputs):

        def feed(tick):
            return inputs

    _check_step(model, state, feed, Tick(i0, dt, key))
    floats = [eqx.is_inexact_array(leaf) for leaf in jtu.tree_leaves(state)]
    unset = jnp.full(sum(floats), -1, jnp.int32) if check_finite else None

    def body(carry, _):
        state, i, first_bad = carry
        tick = Tick(i, dt, None if key is None else jr.fold_in(key, i))
        state, out = model.step(state, feed(tick), tick)
        if check_finite:
            leaves = [a for a, f in zip(jtu.tree_leaves(state), floats, strict=True) if f]
            bad = jnp.array([~jnp.isfinite(a).all() for a in leaves], bool)
            first_bad = jnp.where(bad & (first_bad < 0), i.astype(jnp.int32), first_bad)
        if hook is not None:
            hook(i - i0)
        return (state, i + 1, first_bad), save(tick, state, out)

    (state, i, first_bad), saved = adjoint.scan(body, (state, i0, unset), length)
    return Run(state, i, saved, dt), first_bad


def _start(i0, length: int) -> Array:
    if np.shape(i0) or not np.issubdtype(getattr(i0, "dtype", type(i0)), np.integer):
        raise TypeError(f"i0: {i0!r}; it must be a step, a whole number such as run.i.")
    host, last = concrete(i0), np.iinfo(np.int32).max
    if length > last or (host is not None and not 0 <= host <= last - length):
        raise ValueError(
            f"i0: {i0}, for {length} steps; the first and the last step must be in [0, {last}]."
        )
    return jnp.asarray(i0, jnp.int32)


def _check_series(series: Series, i0: Array, length: int) -> Array:
    """`i0`, once it is known that the series have all steps from there on."""
    for path, a in jtu.tree_leaves_with_path(series.values):
        if a.ndim == 0:
            raise ValueError(
                f"inputs{jtu.keystr(path)}: one number, but the first axis of a Series is time; "
                f"write it without Series."
            )
        message = (
            f"inputs{jtu.keystr(path)}: {a.shape[0]} steps, but the run of {length} steps "
            f"goes on to step {{}}; the first axis is time, entry i is for step i."
        )
        host = concrete(i0)
        if host is None:
            i0 = eqx.error_if(i0, i0 + length > a.shape[0], message.format("i0 + the duration"))
        elif host + length > a.shape[0]:
            raise ValueError(message.format(host + length))
    return i0


def _check_state(model, state, dt: float) -> None:
    """Refuses the state of another model, and times of the model that are off the grid of dt."""
    advice = f"write state = model.init(dt={dt}, key=...)."
    given = _kinds(lambda: state)
    own = _kinds(lambda: model.init(dt=dt, key=jr.key(0)))
    for path in given | own:
        if given.get(path) != own.get(path):
            raise ValueError(
                f"state{path}: {given.get(path, 'nothing')}, but this {type(model).__name__} at "
                f"dt = {dt} ms has {own.get(path, 'nothing')}; is it of another model, dt or "
                f"precision? If so {advice}"
            )


def _check_step(model, state, feed, tick: Tick) -> None:
    """Refuses a model whose step makes a state of another kind."""
    given = _kinds(lambda: state)
    new = _kinds(lambda: model.step(state, feed(tick), tick)[0])
    for path in given | new:
        if given.get(path) != new.get(path):
            raise TypeError(
                f"state{path}: {given.get(path, 'nothing')}, but a step of this "
                f"{type(model).__name__} makes it {new.get(path, 'nothing')}; `step` must keep "
                f"shapes and dtypes."
            )


def _kinds(make) -> dict[str, str]:
    """The shape and dtype of every array of a pytree, by path."""
    leaves = jtu.tree_leaves_with_path(eqx.filter_eval_shape(make))
    is_array = lambda a: hasattr(a, "dtype") or isinstance(a, int | float)  # noqa: E731
    show = lambda a: f"{jnp.result_type(a)}{list(jnp.shape(a))}" if is_array(a) else repr(a)  # noqa: E731
    return {jtu.keystr(path): show(a) for path, a in leaves}


def _report(run: Run, first_bad) -> Run:
    paths = [
        jtu.keystr(p) for p, a in jtu.tree_leaves_with_path(run.state) if eqx.is_inexact_array(a)
    ]
    if not paths:
        return run
    if isinstance(first_bad, Tracer):
        order = jnp.where(first_bad < 0, jnp.iinfo(jnp.int32).max, first_bad)
        messages = [f"not finite: state{p}" for p in paths]
        return eqx.branched_error_if(run, jnp.any(first_bad >= 0), jnp.argmin(order), messages)
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

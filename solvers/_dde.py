"""Delay differential equations."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike, PyTree

from ._fault import fail_if
from ._fixed_steps import checked, floating, grid, number, same_structure, solve
from ._history import Past, Segments, evaluate, split


def ddesolve(
    vf: Callable[[Any, Any, Any, Past], Any],
    solver: dfx.AbstractSolver,
    t0: float,
    t1: float,
    dt0: float,
    y0: PyTree[ArrayLike],
    args: Any = None,
    *,
    delays: Sequence[ArrayLike | Callable],
    max_delay: float | None = None,
    history: Callable | None = None,
    saveat: dfx.SaveAt = dfx.SaveAt(t1=True),
    checkpoints: int | None = None,
) -> dfx.Solution:
    """Solves a delay differential equation by the method of steps, in fixed steps:

        y'(t) = f(t, y(t), y(t - tau_1), ..., y'(t - tau_1), ..., args),   y(t) = history(t), t < t0

    The past is the solver's own dense output, kept for the longest delay only. Tsit5, Dopri5,
    Bosh3, Heun and Euler keep their order with it; Dopri8's dense output holds it to about 6. A
    kink at t0 comes back one delay later, one derivative weaker (in a neutral equation as strong
    as it was): the order holds where these points are step boundaries, so choose a `dt0` that
    divides the delays. Where a delay depends on the state, a stage may look across a kink (Tsit5
    then fell to order 3). The steps are fixed: an adaptive one would have to find these points.

    **Arguments:**

    - `vf`: f(t, y, args, past), with `past[k]` = y(t - tau_k), and `past.derivative(k)` =
      y'(t - tau_k) for neutral equations; see `Past`.
    - `solver`: a diffrax solver of one ODE term, explicit or implicit; one step at a time, without
      what it keeps from step to step. Forward-mode derivatives need `scan_kind="lax"`, as in
      `Tsit5(scan_kind="lax")`.
    - `t0`, `t1`, `dt0`: start, end and step, numbers; `dt0` must divide t1 - t0.
    - `y0`: the state at t0, a pytree of floats, all of one type.
    - `args`: passed to `vf` and to the delays.
    - `delays`: for each k, tau_k: a number, or a function (t, y, args) -> number for a delay that
      depends on the state. From `dt0` to `max_delay`.
    - `max_delay`: the longest delay that may occur, a number that sizes the memory; needed where a
      delay is a function or is traced (as under `jax.grad`).
    - `history`: y(t) for t < t0, built as y0; by default y0 itself. y0 need not be history(t0).
    - `saveat`: what to save: `t0`, `t1`, `ts` or `steps`, with `fn`, and `dense`.
    - `checkpoints`: None keeps what reverse mode needs of every step, and a number only so many
      states (Griewank and Walther, 2000). With a delay that is a function, each of them is a
      whole ring of max_delay / dt0 steps.

    **Returns:** a `diffrax.Solution`: `ts`, `ys`, and `evaluate(t)` with `SaveAt(dense=True)`.

    **Raises:** `ValueError` for a step that does not divide the interval, and for a delay that is
    not finite, below `dt0` or above `max_delay`; `TypeError` where `history` or `vf` give a pytree
    that is not built as `y0`. At run time, an error that names the step, the time and the value of
    a delay that leaves its range, and the step, the time and the variable that is not finite.

    Bellen and Zennaro (2003), Numerical Methods for Delay Differential Equations; Hairer, Norsett
    and Wanner (1993), Solving ODEs I, section II.17.

    >>> import diffrax as dfx, jax.numpy as jnp
    >>> from purebrain.solvers import ddesolve
    >>> def vf(t, y, args, past):
    ...     return -past[0]
    >>> sol = ddesolve(vf, dfx.Tsit5(), 0.0, 2.0, 0.1, 1.0, delays=(1.0,))
    >>> round(float(sol.ys[0]), 4)  # 1 - 2 + 1/2
    -0.5
    """
    clock = grid(t0, t1, dt0)
    delays, longest = _delays(delays, max_delay, clock[1])
    y0 = floating(y0)
    checked(saveat, clock[0], clock[0] + clock[1] * clock[2], dense=True)
    if not (isinstance(solver, dfx.AbstractSolver) and isinstance(solver.term_structure, type)):
        raise TypeError(
            f"solver: {solver!r}; it must be a diffrax solver of one ODE term, such as Tsit5()."
        )
    if not eqx.is_array_like(getattr(getattr(solver, "root_finder", None), "rtol", 0.0)):
        name = type(solver).__name__
        raise ValueError(
            f"solver: {name}() takes its tolerance from an adaptive controller; give one: "
            f"{name}(root_finder=diffrax.VeryChord(rtol=1e-8, atol=1e-8))."
        )
    if checkpoints is not None and not (isinstance(checkpoints, int) and checkpoints >= 1):
        raise ValueError(f"checkpoints: {checkpoints!r}; it must be at least 1, or None.")
    return _solve(vf, solver, clock, y0, args, delays, longest, history, saveat, checkpoints)


def _delays(delays, max_delay, h):
    """The delays as arrays and functions, and the longest."""
    if callable(delays) or not isinstance(delays, Sequence):
        raise TypeError(f"delays: {delays!r}; it must be a tuple, such as delays=(1.0,).")
    if not delays:
        raise ValueError("delays: none; without a delay use diffrax.diffeqsolve.")
    longest = None if max_delay is None else number("max_delay", max_delay)
    known, kept = [], []
    for k, delay in enumerate(delays):
        if callable(delay):
            kept.append(delay)
            continue
        if np.shape(delay):
            raise TypeError(f"delays[{k}]: shape {np.shape(delay)}; it must be one number.")
        kept.append(jnp.asarray(delay, float))
        if isinstance(delay, Tracer):
            continue
        known.append(number(f"delays[{k}]", delay))
        if known[-1] < h * (1 - 1e-9):
            raise ValueError(
                f"delays[{k}]: {known[-1]} is below the step dt0 = {h:.12g}; a delay is at least "
                f"one step, so take a dt0 of at most {known[-1]}."
                if known[-1] > 0
                else f"delays[{k}]: {known[-1]}; it must be at least the step dt0 = {h:.12g}."
            )
        if longest is not None and known[-1] > longest * (1 + 1e-9):
            raise ValueError(
                f"delays[{k}]: {known[-1]} is above max_delay = {longest}; "
                f"write max_delay={known[-1]}."
            )
    if longest is None:
        if len(known) < len(delays):
            raise ValueError(
                "max_delay: None, where a delay is a function or traced; give the longest delay "
                "that may occur, such as max_delay=20.0."
            )
        longest = max(known)
    if longest < h * (1 - 1e-9):
        raise ValueError(f"max_delay: {longest} is below the step dt0 = {h:.12g}.")
    return tuple(kept), longest


@eqx.filter_jit
def _solve(vf, solver, clock, y0, args, delays, longest, history, saveat, checkpoints):
    t0, h, _ = clock
    dtype = jtu.tree_leaves(y0)[0].dtype
    width, start = jnp.asarray(h, dtype), jnp.asarray(t0, dtype)
    if history is None:
        history = _Constant(y0)
    same_structure("history", jax.eval_shape(history, start), y0)

    def time(steps):
        return start + steps * width

    def in_range(k, delay, i, c):
        """The k-th delay in steps."""
        low, high = h * (1 - 1e-6), longest * (1 + 1e-6)

        def describe(delay, i, c):
            return (
                f"delays[{k}]: {delay:.6g} in step {i}, at t = {t0 + (i + c) * h:.12g}; it must "
                f"lie between the step dt0 = {h:.12g} and max_delay = {longest:.12g}."
            )

        delay = jnp.asarray(delay, dtype)
        return fail_if(delay, ~((delay >= low) & (delay <= high)), describe, delay, i, c) / width

    zero = jnp.zeros((), dtype)
    fixed = [
        None if callable(d) else in_range(k, d, jnp.int32(0), zero) for k, d in enumerate(delays)
    ]

    def field(segments, i):
        # What the stages may ask for is cut out first where it is known: reverse mode then keeps
        # two steps, not the ring.
        near = [None if d is None else segments.two(i + split(zero, d)[0]) for d in fixed]

        def vector_field(local, y, args):
            # The solver's time starts at 0 in every step: t0 + i h - t0 would lose digits.
            c = local / width
            t = time(i.astype(dtype) + c)

            def at(k, derivative):
                delay, held = fixed[k], near[k]
                if delay is None:
                    delay, held = in_range(k, delays[k](t, y, args), i, c), segments
                return evaluate(solver, held, history, time, i, c, delay, width, derivative)

            dy = vf(t, y, args, Past(at, len(delays)))
            same_structure("vf", dy, y0)
            return dy

        return dfx.ODETerm(vector_field)

    def one_step(term, y):
        # Started anew each time: the last stage saw a kink of the past from its other side.
        state = solver.init(term, zero, width, y, args)
        return solver.step(term, zero, width, y, args, state, jnp.array(True))

    any_term = dfx.ODETerm(lambda t, y, args: y)
    info = jax.eval_shape(lambda y: one_step(any_term, y)[2], y0)
    ring = Segments.like(info, int(longest * (1 + 1e-6) / h) + 1)

    def step(i, y, carry):
        segments, result = carry
        y, _, info, _, new = one_step(field(segments, i), y)
        result = dfx.RESULTS.where(result == dfx.RESULTS.successful, new, result)
        return y, (segments.write(i, info), result), info

    solution, (_, result) = solve(
        step,
        y0,
        (ring, dfx.RESULTS.successful),
        args,
        clock=clock,
        saveat=saveat,
        interpolation=solver.interpolation_cls,
        checkpoints=checkpoints,
    )
    solution = result.error_if(solution, result != dfx.RESULTS.successful)
    return dataclasses.replace(solution, result=result)


class _Constant(eqx.Module):
    value: PyTree

    def __call__(self, t):
        return self.value

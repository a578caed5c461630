"""Fractional differential equations."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike, PyTree

from ._fault import fail_if
from ._fde_methods import AbstractFractionalMethod
from ._fixed_steps import checked, floating, grid, same_structure, solve


def fdesolve(
    vf: Callable[[Any, Any, Any], Any],
    method: AbstractFractionalMethod,
    t0: float,
    t1: float,
    dt0: float,
    y0: PyTree[ArrayLike],
    args: Any = None,
    *,
    alpha: PyTree[ArrayLike],
    saveat: dfx.SaveAt = dfx.SaveAt(t1=True),
    checkpoints: int | None = None,
) -> dfx.Solution:
    """Solves a fractional differential equation with Caputo's derivative, in fixed steps:

        D^alpha y = f(t, y, args),   0 < alpha <= 1,
        D^alpha y(t) = 1 / Gamma(1 - alpha) int_{t0}^t y'(s) (t - s)^(-alpha) ds

    The derivative of order 1 is y'. Every step sums the remembered ones: with all of them a run of
    n steps takes n^2 operations, with `memory` m of them n m.

    **Arguments:**

    - `vf`: f(t, y, args), per time^alpha.
    - `method`: `CaputoL1()`, `CaputoEuler()` or `GrunwaldLetnikov()`.
    - `t0`, `t1`, `dt0`: start, end and step, numbers; `dt0` must divide t1 - t0.
    - `y0`: the state at t0, a pytree of floats, all of one type.
    - `args`: passed to `vf`.
    - `alpha`: the order: one number; or a pytree of them, y0 or a part of it at the top, each one
      number or one a component.
    - `saveat`: what to save: `t0`, `t1` or `steps`, with `fn`.
    - `checkpoints`: None keeps what reverse mode needs of every step, and a number only so many
      states, memories included.

    **Returns:** a `diffrax.Solution`, with `ts` and `ys`.

    **Raises:** `ValueError` for an alpha outside (0, 1] or a step that does not divide the
    interval; `TypeError` where `vf` gives a pytree that is not built as `y0`. At run time, an error
    that names the step, the time and the variable that is not finite.

    Podlubny (1999), Fractional Differential Equations; Diethelm (2010), The Analysis of Fractional
    Differential Equations.

    >>> from purebrain.solvers import GrunwaldLetnikov, fdesolve
    >>> sol = fdesolve(lambda t, y, args: -y, GrunwaldLetnikov(), 0.0, 1.0, 0.001, 1.0, alpha=0.5)
    >>> round(float(sol.ys[0]), 2)  # Mittag-Leffler: e erfc(1)
    0.43
    """
    clock = grid(t0, t1, dt0)
    y0 = floating(y0)
    checked(saveat, clock[0], clock[0] + clock[1] * clock[2], dense=False)
    if not isinstance(method, AbstractFractionalMethod):
        raise TypeError(f"method: {method!r}; it must be a method, such as CaputoL1().")
    if checkpoints is not None and not (isinstance(checkpoints, int) and checkpoints >= 1):
        raise ValueError(f"checkpoints: {checkpoints!r}; it must be at least 1, or None.")
    return _solve(vf, method, clock, y0, args, orders(alpha, y0), saveat, checkpoints)


def orders(alpha: PyTree[ArrayLike], y0: PyTree) -> PyTree:
    """alpha for each leaf of y0, of its type."""

    def spread(a, part):
        return jtu.tree_map(lambda y: _order(a, y), part)

    try:
        return jtu.tree_map(spread, alpha, y0)
    except ValueError as error:
        if "alpha" in str(error):
            raise
        raise TypeError(
            f"alpha: {jtu.tree_structure(alpha)}; it must be one number, or built as y0: "
            f"{jtu.tree_structure(y0)}."
        ) from error


def _order(a, y):
    if np.shape(a) not in ((), y.shape):
        raise ValueError(f"alpha: shape {np.shape(a)}; it must be one number or {y.shape}.")
    text = "it must be above 0 and at most 1."
    if not isinstance(a, Tracer) and not ((np.asarray(a) > 0) & (np.asarray(a) <= 1)).all():
        raise ValueError(f"alpha: {a}; {text}")
    a = jnp.asarray(a, y.dtype)
    bad = ~((a > 0) & (a <= 1))
    return fail_if(a, bad, lambda a: f"alpha: {a}; {text}", a) if isinstance(a, Tracer) else a


@eqx.filter_jit
def _solve(vf, method, clock, y0, args, alpha, saveat, checkpoints):
    t0, h, n = clock
    dtype = jtu.tree_leaves(y0)[0].dtype
    width = jnp.asarray(h, dtype)

    def field(i, y):
        dy = vf(jnp.asarray(t0, dtype) + jnp.asarray(i, dtype) * width, y, args)
        same_structure("vf", dy, y0)
        return dy

    def step(i, y, memory):
        y, memory = method.step(field, i, width, alpha, y0, y, memory)
        return y, memory, None

    length = n if method.memory is None else min(method.memory, n)
    solution, _ = solve(
        step,
        y0,
        method.init(alpha, y0, length),
        args,
        clock=clock,
        saveat=saveat,
        interpolation=dfx.LocalLinearInterpolation,
        checkpoints=checkpoints,
    )
    return solution

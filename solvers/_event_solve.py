"""Spike times as events of an ODE: integrate to the threshold, reset, go on."""

from collections.abc import Callable, Sequence
from typing import Any

import diffrax as dfx
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from ._bracket import Bracket


class SPIKE_RESULTS(dfx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """How `solve_spikes` ended: diffrax's results, and two more."""

    successful = ""
    max_spikes_reached = (
        "There are more than `max_spikes` spikes before t1: what was found is only the first of "
        "them. Increase `max_spikes`."
    )
    not_finite = "The state or the vector field became infinite or not a number."


class SpikeSolution(eqx.Module):
    """What `solve_spikes` returns.

    `ts`: the spike times in order, (max_spikes,), infinite after the last; `ids`: whose spike it
    is, -1 after the last; `count`: how many there are; `t`, `y`: where the solve ended and the
    state there (t1, if it was successful); `result`: a `SPIKE_RESULTS`; `num_steps`: of the solver;
    `n`: the number of neurons.
    """

    ts: Float[Array, " max_spikes"]
    ids: Int[Array, " max_spikes"]
    count: Int[Array, ""]
    t: Float[Array, ""]
    y: PyTree[Array]
    result: SPIKE_RESULTS
    num_steps: Int[Array, ""]
    n: int = eqx.field(static=True)

    @property
    def first(self) -> Float[Array, " n"]:
        """The time of each neuron's first spike, infinite for a silent one."""
        own = self.ids[None] == jnp.arange(self.n, dtype=jnp.int32)[:, None]
        return jnp.min(jnp.where(own, self.ts[None], jnp.inf), axis=1)


def solve_spikes(
    vf: Callable[[Any, PyTree, PyTree], PyTree],
    threshold: Callable[[PyTree], Float[Array, " n"]],
    reset: Callable[[PyTree, Array], PyTree],
    *,
    t0: ArrayLike,
    t1: ArrayLike,
    y0: PyTree[ArrayLike],
    args: PyTree = None,
    max_spikes: int,
    jump_ts: ArrayLike | Sequence[float] = (),
    jump: Callable[[PyTree, Array], PyTree] | None = None,
    later: Sequence[tuple[ArrayLike, Callable[[PyTree, Array], PyTree]]] = (),
    solver: dfx.AbstractSolver = dfx.Tsit5(),
    stepsize_controller: dfx.AbstractStepSizeController = dfx.PIDController(rtol=1e-8, atol=1e-8),
    dt0: ArrayLike | None = None,
    root_finder: optx.AbstractRootFinder = Bracket(),
    adjoint: dfx.AbstractAdjoint = dfx.RecursiveCheckpointAdjoint(),
    max_steps: int = 4096,
    throw: bool = True,
) -> SpikeSolution:
    """Exact spike times of neurons, or of a small network, and their exact derivatives.

    Integrates dy/dt = vf(t, y, args) to the time at which a threshold is crossed upward (a
    root-found `diffrax.Event`), applies `reset`, and goes on, in one compiled loop. Neurons that
    cross at the same time fire one after another, in the order of their numbers. A neuron fires
    again only after it was below its threshold, by its reset or by its dynamics.

    A spike time has the derivative of the implicit function theorem: with g the threshold,
    dt/dp = -(dg/dp) / (dg/dt) at the crossing, and what follows moves with it. It is that of the
    numerical solution, as exact as the tolerances. It grows without bound where a crossing becomes
    tangential (grazing) and does not see spikes that are not there: absent spikes (`ts` infinite)
    have the derivative 0, the number of spikes has none.

    An excursion above threshold that starts and ends within one step is not seen: bound the steps,
    `PIDController(..., dtmax=...)`, where the potential may graze the threshold.

    **Arguments:**

    - `vf`: the vector field, diffrax's signature; `args` is passed on to it.
    - `threshold`: y -> (n,), one value a neuron, crossing 0 upward at a spike; dimensionless, of
      the order of 1.
    - `reset`: (y, which) -> y right after a spike of the neuron that is True in `which`, (n,). It
      delivers what arrives at once, such as the jumps of a network's synapses.
    - `t0`, `t1`, `y0`: the interval and the state at its start, below all thresholds.
    - `max_spikes`: the most spikes of all neurons together.
    - `jump_ts`: known times (any order; outside [t0, t1) they do nothing) at which the vector field
      has a break, and where `jump`: (y, k) -> y, if given, changes the state: input spikes. The
      solver hits them exactly, and they have derivatives.
    - `later`: pairs (delay, function): `function(y, which)` is the state `delay` after each spike
      (synaptic delays, the end of refractoriness); a delay is above 0, one number or one a
      neuron.
    - `solver`, `stepsize_controller`, `dt0`, `adjoint`, `max_steps`: for each piece between two
      events, as in `diffrax.diffeqsolve`. For forward mode take `adjoint=diffrax.DirectAdjoint()`
      (both modes) or `diffrax.ForwardMode()`.
    - `root_finder`: of optimistix; it must keep between its bounds.
    - `throw`: raise if the solve failed, otherwise see `result`.

    **Returns:** a `SpikeSolution`.

    **Raises:** `ValueError` or `TypeError` for wrong arguments; an Equinox runtime error for a
    state that starts above threshold, and with `throw` for a solve that failed: more than
    `max_spikes` spikes, too many steps, a state that is not finite.

    Two LIF neurons (tau = 20 ms, threshold 1); each one's spike kicks the other:

    >>> import jax, jax.numpy as jnp
    >>> from purebrain.solvers import solve_spikes
    >>> def first_two(drive):
    ...     def reset(v, which):
    ...         return jnp.where(which, 0.0, v + 0.1)
    ...     solution = solve_spikes(
    ...         lambda t, v, args: (drive - v) / 20.0, lambda v: v - 1.0, reset,
    ...         t0=0.0, t1=40.0, y0=jnp.zeros(2), max_spikes=8)
    ...     return solution.ts[:2]
    >>> one, two = first_two(jnp.array([2.0, 1.5]))
    >>> print(f"{one:.4f} {two:.4f}")  # 20 log(2), and 20 log(1.3) later
    13.8629 19.1102
    >>> slopes = jax.jacobian(first_two)(jnp.array([2.0, 1.5]))

    Chen, Amos and Nickel (2021), Learning neural event functions for ordinary differential
    equations; for spiking neurons Wunderlich and Pehle (2021), Scientific Reports 11.
    """
    if not isinstance(max_spikes, int | np.integer) or max_spikes < 1:
        raise ValueError(f"max_spikes: {max_spikes!r}; it must be a whole number >= 1.")
    y0 = jtu.tree_map(jnp.asarray, y0)
    leaves = jtu.tree_leaves(y0)
    if not leaves or any(not jnp.issubdtype(a.dtype, jnp.floating) for a in leaves):
        raise TypeError(
            f"y0: {[str(a.dtype) for a in leaves]}; it must have leaves, all of a float type, such "
            f"as jnp.zeros(n)."
        )
    dtype = jnp.result_type(*leaves)
    t0, t1, jump_ts = (jnp.asarray(a, dtype) for a in (t0, t1, jump_ts))
    later = tuple((jnp.asarray(delay, dtype), function) for delay, function in later)
    n = _check_shapes(vf, threshold, reset, t0, t1, y0, args, jump_ts, jump, later)
    t0 = _check(t0, ~(t1 > t0) | ~jnp.isfinite(t1 - t0), f"t0, t1: {t0}, {t1}; t1 must be later.")
    above = jnp.any(threshold(y0) >= 0)
    above_message = "y0: a neuron is at or above its threshold; start below it, or after the reset."
    t0 = _check(t0, above, above_message)
    jump_ts = _check(jump_ts, jnp.any(jnp.isnan(jump_ts)), "jump_ts: a time is not a number.")
    for delay, _ in later:
        t0 = _check(t0, jnp.any(~(delay > 0)), f"later: delay {delay}; it must be above 0.")
    options = dict(solver=solver, stepsize_controller=stepsize_controller, adjoint=adjoint)
    options |= dict(dt0=dt0, max_steps=max_steps, throw=False)
    model = (vf, threshold, reset, jump, later)
    solution = _solve(model, t0, t1, y0, args, n, int(max_spikes), jump_ts, root_finder, options)
    return _report(solution) if throw else solution


@eqx.filter_jit
def _solve(model, t0, t1, y0, args, n, max_spikes, jump_ts, root_finder, options):
    vf, threshold, reset, jump, later = model
    order = jnp.argsort(lax.stop_gradient(jump_ts))
    never = jnp.full(1, jnp.inf, t0.dtype)
    # The first of those before t0 is passed over by starting the count there.
    known = jnp.concatenate([jump_ts[order], never])
    order = jnp.append(order, 0)
    skipped = jnp.sum(jump_ts < t0)
    # A neuron that is not reset is armed again when it has fallen below its threshold by so much.
    margin = float(jnp.finfo(t0.dtype).eps) ** 0.5

    def distance(y, armed, slack):
        """The largest of the distances to the threshold, from below (armed) or from above."""
        g = threshold(y)
        g = jnp.where(armed, g, -g - slack)
        # Not `max`, which halves the derivative where two neurons are level.
        return g[jnp.argmax(g)], jnp.argmax(g)

    def advance(s: _Loop) -> _Loop:
        g = threshold(s.y)
        instant = jnp.any(s.armed & (g >= 0))
        due = jnp.where(s.pending, s.ts[:, None] + _of(later, s.ids), jnp.inf)
        first_due = jnp.argmin(due) if due.size else 0
        next_due = jnp.append(due.ravel(), jnp.inf)[first_due]
        next_known = known[s.k]
        is_known = (next_known <= next_due) & (next_known < t1)
        is_due = ~is_known & (next_due < t1)
        target = jnp.where(is_known, next_known, jnp.where(is_due, next_due, t1))
        # Up to, but not including, the break: the last stage of a step must not see beyond it.
        below = jnp.nextafter(lax.stop_gradient(target), -jnp.inf)
        end = jnp.where(is_known | is_due, target - lax.stop_gradient(target) + below, target)
        end = jnp.where((end > s.t) & ~instant & ~s.done, end, s.t)

        slack = lax.stop_gradient(margin + jnp.maximum(-g, 0))
        event = dfx.Event(
            lambda t, y, args, **_: distance(y, s.armed, slack)[0], root_finder, direction=True
        )
        piece = dfx.diffeqsolve(
            dfx.ODETerm(vf), t0=s.t, t1=end, y0=s.y, args=args, event=event, **options
        )
        assert piece.ts is not None and piece.ys is not None
        t, y = piece.ts[0], jtu.tree_map(lambda a: a[0], piece.ys)
        failed = ~dfx.is_okay(piece.result)
        crossed = (piece.result == dfx.RESULTS.event_occurred) | instant
        which = jnp.arange(n) == distance(y, s.armed, slack)[1]
        fired = crossed & jnp.any(which & s.armed) & ~failed
        rearmed = crossed & ~fired
        full = fired & (s.count >= max_spikes)
        tie = instant & jnp.any(which & s.level)
        t, y = _onto(vf, lambda y: jnp.sum(jnp.where(which, threshold(y), 0)), t, y, args, tie)

        # What happens there: one of these, or none.
        goes_on = ~(crossed | failed)
        fired, jumps, arrives = fired & ~full, goes_on & is_known, goes_on & is_due
        t = jnp.where(jumps | arrives, target, t)
        after = _where(fired, reset(y, which), y)
        if jump is not None:
            after = _where(jumps, jump(y, order[s.k]), after)
        row, column = jnp.divmod(first_due, max(len(later), 1))
        for c, (_, function) in enumerate(later):
            arrival = function(y, jnp.arange(n, dtype=jnp.int32) == s.ids[row])
            after = _where(arrives & (column == c), arrival, after)
        g, g_after = threshold(y), threshold(after)
        armed = s.armed & ~(fired & which) | (rearmed & which) | (g_after < 0) & (g_after < g)

        slot = jnp.where(fired, s.count, max_spikes)
        pending = s.pending.at[row].set(
            s.pending[row] & ~(arrives & (jnp.arange(len(later)) == column))
        )
        finite = jnp.array([jnp.isfinite(a).all() for a in jtu.tree_leaves(after)]).all()
        finite = finite & ~(failed & ~_smooth(vf, t, y, args, t1 - t0))
        result = SPIKE_RESULTS.where(failed, SPIKE_RESULTS.promote(piece.result), s.result)
        result = SPIKE_RESULTS.where(full, SPIKE_RESULTS.max_spikes_reached, result)
        result = SPIKE_RESULTS.where(finite, result, SPIKE_RESULTS.not_finite)
        new = _Loop(
            t=t,
            y=after,
            armed=armed,
            level=armed & (g >= 0),
            count=s.count + fired.astype(jnp.int32),
            ts=s.ts.at[slot].set(t, mode="drop"),
            ids=s.ids.at[slot].set(jnp.argmax(which).astype(jnp.int32), mode="drop"),
            pending=pending.at[slot].set(True, mode="drop"),
            k=s.k + jumps.astype(jnp.int32),
            done=failed | full | ~finite | (goes_on & ~is_known & ~is_due),
            result=result,
            num_steps=s.num_steps + jnp.asarray(piece.stats["num_steps"], jnp.int32),
        )
        return jtu.tree_map(lambda a, b: jnp.where(s.done, a, b), s, new)

    start = _Loop(
        t=t0,
        y=y0,
        armed=jnp.ones(n, bool),
        level=jnp.zeros(n, bool),
        count=jnp.int32(0),
        ts=jnp.full(max_spikes, jnp.inf, t0.dtype),
        ids=jnp.full(max_spikes, -1, jnp.int32),
        pending=jnp.zeros((max_spikes, len(later)), bool),
        k=skipped.astype(jnp.int32),
        done=jnp.array(False),
        result=SPIKE_RESULTS.successful,
        num_steps=jnp.int32(0),
    )
    dynamic, static = eqx.partition(start, eqx.is_array)

    def body(dynamic, _):
        s = eqx.combine(dynamic, static)
        # Under `vmap` too, what is left of the loop after the last one has finished costs nothing.
        s = lax.cond(eqxi.unvmap_all(s.done), lambda s: s, advance, s)
        return eqx.filter(s, eqx.is_array), None

    # Each spike is fired, may be armed again and arrives; the last one may be one too many.
    length = max_spikes * (2 + len(later)) + jump_ts.size + 2
    dynamic, _ = lax.scan(body, dynamic, length=length)
    s = eqx.combine(dynamic, static)
    return SpikeSolution(s.ts, s.ids, s.count, s.t, s.y, s.result, s.num_steps, n)


class _Loop(eqx.Module):
    t: Array
    y: PyTree[Array]
    armed: Array  # below threshold since the last spike
    level: Array  # armed, and at threshold in the instant at which another one fired
    count: Array
    ts: Array
    ids: Array
    pending: Array  # (max_spikes, len(later)): not yet arrived
    k: Array  # the next of the known jumps
    done: Array
    result: SPIKE_RESULTS
    num_steps: Array


def _onto(vf, g, t, y, args, tie):
    """The same time and state, with the derivative of being on g = 0.

    For a neuron that crosses in the very instant of another's spike: its time has a derivative of
    its own.
    """
    flow = vf(t, y, args)
    value, slope = jax.jvp(g, (y,), (flow,))
    slope = lax.stop_gradient(jnp.where(tie, slope, 1))
    move = jnp.where(tie, -(value - lax.stop_gradient(value)) / slope, 0)
    flow = lax.stop_gradient(flow)
    return t + move, jtu.tree_map(lambda a, f: a + (move * f).astype(a.dtype), y, flow)


def _of(later, ids):
    """The delays of the spikes of `ids`, (spikes, len(later))."""
    if not later:
        return jnp.zeros((ids.size, 0))
    return jnp.stack([d[ids] if d.ndim else jnp.broadcast_to(d, ids.shape) for d, _ in later], 1)


def _where(condition, a, b):
    return jtu.tree_map(lambda a, b: jnp.where(condition, a, b), a, b)


def _smooth(vf, t, y, args, scale):
    """Whether the vector field is finite here and just ahead: what a controller recoils from."""
    flow = vf(t, y, args)
    h = scale * float(jnp.finfo(t.dtype).eps) ** 0.5
    ahead = vf(t + h, jtu.tree_map(lambda a, f: a + (h * f).astype(a.dtype), y, flow), args)
    return jnp.array([jnp.isfinite(a).all() for a in jtu.tree_leaves((flow, ahead))]).all()


def _check(x, bad, message: str):
    """`x`, once it is known that nothing is `bad`."""
    if isinstance(bad, Tracer):
        return eqx.error_if(x, bad, message)
    if bad:
        raise ValueError(message)
    return x


def _check_shapes(vf, threshold, reset, t0, t1, y0, args, jump_ts, jump, later) -> int:
    for name, x, ndim in [("t0", t0, 0), ("t1", t1, 0), ("jump_ts", jump_ts, 1)]:
        if x.ndim != ndim:
            raise ValueError(f"{name}: shape {x.shape}; it must have {ndim} axes.")
    g = eqx.filter_eval_shape(threshold, y0)
    if not (eqx.is_array(g) or hasattr(g, "shape")) or g.ndim != 1 or g.shape[0] == 0:
        raise ValueError(
            f"threshold: {g}; it must return one array (n,), one value a neuron, such as "
            f"lambda y: y.v - v_th."
        )
    n = g.shape[0]
    for delay, _ in later:
        if delay.shape not in ((), (n,)):
            raise ValueError(f"later: delays of shape {delay.shape}; one number or ({n},).")
    which = jnp.zeros(n, bool)
    calls = dict(vf=lambda y: vf(t0, y, args), reset=lambda y: reset(y, which))
    if jump is not None:
        calls["jump"] = lambda y: jump(y, jnp.int32(0))
    for c, (_, function) in enumerate(later):
        calls[f"later[{c}]"] = lambda y, function=function: function(y, which)
    own = _shapes(y0)
    for name, call in calls.items():
        made = _shapes(eqx.filter_eval_shape(call, y0))
        if made != own:
            raise ValueError(f"{name}: it returns {made}, but y0 is {own}; they must agree.")
    return n


def _shapes(tree) -> str:
    show = lambda a: f"{jnp.result_type(a)}{list(jnp.shape(a))}"  # noqa: E731
    return str(jtu.tree_map(show, tree))


def _report(s: SpikeSolution) -> SpikeSolution:
    if not isinstance(s.count, Tracer) and s.result == SPIKE_RESULTS.not_finite:
        paths = [
            f"y{jtu.keystr(path)}"
            for path, a in jtu.tree_leaves_with_path(s.y)
            if not jnp.isfinite(a).all()
        ]
        raise FloatingPointError(
            f"not finite: {', '.join(paths) or 'the vector field'} at t = {s.t}, after {s.count} "
            f"spikes. Is a parameter or an input wrong?"
        )
    return s.result.error_if(s, s.result != SPIKE_RESULTS.successful)

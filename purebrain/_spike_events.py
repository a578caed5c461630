"""Exact spike times of a population, without a grid of time."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from ._check import concrete, instance
from ._drive import Drives
from .neuron import AbstractNeuron, Refractory, RefractoryState
from .neuron._abstract import input_drives
from .solvers import SpikeSolution, solve_spikes


def exact_spikes(
    model: AbstractNeuron | Refractory,
    state: PyTree,
    inputs: PyTree | Callable[[Array], PyTree] = 0.0,
    *,
    t1: ArrayLike,
    max_spikes: int,
    t0: ArrayLike = 0.0,
    jump_ts: ArrayLike | Sequence[float] = (),
    jump: Callable[[PyTree, Array], PyTree] | None = None,
    **options,
) -> SpikeSolution:
    """The exact spike times of a neuron model, and their exact derivatives.

    The model's own vector field, threshold and reset, by `solvers.solve_spikes`: no time step, no
    surrogate. The neuron's `solver` and `spike` are not used.

    **Arguments:**

    - `model`: a neuron such as `LIF` or `TraubMiles`, or a `Refractory` one, whose tau_ref (above
      0) need not be a multiple of anything.
    - `state`: a state of its, below threshold: `model.init(dt=dt, key=...)`, whatever the dt. (Of
      a `Refractory` neuron, `model.neuron.init(...)` will do, where tau_ref is on no grid.)
    - `inputs`: a current (a number, an array (n,) or drives), or a function from the time (ms) to
      one.
    - `t0`, `t1`: ms. `max_spikes`: the most spikes of all neurons together.
    - `jump_ts`: the times (ms) at which `inputs` has a break, or at which `jump`: (state, k) ->
      state, changes the neuron's state; the solver hits them exactly.
    - `options`: as in `solvers.solve_spikes`: `solver`, `stepsize_controller`, `throw` and so on.

    **Returns:** a `solvers.SpikeSolution`; its `y` is the neuron's state.

    **Raises:** as `solvers.solve_spikes`.

    The derivative of a spike time with respect to the current:

    >>> import jax, purebrain as pb
    >>> neuron = pb.LIF(1, tau=20.0, v_rest=0.0, v_th=10.0, v_reset=0.0)
    >>> def first(current):
    ...     state = neuron.init(dt=0.1)
    ...     return pb.exact_spikes(neuron, state, current, t1=50.0, max_spikes=2).ts[0]
    >>> time, slope = jax.value_and_grad(first)(15.0)
    >>> print(f"{time:.4f} ms, {slope:.4f} ms/mV")  # 20 log(3), -20 * 10 / (15 * 5)
    21.9722 ms, -2.6667 ms/mV
    """
    instance("model", model, AbstractNeuron, Refractory)
    neuron: Any = model.neuron if isinstance(model, Refractory) else model
    instance("model.neuron", neuron, AbstractNeuron)
    constant = isinstance(inputs, Drives) or not callable(inputs)
    current = (lambda t: inputs) if constant else inputs

    def vf(t, y, args):
        return neuron.vf(t, y, input_drives(neuron.n, current(t)))

    times = dict(t0=t0, t1=t1, max_spikes=max_spikes, jump_ts=jump_ts)
    if not isinstance(model, Refractory):
        return solve_spikes(
            vf, neuron.threshold, neuron.reset, y0=state, jump=jump, **times, **options
        )
    if isinstance(state, RefractoryState):
        held = concrete(state.count)
        if held is not None and held.any():
            raise ValueError("state: a neuron is still refractory; write state = state.neuron.")
        state = state.neuron

    def held_vf(t, y, args):
        flow = vf(t, y.neuron, args)
        flow = eqx.tree_at(lambda f: f.v, flow, jnp.where(y.held > 0, 0, flow.v))
        return _Held(flow, jnp.zeros_like(y.held))

    def threshold(y):
        g = neuron.threshold(y.neuron)
        return g if neuron.silent_while_held else jnp.where(y.held > 0, -1, g)

    def reset(y, which):
        return _Held(neuron.reset(y.neuron, which), jnp.where(which, 1, y.held))

    def release(y, which):
        return _Held(y.neuron, jnp.where(which, 0, y.held))

    start = _Held(state, jnp.zeros_like(state.v))
    if jump is not None:
        inner = jump
        jump = lambda y, k: _Held(inner(y.neuron, k), y.held)  # noqa: E731
    later = ((model.tau_ref, release),)
    solution = solve_spikes(
        held_vf, threshold, reset, y0=start, jump=jump, later=later, **times, **options
    )
    return eqx.tree_at(lambda s: s.y, solution, solution.y.neuron)


class _Held(eqx.Module):
    neuron: PyTree[Array]
    held: Float[Array, " n"]  # 1 while refractory

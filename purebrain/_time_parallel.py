"""Reverse mode of a small model: all steps are linearised at once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jax.flatten_util import ravel_pytree

from ._adjoint import AbstractAdjoint, Direct


class TimeParallel(AbstractAdjoint):
    """Keeps the state of every step; once these are known, the Jacobians A_t of all steps are
    computed side by side, and only a linear recurrence is left to go backward step by step:

        lambda_t = A_t^T lambda_{t+1} + d loss / d (what step t recorded) d (...) / d y_t

    The gradient by parameters and inputs follows for all steps at once too. For a single neuron a
    step backward otherwise costs the start of some fifty tiny kernels: here the gradient takes
    about twice the time of the run. Memory is T d^2 for T steps and d numbers of state, so it is
    for small d: `jax.vmap` over single neurons, not one population of many. Reverse mode only.

    The run is that of `Direct`, and so is the gradient but for rounding.

    **Raises:** `ValueError` where the Jacobians would take more than 2^30 numbers.

        >>> import jax, purebrain as pb
        >>> def loss(g_na, adjoint):
        ...     hh = pb.HodgkinHuxley(1, g_na=g_na)
        ...     potential = lambda tick, state, out: state.v
        ...     return pb.simulate(hh, hh.init(dt=0.025), 10.0, dt=0.025, duration=5.0,
        ...                        save=potential, adjoint=adjoint).saved.mean()
        >>> a, b = jax.grad(loss)(120.0, pb.TimeParallel()), jax.grad(loss)(120.0, pb.Direct())
        >>> bool(abs(a / b - 1) < 1e-3)
        True

    Wang, Bai and Pekhimenko (2020), MLSys: BPPSA.
    """

    def scan(self, body, carry, length):
        if length == 0:
            return Direct().scan(body, carry, length)
        size = sum(a.size for a in jtu.tree_leaves(eqx.filter(carry, eqx.is_inexact_array)))
        if length * size**2 > 2**30:
            raise ValueError(
                f"adjoint: for {length} steps of a state of {size} numbers, TimeParallel keeps "
                f"{length} x {size} x {size}; write adjoint=Checkpointed()."
            )
        # What the body closes over (parameters, inputs, keys) becomes an argument.
        body = eqx.filter_closure_convert(body, carry, None)
        arrays, rest = eqx.partition(body, eqx.is_array)

        @jax.custom_vjp
        def loop(arrays, carry):
            return lax.scan(lambda c, x: eqx.combine(arrays, rest)(c, x), carry, None, length)

        def forward(arrays, start):
            def step(carry, _):
                after, out = eqx.combine(arrays, rest)(carry, None)
                return after, (out, carry)

            end, (saved, before) = lax.scan(step, start, None, length)
            return (end, saved), (arrays, before)

        def backward(kept, gradient):
            return _backward(rest, *kept, *gradient)

        loop.defvjp(forward, backward)
        return loop(arrays, carry)


def _backward(rest, arrays, before, d_end, d_saved):
    """The gradients by the body's arrays and by the first state; `before` has each step's."""
    floats, others = eqx.partition(before, eqx.is_inexact_array)
    y = jax.vmap(lambda tree: ravel_pytree(tree)[0])(floats)
    unravel = ravel_pytree(jtu.tree_map(lambda a: a[0], floats))[1]
    moving, fixed = eqx.partition(arrays, eqx.is_inexact_array)

    def step(y, other, moving):
        """One step: the state, flat, and what is recorded of it."""
        after, out = eqx.combine(moving, fixed, rest)(eqx.combine(unravel(y), other), None)
        after = ravel_pytree(eqx.filter(after, eqx.is_inexact_array))[0]
        return after, eqx.filter(out, eqx.is_inexact_array)

    def steps(y, moving):
        return jax.vmap(step, (0, 0, None))(y, others, moving)

    def back(costate, at):
        jacobian, source = at
        return jnp.sum(jacobian * costate[:, None], axis=0) + source, costate

    jacobians = jax.vmap(jax.jacfwd(lambda *args: step(*args)[0]), (0, 0, None))(y, others, moving)
    d_end, d_saved = eqx.filter((d_end, d_saved), eqx.is_inexact_array)
    (sources,) = jax.vjp(lambda y: steps(y, moving)[1], y)[1](d_saved)
    first, costates = lax.scan(back, ravel_pytree(d_end)[0], (jacobians, sources), reverse=True)
    (d_moving,) = jax.vjp(lambda moving: steps(y, moving), moving)[1]((costates, d_saved))
    return d_moving, unravel(first)

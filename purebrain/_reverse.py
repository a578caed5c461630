"""Reverse mode for first derivatives: steps are run again, block by block, in one place."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax import lax

from ._adjoint import AbstractAdjoint, Direct, block_length
from .ops import after


class Reverse(AbstractAdjoint):
    """As `Checkpointed()`, for first derivatives in reverse mode only, and faster.

    The state at the start of every block of steps is kept. Going backward, the steps of a block are
    run again, and their states put into an array that all blocks use in turn, each before the next
    takes its place. (`jax.lax.scan`, which `Checkpointed` is made of, copies every state and clears
    such an array for each block.)

    The run is that of `Direct`, and so is the gradient but for rounding. Forward mode is an error;
    in newer JAX so is a derivative of `vmap` where all runs end with one and the same float in
    their states.

    **Arguments:** `steps`: the length of a block, or None: about the square root of all steps.

        >>> import jax, purebrain as pb
        >>> def end(tau, adjoint):
        ...     lif = pb.LIF(1, tau=tau)
        ...     run = pb.simulate(lif, lif.init(dt=0.1), 5.0, dt=0.1, duration=9.0, adjoint=adjoint)
        ...     return run.state.v[0]
        >>> by = [jax.grad(end)(20.0, adjoint) for adjoint in (pb.Reverse(), pb.Direct())]
        >>> bool(abs(by[0] - by[1]) < 1e-6)
        True

    Griewank and Walther (2000), ACM TOMS 26.
    """

    steps: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        n = self.steps
        if n is not None and not (isinstance(n, int) and n >= 1):
            raise ValueError(f"steps: {n!r}; it must be at least 1, or None: Reverse(steps=30).")

    def scan(self, body, carry, length):
        if length == 0:
            return Direct().scan(body, carry, 0)
        carry = jtu.tree_map(jnp.asarray, carry)  # of Python's numbers
        steps = min(self.steps or block_length(length), length)
        parts = []
        for blocks, size in ((length // steps, steps), (1, length % steps)):
            if size:
                step = eqx.filter_closure_convert(lambda carry: body(carry, None), carry)
                carry, saved = _run(jtu.tree_map(_whole, (step, carry)), blocks, size)
                parts.append(saved)
        return carry, jtu.tree_map(lambda *a: jnp.concatenate(a), *parts)


def _whole(a):
    # Whole numbers that come from a derived run have tangents too, of a type without values.
    if not eqx.is_array(a) or jnp.issubdtype(a.dtype, jnp.inexact):
        return a
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        return jr.wrap_key_data(lax.stop_gradient(jr.key_data(a)), impl=jr.key_impl(a))
    return lax.stop_gradient(a)


def _scan(step, carry, length):
    return lax.scan(lambda carry, _: step(carry), carry, None, length=length)


def _inexact(tree):
    return eqx.filter(tree, lambda a: jnp.issubdtype(a.dtype, jnp.inexact))


def _run_and_keep(step_and_carry, blocks, size):
    """((end, saved), the states at the start of each block)."""
    step, carry = step_and_carry

    def block(carry, _):
        end, saved = _scan(step, carry, size)
        return end, (carry, saved)

    end, (starts, saved) = lax.scan(block, carry, None, length=blocks)
    saved = jtu.tree_map(lambda a: a.reshape(blocks * size, *a.shape[2:]), saved)
    return (end, saved), starts


@eqx.filter_custom_vjp
def _run(step_and_carry, blocks, size):
    # JAX takes the batch axes of what this gives for those of what `_forward` gives: so they have
    # to be made alike.
    return _run_and_keep(step_and_carry, blocks, size)[0]


@_run.def_fwd
def _forward(perturbed, step_and_carry, blocks, size):
    return _run_and_keep(step_and_carry, blocks, size)


@_run.def_bwd
def _backward(starts, cts, perturbed, step_and_carry, blocks, size):
    step, carry = step_and_carry
    parameters, rest = eqx.partition(step, eqx.is_inexact_array)
    saved = eqx.filter_eval_shape(lambda: _scan(step, carry, blocks * size)[1])
    ct, ct_saved = (_filled(c, _inexact(like)) for c, like in zip(cts, (carry, saved), strict=True))

    def step_back(at, states, carry, n):
        ct, d_parameters = carry
        state = jtu.tree_map(lambda a: a[at], states)
        moving, still = eqx.partition(state, eqx.is_inexact_array)

        def one(parameters, moving):
            return _inexact(eqx.combine(parameters, rest)(eqx.combine(moving, still)))

        _, pull = jax.vjp(one, parameters, moving)
        more, ct = pull((ct, jtu.tree_map(lambda a: a[n], ct_saved)))
        return ct, jtu.tree_map(jnp.add, d_parameters, more)

    def block(b, carry):
        ct, d_parameters, states = carry
        b = blocks - 1 - b

        def again(k, carry):
            state, states = carry
            states = jtu.tree_map(lambda a, x: a.at[k].set(x), states, state)
            return step(jtu.tree_map(after, state, states))[0], states

        def back(k, carry):
            k = size - 1 - k
            return step_back(k, states, carry, b * size + k)

        state = jtu.tree_map(lambda a: a[b], starts)
        state, states = lax.fori_loop(0, size - 1, again, (state, states))
        states = jtu.tree_map(lambda a, x: a.at[size - 1].set(x), states, state)
        return *lax.fori_loop(0, size, back, (ct, d_parameters)), states

    states = jtu.tree_map(lambda a: jnp.broadcast_to(a[:1], (size, *a.shape[1:])), starts)
    d_parameters = jtu.tree_map(jnp.zeros_like, parameters)
    ct, d_parameters, _ = lax.fori_loop(0, blocks, block, (ct, d_parameters, states))
    return d_parameters, ct


def _filled(cts, like):
    """Cotangents, with zeros where JAX leaves them out."""
    return jtu.tree_map(
        lambda a, ct: jnp.zeros(jnp.shape(a), a.dtype) if ct is None else ct, like, cts
    )

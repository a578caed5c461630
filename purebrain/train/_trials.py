"""Layers on batches of sequences: many trials of one model, stepped together."""

import dataclasses
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._adjoint import AbstractAdjoint
from .._check import instance, one_key, time_step
from .._core import AbstractDynamics, Tick, X, Y, split
from ..synapse import AbstractSynapse

S = TypeVar("S")


class Trials(AbstractDynamics[S, X, Y], Generic[S, X, Y]):
    """`n` trials of a model side by side: state, input and output have a leading axis of trials.

    The same as `jax.vmap` around `simulate`, but the loop over time stays outermost. So inputs and
    records are (steps, trials, ...), each step one contiguous block (a gradient with respect to an
    input takes a third of the time so). Each trial has noise and initial values of its own.

    **Arguments:** `model`: dynamics; `n`: the number of trials.

        >>> import jax.numpy as jnp, purebrain as pb
        >>> trials = Trials(pb.LIF(3), 2)
        >>> drive = pb.Series(jnp.zeros((5, 2, 3)))  # steps, trials, neurons
        >>> state = trials.init(dt=1.0)
        >>> pb.simulate(trials, state, drive, dt=1.0, duration=5.0).saved.shape
        (5, 2, 3)
    """

    model: AbstractDynamics[S, X, Y]
    n: int = eqx.field(static=True)

    def __check_init__(self):
        instance("model", self.model, AbstractDynamics)
        if not (isinstance(self.n, int) and self.n >= 1):
            raise ValueError(f"n: {self.n!r}; it must be at least 1.")

    def init(self, *, dt, key=None):
        one = lambda k: self.model.init(dt=dt, key=k)  # noqa: E731
        return jax.vmap(one, axis_size=self.n)(self._keys(key))

    def step(self, state, x, tick):
        def one(s, x, key):
            return self.model.step(s, x, dataclasses.replace(tick, key=key))

        return jax.vmap(one)(state, x, self._keys(tick.key))

    def _keys(self, key):
        return None if one_key(key) is None else jr.split(key, self.n)


class Filter(AbstractDynamics[S, Array, Array], Generic[S]):
    """Synaptic kinetics as a layer: the input of a step arrives, the output is the synaptic
    variable after it.

    An exponential filter of what a projection delivers, and a leaky integrator that does not spike:

        g <- g exp(-dt / tau) + x

    **Arguments:** `syn`: the kinetics, such as `Exponential(tau=5.0)`; `n`: the number of targets.

        >>> import math, jax.numpy as jnp, purebrain as pb
        >>> leaky = Filter(pb.Exponential(5.0), 1)
        >>> impulse = pb.Series(jnp.array([[1.0], [0.0]]))
        >>> g = pb.simulate(leaky, leaky.init(dt=1.0), impulse, dt=1.0, duration=2.0).saved[:, 0]
        >>> bool(abs(g[1] - math.exp(-1 / 5)) < 1e-6)
        True
    """

    syn: AbstractSynapse[S]
    n: int = eqx.field(static=True)

    def __check_init__(self):
        instance("syn", self.syn, AbstractSynapse)

    def init(self, *, dt, key=None):
        return self.syn.init(self.n, jnp.zeros(()).dtype)

    def step(self, state, x: Float[Array, " n"], tick):
        state = self.syn.receive(self.syn.flow(state, tick), lambda g: g + x.astype(g.dtype))
        return state, self.syn.output(state)


def over_time(
    model: AbstractDynamics,
    x: Float[Array, "steps trials ..."],
    *,
    dt: float,
    key: PRNGKeyArray | None = None,
    adjoint: AbstractAdjoint | None = None,
) -> PyTree:
    """A layer: what a model makes of a batch of sequences, each trial from its initial state.

    The outputs of `simulate(Trials(model, trials), state, Series(x), ...)`, for layer after layer
    of a network that is trained: its gradient takes a quarter less time.

    **Arguments:** `model`: dynamics; `x`: inputs, (steps, trials, ...); `dt`: ms; `key`: for models
    with noise or random initial values; `adjoint`: as of `simulate`.

    **Returns:** the model's outputs, (steps, trials, ...).

        >>> import jax.numpy as jnp, purebrain as pb
        >>> over_time(pb.LIF(3), jnp.full((50, 2, 3), 15.0), dt=1.0).sum(0).tolist()
        [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """
    dt = time_step(dt)
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"x: shape {x.shape}; it must be (steps, trials, ...), none empty.")
    trials = Trials(model, x.shape[1])
    start = trials.init(dt=dt, key=split(key, 0))
    noise = split(key, 1)

    def step(state, x, i):
        tick = Tick(i, dt, None if noise is None else jr.fold_in(noise, i))
        return trials.step(state, x, tick)

    if adjoint is None:
        steps = jnp.arange(x.shape[0], dtype=jnp.int32)
        return lax.scan(lambda state, now: step(state, *now), start, (x, steps))[1]

    def indexed(carry, _):
        state, i = carry
        state, out = step(state, x[i], i)
        return (state, i + 1), out

    start = start, jnp.int32(0)
    return adjoint.scan(indexed, start, x.shape[0])[1]  # pyright: ignore[reportOptionalSubscript]

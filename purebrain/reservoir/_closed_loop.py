"""A model that runs on its own predictions."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from .._core import AbstractDynamics


class ClosedLoop(AbstractDynamics[tuple, None, Array]):
    """Feeds a model's prediction back as its next input:

        o(n) = model(u(n)),   u(n + 1) = readout(o(n), u(n))

    The output of a step is u(n + 1). From `state = (run.state, u)`, with u the first
    input that the model was not given, it goes on where teacher forcing ended.

    **Arguments:** `model`: dynamics from inputs to features; `readout`: from features and input to
    the next input; `start`: the first input, for `init`.

        >>> import jax.numpy as jnp, purebrain as pb
        >>> double = pb.reservoir.ClosedLoop(pb.Stateless(lambda u: 2 * u), lambda o, u: o, [1.0])
        >>> pb.simulate(double, double.init(dt=1.0), dt=1.0, duration=3.0).saved[:, 0].tolist()
        [2.0, 4.0, 8.0]
    """

    model: AbstractDynamics
    readout: Callable[[Array, Array], Array]
    start: Array

    def __init__(self, model: AbstractDynamics, readout: Callable, start: ArrayLike):
        self.model, self.readout, self.start = model, readout, jnp.asarray(start)

    def init(self, *, dt, key=None):
        return self.model.init(dt=dt, key=key), self.start

    def step(self, state, x, tick):
        inner, u = state
        inner, features = self.model.step(inner, u, tick)
        u = self.readout(features, u)
        return (inner, u), u

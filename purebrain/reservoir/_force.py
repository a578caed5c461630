"""FORCE learning."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._core import AbstractDynamics
from ._rls import RLS, RLSState


class ForceState(eqx.Module):
    """`model`: the reservoir's state; `readout`: the learner's; `z`: the last output, fed back."""

    model: PyTree
    readout: RLSState
    z: Float[Array, " targets"]


class Force(AbstractDynamics[ForceState, Array, Array]):
    """FORCE: the output is fed back while it is learned, so that errors are small from the start
    and the loop is stable once closed.

        o(n) = model(z(n - 1)),   z(n) = o(n) w(n - 1),   w by `RLS` towards the target y(n)

    The input of a step is the target y, its output z, predicted before the weights change. After
    learning, `ClosedLoop(model, lambda o, z: o @ state.readout.weight, z)` goes on alone.

    **Arguments:** `model`: dynamics from the output z to `features` features; `rls`: the learner;
    `targets`: how many numbers y has.

        >>> import jax.numpy as jnp, jax.random as jr, purebrain as pb
        >>> from purebrain.reservoir import RLS, EchoState, Force, scaled
        >>> k1, k2, k3 = jr.split(jr.key(0), 3)
        >>> op = scaled(pb.ops.Dense(jr.normal(k1, (200, 200))), 1.3, key=k2)
        >>> net = EchoState(op, jr.uniform(k3, (200, 1), minval=-1.0), bias=0.1, leak=0.3)
        >>> force, y = Force(net, RLS(0.1), 200, 1), jnp.sin(0.1 * jnp.arange(600.0))[:, None]
        >>> z = pb.simulate(force, force.init(dt=1.0), pb.Series(y), dt=1.0, duration=600.0).saved
        >>> bool(jnp.abs(z - y)[300:].max() < 0.05)
        True

    Sussillo and Abbott (2009), Neuron 63.
    """

    model: AbstractDynamics
    rls: RLS
    features: int = eqx.field(static=True)
    targets: int = eqx.field(static=True)

    def init(self, *, dt, key=None):
        readout = self.rls.init(self.features, self.targets)
        return ForceState(self.model.init(dt=dt, key=key), readout, jnp.zeros(self.targets))

    def step(self, state, x, tick):
        model, o = self.model.step(state.model, state.z, tick)
        readout, z = self.rls.step(state.readout, o, x)
        return ForceState(model, readout, z), z

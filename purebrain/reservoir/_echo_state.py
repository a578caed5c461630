"""The echo-state reservoir."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._check import concrete, instance, parameters
from .._core import AbstractDynamics, as_param
from ..ops import AbstractOperator, Dense, spectral_radius


class EchoState(AbstractDynamics[Array, Array, Array]):
    """Leaky tanh units with random connections that are not trained:

        x(n + 1) = (1 - leak) x(n) + gain tanh(W x(n) + W_in u(n) + bias)

    One step is one sample of the input u, whatever dt. The output is x, (n,).

    **Arguments:**

    - `comm`: W, an operator of any kind, stored or not: `scaled(op, 0.9, key=...)`. Here W_ij is
      from unit j to unit i: the states are dense, and sums over rows are faster than walks over
      events (`JIT` in batches: ten times).
    - `w_in`: W_in, an array or operator (n, inputs).
    - `bias`: one number, or one a unit.
    - `leak`: in (0, 1]; one number, or one a unit. With a time constant it is 1 - exp(-dt / tau).
    - `gain`: `leak` by default.
    - `x_init`: the state at the start.

    **Raises:** `ValueError` for a W that is not square, a W_in of other rows, or a `leak` out of
    range.

        >>> import jax, jax.numpy as jnp, jax.random as jr, purebrain as pb
        >>> from purebrain.reservoir import EchoState, scaled
        >>> op = pb.ops.jit_normal(0.0, 1.0, p=0.05, n_pre=100, n_post=100, seed=0)
        >>> net = EchoState(scaled(op, 0.9, key=jr.key(0)), jr.normal(jr.key(1), (100, 1)))
        >>> u = pb.Series(jnp.sin(0.2 * jnp.arange(50.0))[:, None])
        >>> pb.simulate(net, net.init(dt=1.0), u, dt=1.0, duration=50.0).saved.shape
        (50, 100)

    Jaeger (2001), GMD report 148; Jaeger, Lukosevicius, Popovici, Siewert (2007), Neural Networks
    20 (leaky units).
    """

    comm: AbstractOperator
    w_in: AbstractOperator
    bias: Float[Array, "..."]
    leak: Float[Array, "..."]
    gain: Float[Array, "..."]
    x_init: Float[Array, "..."]

    def __init__(
        self,
        comm: AbstractOperator,
        w_in: AbstractOperator | ArrayLike,
        *,
        bias: ArrayLike = 0.0,
        leak: ArrayLike = 1.0,
        gain: ArrayLike | None = None,
        x_init: ArrayLike = 0.0,
    ):
        instance("comm", comm, AbstractOperator)
        self.comm = comm
        self.w_in = w_in if isinstance(w_in, AbstractOperator) else Dense(jnp.asarray(w_in, float))
        n = comm.n_post
        if comm.shape != (n, n):
            raise ValueError(f"comm: shape {comm.shape}; it must be square, (n, n).")
        if self.w_in.n_pre != n:
            raise ValueError(f"w_in: shape {self.w_in.shape}; it must be ({n}, inputs).")
        cast = lambda a: as_param(a).astype(comm.dtype)  # noqa: E731
        self.bias, self.leak, self.x_init = cast(bias), cast(leak), cast(x_init)
        self.gain = self.leak if gain is None else cast(gain)
        parameters(self, n)
        host = concrete(self.leak)
        if host is not None and not ((host > 0) & (host <= 1)).all():
            raise ValueError(f"leak: {leak}; it must be above 0 and at most 1.")

    @property
    def n(self) -> int:
        """The number of units."""
        return self.comm.n_pre

    def init(self, *, dt, key=None):
        return jnp.broadcast_to(self.x_init, (self.n,))

    def step(self, state, x, tick):
        arrived = self.comm.mv_t(state) + self.w_in.mv_t(x) + self.bias
        state = (1 - self.leak) * state + self.gain * jnp.tanh(arrived)
        return state, state


def scaled(op: AbstractOperator, radius: ArrayLike, *, key) -> AbstractOperator:
    """The operator times the number that gives its matrix the spectral radius `radius`.

    **Arguments:** `op`: a square operator; `radius`: above 0; `key`: for `ops.spectral_radius`.

    **Raises:** `ValueError` for a matrix of radius 0, or a `radius` not above 0.
    """
    found, wanted = spectral_radius(op, key=key), concrete(radius)
    if wanted is not None and not wanted > 0:
        raise ValueError(f"radius: {radius}; it must be above 0.")
    host = concrete(found)
    if host is not None and host == 0:
        raise ValueError("op: of spectral radius 0, which no factor changes; connect more of it.")
    return jnp.asarray(radius, found.dtype) / found * op

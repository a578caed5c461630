"""Next-generation reservoir computing."""

import itertools
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core import AbstractDynamics


class NVAR(AbstractDynamics[Array, Array, Array]):
    """Nonlinear vector autoregression: what a reservoir would do, without one.

    The features of a step are 1, the inputs u of the last k samples, `stride` steps apart, and all
    monomials of the given orders of those:

        o = 1, l, l_i l_j (i <= j), ...   with   l = u(n), u(n - s), ..., u(n - (k - 1) s)

    The first (k - 1) s outputs see zeros in place of samples before the start: discard them.

    **Arguments:** `inputs`: how many numbers u has; `k`: how many samples; `stride`: s, in steps;
    `orders`: of the monomials, such as (2,) or (2, 3); `constant`: whether there is a 1.

    **Raises:** `ValueError` for sizes below 1, or orders below 2.

        >>> import jax.numpy as jnp, purebrain as pb
        >>> nvar = pb.reservoir.NVAR(1, k=2)
        >>> u = pb.Series(jnp.array([[2.0], [3.0]]))
        >>> pb.simulate(nvar, nvar.init(dt=1.0), u, dt=1.0, duration=2.0).saved[-1].tolist()
        [1.0, 3.0, 2.0, 9.0, 6.0, 4.0]

    Gauthier, Bollt, Griffith, Barbosa (2021), Nature Communications 12.
    """

    inputs: int = eqx.field(static=True)
    k: int = eqx.field(static=True, default=2)
    stride: int = eqx.field(static=True, default=1)
    orders: tuple[int, ...] = eqx.field(static=True, default=(2,))
    constant: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        for name in ("inputs", "k", "stride"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name}: {value!r}; it must be a whole number of at least 1.")
        if not all(isinstance(order, int) and order >= 2 for order in self.orders):
            raise ValueError(f"orders: {self.orders}; write orders=(2,), or () for none.")

    @property
    def n(self) -> int:
        """The number of features."""
        linear = self.inputs * self.k
        return self.constant + linear + sum(math.comb(linear + p - 1, p) for p in self.orders)

    def init(self, *, dt, key=None):
        return jnp.zeros(((self.k - 1) * self.stride + 1, self.inputs))

    def step(self, state, x: Float[Array, " inputs"], tick):
        state = jnp.concatenate([x[None].astype(state.dtype), state[:-1]])
        linear = state[:: self.stride].reshape(-1)
        parts = [jnp.ones(self.constant, state.dtype), linear]
        for order in self.orders:
            ids = itertools.combinations_with_replacement(range(linear.size), order)
            parts.append(linear[np.array(list(ids))].prod(1))
        return state, jnp.concatenate(parts)

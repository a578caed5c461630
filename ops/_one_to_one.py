"""Neuron i to neuron i."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._check import as_weight, check_size, check_values, checked_events, checked_values
from ._operator import AbstractOperator
from ._spikes import Spikes


class OneToOne(AbstractOperator):
    """W = diag(weight): y_i = s_i weight_i.

    **Arguments:** `weight`: one number, or shape (n,); `n`: the number of neurons on either side.

    **Raises:** `ValueError` for a weight of another length, or one that is not finite.

        >>> import jax.numpy as jnp
        >>> OneToOne(2.0, 2).mv(jnp.array([True, False])).tolist()
        [2.0, 0.0]
    """

    weight: Float[Array, ""] | Float[Array, " n"]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)

    def __init__(self, weight, n: int):
        self.n_pre = self.n_post = check_size("n", n)
        self.weight = as_weight(weight)
        if self.weight.shape not in ((), (n,)):
            raise ValueError(f"weight: shape {self.weight.shape}; it must be one number or ({n},).")

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        s = s.to_dense().astype(y.dtype) if isinstance(s, Spikes) else s
        return y + s * self.weight.astype(y.dtype)

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return x * self.weight.astype(x.dtype)

    def as_matrix(self):
        return jnp.diag(jnp.broadcast_to(self.weight, (self.n_pre,)))

    def as_coo(self):
        ids = np.arange(self.n_pre, dtype=np.int32)
        return ids, ids, self.weight

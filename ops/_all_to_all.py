"""Every neuron to every neuron, with one weight."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._check import (
    as_weight,
    check_flag,
    check_size,
    check_values,
    checked_events,
    checked_values,
)
from ._family import accumulator
from ._operator import AbstractOperator
from ._spikes import Spikes


class AllToAll(AbstractOperator):
    """W_ij = weight, without a matrix: y_j = weight * sum_i s_i. (For a weight a synapse: `Dense`.)

    **Arguments:** `weight`: one number; `n_pre`, `n_post`: the numbers of neurons; `autapses`:
    whether W_ii is there (without, y_j = weight * (sum_i s_i - s_j), for n_pre = n_post only).

    **Raises:** `ValueError` for a weight with axes or one that is not finite, and for
    `autapses=False` between populations of two sizes.

        >>> import jax.numpy as jnp
        >>> AllToAll(0.5, 3, 2).mv(jnp.array([True, False, True])).tolist()
        [1.0, 1.0]
    """

    weight: Float[Array, ""]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    autapses: bool = eqx.field(static=True)

    def __init__(self, weight, n_pre: int, n_post: int, autapses: bool = True):
        self.n_pre, self.n_post = check_size("n_pre", n_pre), check_size("n_post", n_post)
        self.weight = as_weight(weight)
        if self.weight.shape != ():
            raise ValueError(
                f"weight: shape {self.weight.shape}; AllToAll has one; use ops.Dense(weight)."
            )
        self.autapses = check_flag("autapses", autapses)
        if not self.autapses and n_pre != n_post:
            raise ValueError(
                f"autapses: False needs n_pre = n_post, but these are {n_pre} and {n_post}."
            )

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        wide = accumulator(y.dtype)
        s = s if isinstance(s, Spikes) else s.astype(wide)
        total = (s.count() if isinstance(s, Spikes) else jnp.sum(s)).astype(wide)
        if not self.autapses:
            total = total - (s.to_dense().astype(wide) if isinstance(s, Spikes) else s)
        return (y.astype(wide) + self.weight.astype(wide) * total).astype(y.dtype)

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        wide = x.astype(accumulator(x.dtype))
        total = jnp.sum(wide) if self.autapses else jnp.sum(wide) - wide
        total = (self.weight.astype(wide.dtype) * total).astype(x.dtype)
        return jnp.broadcast_to(total, (self.n_pre,))

    def as_matrix(self):
        full = jnp.full(self.shape, self.weight)
        return full if self.autapses else jnp.fill_diagonal(full, 0.0, inplace=False)

    def as_coo(self):
        pre, post = np.indices(self.shape, np.int32).reshape(2, -1)
        keep = slice(None) if self.autapses else pre != post
        return pre[keep], post[keep], self.weight

"""A dense weight matrix."""

from collections.abc import Hashable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import tpu
from ._check import as_weight, check_values, checked_events, checked_values, gather, scatter
from ._family import Layout, family
from ._operator import AbstractOperator
from .cpu import _dense as cpu
from .xla import _dense as xla

FAMILY = family("dense", xla.KERNELS, cpu=cpu.KERNELS, tpu=tpu.dense)


class Dense(AbstractOperator):
    """W itself. Few spikes add up rows of W; many make a matrix product.

    **Arguments:** `weight`: shape (n_pre, n_post).

    **Raises:** `ValueError` for another number of axes, or weights that are not finite.

        >>> import jax.numpy as jnp
        >>> Dense(jnp.array([[1.0, 2.0], [4.0, 8.0]])).mv(jnp.array([True, True])).tolist()
        [5.0, 10.0]
    """

    weight: Float[Array, "n_pre n_post"]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    tuning: Hashable = eqx.field(static=True, default=None)

    def __init__(self, weight):
        self.weight = as_weight(weight)
        if self.weight.ndim != 2:
            raise ValueError(f"weight: shape {self.weight.shape}; it must be (n_pre, n_post).")
        self.n_pre, self.n_post = self.weight.shape

    @property
    def layout(self) -> Layout:
        """What the kernels need to know at compile time."""
        return Layout(self.n_pre, self.n_post, self.weight.shape, tuning=self.tuning)

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        return scatter(FAMILY, self.layout, y, s, self.weight.astype(y.dtype))

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return gather(FAMILY, self.layout, self.weight.astype(x.dtype), x)

    def as_matrix(self):
        return self.weight

    def as_coo(self):
        pre, post = np.indices(self.shape, np.int32).reshape(2, -1)
        return pre, post, jnp.reshape(self.weight, -1)

"""Kernels of a dense matrix on any platform: matrix products."""

import jax.numpy as jnp

from .._family import Kernels
from .._spikes import as_floats


def scatter(layout, y, s, w):
    s = as_floats(layout, s, y.dtype)
    return y + (s @ w[0] if w.shape[0] == 1 else jnp.einsum("bi,bij->bj", s, w))


def gather(layout, w, x):
    return x @ w[0].T if w.shape[0] == 1 else jnp.einsum("bij,bj->bi", w, x)


def outer(layout, s, x):
    return as_floats(layout, s, x.dtype)[..., :, None] * x[..., None, :]


KERNELS = Kernels(scatter, gather, outer)

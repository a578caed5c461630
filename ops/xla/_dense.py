"""Kernels of a dense matrix on any platform: matrix products."""

import jax.numpy as jnp

from .._family import Kernels
from .._spikes import as_floats


def scatter(layout, y, s, w):
    return y + _product("bi,bij->bj", as_floats(layout, s, y.dtype), w)


def gather(layout, w, x):
    return _product("bj,bij->bi", x, w)


def _product(axes, a, w):
    # In the precision of `a`; if that is more than the weights', its values have none of it.
    if w.shape[0] == 1:
        axes, w = axes.replace("bij", "ij"), w[0]
    return jnp.einsum(axes, a.astype(w.dtype), w, preferred_element_type=a.dtype)


def outer(layout, s, x):
    return as_floats(layout, s, x.dtype)[..., :, None] * x[..., None, :]


KERNELS = Kernels(scatter, gather, outer)

"""Which kernels a CPU runs."""

import functools
import importlib.util
import warnings
from collections.abc import Callable

import jax.numpy as jnp

from .._family import Kernels
from ..cpu._tuning import Tuning


@functools.cache
def installed() -> bool:
    """Whether Numba is there, and works with what else is."""
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        importlib.import_module("numba")
    except (ImportError, OSError) as error:  # of its own, and of a library that it loads
        warnings.warn(
            f"numba cannot be imported, so CPU kernels are those of XLA: {error!r}. "
            "pip install --upgrade numba, or uninstall it.",
            stacklevel=2,
        )
        return False
    return True


def preferred(native: Kernels, other: Kernels) -> Kernels:
    """The kernels of `native` where they can be used, and of `other` elsewhere."""

    def choose(fast: Callable, slow: Callable) -> Callable:
        def kernel(layout, *args):
            wanted = not isinstance(layout.tuning, Tuning) or layout.tuning.native
            wide = all(a.dtype.itemsize >= 4 for a in args if jnp.issubdtype(a.dtype, jnp.floating))
            return (fast if wanted and wide and installed() else slow)(layout, *args)

        return kernel

    return Kernels(*(choose(native.of(kind), other.of(kind)) for kind in Kernels._fields))

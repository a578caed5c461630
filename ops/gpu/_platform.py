"""Which kernels the GPU gets; Pallas is imported only where a kernel is lowered for one."""

from importlib import import_module

import jax
import jax.numpy as jnp

from .._family import Kernels
from .._say_once import say_xla
from ..xla import _csr as xla_csr
from ..xla import _fixed_indegree as xla_fixed_indegree
from ..xla import _fixed_outdegree as xla_fixed_outdegree
from ..xla import _jit as xla_jit
from ._tuning import Tuning

NEEDED = (0, 11, 2)
DTYPES = ("float16", "bfloat16", "float32", "float64")


def _takes(layout, args) -> bool:
    """Whether the kernels take this; what they do not, XLA's do."""
    if jax.__version_info__ < NEEDED:
        needed = ".".join(map(str, NEEDED))
        if isinstance(layout.tuning, Tuning) and layout.tuning.deterministic:
            raise ValueError(
                f"tuning: deterministic needs jax >= {needed}, and this is {jax.__version__}: "
                f"pip install 'jax>={needed}'."
            )
        say_xla(f"jax {jax.__version__}: the GPU kernels need jax >= {needed}")
        return False
    if not all(a.size for a in args):
        return False
    for a in args:
        if jnp.issubdtype(a.dtype, jnp.floating) and a.dtype.name not in DTYPES:
            say_xla(f"{a.dtype.name}: the GPU kernels take {', '.join(DTYPES)}")
            return False
    return True


def _kernels(form: str, fallback: Kernels) -> Kernels:
    def choose(kind):
        def kernel(layout, *args):
            if not _takes(layout, args):
                return getattr(fallback.in_single(), kind)(layout, *args)
            rows = import_module("._rows", __package__)
            made = import_module("._kernels", __package__).kernels(getattr(rows, form))
            return getattr(made, kind)(layout, *args)

        return kernel

    return Kernels(*map(choose, ("scatter", "gather", "outer")))


fixed_outdegree = _kernels("FIXED_OUTDEGREE", xla_fixed_outdegree.KERNELS)
fixed_indegree = _kernels("FIXED_INDEGREE", xla_fixed_indegree.KERNELS)
csr = _kernels("CSR", xla_csr.KERNELS)
delayed_csr = _kernels("DELAYED_CSR", xla_csr.DELAYED_KERNELS)
jit = _kernels("JIT", xla_jit.KERNELS)

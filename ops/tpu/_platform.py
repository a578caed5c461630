"""Which kernels a TPU gets; Pallas is imported only where a kernel is lowered for one.

`scatter` has some. `gather` and `outer`, the transposed products of floats, are XLA's: each synapse
reads its target's value, whatever spiked, and XLA's gathers do that.
"""

from functools import partial
from importlib import import_module

import jax
import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._say_once import say_once, say_xla
from .._spikes import as_floats
from ..xla import _csr as xla_csr
from ..xla import _dense as xla_dense
from ..xla import _fixed_indegree as xla_fixed_indegree
from ..xla import _fixed_outdegree as xla_fixed_outdegree
from ..xla import _jit as xla_jit
from ._tuning import Tuning


def _tuning(layout) -> Tuning:
    return layout.tuning if isinstance(layout.tuning, Tuning) else Tuning()


def _launcher(form: str, layout, batch: int, structure):
    """The kernel for a batch of this size, as a function of (s, w), or None where there is none.

    Which TPU is lowered for, and so with which cores, is known by its abstract mesh or else the
    default device.
    """
    tpu = import_module("jax.experimental.pallas.tpu")
    try:
        info = tpu.get_tpu_info()
    except ValueError:
        why = "TPU: which one is not known here (an export?), nor then which of its cores to use"
    else:
        rows = getattr(import_module("._rows", __package__), form)
        sparse = info.sparse_core is not None and rows.row is not None
        if sparse and layout.constant:
            # The compiler fails, or ends the process, over constants that a SparseCore is given.
            say_once(
                "op: a constant of the compiled function, so the TensorCore serves it, not the "
                "SparseCores; pass the operator, or the network, as an argument of jax.jit."
            )
            sparse = False
        name, info = ("_sparse_core", info.sparse_core) if sparse else ("_tensor_core", info)
        core = import_module(f".{name}", __package__)
        launch, why = core.launcher(rows, layout, _tuning(layout), info, batch, *structure)
        if launch is not None:
            return _narrow(launch)
    say_xla(why)
    return None


def _narrow(launch):
    # Where JAX has 64 bits, Pallas takes every counter for one of them, which no kernel has.
    def narrow(*args):
        with jax.enable_x64(False):
            return launch(*args)

    return narrow


def _scatter(form: str, fallback: Kernels, layout, y, s, w, *structure):
    # A weight of one number goes behind the sum; rows of several examples' weights are fetched
    # where they lie, but not slices of a list, nor parameters.
    together = not layout.synapses or w.shape[0] == 1 or form in ("DENSE", "FIXED_OUTDEGREE")
    launch = None
    if not all(a.size for a in (y, s, w, *structure)):
        pass
    elif y.dtype != jnp.float32:
        say_xla(f"{y.dtype.name}: the TPU kernels take float32")
    else:
        launch = _launcher(form, layout, y.shape[0] if together else 1, structure)
    if launch is None:
        return fallback.scatter(layout, y, s, w, *structure)
    s = as_floats(layout, s, y.dtype)
    if not layout.synapses:
        return y + w[:, None] * launch(s, w)
    if together:
        return y + launch(s, w)
    return y + lax.map(lambda example: launch(*(a[None] for a in example))[0], (s, w))


def _without(why: str, fallback: Kernels) -> Kernels:
    """XLA's, of a form of connectivity that has no kernels."""
    fallback = fallback.in_single()

    def scatter(layout, *args):
        if all(a.size for a in args):
            say_xla(why)
        return fallback.scatter(layout, *args)

    return Kernels(scatter, fallback.gather, fallback.outer)


def _kernels(form: str, fallback: Kernels) -> Kernels:
    fallback = fallback.in_single()
    return Kernels(partial(_scatter, form, fallback), fallback.gather, fallback.outer)


def _precise(kernel):
    # A TPU multiplies floats as bfloat16 unless told otherwise.
    def precise(*args):
        with jax.default_matmul_precision("highest"):
            return kernel(*args)

    return precise


def _scatter_dense(layout, y, s, w):
    """By rows where few neurons spike, else by a matrix product."""
    fallback = Kernels(*map(_precise, xla_dense.KERNELS))
    spikes = as_floats(layout, s, y.dtype)
    limit = int(_tuning(layout).dense_share * spikes.size)
    events = jnp.sum(spikes != 0, dtype=jnp.int32)
    return lax.cond(
        events <= limit,
        partial(_scatter, "DENSE", fallback, layout),
        partial(fallback.scatter, layout),
        y,
        s,
        w,
    )


csr = _kernels("CSR", xla_csr.KERNELS)
dense = Kernels(_scatter_dense, _precise(xla_dense.gather), xla_dense.outer)
delayed_csr = _without(
    "ops.DelayedCSR: it has no TPU kernel, which ops.CSR has", xla_csr.DELAYED_KERNELS
)
fixed_indegree = _without(
    "ops.FixedIndegree: it has no TPU kernel, which ops.CSR and ops.FixedOutdegree have",
    xla_fixed_indegree.KERNELS,
)
fixed_outdegree = _kernels("FIXED_OUTDEGREE", xla_fixed_outdegree.KERNELS)
jit = _kernels("JIT", xla_jit.KERNELS)

"""Native scatter of CSR with a delay for each synapse, onto a ring of sums."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from .._family import Kernels
from ..cpu import _csr as cpu
from ._call import call_in_place, index

SLICE = 128  # synapses of a row whose places on the ring are found at once


def scatter(layout, y, s, w, indptr, indices, delay, slot, dt):
    batch, each = s.shape[0], bool(layout.synapses)
    if 0 in (*y.shape, s.shape[1], indices.size):
        return y
    from .compiled._delayed import delayed_rows

    sizes = np.array([batch, w.shape[0], layout.n_post, layout.form.stride, layout.lo], np.int32)
    static = str(y.dtype), str(s.dtype), str(dt.dtype), each
    rooms = [
        jax.ShapeDtypeStruct((layout.n_pre,), jnp.int32),  # room for a list of events
        jax.ShapeDtypeStruct((SLICE,), jnp.uint32),  # for places on the ring
    ]
    indptr = index("indptr", indptr, layout.n_pre + 1)
    indices = index("indices", indices, math.prod(layout.synapses) if each else indices.size)
    delay = index("delay", delay, indices.size)
    operands = sizes, w, indptr, indices, delay, slot, dt
    return call_in_place(delayed_rows, static, rooms, y, s, *operands)


DELAYED_CSR = Kernels(scatter, cpu.DELAYED_KERNELS.gather, cpu.DELAYED_KERNELS.outer)

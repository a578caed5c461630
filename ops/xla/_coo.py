"""Kernels over the list of all synapses, for any form of connectivity that can be listed."""

import jax.numpy as jnp

from .._family import Kernels
from .._spikes import as_floats
from ..cpu._events import take


def kernels(synapses) -> Kernels:
    """The kernels; `synapses(layout, *structure)` gives the rows and columns of all synapses."""

    def flat(w):
        return w.reshape(w.shape[0], -1)  # one column where all share a weight

    def scatter(layout, y, s, w, *structure):
        rows, columns = synapses(layout, *structure)
        terms = take(as_floats(layout, s, y.dtype), rows) * flat(w)
        return y.at[:, columns].add(terms, mode="promise_in_bounds")

    def gather(layout, w, x, *structure):
        rows, columns = synapses(layout, *structure)
        terms = take(x, columns) * flat(w)
        out = jnp.zeros((x.shape[0], layout.n_pre), x.dtype)
        return out.at[:, rows].add(terms, mode="promise_in_bounds")

    def outer(layout, s, x, *structure):
        rows, columns = synapses(layout, *structure)
        terms = take(as_floats(layout, s, x.dtype), rows) * take(x, columns)
        if not layout.synapses:
            return jnp.sum(terms, -1)
        return terms.reshape(x.shape[0], *layout.synapses)

    return Kernels(scatter, gather, outer)

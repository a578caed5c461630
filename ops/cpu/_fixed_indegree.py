"""CPU kernels of fixed in-degree: a walk over the events, or each target's row where many spike."""

import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._spikes import pack_bits
from ..xla import _fixed_indegree as xla
from ._csr import kernels, slices

# A synapse of an event's costs about as much as this many in the sum over all: where they share a
# weight, and where each has one (measured at 10,000 targets of 100 sources, one core).
SHARED_COST, OWN_COST = 4, 6


def _targets(layout, p, order):
    return slices(layout, order, p) // jnp.int32(layout.form.indegree)


def _weights(layout, w, w_at, p, order):
    w_at, places = jnp.broadcast_arrays(w_at[:, None], slices(layout, order, p))
    return w.at[w_at, places].get(mode="promise_in_bounds", wrap_negative_indices=False)


def scatter(layout, y, s, w, sources, indptr, order):
    walk = kernels(_targets, _weights).scatter

    def by_events(y):
        flat = w.reshape(w.shape[0], -1) if layout.synapses else w
        return walk(layout, y, s, flat, indptr, order)

    def by_targets(y):
        return xla.scatter(layout, y, s, w, sources)

    words = s if s.dtype == jnp.uint32 else pack_bits(s != 0)
    events = jnp.sum(lax.population_count(words).astype(jnp.int32))
    cost = OWN_COST if layout.synapses else SHARED_COST
    limit = layout.n_pre * s.shape[0] // cost
    return lax.cond(events <= limit, by_events, by_targets, y)


KERNELS = Kernels(scatter, xla.KERNELS.gather, xla.KERNELS.outer)

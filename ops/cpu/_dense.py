"""CPU kernels of a dense matrix: rows of the spiking neurons added up, or one matrix product."""

import jax.numpy as jnp
from jax import lax

from .._family import Kernels
from .._spikes import pack_bits
from ..xla import _dense as xla
from ._events import for_each_event

# Adding a row an event costs as much as the whole product when a share of the neurons like this
# spikes (measured at 1,000 to 10,000 neurons, one core); it falls with the batch, which a product
# shares.
ROW_SHARE = 1 / 8


def scatter(layout, y, s, w):
    def by_rows(y):
        def visit(y, b, i, value):
            row = lax.dynamic_slice(
                w, (b if w.shape[0] > 1 else jnp.int32(0), i, jnp.int32(0)), (1, 1, layout.n_post)
            )[0]
            row = row.astype(y.dtype) if value is None else row.astype(y.dtype) * value
            at = (b, jnp.int32(0))
            old = lax.dynamic_slice(y, at, (1, layout.n_post))
            return lax.dynamic_update_slice(y, old + row, at)

        return for_each_event(layout, s, visit, y)

    def by_product(y):
        return xla.scatter(layout, y, s, w.astype(y.dtype))

    words = s if s.dtype == jnp.uint32 else pack_bits(s != 0)
    events = jnp.sum(lax.population_count(words).astype(jnp.int32))
    limit = int(ROW_SHARE * layout.n_pre)
    return lax.cond(events <= limit, by_rows, by_product, y)


def gather(layout, w, x):
    # A loop of its own over weights of half precision, which XLA's library would copy first.
    return x @ w[0].T.astype(x.dtype) if w.shape[0] == 1 else xla.gather(layout, w, x)


KERNELS = Kernels(scatter, gather, xla.outer)

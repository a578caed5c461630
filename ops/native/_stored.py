"""Native kernels of stored synapses, by rows: CSR, fixed out-degree, and fixed in-degree sorted by
source."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from .._family import Kernels
from ..xla import _fixed_indegree as xla
from ._call import call, call_in_place, index
from ._kinds import GATHER, OUTER, SCATTER

COPIED = 1 << 15  # of so many numbers a copy takes less time than the loop that saves it


def visit_rows(kind, layout, size, s, w, x, indptr, ids, degree=0, by_target=False):
    """What the rows of the events of `s` give, [batch, size]: their additions to the targets, from
    `x` on (`SCATTER`); their sums, of the targets' values `x` (`GATHER`); or the products of s and
    `x` on the synapses (`OUTER`). The events are those of the operator's neurons, from `layout.lo`
    on of what `s` may be longer by.

    A row is ids[indptr[i] : indptr[i + 1]], or `degree` ids where `indptr` is None. They are
    targets; or, `by_target`, places in rows of `degree` synapses of the targets.
    """
    batch, each = s.shape[0], bool(layout.synapses)
    if 0 in (batch, size, s.shape[1], ids.size):
        return x if kind == SCATTER else jnp.zeros((batch, size), x.dtype)
    from .compiled._stored import stored_rows

    synapses = math.prod(layout.synapses) if each else ids.size
    ids = index("indices", ids, layout.n_post * degree if by_target else synapses)
    rows = ids if indptr is None else index("indptr", indptr, layout.n_pre + 1)
    sizes = np.array([batch, w.shape[0], layout.n_pre, layout.n_post, layout.lo, degree], np.int32)
    static = kind, str(x.dtype), str(s.dtype), each, indptr is not None, by_target
    rooms = [jax.ShapeDtypeStruct((layout.n_pre,), jnp.int32)]  # for a list of events
    operands = sizes, w, rows, ids
    if kind == SCATTER and x.size > COPIED:
        return call_in_place(stored_rows, static, rooms, x, s, *operands)
    out = jax.ShapeDtypeStruct((batch, size), x.dtype)
    return call(stored_rows, static, [out, *rooms], x, s, *operands)[0]


def kernels(rows) -> Kernels:
    """The kernels, of rows that are `rows(layout, *structure)`: (indptr, ids, degree)."""

    def scatter(layout, y, s, w, *structure):
        indptr, ids, degree = rows(layout, *structure)
        return visit_rows(SCATTER, layout, layout.n_post, s, w, y, indptr, ids, degree)

    def scatter_where(layout, y, s, w, m, *structure):
        return scatter(layout, y, s, w, *structure)

    def gather_where(layout, w, x, m, *structure):
        indptr, ids, degree = rows(layout, *structure)
        return visit_rows(GATHER, layout, m.shape[1], m, w, x, indptr, ids, degree)

    def gather(layout, w, x, *structure):
        return gather_where(layout, w, x, jnp.ones((x.shape[0], layout.n_pre), bool), *structure)

    def outer(layout, s, x, *structure):
        (indptr, ids, degree), one = rows(layout, *structure), jnp.ones((1, 1), x.dtype)
        size = math.prod(layout.synapses)
        out = visit_rows(OUTER, layout, size, s, one, x, indptr, ids, degree)
        return out.reshape(x.shape[0], *layout.synapses)

    return Kernels(scatter, gather, outer, scatter_where, gather_where)


def _scatter_by_target(layout, y, s, w, sources, indptr, order):
    indegree = layout.form.indegree
    return visit_rows(SCATTER, layout, layout.n_post, s, w, y, indptr, order, indegree, True)


CSR = kernels(lambda layout, indptr, ids: (indptr, ids, 0))
FIXED_OUTDEGREE = kernels(lambda layout, ids: (None, ids, ids.shape[1]))
FIXED_INDEGREE = Kernels(_scatter_by_target, xla.KERNELS.gather, xla.KERNELS.outer)

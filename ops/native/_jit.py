"""Native kernels of random matrices, made on the fly by rows."""

import jax
import jax.numpy as jnp
import numpy as np

from .._family import Kernels
from .._jit_bands import checked, seed_of, width_of, widths
from .._jit_matrix import halves
from .._jit_weights import NORMAL as NORMAL_LAW
from .._jit_weights import UNIFORM as UNIFORM_LAW
from .._jit_weights import coefficients
from ._call import call, call_in_place
from ._kinds import GATHER, NORMAL, ONE, OUTER, SCATTER, UNIFORM

LAWS = {None: ONE, UNIFORM_LAW: UNIFORM, NORMAL_LAW: NORMAL}
SLICE = 256  # synapses of a row made at once: a multiple of the lanes


def visit_rows(kind, layout, shape, s, w, x, seed, degree):
    """What the rows of the events of `s` give, [batch, *shape]: their additions to the targets,
    from `x` on (`SCATTER`), or the sums of the products of s and `x`, and of those times the draws
    (`OUTER`); or the sums of all rows, of the targets' values `x` (`GATHER`)."""
    batch, form = s.shape[0], layout.form
    law = LAWS[form.law]
    if 0 in (batch, layout.n_pre, layout.n_post):
        return x if kind == SCATTER else jnp.zeros((batch, *shape), x.dtype)
    from .compiled._jit import jit_rows

    w = w[:, None] if law == ONE else jnp.stack(coefficients(layout, w), -1)
    domains = [halves(n) for n in widths(layout.n_post, width_of(layout))]
    most = max(blocks << bits for bits, blocks in domains)
    narrow = most <= 1 << 16
    sizes = batch, w.shape[0], layout.n_pre, layout.n_post, layout.lo, width_of(layout)
    sizes = np.array(sizes, np.int32)
    ahead = narrow and (kind == SCATTER or (kind == GATHER and batch == 1))
    sums = x.dtype
    if kind == SCATTER and s.dtype == jnp.uint32:  # numbers of synapses, and sums of draws
        sums = jnp.dtype(jnp.uint8 if law == ONE else jnp.uint32)
    rooms = [
        jax.ShapeDtypeStruct((layout.n_pre,), jnp.int32),  # room for a list of events
        jax.ShapeDtypeStruct((SLICE,), jnp.uint16 if narrow else jnp.uint32),  # for columns
        jax.ShapeDtypeStruct((SLICE,), x.dtype),  # for weights
        jax.ShapeDtypeStruct((most if ahead else 0,), sums),
    ]
    static = kind, str(x.dtype), str(s.dtype), str(sums), law, narrow, ahead
    seed = seed_of(seed, 0, form.bands)
    degree = checked(layout, degree).astype(jnp.int32)
    operands = sizes, w, np.array(domains, np.uint16), seed, degree
    if kind == SCATTER:
        return call_in_place(jit_rows, static, rooms, x, s, *operands)
    out = jax.ShapeDtypeStruct((batch, *shape), x.dtype)
    return call(jit_rows, static, [out, *rooms], x, s, *operands)[0]


def scatter(layout, y, s, w, *structure):
    return visit_rows(SCATTER, layout, (layout.n_post,), s, w, y, *structure)


def gather(layout, w, x, *structure):
    every = np.zeros((x.shape[0], 1), np.uint32)  # no events: all rows are gathered
    return visit_rows(GATHER, layout, (layout.n_pre,), every, w, x, *structure)


def outer(layout, s, x, *structure):
    one = jnp.array([[0, 1]] if layout.synapses else [1], x.dtype)  # the draws themselves
    return visit_rows(OUTER, layout, layout.synapses, s, one, x, *structure)


JIT = Kernels(scatter, gather, outer)

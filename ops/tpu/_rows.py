"""Rows of synapses as the kernels fetch them, for each form of connectivity."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from .. import _jit_matrix as jit_matrix
from .. import _jit_weights as jit_weights
from ._pieces import ZERO

LANES = 128


class Form(NamedTuple):
    """A form of connectivity. Its rows are fetched in pieces of `width` synapses. `carried` are an
    event's own entries of the arrays that `carried` lists."""

    carried: Callable  # (layout, *structure) -> arrays [n_pre], int32
    width: Callable  # (layout, longest, align, *structure) -> synapses of a piece
    arrays: Callable  # (layout, width, align, w, *structure) -> arrays in HBM of rows
    span: Callable  # (width, *carried) -> a row's synapses: from, to
    place: (
        Callable  # (layout, width, align, first) -> where the piece lies that has synapse `first`
    )
    copy: Callable  # (array, b, i, place, width, align, to, semaphore) -> what brings it
    constants: Callable  # (layout, w, *structure) -> int32 [n] that `row` wants
    # (layout, i, constants, *carried) -> (k, pieces) -> targets, weights or None (one), there or
    # None. k are numbers of synapses, `pieces` what the arrays hold of them.
    row: Callable | None  # None: all targets, in order


def _none(layout, w, *structure):
    return jnp.zeros(1, jnp.int32)  # no array may be empty


def _stored(layout, i, constants, *carried):
    return lambda k, pieces: (pieces[0], pieces[1] if layout.synapses else None, None)


def _copy_row(array, b, i, place, width, align, to, semaphore):
    if len(array.shape) == 2:
        return pltpu.make_async_copy(array.at[i], to, semaphore)
    return pltpu.make_async_copy(array.at[b if array.shape[0] > 1 else ZERO, i], to, semaphore)


FIXED_OUTDEGREE = Form(
    carried=lambda layout, targets: (),
    width=lambda layout, longest, align, targets: targets.shape[1],
    arrays=lambda layout, width, align, w, targets: (targets, w) if layout.synapses else (targets,),
    span=lambda width: (ZERO, np.int32(width)),
    place=lambda layout, width, align, first: first,
    copy=_copy_row,
    constants=_none,
    row=_stored,
)

DENSE = Form(
    carried=lambda layout: (),
    width=lambda layout, longest, align: layout.n_post,
    arrays=lambda layout, width, align, w: (w,),
    span=FIXED_OUTDEGREE.span,
    place=FIXED_OUTDEGREE.place,
    copy=_copy_row,
    constants=_none,
    row=None,
)


class _Last(NamedTuple):
    """An array, and the piece that it ends with, filled up: a copy does not reach beyond."""

    whole: Any
    last: Any


class _Copy(NamedTuple):
    is_last: Any
    whole: Callable
    last: Callable

    def start(self):
        pl.when(self.is_last)(lambda: self.last().start())
        pl.when(~self.is_last)(lambda: self.whole().start())

    def wait(self):
        self.last().wait()  # for as many bytes


def _last_place(n, width, align):
    return max((n - width) // align + 1, 0) * align


def _csr_width(layout, longest, align, indptr, indices):
    # Rows begin up to align - 1 synapses behind where a piece does.
    return min(longest, -(-(layout.form.width + align - 1) // LANES) * LANES)


def _csr_arrays(layout, width, align, w, indptr, indices):
    def split(a):
        a = a.reshape(-1)
        last = a[_last_place(a.size, width, align) :]
        return _Last(a, jnp.pad(last, (0, width - last.size)))

    return (split(indices), split(w)) if layout.synapses else (split(indices),)


def _copy_piece(array, b, i, place, width, align, to, semaphore):
    n = array.whole.shape[0]
    if n < width:
        return pltpu.make_async_copy(array.last, to, semaphore)
    at = pl.ds(pl.multiple_of(place, align), width)
    return _Copy(
        place == _last_place(n, width, align),
        lambda: pltpu.make_async_copy(array.whole.at[at], to, semaphore),
        lambda: pltpu.make_async_copy(array.last, to, semaphore),
    )


CSR = Form(
    carried=lambda layout, indptr, indices: (indptr[:-1], indptr[1:]),
    width=_csr_width,
    arrays=_csr_arrays,
    span=lambda width, start, stop: (start, stop),
    place=lambda layout, width, align, first: jnp.minimum(
        first, _last_place(layout.form.n_synapses, width, align)
    ),
    copy=_copy_piece,
    constants=_none,
    row=_stored,
)


def _words(x):
    return lax.bitcast_convert_type(x, jnp.int32)


def _jit_constants(layout, w, seed, degree):
    if layout.form.law is None:
        return _words(seed)[None]
    return jnp.stack([_words(word) for word in (seed, *jit_weights.coefficients(layout, w[0]))])


def _random(layout, i, constants, degree):
    seed, *coefficients = constants
    keys = jit_matrix.row_keys(lax.bitcast_convert_type(seed, jnp.uint32), i)
    coefficients = [lax.bitcast_convert_type(c, jnp.float32) for c in coefficients]

    def synapses(k, pieces):
        column, there = jit_matrix.row(layout, keys, degree, k)
        if layout.form.law is None:
            return column, None, there
        return column, jit_weights.weights(layout, keys, k, column, coefficients), there

    return synapses


JIT = Form(
    carried=lambda layout, seed, degree: (degree,),
    width=lambda layout, longest, align, seed, degree: min(
        longest, -(-max(layout.form.longest, 1) // LANES) * LANES
    ),
    arrays=lambda layout, width, align, w, seed, degree: (),
    span=lambda width, degree: (jnp.zeros_like(degree), degree),
    place=FIXED_OUTDEGREE.place,
    copy=_copy_row,
    constants=_jit_constants,
    row=_random,
)

"""Rows of synapses as the kernels fetch them, for each form of connectivity."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from .. import _jit_matrix as jit_matrix


class Form(NamedTuple):
    """A form of connectivity. Its rows are fetched in pieces of `width` synapses, by one copy an
    array. `carried` are an event's own entries of the arrays that `carried` lists."""

    carried: Callable  # (layout, *structure) -> arrays [n_pre], int32
    arrays: Callable  # (layout, w, *structure) -> arrays in HBM that rows are fetched from
    width: Callable  # (layout, longest, align, *structure) -> synapses of a piece
    span: Callable  # (width, *carried) -> a row's synapses: from, to
    place: Callable  # (layout, width, first) -> where the piece begins that holds `first`
    at: Callable  # (array, b, i, place, width) -> where it lies in HBM
    constants: Callable  # (layout, w, *structure) -> int32 [n] that `row` wants
    # (layout, i, constants, *carried) -> (k, pieces) -> targets, weights or None (one), there or
    # None. k are numbers of synapses, `pieces` what the arrays hold of them.
    row: Callable


def _with_weights(layout, w, *indices):
    return (*indices, w) if layout.synapses else indices


def _words(x):
    return lax.bitcast_convert_type(x, jnp.int32)


def _none(layout, w, *structure):
    return jnp.zeros(1, jnp.int32)  # no array may be empty


def _stored(layout, i, constants, *carried):
    return lambda k, pieces: (pieces[0], pieces[1] if layout.synapses else None, None)


FIXED_OUTDEGREE = Form(
    carried=lambda layout, targets: (),
    arrays=_with_weights,
    width=lambda layout, longest, align, targets: targets.shape[1],
    span=lambda width: (np.int32(0), np.int32(width)),
    place=lambda layout, width, first: first,
    at=lambda array, b, i, place, width: array.at[i] if len(array.shape) == 2 else array.at[b, i],
    constants=_none,
    row=_stored,
)


def _csr_width(layout, longest, align, indptr, indices):
    # The last piece ends with the arrays, and begins where a copy may begin.
    longest = min(longest, (-(-layout.form.width // align) + 1) * align)
    return layout.form.n_synapses - max(layout.form.n_synapses - longest, 0) // align * align


def _csr_at(array, b, i, place, width):
    at = pl.ds(pl.multiple_of(place, 8), width)
    return array.at[at]


CSR = Form(
    carried=lambda layout, indptr, indices: (indptr[:-1], indptr[1:]),
    arrays=lambda layout, w, indptr, indices: _with_weights(layout, w[0], indices),
    width=_csr_width,
    span=lambda width, start, stop: (start, stop),
    place=lambda layout, width, first: jnp.minimum(first, layout.form.n_synapses - width),
    at=_csr_at,
    constants=_none,
    row=_stored,
)


def _jit_constants(layout, w, seed, degree):
    if layout.form.law is None:
        return _words(seed)[None]
    return jnp.stack([_words(word) for word in (seed, *jit_matrix.coefficients(layout, w[0]))])


def _random(layout, i, constants, degree):
    seed, *coefficients = constants
    keys = jit_matrix.row_keys(lax.bitcast_convert_type(seed, jnp.uint32), i)
    coefficients = [lax.bitcast_convert_type(c, jnp.float32) for c in coefficients]

    def synapses(k, pieces):
        column, there = jit_matrix.row(layout, keys, degree, k)
        if layout.form.law is None:
            return column, None, there
        return column, jit_matrix.weights(layout, keys, k, coefficients), there

    return synapses


JIT = Form(
    carried=lambda layout, seed, degree: (degree,),
    arrays=lambda layout, w, seed, degree: (),
    width=lambda layout, longest, align, seed, degree: longest,
    span=lambda width, degree: (jnp.zeros_like(degree), degree),
    place=lambda layout, width, first: first,
    at=lambda array, b, i, place, width: None,
    constants=_jit_constants,
    row=_random,
)

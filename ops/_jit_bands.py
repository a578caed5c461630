"""Random matrices of long rows, in bands of 2^14, 2^15 or 2^16 columns.

A row of a Bernoulli matrix is a row of one in each band, with keys and a number of synapses of its
own. What is added to one band stays in a core's cache while all rows are visited.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, UInt32

from ._family import Kernels, accumulator
from ._jit_matrix import GOLDEN, WORDS, halves, mix, u32

SYNAPSES = 1 << 8  # a row and band: of fewer, keys of their own would take too long
COLUMNS = 1 << 8  # at least, of a band for each band: all have numbers of synapses for every row


class Band(NamedTuple):
    """One band: a layout, its first column, and its structure."""

    layout: Any  # `Layout`
    lo: Any
    seed: UInt32[Array, ""]
    degree: Int32[Array, " n_pre"]


def band_width(n_post: int, p: float) -> int:
    """How many columns the bands of a matrix have: all, of a matrix that is not in bands.

    Narrow ones are for the caches of CPUs; on other platforms bands take turns.
    """
    for width in WORDS:
        if width < n_post <= width // COLUMNS * width and p * width >= SYNAPSES:
            return width
    return n_post


def width_of(layout) -> int:
    """How many columns the bands of a matrix have, but for the last, which may have fewer."""
    form = layout.form
    return layout.n_post if form.bands == 1 else form.blocks << form.bits


def widths(n_post: int, width: int) -> list[int]:
    """The numbers of columns of the bands."""
    return [min(width, n_post - lo) for lo in range(0, n_post, width)] if n_post else [0]


def seed_of(seed, band, bands: int):
    """The seed of one of so many bands: mixed, for matrices of seeds `GOLDEN` apart would share all
    but one."""
    return seed if bands == 1 else mix(seed) + u32(GOLDEN) * jnp.asarray(band, jnp.uint32)


def as_band(layout, band, seed, degree) -> Band:
    """A band as a matrix. One of a traced number is not the last."""
    if layout.form.bands == 1:
        return Band(layout, 0, seed, degree)
    last = isinstance(band, int) and band == layout.form.bands - 1
    width = width_of(layout)
    n_post = layout.n_post - band * width if last else width
    bits, blocks = halves(n_post)
    form = layout.form._replace(bits=bits, blocks=blocks, bands=1)
    own = layout._replace(n_post=n_post, form=form)
    return Band(own, band * width, seed_of(seed, band, layout.form.bands), degree[band])


def checked(layout, degree):
    """`degree`, as the bands have it."""
    shape = (layout.n_pre,) if layout.form.bands == 1 else (layout.form.bands, layout.n_pre)
    if degree.shape != shape:
        raise ValueError(
            f"degree: shape {degree.shape}; this matrix has {shape}. Make it anew instead of "
            "replacing what it is made of."
        )
    return degree


def banded(kernels: Kernels) -> Kernels:
    """Kernels of matrices in bands, from those of one band."""

    def fold(layout, add, out, seed, degree):
        # The last band may have fewer columns than the others.
        last = layout.form.bands - 1
        out = lax.fori_loop(
            jnp.int32(0),
            jnp.int32(last),
            lambda band, out: add(out, as_band(layout, band, seed, degree)),
            out,
        )
        return add(out, as_band(layout, last, seed, degree))

    def own(band, a):
        return lax.dynamic_slice_in_dim(a, band.lo, band.layout.n_post, 1)

    def scatter(layout, y, s, w, seed, degree):
        def add(y, band):
            part = kernels.scatter(band.layout, own(band, y), s, w, band.seed, band.degree)
            return lax.dynamic_update_slice_in_dim(y, part, band.lo, 1)

        return fold(layout, add, y, seed, degree)

    def summed(kernel, shape):
        def total(layout, a, x, seed, degree):
            def add(total, band):
                part = kernel(band.layout, a, own(band, x), band.seed, band.degree)
                return total + part.astype(total.dtype)

            zeros = jnp.zeros((x.shape[0], *shape(layout)), accumulator(x.dtype))
            return fold(layout, add, zeros, seed, degree).astype(x.dtype)

        return total

    def choose(one, several):
        def kernel(layout, *args):
            *operands, seed, degree = args
            made = one if layout.form.bands == 1 else several
            return made(layout, *operands, seed, checked(layout, degree))

        return kernel

    return Kernels(
        choose(kernels.scatter, scatter),
        choose(kernels.gather, summed(kernels.gather, lambda layout: (layout.n_pre,))),
        choose(kernels.outer, summed(kernels.outer, lambda layout: layout.synapses)),
    )

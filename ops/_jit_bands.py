"""Random matrices of long rows, in bands of 2^16 columns.

A row of a Bernoulli matrix is a row of one in each band, with keys and a number of synapses of its
own. What is added to one band stays in a core's cache while all rows are visited.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int32, UInt32

from ._family import Kernels
from ._jit_matrix import GOLDEN, halves

BAND = 1 << 16
SYNAPSES = 1 << 8  # a row and band: for fewer, keys of their own would take too long


class Band(NamedTuple):
    """One band: a layout, its first column, and its structure."""

    layout: Any  # `Layout`
    lo: int
    seed: UInt32[Array, ""]
    degree: Int32[Array, " n_pre"]


def sizes(n_post: int, p: float) -> list[int]:
    """The numbers of columns of the bands of a matrix."""
    if n_post <= 2 * BAND or p * BAND < SYNAPSES:
        return [n_post]
    return [min(BAND, n_post - lo) for lo in range(0, n_post, BAND)]


def seed_of(seed, band):
    """The seed of a band; the first has that of the matrix."""
    return seed + jnp.uint32(GOLDEN * band & 0xFFFFFFFF)


def bands(layout, seed, degree) -> Iterator[Band]:
    """Each band as a matrix."""
    if layout.form.bands == 1:
        yield Band(layout, 0, seed, degree)
        return
    for band in range(layout.form.bands):
        lo = band * BAND
        n_post = min(BAND, layout.n_post - lo)
        bits, blocks = halves(n_post)
        form = layout.form._replace(bits=bits, blocks=blocks, bands=1)
        own = layout._replace(n_post=n_post, form=form)
        yield Band(own, lo, seed_of(seed, band), degree[band])


def banded(kernels: Kernels) -> Kernels:
    """Kernels of matrices in bands, from those of one band."""

    def own(band, a):
        return a[:, band.lo : band.lo + band.layout.n_post]

    def scatter(layout, y, s, w, seed, degree):
        parts = [
            kernels.scatter(band.layout, own(band, y), s, w, band.seed, band.degree)
            for band in bands(layout, seed, degree)
        ]
        return jnp.concatenate(parts, 1)

    def gather(layout, w, x, seed, degree):
        return sum(
            kernels.gather(band.layout, w, own(band, x), band.seed, band.degree)
            for band in bands(layout, seed, degree)
        )

    def outer(layout, s, x, seed, degree):
        return sum(
            kernels.outer(band.layout, s, own(band, x), band.seed, band.degree)
            for band in bands(layout, seed, degree)
        )

    return Kernels(scatter, gather, outer)

"""Random connectivity that is made on the fly and never stored."""

from collections.abc import Hashable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt32

from . import gpu, native, tpu
from ._check import (
    as_number,
    check_probability,
    check_seed,
    check_size,
    check_values,
    checked_events,
    checked_values,
    concrete,
    gather,
    scatter,
)
from ._family import Layout, family
from ._jit_bands import as_band, band_width, banded, seed_of, widths
from ._jit_matrix import MAX_POST, JITForm, Law, degree_bits, halves, row_keys
from ._jit_weights import NORMAL, UNIFORM, coefficients, weights
from ._operator import AbstractOperator
from .cpu import _jit as cpu
from .xla import _jit as xla

FAMILY = family(
    "jit",
    banded(xla.KERNELS),
    cpu=native.preferred(native.JIT, banded(cpu.KERNELS)),
    cuda=banded(gpu.jit),
    tpu=banded(tpu.jit),
)
MAX_WIDTH = 1024  # synapses of a row visited at once
LANES = 16  # of a vector of 16-bit words


class JIT(AbstractOperator):
    """A Bernoulli(p) matrix that is never stored: its rows come from a hash of (seed, i, k).

    Made by `jit_homogeneous`, `jit_uniform` and `jit_normal`. `weight` holds the parameters of the
    weights, which have derivatives: one number, (low, high), or (mean, sd). Memory is 4 bytes a
    pre-synaptic neuron, however many synapses; with more than 2^14 columns, 4 for each band of
    them: of 2^14, 2^15 or 2^16 columns, if rows have 256 synapses or more in so many, and at most
    64, 128 or 256 bands. `degree` is then a row a band.
    """

    weight: Float[Array, ""] | Float[Array, "2"]
    seed: UInt32[Array, ""]
    degree: Int32[Array, " n_pre"] | Int32[Array, "bands n_pre"]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    form: JITForm = eqx.field(static=True)
    tuning: Hashable = eqx.field(static=True, default=None)

    def __init__(self, weight, seed, degree, n_pre: int, n_post: int, form: JITForm, tuning=None):
        self.weight, self.seed, self.degree = weight, seed, degree
        self.n_pre, self.n_post, self.form, self.tuning = n_pre, n_post, form, tuning

    @property
    def layout(self) -> Layout:
        """What the kernels need to know at compile time."""
        return Layout(
            self.n_pre, self.n_post, self.weight.shape, form=self.form, tuning=self.tuning
        )

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        return scatter(FAMILY, self.layout, y, s, self._line(y.dtype), self.seed, self.degree)

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return gather(FAMILY, self.layout, self._line(x.dtype), x, self.seed, self.degree)

    def as_matrix(self):
        if self.n_pre <= self.n_post:
            return self.mm(jnp.eye(self.n_pre, dtype=self.weight.dtype))
        return self.mm_t(jnp.eye(self.n_post, dtype=self.weight.dtype)).T

    def as_coo(self):
        w = coefficients(self.layout, self._line(self.weight.dtype))
        ids = np.zeros(0, np.int32)
        pre, post, weight = [ids], [ids], [np.zeros(0, self.weight.dtype)]

        for b in range(self.form.bands if self.n_post else 0):
            band = as_band(self.layout, b, self.seed, self.degree)
            for n in range(xla.blocks(band.layout)[1]):
                made = _block_of_synapses(band.layout, jnp.int32(n), w, band.seed, band.degree)
                i, columns, inside, value = map(np.asarray, made)
                pre.append(np.broadcast_to(i[:, None], inside.shape)[inside])
                post.append(band.lo + columns[inside])
                weight.append(value[inside])
        if self.form.law is None:
            return np.concatenate(pre), np.concatenate(post), self.weight
        values = jnp.asarray(np.concatenate(weight), self.weight.dtype)
        return np.concatenate(pre), np.concatenate(post), values

    def _line(self, dtype):
        # (a, b) of the weights a + b draw; uniform draws are whole numbers, their mean is not
        w = self.weight.astype(dtype)
        if self.form.law != UNIFORM:
            return w
        width = w[1] - w[0]
        return jnp.stack([w[0] + width * jnp.asarray(UNIFORM.unit / 2, dtype), width])


@partial(jax.jit, static_argnums=0)
def _block_of_synapses(layout: Layout, n, w, seed, degree):
    size, _ = xla.blocks(layout)
    i = n * size + jnp.arange(size, dtype=jnp.int32)
    keys, k, columns, inside = xla.block(layout, i, seed, degree)
    each = jnp.broadcast_to(weights(layout, keys, k, columns, w), columns.shape)
    return i, columns, inside, each


def _make(weight: Array, law: Law | None, p: float, n_pre: int, n_post: int, seed: int) -> JIT:
    n_pre, n_post = check_size("n_pre", n_pre), check_size("n_post", n_post)
    p, seed = check_probability(p), check_seed(seed)
    if n_post > MAX_POST:
        raise ValueError(
            f"n_post: {n_post}; it must be at most 2**30. Take parts: ops.Block([[a, b]])."
        )
    columns = widths(n_post, band_width(n_post, p))
    n_bands = len(columns)
    table = {n: _binomial(halves(n)[1] << halves(n)[0], float(p)) for n in set(columns)}
    degree = np.empty((n_bands, n_pre), np.int32)
    with jax.ensure_compile_time_eval():
        word, rows = jnp.uint32(seed), jnp.arange(n_pre, dtype=jnp.int32)
        for band, n in enumerate(columns):
            low, below = table[n]
            drawn = np.asarray(_degree_bits(seed_of(word, band, n_bands), rows))
            degree[band] = low + np.searchsorted(below, drawn.astype(np.uint64), side="right")
    bits, n_blocks = halves(columns[0])
    low, below = table[columns[0]]
    longest = low + below.size
    # Slices of whole vectors that hold all but one row in a thousand; a longer one has one more.
    mean = (n_blocks << bits) * float(p)
    usual = min(mean + 3 * (mean * (1 - p)) ** 0.5, longest)
    width = -(-usual // -(-usual // MAX_WIDTH)) if usual else 0
    width = max(-(-int(width) // LANES), 1) * LANES
    form = JITForm(bits, n_blocks, law, longest, width, n_bands)
    degree = jnp.asarray(degree if n_bands > 1 else degree[0])
    return JIT(weight, word, degree, n_pre, n_post, form)


@jax.jit
def _degree_bits(seed, rows):
    return degree_bits(row_keys(seed, rows))


def _binomial(n: int, p: float) -> tuple[int, np.ndarray]:
    """The least value of Binomial(n, p), and the distribution function from there to the value
    before the greatest, in units of 2^-32, beyond which less than half a unit lies."""
    # Ratios of neighbouring probabilities, from the mode: the four operations alone, in one order,
    # which give the same bits on every machine.
    mode = min(int((n + 1) * p), n)
    reach = int(9 * (n * p * (1 - p)) ** 0.5) + 60
    k = np.arange(max(mode - reach, 0), min(mode + reach, n) + 1, dtype=np.float64)
    up = k[k >= mode][:-1]
    down = k[k <= mode][:0:-1]
    odds = p / (1 - p) if p < 1 else np.inf
    above = np.cumprod((n - up) / (up + 1) * odds)
    beneath = np.cumprod(down / ((n - down + 1) * odds)) if p > 0 else down
    cdf = np.cumsum(np.concatenate([beneath[::-1], [1.0], above]))
    units = np.floor(cdf / cdf[-1] * 2.0**32 + 0.5)
    first, last = np.searchsorted(units, [1.0, 2.0**32])
    return int(k[first]), units[first:last].astype(np.uint64)


def jit_homogeneous(weight, p: float, n_pre: int, n_post: int, *, seed: int) -> JIT:
    """Every synapse with probability `p`, all with one weight, made on the fly.

    W_ij = weight with probability p, else 0, each pair on its own: Bernoulli, by a number of
    synapses from Binomial(n_post, p) and a random permutation of the columns for each row.

    **Arguments:** `weight`: one number (its derivative is there); `p`: in [0, 1]; `n_pre`,
    `n_post`: numbers of neurons; `seed`: a whole number in [0, 2^32). The same arguments give the
    same matrix, bit for bit, on every platform.

    **Returns:** an operator of 4 bytes a pre-synaptic neuron.

    **Raises:** `ValueError` for a `p` or `seed` out of range, or a weight that is not one finite
    number.

        >>> op = jit_homogeneous(0.5, 0.01, 1000, 2000, seed=7)
        >>> 18_000 < (op.as_matrix() > 0).sum() < 22_000
        Array(True, dtype=bool)

    Knight and Nowotny (2021), Nature Computational Science 1 (procedural connectivity).
    """
    return _make(as_number(weight, "weight"), None, p, n_pre, n_post, seed)


def jit_uniform(low, high, p: float, n_pre: int, n_post: int, *, seed: int) -> JIT:
    """As `jit_homogeneous`, with weights uniform in [low, high): `weight` is (low, high).

    W_ij = low + (high - low) u_ij, with u_ij an odd multiple of 2^-17; `high` itself comes only by
    rounding, in half precision or close to `low`.

    **Arguments:** `low`, `high`: one number each, of which both have derivatives; the others as of
    `jit_homogeneous`.

    **Raises:** as `jit_homogeneous`, and `ValueError` for `low` above `high`.
    """
    weight = _pair("low", low, "high", high)
    host = concrete(weight)
    if host is not None and host[0] > host[1]:
        raise ValueError(f"low: {host[0]} is above high = {host[1]}; swap them.")
    return _make(weight, UNIFORM, p, n_pre, n_post, seed)


def jit_normal(mean, sd, p: float, n_pre: int, n_post: int, *, seed: int) -> JIT:
    """As `jit_homogeneous`, with normal weights: `weight` is (mean, sd).

    W_ij = mean + sd z_ij, with z_ij of whole-number arithmetic: multiples of 1 / 3633, within 6e-4
    of the normal quantile up to 2 sd, 0.003 up to 3, and 0.025 up to 5.

    **Arguments:** `mean`, `sd`: one number each, of which both have derivatives; the others as of
    `jit_homogeneous`.

    **Raises:** as `jit_homogeneous`, and `ValueError` for an `sd` below 0.
    """
    weight = _pair("mean", mean, "sd", sd)
    host = concrete(weight)
    if host is not None and host[1] < 0:
        raise ValueError(f"sd: {host[1]}; a standard deviation must be at least 0.")
    return _make(weight, NORMAL, p, n_pre, n_post, seed)


def _pair(name_a, a, name_b, b) -> Array:
    return jnp.stack([as_number(a, name_a), as_number(b, name_b)])

"""Random matrices that are never stored: what they are, how random, that all ways agree."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import purebrain as pb
from purebrain import ops
from purebrain.ops._jit import _binomial
from purebrain.ops._jit_matrix import row_keys, target
from purebrain.ops._jit_weights import NORMAL, UNIFORM, split
from purebrain.ops.xla import _jit as xla

from . import helpers_jit as oracle
from .helpers_ops import without_type_checker

SIZES = [(1, 1), (3, 2), (40, 3), (50, 64), (30, 97), (20, 1000), (5, 40_000)]
SIZES += [(4, 2**14), (4, 2**15), (4, 2**16), (4, 2**16 - 100), (3, 2**18 + 1000)]  # words, bands


def uniform(p=0.1, n_pre=60, n_post=50, seed=1, low=-1.0, high=3.0):
    return ops.jit_uniform(low, high, p, n_pre, n_post, seed=seed)


def normal(p=0.1, n_pre=60, n_post=50, seed=1, mean=0.3, sd=2.0):
    return ops.jit_normal(mean, sd, p, n_pre, n_post, seed=seed)


def homogeneous(p=0.1, n_pre=60, n_post=50, seed=1, weight=0.7):
    return ops.jit_homogeneous(weight, p, n_pre, n_post, seed=seed)


LAWS = {"homogeneous": homogeneous, "uniform": uniform, "normal": normal}


@pytest.mark.parametrize(("n_pre", "n_post"), SIZES)
@pytest.mark.parametrize("p", [0.02, 0.5])
def test_synapses_are_those_of_the_definition(n_pre, n_post, p):
    pre, post, _ = ops.jit_homogeneous(1.0, p, n_pre, n_post, seed=77).as_coo()
    want_pre, want_post = oracle.synapses(77, p, n_pre, n_post)
    np.testing.assert_array_equal(pre, want_pre)
    np.testing.assert_array_equal(post, want_post)


@pytest.mark.parametrize("law", ["uniform", "normal"])
@pytest.mark.parametrize(("n_pre", "n_post"), SIZES)
@pytest.mark.parametrize("p", [0.02, 0.5])
def test_weights_are_those_of_the_definition(law, n_pre, n_post, p):
    op = pb.cast(LAWS[law](p, n_pre, n_post, 77), np.float64)
    *_, draw = oracle.synapses(77, p, n_pre, n_post, getattr(oracle, law))
    want = -1 + 4 * (draw + 2.0**-17) if law == "uniform" else 0.3 + 2 * draw
    np.testing.assert_allclose(op.as_coo()[2], want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n_post", [1, 2, 3, 20, 97, 1000, 4097, 2**14, 2**15, 2**16])
def test_a_row_is_a_permutation(n_post):
    words = oracle.row_words(5, np.arange(10)[:, None])
    a = n_post.bit_length() // 2
    size = -(-n_post // 2**a) * 2**a
    k = np.arange(size)
    assert (np.sort(oracle.columns(words, k[None].astype(np.uint64), n_post)) == k).all()


@pytest.mark.parametrize("n_post", [97, 30_000, 2**14, 2**15, 2**16, 2**20 + 1, 2**30])
def test_words_of_16_and_32_bits_agree(n_post):
    keys = tuple(key[:, None] for key in row_keys(jnp.uint32(3), jnp.arange(200, dtype=jnp.int32)))
    bits = n_post.bit_length() // 2
    blocks = -(-n_post // 2**bits)
    k = jnp.arange(min(n_post, 500), dtype=jnp.uint32)[None]
    wide, narrow = (target(keys, k, bits, blocks, w) for w in (jnp.uint32, jnp.uint16))
    np.testing.assert_array_equal(wide, narrow)
    assert int(wide.max()) < blocks * 2**bits


@pytest.mark.parametrize("n", [0, 1, 5, 60, 2000, 10**6, 2**30])
@pytest.mark.parametrize("p", [0.0, 1e-6, 0.01, 0.5, 0.99, 1.0])
def test_the_number_of_synapses_is_binomial(n, p):
    low, units = _binomial(n, p)
    k = np.arange(low, low + units.size)
    want = stats.binom.cdf(k, n, p) * 2.0**32
    # scipy's own distribution function is good to about 1e-11 for the largest n.
    np.testing.assert_allclose(units.astype(float), want, atol=1 + 2.0**32 * 3e-11 * (n > 10**7))
    assert stats.binom.cdf(low - 1, n, p) < 2.0**-31
    assert stats.binom.sf(low + units.size, n, p) < 2.0**-31


def chi_square(count, expected, df=None):
    """The p value of counts."""
    count, expected = np.asarray(count), np.broadcast_to(expected, np.shape(count))
    return stats.chi2.sf(((count - expected) ** 2 / expected).sum(), df or count.size - 1)


def test_every_subset_of_few_columns_is_as_likely_as_bernoulli_says():
    op = ops.jit_homogeneous(1.0, 0.3, 60_000, 4, seed=9)
    subset = np.asarray(op.as_matrix(), int) @ [1, 2, 4, 8]
    size = np.array([bin(s).count("1") for s in range(16)])
    expected = 60_000 * 0.3**size * 0.7 ** (4 - size)
    assert chi_square(np.bincount(subset, minlength=16), expected) > 1e-3


@pytest.mark.parametrize(("n_pre", "n_post", "p"), [(3000, 1000, 0.1), (2000, 97, 0.3)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_degrees_and_correlations_are_those_of_bernoulli(n_pre, n_post, p, seed):
    m = np.asarray(ops.jit_homogeneous(1.0, p, n_pre, n_post, seed=seed).as_matrix())
    variance = p * (1 - p)
    for n, degree in ((n_post, m.sum(1)), (n_pre, m.sum(0))):
        total = ((degree - n * p) ** 2).sum() / (n * variance)
        assert 1e-4 < stats.chi2.cdf(total, degree.size) < 1 - 1e-4
    x = (m - p) / np.sqrt(variance)
    # Neighbours, and columns and rows a power of two apart, do not know of each other.
    for lag in (1, 2, 4, 8, 16, 32, 64):
        for a, b in ((x[:, lag:], x[:, :-lag]), (x[lag:], x[:-lag])):
            assert abs((a * b).mean()) * np.sqrt(a.size) < 4.5, lag
    # Nor do any two columns: the variance of their overlaps.
    overlap = (x.T @ x)[np.triu_indices(n_post, 1)] / np.sqrt(n_pre)
    assert abs(overlap.var() - 1) < 6 * np.sqrt((2 + overlap.mean()) / overlap.size) + 0.06


@pytest.mark.parametrize(("bits", "degree"), [(16, 100), (16, 655), (15, 328), (14, 256)])
def test_columns_of_a_word_are_those_of_bernoulli(bits, degree):
    """Pairs of synapses a power of two apart, counted over all rows and in each, as of random sets
    of so many columns."""
    n_pre, n = 2000, 2**bits
    words = oracle.row_words(3, np.arange(n_pre)[:, None])
    post = oracle.columns(words, np.arange(degree, dtype=np.uint64)[None], n)
    there = np.zeros((n_pre, n), bool)
    np.put_along_axis(there, post, True, 1)
    share = degree / n
    indegree = there.sum(0)
    total = ((indegree - n_pre * share) ** 2).sum() / (n_pre * share * (1 - share))
    assert 1e-4 < stats.chi2.cdf(total, n) < 1 - 1e-4
    expected = degree * (degree - 1) / (n - 1)
    for lag in 2 ** np.arange(bits):
        plus = np.take_along_axis(there, (post + lag) % n, 1).sum(1)
        flipped = np.take_along_axis(there, post ^ lag, 1).sum(1) / 2
        # Half the columns apart, a pair is counted from both its ends.
        plus, expected_plus = (plus / 2, expected / 2) if lag == n // 2 else (plus, expected)
        for pairs, mean in ((plus, expected_plus), (flipped, expected / 2)):
            assert abs(pairs.mean() - mean) < 4.5 * np.sqrt(mean / n_pre), lag
            assert abs(pairs.var() / mean - 1) < 6 * np.sqrt((2 + 1 / mean) / n_pre), lag
    steps = np.diff(post, axis=1) % n
    for part, n_parts in ((steps >> 8, n >> 8), (steps & 255, 256)):
        count = np.bincount(part.ravel(), minlength=n_parts)
        assert chi_square(count, steps.size / n_parts) > 1e-4


@pytest.mark.parametrize(("bits", "degree"), [(16, 6000), (15, 3276), (14, 1638), (14, 8000)])
def test_columns_of_a_word_have_no_lattice(bits, degree):
    """Rows of many synapses: however far apart two are, by their difference or by their bits, no
    row has many more of such pairs than a random set."""
    n_pre, n = 300, 2**bits
    words = oracle.row_words(8, np.arange(n_pre)[:, None])
    post = oracle.columns(words, np.arange(degree, dtype=np.uint64)[None], n)
    there = np.zeros((n_pre, n), np.float32)
    np.put_along_axis(there, post, 1, 1)
    spectrum = np.abs(np.fft.rfft(there)) ** 2
    differences = np.fft.irfft(spectrum, n)[:, 1 : n // 2]
    pairs = there.reshape(n_pre, *[2] * bits)
    for power in (1, 2):  # the Walsh-Hadamard transform, of its square
        for axis in range(1, bits + 1):
            a, b = np.moveaxis(pairs, axis, 0)
            pairs = np.stack([a + b, a - b], axis)
        pairs = pairs**2 if power == 1 else pairs / n
    flipped = pairs.reshape(n_pre, n)[:, 1:] / 2
    mean = degree * (degree - 1) / (n - 1)
    sets = (1 - degree / n) ** 2  # less than of counts of independent pairs
    for count, expected in ((differences, mean), (flipped, mean / 2)):
        np.testing.assert_allclose(count.mean(), expected, rtol=1e-3)
        scale = count.var(0) / (expected * sets)
        assert abs(scale.mean() - 1) < 0.01 and scale.max() < 1.7  # 4.5 standard deviations: 1.4


def test_matrices_of_long_rows_are_in_bands():
    op = homogeneous(p=0.005, n_pre=30, n_post=140_000)
    assert op.degree.shape == (3, 30)
    pre, post, _ = op.as_coo()
    counts = np.histogram2d(pre, post, [np.arange(31), [0, 2**16, 2**17, 140_000]])[0]
    width = np.array([2**16, 2**16, 140_000 - 2**17])
    z = (counts - width * 0.005) / np.sqrt(width * 0.005 * 0.995)
    assert 1e-4 < stats.chi2.cdf((z**2).sum(), z.size) < 1 - 1e-4
    assert abs(np.corrcoef(z.T)[np.triu_indices(3, 1)]).max() < 4.5 / np.sqrt(30)
    assert len(set(zip(pre, post, strict=True))) == pre.size  # none comes twice
    for p, n_post in ((0.005, 2**16), (0.99 / 256, 140_000), (0.005, 2**24 + 1), (0.5, 2**14)):
        assert homogeneous(p=p, n_pre=30, n_post=n_post).degree.shape == (30,)
    # As narrow as rows of 256 synapses allow, and of so many columns for each band.
    for p, n_post, n_bands in (
        *((2.0**-8, 2**16 + 1, 2), (2.0**-7, 2**15 + 1, 2), (2.0**-6, 2**14 + 1, 2)),
        *((0.99 / 64, 140_000, 5), (0.99 / 128, 140_000, 3)),
        *((0.5, 2**20, 64), (0.5, 2**20 + 1, 33), (0.5, 2**22, 128), (0.5, 2**22 + 1, 65)),
    ):
        assert homogeneous(p=p, n_pre=30, n_post=n_post).degree.shape == (n_bands, 30)


def test_no_other_seed_has_the_same_bands():
    made = [homogeneous(p=0.05, n_pre=10, n_post=3 * 2**14, seed=s) for s in (5, 5 + 0x9E3779B9)]
    bands = [
        {tuple(np.sort(post[(pre == 0) & (post >> 14 == b)] % 2**14)) for b in range(3)}
        for pre, post, _ in (op.as_coo() for op in made)
    ]
    assert len(set.union(*bands)) == 6


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("p", "n_post"),
    [
        (0.02, 20_000),
        *(pytest.param(*a, marks=pytest.mark.slow) for a in ((0.008, 70_000), (0.01, 2**15))),
    ],
)
def test_bands_and_words_bit_for_bit_both_ways(native, law, p, n_post):
    op = ops.tuned(LAWS[law](p=p, n_pre=5, n_post=n_post), ops.cpu.Tuning(native=native))
    pre, post, weight = op.as_coo()
    want = np.zeros((5, n_post))
    want[pre, post] = weight
    columns = np.concatenate([post[:: post.size // 40], [0, n_post - 1]])
    some = jnp.zeros((columns.size, n_post)).at[np.arange(columns.size), columns].set(1.0)
    eye = jnp.eye(5)
    np.testing.assert_array_equal(op.mm(eye), want)
    np.testing.assert_array_equal(op.mm(ops.pack(eye > 0)), want)
    np.testing.assert_array_equal(op.mm_t(some), want[:, columns].T)
    np.testing.assert_array_equal(jax.vmap(jax.vjp(op.mv, eye[0])[1])(some)[0], want[:, columns].T)


@pytest.mark.parametrize("native", [True, False])
def test_programs_do_not_grow_with_the_bands(native):
    def size(n_bands):
        op = homogeneous(p=0.004, n_pre=3, n_post=n_bands * 2**16 - 5)
        op = ops.tuned(op, ops.cpu.Tuning(native=native))
        s, x = jnp.ones(op.n_pre), jnp.ones(op.n_post)
        lowered = [jax.jit(lambda op, v: op.mv(v)).lower(op, s)]
        lowered += [jax.jit(lambda op, v: op.mv_t(v)).lower(op, x)]
        return sum(len(program.as_text()) for program in lowered)

    assert size(16) < 1.1 * size(4)


@pytest.mark.parametrize("shape", [(90,), (30, 3), (3, 29)])
@pytest.mark.parametrize("native", [True, False])
def test_numbers_of_synapses_of_another_shape_are_refused(native, shape):
    op = ops.tuned(homogeneous(p=0.004, n_pre=30, n_post=140_000), ops.cpu.Tuning(native=native))
    other = eqx.tree_at(lambda op: op.degree, op, jnp.ones(shape, jnp.int32))
    with without_type_checker(), pytest.raises(ValueError, match=r"degree: shape .* has \(3, 30\)"):
        other.mv(jnp.ones(30))


def test_reciprocal_pairs_and_spectrum_are_those_of_bernoulli():
    n, p = 1500, 0.05
    m = np.asarray(ops.jit_homogeneous(1.0, p, n, n, seed=4).as_matrix())
    pairs = (m * m.T)[np.triu_indices(n, 1)].sum()
    assert abs(pairs - n * (n - 1) / 2 * p**2) < 4.5 * np.sqrt(n * (n - 1) / 2 * p**2)
    singular = np.linalg.svd((m - p) / np.sqrt(n * p * (1 - p)), compute_uv=False)
    assert abs(singular[0] - 2) < 0.05  # Marchenko and Pastur (1967)


def test_seeds_and_rows_give_other_matrices():
    a, b = (ops.jit_homogeneous(1.0, 0.1, 500, 500, seed=s).as_matrix() for s in (0, 1))
    for x, y in ((a, b), (a[:-1], a[1:])):
        both = float((x * y).sum())
        assert abs(both - x.size * 0.01) < 5 * np.sqrt(x.size * 0.01)


@pytest.mark.parametrize("seed", [0, 5])
def test_weights_have_their_distribution(seed):
    low_high = np.asarray(uniform(0.5, 1000, 1000, seed).as_coo()[2])
    assert stats.kstest(low_high, stats.uniform(-1, 4).cdf).pvalue > 1e-3
    mean_sd = np.asarray(normal(0.5, 1000, 1000, seed).as_coo()[2])
    assert stats.kstest(mean_sd, stats.norm(0.3, 2).cdf).pvalue > 1e-3
    z = (mean_sd - 0.3) / 2
    assert abs(stats.kurtosis(z)) < 5 * np.sqrt(24 / z.size)
    tail = (abs(z) > 3).sum()
    assert abs(tail - z.size * 2 * stats.norm.sf(3)) < 5 * np.sqrt(z.size * 2 * stats.norm.sf(3))


def test_normal_draws_have_the_quantiles_that_are_said():
    """The distribution of all words: exact."""
    share = np.bincount(oracle.dither(np.arange(2**16, dtype=np.uint64))) / 2**16
    counts = np.zeros(64 * 900 + 1)
    counts[::900] = stats.binom.pmf(np.arange(65), 64, 0.5)
    mass = np.convolve(counts, np.convolve(share, share[::-1]))
    z = oracle.normal_of_steps(np.arange(mass.size) - mass.size // 2)
    assert (np.diff(z) >= 0).all() and abs((mass * z).sum()) < 1e-5
    assert abs((mass * z**2).sum() - 1) < 2e-4 and abs((mass * z**4).sum() - 3) < 2e-3
    below = np.cumsum(mass) - mass / 2
    error = abs(z - stats.norm.ppf(np.minimum(below, 1 - below)) * np.sign(below - 0.5) * -1)
    for end, bound in ((2, 6e-4), (3, 0.003), (5, 0.025)):
        assert error[abs(z) < end].max() < bound
        assert error[abs(z) < end].max() > bound / 2


def products_that_are_added(equations):
    """The sums and differences one of whose terms is a product."""
    made = {v: e.primitive.name for e in equations for v in e.outvars}
    sums = [e for e in equations if e.primitive.name in ("add", "sub")]
    return [e for e in sums if "mul" in [made.get(v) for v in e.invars if not hasattr(v, "val")]]


def test_parts_of_weights_are_the_same_however_products_are_contracted():
    """A compiler may make one operation of a product and a sum, which rounds once: of the parts no
    product is added, and of draws they give products that are exact."""
    w = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 2)), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda w: split(w, NORMAL))(w)
    assert jaxpr.eqns and not products_that_are_added(jaxpr.eqns)
    a, *parts = (np.asarray(part, np.float64) for part in split(w, NORMAL))
    np.testing.assert_array_equal(a, w[:, 0])
    np.testing.assert_allclose(sum(parts), np.asarray(w[:, 1]) * NORMAL.unit, rtol=2.0**-22)
    for part in parts:
        exact = part[:, None] * [2**15 - 1, -(2**15), 12345]
        np.testing.assert_array_equal(exact, exact.astype(np.float32))


@pytest.mark.parametrize("law", ["uniform", "normal"])
@pytest.mark.parametrize(("p", "n_pre", "n_post"), [(0.5, 1500, 1000), (0.3, 300, 2**14)])
def test_weights_do_not_know_of_each_other(law, p, n_pre, n_post):
    pre, post, weight = map(np.asarray, LAWS[law](p, n_pre, n_post, 4).as_coo())
    z = (weight - 1) / (4 / np.sqrt(12)) if law == "uniform" else (weight - 0.3) / 2
    m, there = np.zeros((n_pre, n_post)), np.zeros((n_pre, n_post), bool)
    m[pre, post], there[pre, post] = z, True
    squares = np.where(there, m**2 - 1, 0) / (z**2).std()
    # Of neighbours, and of columns and rows a power of two apart: themselves and their squares.
    for values in (m, squares):
        for lag in (1, 2, 3, 4, 8, 16, 32, 64, 128):
            for a, b in ((np.s_[:, lag:], np.s_[:, :-lag]), (np.s_[lag:], np.s_[:-lag])):
                pairs = (there[a] & there[b]).sum()
                assert abs((values[a] * values[b]).sum()) < 4.5 * np.sqrt(pairs), lag
    # Of the column, and of where it lies in the row.
    for place in (np.arange(n_post) - (n_post - 1) / 2, (-1.0) ** np.arange(n_post)):
        assert abs((m * place).sum()) < 4.5 * np.sqrt((there * place**2).sum())
    # Sums of rows and of columns vary as of weights drawn one by one.
    for axis in (0, 1):
        total = (m.sum(axis) ** 2 / there.sum(axis)).sum()
        assert 1e-4 < stats.chi2.cdf(total, m.shape[1 - axis]) < 1 - 1e-4
    # No row is a wave: the greatest of so many Fourier components of white noise.
    power = np.abs(np.fft.rfft(m, axis=1)[:, 1:-1]) ** 2 / there.sum(1, keepdims=True)
    assert power.max() < np.log(power.size) + 9


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(60, 50, 0.1), (4, 1200, 0.95)])  # one slice a row, and several
def test_one_matrix_bit_for_bit_in_every_use(law, dtype, size):
    n_pre, n_post, p = size
    op = pb.cast(LAWS[law](p, n_pre, n_post), dtype)
    pre, post, weight = op.as_coo()
    want = np.zeros((n_pre, n_post), dtype)
    want[pre, post] = weight
    eye_pre, eye_post = jnp.eye(n_pre, dtype=dtype), jnp.eye(n_post, dtype=dtype)
    zero = jnp.zeros(n_post, dtype)
    uses = {
        "as_matrix": op.as_matrix(),
        "mm": op.mm(eye_pre),
        "spikes": op.mm(ops.pack(eye_pre > 0)),
        "mm_t": op.mm_t(eye_post).T,
        "spikes_t": op.mm_t(ops.pack(eye_post > 0)).T,
        "forward mode": jax.vmap(lambda s: jax.jvp(op.mv, (s,), (s,))[1])(eye_pre),
        "reverse mode": jax.vmap(lambda x: jax.vjp(op.mv, eye_pre[0])[1](x)[0])(eye_post).T,
        "transposed": jax.vmap(lambda s: jax.vjp(op.mv_t, zero)[1](s)[0])(eye_pre),
        "without jit": jnp.stack([op.mv(s) for s in eye_pre[:3]]),
    }
    # The kernels of platforms without their own.
    line, layout = op._line(dtype)[None], op.layout
    structure = (op.seed, op.degree)
    uses["parallel"] = xla.scatter(
        layout, jnp.zeros((n_pre, n_post), dtype), eye_pre, line, *structure
    )
    uses["parallel, transposed"] = xla.gather(layout, line, eye_post, *structure).T
    for name, got in uses.items():
        np.testing.assert_array_equal(np.asarray(got), want[: len(got)], err_msg=name)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("batch", [None, 3])
def test_derivatives_by_the_weights_parameters(law, batch):
    op = LAWS[law]()
    rng = np.random.default_rng(0)
    s = jnp.asarray(rng.random((batch or 1, 60)) * (rng.random((batch or 1, 60)) < 0.5))
    x = jnp.asarray(rng.normal(size=(batch or 1, 50)))
    # W is linear in the parameters: the matrices at (1, 0) and (0, 1) are its derivatives.
    unit = jnp.eye(2) if op.weight.ndim else jnp.ones(())[None]

    def at(w):
        return eqx.tree_at(lambda op: op.weight, op, w)

    basis = [np.asarray(at(e).as_matrix()) for e in unit]
    want = np.array([(np.asarray(s) @ m * np.asarray(x)).sum() for m in basis])
    got = jax.grad(lambda w: jnp.sum(at(w).mm(s) * x))(op.weight)
    np.testing.assert_allclose(np.ravel(got), want, rtol=1e-12)
    got = jax.grad(lambda w: jnp.sum(at(w).mm_t(x) * s))(op.weight)
    np.testing.assert_allclose(np.ravel(got), want, rtol=1e-12)
    spikes = ops.pack(s > 0.5)
    want = np.array([((np.asarray(s) > 0.5) @ m * np.asarray(x)).sum() for m in basis])
    got = jax.grad(lambda w: jnp.sum(at(w).mm(spikes) * x))(op.weight)
    np.testing.assert_allclose(np.ravel(got), want, rtol=1e-12)
    parallel = xla.outer(op.layout, spikes.words, x, op.seed, op.degree).sum(0)
    line = jax.linear_transpose(lambda w: at(w)._line(float), op.weight)(parallel)[0]
    np.testing.assert_allclose(np.ravel(line), want, rtol=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_derivatives_in_half_precision(law):
    op = LAWS[law]()
    s = jnp.asarray(np.random.default_rng(0).random(60) < 0.3)

    def gradient(op):
        return jax.grad(lambda w: jnp.sum(eqx.tree_at(lambda op: op.weight, op, w).mv(s)))(
            op.weight
        )

    # Draws of either sign: about 100 of 1, each to 11 bits.
    half = gradient(pb.cast(op, jnp.float16))
    np.testing.assert_allclose(half, gradient(op), rtol=5e-3, atol=2e-2)


def test_low_high_mean_and_sd_have_derivatives_through_their_constructors():
    def total(low, high):
        return jnp.sum(uniform(low=low, high=high).as_matrix())

    value, gradient = jax.value_and_grad(total, (0, 1))(-1.0, 3.0)
    # Euler: W is linear in (low, high).
    np.testing.assert_allclose(-gradient[0] + 3 * gradient[1], value, rtol=1e-12)
    assert gradient[0] > 0 and gradient[1] > 0


def test_memory_does_not_grow_with_the_synapses():
    def bytes_of(p):
        op = ops.jit_normal(0.0, 1.0, p, 20_000, 20_000, seed=1)
        s = jax.ShapeDtypeStruct((20_000,), bool)
        made = jax.jit(lambda op, s: op.mv(s)).lower(op, s).compile().memory_analysis()
        return made.temp_size_in_bytes + made.argument_size_in_bytes

    # 4 million and 400 million synapses
    assert bytes_of(0.01) < 2**20 and bytes_of(0.999) < bytes_of(0.01) + 2**16


def test_seeds_share_one_compilation():
    traced = []

    @jax.jit
    def product(op, s):
        traced.append(1)
        return op.mv(s)

    s = jnp.ones(60, bool)
    a, b = (product(homogeneous(seed=seed), s) for seed in (1, 2))
    assert len(traced) == 1 and not np.array_equal(a, b)


def test_a_sweep_over_weights_equals_a_loop():
    op, s = normal(), jnp.asarray(np.random.default_rng(0).random(60) < 0.3)
    sds = jnp.array([0.5, 1.0, 2.0])
    swept = jax.vmap(lambda sd: normal(sd=sd).mv(s))(sds)
    looped = jnp.stack([normal(sd=sd).mv(s) for sd in sds])
    np.testing.assert_allclose(swept, looped, rtol=1e-13)
    assert not np.array_equal(swept[0], op.mv(s))


BAD = [
    (dict(p=1.5), ValueError, "p: 1.5; it must be a probability"),
    (dict(p=float("nan")), ValueError, "p: nan"),
    (dict(p="0.1"), ValueError, "p: '0.1'"),
    (dict(p=np.array(0.1)), ValueError, r"p: float64\[\]; .* such as p=0\.1"),
    (dict(p=0.1j), ValueError, "p: 0.1j; it must be a probability"),
    (dict(seed=-1), ValueError, r"seed: -1; it must be a whole number in \[0, 2\*\*32\)"),
    (dict(seed=2**32), ValueError, "seed: 4294967296"),
    (dict(seed=1.0), ValueError, "seed: 1.0"),
    (dict(n_pre=-1), ValueError, "n_pre"),
    (dict(n_post=2**30 + 1), ValueError, r"n_post: 1073741825; .* at most 2\*\*30"),
    (dict(weight=float("inf")), ValueError, "weight: inf"),
    (dict(weight=np.ones(3)), ValueError, r"weight: shape \(3,\); it must be one number"),
]


@pytest.mark.parametrize(("change", "error", "match"), BAD)
def test_bad_arguments(change, error, match):
    with without_type_checker(), pytest.raises(error, match=match):
        homogeneous(**change)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: uniform(low=2.0, high=1.0), "low: 2.0 is above high = 1.0"),
        (lambda: uniform(low=np.ones(2)), r"low: shape \(2,\)"),
        (lambda: normal(sd=-1.0), "sd: -1.0; a standard deviation must be at least 0"),
        (lambda: normal(mean=float("nan")), "mean: nan; it must be finite"),
        (lambda: normal(sd=float("inf")), "sd: inf; it must be finite"),
        (lambda: uniform(low=float("nan")), "low: nan; it must be finite"),
        (lambda: uniform(high=float("nan")), "high: nan; it must be finite"),
    ],
)
def test_bad_laws(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_it_is_a_rule_of_connect():
    key = jax.random.key(3)
    rule = pb.connect.jit(0.1, 0.6, key=key)
    op = rule(40, 30)
    assert isinstance(op, ops.JIT) and op.form.law is None and op.shape == (40, 30)
    assert abs((np.asarray(op.as_matrix()) > 0).mean() - 0.1) < 0.03
    np.testing.assert_array_equal(rule(40, 30).as_matrix(), op.as_matrix())
    other = pb.connect.jit(0.1, 0.6, key=jax.random.key(4))(40, 30)
    assert not np.array_equal(other.as_matrix(), op.as_matrix())
    assert pb.connect.jit(0.1, pb.Normal(0.0, 1.0), key=key)(4, 3).form.law == NORMAL
    uniform = pb.connect.jit(0.1, pb.Uniform(0.5, 1.0), key=key)(4, 3)
    assert uniform.form.law == UNIFORM
    np.testing.assert_array_equal(uniform.weight, [0.5, 1.0])


FOUR_MILLION = """
import jax, jax.numpy as jnp, numpy as np
from purebrain import ops
n = 4_000_000
op = ops.jit_homogeneous(0.5, 80 / n, n, n, seed=1)
s = np.random.default_rng(0).random(n) < 0.001
y = jax.jit(lambda op, s: op.mv(s))(op, jnp.asarray(s))
assert abs(float(y.sum()) / (0.5 * 80 * s.sum()) - 1) < 0.02, float(y.sum())
# ru_maxrss would count what the process that started this one held.
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_four_million_neurons_with_80_synapses_each_take_less_than_4_gb():
    done = subprocess.run(
        [sys.executable, "-c", FOUR_MILLION], capture_output=True, text=True, check=True
    )
    assert 10**8 < int(done.stdout) * 1024 < 4 * 10**9

"""Random matrices and delayed synapses by native kernels: what those of XLA give."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

import purebrain as pb
from purebrain import ops

pytest.importorskip("numba", reason="native kernels are compiled by Numba")

LAWS = {
    "homogeneous": lambda *args: ops.jit_homogeneous(0.7, *args, seed=3),
    "uniform": lambda *args: ops.jit_uniform(-1.0, 3.0, *args, seed=3),
    "normal": lambda *args: ops.jit_normal(0.3, 2.0, *args, seed=3),
}
# p, n_pre, n_post: few columns, one slice of a row, and several; a word's columns, more, and bands
# of 2^14, 2^15 and 2^16
SIZES = [(0.5, 3, 1), (0.7, 5, 3), (0.95, 4, 1200), (0.005, 5, 40_000)]
SIZES += [(0.005, 3, 2**16), (0.001, 3, 70_000)]
SIZES += [(0.05, 3, 20_000), (0.01, 3, 70_000), (0.005, 3, 140_000)]
CLOSE = {np.float32: 1e-6, np.float64: 1e-12}
OFF = ops.cpu.Tuning(native=False)
each_law = pytest.mark.parametrize("law", LAWS)
each_dtype = pytest.mark.parametrize("dtype", CLOSE)


def pair(law, dtype):
    """One operator with native kernels, and with those of XLA."""
    op = pb.cast(LAWS[law](0.1, 60, 50), dtype)
    return op, ops.tuned(op, OFF)


def assert_close(got, want, dtype):
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE[dtype] * max(1, abs(want).max()))


def values(dtype, batch, n, share=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(batch, n)) * (rng.random((batch, n)) < share), dtype)


@each_law
@each_dtype
def test_the_matrix_is_the_same_bit_for_bit(law, dtype):
    native, other = pair(law, dtype)
    want = np.asarray(other.as_matrix())
    np.testing.assert_array_equal(native.as_matrix(), want)
    np.testing.assert_array_equal(native.mm_t(jnp.eye(50, dtype=dtype)).T, want)
    np.testing.assert_array_equal(native.mm(ops.pack(jnp.eye(60) > 0)), want)


def dense(op):
    """The matrix, of the synapses as they are shown."""
    pre, post, weight = op.as_coo()
    matrix = np.zeros(op.shape, op.weight.dtype)
    matrix[pre, post] = weight
    return matrix


@each_law
@each_dtype
@pytest.mark.parametrize("size", SIZES)
def test_products_with_the_dense_matrix(law, dtype, size):
    op = pb.cast(LAWS[law](*size), dtype)
    matrix = dense(op)
    np.testing.assert_array_equal(op.mm(jnp.eye(size[1], dtype=dtype)), matrix)
    floats, x = values(dtype, 3, size[1], 0.5), values(dtype, 3, size[2])
    for s in (floats, floats > 0, ops.pack(floats > 0)):
        want = np.asarray(floats if s is floats else floats > 0, float) @ matrix
        assert_close(op.mm(s), want.astype(dtype), dtype)
    assert_close(op.mm_t(x), (np.asarray(x, float) @ matrix.T).astype(dtype), dtype)


@each_law
@each_dtype
@pytest.mark.parametrize("own_weights", [False, True])
@pytest.mark.parametrize(("p", "n_post"), [(0.01, 140_000), (0.4, 900), (1.0, 900)])
def test_sums_of_many_rows(law, dtype, own_weights, p, n_post):
    # Examples of no event, few and more than a byte counts; the targets' values to add to.
    op = pb.cast(LAWS[law](p, 700, n_post), dtype)
    pre, post, weight = op.as_coo()
    share = np.array([0.0, 0.05, 1.0])[:, None]
    s, y = values(dtype, 3, 700, share), values(dtype, 3, n_post)
    factor = jnp.array([1, 2, 3] if own_weights else [1, 1, 1], dtype)

    def product(factor, s, y):
        moved = eqx.tree_at(lambda op: op.weight, op, op.weight * factor)
        return moved.mv_add(y, s)

    axes = (0, 0, 0) if own_weights else (None, 0, 0)
    matrix = sparse.csr_array(
        (np.broadcast_to(weight, pre.shape).astype(float), (pre, post)), op.shape
    )
    for given in (s, ops.pack(s != 0)):
        wide = np.asarray(s if given is s else s != 0, float) * np.asarray(factor)[:, None]
        got = jax.vmap(product, axes)(factor if own_weights else factor[0], given, y)
        atol = 4 * CLOSE[dtype] * (abs(wide) @ abs(matrix)).max()  # of what is added up
        np.testing.assert_allclose(got, wide @ matrix + np.asarray(y), rtol=0, atol=atol)
    x = np.asarray(values(dtype, 1, n_post)[0], float)  # one example: rows are summed whole
    atol = 4 * CLOSE[dtype] * (abs(matrix) @ abs(x)).max()
    np.testing.assert_allclose(op.mv_t(jnp.asarray(x, dtype)), matrix @ x, rtol=0, atol=atol)


@each_dtype
def test_an_infinite_weight_reaches_its_targets_alone(dtype):
    op = pb.cast(LAWS["homogeneous"](0.01, 200, 140_000), dtype)
    op = eqx.tree_at(lambda op: op.weight, op, jnp.asarray(jnp.inf, dtype))  # as of a lost training
    got = op.mv(ops.pack(jnp.ones(200, bool)))
    reached = np.zeros(140_000, bool)
    reached[op.as_coo()[1]] = True
    np.testing.assert_array_equal(got, np.where(reached, np.inf, 0))


@each_law
@pytest.mark.parametrize(
    ("tuning", "dtype"),
    [(None, np.float32), (None, np.float64), pytest.param(OFF, np.float64, marks=pytest.mark.slow)],
)
def test_derivatives_in_bands(law, tuning, dtype):
    op = ops.tuned(pb.cast(LAWS[law](0.01, 3, 140_000), dtype), tuning)
    assert op.degree.shape == (5, 3)
    s, x = values(dtype, 2, 3), values(dtype, 2, 140_000)

    def loss(w, s, x):
        moved = eqx.tree_at(lambda op: op.weight, op, w)
        return jnp.sum(moved.mm(s) * x) + jnp.sum(moved.mm_t(x) * s)

    # W is linear in the parameters: the matrices at (1, 0) and (0, 1) are its derivatives.
    unit = jnp.eye(2, dtype=dtype) if op.weight.ndim else jnp.ones(1, dtype)
    basis = [dense(eqx.tree_at(lambda op: op.weight, op, e.reshape(op.weight.shape))) for e in unit]
    wide_s, wide_x = np.asarray(s, float), np.asarray(x, float)
    by_w, by_s, by_x = jax.grad(loss, (0, 1, 2))(op.weight, s, x)
    terms = [(wide_s @ m.astype(float)) * wide_x for m in basis]
    scale = max(abs(t).sum() for t in terms)  # of what is added up, of either sign
    np.testing.assert_allclose(
        np.ravel(by_w), [2 * t.sum() for t in terms], rtol=0, atol=CLOSE[dtype] * scale
    )
    matrix = dense(op).astype(float)
    assert_close(by_s, (2 * wide_x @ matrix.T).astype(dtype), dtype)
    assert_close(by_x, (2 * wide_s @ matrix).astype(dtype), dtype)


@each_law
@each_dtype
@pytest.mark.parametrize("batch", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_products_with_those_of_xla(law, dtype, batch):
    native, other = pair(law, dtype)
    s, x = values(dtype, batch, 60, 0.5), values(dtype, batch, 50)
    for given in (s, ops.pack(s > 0)):
        assert_close(native.mm(given), other.mm(given), dtype)
    assert_close(native.mm_t(x), other.mm_t(x), dtype)


@each_law
def test_a_view_of_packed_spikes(law):
    native, other = pair(law, np.float64)
    spikes = ops.pack(values(np.float64, 2, 100) > 0)[:, 30:90]
    assert_close(native.mm(spikes), other.mm(spikes), np.float64)


@each_law
@each_dtype
@pytest.mark.parametrize("batch", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("packed", [False, True])
def test_derivatives(law, dtype, batch, packed):
    s, x = values(dtype, batch, 60, 0.5), values(dtype, batch, 50)
    if packed:
        s = ops.pack(s > 0)

    def gradients(op):
        def of(w, s):
            op_w = eqx.tree_at(lambda op: op.weight, op, w)
            return jnp.sum(op_w.mm(s) * x)

        by_weight = jax.grad(of)(op.weight, s)
        if packed:
            return (by_weight,)
        transposed = jax.grad(lambda x: jnp.sum(op.mm_t(x) ** 2))(x)
        return by_weight, jax.grad(of, 1)(op.weight, s), transposed

    for got, want in zip(*map(gradients, pair(law, dtype)), strict=True):
        assert_close(got, want, dtype)


@each_law
@each_dtype
def test_each_example_with_weights_of_its_own(law, dtype):
    s, x = values(dtype, 3, 60, 0.5), values(dtype, 3, 50)
    factors = jnp.array([0.5, 1.0, 2.0], dtype)

    def sweep(op):
        def one(factor, s, x):
            scaled = eqx.tree_at(lambda op: op.weight, op, op.weight * factor)
            return scaled.mv(s), scaled.mv_t(x)

        return jax.vmap(one)(factors, s, x)

    for got, want in zip(*map(sweep, pair(law, dtype)), strict=True):
        assert_close(got, want, dtype)


def delayed(n_pre=40, n_post=30, indegree=9):
    rng = np.random.default_rng(1)
    steps = rng.integers(1, 9, n_pre * indegree)
    # Rows of no synapse, and one of more than are placed at once.
    indptr = np.sort(rng.integers(0, steps.size, n_pre - 1))
    indptr[: n_pre // 2] = 0
    indptr = np.concatenate([[0], indptr, [steps.size]])
    ids = rng.integers(0, n_post, steps.size).astype(np.int32)
    return lambda w: ops.DelayedCSR(ops.CSR(w, indptr, ids, n_post), steps * 0.1)


@each_dtype
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_delayed_synapses(dtype, each, packed):
    op = delayed()(jnp.asarray(values(dtype, 1, 360)[0] if each else 0.7, dtype))
    ring, s = values(dtype, 3, 240), values(dtype, 3, 40, 0.5)
    other = eqx.tree_at(lambda op: op.csr, op, ops.tuned(op.csr, OFF))
    given = ops.pack(s > 0) if packed else s

    def send(op, ring, s):
        return jax.vmap(lambda ring, s: op.send(ring, s, jnp.int32(21), 0.1))(ring, s)

    assert_close(send(op, ring, given), send(other, ring, given), dtype)

    def gradients(op):
        def of(w, ring):
            op_w = eqx.tree_at(lambda op: op.csr.weight, op, w)
            return jnp.sum(send(op_w, ring, given) ** 2)

        return jax.grad(of, (0, 1))(op.csr.weight, ring)

    for got, want in zip(gradients(op), gradients(other), strict=True):
        assert_close(got, want, dtype)


@pytest.mark.parametrize("wrong", ["indices", "delay"])
def test_places_beyond_the_ring_are_errors(wrong):
    op = delayed()(jnp.asarray(1.0))
    bad = jnp.full(360, 30 if wrong == "indices" else 10**9, jnp.int32)
    where = (lambda op: op.csr.indices) if wrong == "indices" else (lambda op: op.delay)
    op = eqx.tree_at(where, op, bad)
    with pytest.raises(Exception, match="an id of the connectivity is out of bounds"):
        op.send(jnp.zeros(240), jnp.ones(40, bool), jnp.int32(0), 0.1).block_until_ready()

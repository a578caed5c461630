"""Operators made of operators, and lineax on them, against dense NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops

from .helpers_ops import without_type_checker


def csr(rng, n_pre=7, n_post=5, weight=None):
    m = rng.random((n_pre, n_post)) < 0.5
    pre, post = np.nonzero(m)
    indptr = np.append(0, np.cumsum(m.sum(1)))
    w = rng.normal(size=pre.size) if weight is None else weight
    return ops.CSR(w, indptr, post, n_post)


def operators():
    """Each with its matrix, made by NumPy from those of the parts."""
    rng = np.random.default_rng(0)
    a, b = csr(rng), csr(rng, weight=0.3)
    c, d = csr(rng, 7, 4), ops.jit_normal(0.0, 1.0, 0.4, 3, 4, seed=1)
    m, n, k, j = (np.asarray(x.as_matrix()) for x in (a, b, c, d))
    zero = np.zeros((3, 5))
    return {
        "sum": (a + b, m + n),
        "three": (a + b + a, m + n + m),
        "scaled": (2.5 * a, 2.5 * m),
        "scaled right": (b * jnp.float64(-1), -n),
        "negative": (-a, -m),
        "difference": (a - b, m - n),
        "divided": (a / 4, m / 4),
        "divided by an array": (b / jnp.float64(-0.3), n / -0.3),
        "rows": (a[2:6], m[2:6]),
        "rows and columns": (a[2:, 1:4], m[2:, 1:4]),
        "negative ends": (a[:-1, -2:], m[:-1, -2:]),
        "no rows": (a[3:3], m[3:3]),
        "part of a sum": ((a + b)[1:, :3], (m + n)[1:, :3]),
        "block": (ops.Block([[a, c], [None, d]]), np.block([[m, k], [zero, j]])),
        "of compositions": (
            0.5 * ops.Block([[a, c]])[1:, 2:8] + ops.Block([[b, c]])[1:, 2:8],
            0.5 * np.block([[m, k]])[1:, 2:8] + np.block([[n, k]])[1:, 2:8],
        ),
    }


OPERATORS = operators()
A, ONES = csr(np.random.default_rng(0)), jnp.ones(5)
EVENTS = {
    "float": lambda s: jnp.asarray(s),
    "bool": lambda s: jnp.asarray(s > 0),
    "packed": lambda s: ops.pack(jnp.asarray(s > 0)),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("kind", EVENTS)
def test_products_both_ways(name, kind):
    op, m = OPERATORS[name]
    rng = np.random.default_rng(1)
    for n, product, matrix in ((m.shape[0], op.mv, m), (m.shape[1], op.mv_t, m.T)):
        s = np.where(rng.random(n) < 0.5, rng.random(n), 0.0)
        dense = s if kind == "float" else (s > 0).astype(float)
        np.testing.assert_allclose(product(EVENTS[kind](s)), dense @ matrix, rtol=1e-12, atol=1e-12)
    batch = rng.random((3, m.shape[0])) < 0.5
    np.testing.assert_allclose(op.mm(jnp.asarray(batch)), batch @ m, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_matrix_and_synapses(name):
    op, m = OPERATORS[name]
    assert op.shape == m.shape and op.dtype == m.dtype
    np.testing.assert_allclose(op.as_matrix(), m, rtol=1e-14, atol=1e-14)
    pre, post, weight = op.as_coo()
    from_synapses = np.zeros_like(m)
    np.add.at(from_synapses, (pre, post), np.broadcast_to(weight, pre.shape))
    np.testing.assert_allclose(from_synapses, m, rtol=1e-14, atol=1e-14)


HALF, SINGLE = (pb.cast(A, dtype) for dtype in (jnp.bfloat16, jnp.float32))


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        (HALF - HALF, jnp.bfloat16),
        (ops.Block([[0.5 * HALF, None], [None, -HALF]]), jnp.bfloat16),
        ((2.0 * HALF)[1:], jnp.bfloat16),
        (SINGLE - SINGLE / 2, jnp.float32),
        (ops.Block([[SINGLE, 0.5 * (SINGLE + SINGLE)]]), jnp.float32),
        (SINGLE, jnp.float32),
    ],
)
def test_precision_is_that_of_the_weights(op, dtype):
    """Factors promoted that of compositions, and operands that of the transposed product."""
    assert op.dtype == dtype
    assert op.as_matrix().dtype == op.mv(jnp.ones(op.n_pre)).dtype == dtype
    for given in (jnp.float16, jnp.float32, jnp.float64):
        wider = given if jnp.dtype(given).itemsize > jnp.dtype(dtype).itemsize else dtype
        assert op.mv_t(jnp.ones(op.n_post, given)).dtype == wider


def test_transposed_products_of_two_precisions_are_of_the_wider():
    large = ops.Dense(jnp.full((2, 2), 1e5))
    assert jnp.all(large.mv_t(jnp.ones(2, jnp.float16)) == 2e5)
    half = pb.cast(ops.Dense(jnp.ones((2, 2))), jnp.float16)
    x = jnp.full(2, 1e5)
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_array_equal((half + large / 1e5).mv_t(x), [4e5, 4e5])
        np.testing.assert_array_equal(
            ops.Block([[half, large / 1e5]]).mv_t(jnp.full(4, 1e5)), [4e5] * 2
        )


@pytest.mark.parametrize("name", OPERATORS)
def test_whole_numbers_are_values_both_ways(name):
    op, m = OPERATORS[name]
    s, x = np.arange(m.shape[0]) % 3, np.arange(m.shape[1]) % 4
    with without_type_checker():
        np.testing.assert_allclose(op.mv(jnp.asarray(s)), s @ m, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(op.mv_t(jnp.asarray(x)), m @ x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "op", [csr(np.random.default_rng(0), weight=0.3), ops.jit_normal(0, 1, 0.3, 9, 8, seed=1)]
)
def test_a_few_weights_are_scaled_themselves(op):
    """So that a product takes no pass over the neurons more."""
    assert type(2 * op) is type(-op) is type(op / 3) is type(op)


class OfLog(ops.AbstractOperator):
    """exp(log) from each neuron to itself: of a weight that is no field."""

    one: ops.OneToOne
    log: jax.Array
    n_pre: int = eqx.field(static=True, default=2)
    n_post: int = eqx.field(static=True, default=2)

    @property
    def weight(self):
        return jnp.exp(self.log)

    def mv_add(self, y, s):
        return self.one.mv_add(y, s * self.weight)

    def mv_t(self, x):
        return self.one.mv_t(x) * self.weight

    def as_matrix(self):
        return self.weight * self.one.as_matrix()

    def as_coo(self):
        pre, post, weight = self.one.as_coo()
        return pre, post, weight * self.weight


def test_what_has_no_weights_to_scale_is_scaled_behind_it():
    half = pb.cast(ops.OneToOne(0.1, 2), jnp.float16)
    got = (1e6 * half).mv_add(jnp.zeros(2, jnp.float32), jnp.ones(2))
    np.testing.assert_allclose(got, 1e5, rtol=1e-3)
    of_log = OfLog(ops.OneToOne(1.0, 2), jnp.log(jnp.array(3.0)))
    np.testing.assert_allclose((2 * of_log).mv(jnp.ones(2)), 6, rtol=1e-12)


def test_parts_leave_the_side_that_is_whole_as_it_is():
    jaxpr = jax.make_jaxpr(lambda s, y: A[:, :].mv_add(y, s))(ops.pack(jnp.ones(7, bool)), ONES)
    assert "pad" not in str(jaxpr) and " add " not in str(jaxpr)


@pytest.mark.parametrize("name", OPERATORS)
def test_derivatives_by_every_weight(name):
    op, m = OPERATORS[name]
    rng = np.random.default_rng(2)
    s, x = jnp.asarray(rng.random(m.shape[0])), jnp.asarray(rng.random(m.shape[1]))
    weights, rest = eqx.partition(op, eqx.is_inexact_array)
    by_product = jax.grad(lambda w: eqx.combine(w, rest).mv(s) @ x)(weights)
    by_matrix = jax.grad(lambda w: s @ eqx.combine(w, rest).as_matrix() @ x)(weights)
    for got, want in zip(jax.tree.leaves(by_product), jax.tree.leaves(by_matrix), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_as_linear_operator_is_the_transposed_matrix(name):
    op, m = OPERATORS[name]
    linear = op.as_linear_operator()
    x = jnp.asarray(np.random.default_rng(3).random(m.shape[1]))
    np.testing.assert_allclose(linear.as_matrix(), m.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(linear.T.mv(x), m @ np.asarray(x), rtol=1e-12, atol=1e-12)


def test_derivatives_by_a_divisor():
    (op, m), rng = OPERATORS["rows"], np.random.default_rng(3)
    s, x = rng.random(m.shape[0]), rng.random(m.shape[1])

    def f(d):
        return (op / d).mv(jnp.asarray(s)) @ x

    want = s @ m @ x
    for order, right in ((jax.grad(f), -want / 4), (jax.grad(jax.grad(f)), 2 * want / 8)):
        np.testing.assert_allclose(order(2.0), right, rtol=1e-12)


def recurrent(kind, n=30):
    if kind == "csr":
        rng = np.random.default_rng(0)
        return csr(rng, n, n, None)
    if kind == "jit":
        return ops.jit_normal(0.0, 0.3, 0.3, n, n, seed=2)
    indices = np.random.default_rng(1).integers(0, n, (n, 9))
    return ops.FixedOutdegree(0.1, indices, n)


@pytest.mark.parametrize(
    "kind", ["csr", *(pytest.param(k, marks=pytest.mark.slow) for k in ("jit", "outdegree"))]
)
def test_lineax_solves_with_it(kind):
    """The steady state of a linear rate network: r = r W + x."""
    op = recurrent(kind)
    m = np.asarray(op.as_matrix())
    gain = 0.5 / np.abs(np.linalg.eigvals(m)).max()
    system = ops.OneToOne(1.0, 30) + (-gain) * op
    x = jnp.asarray(np.random.default_rng(5).random(30))
    solver = lineax.GMRES(rtol=1e-12, atol=1e-12, restart=30)
    rate = lineax.linear_solve(system.as_linear_operator(), x, solver).value
    np.testing.assert_allclose(rate, np.linalg.solve(np.eye(30) - gain * m.T, x), rtol=1e-8)

    def total(gain):
        system = ops.OneToOne(1.0, 30) + (-gain) * op
        return jnp.sum(lineax.linear_solve(system.as_linear_operator(), x, solver).value)

    difference = (total(gain + 1e-6) - total(gain - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(total)(gain), difference, rtol=1e-5)


BAD = [
    (lambda: A + A[1:], ValueError, r"terms: shapes \[\(6, 5\), \(7, 5\)\]"),
    (lambda: ops.Sum(), ValueError, "terms: shapes"),
    (lambda: A + 1.0, TypeError, "unsupported operand"),
    (lambda: A * A, TypeError, "unsupported operand"),
    (lambda: A * np.ones(5), TypeError, "unsupported operand|does not support ufuncs"),
    (lambda: A * float("nan"), ValueError, "factor: nan; it must be finite"),
    (lambda: A * "a", TypeError, "factor: 'a'; it must be real numbers"),
    (lambda: None * A, TypeError, "factor: None; it must be real numbers"),
    (lambda: A * [1.0, 2.0], ValueError, r"factor: shape \(2,\); it must be one number"),
    (lambda: A * 1j, TypeError, "factor: complex"),
    (lambda: A - A[1:], ValueError, r"terms: shapes \[\(6, 5\), \(7, 5\)\]"),
    (lambda: A - 1.0, TypeError, "unsupported operand"),
    (lambda: 1.0 - A, TypeError, "unsupported operand"),
    (lambda: A / A, TypeError, "unsupported operand"),
    (lambda: 1.0 / A, TypeError, "unsupported operand"),
    (lambda: A / np.ones(5), TypeError, "unsupported operand|does not support ufuncs"),
    (lambda: A / 0, ValueError, "1 / divisor: inf; it must be finite"),
    (lambda: A / float("nan"), ValueError, "divisor: nan; it must be finite"),
    (lambda: A / "a", TypeError, "divisor: 'a'; it must be real numbers"),
    (lambda: ops.Sum(1), TypeError, r"terms\[0\]: 1; .*ops.AbstractOperator, .*ops.Dense"),
    (lambda: ops.Scaled(3, 1.0), TypeError, "op: 3; it must be an ops.AbstractOperator"),
    (lambda: A[0], IndexError, "slices without stride"),
    (lambda: A[::2], IndexError, "slices without stride"),
    (lambda: A[:, :, :], IndexError, "slices without stride"),
    (lambda: ops.Block([[A, A], [A]]), ValueError, r"blocks: rows of \[1, 2\] blocks"),
    (lambda: ops.Block([]), ValueError, r"blocks: rows of \[\].*Block\(\[\[a, b\]"),
    (lambda: ops.Block([A, A]), TypeError, r"blocks\[0\]: CSR; .*Block\(\[\[a, b\]"),
    (lambda: ops.Block(A), TypeError, r"blocks: CSR; .*Block\(\[\[a, b\]"),
    (lambda: ops.Block(None), TypeError, r"blocks: None; .*Block\(\[\[a, b\]"),
    (lambda: ops.Block([[1, 2]]), TypeError, r"blocks\[0\]\[0\]: 1; it must be an ops.AbstractO"),
    (lambda: ops.Block([[A, None], "a"]), TypeError, r"blocks\[1\]\[0\]: 'a'; it must be"),
    (
        lambda: ops.Block([[ops.AllToAll(1.0, 1, 2**30), ops.AllToAll(1.0, 1, 2**30)]]),
        ValueError,
        r"blocks: n_post in all: 2147483648; it must be .* to 2\*\*31 - 1",
    ),
    (lambda: ops.Block([[A], [None]]), ValueError, "blocks: row 1 has operators of n_pre"),
    (lambda: ops.Block([[A, A[1:]]]), ValueError, r"row 0 has operators of n_pre \[6, 7\]"),
    (
        lambda: ops.Block([[A], [A[:, 1:]]]),
        ValueError,
        r"column 0 has operators of n_post \[4, 5\]",
    ),
    (lambda: (A + A).mv(jnp.ones(6)), ValueError, r"s: shape \(6,\)"),
    (lambda: A[1:].mv(jnp.ones(7)), ValueError, r"s: shape \(7,\)"),
    (lambda: A[1:].mv_t(jnp.ones(7)), ValueError, r"x: shape \(7,\)"),
    (lambda: ops.Block([[A], [A]]).mv(jnp.ones(7)), ValueError, r"s: shape \(7,\)"),
]


@pytest.mark.parametrize(("call", "error", "match"), BAD, ids=[m for *_, m in BAD])
def test_bad_input(call, error, match):
    with without_type_checker(), pytest.raises(error, match=match):
        call()

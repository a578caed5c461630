"""The spectral radius and its derivative, against SciPy's eigenvalues and vectors."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import purebrain as pb
from purebrain import ops

from .helpers_ops import without_type_checker

KEY = jax.random.key(0)


def csr(n=30, seed=0):
    rng = np.random.default_rng(seed)
    there = rng.random((n, n)) < 0.5
    indptr = np.append(0, np.cumsum(there.sum(1)))
    w = rng.normal(size=indptr[-1])
    return ops.CSR(w, indptr, np.nonzero(there)[1], n)


def dense(*eigenvalues, seed=0):
    """Of these eigenvalues: complex ones bring their conjugates."""
    blocks = [[[np.real(e), np.imag(e)], [-np.imag(e), np.real(e)]] for e in eigenvalues]
    blocks = [b if np.imag(e) else [[e]] for b, e in zip(blocks, eigenvalues, strict=True)]
    m = scipy.linalg.block_diag(*blocks)
    basis = np.random.default_rng(seed).normal(size=m.shape)
    return ops.Dense(np.linalg.solve(basis, m @ basis))


OPERATORS = {
    "csr, a pair": csr(),
    "jit": ops.jit_normal(0.0, 0.3, 0.3, 30, 30, seed=2),
    "outdegree": ops.FixedOutdegree(0.1, np.random.default_rng(1).integers(0, 30, (30, 9)), 30),
    "one": dense(-1.2, 0.8, 0.3),
    "a pair": dense(0.9 + 0.5j, -0.6, 0.2 + 0.1j, 0.1),
    "a narrow pair": dense(1 + 1e-5j, 0.5),
    "of one neuron": ops.Dense(np.array([[-3.0]])),
}


def exact(m):
    """The spectral radius, and its derivative by every entry."""
    values, left, right = scipy.linalg.eig(m, left=True)
    n = np.argmax(np.abs(values))
    turned = np.conj(values[n]) / np.abs(values[n])
    u, v = left[:, n].conj(), right[:, n]
    return np.abs(values[n]), np.real(turned * np.outer(u, v) / (u @ v))


@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_that_of_the_eigenvalues(name):
    op = OPERATORS[name]
    m = np.asarray(op.as_matrix())
    rho, by_entry = exact(m)
    radius = partial(ops.spectral_radius, key=KEY, n_steps=2000)
    value, by_weight = eqx.filter_value_and_grad(radius)(op)
    np.testing.assert_allclose(value, rho, rtol=1e-9)
    _, pull = eqx.filter_vjp(lambda op: op.as_matrix(), op)
    want = pull(jnp.asarray(by_entry))[0].weight
    scale = np.abs(want).max()
    np.testing.assert_allclose(by_weight.weight, want, rtol=1e-6, atol=1e-6 * scale)


def test_it_has_forward_and_second_derivatives():
    op, step = OPERATORS["one"], jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))

    def radius(t):
        moved = eqx.tree_at(lambda op: op.weight, op, op.weight + t * step)
        return ops.spectral_radius(moved, key=KEY)

    def along(t):
        m = np.asarray(op.weight + t * step)
        return np.sum(exact(m)[1] * np.asarray(step))

    np.testing.assert_allclose(jax.jvp(radius, (0.0,), (1.0,))[1], along(0.0), rtol=1e-9)
    difference = (along(1e-5) - along(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(jax.grad(radius))(0.0), difference, rtol=1e-6)


@pytest.mark.parametrize(
    "op", [ops.OneToOne(2.0, 3), ops.AllToAll(2.0, 4, 4), ops.Dense(np.array([[1.0, 2], [3, 4]]))]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_second_derivatives_of_simple_operators_are_finite(op, dtype):
    """Their vectors converge to the last bit; of the norm of nothing the derivative was NaN."""
    op = pb.cast(op, dtype)

    def radius(f):
        return ops.spectral_radius(f * op, key=KEY)

    one = jnp.ones((), dtype)
    np.testing.assert_allclose(jax.grad(radius)(one), radius(one), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(jax.grad(radius))(one), 0, atol=1e-4)


def test_a_derivative_that_has_not_converged_is_not_told():
    """Of these the sign would be wrong in one: 200 steps are too few."""
    known = 0
    for seed in range(8):
        w = np.random.default_rng(seed).normal(size=(200, 200)) / np.sqrt(200)
        op = ops.Dense(jnp.asarray(w))
        along, gradient = eqx.filter_jit(
            eqx.filter_value_and_grad(lambda op: ops.spectral_radius(op, key=KEY))
        )(op)
        rho, want = exact(w)
        got = np.asarray(gradient.weight)
        known += np.isfinite(got).all()
        assert np.isnan(got).all() or np.linalg.norm(got - want) < 0.5 * np.linalg.norm(want)
        np.testing.assert_allclose(along, rho, rtol=0.02)
    assert 0 < known < 8


@pytest.mark.parametrize("eigenvalues", [(1.0, -1.0), (1.0, 1.0, 1.0)])
def test_several_of_the_same_size(eigenvalues):
    value = ops.spectral_radius(dense(*eigenvalues, 0.3), key=KEY)
    np.testing.assert_allclose(value, 1, rtol=1e-9)


def test_a_cycle():
    """Five in one circle: no plane, but Gelfand's limit."""
    op = ops.CSR(2.0, np.arange(6), (np.arange(5) + 1) % 5, 5)
    np.testing.assert_allclose(ops.spectral_radius(op, key=KEY), 2, rtol=0.02)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("float16", 1.0), ("float16", 1e-4), ("float32", 1e20), ("float32", 1e-20)],
)
def test_sizes_whose_squares_are_no_numbers(dtype, value):
    """They were 0."""
    op = ops.Dense(jnp.full((300, 300), value, dtype))
    want = 300 * float(jnp.asarray(value, dtype))
    np.testing.assert_allclose(ops.spectral_radius(op, key=KEY), want, rtol=2e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_hidden(bad):
    """They gave 1."""
    f = jax.jit(lambda w: ops.spectral_radius(ops.Dense(w), key=KEY))
    assert np.isnan(f(jnp.ones((3, 3)).at[0, 1].set(bad)))


def test_a_nilpotent_matrix_has_0_and_no_derivative():
    op = ops.CSR(1.0, np.array([0, 1, 2, 2]), np.array([1, 2]), 3)  # 0 -> 1 -> 2
    value, gradient = eqx.filter_value_and_grad(partial(ops.spectral_radius, key=KEY))(op)
    assert value == 0 and np.isnan(gradient.weight)
    assert ops.spectral_radius(ops.Dense(jnp.zeros((0, 0))), key=KEY) == 0


@pytest.mark.parametrize(
    ("op", "options", "error", "match"),
    [
        (csr()[1:], {}, ValueError, r"op: shape \(29, 30\)"),
        (csr(), {"n_steps": 1}, ValueError, "n_steps: 1"),
        (csr(), {"n_steps": 2.5}, ValueError, r"n_steps: 2\.5; it must be a whole number"),
        (csr(), {"key": 0}, TypeError, r"key: 0; it must be one key, such as jax\.random\.key\(0"),
        (3, {}, TypeError, "op: 3; it must be an ops"),
    ],
)
def test_bad_input(op, options, error, match):
    with without_type_checker(), pytest.raises(error, match=match):
        ops.spectral_radius(op, **{"key": KEY, **options})

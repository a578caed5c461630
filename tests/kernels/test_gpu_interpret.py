"""The GPU kernels in Pallas' interpreter, against dense matrices: their logic, on any machine."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purebrain import ops
from purebrain.ops._jit_bands import banded
from purebrain.ops.gpu import Tuning
from tests.kernels import operators
from tests.kernels.operators import DT, FORMS, N_SLOTS, STEP, STORED, matrix

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(
        jax.__version_info__ < (0, 11, 2),
        reason=f"jax {jax.__version__}: Mosaic GPU kernels need 0.11.2",
    ),
]
INTERPRET = Tuning(programs=3, interpret=True)
WEIGHTS = [(form, True) for form in STORED] + [(form, False) for form in FORMS]
each_form = pytest.mark.parametrize(("form", "per_synapse"), WEIGHTS)
SIZES = [(1, 1), (11, 6)]


def interpreted(f):
    def kernels(form):
        from purebrain.ops.gpu import _kernels, _rows

        made = _kernels.kernels(getattr(_rows, form.upper()))
        return banded(made) if form == "jit" else made

    return operators.with_kernels(kernels, f)


@each_form
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("deterministic", [False, True])
def test_products(form, per_synapse, sizes, deterministic):
    tuning = Tuning(programs=3, interpret=True, deterministic=deterministic, chunk=96)
    op = operators.make(form, per_synapse, float, *sizes, tuning=tuning)
    s, y = operators.spikes((2, op.n_pre), float), operators.spikes((2, op.n_post), float, 1.0)
    view = ops.pack(jnp.concatenate([~(s != 0)[:, :2], s != 0, ~(s != 0)[:, :3]], -1))
    lo = min(2, op.n_pre)
    view, w = view.neurons(slice(lo, lo + op.n_pre)), matrix(op)
    close = dict(rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(interpreted(jax.vmap(op.mv_add))(y, s), y + s @ w, **close)
    np.testing.assert_allclose(interpreted(op.mm)(view), (np.asarray(s) != 0) @ w, **close)
    np.testing.assert_allclose(interpreted(op.mm_t)(y), y @ w.T, **close)


@each_form
def test_derivatives(form, per_synapse):
    """By weights, spikes and values, of the dense function of the same weights."""
    op = operators.make(form, per_synapse, float, 9, 7, INTERPRET)
    s, y = operators.spikes((2, 9), float), operators.spikes((2, 7), float, 1.0)

    def with_weight(w):
        return eqx.tree_at(lambda op: op.weight, op, w)

    def loss(w, s, y):
        return jnp.sum(jnp.sin(jax.vmap(with_weight(w).mv_add)(y, s)))

    def dense(w, s, y):
        # The matrix is linear in the weights.
        each = jnp.stack([jnp.asarray(matrix(with_weight(e))) for e in basis])
        return jnp.sum(jnp.sin(y + s @ jnp.tensordot(w.reshape(-1), each, 1)))

    basis = jnp.eye(op.weight.size).reshape(-1, *op.weight.shape)
    got = interpreted(jax.grad(loss, (0, 1, 2)))(op.weight, s, y)
    for a, b in zip(got, jax.grad(dense, (0, 1, 2))(op.weight, s, y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_post", [2**16, 140_000])
def test_random_matrices_of_words_and_in_bands(n_post):
    op = ops.tuned(ops.jit_uniform(-1.0, 1.0, 0.004, 3, n_post, seed=2), INTERPRET)
    s, x = operators.spikes((3,), float, 0.7), operators.spikes((n_post,), float, 1.0)
    np.testing.assert_allclose(interpreted(op.mv)(s), s @ matrix(op), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(interpreted(op.mv_t)(x), matrix(op) @ x, rtol=1e-12, atol=1e-12)


def test_delayed_synapses():
    op, age, ring = operators.delayed(float, INTERPRET)
    s = operators.spikes(op.shape[0], float)
    got = interpreted(lambda s, ring: op.send(ring, s, jnp.int32(STEP), DT))(s, ring)
    pre, post, weight = op.csr.as_coo()
    want = np.array(ring).reshape(N_SLOTS, -1)
    np.add.at(want, ((STEP + age) % N_SLOTS, post), np.asarray(s)[pre] * np.asarray(weight))
    np.testing.assert_allclose(got, want.reshape(-1), rtol=1e-12, atol=1e-12)

"""Products of half-precision operators, against float64: sums are made in single precision."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops
from purebrain.ops import cpu

N, K = 2000, 900
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 40, (N, K)).astype(np.int32)  # of few targets, each of which has many terms
OWN = RNG.uniform(0.5, 1.5, (N, K))
INDPTR = np.arange(0, N * K + 1, K)


def csr(weight):
    return ops.CSR(weight, INDPTR, IDS.reshape(-1), 40)


MAKE = {
    "csr": lambda: csr(1.1),
    "csr, own weights": lambda: csr(OWN.reshape(-1)),
    "fixed_outdegree": lambda: ops.FixedOutdegree(1.1, IDS, 40),
    "fixed_outdegree, own weights": lambda: ops.FixedOutdegree(OWN, IDS, 40),
    "fixed_indegree": lambda: ops.FixedIndegree(1.1, IDS[:40], 40),
    "fixed_indegree, own weights": lambda: ops.FixedIndegree(OWN[:40], IDS[:40], 40),
    "dense": lambda: ops.Dense(OWN[:, :40]),
    "all_to_all": lambda: ops.AllToAll(1.1, N, 40),
    "all_to_all, no autapses": lambda: ops.AllToAll(1.1, N, N, autapses=False),
    "jit_homogeneous": lambda: ops.jit_homogeneous(1.1, 0.5, N, 3000, seed=1),
    "jit_uniform": lambda: ops.jit_uniform(0.5, 1.5, 0.5, N, 3000, seed=1),
    "jit_normal": lambda: ops.jit_normal(1.0, 0.2, 0.5, N, 3000, seed=1),
}


def halves(form, dtype, native):
    """The operator in half precision, and its matrix in double, of the same rounded weights."""
    op = ops.tuned(pb.cast(MAKE[form](), dtype), cpu.Tuning(native=native))
    return op, np.asarray(op.as_matrix() if form.startswith("jit") else exact(op), float)


def exact(op):
    return pb.cast(op, float).as_matrix()


def assert_rounded_once(got, want, dtype):
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(float), want, rtol=1.01 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize(
    ("dtype", "native"),
    [
        (jnp.bfloat16, False),
        (jnp.float16, True),
        pytest.param(jnp.float16, False, marks=pytest.mark.slow),
        pytest.param(jnp.bfloat16, True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("form", MAKE)
def test_products_are_rounded_once(form, native, dtype):
    """They were added up in half precision: 5,000 times 1 was 256."""
    op, m = halves(form, dtype, native)
    few = jnp.asarray(RNG.random(op.n_pre) < 0.1)
    values = jnp.asarray(RNG.uniform(0.0, 0.1, op.n_pre), dtype)
    for s in (few, ~few, ops.pack(few), values, jnp.where(few, values, 0)):
        dense = s.to_dense() if isinstance(s, ops.Spikes) else s
        assert_rounded_once(op.mv(s), np.asarray(dense, float) @ m, dtype)
    x = jnp.asarray(RNG.uniform(0.0, 0.1, op.n_post), dtype)
    assert_rounded_once(op.mv_t(x), m @ np.asarray(x, float), dtype)


def test_more_values_than_half_precision_can_count():
    op = ops.AllToAll(jnp.asarray(1e-3, jnp.float16), 100_000, 3)
    assert_rounded_once(op.mv(jnp.ones(op.n_pre, bool)), 1e5 * float(op.weight), jnp.float16)


@pytest.mark.parametrize("form", ["csr, own weights", "fixed_outdegree, own weights"])
def test_weights_are_not_copied_in_single_precision(form):
    """Time and memory would be those of all synapses, spikes or not (as they are with bfloat16 in
    JAX 0.10, whose XLA takes the conversion out of the loop)."""
    op, _ = halves(form, jnp.float16, native=False)
    arrays, static = eqx.partition(op, eqx.is_array)
    run = jax.jit(lambda arrays, s: eqx.combine(arrays, static).mv(s))
    memory = run.lower(arrays, jnp.zeros(N, bool)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < op.weight.nbytes / 4

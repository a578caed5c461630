"""Which kernels a TPU gets, and what is said where it gets none: on any machine and JAX."""

import jax
import jax.numpy as jnp
import pytest

from purebrain import ops
from purebrain.ops.tpu import Tuning
from tests.kernels import operators
from tests.kernels.tpu_targets import as_if_on


def text(f, *args, target="v5e"):
    """What is lowered for a TPU that need not be here."""
    with as_if_on(target):
        traced = jax.jit(lambda *args: f(*args)).trace(*args)
        return traced.lower(lowering_platforms=("tpu",)).as_text()


def dense(tuning=None):
    return ops.tuned(ops.Dense(operators.spikes((500, 40), share=1.0)), tuning)


def test_dense_matrices_are_tuned():
    s = jnp.ones(500, jnp.float32)
    default = text(dense().mv, s)
    assert "dense<31> : tensor<i32>" in default
    assert "dense<250> : tensor<i32>" in text(dense(Tuning(dense_share=0.5)).mv, s)
    assert text(dense(Tuning()).mv, s) == default != text(dense(Tuning(in_flight=8)).mv, s)


@pytest.mark.parametrize("form", ["fixed_outdegree", "csr", "jit_uniform"])
def test_sparse_matrices_are_tuned(form):
    op, s = operators.make(form), jnp.ones(70, jnp.float32)
    assert text(op.mv, s) != text(ops.tuned(op, Tuning(in_flight=8)).mv, s)

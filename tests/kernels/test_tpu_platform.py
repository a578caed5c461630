"""Which kernels a TPU gets, and what is said where it gets none: on any machine and JAX."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purebrain import ops
from purebrain.ops._say_once import say_once
from purebrain.ops.tpu import Tuning
from tests.kernels import operators
from tests.kernels.operators import DT, FORMS, STEP, STORED
from tests.kernels.tpu_targets import as_if_on


@pytest.fixture(autouse=True)
def nothing_said():
    say_once.cache_clear()


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


# ---- what is left to XLA -------------------------------------------------------------------------

LEFT = {
    "fixed_indegree": "ops.FixedIndegree: it has no TPU kernel, which ops.CSR and",
    "bfloat16": "bfloat16: the TPU kernels take float32",
    "bfloat16, dense": "bfloat16: the TPU kernels take float32",
    "delayed_csr": "ops.DelayedCSR: it has no TPU kernel, which ops.CSR has",
}


def product(case):
    """A product without a kernel, and its argument."""
    if case == "delayed_csr":
        op, _, ring = operators.delayed()
        return lambda s: op.send(ring, s, jnp.int32(STEP), DT), jnp.ones(70, jnp.float32)
    dtype = jnp.bfloat16 if case.startswith("bfloat16") else jnp.float32
    if case == "bfloat16, dense":
        return ops.Dense(jnp.ones((70, 50), dtype)).mv, jnp.ones(70, dtype)
    form = "csr" if case == "bfloat16" else case
    return operators.make(form, True, dtype).mv, jnp.ones(70, dtype)


@pytest.mark.parametrize("target", ["v5e", "v5p"])
@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_to_xla_is_said_once(target, case):
    f, s = product(case)
    with pytest.warns(UserWarning, match=LEFT[case]) as caught:
        lowered = text(f, s, target=target)
    assert "tpu_custom_call" not in lowered and len(caught) == 1
    assert text(lambda s: f(-s), s, target=target)  # a second warning would be an error here


def test_of_an_empty_connectivity_nothing_is_said():
    op = ops.FixedIndegree(0.5, np.zeros((3, 0), np.int32), 4)
    assert "tpu_custom_call" not in text(op.mv, jnp.ones(4))
    op = ops.FixedOutdegree(0.5, np.zeros((4, 0), np.int32), 3)
    assert "tpu_custom_call" not in text(op.mv, jnp.ones(4))


@pytest.mark.parametrize("target", ["v5e", "v5p"])
@pytest.mark.parametrize("form", FORMS)
def test_transposed_products_are_xlas_of_which_nothing_is_said(target, form):
    """Warnings are errors here."""
    op = operators.make(form, form in STORED)
    s, x = jnp.ones(70, jnp.float32), jnp.ones(50, jnp.float32)

    def product(weight):
        return eqx.tree_at(lambda op: op.weight, op, weight).mv(s)

    for f, a in ((op.mv_t, x), (lambda x: jax.linear_transpose(product, op.weight)(x), x)):
        assert "tpu_custom_call" not in text(f, a, target=target)

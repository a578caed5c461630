"""The kernels for any platform go through the synapses in blocks: the same result, in the memory of
a block."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purebrain import ops
from purebrain.ops.xla import _coo, _csr, _fixed_indegree, _fixed_outdegree
from tests.kernels import operators
from tests.kernels.operators import DT, STEP, STORED

KERNELS = {
    "fixed_outdegree": _fixed_outdegree.KERNELS,
    "fixed_indegree": _fixed_indegree.KERNELS,
    "csr": _csr.KERNELS,
    "delayed_csr": _csr.DELAYED_KERNELS,
}


def blocks_of(monkeypatch, synapses):
    """Blocks of so many synapses at most."""
    monkeypatch.setattr(_coo, "BLOCK", synapses)
    monkeypatch.setattr(_coo, "PER_NEURON", 0)


def in_xla(f, *args):
    return jax.jit(operators.with_kernels(KERNELS.__getitem__, f))(*args)


def results(op):
    """Products, their transposes, and derivatives by the weights, one by one and in a batch."""
    s, y = operators.spikes((3, op.n_pre)), operators.spikes((3, op.n_post), share=1.0)

    def by_weight(w):
        return jax.vmap(eqx.tree_at(lambda op: op.weight, op, w).mv)(s)

    def pull(w, y):
        return jax.linear_transpose(by_weight, w)(y)

    calls = [
        (jax.vmap(op.mv_add), y, s),
        (op.mv_add, y[0], s[0]),
        (op.mv_add, y[0], s[0] != 0),
        (op.mm_t, y),
        (op.mv_t, y[0]),
        (pull, op.weight, y),
    ]
    return [np.asarray(*jax.tree.leaves(in_xla(*call))) for call in calls]


@pytest.mark.parametrize("form", STORED)
@pytest.mark.parametrize("per_synapse", [True, False])
def test_blocks_change_no_result(monkeypatch, form, per_synapse):
    """Bit for bit where terms are added one by one. A compiler may take those of a sum in any
    order: of a target's row, and of a derivative by the weights."""
    op = operators.make(form, per_synapse)
    whole = results(op)
    blocks_of(monkeypatch, 150)
    for n, (got, want) in enumerate(zip(results(op), whole, strict=True)):
        if n == 5 or (form == "fixed_indegree" and n < 3):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(got, want)


def test_rows_without_synapses(monkeypatch):
    """Some in a row, first and last, and at the ends of blocks."""
    indptr = np.array([0, 0, 0, 3, 3, 4, 8, 8, 8, 9, 9])
    op = ops.CSR(jnp.arange(1.0, 10.0), indptr, np.arange(9) % 4, 4)
    for synapses in (1, 2, 4, 9, 100):
        blocks_of(monkeypatch, synapses)
        got = in_xla(op.mm, jnp.eye(10))
        np.testing.assert_array_equal(got, operators.matrix(op))


def test_delayed_synapses(monkeypatch):
    op, _, ring = operators.delayed()
    s = operators.spikes(op.shape[0])

    def send(ring, s):
        return op.send(ring, s, jnp.int32(STEP), DT)

    whole = in_xla(send, ring, s)
    np.testing.assert_allclose(whole, send(ring, s), rtol=1e-5, atol=1e-5)
    blocks_of(monkeypatch, 64)
    np.testing.assert_array_equal(in_xla(send, ring, s), whole)


@pytest.mark.parametrize("form", STORED)
@pytest.mark.parametrize("batch", [1, 2])
def test_memory_is_that_of_a_block(monkeypatch, form, batch):
    """Three numbers a synapse of it, and none for all synapses."""
    op = operators.make(form, True, n_pre=3000, n_post=3000)
    blocks_of(monkeypatch, 2048)
    s = jnp.zeros((batch, 3000), jnp.float32)
    arrays, static = eqx.partition(op, eqx.is_array)
    for f in (lambda op, s: op.mm(s), lambda op, s: op.mm_t(s)):
        run = jax.jit(lambda arrays, s, f=f: in_xla(f, eqx.combine(arrays, static), s))
        memory = run.lower(arrays, s).compile().memory_analysis()
        assert memory.temp_size_in_bytes < 3 * 4 * 2048 + 4 * s.nbytes + 2**14 < 4 * op.weight.size

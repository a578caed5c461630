"""The machine code of the GPU kernels, executed without a GPU: the PTX in the simulator."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops
from purebrain.ops._jit_bands import banded
from purebrain.ops.gpu import Tuning
from tests.kernels import operators, ptx_simulator
from tests.kernels.gpu_targets import needs_compiler, simulated
from tests.kernels.operators import DT, FORMS, N_SLOTS, STEP, STORED, matrix

pytestmark = [pytest.mark.kernels, needs_compiler]
SMALL = Tuning(programs=2)  # so that a group of lanes serves several rows
WEIGHTS = [(form, True) for form in STORED] + [(form, False) for form in FORMS]
each_form = pytest.mark.parametrize(("form", "per_synapse"), WEIGHTS)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 2e-2, "float16": 4e-3}


@pytest.fixture
def simulate(monkeypatch):
    """f -> f, with its kernels compiled for a GPU and executed by the simulator."""

    def on(f, edit=lambda ptx: ptx):
        from purebrain.ops.gpu import _events, _kernels, _rows, _sorted

        launch = simulated(monkeypatch, edit)
        for module in (_events, _kernels, _sorted):
            monkeypatch.setattr(module, "launch", launch)

        def kernels(form):
            made = _kernels.kernels(getattr(_rows, form.upper()))
            return banded(made) if form == "jit" else made

        return operators.with_kernels(kernels, f)

    return on


def assert_close(got, want, dtype=jnp.float32):
    tolerance = TOLERANCE[jnp.dtype(dtype).name]
    got, want = np.asarray(got, float), np.asarray(want, float)
    np.testing.assert_allclose(got, want, tolerance, tolerance * max(np.abs(want).max(), 1))


@each_form
def test_products(simulate, form, per_synapse):
    """Of a batch of floats, of packed spikes of a view, and transposed."""
    op = operators.make(form, per_synapse, tuning=SMALL)
    s, w = operators.spikes((3, op.n_pre)), matrix(op)
    y = operators.spikes((3, op.n_post), share=1.0)
    assert_close(simulate(op.mm)(s), np.asarray(s) @ w)
    view = ops.pack(jnp.concatenate([~(s != 0)[:, :5], s != 0, ~(s != 0)[:, :9]], -1))
    view = view.neurons(slice(5, 5 + op.n_pre))
    got = simulate(jax.vmap(op.mv_add))(y, view)
    assert_close(got, np.asarray(y) + (np.asarray(s) != 0) @ w)
    assert_close(simulate(op.mm_t)(y), np.asarray(y) @ w.T)


@each_form
def test_derivatives(simulate, form, per_synapse):
    """By the weights, the spikes and the values: all three kernels, against the CPU's."""
    op = operators.make(form, per_synapse, tuning=SMALL)
    s, y = operators.spikes((2, op.n_pre)), operators.spikes((2, op.n_post), share=1.0)

    def loss(weight, s, y):
        return jnp.sum(
            jnp.sin(jax.vmap(eqx.tree_at(lambda op: op.weight, op, weight).mv_add)(y, s))
        )

    gradient = jax.grad(loss, (0, 1, 2))
    with jax.numpy_rank_promotion("allow"):
        expected = gradient(op.weight, s, y)
    for got, want in zip(simulate(gradient)(op.weight, s, y), expected, strict=True):
        assert got.dtype == want.dtype
        assert_close(got, want)


@each_form
@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_precisions(simulate, form, per_synapse, dtype):
    op = operators.make(form, per_synapse, dtype, tuning=SMALL)
    s, w = operators.spikes((2, op.n_pre), dtype), matrix(op)
    y = operators.spikes((2, op.n_post), dtype, share=1.0)
    got = simulate(jax.vmap(op.mv_add))(y, s)
    assert got.dtype == dtype
    assert_close(got, np.asarray(y, float) + np.asarray(s, float) @ w, dtype)
    assert_close(simulate(op.mm_t)(y), np.asarray(y, float) @ w.T, dtype)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in STORED])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_random_matrix_is_the_same_bit_for_bit(simulate, form, dtype):
    op = operators.make(form, False, dtype, tuning=Tuning(programs=64))
    eye = jnp.eye(op.n_pre, dtype=dtype)
    want = np.asarray(op.mm(eye), float)
    assert 0.1 < np.mean(want != 0) < 0.3
    np.testing.assert_array_equal(np.asarray(simulate(op.mm)(eye), float), want)
    transposed = simulate(op.mm_t)(jnp.eye(op.n_post, dtype=dtype))
    np.testing.assert_array_equal(np.asarray(transposed, float).T, want)


def test_random_matrix_in_bands(simulate):
    """One of 2^14 columns, and the last, of 40."""
    op = ops.jit_uniform(-1.0, 1.0, 1 / 64, 3, (1 << 14) + 40, seed=2)
    op = ops.tuned(pb.cast(op, jnp.float32), SMALL)
    assert op.form.bands == 2
    s, y = operators.spikes((3,), share=1.0), operators.spikes((op.n_post,), share=1.0)
    with jax.disable_jit():  # a loop over bands in Python, around the simulator
        got, transposed = simulate(op.mv)(s), simulate(op.mv_t)(y)
    w = matrix(op)
    assert np.any(w[:, -40:])
    assert_close(got, np.asarray(s) @ w)
    assert_close(transposed, w @ np.asarray(y))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_delayed_synapses(simulate, dtype):
    op, age, ring = operators.delayed(dtype, SMALL)
    s = operators.spikes(op.shape[0], dtype)
    got = simulate(lambda s, ring: op.send(ring, s, jnp.int32(STEP), DT))(s, ring)
    pre, post, weight = op.csr.as_coo()
    want = np.array(ring, float).reshape(N_SLOTS, -1)
    terms = np.asarray(s, float)[pre] * np.asarray(weight, float)
    np.add.at(want, ((STEP + age) % N_SLOTS, post), terms)
    assert_close(got, want.reshape(-1), dtype)


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_lanes(simulate, lanes):
    op = operators.make("csr", True, tuning=Tuning(programs=1, lanes=lanes))
    s, y = operators.spikes((2, op.n_pre)), operators.spikes((2, op.n_post), share=1.0)
    assert_close(simulate(op.mm)(s), np.asarray(s) @ matrix(op))
    assert_close(simulate(op.mm_t)(y), np.asarray(y) @ matrix(op).T)


@each_form
@pytest.mark.parametrize("chunk", [128, 1 << 18])
def test_deterministic_mode(simulate, form, per_synapse, chunk):
    """In one chunk and in many: each target's terms are added in the order of their events."""
    tuning = Tuning(programs=2, deterministic=True, chunk=chunk)
    op = operators.make(form, per_synapse, n_post=7, tuning=tuning)
    s, y = operators.spikes((2, op.n_pre)), operators.spikes((2, op.n_post), share=1.0)
    f = jax.vmap(op.mv_add)
    with jax.disable_jit(chunk == 128):  # a loop over chunks in Python, around the simulator
        got = simulate(f)(y, s)
    pre, post, weight = op.as_coo()
    want = np.array(y, np.float32)
    weight = np.broadcast_to(np.asarray(weight, np.float32), pre.shape)
    order = np.argsort(pre, kind="stable")
    pre, post, weight = pre[order], post[order], weight[order]
    if chunk == 1 << 18:
        for b in range(2):
            for j in range(op.n_post):
                total = np.float32(0)
                for k in np.flatnonzero((post == j) & (np.asarray(s)[b, pre] != 0)):
                    total = np.float32(total + np.float32(np.asarray(s)[b, pre[k]] * weight[k]))
                want[b, j] += total
        np.testing.assert_array_equal(got, want)
    else:
        assert_close(got, np.asarray(y) + np.asarray(s) @ matrix(op))


def test_events(simulate, monkeypatch):
    """The list has every spike of every row once; no spike, and none but spikes, are no cases."""
    from purebrain.ops.gpu import _events

    monkeypatch.setattr(_events, "launch", simulated(monkeypatch))
    op = operators.make("csr")
    for share in (0.0, 0.1, 1.0):
        s = operators.spikes((3, op.n_pre), share=share)
        lo = 3
        bits = ops.pack(jnp.pad(s != 0, ((0, 0), (lo, 40)))).words
        layout = op.layout._replace(lo=lo)
        for values in (s, bits):
            listed, count = _events.events(layout, SMALL, values)
            n = int(count[0])
            assert sorted(listed[:n].tolist()) == np.flatnonzero(s).tolist()
            ordered, n = _events.sorted_events(layout, values)
            assert ordered[: int(n[0])].tolist() == np.flatnonzero(s).tolist()


# ---- that the simulator would notice -------------------------------------------------------------


def test_a_wrong_index_traps(simulate):
    op = operators.make("csr", True, tuning=SMALL)
    wrong = eqx.tree_at(lambda op: op.indices, op, op.indices.at[3].set(op.n_post + 100))
    s = jnp.ones((1, op.n_pre), jnp.float32)
    assert_close(simulate(op.mm)(s), np.asarray(s) @ matrix(op))
    with pytest.raises(ptx_simulator.Trap, match="atomic addition out of range"):
        simulate(wrong.mm)(s)


@pytest.mark.parametrize(
    ("correct", "wrong", "message"),
    [
        (r"(add\.u32 %r\d+, \[%rd\d+)", r"\1+2", "misaligned"),
        (r"(st\.global\.b32 \t\[%rd\d+)", r"\1+4096", "store out of range"),
        (r"@p atom", "@!p atom", "two threads store"),
        (r"(shfl\.sync\.up.*), -1;", r"\1, 1;", "not in its mask"),
    ],
)
def test_a_wrong_instruction_traps(simulate, correct, wrong, message):
    op = operators.make("csr", True, tuning=SMALL)
    s = operators.spikes((2, op.n_pre), share=0.9)
    with pytest.raises(ptx_simulator.Trap, match=message):
        simulate(op.mm, lambda ptx: re.sub(correct, wrong, ptx))(s)

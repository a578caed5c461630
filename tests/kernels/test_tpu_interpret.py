"""The TPU kernels in Pallas' interpreter, against dense matrices: their logic, on any machine."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from purebrain import ops
from purebrain.ops import tpu
from purebrain.ops._family import Kernels
from purebrain.ops._jit_bands import banded
from tests.kernels import operators
from tests.kernels.tpu_targets import as_if_on

pytestmark = pytest.mark.kernels

CORES = {
    "TensorCore": ("v5e", {}),
    "own accumulators": ("v5p", {}),
    "shared accumulator": ("7x", {"private": 0}),
}
each_core = pytest.mark.parametrize("core", CORES)


def interpreted(core, f, *args, **tuning):
    """f(*args), with the kernels of a TPU's core in the interpreter."""
    target, more = CORES[core]
    tuning = tpu.Tuning(**{"interpret": True, "in_flight": 3, "width": 128, **more, **tuning})

    def kernels(form):
        def tuned(kernel):
            return lambda layout, *args: kernel(
                layout._replace(tuning=tuning, constant=False), *args
            )

        made = Kernels(*(kernel and tuned(kernel) for kernel in getattr(tpu, form)))
        return banded(made) if form == "jit" else made

    with as_if_on(target):
        jaxpr = jax.make_jaxpr(operators.with_kernels(kernels, f))(*args)
    # What is traced for the TPU runs on this machine.
    return np.asarray(jax.jit(jax.extend.core.jaxpr_as_fun(jaxpr))(*args)[0])


def races_found(run=lambda: None):
    """Whether the interpreter finds a race in run(), or did in the last one: it raises or notes."""
    from jax._src.pallas.mosaic.interpret import interpret_pallas_call

    try:
        run()
    except jax.errors.JaxRuntimeError as error:
        assert "RACE DETECTED" in str(error)
        return True
    return interpret_pallas_call.races.races_found


def long_rows(n_pre=24, n_post=40):
    """CSR of empty, short and long rows: none, one and several pieces, the last at the end."""
    rng = np.random.default_rng(2)
    degrees = rng.integers(0, 9, n_pre)
    degrees[[3, 7, n_pre - 1]] = 150, 390, 300
    indptr = np.append(0, np.cumsum(degrees))
    weight = jnp.asarray(rng.normal(size=indptr[-1]), jnp.float32)
    return ops.CSR(weight, indptr, rng.integers(0, n_post, indptr[-1]), n_post)


def dense(n_pre=30, n_post=70):
    return ops.Dense(operators.spikes((n_pre, n_post), share=1.0))


CASES = {
    "fixed_outdegree": lambda: operators.make("fixed_outdegree", True),
    "fixed_outdegree, one weight": lambda: operators.make("fixed_outdegree"),
    "csr": lambda: operators.make("csr", True),
    "csr, long rows": long_rows,
    "jit_homogeneous": lambda: operators.make("jit_homogeneous"),
    "jit_uniform": lambda: operators.make("jit_uniform"),
    "jit_normal": lambda: operators.make("jit_normal"),
}


@each_core
@pytest.mark.parametrize("case", CASES)
def test_products(core, case):
    op = CASES[case]()
    s, y = operators.spikes((2, op.n_pre)), operators.spikes((2, op.n_post), share=1.0)
    got = interpreted(core, jax.vmap(op.mv_add), y, s)
    np.testing.assert_allclose(
        got, np.asarray(y) + np.asarray(s) @ operators.matrix(op), rtol=1e-5, atol=1e-5
    )
    assert not races_found()


@pytest.mark.parametrize("share", [0.05, 0.5])  # by rows, and by a product
def test_dense(share):
    op = dense()
    s, y = operators.spikes((2, op.n_pre), share=share), operators.spikes((2, op.n_post), share=1.0)
    got = interpreted("TensorCore", jax.vmap(op.mv_add), y, s)
    np.testing.assert_allclose(got, np.asarray(y + s @ op.weight), rtol=1e-5, atol=1e-5)
    assert not races_found()


@each_core
def test_packed_view(core):
    op = operators.make("csr", True)
    bits = operators.spikes((op.n_pre + 5,)) != 0
    view = ops.pack(bits).neurons(slice(2, 2 + op.n_pre))
    got = interpreted(
        core, lambda words: op.mv(eqx.tree_at(lambda v: v.words, view, words)), view.words
    )
    expected = np.asarray(bits, float)[2 : 2 + op.n_pre] @ operators.matrix(op)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@each_core
@pytest.mark.parametrize("form", ["csr", "fixed_outdegree", "jit_uniform"])
def test_weights_of_each_example(core, form):
    op = operators.make(form, form != "jit_uniform")
    scale = jnp.array([1.0, -2.0], jnp.float32)
    s = operators.spikes((2, op.n_pre))

    def product(s, scale):
        return eqx.tree_at(lambda op: op.weight, op, scale * op.weight).mv(s)

    got = interpreted(core, jax.vmap(product), s, scale)
    expected = np.asarray(scale)[:, None] * (np.asarray(s) @ operators.matrix(op))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@each_core
@pytest.mark.parametrize("form", ["jit_homogeneous", "jit_uniform", "jit_normal"])
def test_random_matrices_are_the_same_bits(core, form):
    op = operators.make(form, n_pre=12, n_post=90)
    rows = jnp.eye(op.n_pre, dtype=jnp.float32)
    np.testing.assert_array_equal(interpreted(core, op.mm, rows), op.as_matrix())


@each_core
def test_random_matrices_in_bands(core):
    low, high = jnp.float32([-1, 1])
    op = ops.jit_uniform(low, high, 0.004, 2, 140_000, seed=2)
    s = jnp.asarray([0.5, -2.0], jnp.float32)
    want = np.asarray(s) @ operators.matrix(op)
    np.testing.assert_allclose(interpreted(core, op.mv, s), want, rtol=1e-5, atol=1e-5)


def test_several_blocks_of_neurons():
    """More neurons than the TensorCore lists at once."""
    n = 32 * 512 + 700
    rng = np.random.default_rng(3)
    op = ops.FixedOutdegree(jnp.float32(0.5), rng.integers(0, 40, (n, 2)), 40)
    s = np.zeros(n, np.float32)
    s[[0, 511, 512, n - 1]] = 1, 2, 3, 4
    got = interpreted("TensorCore", op.mv, jnp.asarray(s))
    np.testing.assert_allclose(got, s @ operators.matrix(op), rtol=1e-6)


def test_several_blocks_of_targets():
    op = operators.make("fixed_outdegree", True, n_pre=9, n_post=2900)
    s = operators.spikes((op.n_pre,), share=0.9)
    got = interpreted("TensorCore", op.mv, s, block=8)
    np.testing.assert_allclose(got, np.asarray(s) @ operators.matrix(op), rtol=1e-5, atol=1e-5)


# ---- races are found -----------------------------------------------------------------------------


def test_a_racing_kernel_is_found():
    """The kernel that does not wait for its copy."""

    def run(wait):
        def kernel(x, out, row, semaphore):
            copy = pltpu.make_async_copy(x.at[0], row.at[0], semaphore)
            copy.start()
            if wait:
                copy.wait()
            out[...] = row[...]
            if not wait:
                copy.wait()

        call = pl.pallas_call(
            kernel,
            jax.ShapeDtypeStruct((1, 128), jnp.float32),
            in_specs=[pl.BlockSpec(memory_space=pl.ANY)],
            scratch_shapes=[pltpu.VMEM((1, 128), jnp.float32), pltpu.SemaphoreType.DMA(())],
            interpret=pltpu.InterpretParams(detect_races=True),
        )
        x = jnp.ones((8, 128), jnp.float32)
        with as_if_on("v5e"):
            jaxpr = jax.make_jaxpr(call)(x)
        return races_found(lambda: jax.block_until_ready(jax.extend.core.jaxpr_as_fun(jaxpr)(x)))

    assert not run(True)
    assert run(False)


class Unawaited(NamedTuple):
    copy: Any

    def start(self):
        self.copy.start()

    def wait(self):
        pass


@each_core
def test_rows_that_are_awaited_too_late_are_found(core, monkeypatch):
    """Our kernels, adding rows that may not have come."""
    from purebrain.ops.tpu import _sparse_core, _tensor_core

    for module in (_sparse_core, _tensor_core):
        correct = module.for_each_piece

        def faulty(*args, correct=correct):
            *args, copies, add = args

            def late(*piece):
                add(*piece)
                for copy in copies(*piece):
                    copy.wait()

            correct(*args, lambda *piece: map(Unawaited, copies(*piece)), late)

        monkeypatch.setattr(module, "for_each_piece", faulty)
    op = operators.make("fixed_outdegree", True)
    s = operators.spikes((op.n_pre,), share=0.9)
    assert races_found(lambda: interpreted(core, op.mv, s))

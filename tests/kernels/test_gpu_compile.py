"""Every GPU kernel is compiled to machine code for a GPU that is not there, and keeps to its
memory."""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import purebrain as pb
from purebrain import ops
from purebrain.ops.gpu import Tuning
from tests.kernels import operators
from tests.kernels.gpu_targets import TARGET, lower, needs_compiler
from tests.kernels.operators import DT, FORMS, STEP, STORED

pytestmark = [pytest.mark.kernels, needs_compiler]
WEIGHTS = [(form, True) for form in STORED] + [(form, False) for form in FORMS]
each_form = pytest.mark.parametrize(("form", "per_synapse"), WEIGHTS)
N_PRE, N_POST = 3000, 20
SLACK = 8192  # bytes: scalars, and what XLA rounds up to


def large(form, per_synapse=False, dtype="float32", tuning=None):
    """So many synapses a neuron that a copy of them would be seen."""
    return operators.make(form, per_synapse, dtype, N_PRE, N_POST, tuning)


def on_arrays(f):
    """f(op, ...) as a function of the arrays of the operator."""

    def call(op, *args):
        arrays, static = eqx.partition(op, eqx.is_array)
        return (lambda arrays, *rest: f(eqx.combine(arrays, static), *rest)), (arrays, *args)

    return call


def temporary_bytes(monkeypatch, f, op, *args) -> int:
    function, arguments = on_arrays(f)(op, *args)
    compiled = lower(monkeypatch, function, *arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def list_bytes(batch):
    return 4 * batch * N_PRE


@each_form
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_scatter_needs_the_list_of_events(monkeypatch, form, per_synapse, dtype):
    """4 bytes a neuron and row, and in half precision a sum in single precision for each target:
    nothing that grows with the synapses."""
    op = large(form, per_synapse, dtype)
    half = 4 * N_POST * (jnp.dtype(dtype).itemsize < 4)
    for batch in (1, 5):
        y, s = jnp.zeros((batch, N_POST), dtype), jnp.zeros((batch, N_PRE), dtype)
        bits = ops.pack(s > 0)
        for spikes in (s, bits):
            got = temporary_bytes(
                monkeypatch, lambda op, y, s: jax.vmap(op.mv_add)(y, s), op, y, spikes
            )
            assert got <= list_bytes(batch) + batch * half + SLACK


@each_form
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_gather_needs_nothing(monkeypatch, form, per_synapse, dtype):
    op, x = large(form, per_synapse, dtype), jnp.zeros((5, N_POST), dtype)
    half = 4 * N_PRE * (jnp.dtype(dtype).itemsize < 4)
    got = temporary_bytes(monkeypatch, lambda op, x: op.mm_t(x), op, x)
    assert got <= 5 * half + SLACK


@each_form
def test_outer_needs_the_list_of_events(monkeypatch, form, per_synapse):
    """And where synapses share a weight, a sum for each neuron: two for weights that are drawn."""
    op = large(form, per_synapse)
    s, y = jnp.zeros((5, N_PRE), jnp.float32), jnp.zeros((5, N_POST), jnp.float32)

    def pull(op, s, y):
        def product(w):
            return jax.vmap(eqx.tree_at(lambda op: op.weight, op, w).mv)(s)

        return jax.linear_transpose(product, op.weight)(y)

    got = temporary_bytes(monkeypatch, pull, op, s, y)
    sums = 0 if per_synapse else 3 * 4 * 5 * N_PRE
    # The batch's derivatives by each synapse's weight are there before they are added up.
    batch = 5 * 4 * op.weight.size if per_synapse else 0
    assert got <= list_bytes(5) + sums + batch + SLACK


def test_random_matrices_in_bands_need_a_list_for_each(monkeypatch):
    op = ops.jit_uniform(-1.0, 1.0, 0.004, N_PRE, 140_000, seed=2)
    y, s = jnp.zeros(140_000, jnp.float32), jnp.zeros(N_PRE, jnp.float32)
    got = temporary_bytes(
        monkeypatch, lambda op, y, s: op.mv_add(y, s), pb.cast(op, jnp.float32), y, s
    )
    assert got <= 3 * list_bytes(1) + 2 * y.nbytes + SLACK  # and each band, in and out


def test_delayed_synapses_need_the_list_of_events(monkeypatch):
    op, _, ring = operators.delayed()
    s = jnp.zeros(op.shape[0], bool)
    got = temporary_bytes(
        monkeypatch, lambda op, ring, s, i: op.send(ring, s, i, DT), op, ring, s, jnp.int32(STEP)
    )
    assert got <= 4 * op.shape[0] + SLACK


@pytest.mark.parametrize("form", ["csr", "jit_normal"])
def test_deterministic_mode_needs_what_the_chunk_says(monkeypatch, form):
    """32 bytes a synapse of the chunk, 32 a neuron; atomics have no part in it."""
    chunk = 1 << 14
    op = large(form, tuning=Tuning(deterministic=True, chunk=chunk))
    y, s = jnp.zeros(N_POST, jnp.float32), jnp.zeros(N_PRE, jnp.float32)
    f, args = on_arrays(lambda op, y, s: op.mv_add(y, s))(op, y, s)
    compiled = lower(monkeypatch, f, *args).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= 32 * (chunk + N_PRE) + SLACK


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lanes(monkeypatch, lanes, dtype):
    op = large("csr", True, dtype, Tuning(programs=7, lanes=lanes))
    s, x = jnp.zeros(N_PRE, dtype), jnp.zeros(N_POST, dtype)
    f, args = on_arrays(lambda op, s, x: (op.mv(s), op.mv_t(x)))(op, s, x)
    assert lower(monkeypatch, f, *args).compile() is not None


# ---- transforms, and a whole step of training ----------------------------------------------------


def _square(op, s):
    return jnp.sum(op.mv(s) ** 2)


TRANSFORMS = {
    "grad": lambda op, s: jax.grad(_square, 1)(op, s),
    "vmap of grad": lambda op, s: jax.vmap(lambda t: jax.grad(_square, 1)(op, t * s))(
        jnp.arange(3.0)
    ),
    "grad of vmap": lambda op, s: jax.grad(lambda s: jnp.sum(op.mm(jnp.stack([s, 2 * s])) ** 2))(s),
    "jvp": lambda op, s: jax.jvp(op.mv, (s,), (s,)),
    "vjp": lambda op, s: jax.vjp(op.mv, s)[1](op.mv(s)),
    "Hessian times a vector": lambda op, s: jax.jvp(
        lambda s: jax.grad(_square, 1)(op, s), (s,), (s,)
    ),
    "reverse over reverse": lambda op, s: jax.grad(
        lambda s: jnp.sum(jax.grad(_square, 1)(op, s) ** 2)
    )(s),
    "scan": lambda op, s: jax.lax.scan(lambda s, _: (op.mv(s), None), s, None, length=3)[0],
    "map over connectivities": lambda op, s: jax.vmap(
        lambda s, w: eqx.tree_at(lambda op: op.weight, op, w).mv(s)
    )(jnp.stack([s, s]), jnp.stack([op.weight] * 2)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("form", FORMS)
def test_transforms(monkeypatch, name, form):
    op = operators.make(form, form in STORED, jnp.float64, 60, 60)
    f, args = on_arrays(TRANSFORMS[name])(op, jnp.zeros(60))
    lowered = lower(monkeypatch, f, *args)
    assert "mosaic_gpu" in lowered.as_text()
    assert lowered.compile() is not None


@pytest.mark.parametrize("connect", ["fixed_prob", "fixed_outdegree", "jit"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_value_and_grad_of_a_network(monkeypatch, connect, deterministic):
    """A LIF network of two projections, scanned over its steps, derived by its weights."""
    keys, n = jr.split(jr.key(0)), 200
    rules = {
        "fixed_prob": lambda w, key: pb.connect.fixed_prob(0.1, w, key=key),
        "fixed_outdegree": lambda w, key: pb.connect.fixed_outdegree(20, w, key=key),
        "jit": lambda w, key: (
            lambda n_pre, n_post, **_: ops.jit_uniform(0.0, w, 0.1, n_pre, n_post, seed=1)
        ),
    }
    neurons = pb.LIF(n, v_init=pb.Normal(-55.0, 5.0), spike=pb.surrogate.SuperSpike())
    view = pb.View("N")

    def projection(pre, weight, key, reversal):
        rule = rules[connect](weight, key)
        return pb.Projection(pre, "N", rule, pb.Exponential(5.0), pb.COBA(reversal), 0.3)

    projections = [
        projection(view[:160], 0.6, keys[0], 0.0),
        projection(view[160:], 6.7, keys[1], -80.0),
    ]
    net = pb.Network({"N": neurons}, projections)
    if deterministic:
        net = ops.tuned(net, Tuning(deterministic=True))
    state = net.init(dt=0.1, key=jr.key(1))
    arrays, static = eqx.partition((net, state), eqx.is_inexact_array)

    def loss(arrays, current):
        net, state = eqx.combine(arrays, static)
        result = pb.simulate(
            net, state, {"N": current}, dt=0.1, duration=2.0, save=lambda tick, state, out: out["N"]
        )
        return jnp.mean(result.saved)

    lowered = lower(monkeypatch, jax.value_and_grad(loss), arrays, jnp.asarray(20.0))
    text = lowered.as_text()
    scatter = "add_segments" if deterministic else "scatter"
    assert all(f"purebrain_{kind}" in text for kind in (scatter, "gather", "outer"))
    memory = lowered.compile().memory_analysis()
    assert memory.temp_size_in_bytes < 16 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("target", ["a100", "b200"])
@pytest.mark.skipif(TARGET != "h100", reason="one process a GPU")
def test_other_gpus(target):
    """This file, and the one of the simulator, for another GPU, in a process of its own."""
    files = [str(Path(__file__).parent / f"test_gpu_{name}.py") for name in ("compile", "ptx")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "kernels and not slow", *files],
        env={**os.environ, "PUREBRAIN_GPU_TARGET": target},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout

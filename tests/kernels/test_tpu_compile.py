"""Every TPU kernel is compiled to machine code for TPUs that are not there, and keeps to its
memory."""

import re
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops
from purebrain.ops._say_once import say_once
from tests.kernels.tpu_targets import (
    TOPOLOGIES,
    WITH_SPARSE_CORES,
    large_results,
    lower,
    needs_compiler,
)

pytestmark = [pytest.mark.kernels, needs_compiler]


@pytest.fixture(autouse=True)
def nothing_said():
    say_once.cache_clear()


each_target = pytest.mark.parametrize("target", TOPOLOGIES)
N, K = 8192, 128  # rows that lie in memory as they are fetched
SYNAPSES = 4 * N * K  # bytes of their targets, or their weights
SUBCORES = {"v5p": (4, 16), "v6e": (2, 16), "7x": (2, 16)}
WEIGHT, ONE = jnp.float32(1.0), jnp.float32(0.0)


def fixed_outdegree(weight, n_post, n_pre=N, k=K):
    return ops.FixedOutdegree(weight((n_pre, k)), np.zeros((n_pre, k), np.int32), n_post)


def csr(weight, n_post, n_pre=N, k=K):
    n = n_pre * k + 3  # the arrays end at no multiple of anything
    indptr = np.append(np.arange(n_pre) * k, n)
    return ops.CSR(weight(n), indptr, np.zeros(n, np.int32), n_post)


def jit_homogeneous(weight, n_post, n_pre=N, k=K):
    return ops.jit_homogeneous(WEIGHT, k / n_post, n_pre, n_post, seed=1)


def jit_uniform(weight, n_post, n_pre=N, k=K):
    return ops.jit_uniform(ONE, WEIGHT, k / n_post, n_pre, n_post, seed=1)


def jit_normal(weight, n_post, n_pre=N, k=K):
    return ops.jit_normal(ONE, WEIGHT, k / n_post, n_pre, n_post, seed=1)


def each(shape):
    return jnp.ones(shape, jnp.float32)


def shared(shape):
    return WEIGHT


FORMS = {
    "fixed_outdegree": (fixed_outdegree, each),
    "fixed_outdegree, one weight": (fixed_outdegree, shared),
    "csr": (csr, each),
    "csr, one weight": (csr, shared),
    "jit_homogeneous": (jit_homogeneous, shared),
    "jit_uniform": (jit_uniform, shared),
    "jit_normal": (jit_normal, shared),
}


def lowered_with(target, f, op, *args):
    """f(op, *args) lowered for a TPU, and the names of its kernels."""
    arrays, static = eqx.partition(op, eqx.is_array)
    lowered = lower(target, lambda a, *rest: f(eqx.combine(a, static), *rest), arrays, *args)
    return lowered, set(re.findall(r"purebrain_(\w+)", lowered.as_text()))


def compiled(target, f, op, *args):
    """The same, compiled."""
    lowered, kernels = lowered_with(target, f, op, *args)
    return lowered.compile(), kernels


def mv(op, s):
    return op.mv(s)


def kernel_of(target, n_targets):
    if target not in WITH_SPARSE_CORES:
        return "one_hot"
    return "scatter_private" if n_targets <= 4096 else "scatter_shared"


def accumulators(target, n_targets, batch=1):
    """Bytes of them, of their sum, and of the neurons' shares; on the TensorCore none."""
    if target not in WITH_SPARSE_CORES:
        return 0
    cores, subcores = SUBCORES[target]
    workers = cores * subcores
    size = -(-(n_targets + 16) // (128 * subcores)) * 128 * subcores
    copies = workers if n_targets <= 4096 else cores
    share = -(-batch * N // (128 * workers)) * 128 * workers
    return 4 * (2 * copies * size + 6 * share)


@each_target
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_post", [4000, 60_000])
def test_scatter_copies_no_synapses(target, form, n_post):
    make, weight = FORMS[form]
    op = make(weight, n_post)
    program, kernels = compiled(target, mv, op, jnp.ones(N, jnp.float32))
    assert kernel_of(target, n_post) in kernels
    limit = accumulators(target, n_post) + 2**19  # the compiler's own: registers, instructions
    assert program.memory_analysis().temp_size_in_bytes < min(limit, SYNAPSES)
    assert not large_results(program, N * K)


@each_target
def test_random_matrices_in_bands(target):
    """1,000,000 targets, more than any TensorCore's memory takes at once: 65,536 in turn."""
    op = jit_homogeneous(shared, 1_000_000, k=5000)
    program, kernels = compiled(target, mv, op, jnp.ones(N, jnp.float32))
    assert kernel_of(target, 2**16) in kernels
    limit = 16 * accumulators(target, 2**16) + 2**23
    assert program.memory_analysis().temp_size_in_bytes < min(limit, 4 * N * 5000)


@each_target
def test_dense_rows_are_not_copied(target):
    op = ops.Dense(jnp.ones((N, 1024), jnp.float32))
    program, kernels = compiled(target, mv, op, jnp.ones(N, jnp.float32))
    assert "rows" in kernels
    assert program.memory_analysis().temp_size_in_bytes < 2**20


@each_target
@pytest.mark.parametrize("form", ["fixed_outdegree", "csr", "jit_uniform"])
def test_batches(target, form):
    """Of packed spikes, and of weights for each example."""
    make, weight = FORMS[form]
    op = make(weight, 3000, 500, 40)
    bits = ops.pack(jnp.ones((4, 500), bool))
    _, kernels = compiled(target, lambda op, words: op.mm(ops.Spikes(words, 500)), op, bits.words)
    assert kernel_of(target, 12_000) in kernels

    def scaled(op, s, scale):
        def one(s, scale):
            return eqx.tree_at(lambda op: op.weight, op, scale * op.weight).mv(s)

        return jax.vmap(one)(s, scale)

    args = jnp.ones((4, 500), jnp.float32), jnp.ones(4, jnp.float32)
    _, kernels = compiled(target, scaled, op, *args)
    assert kernel_of(target, 12_000 if form == "fixed_outdegree" else 3000) in kernels


def fixed_indegree(weight, n_post, n_pre=N, k=K):
    return ops.FixedIndegree(weight((n_post, k)), np.zeros((n_post, k), np.int32), n_pre)


def delayed(weight, n_post, n_pre=N, k=K):
    op = csr(weight, n_post, n_pre, k)
    return ops.DelayedCSR(op, np.full(op.indices.size, 0.2))


def send(op, s):
    return op.send(jnp.zeros(4 * op.csr.n_post, jnp.float32), s, jnp.int32(1), 0.1)


LEFT_TO_XLA = {
    "fixed_outdegree, transposed": (fixed_outdegree, lambda op, x: op.mv_t(x)),
    "csr, transposed": (csr, lambda op, x: op.mv_t(x)),
    "jit_uniform, transposed": (jit_uniform, lambda op, x: op.mv_t(x)),
    "fixed_indegree, transposed": (fixed_indegree, lambda op, x: op.mv_t(x)),
    "fixed_indegree": (fixed_indegree, mv),
    "delayed": (delayed, send),
}


@cache
def of_many_synapses(case):
    """32 MiB of targets, and as many of weights."""
    return LEFT_TO_XLA[case][0](each, N, k=1024)


@pytest.mark.parametrize("target", ["v5e", "v5p"])
@pytest.mark.parametrize("case", LEFT_TO_XLA)
@pytest.mark.filterwarnings("ignore:.*without an event kernel")
def test_xla_makes_a_block_of_synapses_at_once(target, case):
    """Of 2^20 synapses: their neurons, values, terms, and copies of these."""
    op = of_many_synapses(case)
    program, kernels = compiled(target, LEFT_TO_XLA[case][1], op, jnp.ones(N, jnp.float32))
    assert not kernels & {"one_hot", "scatter_private", "scatter_shared"}
    assert program.memory_analysis().temp_size_in_bytes < 24 * 2**20


UNFIT = [("fixed_outdegree", "v6e"), ("fixed_outdegree", "7x")]


@each_target
@pytest.mark.parametrize("form", ["fixed_outdegree", "csr"])
def test_a_scan_copies_no_synapses(target, form, request):
    """Rows of 100 synapses lie otherwise than they are fetched: copied once, before the loop."""
    if jax.__version_info__ < (0, 11) and (form, target) in UNFIT:
        why = (
            "this compiler keeps the copy in vector memory, and copies it from there in every step"
        )
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))
    op = FORMS[form][0](each, N, N, 100)

    def run(op, s):
        def step(s, _):
            current = op.mv(s)
            return (current > 0.5).astype(s.dtype), jnp.sum(current)

        return jax.lax.scan(step, s, None, length=10)[1]

    program, kernels = compiled(target, run, op, jnp.ones(N, jnp.float32))
    assert kernel_of(target, N) in kernels
    assert not large_results(program, N * 100, loops_only=True)


def network(connect, n=200, k=20):
    """Excitatory and inhibitory LIF neurons."""
    weight = jnp.float32(0.6)
    rules = {
        "csr": lambda key: pb.connect.fixed_prob(k / n, weight, key=key),
        "fixed_outdegree": lambda key: pb.connect.fixed_outdegree(k, weight, key=key),
        "jit": lambda key: (
            lambda n_pre, n_post, **_: ops.jit_uniform(ONE, weight, k / n, n_pre, n_post, seed=1)
        ),
    }
    neurons = pb.LIF(n, v_init=pb.Normal(-55.0, 5.0), spike=pb.surrogate.SuperSpike())
    view = pb.View("N")
    projections = [
        pb.Projection(pre, "N", rules[connect](key), pb.Exponential(5.0), pb.COBA(reversal), 0.3)
        for pre, key, reversal in zip(
            (view[: 4 * n // 5], view[4 * n // 5 :]), jr.split(jr.key(0)), (0.0, -80.0), strict=True
        )
    ]
    return pb.Network({"N": neurons}, projections)


@each_target
@pytest.mark.parametrize("connect", ["csr", "fixed_outdegree", "jit"])
def test_value_and_grad_of_a_network(target, connect):
    """Scanned over its steps, derived by its weights."""
    with jax.enable_x64(False):
        derive_network(target, network(connect))


@pytest.mark.parametrize("target", ["v5e", "v5p"])
@pytest.mark.parametrize("connect", ["csr", "fixed_outdegree"])
def test_value_and_grad_of_a_network_with_many_synapses(target, connect):
    """12.7 million excitatory ones, in rows as they are fetched: a number each is 48 MiB."""
    with jax.enable_x64(False):
        derive_network(target, network(connect, 4000, 3968), 32 * 2**20)


def derive_network(target, net, limit=16 * 2**20):
    state = net.init(dt=0.1, key=jr.key(1))
    arrays, static = eqx.partition((net, state), eqx.is_array)
    floats, others = eqx.partition(arrays, eqx.is_inexact_array)

    def loss(floats, others, current):
        net, state = eqx.combine(floats, others, static)
        result = pb.simulate(
            net, state, {"N": current}, dt=0.1, duration=2.0, save=lambda tick, state, out: out["N"]
        )
        return jnp.mean(result.saved)

    lowered = lower(target, jax.value_and_grad(loss), floats, others, jnp.float32(20.0))
    assert kernel_of(target, 200) in lowered.as_text()
    temporary = lowered.compile().memory_analysis().temp_size_in_bytes
    assert temporary < limit, temporary


# ---- capacity ------------------------------------------------------------------------------------

# Targets that fit, with rows of 80 synapses.
LARGEST = {"v4": 2_000_000, "v5e": 2_000_000, "v5p": 2_000_000, "v6e": 980_000, "7x": 2_000_000}


@each_target
def test_as_many_targets_as_fit(target):
    """The limit is where the compiler has it, or less: what is below compiles."""
    op = fixed_outdegree(each, LARGEST[target], 1000, 80)
    _, kernels = compiled(target, mv, op, jnp.ones(1000, jnp.float32))
    assert kernel_of(target, LARGEST[target]) in kernels


@each_target
def test_too_many_targets_are_left_to_xla(target):
    op = fixed_outdegree(each, 2 * LARGEST[target] + 200_000, 1000, 80)
    with pytest.warns(UserWarning, match=r"n_post: \d+, in rows of 80 .* needs \d+ KiB"):
        _, kernels = lowered_with(target, mv, op, jnp.ones(1000, jnp.float32))
    assert not kernels & {"one_hot", "scatter_private", "scatter_shared"}


@pytest.mark.parametrize("target", WITH_SPARSE_CORES)
def test_a_batch_too_large_goes_in_groups(target):
    op = jit_homogeneous(None, 600_000, 100, 80)
    s = jnp.ones((8, 100), jnp.float32)
    lowered, kernels = lowered_with(target, lambda op, s: op.mm(s), op, s)
    assert "scatter_shared" in kernels and "stablehlo.while" in lowered.as_text()


@pytest.mark.parametrize("target", WITH_SPARSE_CORES)
@pytest.mark.parametrize("form", ["fixed_outdegree", "csr", "jit_normal"])
def test_constants_are_left_to_the_tensor_core(target, form):
    """Also under a derivative, and in a loop: the compiler cannot give them to a SparseCore."""
    make, weight = FORMS[form]
    op = make(weight, 200, 200, 20)

    def run(weight, s):
        def step(s, _):
            current = eqx.tree_at(lambda op: op.weight, op, weight).mv(s)
            return jnp.tanh(current), jnp.sum(current)

        return jnp.sum(jax.lax.scan(step, s, None, length=10)[1])

    s = jnp.ones(200, jnp.float32)
    with pytest.warns(UserWarning, match="pass the operator"):
        lowered = lower(target, jax.value_and_grad(run), op.weight, s)
    assert "purebrain_one_hot" in lowered.as_text()
    lowered.compile()


def test_other_precisions_are_left_to_xla():
    op = ops.FixedOutdegree(jnp.ones((50, 3), jnp.bfloat16), np.zeros((50, 3), np.int32), 40)
    with pytest.warns(UserWarning, match="bfloat16: the TPU kernels take float32"):
        _, kernels = compiled("v5p", mv, op, jnp.ones(50, jnp.bfloat16))
    assert "scatter_private" not in kernels


def test_an_unknown_tpu_is_left_to_xla():
    """An export must run on any of them."""
    op = fixed_outdegree(each, 40, 50, 3)
    with pytest.warns(UserWarning, match="which one is not known"):
        exported = jax.export.export(jax.jit(lambda s: op.mv(s)), platforms=["tpu"])(
            jnp.ones(50, jnp.float32)
        )
    assert "tpu_custom_call" not in exported.mlir_module()

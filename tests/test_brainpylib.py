"""`ops.brainpylib` against a plain reimplementation of what brainpylib's binary draws.

The draws are those of the GNU C++ library. Where the binary cannot be, the errors are tested.
"""

import importlib.metadata
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import purebrain as pb
from purebrain import ops
from purebrain.ops import brainpylib
from tests.helpers_net import DT, Emitter, projection
from tests.helpers_ops import without_type_checker

try:
    brainpylib._find()
    missing = None if sys.platform == "linux" else "the draws are those of the GNU C++ library"
except ImportError as error:
    missing = str(error)
needs_binary = pytest.mark.skipif(missing is not None, reason=f"{missing}")

N_PRE, N_POST, P, SEED = 37, 53, 0.15, 12345
PARAMETERS = {"homo": (0.7,), "uniform": (-0.3, 1.9), "normal": (0.5, 0.25)}
MAKE = {name: getattr(brainpylib, f"prob_{name}") for name in PARAMETERS}
FLOAT64 = dict(rtol=1e-12, atol=1e-12)
FLOAT32 = dict(rtol=1e-5, atol=1e-5)

each_weights = pytest.mark.parametrize("weights", PARAMETERS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_order = pytest.mark.parametrize("outdim_parallel", [True, False])


class Draws:
    """The GNU C++ library's distributions over its `std::mt19937`, as brainpylib uses them."""

    def __init__(self, seed, dtype):
        generator = np.random.RandomState(seed)
        self.words = iter(generator.randint(0, 2**32, 200_000, np.uint32).tolist())
        self.dtype, self.saved = dtype, None

    def whole(self, n):
        """`uniform_int_distribution(1, n)`: thrown again above the last whole multiple."""
        scale = (2**32 - 1) // n
        word = next(w for w in self.words if w < n * scale)
        return 1 + word // scale

    def uniform(self):
        """`generate_canonical`: as many words as the mantissa needs; 1 is never returned."""
        t = self.dtype
        if t is np.float32:
            u = t(next(self.words)) / t(2**32)
        else:
            u = (t(next(self.words)) + t(next(self.words)) * t(2**32)) / t(2**64)
        return u if u < 1 else np.nextafter(t(1), t(0))

    def normal(self):
        """`normal_distribution`: Marsaglia's polar method, which makes two and keeps one."""
        if self.saved is not None:
            z, self.saved = self.saved, None
            return z
        t, square = self.dtype, 2
        while square > 1 or square == 0:
            x, y = t(2) * self.uniform() - t(1), t(2) * self.uniform() - t(1)
            square = x * x + y * y
        scale = np.sqrt(t(-2) * t(np.log(np.float64(square))) / square)
        self.saved = x * scale
        return y * scale


def reimplemented(weights, parameters, dtype, n_pre, n_post, outdim_parallel, p=P, seed=SEED):
    """(W, and of each synapse the part of the second parameter: u or z), both [n_pre, n_post]."""
    draws, clen = Draws(seed, dtype), 2 * int(np.ceil(1 / dtype(p))) - 1
    n_outer, n_inner = (n_post, n_pre) if outdim_parallel else (n_pre, n_post)
    matrix, drawn = np.zeros((2, n_outer, n_inner), dtype)
    a, b = (dtype(x) for x in (*parameters, 0)[:2])
    for i in range(n_outer):
        j = draws.whole(clen)
        while j < n_inner:
            if weights == "homo":
                matrix[i, j] = a
            elif weights == "uniform":
                drawn[i, j] = draws.uniform()
                matrix[i, j] = drawn[i, j] * (b - a) + a
            else:
                drawn[i, j] = draws.normal()
                matrix[i, j] = drawn[i, j] * b + a
            j += draws.whole(clen)
    return (matrix.T, drawn.T) if outdim_parallel else (matrix, drawn)


def made(weights, dtype=float, outdim_parallel=True, n_pre=N_PRE, n_post=N_POST, p=P):
    parameters = (np.asarray(a, dtype) for a in PARAMETERS[weights])
    return MAKE[weights](*parameters, p, n_pre, n_post, seed=SEED, outdim_parallel=outdim_parallel)


@needs_binary
@each_weights
@each_dtype
@each_order
def test_draw_for_draw(weights, dtype, outdim_parallel):
    """All functions of the binary: on floats and on events, and their transposes."""
    op = made(weights, dtype, outdim_parallel)
    want, _ = reimplemented(weights, PARAMETERS[weights], dtype, N_PRE, N_POST, outdim_parallel)
    got = {
        "as_matrix": op.as_matrix(),
        "floats": op.mm(jnp.eye(N_PRE, dtype=dtype)),
        "events": op.mm(jnp.eye(N_PRE, dtype=bool)),
        "transposed": op.mm_t(jnp.eye(N_POST, dtype=dtype)).T,
    }
    # `logf` may be rounded otherwise than the logarithm of a double; all else is exact.
    rounded = weights == "normal" and dtype is np.float32
    for name, matrix in got.items():
        assert matrix.dtype == dtype
        np.testing.assert_array_equal(matrix != 0, want != 0, name)
        np.testing.assert_allclose(matrix, want, rtol=0, atol=1e-7 if rounded else 0, err_msg=name)
    pre, post, weight = op.as_coo()
    np.testing.assert_array_equal((pre, post), np.nonzero(want))
    np.testing.assert_array_equal(weight, got["as_matrix"][pre, post] if weight.ndim else op.weight)
    silent = eqx.tree_at(lambda op: op.weight, op, 0 * op.weight)
    np.testing.assert_array_equal(silent.as_coo()[:2], (pre, post))


@needs_binary
@each_order
def test_the_drawn_neuron_0_has_no_synapse(outdim_parallel):
    """As the module says; and the density is 1 / ceil(1 / p)."""
    there = made("homo", float, outdim_parallel, 400, 400, p=0.3).as_matrix() != 0
    drawn = there if outdim_parallel else there.T
    assert not drawn[0].any() and drawn[1:].any(1).all() and drawn.any(0).all()
    assert abs(there.mean() - 1 / 4) < 0.005


@needs_binary
@each_weights
@each_order
def test_products(weights, outdim_parallel):
    op, rng = made(weights, float, outdim_parallel), np.random.default_rng(0)
    w, _ = reimplemented(weights, PARAMETERS[weights], np.float64, *op.shape, outdim_parallel)
    s, x, y = rng.normal(size=(4, N_PRE)), rng.normal(size=(4, N_POST)), rng.normal(size=N_POST)
    spikes = rng.random((4, N_PRE)) < 0.3
    among_others = ops.pack(jnp.asarray(np.concatenate([~spikes[0, :3], spikes[0]])))
    got = {
        "mv_add": (op.mv_add(jnp.asarray(y), jnp.asarray(s[0])), y + s[0] @ w),
        "a view": (op.mv_add(jnp.asarray(y), among_others[3:]), y + spikes[0] @ w),
        "mv_t": (op.mv_t(jnp.asarray(x[0])), w @ x[0]),
        "mm": (op.mm(jnp.asarray(s)), s @ w),
        "mm of bits": (op.mm(ops.pack(jnp.asarray(spikes))), spikes @ w),
        "mm_t": (op.mm_t(jnp.asarray(x)), x @ w.T),
        "an empty batch": (op.mm(jnp.zeros((0, N_PRE))), np.zeros((0, N_POST))),
        "nested": (
            jax.vmap(op.mm)(jnp.asarray(s).reshape(2, 2, -1)),
            (s @ w).reshape(2, 2, -1),
        ),
    }
    for name, (value, want) in got.items():
        np.testing.assert_allclose(value, want, **FLOAT64, err_msg=name)


@needs_binary
@pytest.mark.parametrize(("n_pre", "n_post"), [(0, 0), (0, 3), (3, 0), (1, 1)])
@each_order
def test_no_neurons(n_pre, n_post, outdim_parallel):
    op = made("normal", float, outdim_parallel, n_pre, n_post)
    assert op.as_matrix().shape == op.shape and not op.as_matrix().any()
    assert op.mv(jnp.ones(n_pre, bool)).tolist() == [0.0] * n_post
    assert op.mv_t(jnp.ones(n_post)).tolist() == [0.0] * n_pre


@needs_binary
@each_weights
@each_order
def test_derivatives(weights, outdim_parallel):
    op, rng = made(weights, float, outdim_parallel, 9, 7, p=0.4), np.random.default_rng(0)

    def f(weight, s, y, x):
        changed = eqx.tree_at(lambda op: op.weight, op, weight)
        return changed.mv_add(y, s), changed.mv_t(x)

    args = op.weight, *(jnp.asarray(rng.normal(size=n)) for n in (9, 7, 7))
    check_grads(jax.jit(f), args, order=2, modes=("fwd", "rev"), rtol=1e-6, atol=1e-6)


@needs_binary
@each_weights
@each_dtype
@each_order
def test_weight_gradient(weights, dtype, outdim_parallel):
    """In closed form, from the draws: low takes 1 - u and high u, mean takes 1 and sd z."""
    op, rng = made(weights, dtype, outdim_parallel), np.random.default_rng(0)
    matrix, drawn = reimplemented(
        weights, PARAMETERS[weights], dtype, N_PRE, N_POST, outdim_parallel
    )
    there = matrix != 0
    parts = {"homo": [there], "uniform": [there - drawn, drawn], "normal": [there, drawn]}[weights]
    spikes, x = rng.random(N_PRE) < 0.4, rng.normal(size=N_POST).astype(dtype)
    want = np.squeeze([spikes @ part.astype(np.float64) @ x for part in parts])

    def f(op, s):
        return op.mv(s) @ x

    tolerance = FLOAT32 if dtype is np.float32 else FLOAT64
    for s in (jnp.asarray(spikes), jnp.asarray(spikes, dtype), ops.pack(jnp.asarray(spikes))):
        got = jax.grad(f)(op, s).weight
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, **tolerance)


@needs_binary
@each_weights
def test_sweep_of_weights(weights):
    op, s = made(weights), jnp.linspace(-1.0, 1.0, N_PRE)
    many = jnp.stack([op.weight * scale for scale in (1.0, 2.0, 3.0)])

    def f(weight):
        changed = eqx.tree_at(lambda op: op.weight, op, weight)
        return changed.mv(s), changed.mv(s > 0)

    for got, one in zip(jax.jit(jax.vmap(f))(many), f(op.weight), strict=True):
        np.testing.assert_allclose(got, jnp.outer(jnp.arange(1.0, 4.0), one), **FLOAT64)


@needs_binary
@each_dtype
def test_strides_as_in_brainpy(dtype):
    """BrainPy computes 2 ceil(1 / p) - 1 in its default precision, which shows at p = 1 / 49."""
    found = {}
    for n in range(1, 200):
        want = int(jnp.ceil(1 / jnp.asarray(1 / n, dtype)) * 2 - 1)
        found[n] = brainpylib.prob_homo(dtype(1), 1 / n, 2, 2, seed=0).form.clen
        assert found[n] == want
    assert found[49] == (97 if dtype is np.float32 else 99)


@needs_binary
@each_weights
@pytest.mark.parametrize(
    ("dtype", "other"),
    [(np.float32, np.float64), (np.float64, np.float32), (np.float32, jnp.bfloat16)],
)
def test_another_precision_is_the_same_matrix(weights, dtype, other):
    op, x = made(weights, dtype), jnp.linspace(-1.0, 1.0, N_POST).astype(other)
    cast = pb.cast(op, other)
    coarse = max(float(jnp.finfo(d).eps) for d in (dtype, other))
    wider = max(dtype, other, key=lambda d: jnp.dtype(d).itemsize)
    for moved, precision in ((op, wider), (cast, other)):
        got = moved.mv_t(x)
        assert got.dtype == precision
        want = np.asarray(op.as_matrix(), float) @ np.asarray(x, float)
        np.testing.assert_allclose(np.asarray(got, float), want, rtol=0, atol=20 * coarse)
    np.testing.assert_array_equal(cast.as_matrix() != 0, op.as_matrix() != 0)


# ---- networks ------------------------------------------------------------------------------------


def recurrent(comm, **kwargs):
    neurons = pb.Refractory(pb.LIF(60, v_init=pb.Normal(-55.0, 5.0), **kwargs), tau_ref=0.5)
    synapses = projection("N", "N", comm, drive=pb.COBA(0.0), delay=0.5)
    return pb.Network({"N": neurons}, [synapses])


def weight_of(net):
    return net.pathways[0].inputs[0].comm.weight


@needs_binary
@pytest.mark.parametrize("merged", [False, True])
def test_network_as_with_the_matrix(merged):
    """Spike for spike, with bits and with floats, and the surrogate's gradient."""
    op = brainpylib.prob_uniform(0.05, 0.4, 0.2, 60, 60, seed=7)
    dense, _ = reimplemented("uniform", (0.05, 0.4), np.float64, 60, 60, True, p=0.2, seed=7)

    def run(net, **kwargs):
        state = net.init(dt=DT, key=jax.random.key(0))
        return pb.simulate(net, state, {"N": 20.0}, dt=DT, duration=30.0, **kwargs).saved

    net, other = recurrent(op), recurrent(ops.Dense(dense))
    if merged:
        net, other = pb.merge(net), pb.merge(other)
    bits, want = (run(pb.inference_mode(n))["N"].to_dense() for n in (net, other))
    assert 100 < int(want.sum()) < 60 * 60
    np.testing.assert_array_equal(bits, want)
    np.testing.assert_array_equal(run(net)["N"] > 0, want)
    if not merged:

        def rate(weight, net):
            net = eqx.tree_at(weight_of, net, weight)
            return run(net, save=lambda tick, state, out: out["N"].mean()).mean()

        got = jax.grad(rate)(op.weight, net)
        per_synapse = jax.grad(rate)(jnp.asarray(dense), other)
        u = jnp.where(dense != 0, (dense - 0.05) / 0.35, 0.0)
        want = [jnp.sum(per_synapse * jnp.where(dense != 0, 1 - u, 0.0)), jnp.sum(per_synapse * u)]
        np.testing.assert_allclose(got, want, rtol=1e-7)


@needs_binary
@each_weights
def test_gradient_through_a_network_is_that_of_finite_differences(weights):
    """Sources spike at fixed times and the neurons never do: the potential is smooth in weight."""
    op = made(weights, float, True, 30, 20, p=0.3)
    sources = Emitter(jnp.arange(30, dtype=jnp.int32) % 17)
    net = pb.Network(
        {"S": sources, "N": pb.LIF(20, v_th=1e6)},
        [projection("S", "N", op, drive=pb.COBA(0.0))],
    )
    state = net.init(dt=DT, key=jax.random.key(0))

    @jax.jit
    def potential(weight):
        changed = eqx.tree_at(weight_of, net, weight)
        save = lambda tick, state, out: state.populations["N"].v  # noqa: E731
        run = pb.simulate(changed, state, {"N": 5.0}, dt=DT, duration=4.0, save=save)
        return jnp.mean(run.saved**2)

    got = jax.grad(potential)(op.weight).reshape(-1)
    h = 1e-5
    for k, step in enumerate(h * np.eye(got.size)):
        step = step.reshape(op.weight.shape)
        difference = (potential(op.weight + step) - potential(op.weight - step)) / (2 * h)
        assert abs(difference) > 1e-3
        np.testing.assert_allclose(got[k], difference, rtol=1e-6)


# ---- errors --------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Pretends that brainpylib is installed, in a version, for a Python; without its binary."""

    def pretend(version, python=(3, 11)):
        monkeypatch.setattr(brainpylib, "sys", SimpleNamespace(version_info=(*python, 0)))

        def distribution(name):
            assert name == "brainpylib"
            if version is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return SimpleNamespace(version=version, locate_file=lambda file: tmp_path / file)

        monkeypatch.setattr(importlib.metadata, "distribution", distribution)
        brainpylib._functions.cache_clear()

    yield pretend
    brainpylib._functions.cache_clear()


@pytest.mark.parametrize(
    ("version", "python", "message"),
    [
        (None, (3, 11), r'not installed: pip install "purebrain\[brainpylib\]"'),
        ("0.3.1", (3, 11), r"brainpylib 0\.3\.1 is installed, but it must be 0\.1\.10"),
        ("0.1.10", (3, 13), r"needs Python 3\.11, this is 3\.13"),
        (None, (3, 12), r"needs Python 3\.11, this is 3\.12"),
        ("0.1.10", (3, 11), r"no binary for this platform"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_loaded(installed, version, python, message):
    installed(version, python)
    for name, make in MAKE.items():
        with pytest.raises(ImportError, match=message):
            make(*PARAMETERS[name], P, 3, 2, seed=0)


@pytest.mark.skipif(sys.version_info[:2] == (3, 11), reason="for every Python but 3.11")
def test_another_python_is_refused():
    with pytest.raises(ImportError, match=r"brainpylib 0\.1\.10 needs Python 3\.11"):
        made("homo")


@needs_binary
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (partial(brainpylib.prob_homo, [1.0, 2.0], 0.1, 3, 2, seed=0), ValueError, "weight: shape"),
        (partial(brainpylib.prob_homo, np.nan, 0.1, 3, 2, seed=0), ValueError, "weight: nan"),
        (partial(brainpylib.prob_homo, 1.0, 0.0, 3, 2, seed=0), ValueError, r"p: 0\.0"),
        (partial(brainpylib.prob_homo, 1.0, 1.5, 3, 2, seed=0), ValueError, r"p: 1\.5"),
        (partial(brainpylib.prob_homo, 1.0, np.nan, 3, 2, seed=0), ValueError, "p: nan"),
        (partial(brainpylib.prob_homo, 1.0, 1e-7, 3, 2, seed=0), ValueError, "p: 1e-07; .*2.*-20"),
        (partial(brainpylib.prob_homo, 1.0, True, 3, 2, seed=0), ValueError, "p: True; it must be"),
        (partial(brainpylib.prob_homo, 1.0, "0.1", 3, 2, seed=0), ValueError, "p: '0.1'; it must"),
        (partial(brainpylib.prob_homo, 1.0, None, 3, 2, seed=0), ValueError, "p: None; it must be"),
        (
            partial(brainpylib.prob_homo, 1.0, np.ones(2), 3, 2, seed=0),
            ValueError,
            r"p: float64\[2\]; it must be a probability",
        ),
        (
            lambda: jax.jit(lambda p: brainpylib.prob_homo(1.0, p, 3, 2, seed=0))(0.1),
            ValueError,
            "p: traced; it must be a probability",
        ),
        (
            partial(brainpylib.prob_homo, 1.0, 0.1, 3, 2, seed=0, outdim_parallel="x"),
            TypeError,
            "outdim_parallel: 'x'; .*outdim_parallel=True",
        ),
        (partial(brainpylib.prob_homo, "x", 0.1, 3, 2, seed=0), TypeError, "weight: 'x'; it must"),
        (
            partial(brainpylib.prob_uniform, np.nan, 1.0, 0.1, 3, 2, seed=0),
            ValueError,
            "low: nan; it must be finite",
        ),
        (
            partial(brainpylib.prob_normal, 0.0, "a", 0.1, 3, 2, seed=0),
            TypeError,
            "sd: 'a'; it must be real numbers",
        ),
        (partial(brainpylib.prob_homo, 1.0, 0.1, -1, 2, seed=0), ValueError, "n_pre: -1"),
        (partial(brainpylib.prob_homo, 1.0, 0.1, 3, 2, seed=-1), ValueError, "seed: -1"),
        (partial(brainpylib.prob_homo, 1.0, 0.1, 3, 2, seed=2**32), ValueError, "seed: 4294967296"),
        (partial(brainpylib.prob_uniform, 2.0, 1.0, 0.1, 3, 2, seed=0), ValueError, "high: 1.0"),
        (partial(brainpylib.prob_normal, 2.0, -1.0, 0.1, 3, 2, seed=0), ValueError, "sd: -1.0"),
        (
            partial(brainpylib.prob_homo, jnp.ones((), jnp.bfloat16), 0.1, 3, 2, seed=0),
            TypeError,
            "weight: bfloat16; brainpylib has binaries for float32 and float64",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with without_type_checker(), pytest.raises(error, match=message):
        make()


def test_it_needs_no_import_of_its_own():
    done = "import purebrain as pb; pb.ops.brainpylib.prob_homo"
    subprocess.run([sys.executable, "-c", done], check=True)


@needs_binary
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_are_refused_when_lowered(platform):
    op = made("homo")
    s, x = jnp.ones(N_PRE), jnp.ones(N_POST)
    gradient = jax.grad(lambda op: jnp.sum(op.mv(s)))
    for f in (lambda op: op.mv(s), lambda op: op.mv_t(x), gradient):
        traced = jax.jit(f).trace(op)
        with pytest.raises(NotImplementedError, match="the binary is for the CPU only"):
            traced.lower(lowering_platforms=(platform,))

"""What is particular to the kernels that Numba compiles; their products are tested with those of
all operators (test_operators.py, test_sloped.py)."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops
from purebrain.ops.native import _call, _choose

pytest.importorskip("numba", reason="the kernels are compiled by Numba")

ROOT = Path(__file__).parents[1]
N, K = 300, 7
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, N, (N, K))
INDPTR = np.arange(N + 1) * K


def calls(f, *args):
    """How often native kernels are called by the compiled program."""
    return jax.jit(f).lower(*args).compile().as_text().count("purebrain_native")


def csr(weight=0.5):
    return ops.CSR(weight, INDPTR, IDS.reshape(-1), N)


def test_they_are_used_where_they_can_be(monkeypatch):
    s = jnp.ones(N)
    op = csr()
    assert calls(lambda s: op.mv(s), s) == 1
    off = ops.tuned(op, ops.cpu.Tuning(native=False))
    assert calls(lambda s: off.mv(s), s) == 0
    for weight, n in ((jnp.asarray(0.5), 1), (jnp.full(IDS.size, 0.5), 0)):
        half = csr(weight.astype(jnp.float16))
        assert calls(lambda s, half=half: half.mv(s), s.astype(jnp.float16)) == n
    monkeypatch.setattr(_choose, "installed", lambda: False)
    assert calls(lambda s: op.mv(s + 1), s) == 0


@pytest.mark.parametrize(
    "ids",
    [IDS.copy(), IDS - 1 - IDS.min(), IDS + N - IDS.max()],
    ids=["an indptr", "below 0", "beyond the last"],
)
@pytest.mark.parametrize("product", ["mv", "mv_t"])
def test_ids_that_could_not_be_validated_are_an_error_not_a_crash(ids, product):
    ids = jnp.asarray(ids.reshape(-1), jnp.int32)
    valid = bool((ids >= 0).all() & (ids < N).all())
    indptr = jnp.asarray(INDPTR, jnp.int32).at[5].add(10**9 if valid else 0)

    @jax.jit
    def f(indptr, ids):
        return getattr(ops.CSR(0.5, indptr, ids, N), product)(jnp.ones(N))

    with pytest.raises(jax.errors.JaxRuntimeError, match=r"out of bounds.*Make the operator"):
        f(indptr, ids).block_until_ready()
    assert np.isfinite(
        f(jnp.asarray(INDPTR, jnp.int32), jnp.asarray(IDS.reshape(-1), jnp.int32))
    ).all()


@pytest.mark.parametrize("tuning", [None, ops.cpu.Tuning(native=False)], ids=["native", "pure JAX"])
@pytest.mark.parametrize("lo", [0, 13, 63])
def test_the_values_of_a_larger_population(tuning, lo):
    """`mv_add_where(y, s, where, lo)` is the product of a slice, with all its derivatives."""
    op = ops.tuned(csr(RNG.normal(size=N * K)), tuning)
    n = N + 63
    s, where = jnp.asarray(RNG.normal(size=n)), jnp.asarray(RNG.random(n) < 0.2)
    s = jnp.where(where, s, 0)

    def loss(f):
        return jax.value_and_grad(lambda y, s: jnp.sum(jnp.sin(f(y, s))), (0, 1))(jnp.ones(N), s)

    got = loss(lambda y, s: op.mv_add_where(y, s, where, lo))
    want = loss(lambda y, s: y + jnp.where(where, s, 0)[lo : lo + N] @ op.as_matrix())
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"lo = 64; but the operator has n_pre = 300"):
        op.mv_add_where(jnp.ones(N), s, where, 64)


def test_views_of_packed_spikes():
    op = csr(RNG.normal(size=N * K))
    fires = jnp.asarray(RNG.random(N + 100) < 0.3)
    for lo in (0, 1, 31, 100):
        got = op.mv(ops.pack(fires)[lo : lo + N])
        want = fires[lo : lo + N].astype(float) @ op.as_matrix()
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [csr, lambda w: ops.FixedOutdegree(w.reshape(N, K), IDS, N)])
def test_large_sums_are_added_to_in_their_place(make, monkeypatch):
    op = make(RNG.normal(size=N * K))
    s, y = jnp.asarray(RNG.random((5, N)) < 0.1), jnp.asarray(RNG.normal(size=N))

    def run(y, s):
        return jax.lax.scan(lambda y, s: (op.mv_add(0.9 * y, s), y), y, s)

    def text():
        jax.clear_caches()
        return jax.jit(run).lower(y, s).compile().as_text()

    want = run(y, s)
    assert "output_to_operand_aliasing" not in text()
    monkeypatch.setattr("purebrain.ops.native._stored.COPIED", 0)
    assert "output_to_operand_aliasing" in text()
    for a, b in zip(jax.jit(run)(y, s), want, strict=True):
        np.testing.assert_array_equal(a, b)
    want = y + s[0].astype(float) @ op.as_matrix()
    np.testing.assert_allclose(op.mv_add(y, s[0]), want, rtol=0, atol=1e-12)
    assert not y.is_deleted()


def in_threads(run):
    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_several_threads_at_once():
    op, s = csr(RNG.normal(size=N * K)), jnp.asarray(RNG.normal(size=(8, N)))
    f = jax.jit(lambda s: op.mv(s))
    want, got = [f(row) for row in s], [None] * 8

    def run(k):
        for _ in range(50):
            got[k] = f(s[k])

    in_threads(run)
    np.testing.assert_array_equal(jnp.stack(got), jnp.stack(want))


def test_threads_that_need_one_kernel_at_once_register_it_once(monkeypatch):
    made = []
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda name, *_, **__: made.append(name))
    monkeypatch.setattr(_call, "_register", functools.cache(_call._register.__wrapped__))
    from purebrain.ops.native.compiled._stored import stored_rows

    names, barrier = [None] * 8, threading.Barrier(8)

    def run(k):
        barrier.wait()
        names[k] = _call._registered(stored_rows, (0, "float32", "uint32", False, True, False))

    in_threads(run)
    assert len(set(names)) == 1 and made == names[:1]


@pytest.mark.parametrize(
    "op", [csr(), ops.FixedOutdegree(0.5, IDS, N), ops.FixedIndegree(0.5, IDS, N)], ids=type
)
def test_ids_of_64_bits_that_replace_those_of_32(op):
    wide = jax.tree.map(
        lambda a: a.astype(jnp.int64) if jnp.issubdtype(a.dtype, jnp.integer) else a, op
    )
    s = jnp.asarray(RNG.normal(size=N))
    np.testing.assert_array_equal(wide.mv(s), op.mv(s))
    np.testing.assert_array_equal(wide.mv_t(s), op.mv_t(s))


@pytest.mark.parametrize("name", ["indices", "indptr"])
def test_arrays_that_do_not_belong_together_are_refused(name):
    op = csr(np.ones(N * K))
    other = jnp.concatenate([getattr(op, name)] * 3)
    mixed = eqx.tree_at(lambda op: getattr(op, name), op, other)
    message = f"{name}: {other.size} numbers; the operator's other arrays need {other.size // 3}"
    for product in (mixed.mv, mixed.mv_t):
        with pytest.raises(ValueError, match=message):
            product(jnp.ones(N))


def test_a_network_runs_alike_without_them():
    def run(tuning):
        neurons = pb.LIF(60, tau=20.0, v_rest=-60.0, v_th=-50.0, v_init=pb.Uniform(-60.0, -50.0))
        comm = pb.connect.fixed_prob(0.2, 0.3, key=jax.random.key(0))
        net = pb.Network(
            {"N": neurons},
            [pb.Projection("N", "N", comm, pb.Exponential(tau=5.0), pb.Current(), delay=1.0)],
        )
        net = ops.tuned(pb.inference_mode(net), tuning)
        state = net.init(dt=0.1, key=jax.random.key(1))
        return pb.simulate(net, state, {"N": 12.0}, dt=0.1, duration=40.0)

    native, pure = run(None), run(ops.cpu.Tuning(native=False))
    spikes = native.saved["N"].to_dense()
    assert spikes.sum() > 50
    np.testing.assert_array_equal(spikes, pure.saved["N"].to_dense())
    np.testing.assert_allclose(
        native.state.populations["N"].v, pure.state.populations["N"].v, rtol=0, atol=1e-10
    )


def test_numba_is_imported_when_it_is_needed():
    code = (
        "import sys, jax.numpy as jnp; from purebrain import ops\n"
        "op = ops.CSR(0.5, jnp.array([0, 1]), jnp.array([0]), 1)\n"
        "assert 'numba' not in sys.modules\n"
        "op.mv(jnp.ones(1)); assert 'numba' in sys.modules"
    )
    use(code)


USE = """
import sys, warnings, jax.numpy as jnp, numpy as np
from purebrain import ops
csr = ops.CSR(0.5, np.array([0, 1]), np.array([0]), 1)
random = [ops.jit_homogeneous(0.5, 0.001, 1, n, seed=1) for n in (2**16, 2**16 + 1)]
delayed = ops.DelayedCSR(csr, np.array([0.2]))
assert csr.mv(jnp.ones(1)) == 0.5 and csr.mv_t(jnp.ones(1)) == 0.5
assert [int(2 * op.mv(jnp.ones(1)).sum()) > 0 for op in random] == [True, True]
assert delayed.send(jnp.zeros(8), jnp.ones(1), jnp.int32(0), 0.1).sum() == 0.5
"""


def use(code=USE, **environment):
    environment = {**os.environ, **{key: str(value) for key, value in environment.items()}}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def test_what_was_compiled_once_is_kept_on_disk(tmp_path):
    def kept():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}

    use(NUMBA_CACHE_DIR=tmp_path)
    first = kept()
    assert len(first) == 5
    use(NUMBA_CACHE_DIR=tmp_path)
    assert kept() == first


@pytest.mark.slow
def test_without_a_place_on_disk_they_are_compiled_every_time():
    no_place = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
"""
    use(no_place + USE)


def test_a_numba_that_cannot_be_imported_is_not_used(tmp_path):
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba/__init__.py").write_text("raise ImportError('Numba needs NumPy 1.0')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = use(PYTHONPATH=path)
    assert done.stderr.count("numba cannot be imported, so CPU kernels are those of XLA") == 1
    assert "Numba needs NumPy 1.0" in done.stderr


def test_what_is_kept_on_disk_knows_all_its_sources():
    from purebrain.ops.native import compiled
    from purebrain.ops.native.compiled import _stamp, _stored

    # Every module of ours that a compiled function takes something from.
    folder = Path(str(importlib.util.find_spec(compiled.__name__).origin)).parent
    needed = set(folder.glob("*.py"))
    for path in folder.glob("*.py"):
        for dots, name in re.findall(r"^from (\.+)(\w+) import", path.read_text(), re.MULTILINE):
            needed.add(folder.parents[len(dots) - 2] / f"{name}.py" if dots != "." else path)
    assert needed == set(_stamp.SOURCES)

    function = _stored.stored_rows(0, "float32", "uint32", False, True, False, compiled.STAMP, True)
    assert compiled.STAMP in [cell.cell_contents for cell in function.__wrapped__.__closure__]

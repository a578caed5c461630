"""Which kernels a GPU gets, and what is refused before anything runs: on any machine and JAX."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops
from purebrain.ops._family import Layout
from purebrain.ops._say_once import say_once
from purebrain.ops.gpu import Tuning, _platform
from tests.kernels import operators
from tests.kernels.operators import FORMS

NEW = jax.__version_info__ >= (0, 11, 2)
needs_mosaic = pytest.mark.skipif(
    not NEW, reason=f"jax {jax.__version__}: Mosaic GPU kernels need 0.11.2"
)


def text(f, *args, platform="cuda"):
    """What is lowered for a platform that need not be here."""
    return (
        jax.jit(lambda *args: f(*args)).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    )


def test_pallas_is_imported_where_a_kernel_is_lowered_for_a_gpu():
    script = """if True:
        import sys
        import jax, jax.numpy as jnp
        from purebrain import ops
        op = ops.FixedOutdegree(0.5, jnp.zeros((4, 2), int), 3)
        jax.jit(lambda s: op.mv(s))(jnp.ones(4))
        here = [name for name in sys.modules if name.startswith("jax.experimental.pallas")]
        here += [name for name in sys.modules if name.endswith("_simt")]
        assert not here, here
        if jax.__version_info__ >= (0, 11, 2):
            jax.jit(lambda s: op.mv(s)).trace(jnp.ones(4)).lower(lowering_platforms=("cuda",))
            assert "purebrain.ops.gpu._simt" in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_mosaic
@pytest.mark.filterwarnings("ignore:op. this platform has no kernels")
@pytest.mark.parametrize("form", FORMS)
def test_only_the_targets_kernel_is_traced(monkeypatch, form):
    from purebrain.ops.gpu import _kernels

    op, s = operators.make(form), jnp.ones(70, jnp.float32)
    assert "purebrain_scatter" in text(op.mv, s)
    for platform in ("cpu", "rocm"):
        monkeypatch.setattr(_kernels, "launch", None)
        assert "mosaic_gpu" not in text(op.mv, s, platform=platform)


@needs_mosaic
@pytest.mark.parametrize(
    ("batch", "transform"),
    [
        ((), lambda op: jax.grad(lambda s: jnp.sum(op.mv(s) ** 2))),
        ((3,), lambda op: jax.vmap(jax.grad(lambda s: jnp.sum(op.mv(s) ** 2)))),
        ((3,), lambda op: jax.grad(lambda s: jnp.sum(op.mm(s) ** 2))),
        ((), lambda op: lambda s: jax.jvp(op.mv, (s,), (s,))),
        ((), lambda op: jax.hessian(lambda s: jnp.sum(op.mv(s) ** 2))),
    ],
)
def test_transforms_are_lowered(batch, transform):
    op = operators.make("csr", True)
    assert "mosaic_gpu" in text(transform(op), jnp.ones((*batch, 70), jnp.float32))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mosaic", [pytest.param(True, marks=needs_mosaic), False])
def test_masked_products_are_lowered(monkeypatch, form, mosaic):
    """Those that a network's derivative takes where its surrogate is 0 beyond some width."""
    if not mosaic:
        monkeypatch.setattr(jax, "__version_info__", (0, 10, 2))
        monkeypatch.setattr(_platform, "say_xla", lambda why: None)
    op, s = operators.make(form), jnp.ones(70, jnp.float32)

    def product(s):
        return jnp.sum(op.mv_add_where(jnp.zeros(50, jnp.float32), s, s > 0))

    assert ("mosaic_gpu" in text(jax.value_and_grad(product), s)) == mosaic


def test_without_mosaic_the_xla_path_says_so_once(monkeypatch):
    say_once.cache_clear()
    monkeypatch.setattr(jax, "__version_info__", (0, 10, 2))
    op, s = operators.make("csr", True), jnp.ones(70, jnp.float32)
    with pytest.warns(UserWarning, match=r"the GPU kernels need jax >= 0\.11\.2"):
        lowered = text(op.mv, s)
    assert text(lambda s: op.mv(2 * s), s)  # a second warning would be an error here
    assert "mosaic_gpu" not in lowered and "scatter" in lowered
    deterministic = ops.tuned(op, Tuning(deterministic=True))
    with pytest.raises(ValueError, match=r"tuning: deterministic needs jax >= 0\.11\.2"):
        text(deterministic.mv, s)


@needs_mosaic
@pytest.mark.parametrize("kind", ["mv", "mv_t"])
def test_other_precisions_are_left_to_xla_which_is_said_once(kind):
    say_once.cache_clear()
    op = operators.make("fixed_outdegree", True, jnp.float8_e4m3fn, 50, 50)
    s = jnp.ones(50, jnp.float8_e4m3fn)
    with pytest.warns(UserWarning, match="float8_e4m3fn: the GPU kernels take float16, bfloat16"):
        lowered = text(getattr(op, kind), s)
    assert "mosaic_gpu" not in lowered
    assert text(lambda s: getattr(op, kind)(-s), s)  # a second warning would be an error here


@needs_mosaic
def test_empty_connectivities_are_left_to_xla():
    empty = ops.FixedOutdegree(0.5, np.zeros((4, 0), np.int32), 3)
    assert "mosaic_gpu" not in text(empty.mv, jnp.ones(4))
    nobody = ops.CSR(0.5, np.zeros(1, np.int32), np.zeros(0, np.int32), 3)
    assert "mosaic_gpu" not in text(nobody.mv, jnp.ones(0))


@needs_mosaic
@pytest.mark.parametrize(
    ("layout", "batch", "structure", "message"),
    [
        (Layout(2**20, 4, ()), 2**11, ((2**20, 8),), "the list of events holds at most"),
        (Layout(2, 4, ()), 1, ((2, 2**31 - 8),), "can be numbered"),
    ],
)
def test_what_cannot_be_counted_is_refused_before_it_runs(layout, batch, structure, message):
    from purebrain.ops.gpu import _kernels, _rows

    def shape(size, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(size, dtype)

    args = shape((batch, layout.n_post)), shape((batch, layout.n_pre)), shape((1,))
    targets = [shape(size, jnp.int32) for size in structure]
    kernels = _kernels.kernels(_rows.FIXED_OUTDEGREE)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda *a: kernels.scatter(layout, *a), *args, *targets)


@needs_mosaic
def test_too_many_slices_are_refused_before_they_are_sorted():
    from purebrain.ops.gpu import _kernels, _rows

    layout = Layout(2**20, 4, (), tuning=Tuning(deterministic=True, lanes=1))
    shapes = [(512, 4), (512, 2**20), (1,), (2**20, 8)]
    dtypes = [jnp.float32] * 3 + [jnp.int32]
    args = [jax.ShapeDtypeStruct(*a) for a in zip(shapes, dtypes, strict=True)]
    kernels = _kernels.kernels(_rows.FIXED_OUTDEGREE)
    with pytest.raises(ValueError, match="slices of 1 synapses"):
        jax.eval_shape(lambda *a: kernels.scatter(layout, *a), *args)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(lanes=3), "lanes: 3"),
        (dict(lanes=64), "lanes: 64"),
        (dict(programs=0), "programs: 0"),
        (dict(chunk=0), "chunk: 0"),
    ],
)
def test_bad_tuning(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tuning(**arguments)


def test_tuning_reaches_every_operator_of_a_network():
    rule = pb.connect.fixed_prob(0.5, 0.3, key=jax.random.key(0))
    projection = pb.Projection("N", "N", rule, pb.Exponential(5.0), pb.Current(), 0.2)
    net = pb.Network({"N": pb.LIF(5)}, [projection])
    tuning = Tuning(lanes=4)
    changed = ops.tuned(net, tuning)

    def tunings(net):
        nodes = jax.tree.leaves(net, is_leaf=lambda x: isinstance(x, ops.AbstractOperator))
        return [x.tuning for x in nodes if isinstance(x, ops.AbstractOperator)]

    assert tunings(changed) == [tuning] and tunings(net) == [None]
    assert tunings(ops.tuned(changed, None)) == [None]


def test_merging_keeps_the_tuning():
    """Of each projection; those that are launched alike become one."""
    rule = pb.connect.fixed_prob(0.5, 0.3, key=jax.random.key(0))
    projection = pb.Projection("N", "N", rule, pb.Exponential(5.0), pb.Current(), 0.2)
    neurons = {"N": pb.LIF(5)}
    one, other = Tuning(lanes=4), Tuning(deterministic=True)
    tunings = [one, one, other, None]
    pathways = [ops.tuned(pb.Network(neurons, [projection]), t).pathways[0] for t in tunings]
    (merged,) = pb.merge(pb.Network(neurons, pathways)).pathways
    assert [inp.comm.tuning for inp in merged.inputs] == [one, other, None]


@needs_mosaic
def test_the_tuning_of_another_platform_has_no_effect():
    op, s = operators.make("csr"), jnp.ones(70, jnp.float32)
    foreign = ops.tuned(op, ops.tpu.Tuning(in_flight=8))
    assert text(foreign.mv, s) == text(op.mv, s) != text(ops.tuned(op, Tuning(lanes=4)).mv, s)

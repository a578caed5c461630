"""The machine code of the GPU kernels, executed without a GPU: the PTX in the simulator."""

import numpy as np
import pytest

import jax.numpy as jnp

from purebrain import ops
from tests.kernels.gpu_targets import needs_compiler, simulated

pytestmark = [pytest.mark.kernels, needs_compiler]


@pytest.fixture
def execute(monkeypatch):
    """A form's kernels, executed in the simulator."""

    def make(form, target="h100", edit=lambda ptx: ptx):
        from purebrain.ops.gpu import _events, _kernels, _rows, _sorted

        launch = simulated(target, monkeypatch, edit)
        for module in (_events, _kernels, _sorted):
            monkeypatch.setattr(module, "launch", launch)
        return _kernels.kernels(getattr(_rows, form))

    return make


def test_first(execute):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50, (100, 10)).astype(np.int32)
    op = ops.FixedOutdegree(np.float32(rng.normal(size=(100, 10))), ids, 50)
    s = jnp.asarray(rng.normal(size=(2, 100)) * (rng.random((2, 100)) < 0.3), jnp.float32)
    k = execute("FIXED_OUTDEGREE")
    y = jnp.ones((2, 50), jnp.float32)
    got = k.scatter(op.layout, y, s, op.weight[None], op.indices)
    want = 1 + np.asarray(s) @ np.asarray(op.as_matrix())
    np.testing.assert_allclose(got, want, 1e-5, 1e-5)

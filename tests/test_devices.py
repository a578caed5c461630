"""Operators where arrays lie on several devices: what they give on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import equinox as eqx, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import purebrain as pb
from purebrain import ops

jax.config.update("jax_enable_x64", True)
form, native = sys.argv[1], sys.argv[2] == "native"
rng, N, M = np.random.default_rng(0), 40, 20_000
weight, ids = jnp.asarray(rng.normal(size=(N, 3))), rng.integers(0, N, (N, 3))
rows = weight.reshape(-1), np.arange(N + 1) * 3, ids.reshape(-1)
op = {
    "csr": lambda: ops.CSR(*rows, N),
    "csr, large sums": lambda: ops.CSR(*rows, M),
    "fixed_outdegree": lambda: ops.FixedOutdegree(weight, ids, N),
    "fixed_indegree": lambda: ops.FixedIndegree(weight, ids, N),
    "jit": lambda: ops.jit_normal(0.5, 1.0, 0.1, N, N, seed=1),
}[form]()
op = op if native else ops.tuned(op, ops.cpu.Tuning(native=False))
dense = np.asarray(op.as_matrix())
S = rng.normal(size=(4, N)) * (rng.random((4, N)) < 0.4)
Y = rng.normal(size=(4, op.n_post))

def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)

def product(w, y, s):
    return jax.vmap(eqx.tree_at(lambda op: op.weight, op, w).mv_add)(y, s)

want_grads = jax.grad(lambda w, y, s: jnp.sum(product(w, y, s) ** 2), (0, 1, 2))(op.weight, Y, S)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    s, y = (jax.device_put(a, NamedSharding(mesh, P("x"))) for a in (S, Y))
    close(jax.jit(product)(op.weight, y, s), Y + S @ dense)
    whole = jax.grad(lambda w, y, s: jnp.sum(product(w, y, s) ** 2), (0, 1, 2))
    for got, want in zip(jax.jit(whole)(op.weight, y, s), want_grads, strict=True):
        close(got, want)
    for check in (True, False):
        def mapped(f, out):
            specs = P(), P("x"), P("x")
            return jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=out, check_vma=check)

        close(jax.jit(mapped(product, P("x")))(op.weight, y, s), Y + S @ dense)

        def loss(w, y, s):
            return jax.lax.psum(jnp.sum(product(w, y, s) ** 2), "x")

        close(jax.jit(jax.grad(mapped(loss, P())))(op.weight, y, s), want_grads[0])

# What varies from device to device is no result that all have in common.
try:
    jax.shard_map(lambda s: op.mv(s[0]), mesh=mesh, in_specs=P("x"), out_specs=P())(s)
except ValueError as error:
    assert "replication" in str(error) or "varying" in str(error), error
else:
    raise AssertionError("device 0's result was taken for everybody's")
"""
FORMS = ["csr", "csr, large sums", "jit"]
FORMS += [
    pytest.param(name, marks=pytest.mark.slow) for name in ("fixed_outdegree", "fixed_indegree")
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kernels", ["native", pytest.param("pure JAX", marks=pytest.mark.slow)])
def test_products_on_two_devices(form, kernels):
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, form, kernels],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]

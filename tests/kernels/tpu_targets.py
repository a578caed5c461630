"""TPUs that are not there: compiling for them, and what the compiled program does."""

import os
import re
from functools import cache
from importlib import util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

# Without these the compiler asks for a machine with TPUs, and for that machine alone.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

TOPOLOGIES = {
    "v4": "v4:2x2x1",
    "v5e": "v5e:2x2",
    "v5p": "v5p:2x2x1",
    "v6e": "v6e:2x2",
    "7x": "tpu7x:2x2x1",
}
KINDS = {"v4": "TPU v4", "v5e": "TPU v5e", "v5p": "TPU v5p", "v6e": "TPU v6e", "7x": "TPU7x"}
WITH_SPARSE_CORES = ("v5p", "v6e", "7x")
COMPILER = "0.0.42.*" if jax.__version_info__ < (0, 11) else "0.0.50.*"

needs_compiler = pytest.mark.skipif(
    util.find_spec("libtpu") is None,
    reason=f"no compiler for TPUs: pip install 'libtpu=={COMPILER}' (for jax {jax.__version__})",
)


@cache
def mesh(target: str) -> Mesh:
    """One TPU of the kind `target`."""
    topology = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[target])
    return Mesh(np.array(topology.devices[:1]), ("x",))


def lower(target: str, f, *args):
    """`f` lowered for `target` and arguments like `args`."""
    sharding = NamedSharding(mesh(target), PartitionSpec())

    def shape(a):
        return jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a), sharding=sharding)

    with jax.sharding.use_abstract_mesh(mesh(target).abstract_mesh):
        return jax.jit(f).trace(*jax.tree.map(shape, args)).lower()


def as_if_on(target: str):
    """In this context, kernels are traced for a TPU, with no compiler for it."""
    device = AbstractDevice(KINDS[target], 1, "tpu")
    axes = {"axis_types": (AxisType.Auto,), "abstract_device": device}
    return jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("x",), **axes))


RESULT = re.compile(r"^\s+(?:ROOT )?%(\S+) = \w+\[([\d,]*)\]\S* ([\w-]+)\(")
FREE = ("parameter", "bitcast", "get-tuple-element", "constant", "opt-barrier")


def large_results(compiled, n: int, loops_only: bool = False) -> list[str]:
    """The operations whose result has n numbers or more, views and inner ones of fusions excepted:
    copies, where nothing but the inputs is so large. Of loops only: what is done in every step."""
    found, computation = [], ""
    for line in compiled.as_text().splitlines():
        if line and not line[0].isspace():
            computation = line
        match = RESULT.match(line)
        inner = "fused_computation" in computation
        inner |= loops_only and computation.startswith("ENTRY")
        if match and not inner and match[3] not in FREE:
            if np.prod([int(k) for k in match[2].split(",") if k], dtype=float) >= n:
                found.append(f"{match[1]}: {match[3]} [{match[2]}]")
    return found

"""GPUs that are not there: compiling for them, and running what was compiled in the simulator."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.kernels import ptx_simulator

COMPUTE_CAPABILITIES = {"h100": (9, 0), "a100": (8, 0), "b200": (10, 0)}
# One a process: Mosaic asks for the machine once.
TARGET = os.environ.get("PUREBRAIN_GPU_TARGET", "h100")


def reason_to_skip() -> str | None:
    """Why nothing can be compiled for a GPU here, or None where it can."""
    if jax.__version_info__ < (0, 11, 2):
        return f"jax {jax.__version__}: Mosaic GPU kernels need 0.11.2"
    for package in ("jax_plugins.xla_cuda13", "nvidia.cu13"):
        if util.find_spec(package.partition(".")[0]) is None or util.find_spec(package) is None:
            return (
                "no compiler for GPUs: pip install --no-deps jax-cuda13-plugin=="
                f"{jax.__version__} jax-cuda13-pjrt=={jax.__version__} nvidia-cuda-nvcc nvidia-nvvm"
            )
    return None


needs_compiler = pytest.mark.skipif(reason_to_skip() is not None, reason=str(reason_to_skip()))


@cache
def mesh() -> Mesh:
    """One GPU of the kind TARGET, as its description in `targets/` has it."""
    description = (Path(__file__).parent / "targets" / f"{TARGET}.txtpb").read_text()
    topology = topologies.get_topology_desc(
        platform="cuda", topology_name=TARGET, target_config=description, topology="1x1x1"
    )
    return Mesh(np.array(topology.devices[:1]), ("x",))


@contextmanager
def on_target(monkeypatch) -> Iterator[NamedSharding]:
    """Lowering for TARGET; yields the sharding of arguments."""
    from jax.experimental.mosaic.gpu import utils

    # A description of a device does not tell Mosaic its compute capability, which it would take to
    # be that of the H100.
    monkeypatch.setattr(utils, "_infer_arch", lambda: COMPUTE_CAPABILITIES[TARGET])
    with jax.sharding.use_abstract_mesh(mesh().abstract_mesh):
        yield NamedSharding(mesh(), PartitionSpec())


def lower(monkeypatch, f: Callable, *args):
    """`f` lowered for TARGET and arguments like `args`."""
    with on_target(monkeypatch) as sharding, jax.disable_jit(False):

        def shape(a):
            return jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a), sharding=sharding)

        return jax.jit(f, keep_unused=True).trace(*jax.tree.map(shape, args)).lower()


@contextmanager
def _standard_output() -> Iterator[Callable[[], str]]:
    # Of the compiler, which writes past Python.
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield lambda: (file.seek(0), file.read().decode())[1]
        finally:
            os.dup2(kept, 1)
            os.close(kept)


DUMPED: dict[str, str] = {}  # by lowered text: a kernel is compiled, and printed, only once


def dumped(lowered) -> str:
    """What the compiler prints of the Mosaic kernels in it: their PTX, and their launch in LLVM."""
    text = lowered.as_text()
    if text not in DUMPED:
        with pytest.MonkeyPatch.context() as patch, _standard_output() as written:
            patch.setenv("MOSAIC_GPU_DUMP_PTX", "1")
            patch.setenv("MOSAIC_GPU_DUMP_HOST_LLVM", "1")
            lowered.compile()
            DUMPED[text] = written()
    return DUMPED[text]


def _launch(host: str) -> tuple[int, list[int]]:
    """The grid, and which buffer each parameter of the kernel is: not all, nor in their order."""
    at = {
        n: int(k) for n, k in re.findall(r"(%\d+) = getelementptr ptr, ptr %\d, i32 (\d+)\n", host)
    }
    loads = re.findall(r"(%\d+) = load ptr, ptr (%\d+)", host)
    buffer = {n: at.get(source, 0) for n, source in loads}
    parameters = [buffer[n] for n in re.findall(r"store ptr (%\d+), ptr", host) if n in buffer]
    grid = re.search(r"call \S+ @mosaic_gpu_\w+\(ptr %0, i32 (\d+), i32 1, i32 1,", host)
    return int(grid[1]), parameters


def simulated(monkeypatch, edit: Callable = lambda ptx: ptx) -> Callable:
    """A stand-in for `launch` of `ops/gpu/_simt.py`: what is compiled for TARGET, after `edit`,
    is executed by the simulator."""
    from purebrain.ops.gpu import _simt

    def run(tuning, name, body, threads, inputs, outputs):
        updated = [a for a in outputs if isinstance(a, jax.Array)]

        def call(inputs, updated):
            given = iter(updated)
            outs = [next(given) if isinstance(a, jax.Array) else a for a in outputs]
            return _simt.launch(tuning, name, body, threads, inputs, outs)

        lowered = lower(monkeypatch, call, inputs, updated)
        ptx, host = dumped(lowered).split("; ModuleID")
        grid, parameters = _launch(host)
        # The buffers: operands of the call, of which the last are updated, then what is made.
        (operands,) = re.findall(r"custom_call @mosaic_gpu_v2\(([^)]*)\)", lowered.as_text())
        order = [int(n) for n in re.findall(r"%arg(\d+)", operands)]
        flat = [np.asarray(a) for a in jax.tree.leaves((inputs, updated))]
        made = [np.zeros(a.shape, a.dtype) for a in outputs if not isinstance(a, jax.Array)]
        memory = ptx_simulator.Memory()
        addresses = [memory.add(flat[k]) for k in order]
        addresses += [memory.add(a, written=False) for a in made]
        ptx_simulator.run(edit(ptx), grid, [addresses[k] for k in parameters], memory)
        results = dict(zip(order, addresses, strict=False))
        first = len(flat) - len(updated)
        kept = (memory.get(results[first + k], a) for k, a in enumerate(flat[first:]))
        written = map(memory.get, addresses[len(order) :], made)
        outs = [next(kept if isinstance(a, jax.Array) else written) for a in outputs]
        return [jnp.asarray(a) for a in outs]

    return run

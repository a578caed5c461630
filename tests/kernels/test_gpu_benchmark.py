"""The benchmark for the first machine with a GPU runs from beginning to end on one without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(*options):
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", *options],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


@pytest.mark.kernels
def test_smoke():
    done = run("--smoke", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["smoke"] and len(figures["numerics"]) == 54
    assert all(row["ok"] for row in figures["numerics"])
    rows = {row["what"]: row for row in figures["rows"]}
    for name in ("CSR, weights", "JIT, normal", "XLA scatter", "jax.experimental.sparse"):
        assert rows[name]["us"] > 0 and rows[name]["percent"] > 0
    for peer in ("cuSPARSE (CuPy)", "brainevent"):
        assert ("us" in rows[peer]) != ("note" in rows[peer])
    assert any(name.startswith("COBA-LIF") for name in rows)


def test_no_gpu_is_no_benchmark():
    done = run()
    assert done.returncode == 2 and "--smoke" in done.stderr

"""The benchmark for the first machine with a GPU runs from beginning to end on one without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import gpu


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
    assert figures["smoke"] and len(figures["numerics"]) == 224
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


def nothing():
    raise RuntimeError("no such kernel\nand more")


@pytest.mark.parametrize(
    ("got", "ok", "note"),
    [
        (lambda: (np.ones(2), np.array([1.0, 2.0 + 1e-9])), True, None),
        (lambda: (np.ones(2), np.array([1.0, 2.1])), False, None),
        (lambda: (np.ones(2), np.array([1.0, np.nan])), False, "not finite"),
        (lambda: (np.ones(2), np.ones(3)), False, r"ValueError: shape (3,), not (2,)"),
        (nothing, False, "RuntimeError: no such kernel"),
    ],
)
def test_what_differs_or_cannot_run_is_a_failed_row(got, ok, note):
    want = lambda: (np.ones(2), np.array([1.0, 2.0]))  # noqa: E731
    row = gpu.checked("a product", "float64", got, want, 1e-8)
    assert row["ok"] == ok and row.get("note") == note
    assert (row["error"] is None) == (note is not None)


FAILED = {"what": "this one", "neurons": 20, "dtype": "float32", "note": "why", "ok": False}
FINE = {"what": "another", "neurons": 20, "us": 1.0, "error": 0.0, "ok": True}


@pytest.mark.parametrize("part", ["numerics", "products", "networks", None])
def test_a_failed_row_does_not_end_it_and_is_its_exit_status(monkeypatch, capsys, part):
    for name in ("numerics", "products", "networks"):
        rows = [FAILED, FINE] if name == part else [FINE]
        monkeypatch.setattr(gpu, name, lambda *_, rows=rows: rows)
    monkeypatch.setattr(gpu, "copy_bandwidth", lambda *_: 1e9)
    assert gpu.main(gpu.options().parse_args(["--smoke"])) == (part is not None)
    printed = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert len(printed) == (part is not None)
    assert all("this one" in line and "why" in line for line in printed)

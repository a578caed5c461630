"""The benchmarks of the paper's operators run as a user runs them, and what they time is right."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAPER = Path(__file__).parents[1] / "examples" / "paper"
OURS = ("purebrain CSR", "purebrain CSR, one weight", "purebrain fixed out-degree")


def run(name, *args, cwd):
    env = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"} | {"MPLBACKEND": "Agg"}
    command = [sys.executable, str(PAPER / name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


def figures(name, *args, cwd):
    done = run(name, "--json", *args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["rows"]


def test_every_method_computes_the_product_that_numpy_does(tmp_path):
    fractions = (0.05, 0.4)
    rows = figures(
        *("operators.py", "--sizes", 300, "--probs", 0.1, "--fractions", *fractions),
        *("--repeats", 1, "--plot", "figure.png"),
        cwd=tmp_path,
    )
    timed = {(row["method"], row["fraction"]): row for row in rows if "us" in row}
    expected = [*OURS, "purebrain dense", "JAX dense", "JAX BCOO", "JAX BCSR", "scipy CSR"]
    expected += ["scipy rows"] + ["C loop"] * (shutil.which("cc") is not None)
    assert {(method, f) for method in expected for f in fractions} <= timed.keys()
    for row in timed.values():
        assert row["error"] < 1e-6, row
        assert row["us"] > 0 and (row["ratio"] == 1) == (row["method"] == row["reference"])
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    for module in ("torch", "brainevent"):
        notes = [row["note"] for row in rows if row["method"] == f"{module} CSR" and "note" in row]
        if importlib.util.find_spec(module) is None:
            assert notes == [f"not installed: pip install {module}"]


@pytest.mark.slow
def test_matrices_that_are_never_stored_have_their_density(tmp_path):
    n, p = 1000, 0.05
    rows = figures(
        *("jit_operators.py", "--sizes", n, "--probs", p, "--fractions", 0.2),
        *("--laws", "uniform", "--methods", "JAX BCOO", "--repeats", 1, "--plot", "figure.png"),
        cwd=tmp_path,
    )
    timed = {(row["method"], row["product"]): row for row in rows if "us" in row}
    assert timed.keys() == {
        (method, product)
        for method in ("purebrain", "JAX BCOO")
        for product in ("s W", "x W", "W s", "W x")
    }
    for row in timed.values():
        assert row["error"] < 1e-5, row
        # n p synapses of weight 1 +- 0.29 from each of 200 neurons: 4 standard deviations.
        assert abs(row["density"] - 1) < 4 * np.sqrt((1 + 0.29**2) / (p * n * 200)), row
    memory = {row["method"]: row["memory_mb"] for row in rows if "memory_mb" in row}
    assert memory.keys() == {"purebrain", "JAX BCOO"} and min(memory.values()) >= 0
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_what_needs_too_much_memory_is_skipped_and_says_so(tmp_path):
    args = ("--sizes", 300, "--probs", 0.1, "--memory", 1e-5)
    rows = figures("operators.py", *args, cwd=tmp_path)
    assert {row["method"] for row in rows} >= {*OURS, "JAX dense", "torch CSR"}
    assert all(row["note"].startswith("skipped: it needs about") for row in rows)


@pytest.mark.parametrize(
    "name", ["operators.py", pytest.param("jit_operators.py", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--probs", 1.5), "--probs: 1.5; it must be above 0 and at most 1."),
        (("--fractions", 0.1, 0), "--fractions: 0.0; it must be above 0"),
        (("--limit", -1), "--limit: -1.0; it must be finite and above 0."),
        (("--methods", "abacus"), "--methods: 'abacus'; they are 'purebrain"),
        (("--sizes", 0), "0 is not above 0"),
    ],
)
def test_wrong_arguments_end_with_one_clear_line(name, args, message, tmp_path):
    done = run(name, *args, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr

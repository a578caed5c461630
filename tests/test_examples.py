"""Every example runs as a user would run it; wrong arguments end with one clear line."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "joglekar2018"
COBA_KEYS = {
    "neurons",
    "steps",
    "build_s",
    "compile_s",
    "run_s",
    "us_per_step",
    "rate_hz",
    "peak_rss_mb",
}


def run(name, *args, cwd):
    env = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"} | {"MPLBACKEND": "Agg"}
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=1500)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("coba_lif.py", 20.0, 23.0), ("coba_hh.py", 34.0, 42.0)]
)
def test_coba_prints_its_figures_and_saves_a_picture(name, low, high, tmp_path):
    done = run(name, "--json", "--plot", "raster.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) == COBA_KEYS
    assert figures["neurons"] == 4000 and figures["steps"] == 10_000
    assert low <= figures["rate_hz"] <= high
    assert (tmp_path / "raster.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_for_people_and_a_progress_bar(tmp_path):
    done = run("coba_lif.py", "--neurons", 400, "--duration", 50, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rate_hz" in done.stdout and "500/500" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--duration", "10.05"], "duration: 10.05 ms is not a multiple of dt = 0.1"),
        (["--dt", "0"], "dt: 0.0 ms; it must be finite and above 0"),
        (["--delay", "0.05"], "delay: 0.05 ms"),
        (["--neurons", "-3"], "-3 is not above 0"),
        (["--neurons", "many"], "invalid"),
    ],
)
def test_wrong_arguments_end_with_one_clear_line(args, message, tmp_path):
    done = run("coba_lif.py", *args, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_sweep_runs_a_grid_in_one_call(tmp_path):
    args = ("--grid", 3, "--neurons", 200, "--duration", 50, "--plot", "rates.png", "--json")
    done = run("sweep.py", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["networks"] == 9
    # Without inhibition and with the strongest excitation the refractory time is the limit.
    assert figures["rate_min_hz"] < 40 < 150 < figures["rate_max_hz"] <= 200
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_training_reaches_the_target_rate_and_the_gradient_is_that_of_a_secant(tmp_path):
    done = run("train_rate.py", "--json", "--plot", "training.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["secant_hz"] > 0
    assert 1 / 4 < figures["gradient_hz"] / figures["secant_hz"] < 4
    assert abs(figures["rate_start_hz"] - 15) > 5
    assert abs(figures["rate_end_hz"] - 15) < 0.5


def made_up_cortex(folder, n=3):
    """Three areas in a ring, in files of the real format."""
    fln = 0.2 * np.roll(np.eye(n), 1, axis=0)
    distance = np.where(fln > 0, 7.0, 0.0)
    names = np.array([[f"A{k}"] for k in range(n)], dtype=object)
    scipy.io.savemat(folder / "efelenMatpython.mat", {"flnMatpython": fln})
    scipy.io.savemat(folder / "subgraphWiring29.mat", {"wiring": distance})
    scipy.io.savemat(folder / "subgraphData.mat", {"areaList": names})


def test_macaque_merged_and_as_written_agree(tmp_path):
    folder, areas = (DATA, 3) if DATA.is_dir() else (tmp_path, 3)
    if folder is tmp_path:
        made_up_cortex(tmp_path)
    done = run(
        *("macaque.py", "--data", folder, "--areas", areas, "--json", "--plot", "raster.png"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["same_spikes"] is True
    assert figures["merged_synaptic_states"] == 4
    assert figures["as_written_synaptic_states"] == figures["projections"] > 12
    # The made-up cortex is coupled more weakly than the real one, so only the order is sure there.
    low, high = (20, 45) if folder is DATA else (10, 45)
    assert 2 < figures["rate_e_hz"] < low < figures["rate_i_hz"] < high
    assert (tmp_path / "raster.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data of Joglekar et al. (2018)")
def test_macaque_at_all_29_areas(tmp_path):
    done = run("macaque.py", "--data", DATA, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["areas"] == 29 and figures["projections"] == 652
    assert figures["merged_synaptic_states"] == 4
    assert figures["same_spikes"] is True


def test_macaque_refuses_missing_and_malformed_data(tmp_path):
    def error(*args):
        done = run("macaque.py", "--data", tmp_path, *args, cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert "efelenMatpython.mat is missing" in error()
    made_up_cortex(tmp_path)
    assert "--areas: 9; there are 1 to 3" in error("--areas", 9)
    assert "--scale: 1e-06" in error("--areas", 3, "--scale", 1e-6)
    wiring = tmp_path / "subgraphWiring29.mat"
    scipy.io.savemat(wiring, {"wiring": np.full((3, 3), np.nan)})
    assert "wiring" in error() and "finite" in error()
    scipy.io.savemat(wiring, {"other": np.zeros((3, 3))})
    assert "no array 'wiring'" in error()
    wiring.write_bytes(b"no MATLAB file")
    assert "not a MATLAB file" in error()


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("args", "figure", "low", "high"),
    [
        (["reservoir.py", "--task", "mnist"], "test_accuracy", 0.9, 1.0),
        slow(["reservoir.py", "--task", "mnist", "--readout", "force"], "test_accuracy", 0.9, 1.0),
        slow(["reservoir.py", "--connect", "jit", "--seed", 1], "nrmse_84", 1e-6, 1e-3),
        (["reservoir.py", "--task", "lorenz", "--readout", "nvar"], "nrmse_lyapunov", 5e-4, 4e-3),
        slow(["working_memory_rate.py"], "test_accuracy", 0.3, 1.0),
        (["working_memory_spiking.py"], "test_accuracy", 0.0, 1.0),
    ],
    ids=lambda a: "-".join(map(str, a)) if isinstance(a, list) else None,
)
def test_the_papers_models_at_a_small_size(args, figure, low, high, tmp_path):
    if "mnist" in args:
        pytest.importorskip("sklearn")  # whose digits are the default
    name, *rest = args
    done = run(f"paper/{name}", *rest, "--quick", "--json", "--plot", "figure.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert low <= json.loads(done.stdout)[figure] <= high
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_reservoir_refuses_a_folder_without_digits(tmp_path):
    done = run("paper/reservoir.py", "--task", "mnist", "--data", tmp_path, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "-images-idx3-ubyte" in done.stderr

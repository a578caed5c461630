"""The digits example as a user runs it: every variant learns, files of real format are read, and
bad ones end with one clear line."""

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "mnist10k"
SMALL = ("--json", "--steps", 40, "--tau-code", 8, "--batch", 64, "--parts", 2)


def run(*args, cwd):
    env = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"} | {"MPLBACKEND": "Agg"}
    script = ROOT / "examples" / "paper" / "mnist_snn.py"
    command = [sys.executable, str(script), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=3000)


def figures(*args, cwd):
    done = run(*args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write(folder, name, array, zipped=False):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.astype(np.uint8).tobytes()
    (folder / name).write_bytes(gzip.compress(data) if zipped else data)


def bars(n, seed):
    """Images 8 x 8 of ten kinds: a bright row (0 to 4) or column (5 to 9), and noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    images = rng.integers(0, 90, (n, 8, 8))
    for image, label in zip(images, labels, strict=True):
        image[(label, slice(None)) if label < 5 else (slice(None), label - 5)] = 250
    return images, labels


@pytest.fixture
def folder(tmp_path):
    for name, n in (("train", 640), ("t10k", 200)):
        images, labels = bars(n, len(name))
        write(tmp_path, f"{name}-images-idx3-ubyte.gz", images, zipped=True)
        write(tmp_path, f"{name}-labels-idx1-ubyte", labels)
    return tmp_path


@pytest.mark.parametrize("variant", ["dense", pytest.param("recurrent", marks=pytest.mark.slow)])
def test_it_learns_what_idx_files_show(variant, folder):
    args = (*SMALL, "--data", folder, "--variant", variant, "--epochs", 4, "--plot", "a.png")
    got = figures(*args, cwd=folder)
    assert got["train"] == 640 and got["test"] == 200 and got["steps"] == 40
    assert got["test_accuracy"] > 0.9
    assert got["loss_end"] < 0.3 * got["loss_start"]
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_convolutions_learn(folder):
    args = (*SMALL, "--data", folder, "--variant", "conv", "--scale", 5)
    got = figures(*args, "--epochs", 6, "--channels", 4, 8, cwd=folder)
    assert got["test_accuracy"] > 0.3  # by chance 0.1
    assert got["loss_end"] < 0.4 * got["loss_start"]


@pytest.mark.slow
def test_broken_off_it_goes_on_where_it_was(folder):
    args = (*SMALL, "--data", folder)
    whole = figures(*args, "--epochs", 2, "--checkpoint", "a.ckpt", cwd=folder)
    again = figures(*args, "--epochs", 2, "--checkpoint", "a.ckpt", cwd=folder)
    same = ("loss_end", "loss_start", "test_accuracy", "spikes_a_trial", "steps")
    assert [whole[k] for k in same] == [again[k] for k in same]
    (folder / "a.ckpt").write_bytes((folder / "a.ckpt").read_bytes()[:-5])
    done = run(*args, "--epochs", 2, "--checkpoint", "a.ckpt", cwd=folder)
    assert done.returncode == 2 and "a.ckpt: truncated or damaged" in done.stderr


@pytest.mark.slow
def test_without_data_it_takes_those_of_scikit_learn(tmp_path):
    pytest.importorskip("sklearn")
    assert figures(*SMALL, "--quick", cwd=tmp_path)["epochs"] == 2
    got = figures(*SMALL, "--epochs", 6, cwd=tmp_path)
    assert got["train"] == 1437 and got["test"] == 360
    assert got["test_accuracy"] > 0.7


def test_bad_data_end_with_one_clear_line(folder):
    def error():
        done = run(*SMALL, "--data", folder, cwd=folder)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    images = folder / "train-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-7]))
    assert "train-images-idx3-ubyte.gz: truncated" in error()
    write(folder, "train-images-idx3-ubyte.gz", np.zeros((640, 64)))
    assert "images are uint8[n, height, width]" in error()
    write(folder, "train-images-idx3-ubyte.gz", np.zeros((640, 8, 8)))
    write(folder, "train-labels-idx1-ubyte", np.full(640, 10))
    assert "label 10 at position 0; there are 10 classes" in error()
    for file in folder.iterdir():
        file.unlink()
    assert "no train-images*" in error()


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs MNIST's test set")
@pytest.mark.parametrize("variant", ["dense", "recurrent", "conv"])
def test_mnist_at_94_percent_within_ten_epochs(variant, tmp_path):
    got = figures("--json", "--data", DATA, "--variant", variant, cwd=tmp_path)
    assert got["epochs"] <= 10 and got["train"] == 8000 and got["test"] == 2000
    assert got["test_accuracy"] >= 0.94

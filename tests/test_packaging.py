"""One import name serves: the wheel holds `purebrain.ops`, and the bare `ops` is refused."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("ops", "solvers")


def call(*command: str | Path, cwd: Path, expect_failure: bool = False) -> str:
    """Run a command without this process's Python paths and return all that it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONPATH")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert (done.returncode != 0) == expect_failure, done.stdout
    return done.stdout


@pytest.fixture(scope="module", params=["from the tree", "from the sdist"])
def wheel(request, tmp_path_factory) -> Path:
    # A copy, since setuptools leaves `build/` behind, whose files would enter the next wheel.
    source = tmp_path_factory.mktemp("source")
    for name in ("purebrain", *LAYERS):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    # Without `--wheel`, build makes an sdist and then the wheel from that.
    which = ["--wheel"] if request.param == "from the tree" else []
    # `-P`: a folder named `build` in the working directory is not the tool.
    call(sys.executable, "-P", "-m", "build", *which, "--no-isolation", cwd=source)
    (made,) = (source / "dist").glob("*.whl")
    return made


def test_wheel_holds_every_module(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    expected = {
        (Path(prefix) / path.relative_to(ROOT)).as_posix()
        for prefix, layer in (("", "purebrain"), ("purebrain", "ops"), ("purebrain", "solvers"))
        for parent, _, names in os.walk(ROOT / layer, followlinks=False)
        for path in (Path(parent, name) for name in names)
        if path.suffix == ".py"
    }
    assert {f"purebrain/{layer}/__init__.py" for layer in LAYERS} <= expected
    assert inside == expected


def test_wheel_in_an_empty_environment(wheel, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    call(
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--no-deps", "--no-index", "--disable-pip-version-check", wheel),
        cwd=tmp_path,
    )
    # The dependencies come from this environment. A path in a `.pth` file is searched last, and
    # `.pth` files under it are not read, so this environment's own purebrain stays out of sight.
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    new = Path(call(python, "-c", where, cwd=tmp_path).strip())
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (new / "dependencies.pth").write_text("\n".join(sorted(paths)))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = """if True:
        import purebrain, purebrain.ops, purebrain.solvers
        for module in (purebrain, purebrain.ops, purebrain.solvers):
            print(module.__file__)
    """
    files = call(python, "-c", script, cwd=elsewhere).split()
    assert [Path(file) for file in files] == [
        new / "purebrain" / "__init__.py",
        new / "purebrain" / "ops" / "__init__.py",
        new / "purebrain" / "solvers" / "__init__.py",
    ]
    for layer in LAYERS:
        printed = call(python, "-c", f"import {layer}", cwd=elsewhere, expect_failure=True)
        assert "ModuleNotFoundError" in printed


@pytest.mark.parametrize("layer", LAYERS)
def test_bare_name_is_refused(layer):
    printed = call(sys.executable, "-c", f"import {layer}", cwd=ROOT, expect_failure=True)
    last = printed.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert f"purebrain.{layer}" in last


@pytest.mark.parametrize("layer", LAYERS)
def test_links_are_links(layer):
    link = ROOT / "purebrain" / layer
    assert link.is_symlink()
    assert os.readlink(link) == f"../{layer}"

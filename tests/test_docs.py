"""What the documentation shows runs: the README's Python blocks and every docstring's `>>>`.

Both run as a user's would, in a process of their own with JAX's defaults: not under the strict
switches of `conftest.py`, which change what prints.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"

RUN_README = """
import sys
path, *starts = sys.argv[1:]
lines = open(path, encoding="utf-8").read().split("\\n")
namespace = {"__name__": "__main__"}
for start in map(int, starts):
    stop = lines.index("```", start)
    # Empty lines in front, so that a traceback names the line of the README.
    source = "\\n" * start + "\\n".join(lines[start:stop])
    exec(compile(source, path, "exec"), namespace)
"""

# Docstrings are read from the source: doctest's own finder passes over the methods of an Equinox
# module and over jitted functions, which are wrapped in objects.
RUN_DOCTESTS = """
import ast, doctest, importlib, pkgutil, sys
import purebrain

flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=flags)
names = [info.name for info in pkgutil.walk_packages(purebrain.__path__, "purebrain.")]
for name in ["purebrain", *names]:
    file = importlib.util.find_spec(name).origin
    source = open(file, encoding="utf-8").read()
    if ">>>" not in source:
        continue
    module = importlib.import_module(name)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                label = f"{name}.{getattr(node, 'name', '__doc__')}"
                line = node.body[0].lineno - 1
                test = parser.get_doctest(docstring, dict(vars(module)), label, file, line)
                runner.run(test)
failed, tried = runner.summarize()
print(f"{tried} examples, {failed} failed")
sys.exit(failed != 0)
"""


def run_script(script: str, *arguments: str, cwd: Path, timeout: float) -> str:
    """Run `script` with the repository importable and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def python_blocks() -> list[int]:
    """For each fenced Python block of the README, the index of its first line."""
    lines = README.read_text(encoding="utf-8").split("\n")
    return [number + 1 for number, line in enumerate(lines) if line == "```python"]


def test_readme_python_blocks(tmp_path):
    starts = python_blocks()
    assert starts, "README.md has no ```python block: this test tests nothing"
    run_script(RUN_README, str(README), *map(str, starts), cwd=tmp_path, timeout=300)


def test_docstring_examples(tmp_path):
    run_script(RUN_DOCTESTS, cwd=tmp_path, timeout=300)


@pytest.mark.parametrize("marker", ["main-command", "test-command"])
def test_readme_commands(marker):
    """`.ci/run` takes its commands from the README; they must name what exists."""
    text = README.read_text(encoding="utf-8")
    found = re.findall(rf"^<!-- {marker} -->\n```bash\n(.+?)\n```$", text, flags=re.M | re.S)
    assert len(found) == 1
    scripts = re.findall(r"\S+\.py\b", found[0])
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (named,) = re.findall(r'install -e "\.\[(.+?)\]"', found[0])
    assert set(named.split(",")) <= set(project["optional-dependencies"])


def test_readme_links():
    """Relative links and pictures lead to files that exist."""
    links = re.findall(r"\]\(([^)#\s]+)\)", README.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert local, "the README shows its picture by a relative link"
    assert [link for link in local if not (ROOT / link).exists()] == []

"""The house rules that a parser can check: who imports whom, file sizes, what `__init__` holds."""

import ast
import graphlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 1000

OPS = {"jax", "jaxlib", "equinox", "jaxtyping", "lineax", "numpy"}
SOLVERS = {"jax", "equinox", "diffrax", "jaxtyping", "numpy", "lineax", "optimistix"}
EXTRAS = {"matplotlib", "tqdm", "scipy", "optax", "xarray", "h5py"}
# Beside the standard library. An extra passes only where it is imported inside a function.
ALLOWED = {
    "ops": OPS,
    "solvers": SOLVERS,
    "purebrain": OPS | SOLVERS | EXTRAS | {"purebrain"},
}
COMPILED = ROOT / "ops" / "native" / "compiled"


def python_files(folder: str) -> list[Path]:
    """The files under `folder`, without those that a symlink leads to."""
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(ROOT / folder, followlinks=False)
        for name in names
        if name.endswith(".py")
    ]
    return sorted(found)


LAYER_FILES = [path for layer in ALLOWED for path in python_files(layer)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    """`purebrain/connect/__init__.py` is the module `purebrain.connect`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(
    tree: ast.AST, *, functions: bool, type_checking: bool
) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements in `tree`, with or without function bodies and `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            if functions:
                yield from imports(node, functions=functions, type_checking=type_checking)
        elif is_type_checking(node) and not type_checking:
            assert isinstance(node, ast.If)
            orelse = ast.Module(body=node.orelse, type_ignores=[])
            yield from imports(orelse, functions=functions, type_checking=type_checking)
        else:
            yield from imports(node, functions=functions, type_checking=type_checking)


def targets(node: ast.Import | ast.ImportFrom, path: Path) -> list[tuple[str, str | None]]:
    """What one statement imports, as (absolute module, name taken from it or None)."""
    if isinstance(node, ast.Import):
        return [(alias.name, None) for alias in node.names]
    if node.level == 0:
        assert node.module is not None
        return [(node.module, alias.name) for alias in node.names]
    package = dotted(path.parent / "__init__.py").split(".")
    kept = package[: len(package) - node.level + 1]
    # `from ... import x` out of the top folder has no name inside the layer: refused below.
    base = ".".join(kept) if kept else "<outside the package>"
    module = f"{base}.{node.module}" if node.module else base
    return [(module, alias.name) for alias in node.names]


def allowed_in(path: Path) -> set[str]:
    """What a file may import: the functions that Numba compiles are imported by functions only."""
    compiled = {"numba", "llvmlite"} if COMPILED in path.parents else set()
    return ALLOWED[path.relative_to(ROOT).parts[0]] | compiled


def forbidden(source: str, path: Path) -> list[str]:
    """The imports in `source`, as if it lay at `path`, that the dependency direction forbids."""
    layer = path.relative_to(ROOT).parts[0]
    tree = ast.parse(source)
    bad = []
    for node in imports(tree, functions=True, type_checking=True):
        for module, _ in targets(node, path):
            top = module.split(".")[0]
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            allowed = {layer} if relative else allowed_in(path) | sys.stdlib_module_names
            if top not in allowed:
                bad.append(f"line {node.lineno}: {module}")
    for node in imports(tree, functions=False, type_checking=False):
        for module, _ in targets(node, path):
            if module.split(".")[0] in EXTRAS:
                bad.append(f"line {node.lineno}: {module} at module level, move it into a function")
    return bad


def is_bare_name_guard(node: ast.stmt, layer: str) -> bool:
    """`if __name__ == "ops": raise ImportError(...)`."""
    return (
        isinstance(node, ast.If)
        and ast.unparse(node.test) == f"__name__ == {layer!r}"
        and len(node.body) == 1
        and not node.orelse
        and isinstance(node.body[0], ast.Raise)
        and ast.unparse(node.body[0]).startswith("raise ImportError(")
    )


def more_than_reexports(source: str, path: Path) -> list[str]:
    """Statements of an `__init__.py` that are no docstring, re-export or bare-name guard."""
    body = ast.parse(source).body
    if body and ast.get_docstring(ast.Module(body=body, type_ignores=[])) is not None:
        body = body[1:]
    layer = path.parent.relative_to(ROOT).as_posix()
    bad = []
    for node in body:
        if layer in ("ops", "solvers") and is_bare_name_guard(node, layer):
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            if all(alias.asname == alias.name for alias in node.names):
                continue
        bad.append(f"line {node.lineno}: {ast.unparse(node)}")
    return bad


def import_graph(sources: dict[Path, str]) -> dict[str, set[str]]:
    """Module -> the modules among `sources` that it imports, in functions too."""
    modules = {dotted(path) for path in sources}
    graph = {}
    for path, source in sources.items():
        edges = set()
        for node in imports(ast.parse(source), functions=True, type_checking=False):
            for module, name in targets(node, path):
                submodule = f"{module}.{name}"
                # Through the links, these two are other layers, with graphs of their own.
                if submodule not in ("purebrain.ops", "purebrain.solvers"):
                    edges |= {submodule if submodule in modules else module} & modules
        graph[dotted(path)] = edges
    return graph


def test_every_layer_has_files():
    for layer in ALLOWED:
        assert python_files(layer), f"no Python file under {layer}/: the rules below test nothing"


@pytest.mark.parametrize("path", LAYER_FILES, ids=name_of)
def test_dependency_direction(path):
    assert forbidden(path.read_text(), path) == []


@pytest.mark.parametrize("layer", ALLOWED)
def test_no_import_cycles(layer):
    graph = import_graph({path: path.read_text() for path in python_files(layer)})
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("import cycle: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize(
    "path", [path for path in LAYER_FILES if path.name == "__init__.py"], ids=name_of
)
def test_init_only_reexports(path):
    assert more_than_reexports(path.read_text(), path) == []


@pytest.mark.parametrize(
    "path", LAYER_FILES + python_files("tests") + python_files("examples"), ids=name_of
)
def test_file_size(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


# The rules themselves: each must refuse what it is there to refuse.


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("ops/_x.py", "import diffrax"),
        ("ops/_x.py", "import purebrain"),
        ("ops/_x.py", "from purebrain.ops import CSR"),
        ("ops/_x.py", "import solvers"),
        ("ops/_x.py", "def f():\n    import scipy.sparse"),
        ("ops/_x.py", "from ..solvers import ExpEuler"),
        ("ops/cpu/_x.py", "from ...purebrain import Tick"),
        ("solvers/_x.py", "from ops import CSR"),
        ("solvers/_x.py", "import scipy"),
        ("purebrain/_x.py", "import ops"),
        ("purebrain/_x.py", "import torch"),
        ("purebrain/_x.py", "import matplotlib.pyplot as plt"),
        (
            "purebrain/_x.py",
            "try:\n    from tqdm import tqdm\nexcept ImportError:\n    tqdm = None",
        ),
        ("purebrain/_x.py", "class A:\n    import optax"),
    ],
)
def test_dependency_rule_refuses(file, source):
    assert len(forbidden(source, ROOT / file)) >= 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("ops/cpu/_x.py", "import math\nimport jax.numpy as jnp\nfrom .._spikes import Spikes"),
        ("solvers/_x.py", "from diffrax import AbstractSolver\nfrom . import _y"),
        ("purebrain/_x.py", "from .ops import CSR\nfrom purebrain.solvers import ExpEuler"),
        ("purebrain/neuron/_x.py", "from .._core import Tick\nfrom ..solvers import ExpEuler"),
        ("purebrain/_x.py", "def f():\n    import matplotlib.pyplot as plt"),
        (
            "purebrain/_x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import scipy.sparse",
        ),
    ],
)
def test_dependency_rule_allows(file, source):
    assert forbidden(source, ROOT / file) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("purebrain/__init__.py", "from ._core import Tick"),
        ("purebrain/__init__.py", "from ._core import Tick as T"),
        ("purebrain/__init__.py", "from jax import Array as Array"),
        ("purebrain/__init__.py", "import jax"),
        ("purebrain/__init__.py", "x = 1"),
        ("purebrain/__init__.py", "if __name__ == 'purebrain':\n    raise ImportError('x')"),
        ("ops/__init__.py", "if __name__ == 'ops':\n    print('x')"),
    ],
)
def test_init_rule_refuses(file, source):
    assert len(more_than_reexports(source, ROOT / file)) == 1


def test_init_rule_allows():
    source = '"""Doc."""\nif __name__ == "ops":\n    raise ImportError("x")\nfrom ._x import A as A'
    assert more_than_reexports(source, ROOT / "ops/__init__.py") == []


def test_cycle_rule():
    files = {
        ROOT / "purebrain/__init__.py": "from ._a import A as A\nfrom . import ops, sub",
        ROOT / "purebrain/_a.py": "from .sub import B",
        ROOT / "purebrain/sub/__init__.py": "from ._b import B as B",
        ROOT / "purebrain/sub/_b.py": "import jax",
    }
    graphlib.TopologicalSorter(import_graph(files)).prepare()
    files[ROOT / "purebrain/sub/_b.py"] = "def f():\n    from .. import _a"
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(import_graph(files)).prepare()


def test_what_needs_numba_is_imported_by_functions_only():
    for path in python_files("ops"):
        if COMPILED not in path.parents:
            for node in imports(ast.parse(path.read_text()), functions=False, type_checking=False):
                assert not any("compiled" in module for module, _ in targets(node, path)), path

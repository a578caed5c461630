"""Strictness for the whole suite: float64, no silent promotion, runtime type checks, the CPU."""

import os

# Both before JAX is imported: it reads its platform once.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import sys
from importlib.machinery import PathFinder

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

# Only code imported after the hook is checked, so an early import would pass the suite unchecked.
if "purebrain" in sys.modules:
    raise RuntimeError("purebrain was imported before tests/conftest.py could install its hook")
install_import_hook("purebrain", "beartype.beartype")


class _Unchecked:
    """Finds the functions that Numba compiles, which takes them as they are written."""

    def find_spec(self, name, path=None, target=None):
        unchecked = name.startswith("purebrain.ops.native.compiled.")
        return PathFinder.find_spec(name, path, target) if unchecked else None


sys.meta_path.insert(0, _Unchecked())

# Tests that need float32 pass dtypes explicitly.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# A first example compiles, so no deadline can be set; CI must not depend on luck.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True, scope="module")
def no_compiled_code_is_kept():
    """Of one file's tests for the next's: it would add up to gigabytes."""
    yield
    jax.clear_caches()

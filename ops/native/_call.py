"""Functions that Numba compiles, called by XLA with no Python in between.

XLA calls a function of C with the addresses of its operands, and Numba compiles such functions: a
call takes 0.2 us, where `jax.pure_callback`, which enters Python, takes 25. What was compiled once
is kept on disk.
"""

import ctypes
import functools
from collections.abc import Callable

import jax


@functools.cache
def _registered(make: Callable, static: tuple) -> str:
    """The name under which XLA has the function `make(*static, STAMP)`."""
    from .compiled import STAMP

    function = make(*static, STAMP)
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
    name = "_".join(["purebrain_native", make.__name__, *map(str, static)])
    jax.ffi.register_ffi_target(name, capsule(function.address, None, None), platform="cpu")
    _KEPT.append(function)
    return name


_KEPT: list = []  # XLA knows the functions by their addresses


def call(make: Callable, static: tuple, results, *operands):
    """Arrays of these shapes and dtypes, made of the operands by `make(*static, stamp)`, a
    `numba.cfunc`.

    They are arrays of their own: of a result in the place of an operand, XLA makes a copy before,
    and in a loop another after.
    """
    return jax.ffi.ffi_call(_registered(make, static), results)(*operands)

"""Functions that Numba compiles, called by XLA with no Python in between.

XLA calls a function of C with the addresses of its operands, and Numba compiles such functions: a
call takes 0.2 us, where `jax.pure_callback`, which enters Python, takes 25. What was compiled once
is kept on disk.
"""

import ctypes
import functools
import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from .._schedule import one_of

_LOCK = threading.Lock()  # threads that need one function at once would all register it


def _registered(make: Callable, static: tuple) -> str:
    """The name under which XLA has the function `make(*static, STAMP, keep)`."""
    with _LOCK:
        return _register(make, static)[0]


@functools.cache
def _register(make: Callable, static: tuple):
    from .compiled import STAMP

    try:
        function = make(*static, STAMP, True)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        function = make(*static, STAMP, False)  # no folder can be written
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
    name = "_".join(["purebrain_native", make.__name__, *map(str, static)])
    jax.ffi.register_ffi_target(name, capsule(function.address, None, None), platform="cpu")
    return name, function  # XLA has but the address of what is kept here


def index(name: str, a, size: int):
    """An array of ids or counts as the functions read it: `size` words of 32 bits."""
    if a.size != size:
        raise ValueError(
            f"{name}: {a.size} numbers; the operator's other arrays need {size}. Make the operator "
            "anew, of all its arrays, instead of replacing one."
        )
    return a.astype(jnp.int32)


def call(make: Callable, static: tuple, results, *operands):
    """Arrays of these shapes and dtypes, made of the operands by `make(*static, stamp, keep)`,
    a `numba.cfunc`.

    They are arrays of their own.
    """
    return jax.ffi.ffi_call(_registered(make, static), results)(*operands)


def call_in_place(make: Callable, static: tuple, rooms, y, s, *operands):
    """`y`, changed in its place by `make(*static, stamp, keep)`, which takes y, s and the operands,
    and gives y and what only has to have room.

    Before an operand that a result takes the place of, XLA puts a copy. Fused with what makes the
    operand it stays, and in a loop another comes behind; one of what an inner loop carries is found
    to be of no use, and so is one of a vector rather than a matrix of one row. The loop here has
    one turn, which XLA cannot know.
    """
    results = jax.ShapeDtypeStruct((y.size,), y.dtype), *rooms
    function = jax.ffi.ffi_call(_registered(make, static), results, input_output_aliases={0: 0})

    def turn(state):
        return jnp.array(True), function(state[1], s, *operands)[0]

    done = one_of(s.reshape(-1)[0], jnp.dtype(bool))
    return lax.while_loop(lambda state: ~state[0], turn, (~done, y.reshape(-1)))[1].reshape(y.shape)

"""Checks of what a user gives: each returns its argument in the form that the rules work with."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..ops._csr import MAX_WIDTH

MAX = 2**31 - 1  # ids are int32
SYNAPSES = 2**31 - MAX_WIDTH  # so many does a CSR number


def count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}={value!r}: must be an integer, such as {name}=80.")
    if not 0 <= value <= MAX:
        raise ValueError(f"{name}={value}: must lie between 0 and {MAX}, such as {name}=80.")
    return int(value)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: must be {name}=True or {name}=False.")
    return value


def seed(rule: str, key: Any) -> tuple[int, ...]:
    """The words of a PRNG key, read and not drawn from: no version or setting of JAX matters."""
    right = f"connect.{rule}(..., key=jax.random.key(0))"
    if isinstance(key, Tracer):
        raise TypeError(f"key={key}: synapses are drawn on the host: call {right} outside jit.")
    try:
        with jax.ensure_compile_time_eval():
            words = np.asarray(jax.random.key_data(key))
    except TypeError as error:
        raise TypeError(f"key={key!r}: a JAX PRNG key is needed: {right}.") from error
    if words.ndim != 1:
        raise ValueError(f"key: one is needed, not an array of shape {words.shape[:-1]}: {right}.")
    return tuple(words.tolist())


def weight(value: Any) -> Any:
    """The weight of a random rule: a number, or a callable for later."""
    return value if callable(value) else weights(value, ())


def weights(value: Any, *shapes: tuple[int | None, ...]) -> Any:
    """Default floats: real, finite, and of one of the `shapes` (None: any length)."""
    traced = isinstance(value, Tracer)
    array = value if traced else np.asarray(value)
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        got = f"an array of {array.dtype}" if array.ndim else repr(value)
        raise TypeError(f"weight={got}: must be real numbers, such as weight=0.6.")
    same_axes = [shape for shape in shapes if len(shape) == array.ndim]
    if not any(
        all(n in (None, m) for n, m in zip(shape, array.shape, strict=True)) for shape in same_axes
    ):
        allowed = " or ".join(map(str, shapes)).replace("None", "any")
        raise ValueError(f"weight has shape {array.shape}: must have shape {allowed}.")
    dtype = jnp.result_type(float)
    if traced:
        return jnp.asarray(array, dtype)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        array = array.astype(dtype)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = tuple(bad[0].tolist())
        raise ValueError(
            f"weight{list(at) or ''}={array[at]}: must be finite, such as 0.0 for no synapse."
        )
    return array


def integers(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name}: must be integers, such as {name}.astype(int), not {array.dtype}.")
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: must have one axis, as {name}.ravel().")
    return array.astype(np.int64)


def ids(name: str, value: Any) -> np.ndarray:
    array = integers(name, value)
    below(name, array, MAX)
    return array.astype(np.int32)


def below(name: str, array: np.ndarray, n: int) -> None:
    bad = np.flatnonzero((array < 0) | (array >= n))
    if bad.size:
        raise ValueError(
            f"{name}[{bad[0]}]={array[bad[0]]}: must lie in [0, {n}), counted from 0 within the "
            f"population or view: for ids from 1 write {name} - 1."
        )


def sizes(n_pre: Any, n_post: Any, same: Any = None, autapses: bool = True) -> tuple[int, int]:
    n_pre, n_post = count("n_pre", n_pre), count("n_post", n_post)
    if not autapses and (same is False or n_pre != n_post):
        raise ValueError(
            f"autapses=False: {n_pre} pre- and {n_post} post-synaptic neurons are not the same, "
            "so that there are no autapses to leave out: write autapses=True."
        )
    return n_pre, n_post


def enough(name: str, k: int, available: int, multapses: bool) -> None:
    if k > available and not (multapses and available):
        raise ValueError(
            f"{name}={k}: there are only {available} to draw from: write {name}={available}"
            f"{' or multapses=True' if available else ''}."
        )


def synapses(n: Any) -> None:
    if n > SYNAPSES:
        raise ValueError(
            f"{n:.0f} synapses: one operator holds at most {SYNAPSES}: split the projection, as "
            'from View("E")[:n] and from View("E")[n:].'
        )

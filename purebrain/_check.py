"""Checks on the host: an error early, that names the argument, the value and what is allowed."""

import dataclasses
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from .ops._check import check_key


def concrete(x) -> np.ndarray | None:
    """`x` on the host, or None where it is traced."""
    return None if isinstance(x, Tracer) else np.asarray(x)


def positive(name: str, x, unit: str = "ms") -> None:
    """Refuses a parameter that is not finite and above 0 (traced values pass)."""
    host = concrete(x)
    if host is not None and not (np.isfinite(host) & (host > 0)).all():
        raise ValueError(f"{name}: {_show(host)} {unit}; it must be finite and above 0.")


def parameters(module: eqx.Module, n: int | None = None) -> None:
    """Refuses parameters of a module that are not finite, or neither one number nor one for each
    of `n`."""
    if n is not None and not (isinstance(n, int | np.integer) and n >= 0):
        raise ValueError(f"n: {n!r}; it must be a whole number >= 0.")
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if not eqx.is_array(value) or not jnp.issubdtype(value.dtype, jnp.floating):
            continue
        if n is not None and value.shape not in ((), (n,)):
            raise ValueError(f"{field.name}: shape {value.shape}; it must be one number or ({n},).")
        host = concrete(value)
        if host is not None and not np.isfinite(host).all():
            raise ValueError(f"{field.name}: {_show(host)}; it must be finite.")


def instance(name: str, value, *kinds) -> None:
    """Refuses a value of none of the `kinds`."""
    if not isinstance(value, kinds):
        shown = repr(value) if len(repr(value)) < 40 else type(value).__name__
        allowed = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name}: {shown}; it must be of type {allowed}.")


def number(name: str, value) -> float:
    """A time as a Python float."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {value!r}; it must be a number of ms.") from error


def one_key(key):
    """The key, or None; anything but one JAX key is an error."""
    return None if key is None else check_key(key)


def below(low_name: str, low, high_name: str, high) -> None:
    """Refuses low >= high."""
    a, b = concrete(low), concrete(high)
    if a is not None and b is not None and not (a < b).all():
        raise ValueError(
            f"{low_name}: {_show(a)} mV is not below {high_name} = {_show(b)} mV; "
            f"swap or correct them."
        )


def time_step(dt) -> float:
    """`dt` as a Python float; anything but a finite number above 0 is an error."""
    host = concrete(dt)
    if host is None:
        raise TypeError("dt: traced; it sizes buffers and must be a number, such as dt=0.1 (ms).")
    if host.ndim or not np.issubdtype(host.dtype, np.number):
        raise TypeError(f"dt: {dt!r}; it must be one number, such as dt=0.1 (ms).")
    value = float(host)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"dt: {value} ms; it must be finite and above 0, such as dt=0.1.")
    return value


def steps(name: str, value, dt: float, at_least: int = 0) -> int:
    """How many steps `value` (ms) is: half away from zero, and an error where it is off the
    grid."""
    dt = time_step(dt)
    value = number(name, value)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: {value} ms; it must be finite and not negative.")
    n = math.floor(value / dt + 0.5)
    if abs(value - n * dt) > 1e-6 * dt:
        raise ValueError(
            f"{name}: {value} ms is not a multiple of dt = {dt} ms; the nearest is "
            f"{name}={max(n, at_least) * dt:.12g}."
        )
    if n < at_least:
        raise ValueError(
            f"{name}: {value} ms is {n} steps of dt = {dt} ms; it must be at least {at_least}: "
            f"{name}={at_least * dt:.12g}."
        )
    return n


def step_counts(name: str, value: Array | np.ndarray, dt: float, dtype, at_least: int = 0) -> Array:
    """As `steps` for an array; where it is traced, the error comes when the compiled code runs."""
    dt = time_step(dt)
    host = concrete(value)
    limit = np.iinfo(dtype).max
    if host is not None:
        flat = np.unique(np.asarray(host, np.float64))
        # A float32 parameter is on the grid if its nearest grid point is its own value in float32.
        if host.dtype == np.float32:
            near = np.floor(flat / dt + 0.5) * dt
            flat = np.where(near.astype(np.float32) == flat.astype(np.float32), near, flat)
        counts = [steps(name, v, dt, at_least) for v in flat]
        if counts and max(counts) > limit:
            raise ValueError(
                f"{name}: {flat.max()} ms is {max(counts)} steps of dt = {dt} ms; at most {limit} "
                "fit the counter. Use a longer dt."
            )
        return jnp.asarray(np.floor(np.asarray(host, np.float64) / dt + 0.5), dtype)
    n = jnp.floor(value / dt + 0.5)
    tolerance = max(1e-6, 8 * float(jnp.finfo(value.dtype).eps)) * jnp.maximum(value, dt)
    off = jnp.abs(value - n * dt) > tolerance
    bad = off | (n < at_least) | (n > limit)
    message = f"{name}: not a multiple of dt = {dt} ms, or not in [{at_least}, {limit}] steps."
    return eqx.error_if(n, bad, message).astype(dtype)


def _show(host: np.ndarray) -> str:
    return str(host) if host.size < 5 else f"between {host.min()} and {host.max()}"

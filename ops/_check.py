"""Checks of what operators are given, and the family's primitives without their batch axis."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ._family import Family, Layout
from ._schedule import times
from ._spikes import Spikes, pack

Values = Spikes | Float[Array, " n_post"] | Bool[Array, " n_post"]
ValueRows = Spikes | Float[Array, "batch n_post"] | Bool[Array, "batch n_post"]
Events = Spikes | Float[Array, " n_pre"] | Bool[Array, " n_pre"]
EventRows = Spikes | Float[Array, "batch n_pre"] | Bool[Array, "batch n_pre"]


def checked_events(s: Events, n_pre: int, dtype) -> Spikes | Array:
    """`s` as packed spikes or floats of `dtype`; a wrong size is an error."""
    if s.shape != (n_pre,):
        raise ValueError(
            f"s: shape {s.shape}, but the operator has n_pre = {n_pre} pre-synaptic neurons. Pass "
            f"an array of shape ({n_pre},), or a batch of them through `mm` or `jax.vmap`."
        )
    if isinstance(s, Spikes):
        return s
    return pack(s) if s.dtype == bool else s.astype(dtype)


def checked_values(x: Values, n_post: int, dtype) -> Array:
    """Post-synaptic values as floats, which spikes become in `dtype`; a wrong size is an error."""
    if isinstance(x, Spikes):
        x = x.to_dense()
    x = x.astype(dtype) if x.dtype == bool else x
    check_values("x", x, n_post)
    return x


def check_values(name: str, x: Array, n: int) -> None:
    """Refuses post-synaptic values of another size, and integers (which would truncate weights)."""
    if x.shape != (n,):
        raise ValueError(
            f"{name}: shape {x.shape}, but the operator has n_post = {n} post-synaptic neurons. "
            f"Pass an array of shape ({n},), or a batch of them through `jax.vmap`."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: dtype {x.dtype}; it must be floats: {name}.astype(float).")


def scatter(fam: Family, layout: Layout, y, s: Spikes | Array, w, *structure):
    """`fam.scatter` without the batch axes, for packed or float spikes."""
    check_values("y", y, layout.n_post)
    if isinstance(s, Spikes):
        layout, s = layout._replace(lo=s.lo), s.words
    return fam.scatter(layout, y[None], s[None], w[None], *structure)[0]


def masked(s, where, lo: int, n_pre: int, dtype) -> Array:
    """The values `s` at `where`, 0 elsewhere; a wrong shape or kind of either is an error."""
    if isinstance(s, Spikes):
        raise TypeError("s: bits have no derivative; write op.mv_add(y, s).")
    if s.ndim != 1 or not 0 <= lo <= s.size - n_pre:
        raise ValueError(
            f"s: shape {s.shape}, lo = {lo}; but the operator has n_pre = {n_pre} pre-synaptic "
            f"neurons. Pass an array of shape ({n_pre},), or that of a population and the first of "
            "the neurons."
        )
    check_values("s", s, s.size)
    if where.shape != s.shape or where.dtype != bool:
        raise ValueError(
            f"where: {where.dtype}{list(where.shape)}; it must be bool[{s.size}], one a neuron, "
            "such as where = s != 0."
        )
    return jnp.where(where, s.astype(dtype), 0)


def scatter_where(fam: Family, layout: Layout, y, s, where, lo, w, *structure):
    """`fam.scatter_where` without the batch axes; values count at `where` alone.

    One weight is multiplied into the values: its derivative then comes of the product that theirs
    takes, without another visit to the synapses.
    """
    check_values("y", y, layout.n_post)
    s, layout = masked(s, where, lo, layout.n_pre, y.dtype), layout._replace(lo=lo)
    if w.ndim == 0:
        s, w = times(s, w), jnp.ones_like(w)
    return fam.scatter_where(layout, y[None], s[None], w[None], where[None], *structure)[0]


def gather(fam: Family, layout: Layout, w, x, *structure):
    """`fam.gather` without the batch axes."""
    return fam.gather(layout, w[None], x[None], *structure)[0]


# ---- validation on the host ----------------------------------------------------------------------


def concrete(a) -> np.ndarray | None:
    """`a` on the host, or None where it is traced (then it was checked before, or cannot be)."""
    return None if isinstance(a, Tracer) else np.asarray(a)


def as_weight(weight) -> Array:
    """A weight as a float array of the default or its own precision; NaN and infinity are
    errors."""
    if np.iscomplexobj(weight):
        raise TypeError("weight: complex; weights must be real numbers.")
    dtype = getattr(weight, "dtype", None)
    floating = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    w = jnp.asarray(weight, jax.dtypes.canonicalize_dtype(dtype) if floating else float)
    host = concrete(w)
    if host is not None and not np.isfinite(host).all():
        bad = np.flatnonzero(~np.isfinite(host.reshape(-1)))[0]
        raise ValueError(
            f"weight: {host.reshape(-1)[bad]} at position {bad}; weights must be finite numbers."
        )
    return w


def check_ids(name: str, ids, n: int) -> Int[Array, "..."]:
    """Ids as int32; anything but whole numbers in [0, n) is an error."""
    host = concrete(ids)
    known = ids if host is None else host
    if known.size and not np.issubdtype(known.dtype, np.integer):
        raise TypeError(
            f"{name}: dtype {known.dtype}, but ids must be integers; write {name}.astype(np.int32)."
        )
    if host is None:
        return lax.convert_element_type(ids, jnp.int32)
    if host.size and (host.min() < 0 or host.max() >= n):
        flat = host.reshape(-1)
        bad = int(np.flatnonzero((flat < 0) | (flat >= n))[0])
        raise ValueError(
            f"{name}: {flat[bad]} at position {bad}; ids must be in [0, {n}) for {n} neurons."
        )
    return jnp.asarray(host, jnp.int32)


def check_size(name: str, n) -> int:
    """A population size as a Python int; negative, fractional, or beyond int32 is an error."""
    whole = isinstance(n, int | np.integer) and not isinstance(n, bool)
    if not whole or not 0 <= n <= np.iinfo(np.int32).max:
        raise ValueError(f"{name}: {n!r}; it must be a whole number of neurons, 0 to 2**31 - 1.")
    return int(n)

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
    """`s` as packed spikes or floats of `dtype`; a wrong size or kind is an error."""
    check_array("s", s)
    if s.shape != (n_pre,):
        raise ValueError(
            f"s: shape {s.shape}, but the operator has n_pre = {n_pre} pre-synaptic neurons. Pass "
            f"an array of shape ({n_pre},), or a batch of them through `mm` or `jax.vmap`."
        )
    if isinstance(s, Spikes):
        return s
    return pack(s) if s.dtype == bool else s.astype(dtype)


def checked_values(x: Values, n_post: int, dtype) -> Array:
    """Post-synaptic values as floats of `dtype` at least; a wrong size or kind is an error."""
    check_array("x", x)
    check_shape("x", x, n_post)
    x = x.to_dense() if isinstance(x, Spikes) else x
    wider = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize > jnp.dtype(dtype).itemsize
    return x if wider else x.astype(dtype)


def check_array(name: str, a) -> None:
    """Refuses what is neither spikes nor an array of real numbers or booleans."""
    if isinstance(a, Spikes):
        return
    if not isinstance(a, jax.Array | np.ndarray | np.generic):
        raise TypeError(
            f"{name}: {shown(a)}; it must be an array, such as {name} = jnp.asarray([1.0, 0.0])."
        )
    check_real(name, a)


def check_rows(name: str, rows: Spikes | Array, n: int, product: str) -> None:
    """Refuses a batch of other than rows of `n`, for which `product` takes one row."""
    check_array(name, rows)
    if len(rows.shape) != 2 or rows.shape[1] != n:
        raise ValueError(
            f"{name}: shape {rows.shape}; a batch has shape (batch, {n}). One row of shape ({n},) "
            f"goes through op.{product}({name})."
        )


def check_values(name: str, x: Array, n: int) -> None:
    """Refuses post-synaptic values of another size, and integers (which would truncate weights)."""
    if isinstance(x, Spikes):
        raise TypeError(f"{name}: Spikes; it must be floats: {name}.to_dense().astype(float).")
    check_array(name, x)
    check_shape(name, x, n)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: dtype {x.dtype}; it must be floats: {name}.astype(float).")


def check_shape(name: str, x: Spikes | Array, n: int) -> None:
    """Refuses post-synaptic values of another size."""
    if x.shape != (n,):
        raise ValueError(
            f"{name}: shape {x.shape}, but the operator has n_post = {n} post-synaptic neurons. "
            f"Pass an array of shape ({n},), or a batch of them through `jax.vmap`."
        )


def scatter(fam: Family, layout: Layout, y, s: Spikes | Array, w, *structure):
    """`fam.scatter` without the batch axes, for packed or float spikes."""
    if isinstance(s, Spikes):
        layout, s = layout._replace(lo=s.lo), s.words
    return fam.scatter(layout, y[None], s[None], w[None], *structure)[0]


def masked(s, where, lo: int, n_pre: int, dtype) -> Array:
    """The values `s` at `where`, 0 elsewhere; a wrong shape or kind of either is an error."""
    if isinstance(s, Spikes):
        raise TypeError("s: bits have no derivative; write op.mv_add(y, s).")
    check_array("s", s)
    check_array("where", where)
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


def shown(value) -> str:
    """A value as an error shows it: a large one by its type."""
    if isinstance(value, Tracer):
        return "traced"
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) < 40 else type(value).__name__


def check_type(name: str, value, kind: type, such_as: str) -> None:
    """Refuses a value of another type."""
    if not isinstance(value, kind):
        raise TypeError(
            f"{name}: {shown(value)}; it must be an ops.{kind.__name__}, such as {such_as}."
        )


def check_real(name: str, a: Array | np.ndarray | np.generic) -> None:
    """Refuses an array of complex numbers, strings or objects."""
    if jnp.issubdtype(a.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: complex; it must be real numbers, such as {name}.real.")
    if not any(jnp.issubdtype(a.dtype, kind) for kind in (jnp.floating, jnp.integer, np.bool_)):
        raise TypeError(f"{name}: dtype {a.dtype}; it must be real numbers.")


def as_numbers(name: str, value) -> Array | np.ndarray:
    """`value` as an array of real numbers, on the host unless it is JAX's."""
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except (TypeError, ValueError):  # rows of several lengths, or traced numbers in a list
        array = None
    if array is None or (isinstance(array, np.ndarray) and array.dtype.kind in "OSU"):
        raise TypeError(
            f"{name}: {shown(value)}; it must be real numbers, one or an array of them."
        )
    check_real(name, array)
    return array


def as_weight(weight, name: str = "weight") -> Array:
    """A weight as a float array of the default or its own precision; NaN and infinity are
    errors."""
    given = as_numbers(name, weight)
    own = hasattr(weight, "dtype") and jnp.issubdtype(given.dtype, jnp.floating)
    with np.errstate(over="ignore"):  # what the precision cannot hold is refused below
        w = jnp.asarray(given, jax.dtypes.canonicalize_dtype(given.dtype) if own else float)
    host = concrete(w)
    if host is not None and not np.isfinite(host).all():
        bad = np.flatnonzero(~np.isfinite(host.reshape(-1)))[0]
        value, at = np.asarray(given).reshape(-1)[bad], f" at position {bad}" * (host.ndim > 0)
        limit = f", at most {jnp.finfo(w.dtype).max:.4g} in {w.dtype}" * bool(np.isfinite(value))
        raise ValueError(f"{name}: {value}{at}; it must be finite{limit}.")
    return w


def as_number(value, name: str) -> Array:
    """As `as_weight`, of one number."""
    number = as_weight(value, name)
    if number.shape != ():
        raise ValueError(f"{name}: shape {number.shape}; it must be one number.")
    return number


def check_ids(name: str, ids, n: int) -> Int[Array, "..."]:
    """Ids as int32; anything but whole numbers in [0, n) is an error."""
    known = as_numbers(name, ids)
    if known.size and not np.issubdtype(known.dtype, np.integer):
        raise TypeError(
            f"{name}: dtype {known.dtype}, but ids must be integers; write {name}.astype(np.int32)."
        )
    host = concrete(known)
    if host is None:
        return lax.convert_element_type(ids, jnp.int32)
    if host.size and (host.min() < 0 or host.max() >= n):
        flat = host.reshape(-1)
        bad = int(np.flatnonzero((flat < 0) | (flat >= n))[0])
        raise ValueError(
            f"{name}: {flat[bad]} at position {bad}; ids must be in [0, {n}) for {n} neurons."
        )
    return jnp.asarray(host, jnp.int32)


def is_whole(value) -> bool:
    """Whether `value` is a whole number of Python or NumPy."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value) -> bool:
    """Whether `value` is a real number of Python or NumPy."""
    return is_whole(value) or isinstance(value, float | np.floating)


def check_whole(name: str, value, low: int, high: int, multiple: int = 1) -> int:
    """A whole number of [low, high], a multiple of `multiple`, as a Python int."""
    if not is_whole(value) or not low <= value <= high or value % multiple:
        kind = f"a multiple of {multiple}" if multiple > 1 else "a whole number"
        raise ValueError(f"{name}: {shown(value)}; it must be {kind} in [{low}, {high}].")
    return int(value)


def check_size(name: str, n) -> int:
    """A population size as a Python int; negative, fractional, or beyond int32 is an error."""
    if not is_whole(n) or not 0 <= n <= np.iinfo(np.int32).max:
        raise ValueError(
            f"{name}: {shown(n)}; it must be a whole number of neurons, 0 to 2**31 - 1."
        )
    return int(n)


def check_seed(seed) -> int:
    """The seed of a matrix that is not stored, as a Python int."""
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise ValueError(f"seed: {shown(seed)}; it must be a whole number in [0, 2**32).")
    return int(seed)


def check_probability(p) -> float:
    """A probability as a Python float."""
    if not is_number(p) or not 0 <= p <= 1:
        raise ValueError(
            f"p: {shown(p)}; it must be a probability, a number in [0, 1], such as p=0.1."
        )
    return float(p)


def check_flag(name: str, value) -> bool:
    """A choice as a Python bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: {shown(value)}; it must be {name}=True or {name}=False.")
    return bool(value)


def check_key(key):
    """The key; anything but one JAX key is an error."""
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed or dtype == np.uint32) or key.ndim != (0 if typed else 1):
        raise TypeError(f"key: {key!r}; it must be one key, such as jax.random.key(0).")
    return key

"""Functions from models to models."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PyTree

from .surrogate import AbstractSpike, Heaviside


def inference_mode(model: PyTree) -> PyTree:
    """The model with `Heaviside` for every surrogate: the same spikes, as bits, faster, and no
    derivative."""
    is_spike = lambda leaf: isinstance(leaf, AbstractSpike)  # noqa: E731
    return jtu.tree_map(lambda a: Heaviside() if is_spike(a) else a, model, is_leaf=is_spike)


def cast(model: PyTree, dtype) -> PyTree:
    """The model (or state) with all its floating arrays of `dtype`.

    **Raises:** `ValueError` for float64 while JAX's 64-bit mode is off: JAX would give float32,
    silently.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype: {dtype!r}; it must be a floating type, such as jnp.float32.")
    if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
        raise ValueError(
            f"dtype: {jnp.dtype(dtype)} needs JAX's 64-bit mode, which is off; first write "
            'jax.config.update("jax_enable_x64", True).'
        )

    def one(a):
        if isinstance(a, jax.ShapeDtypeStruct):
            floating = jnp.issubdtype(a.dtype, jnp.floating)
            return jax.ShapeDtypeStruct(a.shape, dtype) if floating else a
        return a.astype(dtype) if eqx.is_inexact_array(a) else a

    return jtu.tree_map(one, model)


def where_spec(tree: PyTree, where, value=True, other=False) -> PyTree:
    """`value` at the leaves that `where` picks and `other` elsewhere: for `eqx.partition`, and for
    the `in_axes` of a sweep (`value=0, other=None`)."""
    blank = jtu.tree_map(lambda _: other, tree)
    return eqx.tree_at(where, blank, replace_fn=lambda _: value, is_leaf=lambda x: x is None)

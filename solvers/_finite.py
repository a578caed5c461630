"""A vector field that says where it fails."""

from collections.abc import Callable

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax


class Finite(eqx.Module):
    """The vector field `field`, with an error where its value is infinite or not a number.

    diffrax takes such a value for a step that is too long, or goes on with it. The error names the
    time and the variables. (For a network use `purebrain.simulate(check_finite=True)`, which names
    the step too.)

    **Arguments:** `field`: a function `(t, y, args) -> dy/dt`.

    **Raises:** `FloatingPointError`; within `jax.jit` JAX wraps it in an error of its own, with the
    same text.

    >>> import diffrax as dfx
    >>> from purebrain.solvers import Finite
    >>> term = dfx.ODETerm(Finite(lambda t, y, args: {"v": 1 - y["v"]}))
    """

    field: Callable

    def __call__(self, t, y, args):
        out = self.field(t, y, args)
        paths = [jtu.keystr(path) or "y" for path, _ in jtu.tree_leaves_with_path(out)]
        leaves, tree = jtu.tree_flatten(out)
        bad = jnp.array([~jnp.isfinite(leaf).all() for leaf in leaves], bool)
        bad, t = lax.stop_gradient((bad, jnp.asarray(t, float)))
        return jtu.tree_unflatten(tree, _checked(tuple(paths), leaves, bad, t))


@eqx.filter_custom_jvp
def _checked(paths, leaves, bad, t):
    def report(bad, t, leaves):
        if not bad.any():
            return leaves
        rows = bad.reshape(-1, len(paths))
        first = rows.any(1).argmax()
        names = ", ".join(path for path, b in zip(paths, rows[first], strict=True) if b)
        when = t.reshape(-1)[first]
        raise FloatingPointError(f"not finite: the vector field of {names} at t = {when:.6g}.")

    def fail():
        return jax.pure_callback(report, leaves, bad, t, leaves, vmap_method="broadcast_all")

    # Under vmap too, only a failure calls Python.
    return lax.cond(eqxi.unvmap_any(bad), fail, lambda: leaves)


@_checked.def_jvp
def _checked_jvp(primals, tangents):
    _, leaves, _, _ = tangents
    zeros = lambda d, x: jnp.zeros_like(x) if d is None else d  # noqa: E731
    out = _checked(*primals)
    return out, jtu.tree_map(zeros, leaves, out, is_leaf=lambda d: d is None)

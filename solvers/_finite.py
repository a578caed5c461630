"""A vector field that says where it fails."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu

from ._fault import fail_if


class Finite(eqx.Module):
    """The vector field `field`, with an error where its value is infinite or not a number.

    diffrax takes such a value for a step that is too long, or goes on with it. The error names the
    time and the variables. (For a network use `purebrain.simulate(check_finite=True)`, which names
    the step too.)

    **Arguments:** `field`: a function `(t, y, args) -> dy/dt`.

    **Raises:** `equinox.EquinoxRuntimeError` when the compiled code runs.

    >>> import diffrax as dfx
    >>> from purebrain.solvers import Finite
    >>> term = dfx.ODETerm(Finite(lambda t, y, args: {"v": 1 - y["v"]}))
    """

    field: Callable

    def __call__(self, t, y, args):
        out = self.field(t, y, args)
        leaves = jtu.tree_leaves_with_path(out)
        names = [f"y{jtu.keystr(path)}" for path, _ in leaves]
        bad = [~jnp.isfinite(leaf).all() for _, leaf in leaves]

        def describe(t, *bad):
            which = ", ".join(name for name, b in zip(names, bad, strict=True) if b)
            return f"not finite: the vector field of {which} at t = {t:.6g}."

        return fail_if(out, jnp.array(bad, bool).any(), describe, jnp.asarray(t), *bad)

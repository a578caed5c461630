"""Exponential Euler."""

from collections.abc import Callable
from typing import ClassVar

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu

from ._diagonal import linearise
from ._functions import phi_1


class ExpEuler(dfx.AbstractSolver):
    """Exponential Euler with the diagonal of the Jacobian, as a diffrax solver.

    Every component is integrated exactly as if its own linear part were constant over the step:

        y' = y + h phi_1(h J) f(y),   J = diagonal of df/dy,   phi_1(z) = (e^z - 1) / z

    The diagonal comes from one `jvp` a state leaf, so a model states only its vector field: with
    LIF and Hodgkin-Huxley this compiles to the same operations as the hand-linearised formula. Each
    component of a leaf may depend on that leaf only through itself (neurons do not see each other
    within a step).

    Exact for y' = a y + b; of order 1 otherwise (2 where f does not depend on t and its Jacobian is
    diagonal: Rosenbrock-Euler); stable for stiff decay, unlike explicit Euler.

    Use it as `solver=ExpEuler()` of a neuron or in `diffrax.diffeqsolve(..., stepsize_controller=
    diffrax.ConstantStepSize())`; it has no error estimate (`ETDRK2` has).

    **Arguments:** `linear`: optionally the linear part in place of the diagonal, a function
    `(t, y, args) -> J` with J like y: cheaper where its derivative is dear, and still of order 1 if
    it is another.

    Hochbruck and Ostermann (2010), Acta Numerica 19; for neurons MacGregor (1987).
    """

    linear: Callable | None = None

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        h = terms.contr(t0, t1)
        f, jacobian = linearise(terms, t0, h, y0, args, self.linear)

        def advance(y, f, jacobian):
            step = jnp.asarray(h, y.dtype)
            return y + step * phi_1(step * jacobian) * f

        y1 = jtu.tree_map(advance, y0, f, jacobian)
        return y1, None, dict(y0=y0, y1=y1), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)

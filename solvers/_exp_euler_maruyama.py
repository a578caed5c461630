"""Exponential Euler-Maruyama."""

from collections.abc import Callable
from typing import ClassVar

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu

from ._diagonal import linearise
from ._functions import phi_1


class ExpEulerMaruyama(dfx.AbstractItoSolver):
    """Exponential Euler-Maruyama for dy = f(t, y) dt + g(t, y) dW (Ito).

    With J the diagonal of df/dy and z = h J at the start of the step:

        y' = y + h phi_1(z) f(t, y) + sqrt(phi_1(2 z)) g(t, y) dW

    The noise has the variance of an Ornstein-Uhlenbeck process over the step, (e^{2 h J} - 1) /
    (2 J) for dW / sqrt(h) of variance 1: f = a (m - y) with constant g gets its exact mean,
    variance and autocorrelation at any h (each component's own; components that share noise get
    its correlation to order h). Stable for stiff decay.

    Of weak order 1, and of strong order 1/2, or 1 where g does not depend on y. Terms:
    `diffrax.MultiTerm(drift, diffusion)`; no error estimate. With g = 0 it is `ExpEuler`.

    **Arguments:** `linear`: optionally J, a function `(t, y, args) -> J` with J like y.

    Shardlow (1999), Numer. Funct. Anal. Optim. 20; the variance: Gillespie (1996), Phys. Rev. E 54.
    """

    linear: Callable | None = None

    term_structure: ClassVar = dfx.MultiTerm[tuple[dfx.AbstractTerm, dfx.AbstractTerm]]
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def strong_order(self, terms):
        return 0.5

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        drift, diffusion = terms.terms
        h = drift.contr(t0, t1)
        f, jacobian = linearise(drift, t0, h, y0, args, self.linear)
        noise = diffusion.vf_prod(t0, y0, args, diffusion.contr(t0, t1))

        def advance(y, f, jacobian, noise):
            step = jnp.asarray(h, y.dtype)
            z = step * jacobian
            return y + step * phi_1(z) * f + jnp.sqrt(phi_1(2 * z)) * noise

        y1 = jtu.tree_map(advance, y0, f, jacobian, noise)
        return y1, None, dict(y0=y0, y1=y1), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        drift, diffusion = terms.terms
        return drift.vf(t0, y0, args), diffusion.vf(t0, y0, args)

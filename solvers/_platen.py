"""Milstein's method without derivatives."""

from typing import ClassVar

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu


class ItoPlaten(dfx.AbstractItoSolver):
    """Milstein's method without derivatives, for dy = f(t, y) dt + g(t, y) dW (Ito).

        u  = y + h f + sqrt(h) g
        y' = y + h f + g dW + (g(t, u) - g(t, y)) (dW^2 - h) / (2 sqrt(h))

    Of strong and weak order 1, for noise that is diagonal (component i has a dW_i of its own, and
    its g depends on component i only) or scalar (one dW for all). For other noise the order is not
    kept; this is not checked. Terms: `diffrax.MultiTerm(drift, diffusion)`; no error estimate.
    (`diffrax.ItoMilstein` takes derivatives, and holds a matrix n x n for n diagonal noises.)

    Platen (1984); Kloeden and Platen (1992), Numerical Solution of Stochastic Differential
    Equations, section 11.1.
    """

    term_structure: ClassVar = dfx.MultiTerm[tuple[dfx.AbstractTerm, dfx.AbstractTerm]]
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def strong_order(self, terms):
        return 1

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y1 = _platen(terms, t0, t1, y0, args, lambda dw, h: dw * dw - h)
        return y1, None, dict(y0=y0, y1=y1), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        drift, diffusion = terms.terms
        return drift.vf(t0, y0, args), diffusion.vf(t0, y0, args)


class StratonovichPlaten(dfx.AbstractStratonovichSolver):
    """Milstein's method without derivatives, for dy = f(t, y) dt + g(t, y) o dW (Stratonovich).

        u  = y + h f + sqrt(h) g
        y' = y + h f + g dW + (g(t, u) - g(t, y)) dW^2 / (2 sqrt(h))

    Orders, noise and terms as for `ItoPlaten`.

    Kloeden and Platen (1992), Numerical Solution of Stochastic Differential Equations, section
    11.1.
    """

    term_structure: ClassVar = dfx.MultiTerm[tuple[dfx.AbstractTerm, dfx.AbstractTerm]]
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def strong_order(self, terms):
        return 1

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y1 = _platen(terms, t0, t1, y0, args, lambda dw, h: dw * dw)
        return y1, None, dict(y0=y0, y1=y1), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        drift, diffusion = terms.terms
        return drift.vf(t0, y0, args), diffusion.vf(t0, y0, args)


def _platen(terms, t0, t1, y0, args, square):
    drift, diffusion = terms.terms
    h, dw = drift.contr(t0, t1), diffusion.contr(t0, t1)
    root = jtu.tree_map(lambda w: jnp.sqrt(jnp.abs(jnp.asarray(h, w.dtype))), dw)
    ones = jtu.tree_map(lambda w, r: jnp.full_like(w, r), dw, root)
    weight = jtu.tree_map(lambda w, r: square(w, jnp.asarray(h, w.dtype)) / (2 * r), dw, root)
    g = diffusion.vf(t0, y0, args)
    plain = jtu.tree_map(jnp.add, y0, drift.vf_prod(t0, y0, args, h))
    u = jtu.tree_map(jnp.add, plain, diffusion.prod(g, ones))
    ahead = diffusion.vf_prod(t0, u, args, weight)
    back = diffusion.prod(g, weight)
    add = lambda y, a, b, c: y + a + (b - c)  # noqa: E731
    return jtu.tree_map(add, plain, diffusion.prod(g, dw), ahead, back)

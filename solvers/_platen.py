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
    (`diffrax.ItoMilstein` takes derivatives, and holds n^3 numbers for n diagonal noises. In
    Stratonovich's sense `diffrax.EulerHeun` is Milstein's method without derivatives.)

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
        drift, diffusion = terms.terms
        h, dw = drift.contr(t0, t1), diffusion.contr(t0, t1)
        root = jtu.tree_map(lambda w: jnp.full_like(w, jnp.sqrt(jnp.asarray(h, w.dtype))), dw)
        weight = jtu.tree_map(lambda w, r: (w * w - r * r) / (2 * r), dw, root)
        g = diffusion.vf(t0, y0, args)
        plain = jtu.tree_map(jnp.add, y0, drift.vf_prod(t0, y0, args, h))
        u = jtu.tree_map(jnp.add, plain, diffusion.prod(g, root))
        y1 = jtu.tree_map(
            lambda y, noise, at_u, at_y: y + noise + (at_u - at_y),
            plain,
            diffusion.prod(g, dw),
            diffusion.vf_prod(t0, u, args, weight),
            diffusion.prod(g, weight),
        )
        return y1, None, dict(y0=y0, y1=y1), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        drift, diffusion = terms.terms
        return drift.vf(t0, y0, args), diffusion.vf(t0, y0, args)

"""Exponential Runge-Kutta methods with a diagonal linear part."""

from collections.abc import Callable
from typing import ClassVar

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import ArrayLike, PyTree

from ._diagonal import linearise, times
from ._phi import phis


class ETDRK2(dfx.AbstractSolver):
    """Exponential time differencing Runge-Kutta of order 2, with 2 stages.

    With L the diagonal of df/dy at the start of the step, g(t, y) = f(t, y) - L y and z = h L:

        u  = y + h phi_1(z) f(t, y)                                (exponential Euler)
        y' = u + h phi_2(z) (g(t + h, u) - g(t, y))

    Exact for y' = a y + b + c t; of order 2 for any L, so also where components of a leaf are
    coupled. The error estimate is that of exponential Euler, for `diffrax.PIDController`. The dense
    output is the same formula along the step.

    **Arguments:** `linear`: optionally L, a function `(t, y, args) -> L` with L like y.

    Cox and Matthews (2002), J. Comput. Phys. 176, ETD2RK.
    """

    linear: Callable | None = None

    term_structure: ClassVar = dfx.AbstractTerm

    @property
    def interpolation_cls(self):
        return PhiInterpolation

    def order(self, terms):
        return 2

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        h, z, f, excess = _split(terms, t0, t1, y0, args, self.linear)
        u = _along(1, y0, z, times(h, f))
        w = times(h, f), times(h, excess(t1, u))
        y1 = _along(1, y0, z, *w)
        error = _minus(y1, u)
        return y1, error, dict(y0=y0, z=z, w=w), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class ETDRK4(dfx.AbstractSolver):
    """Exponential time differencing Runge-Kutta of order 4: Krogstad's, with 4 stages.

    With L the diagonal of df/dy at the start of the step, g(t, y) = f(t, y) - L y, z = h L and
    d_k = g(t + c_k h, u_k) - g(t, y):

        u_2 = y + h/2 phi_1(z/2) f                                 c_2 = 1/2
        u_3 = u_2 + h phi_2(z/2) d_2                               c_3 = 1/2
        u_4 = y + h phi_1(z) f + 2 h phi_2(z) d_3                  c_4 = 1
        y'  = y + h phi_1(z) f + h phi_2(z) (2 d_2 + 2 d_3 - d_4) + 4 h phi_3(z) (d_4 - d_2 - d_3)

    With L = 0 it is the classical Runge-Kutta method. For stiff problems the order can fall to 3,
    and the error be 100 times the tolerance (`ExpRB32` keeps to it). The error estimate (order 3)
    takes one evaluation more, at the end of the step; where it is not used the compiler drops it.

    **Arguments:** `linear`: optionally L, a function `(t, y, args) -> L` with L like y.

    Krogstad (2005), J. Comput. Phys. 203; its error estimate: Balac and Mahe (2013), Comput. Phys.
    Commun. 184, and Whalen, Brio and Moloney (2015), J. Comput. Phys. 280.
    """

    linear: Callable | None = None

    term_structure: ClassVar = dfx.AbstractTerm

    @property
    def interpolation_cls(self):
        return PhiInterpolation

    def order(self, terms):
        return 4

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        h, z, f, excess = _split(terms, t0, t1, y0, args, self.linear)
        hf, middle = times(h, f), t0 + (t1 - t0) / 2
        u = _along(0.5, y0, z, hf)
        d2 = times(h, excess(middle, u))
        # A quarter of each 4 d_2 is taken along, at s = 1/2.
        d3 = times(h, excess(middle, _along(0.5, y0, z, hf, times(4, d2))))
        d4 = times(h, excess(t1, _along(1, y0, z, hf, times(2, d3))))
        w = (
            hf,
            jtu.tree_map(lambda a, b, c: 2 * (a + b) - c, d2, d3, d4),
            jtu.tree_map(lambda a, b, c: 4 * (c - a - b), d2, d3, d4),
        )
        y1 = _along(1, y0, z, *w)
        d5 = times(h, excess(t1, y1))
        change = times(0.6, _minus(d4, d5))
        zero = times(0, y0)
        error = _along(1, zero, z, zero, times(-1, change), times(4, change))
        return y1, error, dict(y0=y0, z=z, w=w), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class PhiInterpolation(dfx.AbstractLocalInterpolation):
    """y(t0 + s h) = y0 + sum_k s^k phi_k(s z) w_k for s in [0, 1], exact for what is linear.

    A polynomial would overshoot where a step is long and decay fast. `z` and each of `w` are like
    `y0`.
    """

    t0: ArrayLike
    t1: ArrayLike
    y0: PyTree
    z: PyTree
    w: tuple[PyTree, ...]

    def evaluate(self, t0, t1=None, left=True):
        if t1 is not None:
            return _minus(self.evaluate(t1), self.evaluate(t0))
        return _along(fraction(self, t0), self.y0, self.z, *self.w)


def fraction(step, t):
    """Where `t` is between step.t0 and step.t1: 0 to 1, and 0 in a step without length."""
    empty = step.t1 == step.t0
    return jnp.where(empty, 0, t - step.t0) / jnp.where(empty, 1, step.t1 - step.t0)


def _split(terms, t0, t1, y0, args, linear):
    """h, h L, f, and (t, u) -> g(t, u) - g(t0, y0)."""
    h = terms.contr(t0, t1)
    f, diagonal = linearise(terms, t0, h, y0, args, linear)

    def excess(t, u):
        """In this order: where f is linear, what is left is exactly 0."""
        now = terms.vf(t, u, args)
        return jtu.tree_map(lambda b, a, j, x, y: (b - a) - j * (x - y), now, f, diagonal, u, y0)

    return h, times(h, diagonal), f, excess


def _along(s, y, z, *w):
    """y + sum_k s^k phi_k(s z) w_k."""

    def leaf(y, z, *w):
        part = jnp.asarray(s, y.dtype)
        for k, (phi, weight) in enumerate(zip(phis(part * z, len(w)), w, strict=True), 1):
            y = y + part**k * phi * weight
        return y

    return jtu.tree_map(leaf, y, z, *w)


def _minus(a, b):
    return jtu.tree_map(jnp.subtract, a, b)

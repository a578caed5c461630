"""Exponential Rosenbrock methods: the whole Jacobian."""

import functools as ft
from typing import ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree

from ._exp_rk import fraction
from ._phi import matrix_phis


class ExpRosenbrockEuler(dfx.AbstractSolver):
    """Exponential Rosenbrock-Euler, of order 2, for coupled systems.

    With the Jacobian J = df/dy and v = df/dt at the start of the step:

        y' = y + h phi_1(h J) f(t, y) + h^2 phi_2(h J) v

    Exact for y' = A y + b + c t; one evaluation of f a step. It has no error estimate (`ExpRB32`
    has). The functions of the matrix take of the order of d^3 operations for d variables.

    **Arguments:** `pointwise`: True if entry i of a leaf sees only entry i of the others, as in a
    population of neurons: the Jacobian is then one d x d block an entry, for d leaves, all of one
    shape. (A system for which that is not true loses its order, without a word.) By default it is
    one matrix for all numbers of the state.

    Hochbruck, Ostermann and Schweitzer (2009), SIAM J. Numer. Anal. 47; for time-dependent f
    Hochbruck and Ostermann (2010), Acta Numerica 19.
    """

    pointwise: bool = eqx.field(static=True, default=False)

    term_structure: ClassVar = dfx.AbstractTerm

    @property
    def interpolation_cls(self):
        return ft.partial(_MatrixPhiInterpolation, pointwise=self.pointwise)

    def order(self, terms):
        return 2

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y, unpack = _pack(y0, self.pointwise)
        h, z, f, v = _linearise(terms, t0, t1, y, args, unpack, self.pointwise)
        w = h * f, h * jnp.abs(h) * v
        y1 = unpack(y + _combine(matrix_phis(z), w))
        return y1, None, dict(y0=y0, z=z, w=w), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class ExpRB32(dfx.AbstractSolver):
    """Exponential Rosenbrock of order 3 with an embedded order 2, for coupled systems.

    With the Jacobian J = df/dy and v = df/dt at the start of the step:

        u  = y + h phi_1(h J) f(t, y) + h^2 phi_2(h J) v              (`ExpRosenbrockEuler`)
        y' = u + 2 h phi_3(h J) (f(t + h, u) - f(t, y) - J (u - y) - h v)

    Exact for y' = A y + b + c t; stiffly accurate, so that the order does not fall for stiff
    problems. The error estimate is y' - u, for `diffrax.PIDController`.

    **Arguments:** `pointwise`: as for `ExpRosenbrockEuler`: True for the neurons of a population.

    Hochbruck, Ostermann and Schweitzer (2009), SIAM J. Numer. Anal. 47, exprb32.
    """

    pointwise: bool = eqx.field(static=True, default=False)

    term_structure: ClassVar = dfx.AbstractTerm

    @property
    def interpolation_cls(self):
        return ft.partial(_MatrixPhiInterpolation, pointwise=self.pointwise)

    def order(self, terms):
        return 3

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y, unpack = _pack(y0, self.pointwise)
        h, z, f, v = _linearise(terms, t0, t1, y, args, unpack, self.pointwise)
        phi = matrix_phis(z)
        w1, w2 = h * f, h * jnp.abs(h) * v
        change = _combine(phi, (w1, w2))
        end, _ = _pack(terms.vf(t1, unpack(y + change), args), self.pointwise)
        w3 = 2 * (h * (end - f) - _apply(z, change) - w2)
        error = _apply(phi[2], w3)
        y1 = y + change + error
        dense = dict(y0=y0, z=z, w=(w1, w2, w3))
        return unpack(y1), unpack(error), dense, None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class _MatrixPhiInterpolation(dfx.AbstractLocalInterpolation):
    """`PhiInterpolation` with a matrix z."""

    t0: ArrayLike
    t1: ArrayLike
    y0: PyTree
    z: Array
    w: tuple[Array, ...]
    pointwise: bool = eqx.field(static=True)

    def evaluate(self, t0, t1=None, left=True):
        if t1 is not None:
            return jtu.tree_map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        y, unpack = _pack(self.y0, self.pointwise)
        s = fraction(self, t0).astype(y.dtype)
        w = [s**k * weight for k, weight in enumerate(self.w, 1)]
        return unpack(y + _combine(matrix_phis(s * self.z), w))


def _pack(y, pointwise):
    """The state as one array, (..., d), coupled along the last axis only; and the way back."""
    if not pointwise:
        return ravel_pytree(y)
    leaves, tree = jtu.tree_flatten(y)
    shapes = {leaf.shape for leaf in leaves}
    if len(shapes) != 1:
        raise ValueError(
            f"pointwise=True: leaves of shapes {sorted(shapes)}; they must all have one shape. For "
            "any other state write pointwise=False."
        )

    def unpack(packed):
        return jtu.tree_unflatten(tree, [packed[..., k] for k in range(len(leaves))])

    return jnp.stack(leaves, axis=-1), unpack


def _linearise(terms, t0, t1, y, args, unpack, pointwise):
    """h, h J (..., d, d), f and df/dt."""

    def field(t, y):
        return _pack(terms.vf(t, unpack(y), args), pointwise)[0]

    def column(direction):
        return jax.jvp(lambda y: field(t0, y), (y,), (jnp.broadcast_to(direction, y.shape),))[1]

    h = jnp.asarray(terms.contr(t0, t1), y.dtype)
    jacobian = jax.vmap(column, out_axes=-1)(jnp.eye(y.shape[-1], dtype=y.dtype))
    t0 = jnp.asarray(t0, float)
    f, v = jax.jvp(lambda t: field(t, y), (t0,), (jnp.ones_like(t0),))
    return h, h * jacobian, f, v


def _apply(matrix, vector):
    return (matrix @ vector[..., None])[..., 0]


def _combine(phi, w):
    """sum_k phi_k w_k."""
    return sum(_apply(p, weight) for p, weight in zip(phi, w, strict=False))

"""The explicit Runge-Kutta methods that diffrax does not have."""

from typing import ClassVar

import diffrax as dfx
import jax.tree_util as jtu
import numpy as np


def _tableau(a, b, lower=None):
    """A tableau; `lower` are the weights of the embedded method."""
    a, b = tuple(np.array(row, float) for row in a), np.array(b, float)
    error = np.zeros_like(b) if lower is None else b - np.array(lower, float)
    c = np.array([row.sum() for row in a])
    return dfx.ButcherTableau(a_lower=a, b_sol=b, b_error=error, c=c)


def _hermite(last):
    """Cubic dense output; `last` is the stage that stands for the slope at the end of the step."""

    def interpolation(*, t0, t1, y0, y1, k):
        cubic = dfx.ThirdOrderHermitePolynomialInterpolation
        k0 = jtu.tree_map(lambda stages: stages[0], k)
        k1 = jtu.tree_map(lambda stages: stages[last], k)
        return cubic(t0=t0, t1=t1, y0=y0, y1=y1, k0=k0, k1=k1)

    return staticmethod(interpolation)


class _AbstractFixedERK(dfx.AbstractERK):
    """A method without an embedded one: diffrax then refuses an adaptive controller."""

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        out = super().step(terms, t0, t1, y0, args, solver_state, made_jump)
        y1, _, dense, state, result = out
        return y1, None, dense, state, result


class RK3(dfx.AbstractERK):
    """Kutta's method of order 3, with 3 stages and the midpoint rule embedded (order 2).

    Kutta (1901), Z. Math. Phys. 46.
    """

    tableau: ClassVar = _tableau([[1 / 2], [-1, 2]], [1 / 6, 2 / 3, 1 / 6], lower=[0, 1, 0])
    interpolation_cls: ClassVar = _hermite(2)

    def order(self, terms):
        return 3


class SSPRK3(dfx.AbstractERK):
    """Strong-stability-preserving Runge-Kutta of order 3, with 3 stages and Heun's embedded (order
    2).

    Shu and Osher (1988), J. Comput. Phys. 77; the pair: Conde, Fekete and Shadid (2018), arXiv
    1806.08693.
    """

    tableau: ClassVar = _tableau(
        [[1], [1 / 4, 1 / 4]], [1 / 6, 1 / 6, 2 / 3], lower=[1 / 2, 1 / 2, 0]
    )
    interpolation_cls: ClassVar = _hermite(1)

    def order(self, terms):
        return 3


class RK4(_AbstractFixedERK):
    """The classical Runge-Kutta method of order 4, with 4 stages; no error estimate.

    Kutta (1901), Z. Math. Phys. 46.
    """

    tableau: ClassVar = _tableau([[1 / 2], [0, 1 / 2], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6])
    interpolation_cls: ClassVar = _hermite(3)

    def order(self, terms):
        return 4


class RK438(_AbstractFixedERK):
    """The 3/8 rule: Runge-Kutta of order 4, with 4 stages; no error estimate.

    Kutta (1901), Z. Math. Phys. 46.
    """

    tableau: ClassVar = _tableau([[1 / 3], [-1 / 3, 1], [1, -1, 1]], [1 / 8, 3 / 8, 3 / 8, 1 / 8])
    interpolation_cls: ClassVar = _hermite(3)

    def order(self, terms):
        return 4


_R = np.sqrt(5)


class Ralston4(_AbstractFixedERK):
    """Ralston's method of order 4, with 4 stages and the least bound of the error; no error
    estimate.

    Ralston (1962), Math. Comput. 16.
    """

    tableau: ClassVar = _tableau(
        [
            [2 / 5],
            [(-2889 + 1428 * _R) / 1024, (3785 - 1620 * _R) / 1024],
            [
                (-3365 + 2094 * _R) / 6040,
                (-975 - 3046 * _R) / 2552,
                (467040 + 203968 * _R) / 240845,
            ],
        ],
        [
            (263 + 24 * _R) / 1812,
            (125 - 1000 * _R) / 3828,
            1024 * (3346 + 1623 * _R) / 5924787,
            (30 - 4 * _R) / 123,
        ],
    )
    interpolation_cls: ClassVar = _hermite(3)

    def order(self, terms):
        return 4


class RKF12(dfx.AbstractERK):
    """Fehlberg's method of order 2, with 3 stages and order 1 embedded.

    Fehlberg (1969), NASA TR R-315.
    """

    tableau: ClassVar = _tableau(
        [[1 / 2], [1 / 256, 255 / 256]],
        [1 / 512, 255 / 256, 1 / 512],
        lower=[1 / 256, 255 / 256, 0],
    )
    interpolation_cls: ClassVar = _hermite(2)

    def order(self, terms):
        return 2


class RKF45(dfx.AbstractERK):
    """Fehlberg's method of order 5, with 6 stages and order 4 embedded.

    Fehlberg (1969), NASA TR R-315.
    """

    tableau: ClassVar = _tableau(
        [
            [1 / 4],
            [3 / 32, 9 / 32],
            [1932 / 2197, -7200 / 2197, 7296 / 2197],
            [439 / 216, -8, 3680 / 513, -845 / 4104],
            [-8 / 27, 2, -3544 / 2565, 1859 / 4104, -11 / 40],
        ],
        [16 / 135, 0, 6656 / 12825, 28561 / 56430, -9 / 50, 2 / 55],
        lower=[25 / 216, 0, 1408 / 2565, 2197 / 4104, -1 / 5, 0],
    )
    interpolation_cls: ClassVar = _hermite(4)

    def order(self, terms):
        return 5


class CashKarp(dfx.AbstractERK):
    """Cash and Karp's method of order 5, with 6 stages and order 4 embedded.

    Cash and Karp (1990), ACM TOMS 16.
    """

    tableau: ClassVar = _tableau(
        [
            [1 / 5],
            [3 / 40, 9 / 40],
            [3 / 10, -9 / 10, 6 / 5],
            [-11 / 54, 5 / 2, -70 / 27, 35 / 27],
            [1631 / 55296, 175 / 512, 575 / 13824, 44275 / 110592, 253 / 4096],
        ],
        [37 / 378, 0, 250 / 621, 125 / 594, 0, 512 / 1771],
        lower=[2825 / 27648, 0, 18575 / 48384, 13525 / 55296, 277 / 14336, 1 / 4],
    )
    interpolation_cls: ClassVar = _hermite(4)

    def order(self, terms):
        return 5

"""Methods for Caputo fractional differential equations."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx
from jaxtyping import Array

from ._fde_memory import Memory, difference, gamma, memory_of


class AbstractFractionalMethod(eqx.Module):
    """A method for D^alpha y = f(t, y): what it remembers, with which weights, and its step.

    `memory`: how many steps it looks back, or None for all of them.
    """

    memory: eqx.AbstractVar[int | None]

    @abc.abstractmethod
    def weights(self, alpha: Array, ages: Array) -> Array:
        """The weight of what was remembered 0, 1, ... steps ago."""

    def init(self, alpha: Any, like: Any, length: int) -> Memory:
        """A memory of `length` steps for states like `like`, empty; `alpha` for each leaf."""
        return memory_of(self.weights, alpha, like, length)

    @abc.abstractmethod
    def step(
        self, field: Callable, i, h: Array, alpha: Any, start: Any, y: Any, memory: Memory
    ) -> tuple[Any, Memory]:
        """y after step i of length h, from y; `field(i, y)` is the right-hand side after i steps,
        `start` the state after none."""


class CaputoEuler(AbstractFractionalMethod):
    """The explicit rectangle rule for the fractional integral, over the whole past:

        y_{i+1} = y_0 + h^alpha / Gamma(alpha + 1) sum_k b_k f_{i-k},
        b_k = (k + 1)^alpha - k^alpha

    Of order 1; forward Euler for alpha = 1. There is no short memory: the weights fall with
    k^(alpha - 1) only, and their sum diverges.

    Diethelm, Ford and Freed (2004), Numerical Algorithms 36; Li and Zeng (2013), Numer. Funct.
    Anal. Optim. 34.
    """

    @property
    def memory(self):
        return None

    def weights(self, alpha, ages):
        return difference(ages, alpha) / gamma(1 + alpha)

    def step(self, field, i, h, alpha, start, y, memory):
        memory = memory.write(i, field(i, y))
        total = memory.sum(i)
        return jtu.tree_map(lambda a, y, s: y + h**a * s, alpha, start, total), memory


class CaputoL1(AbstractFractionalMethod):
    """The L1 scheme: the derivative of the polygon through the steps is put in Caputo's integral.

        y_{i+1} = y_i + h^alpha Gamma(2 - alpha) f - sum_{k>=1} c_k (y_{i-k+1} - y_{i-k}),
        c_k = (k + 1)^(1 - alpha) - k^(1 - alpha)

    With a `root_finder`, f is taken at the end of the step: order 2 - alpha where y is smooth
    (solutions mostly are not at t0; then 1). Without one, f is taken at its start: explicit, of
    order 1, and forward Euler for alpha = 1. With a short memory a constant state keeps a
    derivative of 0; what is left out is at most sup|y'| (t^(1 - alpha) - T^(1 - alpha)) / Gamma(2 -
    alpha), T the memory's time.

    **Arguments:** `root_finder`: an optimistix root finder, such as `optimistix.Newton(rtol=1e-8,
    atol=1e-8)`, or None; `memory`: steps, or None for all.

    Oldham and Spanier (1974), The Fractional Calculus; Lin and Xu (2007), J. Comput. Phys. 225; for
    neurons Teka, Marinov and Santamaria (2014), PLoS Comput. Biol. 10.
    """

    root_finder: optx.AbstractRootFinder | None = None
    memory: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _length(self.memory)

    def weights(self, alpha, ages):
        return difference(ages + 1, 1 - alpha)

    def step(self, field, i, h, alpha, start, y, memory):
        trace = memory.sum(i - 1)
        rate = jtu.tree_map(lambda a: h**a * gamma(2 - a), alpha)

        def after(slope):
            return jtu.tree_map(lambda y, r, f, m: y + r * f - m, y, rate, slope, trace)

        y1 = after(field(i, y))
        if self.root_finder is not None:

            def residual(y1, _):
                return jtu.tree_map(jnp.subtract, y1, after(field(i + 1, y1)))

            y1 = optx.root_find(residual, self.root_finder, y1).value
        return y1, memory.write(i, jtu.tree_map(jnp.subtract, y1, y))


class GrunwaldLetnikov(AbstractFractionalMethod):
    """Grunwald and Letnikov's difference quotient of y - y_0, explicit:

        y_{i+1} = y_0 + h^alpha f_i - sum_{k=1}^memory w_k (y_{i+1-k} - y_0),
        w_k = (1 - (1 + alpha) / k) w_{k-1},   w_0 = 1

    Of order 1; forward Euler for alpha = 1. The initial value is taken off, or the derivative would
    be Riemann and Liouville's, for which a constant changes. A short memory of T = memory h errs by
    at most sup|y - y_0| T^(-alpha) / Gamma(1 - alpha) in the derivative (Podlubny, 7.3).

    **Arguments:** `memory`: steps, or None for all.

    Podlubny (1999), Fractional Differential Equations, chapter 7.
    """

    memory: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _length(self.memory)

    def weights(self, alpha, ages):
        return jnp.cumprod(1 - (1 + alpha) / (ages + 1), axis=0)

    def step(self, field, i, h, alpha, start, y, memory):
        memory = memory.write(i, jtu.tree_map(jnp.subtract, y, start))
        slope, total = field(i, y), memory.sum(i)
        y1 = jtu.tree_map(lambda a, y, f, s: y + h**a * f - s, alpha, start, slope, total)
        return y1, memory


def _length(memory):
    if memory is not None and not (isinstance(memory, int) and memory >= 1):
        raise ValueError(f"memory: {memory!r}; it must be a number of steps, at least 1, or None.")

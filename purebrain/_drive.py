"""Drives: a synaptic current is a function of the membrane potential.

A drive turns the synaptic variable g and the potential v into a current; bound to g it is a
function of v alone, and such functions add. Their sum is the `args` of a neuron's vector field, so
that an exponential integrator sees how the current depends on the potential.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._check import parameters
from ._core import as_param

Potential = Float[Array, " n"]


class AbstractDrive(eqx.Module):
    """How a synaptic variable drives the membrane. The current is linear in g, and so 0 where g is
    0: `merge` adds up the g of projections that share a drive."""

    @abc.abstractmethod
    def __call__(self, g: Potential, v: Potential) -> Potential:
        """The current at synaptic variable `g` and potential `v` (mV)."""


class Current(AbstractDrive):
    """Current-based (CUBA): I = g, in the units of the neuron's input (mV for `LIF`, pA for
    `TraubMiles`).

    Brunel (2000), J. Comput. Neurosci. 8.
    """

    def __call__(self, g, v):
        return g


class COBA(AbstractDrive):
    """Conductance-based (COBA): I = g (e_rev - v).

    **Arguments:** `e_rev`: the reversal potential, mV; one number, or one a target.

    Vogels and Abbott (2005), J. Neurosci. 25.
    """

    e_rev: Float[Array, "..."] = eqx.field(converter=as_param)

    def __check_init__(self):
        parameters(self)

    def __call__(self, g, v):
        parameters(self, v.size)
        return g * (self.e_rev - v)


class MgBlock(AbstractDrive):
    """NMDA: a conductance that magnesium blocks at low potentials, I = g B(v) (e_rev - v),

        B(v) = 1 / (1 + mg / beta exp(-alpha v))

    **Arguments:** `e_rev`: the reversal potential, mV; `mg`: the magnesium concentration, mM;
    `alpha`: 1/mV; `beta`: mM.

    Jahr and Stevens (1990), J. Neurosci. 10.
    """

    e_rev: Float[Array, "..."] = eqx.field(converter=as_param, default=0.0)
    mg: Float[Array, "..."] = eqx.field(converter=as_param, default=1.0)
    alpha: Float[Array, "..."] = eqx.field(converter=as_param, default=0.062)
    beta: Float[Array, "..."] = eqx.field(converter=as_param, default=3.57)

    def __check_init__(self):
        parameters(self)

    def __call__(self, g, v):
        parameters(self, v.size)
        unblocked = 1 / (1 + self.mg / self.beta * jnp.exp(-self.alpha * v))
        return g * unblocked * (self.e_rev - v)


class Drives(eqx.Module):
    """The sum of drives, as a function of the potential: what a neuron's vector field gets as
    `args`.

    `drives + other` adds another such sum, a number or an array (a current).
    """

    parts: tuple[Callable[[Potential], Potential], ...] = ()
    current: Float[Array, "..."] = eqx.field(converter=as_param, default=0.0)

    def __call__(self, v: Potential) -> Potential:
        total = jnp.broadcast_to(self.current.astype(v.dtype), v.shape)
        for part in self.parts:
            total = total + part(v)
        return total

    def __add__(self, other) -> "Drives":
        other = as_drives(other)
        return Drives(self.parts + other.parts, self.current + other.current)

    __radd__ = __add__


def as_drives(x: "Drives | ArrayLike | Callable[[Potential], Potential]") -> Drives:
    """A number or an array (a current), a function of v, or drives, as drives."""
    if isinstance(x, Drives):
        return x
    return Drives((x,)) if callable(x) else Drives((), as_param(x))


class OnView(eqx.Module):
    """A drive bound to its `g`, acting on the neurons lo to hi - 1 of `n`."""

    drive: AbstractDrive
    g: Array
    lo: int = eqx.field(static=True)
    hi: int = eqx.field(static=True)

    def __call__(self, v):
        if (self.lo, self.hi) == (0, v.shape[0]):
            return self.drive(self.g, v)
        current = self.drive(self.g, v[self.lo : self.hi])
        return jnp.pad(current, (self.lo, v.shape[0] - self.hi))

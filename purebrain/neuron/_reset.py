"""What happens to the membrane potential at a spike."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


class AbstractReset(eqx.Module):
    """A reset of the potential. Detached (the default), it hides the spike from the derivative.

    Through an attached reset the surrogate's slope enters the recurrence of v at every step: on a
    400-neuron COBA network the gradient then had the wrong sign. (Zenke and Vogels, 2021.)
    """

    detach: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def __call__(self, v, s, v_th, v_reset) -> Array:
        """The potential after the spikes `s`, boolean or 0 and 1."""


class HardReset(AbstractReset):
    """v -> v_reset. Zenke and Vogels (2021), Neural Computation 33."""

    detach: bool = eqx.field(static=True, default=True)

    def __call__(self, v, s, v_th, v_reset):
        if self.detach or s.dtype == bool:
            return jnp.where(lax.stop_gradient(s).astype(bool), v_reset.astype(v.dtype), v)
        return (1 - s) * v + s * v_reset  # exactly v_reset where s = 1


class SoftReset(AbstractReset):
    """v -> v - (v_th - v_reset): what exceeds the threshold is kept. Rueckauer et al. (2017)."""

    detach: bool = eqx.field(static=True, default=True)

    def __call__(self, v, s, v_th, v_reset):
        s = lax.stop_gradient(s) if self.detach else s
        return v - s.astype(v.dtype) * (v_th - v_reset)

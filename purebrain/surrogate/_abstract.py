"""The interface of spike functions."""

import abc
import dataclasses

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from .._check import parameters
from .._core import as_param
from ..ops._check import as_number


class AbstractSpike(eqx.Module):
    """A spike function of the dimensionless distance to threshold: 1 where x >= 0."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*n"]) -> Float[Array, "*n"] | Bool[Array, "*n"]:
        """The spikes."""

    def sloped(self, x: Float[Array, "*n"]) -> Bool[Array, "*n"] | None:
        """Where the derivative may be other than 0; None: anywhere."""
        return None


class AbstractSurrogate(AbstractSpike):
    """A step forward, and `derivative` in its place when differentiated, in both modes and at any
    order.

    The spikes are 0.0 and 1.0, the same bits whichever surrogate is chosen: they do not depend on
    its parameters, which have a gradient through `derivative` only.

    **Raises:** `ValueError` or `TypeError` for a parameter that is not one finite number, or not
    above 0 where it is a width or a steepness.
    """

    def __post_init__(self):
        # Before they are converted, which is done without their names.
        for field in dataclasses.fields(self):
            if field.metadata.get("converter") is as_param:
                as_number(getattr(self, field.name), field.name)

    def __check_init__(self):
        parameters(self)

    @abc.abstractmethod
    def derivative(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """What stands in for the derivative of the step."""

    def __call__(self, x):
        return _step(x, self.derivative(x))


@jax.custom_jvp
def _step(x, slope):
    return (x >= 0).astype(x.dtype)


@_step.defjvp
def _step_jvp(primals, tangents):
    x, slope = primals
    return _step(x, slope), slope * tangents[0]

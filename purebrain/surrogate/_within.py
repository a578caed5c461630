"""The reach of a normal density."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def within(z: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """z, but no further from 0 than 40: there exp(-z^2 / 2) is 0 in every precision, and further
    away z^2 would be infinite, the derivative of the exponential 0 times infinity."""
    return jnp.clip(z, -40, 40)

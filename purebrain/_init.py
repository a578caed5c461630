"""Initial values."""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ._core import param


class AbstractDistribution(eqx.Module):
    """A distribution from which initial values are drawn."""

    @abc.abstractmethod
    def __call__(self, key, n: int, dtype) -> Array:
        """`n` independent values."""


class Normal(AbstractDistribution):
    """Gaussian with `mean` and standard deviation `sd`."""

    mean: Float[Array, ""] = param()
    sd: Float[Array, ""] = param()

    def __call__(self, key, n, dtype):
        return self.mean.astype(dtype) + self.sd.astype(dtype) * jr.normal(key, (n,), dtype)


class Uniform(AbstractDistribution):
    """Uniform on [low, high)."""

    low: Float[Array, ""] = param()
    high: Float[Array, ""] = param()

    def __call__(self, key, n, dtype):
        return jr.uniform(key, (n,), dtype, self.low.astype(dtype), self.high.astype(dtype))


Initial = AbstractDistribution | Array | np.ndarray | float | int


def initial(name: str, value: Initial, n: int, dtype, key) -> Array:
    """Initial values of `n` neurons from a number, an array or a distribution."""
    if isinstance(value, AbstractDistribution):
        if key is None:
            raise ValueError(
                f"key: missing, but {name} is drawn from {type(value).__name__}; write "
                f"init(dt=..., key=jax.random.key(0))."
            )
        return value(key, n, dtype)
    value = jnp.asarray(value, dtype)
    if value.shape not in ((), (n,)):
        raise ValueError(f"{name}: shape {value.shape}; it must be one number or ({n},).")
    return jnp.broadcast_to(value, (n,))

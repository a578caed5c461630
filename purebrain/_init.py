"""Initial values."""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ._check import concrete, one_key, parameters
from ._core import as_param


class AbstractDistribution(eqx.Module):
    """A distribution from which initial values are drawn."""

    @abc.abstractmethod
    def __call__(self, key, n: int, dtype) -> Array:
        """`n` independent values."""


class Normal(AbstractDistribution):
    """Gaussian with `mean` and standard deviation `sd`."""

    mean: Float[Array, ""] = eqx.field(converter=as_param)
    sd: Float[Array, ""] = eqx.field(converter=as_param)

    def __check_init__(self):
        parameters(self)
        sd = concrete(self.sd)
        if sd is not None and sd < 0:
            raise ValueError(f"sd: {sd}; it must not be negative.")

    def __call__(self, key, n, dtype):
        return self.mean.astype(dtype) + self.sd.astype(dtype) * jr.normal(key, (n,), dtype)


class Uniform(AbstractDistribution):
    """Uniform on [low, high)."""

    low: Float[Array, ""] = eqx.field(converter=as_param)
    high: Float[Array, ""] = eqx.field(converter=as_param)

    def __check_init__(self):
        parameters(self)
        low, high = concrete(self.low), concrete(self.high)
        if low is not None and high is not None and low > high:
            raise ValueError(f"low: {low} is above high = {high}; swap or correct them.")

    def __call__(self, key, n, dtype):
        return jr.uniform(key, (n,), dtype, self.low.astype(dtype), self.high.astype(dtype))


Initial = AbstractDistribution | Array | np.ndarray | float | int


def as_initial(value: Initial) -> AbstractDistribution | Array:
    """An initial value as an array leaf (so that it can be swept), or a distribution."""
    return value if isinstance(value, AbstractDistribution) else as_param(value)


def as_initial_or_none(value: Initial | None) -> AbstractDistribution | Array | None:
    """As `as_initial`, and None for None."""
    return None if value is None else as_initial(value)


def initial(name: str, value: Initial, n: int, dtype, key) -> Array:
    """Initial values of `n` neurons from a number, an array or a distribution."""
    if isinstance(value, AbstractDistribution):
        if key is None:
            raise ValueError(
                f"key: missing, but {name} is drawn from {type(value).__name__}; write "
                f"init(dt=..., key=jax.random.key(0))."
            )
        return value(one_key(key), n, dtype)
    value = jnp.asarray(value, dtype)
    if value.shape not in ((), (n,)):
        raise ValueError(f"{name}: shape {value.shape}; it must be one number or ({n},).")
    host = concrete(value)
    if host is not None and not np.isfinite(host).all():
        raise ValueError(f"{name}: {host}; it must be finite.")
    return jnp.broadcast_to(value, (n,))

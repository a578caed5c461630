"""Parameters within bounds, for optimisers that know none."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from ._check import concrete, parameters
from ._core import as_param


class AbstractBijector(eqx.Module):
    """An invertible map from all real numbers onto the values that a parameter may have."""

    @abc.abstractmethod
    def forward(self, x: Array) -> Array:
        """The parameter at the free variable `x`."""

    @abc.abstractmethod
    def inverse(self, y: Array) -> Array:
        """The free variable of the parameter `y`."""

    @abc.abstractmethod
    def inside(self, y: Array) -> Array:
        """Where `y` is a value that `forward` has."""


class Bounded(AbstractBijector):
    """Between two bounds: y = low + (high - low) / (1 + e^-x).

    Rounding makes it a bound, with derivative 0, where x is above 17 in float32 (37 in float64).

    **Arguments:** `low`, `high`: numbers, or arrays that broadcast with the parameter.

    **Raises:** `ValueError` where low >= high.

    Carpenter et al. (2017), J. Stat. Softw. 76 (the transform of Stan).
    """

    low: Float[Array, "..."] = eqx.field(converter=as_param)
    high: Float[Array, "..."] = eqx.field(converter=as_param)

    def __check_init__(self):
        parameters(self)
        low, high = concrete(self.low), concrete(self.high)
        if low is not None and high is not None and not (low < high).all():
            raise ValueError(f"low: {low} is not below high = {high}; swap or correct them.")

    def forward(self, x):
        low, high = self._of(x)
        return low + (high - low) * jax.nn.sigmoid(x)

    def inverse(self, y):
        low, high = self._of(y)
        return jnp.log(y - low) - jnp.log(high - y)

    def inside(self, y):
        low, high = self._of(y)
        return (y > low) & (y < high)

    def _of(self, a):
        return self.low.astype(a.dtype), self.high.astype(a.dtype)


class Positive(AbstractBijector):
    """Above 0: y = e^x, so that a step in x is a relative change of y."""

    def forward(self, x):
        return jnp.exp(x)

    def inverse(self, y):
        return jnp.log(y)

    def inside(self, y):
        return (y > 0) & (y < jnp.inf)


def constrain(free: PyTree, bijectors: PyTree[AbstractBijector | None]) -> PyTree:
    """The parameters at free variables: what a loss does first.

    **Arguments:**

    - `free`: a pytree of floating arrays, what the optimiser changes.
    - `bijectors`: of the same structure, with a bijector for each leaf (or for a whole subtree), or
      None where it stays as it is. Of a model: `where_spec(model, where, Positive(), None)`.

    **Returns:** a pytree of the same structure, shapes and dtypes.

        >>> import jax, jax.numpy as jnp, purebrain as pb
        >>> within = {"g": pb.Positive(), "e": pb.Bounded(-80.0, -40.0), "i": None}
        >>> free = pb.unconstrain({"g": 2.0, "e": -60.0, "i": 1.0}, within)
        >>> grads = jax.grad(lambda free: pb.constrain(free, within)["e"])(free)
        >>> {name: float(d) for name, d in grads.items()}
        {'e': 10.0, 'g': 0.0, 'i': 0.0}
    """
    return jtu.tree_map(
        lambda b, part: part if b is None else jtu.tree_map(b.forward, part),
        bijectors,
        free,
        is_leaf=_is_bijector,
    )


def unconstrain(values: PyTree, bijectors: PyTree[AbstractBijector | None]) -> PyTree:
    """The free variables of parameters, the inverse of `constrain`: where an optimiser starts.

    **Raises:** `ValueError` for a value that is not inside its bounds, with its name; where it is
    traced, an error when the compiled code runs.
    """

    def one(path, b, part):
        return (
            part if b is None else jtu.tree_map_with_path(lambda p, y: leaf(path + p, b, y), part)
        )

    def leaf(path, b, y):
        y, name = as_param(y), jtu.keystr(path) or "values"
        inside = b.inside(y)
        if concrete(inside) is None:
            y = eqx.error_if(y, ~inside, f"{name}: not inside its bounds, {type(b).__name__}.")
        elif not inside.all():
            wrong = jnp.broadcast_to(y, inside.shape)[~inside][0]
            raise ValueError(f"{name}: {wrong} is not inside {_show(b)}.")
        return b.inverse(y)

    return jtu.tree_map_with_path(one, bijectors, values, is_leaf=_is_bijector)


def _is_bijector(x) -> bool:
    return x is None or isinstance(x, AbstractBijector)


def _show(b: AbstractBijector) -> str:
    return f"({b.low}, {b.high})" if isinstance(b, Bounded) else type(b).__name__ + "()"

"""Root finding between two bounds, to the last digit."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, PyTree


class _State(eqx.Module):
    lower: Float[Array, ""]
    upper: Float[Array, ""]
    f_lower: Float[Array, ""]
    f_upper: Float[Array, ""]
    sign: Float[Array, ""]  # of the function at `upper`; the values here are multiplied by it
    side: Int[Array, ""]
    i: Int[Array, ""]
    f: Float[Array, ""]


class Bracket(optx.AbstractRootFinder):
    """The Illinois method (false position that halves the weight of a bound that stays), with
    every third step a bisection: a bracket at all times, superlinear where the function is smooth.

    Goes on until the bracket is that narrow, whatever the size of the function there: a tolerance
    on the value cannot be met where the time has too few digits. `optimistix.root_find` gives it
    `lower` and `upper` by `options`; the function must change sign between them, or be 0 at one.

    **Arguments:** `rtol`, `atol`: of the time; never less than 4 units in its last place.

    Dowell and Jarratt (1971), BIT 11.
    """

    rtol: float = 0.0
    atol: float = 0.0
    norm: ClassVar[Callable[[PyTree], Array]] = jnp.abs

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> _State:
        lower, upper = (jnp.asarray(options[k], f_struct.dtype) for k in ("lower", "upper"))
        f_lower, f_upper = fn(lower, args)[0], fn(upper, args)[0]
        sign = jnp.where(f_lower <= f_upper, 1.0, -1.0).astype(f_upper.dtype)
        zero = jnp.int32(0)
        return _State(lower, upper, sign * f_lower, sign * f_upper, sign, zero, zero, f_upper)

    def step(self, fn, y, args, options, state, tags):
        s = state
        false_position = s.upper - s.f_upper * (s.upper - s.lower) / (s.f_upper - s.f_lower)
        middle = s.lower + 0.5 * (s.upper - s.lower)
        inside = (false_position > s.lower) & (false_position < s.upper)
        y = jnp.where((s.i % 3 < 2) & inside, false_position, middle)
        y = jnp.where(s.f_upper == 0, s.upper, y)
        f, aux = fn(y, args)
        f = s.sign * f
        low = f <= 0
        half = jnp.where(jnp.where(low, s.side < 0, s.side > 0), 0.5, 1.0).astype(f.dtype)
        new = _State(
            lower=jnp.where(low, y, s.lower),
            upper=jnp.where(low, s.upper, y),
            f_lower=jnp.where(low, f, half * s.f_lower),
            f_upper=jnp.where(low, half * s.f_upper, f),
            sign=s.sign,
            side=jnp.where(low, jnp.int32(-1), jnp.int32(1)),
            i=s.i + 1,
            f=f,
        )
        return y, new, aux

    def terminate(self, fn, y, args, options, state, tags) -> tuple[Bool[Array, ""], Any]:
        rtol = max(self.rtol, 4 * float(jnp.finfo(y.dtype).eps))
        width = self.atol + rtol * jnp.abs(state.upper)
        found = (state.upper - state.lower <= width) | (state.f == 0)
        return found & (state.i > 0), optx.RESULTS.successful

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        return y, aux, {}

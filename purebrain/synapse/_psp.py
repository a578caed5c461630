"""Post-synaptic potentials in closed form: a leaky membrane under one synaptic current.

For tau_m dv/dt = -v + I(t) from v = 0, I of weight 1 in the units of v (mV for `LIF`), and one
spike at t = 0. All are 0 before it, exact where time constants are near or equal, and have
derivatives in all arguments, which broadcast (times in ms).

Rotter and Diesmann (1999), Biol. Cybern. 81.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from .._core import as_param
from ..solvers import cascade, x_over_expm1

Values = Float[Array, "..."]


def delta_psp(t: ArrayLike, tau_m: ArrayLike) -> Values:
    """exp(-t / tau_m): v jumps by 1."""
    return _from_spike(t, lambda t: jnp.exp(-t / as_param(tau_m)))


def exp_psp(t: ArrayLike, tau_m: ArrayLike, tau: ArrayLike) -> Values:
    """Under I = exp(-t / tau): tau / (tau_m - tau) (exp(-t / tau_m) - exp(-t / tau)).

    >>> [round(float(exp_psp(20.0, 20.0, tau)), 6) for tau in (19.0, 20.0)]  # e^-1 at equality
    [0.358366, 0.367879]
    """
    tau_m, tau = as_param(tau_m), as_param(tau)
    return _from_spike(t, lambda t: cascade(t, 1 / tau_m, 1 / tau) / tau_m)


def alpha_psp(t: ArrayLike, tau_m: ArrayLike, tau: ArrayLike) -> Values:
    """Under I = t / tau exp(1 - t / tau), whose peak is 1 at tau: of `Alpha`."""
    return biexp_psp(t, tau_m, tau, tau)


def biexp_psp(t: ArrayLike, tau_m: ArrayLike, tau_rise: ArrayLike, tau_decay: ArrayLike) -> Values:
    """Under the difference of two exponentials whose peak is 1: of `BiExponential`."""
    tau_m, rise, decay = map(as_param, (tau_m, tau_rise, tau_decay))
    scale = gain(rise, decay) / tau_m
    return _from_spike(t, lambda t: scale * cascade(t, 1 / tau_m, 1 / rise, 1 / decay))


def exp_psp_peak(tau_m: ArrayLike, tau: ArrayLike) -> tuple[Values, Values]:
    """The time of `exp_psp`'s peak, log(tau_m / tau) / (1 / tau - 1 / tau_m), and its height.

    A current of weight 1 / height has a PSP of height 1.
    """
    tau_m, tau = as_param(tau_m), as_param(tau)
    time = peak_time(tau, tau_m)
    return time, jnp.exp(-time / tau)  # dv/dt = 0 where v = I


def alpha_psp_peak(tau_m: ArrayLike, tau: ArrayLike) -> tuple[Values, Values]:
    """The time of `alpha_psp`'s peak, and its height."""
    return biexp_psp_peak(tau_m, tau, tau)


def biexp_psp_peak(
    tau_m: ArrayLike, tau_rise: ArrayLike, tau_decay: ArrayLike
) -> tuple[Values, Values]:
    """The time of `biexp_psp`'s peak, and its height.

    The time has no closed form: it is bisected, and polished by Newton steps, through which it has
    derivatives of first and second order (the implicit function theorem).
    """
    m, rise, decay = jnp.broadcast_arrays(*(1 / as_param(t) for t in (tau_m, tau_rise, tau_decay)))

    def slope(t):
        return cascade(t, rise, decay) - m * cascade(t, m, rise, decay)

    def bisect(_, bracket):
        lo, hi = bracket
        middle = (lo + hi) / 2
        rising = slope(middle) > 0
        return jnp.where(rising, middle, lo), jnp.where(rising, hi, middle)

    # A row of decays is log-concave: it peaks once, before its mean, the sum of its times.
    ends = jnp.zeros_like(m), 1 / m + 1 / rise + 1 / decay
    lo, hi = lax.fori_loop(0, 40, bisect, lax.stop_gradient(ends))
    time = lax.stop_gradient(lo + hi) / 2
    for _ in range(2):
        time = time - jnp.divide(*jax.jvp(slope, (time,), (jnp.ones_like(time),)))
    return time, biexp_psp(time, tau_m, tau_rise, tau_decay)


def peak_time(tau_1: Values, tau_2: Values) -> Values:
    """When exp(-t / tau_1) - exp(-t / tau_2), or t exp(-t / tau_1), is largest."""
    return tau_2 * x_over_expm1(jnp.log(tau_2 / tau_1))


def gain(tau_rise: Values, tau_decay: Values) -> Values:
    """What a cascade of the two is to be multiplied with, for a peak of 1 (1/ms)."""
    return jnp.exp(peak_time(tau_rise, tau_decay) / tau_rise) / tau_decay


def _from_spike(t, psp):
    t = as_param(t)
    return jnp.where(t < 0, 0, psp(jnp.where(t < 0, 0, t)))

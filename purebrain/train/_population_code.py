"""Population codes: tuning curves."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._check import positive


def von_mises_tuning(
    angle: ArrayLike, n: int, *, kappa: float, peak: float, base: float = 0.0
) -> Float[Array, "... n"]:
    """Rates of `n` neurons tuned to directions all around the circle:

        rate_i = base + peak exp(kappa (cos(angle - 2 pi i / n) - 1))

    **Arguments:** `angle`: radians, of any shape; `n`: neurons; `kappa`: the sharpness, above 0;
    `peak`, `base`: Hz.

    **Returns:** Hz, (*shape of angle, n); `poisson_code` makes spikes of them.

    Georgopoulos, Schwartz, Kettner (1986), Science 233; Swindale (1998), Biol. Cybern. 78.

        >>> [round(float(r), 1) for r in von_mises_tuning(0.0, 4, kappa=2.0, peak=40.0, base=1.0)]
        [41.0, 6.4, 1.7, 6.4]
    """
    positive("kappa", kappa, "")
    angle = jnp.asarray(angle, float)[..., None]
    preferred = (jnp.arange(n).astype(angle.dtype) * (2 * jnp.pi / n)).reshape(
        *[1] * (angle.ndim - 1), n
    )
    return base + peak * jnp.exp(kappa * (jnp.cos(angle - preferred) - 1))


def gaussian_tuning(
    x: ArrayLike, n: int, *, low: float, high: float, width: float, peak: float, base: float = 0.0
) -> Float[Array, "... n"]:
    """Rates of `n` neurons tuned to values evenly spaced from `low` to `high`:

        rate_i = base + peak exp(-(x - c_i)^2 / (2 width^2))

    **Arguments:** `x`: of any shape; `n`: neurons, at least 2; `low`, `high`, `width`: in the unit
    of x; `peak`, `base`: Hz.

    **Returns:** Hz, (*shape of x, n).

    Bohte, Kok, La Poutré (2002), Neurocomputing 48.
    """
    positive("width", width, "")
    if n < 2 or not low < high:
        raise ValueError(f"n: {n}, low: {low}, high: {high}; n >= 2 and low < high are needed.")
    x = jnp.asarray(x, float)[..., None]
    centres = jnp.linspace(low, high, n, dtype=x.dtype).reshape(*[1] * (x.ndim - 1), n)
    return base + peak * jnp.exp(-((x - centres) ** 2) / (2 * width**2))

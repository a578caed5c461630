"""The latency code."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._check import concrete


def latency_code(x: ArrayLike, *, tau: float, threshold: float) -> Float[Array, "..."]:
    """When a leaky integrator that gets the constant current x first reaches its threshold:

        t = tau log(x / (x - threshold)),   infinite (no spike) where x <= threshold

    Strong inputs spike first and weak ones not at all.

    **Arguments:** `x`: intensities >= 0, of any shape; `tau`: in the unit wanted of the times, ms
    or steps; `threshold`: above 0, in the unit of x.

    **Returns:** times, of the shape of x. `events_from_times` makes events of them.

    **Raises:** `ValueError` for NaN or negative intensities, and parameters not above 0.

    Cramer, Stradmann, Schemmel, Zenke (2022), IEEE Trans. Neural Netw. Learn. Syst. 33; Gerstner et
    al. (2014), Neuronal Dynamics, section 1.3.

        >>> [round(float(t), 2) for t in latency_code([1.0, 0.25, 0.1], tau=20.0, threshold=0.2)]
        [4.46, 32.19, inf]
    """
    if not (tau > 0 and threshold > 0):
        raise ValueError(f"tau: {tau}, threshold: {threshold}; both must be above 0.")
    intensities("x", x)
    x = jnp.asarray(x, float)
    above = x > threshold
    ratio = threshold / jnp.where(above, x, 2 * threshold)
    return jnp.where(above, -tau * jnp.log1p(-ratio), jnp.inf)


def intensities(name: str, x, most: float = float("inf")) -> None:
    """Refuses values that are not in [0, most] (traced values pass)."""
    host = concrete(x)
    if host is not None and not ((host >= 0) & (host <= most)).all():
        bad = host[~((host >= 0) & (host <= most))].reshape(-1)[0]
        top = "" if most == float("inf") else f" and at most {most}"
        raise ValueError(f"{name}: {bad}; values must be 0 or more{top}: divide by the maximum.")

"""The Poisson rate code."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Bool, PRNGKeyArray

from .._check import one_key
from ._latency_code import intensities


def poisson_code(
    rate: ArrayLike, *, steps: int, dt: float, key: PRNGKeyArray
) -> Bool[Array, "steps ..."]:
    """Independent Poisson spike trains, seen through steps of dt:

        P(spike in a step) = 1 - exp(-rate dt)

    the probability of at least one event. A step holds one spike at most; where two events in a
    step matter use `PoissonSource`.

    **Arguments:** `rate`: Hz, of any shape, such as 100 times an image; `steps`: how many; `dt`:
    ms; `key`: a random key.

    **Returns:** booleans, (steps, *shape of rate); `.astype(float)` for a layer.

    **Raises:** `ValueError` for NaN or negative rates.

    Dayan and Abbott (2001), Theoretical Neuroscience, section 1.4.

        >>> import jax.random as jr
        >>> spikes = poisson_code([0.0, 1e6], steps=5, dt=1.0, key=jr.key(0))
        >>> spikes.sum(0).tolist()
        [0, 5]
    """
    intensities("rate", rate)
    if one_key(key) is None:
        raise TypeError("key: None; the code is random: key=jax.random.key(0).")
    rate = jnp.asarray(rate, float)
    p = -jnp.expm1(-rate * (dt * 1e-3))
    uniform = jr.uniform(key, (steps, *rate.shape), rate.dtype)
    return uniform < jnp.broadcast_to(p, uniform.shape)

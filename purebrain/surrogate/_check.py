"""A check of surrogates' parameters, on the host."""

import numpy as np
from jaxtyping import Array

from .._check import concrete


def above(low: int, **parameters: Array) -> None:
    """Refuses a parameter that is not finite and above `low` (traced values pass)."""
    for name, value in parameters.items():
        host = concrete(value)
        if host is not None and not (np.isfinite(host) & (host > low)).all():
            raise ValueError(
                f"{name}: {host}; it must be finite and above {low}, such as {name}={low + 1}."
            )

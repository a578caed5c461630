"""Errors at run time that say where: the text is written when the error happens."""

from collections.abc import Callable

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class _Told:
    """What equinox looks the message up in."""

    def __init__(self, describe: Callable[..., str]):
        self.describe, self.texts = describe, []

    def tell(self, bad, *values):
        bad = np.asarray(bad)
        first = np.unravel_index(np.argmax(bad), bad.shape)
        self.texts.append(self.describe(*(np.broadcast_to(v, bad.shape)[first] for v in values)))
        return np.full(bad.shape, len(self.texts) - 1, np.int32)

    def __getitem__(self, index: int) -> str:
        return self.texts[index]


def fail_if(x, bad, describe: Callable[..., str], *values):
    """`x`, and an error once the compiled code finds `bad`.

    As `equinox.error_if` (whose switch EQX_ON_ERROR it obeys), but its text is `describe(*values)`,
    the scalar `values` those of the first bad member of a batch.
    """
    told = _Told(describe)
    values = lax.stop_gradient(values)
    shape = jax.ShapeDtypeStruct((), jnp.int32)
    index = lax.cond(
        eqxi.unvmap_any(bad),
        lambda: jax.pure_callback(told.tell, shape, bad, *values, vmap_method="broadcast_all"),
        lambda: jnp.int32(0),
    )
    return eqx.branched_error_if(x, bad, index, told)  # pyright: ignore[reportArgumentType]

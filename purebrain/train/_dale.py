"""Weights that obey Dale's law."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._bijector import AbstractBijector
from .._check import concrete
from .._core import as_param


class Dale(AbstractBijector):
    """Weights of one sign a source, and none where there is no synapse: a bijector for `constrain`,

        w_ij = sign_i mask_ij softplus(x_ij)

    The free variables of absent synapses stay as they are: their derivative is 0, and so is the
    weight.

    **Arguments:** `sign`: 1.0 (excitatory) or -1.0 (inhibitory), (n_pre,); `mask`: which synapses
    exist, (n_pre, n_post), by default all.

    **Raises:** `ValueError` for other signs or a mask of another number of rows.

    Song, Yang, Wang (2016), PLoS Comput. Biol. 12; Eccles, Fatt, Koketsu (1954), J. Physiol. 126.

        >>> import jax.numpy as jnp, purebrain as pb
        >>> dale = Dale(jnp.array([1.0, -1.0]), ~jnp.eye(2, dtype=bool))
        >>> free = pb.unconstrain(jnp.array([[0.0, 0.5], [-2.0, 0.0]]), dale)
        >>> w = pb.constrain(free - 1.0, dale)
        >>> bool(0 < w[0, 1] < 0.5), bool(-2 < w[1, 0] < 0), float(w[0, 0])
        (True, True, 0.0)
    """

    sign: Float[Array, " n_pre"] = eqx.field(converter=as_param)
    mask: Bool[Array, "n_pre n_post"] | None = None

    def __check_init__(self):
        sign = concrete(self.sign)
        if self.sign.ndim != 1 or (sign is not None and not (abs(sign) == 1).all()):
            raise ValueError(f"sign: {self.sign}; it must be 1.0 or -1.0, one a source.")
        if self.mask is not None and self.mask.shape[:1] != self.sign.shape:
            raise ValueError(
                f"mask: shape {self.mask.shape}; it must have {self.sign.size} rows, one a source."
            )

    def _signs(self, x):
        sign = jnp.broadcast_to(jax.lax.stop_gradient(self.sign)[:, None], x.shape).astype(x.dtype)
        return sign if self.mask is None else sign * self.mask.astype(x.dtype)

    def forward(self, x):
        return self._signs(x) * jax.nn.softplus(x)

    def inverse(self, y):
        # The inverse of softplus, for large values too; where there is no synapse, that of 1.
        y = jnp.where(self._signs(y) == 0, 1, jnp.abs(y)).astype(y.dtype)
        return y + jnp.log(-jnp.expm1(-y))

    def inside(self, y):
        sign = self._signs(jnp.asarray(y))
        return (sign * y > 0) | ((sign == 0) & (y == 0))

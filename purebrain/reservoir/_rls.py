"""Recursive least squares."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._check import concrete, parameters, positive
from .._core import as_param


class RLSState(eqx.Module):
    """`weight`: (features, targets); `inverse`: of the samples' x^T x plus the penalty."""

    weight: Float[Array, "features targets"]
    inverse: Float[Array, "features features"]


class RLS(eqx.Module):
    """Recursive least squares: ridge regression one sample at a time.

    With P the inverse of the penalty and the sum of x x^T, a sample (x, y) is a change of rank one:

        k = P x / (forgetting + x^T P x),   w += k (y - x w),   P = (P - k x^T P) / forgetting

    After any number of samples w is exactly ridge regression's (with `forgetting` < 1 of weighted
    samples, and a penalty that fades alike). As the learning rule of a readout that is fed back it
    is FORCE: see `Force`.

    **Arguments:** `penalty`: above 0 (1 / penalty is FORCE's learning rate); `forgetting`: in
    (0, 1], the weight of a sample after the next one.

    **Raises:** `ValueError` for numbers out of range.

        >>> import jax.numpy as jnp
        >>> rls = RLS(1e-6)
        >>> state = rls.init(2, 1)
        >>> for t in range(3):
        ...     state, _ = rls.step(state, jnp.array([1.0, t]), jnp.array([1.0 + 2.0 * t]))
        >>> [round(float(w), 3) for w in state.weight[:, 0]]
        [1.0, 2.0]

    Haykin (2002), Adaptive Filter Theory, chapter 9; Sussillo and Abbott (2009), Neuron 63.
    """

    penalty: Float[Array, ""] = eqx.field(converter=as_param)
    forgetting: Float[Array, ""] = eqx.field(converter=as_param, default=1.0)

    def __check_init__(self):
        parameters(self)
        positive("penalty", self.penalty, "")
        host = concrete(self.forgetting)
        if host is not None and not 0 < host <= 1:
            raise ValueError(f"forgetting: {host}; it must be above 0 and at most 1.")

    def init(self, features: int, targets: int, dtype=float) -> RLSState:
        """Before the first sample."""
        inverse = jnp.eye(features, dtype=dtype) / self.penalty.astype(dtype)
        return RLSState(jnp.zeros((features, targets), dtype), inverse)

    def step(self, state: RLSState, x: Array, y: Array) -> tuple[RLSState, Array]:
        """The state after the sample `x` (features,), `y` (targets,), and what was predicted for it
        before."""
        forgetting = self.forgetting.astype(x.dtype)
        guess, px = x @ state.weight, state.inverse @ x
        k = px / (forgetting + x @ px)
        weight = state.weight + jnp.outer(k, y - guess)
        return RLSState(weight, (state.inverse - jnp.outer(k, px)) / forgetting), guess

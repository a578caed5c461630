"""Ridge regression: all samples at once, or summed over batches of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float

from .._check import concrete
from .._core import as_param


def ridge(
    x: Float[Array, "samples features"],
    y: Float[Array, "rows targets"],
    penalty: ArrayLike,
    *,
    solver: lx.AbstractLinearSolver | None = None,
) -> Float[Array, "features targets"]:
    """The weights of the least |x w - y|^2 + penalty |w|^2, in one go.

    It is the least-squares solution of x above sqrt(penalty) I, whose condition number is the root
    of that of the normal equations in `Ridge`.

    **Arguments:** `x`: a row of features for each sample; `y`: of targets; `penalty`: at least 0;
    `solver`: a lineax solver for tall matrices: `QR()` by default, `SVD()` where features depend
    on each other and there is no penalty.

    **Returns:** w, (features, targets).

    **Raises:** `ValueError` for a negative `penalty`, or other numbers of samples.

        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
        >>> [round(float(w), 4) for w in ridge(x, jnp.array([[1.0], [3.0], [5.0]]), 0.0)[:, 0]]
        [1.0, 2.0]

    Hoerl and Kennard (1970), Technometrics 12; Tikhonov (1963).
    """
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"y: {y.shape[0]} samples, but x has {x.shape[0]}.")
    features = x.shape[1]
    root = jnp.sqrt(_penalty(penalty)).astype(x.dtype)
    matrix = lx.MatrixLinearOperator(jnp.concatenate([x, root * jnp.eye(features, dtype=x.dtype)]))
    right = jnp.concatenate([y, jnp.zeros((features, y.shape[1]), y.dtype)])
    return _solve(matrix, right, lx.QR() if solver is None else solver)


class RidgeState(eqx.Module):
    """Sums over the samples so far: `gram`: x^T x, (features, features); `moment`: x^T y."""

    gram: Float[Array, "features features"]
    moment: Float[Array, "features targets"]


class Ridge(eqx.Module):
    """Ridge regression over batches: what is kept does not grow with the samples.

    **Arguments:** `penalty`: at least 0.

        >>> import jax.numpy as jnp
        >>> fit = Ridge(1e-6)
        >>> state = fit.init(2, 1)
        >>> for t in range(3):
        ...     state = fit.add(state, jnp.array([[1.0, t]]), jnp.array([[1.0 + 2.0 * t]]))
        >>> [round(float(w), 3) for w in fit.solve(state)[:, 0]]
        [1.0, 2.0]
    """

    penalty: Float[Array, ""] = eqx.field(converter=as_param)

    def __check_init__(self):
        _penalty(self.penalty)

    def init(self, features: int, targets: int, dtype=float) -> RidgeState:
        """No samples."""
        return RidgeState(
            jnp.zeros((features, features), dtype), jnp.zeros((features, targets), dtype)
        )

    def add(self, state: RidgeState, x: Array, y: Array) -> RidgeState:
        """With more samples: `x` (samples, features), `y` (samples, targets)."""
        return RidgeState(state.gram + x.T @ x, state.moment + x.T @ y)

    def solve(self, state: RidgeState) -> Float[Array, "features targets"]:
        """The weights, by Cholesky factors of the normal equations."""
        shift = self.penalty.astype(state.gram.dtype) * jnp.eye(
            len(state.gram), dtype=state.gram.dtype
        )
        matrix = lx.MatrixLinearOperator(state.gram + shift, lx.positive_semidefinite_tag)
        return _solve(matrix, state.moment, lx.Cholesky())


def _solve(matrix, right, solver):
    """One factorisation for all columns; derivatives are the matrix's, not the factors'."""
    factors = solver.init(jax.tree.map(jax.lax.stop_gradient, matrix), options={})
    one = lambda b: lx.linear_solve(matrix, b, solver, state=factors).value  # noqa: E731
    return jax.vmap(one, in_axes=1, out_axes=1)(right)


def _penalty(penalty: ArrayLike) -> Array:
    host = concrete(penalty)
    if host is not None and not (host.ndim == 0 and 0 <= host < float("inf")):
        raise ValueError(f"penalty: {penalty}; it must be one finite number, at least 0.")
    return as_param(penalty)

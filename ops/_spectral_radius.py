"""The spectral radius of an operator, and its derivative."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._check import check_key, check_whole
from ._family import accumulator
from ._operator import AbstractOperator, check_operator


def spectral_radius(op: AbstractOperator, *, key, n_steps: int = 200) -> Float[Array, ""]:
    """The largest absolute eigenvalue of W, by power iteration.

    rho = lim |W^k x|^(1/k) (Gelfand), taken over the second half of `n_steps` products; where the
    last vectors lie in the plane of one eigenvalue, or of a complex pair, it is theirs, without the
    error of the order of 1 / n_steps that is left of the limit.

    The derivative is that of a simple eigenvalue or pair, d rho = rho Re(v dW u / v W u), of its
    vectors v W = lambda v and W u = lambda u, which converge as |lambda_2 / lambda_1|^n_steps. It
    is NaN where a residual is still above 1 / n_steps (take more steps), and where rho is 0.

    **Arguments:** `op`: an operator of n_pre = n_post; `key`: for the start vector; `n_steps`: the
    number of products.

    **Returns:** one number, at least 0; NaN for weights that are not finite, or products that
    overflow.

    **Raises:** `ValueError` for an operator that is not square, or `n_steps` below 2 or not whole;
    `TypeError` for another `op` or `key`.

        >>> import jax
        >>> from purebrain.ops import OneToOne
        >>> f"{spectral_radius(OneToOne(jnp.array([0.5, -2.0]), 2), key=jax.random.key(0)):.3f}"
        '2.000'

    Saad (2011), Numerical Methods for Large Eigenvalue Problems, sections 3.2, 4.1 and 6.2.
    """
    check_operator("op", op)
    if op.n_pre != op.n_post:
        raise ValueError(f"op: shape {op.shape}; only a square operator has a spectral radius.")
    n_steps = check_whole("n_steps", n_steps, 2, 2**31 - 1)
    dtype = accumulator(op.dtype)
    x = jax.random.normal(check_key(key), (op.n_pre,), dtype)
    return _radius(op, x, n_steps)


@eqx.filter_custom_jvp
def _radius(op, x, n_steps):
    return _leading(op.mv, x, n_steps)[0]


@_radius.def_jvp
def _derivative(primals, tangents):
    op, x, n_steps = primals
    radius, value, v, good_v = _leading(op.mv, x, n_steps)
    _, _, u, good_u = _leading(op.mv_t, x, n_steps, like=value)

    def change(part):
        return eqx.filter_jvp(lambda op: op.mv(part).astype(x.dtype), (op,), (tangents[0],))[1]

    changes = lax.complex(change(v.real), change(v.imag))
    image = lax.complex(op.mv(v.real).astype(x.dtype), op.mv(v.imag).astype(x.dtype))
    known = jnp.where(good_v & good_u & (radius > 0), radius, jnp.nan)
    return radius, known * jnp.real((changes @ u) / (image @ u))


def _leading(product, x, n_steps, like=None):
    """(rho, the leading eigenvalue or that nearest to `like`, in units of rho, its vector, and
    whether these have converged)."""

    def step(x, _):
        y = product(x).astype(x.dtype)
        size = jnp.max(jnp.abs(y), initial=0)  # a norm that cannot overflow
        return y / jnp.where(size == 0, 1, size), size

    x, sizes = lax.scan(step, x, length=n_steps)
    sizes = sizes[n_steps // 2 :]
    rho = jnp.where(jnp.any(sizes == 0), 0, jnp.exp(jnp.mean(jnp.log(sizes))))
    unit = jnp.where(rho == 0, 1, rho)
    values, vectors, errors = _plane(lambda x: product(x).astype(x.dtype) / unit, x)
    good = errors < 1 / n_steps
    score = jnp.where(good, jnp.abs(values), -errors) if like is None else -jnp.abs(values - like)
    n = jnp.argmax(score)
    rho = rho * jnp.where(good[n], jnp.abs(values[n]), 1)
    return rho, values[n], vectors[n], good[n]


def _plane(product, x):
    """The eigenvalues, vectors and residual norms of `product` in the plane of x and its image:
    two steps of Arnoldi's method."""
    size = jnp.linalg.norm(x)
    x = jnp.where(size == 0, jnp.ones_like(x), x / jnp.where(size == 0, 1, size))
    y = product(x)
    a = x @ y
    rest = y - a * x
    rest = rest - (x @ rest) * x  # what rounding left of x
    left = jnp.linalg.norm(lax.stop_gradient(rest))
    # On the line of one vector, the rest is rounding.
    one = left <= 10 * jnp.finfo(x.dtype).eps * jnp.linalg.norm(lax.stop_gradient(y))
    rest = jnp.where(one, jnp.ones_like(rest), rest)  # whose norm has a derivative
    b = jnp.linalg.norm(rest)
    across = rest / b
    z = product(across)
    c, d = x @ z, across @ z
    outside = jnp.linalg.norm(z - c * x - d * across)
    a, b, c, d, x, across = (_complex(r) for r in (a, b, c, d, x, across))
    root = jnp.sqrt(((a - d) / 2) ** 2 + b * c)
    values = (a + d) / 2 + jnp.stack([root, -root])
    weights = jnp.stack([values - d, jnp.stack([b, b])], 1)
    weights = weights / _complex(jnp.linalg.norm(weights, axis=1, keepdims=True))
    errors = jnp.where(one, left, outside * jnp.abs(weights[:, 1]))
    vectors = jnp.where(one, x, weights @ jnp.stack([x, across]))
    return jnp.where(one, a, values), vectors, errors


def _complex(a):
    return lax.complex(a, jnp.zeros_like(a))

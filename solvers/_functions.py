"""Functions that are singular, or overflow, as they are usually written.

Near 0 a polynomial stands for the quotient. Each branch is given an argument of its own, harmless
where the other is taken, so that the derivatives of the one not taken stay finite.
"""

import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

RADIUS = 0.5  # the series inside, exp outside
PHI_1 = "purebrain.solvers.phi_1"  # names its values to `jax.checkpoint`, for they are dear
# B_2k / (2k)!
BERNOULLI = [
    *(1 / n for n in (12, -720, 30240, -1209600, 47900160)),
    *(-691 / 1307674368000, 1 / 74724249600, -3617 / 10670622842880000),
]


def phi_1(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(e^z - 1) / z, and 1 at 0: the weight of exponential Euler; `exprel` is the same function.

    **Arguments:** `z`: dimensionless, any shape.

    **Returns:** the function to within 3 units in the last place, with finite derivatives of first
    and second order wherever e^z is finite. Where e^z overflows (z > 709, in float32 z > 88) it is
    infinite and no derivative is finite; its logarithm is: `-log_x_over_expm1(z)`.

    Hochbruck and Ostermann (2010), Exponential integrators, Acta Numerica 19.
    """
    return _phi_1(z)


@jax.custom_jvp
def _phi_1(z):
    # Near 0 Pade's approximant of order (m, m), e^z = (even + z odd) / (even - z odd). One quotient
    # for both branches: XLA keeps a quotient that several use, where it would compute a polynomial
    # again for each.
    inside, near, _ = _apart(z)
    m = 6 if jnp.finfo(z.dtype).bits > 32 else 4
    c = [math.comb(m, k) / math.perm(2 * m, k) for k in range(m + 1)]
    odd, even = _polynomial(near * near, c[1::2]), _polynomial(near * near, c[::2])
    return jnp.where(inside, 2 * odd, jnp.exp(z) - 1) / jnp.where(inside, even - near * odd, z)


@_phi_1.defjvp
def _phi_1_jvp(primals, tangents):
    # From the value: half the operations of the branches' derivatives, and no exp. Near 0
    # phi_1' / phi_1 = 1/2 + sum of B_2k z^(2k - 1) / (2k)!, with Bernoulli's numbers.
    (z,), (z_dot,) = primals, tangents
    inside, near, far = _apart(z)
    phi = checkpoint_name(_phi_1(z), PHI_1)
    terms = BERNOULLI if jnp.finfo(z.dtype).bits > 32 else BERNOULLI[:4]
    inner = phi * (0.5 + near * _polynomial(near * near, terms))
    exp = jnp.where(far < -40, 0, 1 + far * phi)
    slope = jnp.where(inside, inner, (exp - phi) / far)
    return phi, slope * z_dot


exprel = phi_1  # as SciPy and Brian2 call it


def phi_2(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(e^z - 1 - z) / z^2, and 1/2 at 0: the weight of a slope in exponential integrators.

    **Arguments:** `z`: dimensionless, any shape.

    **Returns:** the function to within 6 units in the last place; the rest as of `phi_1`.

    Hochbruck and Ostermann (2010), Exponential integrators, Acta Numerica 19.
    """
    inside = jnp.abs(z) < 2 * RADIUS
    near, far = jnp.where(inside, z, 0), jnp.where(inside, 2, z)
    return jnp.where(inside, _series(near, 2), ((jnp.exp(far) - 1) / far - 1) / far)


def x_over_expm1(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x / (e^x - 1), and 1 at 0 (the Bernoulli function): the shape of a linoid gating rate.

    **Arguments:** `x`: dimensionless, any shape.

    **Returns:** the function, with finite derivatives of first and second order, for any finite
    `x`.

    Hodgkin and Huxley (1952), J. Physiol. 117: their rates alpha_m and alpha_n.
    """
    inside = jnp.abs(x) < RADIUS
    near, far = jnp.where(inside, x, 0), jnp.where(inside, 1, x)
    decay = jnp.exp(-jnp.abs(far))
    numerator = jnp.abs(far) * jnp.where(far < 0, 1, decay)
    numerator = jnp.where(inside, 1, numerator)
    return numerator / jnp.where(inside, _series(near), 1 - decay)


def log_x_over_expm1(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(x / (e^x - 1)), and 0 at 0: the logarithm of a linoid rate, and of 1 / `phi_1(x)`.

    **Arguments:** `x`: dimensionless, any shape.

    **Returns:** the function, with finite derivatives of first and second order, for any finite
    `x`, also where x / (e^x - 1) is 0 to the precision of the type.
    """
    inside = jnp.abs(x) < RADIUS
    near, far = jnp.where(inside, x, 0), jnp.where(inside, 1, x)
    size = jnp.abs(far)
    outside = jnp.log(size / (1 - jnp.exp(-size))) - jnp.where(far < 0, 0, far)
    return jnp.where(inside, -jnp.log1p(near * _series(near, 2)), outside)


def gate(
    log_alpha: Float[Array, "*shape"], log_beta: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """The steady state of a gate, alpha / (alpha + beta), and the logarithm of its rate,
    log(alpha + beta), for dx/dt = alpha (1 - x) - beta x.

    Rates of neurons are exponentials of the potential; their logarithms do not overflow, and no
    exponential has to be clipped (which would make its derivative 0). The gate dt later, where its
    rates would be 0 and infinite, and where they are 1 and 3:

        >>> import jax.numpy as jnp
        >>> steady, log_rate = gate(jnp.array([-1e4, 0.0]), jnp.array([1e4, jnp.log(3.0)]))
        >>> after = steady + (1.0 - steady) * decay(log_rate + jnp.log(0.1))
        >>> [round(float(x), 3) for x in after]
        [0.0, 0.753]

    **Arguments:** `log_alpha`, `log_beta`: logarithms of the opening and the closing rate, such as
    `log_x_over_expm1(x)` for a linoid one.

    **Returns:** the steady state, in [0, 1], and the log rate; both with finite derivatives of
    first and second order for any finite arguments.
    """
    return jax.nn.sigmoid(log_alpha - log_beta), jnp.logaddexp(log_alpha, log_beta)


def decay(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """exp(-e^u): what is left after dt at a rate of which u is log(rate dt).

    **Arguments:** `u`: dimensionless, any shape.

    **Returns:** the function, with finite derivatives of first and second order, for any finite
    `u`. (Above 7 it is 0 to the precision of the type, and so are they.)
    """
    zero = u > 7
    return jnp.where(zero, 0, jnp.exp(-jnp.exp(jnp.where(zero, 0, u))))


def _apart(z):
    """Whether z is within RADIUS, and z for the branch inside and the one outside."""
    inside = jnp.abs(z) < RADIUS
    return inside, jnp.where(inside, z, 0), jnp.where(inside, 1, z)


def _series(z, k=1):
    # phi_k = sum of z^n / (n + k)!, to the precision of the type within k RADIUS.
    degree = {1: (7, 14), 2: (12, 19)}[k][jnp.finfo(z.dtype).bits > 32]
    return _polynomial(z, [1 / math.factorial(n + k) for n in range(degree + 1)])


def _polynomial(z, coefficients):
    *rest, last = coefficients
    total = jnp.asarray(last, z.dtype)
    for c in reversed(rest):
        total = c + z * total
    return total

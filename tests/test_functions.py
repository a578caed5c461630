"""Singular and overflowing functions: value, first and second derivative against mpmath."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import purebrain as pb
from purebrain.neuron import TraubMilesState
from purebrain.solvers import (
    decay,
    exprel,
    gate,
    log_x_over_expm1,
    phi_1,
    phi_2,
    x_over_expm1,
)


def steady(u):
    return gate(u, jnp.zeros_like(u))[0]


def log_rate(u):
    return gate(u, jnp.zeros_like(u))[1]


# Each function with its first and second derivative.
EXACT = {
    phi_1: (
        lambda z: mp.expm1(z) / z if z else mp.mpf(1),
        lambda z: (mp.exp(z) - mp.expm1(z) / z) / z if z else mp.mpf(1) / 2,
        lambda z: (mp.exp(z) * (z - 2) + 2 * mp.expm1(z) / z) / z**2 if z else mp.mpf(1) / 3,
    ),
    phi_2: (
        lambda z: (mp.expm1(z) - z) / z**2 if z else mp.mpf(1) / 2,
        lambda z: (mp.expm1(z) * (z - 2) + 2 * z) / z**3 if z else mp.mpf(1) / 6,
        lambda z: (
            (mp.exp(z) * z**2 - 4 * z * mp.expm1(z) + 6 * (mp.expm1(z) - z)) / z**4
            if z
            else mp.mpf(1) / 12
        ),
    ),
    x_over_expm1: (
        lambda x: x / mp.expm1(x) if x else mp.mpf(1),
        lambda x: (1 - x * mp.exp(x) / mp.expm1(x)) / mp.expm1(x) if x else -mp.mpf(1) / 2,
        lambda x: (
            mp.exp(x) * (x * (mp.exp(x) + 1) - 2 * mp.expm1(x)) / mp.expm1(x) ** 3
            if x
            else mp.mpf(1) / 6
        ),
    ),
    log_x_over_expm1: (
        lambda x: mp.log(x / mp.expm1(x)) if x else mp.mpf(0),
        lambda x: 1 / x - 1 - 1 / mp.expm1(x) if x else -mp.mpf(1) / 2,
        lambda x: mp.exp(x) / mp.expm1(x) ** 2 - 1 / x**2 if x else -mp.mpf(1) / 12,
    ),
    steady: (
        lambda u: 1 / (1 + mp.exp(-u)),
        lambda u: mp.exp(-abs(u)) / (1 + mp.exp(-abs(u))) ** 2,
        lambda u: mp.exp(-abs(u)) * -mp.tanh(u / 2) / (1 + mp.exp(-abs(u))) ** 2,
    ),
    log_rate: (
        lambda u: max(u, 0) + mp.log1p(mp.exp(-abs(u))),
        lambda u: 1 / (1 + mp.exp(-u)),
        lambda u: mp.exp(-abs(u)) / (1 + mp.exp(-abs(u))) ** 2,
    ),
    decay: (  # 0 to any precision where e^u is 1,000,000
        lambda u: mp.exp(-mp.exp(min(u, 14))),
        lambda u: -mp.exp(u - mp.exp(u)) if u < 14 else mp.mpf(0),
        lambda u: mp.exp(u - mp.exp(u)) * mp.expm1(u) if u < 14 else mp.mpf(0),
    ),
}
# Relative errors allowed in the value, the first and the second derivative, in units of the
# type's epsilon. The worst is just outside the radius, where the difference of two terms cancels.
ALLOWED = {
    phi_1: (3, 18, 400),
    phi_2: (6, 60, 700),
    x_over_expm1: (3, 18, 360),
    log_x_over_expm1: (4, 18, 360),
    steady: (2, 4, 8),
    log_rate: (2, 4, 8),
    decay: (2, 4, 8),
}
BOUNDED = (steady, log_rate, decay)  # for these errors are beside 1, not beside their tails


def grid(function, dtype):
    half = np.asarray(0.5, dtype)  # the radius of the series
    edge = [np.nextafter(half, dtype(0)), half, np.nextafter(half, dtype(1))]
    size = [10.0 ** np.arange(-15, -1), np.linspace(0.05, 2, 150), np.linspace(2, 100, 50), edge]
    size = np.concatenate([*size, np.multiply(2, edge), np.geomspace(100, 1e4, 15), [1e9, 1e36]])
    x = np.unique(np.concatenate([-size, [0.0], size]).astype(dtype))
    finite = x < np.log(np.finfo(dtype).max) - 10
    return x[finite] if function in (phi_1, phi_2) else x


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("function", EXACT, ids=lambda f: f.__name__)
def test_functions(function, dtype):
    x = grid(function, dtype)
    assert x.size > 400 and 0 in x and -1e4 in x
    info = np.finfo(dtype)  # an exponential below its tiny counts as 0
    got = function
    for exact, allowed in zip(EXACT[function], ALLOWED[function], strict=True):
        values = np.asarray(jax.jit(jax.vmap(got))(jnp.asarray(x)))
        assert values.dtype == dtype and np.isfinite(values).all()
        with mp.workdps(80):
            right = [exact(mp.mpf(z)) for z in x.tolist()]
            error = np.array(
                [float(abs(v - r)) for v, r in zip(values.tolist(), right, strict=True)]
            )
        margin = allowed * info.eps * (abs(np.array(right, float)) + (function in BOUNDED))
        margin += 2 * (1 + abs(x)) * info.tiny
        assert (error <= margin).all(), (x[error > margin], (error / margin).max())
        got = jax.grad(got)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_overflow_is_infinite_and_its_logarithm_is_not(dtype):
    x = jnp.asarray([100.0, 1e4], dtype) * (1 if dtype == jnp.float32 else 10)
    for function in (phi_1, phi_2):
        assert (function(x) == jnp.inf).all()
        assert not np.isfinite(jax.vmap(jax.grad(function))(x)).any()
    with mp.workdps(60):
        right = [float(mp.log(EXACT[phi_1][0](mp.mpf(z)))) for z in x.tolist()]
    np.testing.assert_allclose(-log_x_over_expm1(x), right, rtol=2 * np.finfo(dtype).eps)
    assert exprel is phi_1


def test_a_gate_is_where_its_equation_leads():
    """Against dx/dt = alpha (1 - x) - beta x, and where the rates would overflow: at once."""
    alpha, beta, x, dt = 0.3, 1.7, 0.9, 0.25
    with mp.workdps(30):
        solve = mp.odefun(lambda t, y: [alpha * (1 - y[0]) - beta * y[0]], 0, [mp.mpf(x)])
        right = float(solve(dt)[0])

    def later(log_alpha, log_beta):
        goal, rate = gate(log_alpha, log_beta)
        return goal + (x - goal) * decay(rate + jnp.log(dt))

    np.testing.assert_allclose(later(*jnp.log(jnp.array([alpha, beta]))), right, rtol=1e-14)
    for logs, right in (((1e4, -1e4), 1.0), ((-1e4, 1e4), 0.0), ((-1e4, -1e4), x)):
        value, slopes = jax.value_and_grad(later, (0, 1))(*logs)
        assert value == right and slopes == (0, 0)


def exact_rates(u):
    """(alpha, beta) of m, h and n."""
    linoid = lambda k, x, d: k * x / mp.expm1(x / d)  # noqa: E731
    u = mp.mpf(u)
    return (
        (linoid(0.32, 13 - u, 4), linoid(0.28, u - 40, 5)),
        (0.128 * mp.exp((17 - u) / 18), 4 / (1 + mp.exp((40 - u) / 5))),
        (linoid(0.032, 15 - u, 5), 0.5 * mp.exp((10 - u) / 40)),
    )


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_rates_far_from_any_potential(dtype):
    """v = ±1e4 mV (in float32 up to where alpha_h itself overflows): a finite step and
    derivatives."""
    neuron = pb.cast(pb.TraubMiles(4), dtype)
    far = 1e4 if dtype == jnp.float64 else 1.5e3
    v = jnp.asarray([-far, far, -1e3, 1e3], dtype)

    def step(v):
        state = TraubMilesState(v, *jnp.full((3, 4), 0.5, dtype))
        return jax.tree.leaves(
            neuron.step(state, jnp.zeros(4, dtype), pb.Tick(jnp.int32(0), 0.1))[0]
        )

    leaves, slopes = jax.jit(lambda v: jax.jvp(step, (v,), (jnp.ones_like(v),)))(v)
    for leaf, slope in zip(leaves, slopes, strict=True):
        assert np.isfinite(leaf).all() and np.isfinite(slope).all()
    rates = [exact_rates(u) for u in (np.asarray(v, float) + 63.0).tolist()]
    for gates, column in zip(leaves[1:], zip(*rates, strict=True), strict=True):
        right = [
            float(a / (a + b) + (0.5 - a / (a + b)) * mp.exp(-(a + b) / 10)) for a, b in column
        ]
        np.testing.assert_allclose(gates, right, rtol=1e-5, atol=np.finfo(dtype).eps)

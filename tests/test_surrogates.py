"""Surrogates: the step itself forward, the declared derivative backward, at any order."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import purebrain as pb
from purebrain import surrogate

from .helpers_ops import without_type_checker


def at_sides(below, above):
    """A function that is `below` for x < 0 and `above` for x >= 0."""
    return lambda x, **p: (below if mp.re(x) < 0 else above)(x, **p)


def odd(f):
    """The odd function that is `f` for x >= 0."""
    return at_sides(lambda x, **p: -f(-x, **p), f)


@odd
def half_erf(x):
    """erf(x) / 2, whose imaginary part has all digits in the tail."""
    return 0.5 - mp.erfc(x) / 2


def triangle(x, height, width):
    """From 0, the area under a triangle."""
    x = x if mp.re(x) < width else mp.mpf(width)
    return height * (x - x * x / (2 * width))


# Each surrogate, the function that it is the derivative of (but for a constant), parameters that
# are not the default ones, and the parameters that any number will do for.
DECLARED = [
    (surrogate.SuperSpike,
        odd(lambda x, beta: x / (1 + beta * x)), dict(beta=3.7), ""),
    (surrogate.Sigmoid,
        lambda x, beta: 1 / (1 + mp.exp(-beta * x)), dict(beta=1.48), ""),
    (surrogate.PiecewiseLinear,
        odd(triangle), dict(height=0.11, width=0.37), "height"),
    (surrogate.PiecewiseQuadratic,
        odd(lambda x, alpha: alpha * x - (alpha * x) ** 2 / 2 if alpha * mp.re(x) < 1 else 0.5),
        dict(alpha=0.43), ""),
    (surrogate.ReLU,
        odd(lambda x, alpha, width: triangle(x, alpha * width, width)),
        dict(alpha=0.7, width=2.3), "alpha"),
    (surrogate.ArcTan,
        lambda x, alpha: mp.atan(mp.pi / 2 * alpha * x) / mp.pi, dict(alpha=0.74), ""),
    (surrogate.Gaussian,
        lambda x, sigma, alpha: alpha * half_erf(x / sigma / mp.sqrt(2)),
        dict(sigma=0.185, alpha=-0.5), "alpha"),
    (surrogate.Erf,
        lambda x, alpha: half_erf(alpha * x), dict(alpha=2.3), ""),
    (surrogate.MultiGaussian,
        lambda x, h, s, sigma, scale: scale * (
            (1 + h) * half_erf(x / sigma / mp.sqrt(2))
            - h * half_erf((x - sigma) / (s * sigma) / mp.sqrt(2))
            - h * half_erf((x + sigma) / (s * sigma) / mp.sqrt(2))
        ),
        dict(h=0.4, s=2.5, sigma=0.9, scale=1.7), "h scale"),
    (surrogate.PiecewiseExponential,
        odd(lambda x, alpha: (1 - mp.exp(-alpha * x)) / 2),
        dict(alpha=2.3), ""),
    (surrogate.SLAYER,
        odd(lambda x, alpha: -mp.exp(-alpha * x) / alpha), dict(alpha=2.3), ""),
    (surrogate.SoftSign,
        odd(lambda x, alpha: x / (1 / mp.mpf(alpha) + x) / 2), dict(alpha=2.3), ""),
    (surrogate.InverseSquare,
        odd(lambda x, alpha: x / (1 + alpha * x)), dict(alpha=12.3), ""),
    (surrogate.QPseudoSpike,
        odd(lambda x, alpha: (1 - (1 + 2 * x / (mp.mpf(alpha) - 1)) ** (1 - mp.mpf(alpha))) / 2),
        dict(alpha=3.7), ""),
    (surrogate.NonzeroSignLog,
        odd(lambda x, alpha: mp.log(1 + alpha * x)), dict(alpha=2.3), ""),
    (surrogate.S2NN,
        at_sides(
            lambda x, alpha, beta: 1 / (1 + mp.exp(-alpha * x)),
            lambda x, alpha, beta: beta * mp.log(x + 1) + 0.5,
        ),
        dict(alpha=2.3, beta=0.7), "beta"),
    (surrogate.LeakyReLU,
        at_sides(lambda x, alpha, beta: alpha * x, lambda x, alpha, beta: beta * x),
        dict(alpha=-0.2, beta=0.7), "alpha beta"),
    (surrogate.LogTailedReLU,
        lambda x, alpha: alpha * x if mp.re(x) <= 0 else x if mp.re(x) <= 1 else 1 + mp.log(x),
        dict(alpha=0.23), "alpha"),
    (surrogate.PiecewiseLeakyReLU,
        odd(lambda x, c, w: x / (2 * mp.mpf(w)) if mp.re(x) <= w else c * (x - w) + 0.5),
        dict(c=0.2, w=0.37), "c"),
    (surrogate.SquarewaveFourierSeries,
        lambda x, n, t_period: 2 / mp.pi * sum(
            mp.sin(2 * mp.pi * k * x / t_period) / k for k in range(1, 2 * n, 2)
        ),
        dict(n=5, t_period=2.96), ""),
]  # fmt: skip
NAMES = [row[0].__name__ for row in DECLARED]
each_surrogate = pytest.mark.parametrize("cls", [row[0] for row in DECLARED], ids=NAMES)
each_row = pytest.mark.parametrize(("cls", "function", "other", "free"), DECLARED, ids=NAMES)
X = np.concatenate([[0, 5, -5, 1e4, -1e4, 1e-37, -1e-37], np.linspace(-3, 3, 62)])
X = np.concatenate([X, np.random.default_rng(0).normal(scale=2.0, size=30)])
FAR = [0.0, -0.0, 5.0, -5.0, -1.0, 1e4, -1e4, 6e4, -6e4]
each_dtype = pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
STEP = mp.mpf(10) ** -40


def derivatives(function, x, **parameters):
    """The first and second derivative at `x`: by a complex step, which loses no digits, and by the
    central difference of that."""
    slope = lambda x: mp.im(function(mp.mpc(x, STEP), **parameters)) / STEP  # noqa: E731
    with mp.workdps(160):
        x = [mp.mpf(float(v)) for v in x]
        first = [slope(v) for v in x]
        second = [(slope(v + STEP) - slope(v - STEP)) / (2 * STEP) for v in x]
    return np.array(first, float), np.array(second, float)


def second_derivatives(spike, x):
    """In all four orders of the two modes."""
    for outer in (jax.jacfwd, jax.jacrev):
        for inner in (jax.jacfwd, jax.jacrev):
            yield jax.jit(jax.vmap(outer(inner(spike))))(x)


def values(spike):
    """The parameters as Python numbers."""
    return {name: p if isinstance(p, int) else float(p) for name, p in vars(spike).items()}


def test_every_surrogate_is_here():
    """A new one joins the table."""
    public = {v for name, v in vars(surrogate).items() if not name.startswith("_")}
    classes = {v for v in public if isinstance(v, type) and not v.__name__.startswith("Abstract")}
    assert {row[0] for row in DECLARED} == classes - {surrogate.Heaviside}
    assert {row[0] for row in DECLARED} == set(surrogate.AbstractSurrogate.__subclasses__())


@each_surrogate
@each_dtype
def test_forward_is_heaviside_bit_for_bit(cls, dtype):
    x = jnp.asarray(np.concatenate([X, [np.inf, -np.inf, -0.0, np.nan]]), dtype)
    spikes = pb.cast(cls(), dtype)(x)
    heaviside = surrogate.Heaviside()(x)
    assert (spikes.dtype, heaviside.dtype) == (dtype, bool)
    np.testing.assert_array_equal(heaviside, np.asarray(x, float) >= 0)
    assert np.asarray(spikes).tobytes() == np.asarray(heaviside).astype(x.dtype).tobytes()


@each_row
@pytest.mark.parametrize("default", [True, False])
def test_derivatives_are_the_declared_ones(cls, function, other, free, default):
    spike = cls() if default else cls(**other)
    first, second = derivatives(function, X, **values(spike))
    x, ones = jnp.asarray(X), jnp.ones(X.size)
    # Where terms cancel, only the absolute error can be small.
    signed = cls in (surrogate.MultiGaussian, surrogate.SquarewaveFourierSeries)
    close = dict(rtol=1e-12, atol=1e-13 if signed else 1e-290)

    np.testing.assert_allclose(spike.derivative(x), first, **close)
    spikes, tangent = jax.jvp(spike, (x,), (3 * ones,))
    np.testing.assert_array_equal(spikes, spike(x))
    np.testing.assert_allclose(tangent, 3 * first, **close)
    np.testing.assert_allclose(jax.vjp(spike, x)[1](3 * ones)[0], 3 * first, **close)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(spike)))(x), first, **close)

    # The second derivative is that of the declared one.
    for got in second_derivatives(spike, x):
        assert np.isfinite(got).all()
        got, right = got[X != 0], second[X != 0]  # some have a kink at 0
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-12)


@each_row
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_derivatives_in_half_precision(cls, function, other, free, dtype):
    spike, x = pb.cast(cls(**other), dtype), jnp.asarray(X, dtype)
    first, second = derivatives(function, x, **values(spike))
    smooth = np.asarray(x != 0)
    got = jax.jit(jax.vmap(jax.grad(jax.grad(spike))))(x)
    assert got.dtype == dtype
    # Units in the last place of the largest; the phase of a ninth harmonic has fewer digits.
    units = 20 if cls is surrogate.SquarewaveFourierSeries else 4
    for value, right in ((spike.derivative(x), first), (got[smooth], second[smooth])):
        close = units * float(jnp.finfo(dtype).eps) * abs(right).max()
        np.testing.assert_allclose(value, right, rtol=0, atol=close)


@each_surrogate
@each_dtype
def test_finite_far_from_threshold(cls, dtype):
    """So are the gradients of the derivative, with respect to x and to the parameters."""
    largest = float(jnp.finfo(dtype).max)
    spike, x = pb.cast(cls(), dtype), jnp.asarray([*FAR, largest, -largest, largest**0.5], dtype)
    slopes, of_both = jax.vjp(lambda spike, x: spike.derivative(x), spike, x)
    assert slopes.dtype == dtype and np.isfinite(slopes).all()
    assert all(np.isfinite(second).all() for second in second_derivatives(spike, x))
    for one in jnp.eye(x.size, dtype=dtype):
        leaves = jax.tree.leaves(of_both(one))
        assert len(leaves) >= 2 and all(np.isfinite(leaf).all() for leaf in leaves)
    at_infinity = spike.derivative(jnp.asarray([np.inf, -np.inf], dtype))
    assert np.isfinite(at_infinity).all() == (cls is not surrogate.SquarewaveFourierSeries)


@each_row
def test_gradients_and_batches_of_the_parameters(cls, function, other, free):
    x = jnp.linspace(-1.7, 1.9, 7)
    for name in (name for name, value in values(cls()).items() if isinstance(value, float)):
        slope = lambda p, x: cls(**{**other, name: p}).derivative(x)  # noqa: B023, E731
        p = jnp.asarray(other[name])

        # Against a difference of the derivatives by mpmath.
        ends = ((float(p) + d, values(cls(**{**other, name: p + d}))) for d in (1e-6, -1e-6))
        (high, up), (low, down) = ((end, derivatives(function, x, **v)[0]) for end, v in ends)
        right = (up - down) / (high - low)
        np.testing.assert_allclose(jax.jacfwd(slope)(p, x), right, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(jax.jacrev(slope)(p, x), right, rtol=1e-5, atol=1e-7)
        assert jax.grad(lambda p: cls(**{**other, name: p})(x).sum())(p) == 0  # noqa: B023

        batch = p * jnp.asarray([0.9, 1.0, 1.2])
        loop = jnp.stack([slope(p, x) for p in batch])
        np.testing.assert_allclose(jax.vmap(slope, (0, None))(batch, x), loop, rtol=1e-13)


@each_row
def test_bad_parameters_are_refused(cls, function, other, free):
    for name in (name for name, value in values(cls()).items() if isinstance(value, float)):
        floor = 1.0 if cls is surrogate.QPseudoSpike else 0.0
        bad = [np.nan, np.inf, -np.inf, *([] if name in free.split() else [floor, -1.0])]
        for value in bad:
            with pytest.raises(ValueError, match=f"^{name}: {value}; it must be finite"):
                cls(**{name: value})
        with without_type_checker():
            with pytest.raises(ValueError, match=rf"^{name}: shape \(2,\); it must be one number"):
                cls(**{name: np.full(2, 3.0)})
            for value in ("a", None):
                with pytest.raises(TypeError, match=f"^{name}: {value!r}; it must be real numbers"):
                    cls(**{name: value})


def test_a_series_of_no_harmonics_is_refused():
    with pytest.raises(ValueError, match=r"^n: 0; it must be a whole number >= 1, such as n=2"):
        surrogate.SquarewaveFourierSeries(n=0)


@each_row
def test_gradient_through_a_run(cls, function, other, free):
    """A LIF from rest to its first spike, whose potential is known in closed form."""
    neuron = pb.LIF(1, spike=cls())
    state = neuron.init(dt=0.1)

    def count(current):
        return pb.simulate(neuron, state, current, dt=0.1, duration=22.0).saved.sum()

    spikes, gradient = jax.value_and_grad(count)(jnp.asarray([15.0]))
    rise = 1 - np.exp(-0.1 * np.arange(1, 221) / 20.0)
    slopes = derivatives(function, (15.0 * rise - 10.0) / 10.0, **values(cls()))[0]
    assert spikes == 1
    np.testing.assert_allclose(gradient, [(slopes * rise / 10.0).sum()], rtol=1e-9)
    assert gradient != 0


# A neuron, the scale (mV) of its surrogate's argument, and currents (silent, slow, fast).
NEURONS = {
    "LIF": (lambda spike: pb.LIF(3, spike=spike), 10.0, [0.0, 15.0, 40.0]),
    "TraubMiles": (lambda spike: pb.TraubMiles(3, spike=spike), 20.0, [0.0, 400.0, 1200.0]),
}
each_neuron = pytest.mark.parametrize("name", NEURONS)


@each_row
@each_neuron
def test_slope_at_the_threshold_of_a_neuron(cls, function, other, free, name):
    build, scale, _ = NEURONS[name]
    neuron = build(cls())
    state = neuron.init(dt=0.1)
    x = np.array([-5.0, 0.0, 5.0])

    def spikes(v):
        return neuron.fire(state, eqx.tree_at(lambda y: y.v, state, v))

    v = neuron.v_th + scale * jnp.asarray(x)
    value, tangent = jax.jvp(spikes, (v,), (scale * jnp.ones(3),))
    np.testing.assert_array_equal(value, [0, 1, 1])
    slopes = derivatives(function, x, **values(cls()))[0]
    np.testing.assert_allclose(tangent, slopes, rtol=1e-12, atol=1e-15)


@functools.cache
def run_of(spike_class, name):
    build, _, current = NEURONS[name]
    neuron = pb.Refractory(build(spike_class()), tau_ref=1.0)
    return pb.simulate(neuron, neuron.init(dt=0.1), jnp.asarray(current), dt=0.1, duration=50.0)


@each_surrogate
@each_neuron
def test_surrogate_changes_no_bit_of_a_run(cls, name):
    runs = run_of(cls, name), run_of(surrogate.Heaviside, name)
    assert runs[1].saved.dtype == bool and runs[1].saved.sum(0)[2] > 2
    np.testing.assert_array_equal(runs[0].saved.astype(bool), runs[1].saved)
    np.testing.assert_array_equal(runs[0].state.neuron.v, runs[1].state.neuron.v)


# One of each kind of tail: power law, exponential, signed, none, and one that does not end.
@pytest.mark.parametrize("name", ["SuperSpike", "Sigmoid", "MultiGaussian", "ReLU", "LeakyReLU"])
def test_silent_and_always_firing_nets_have_finite_gradients(name):
    neurons = pb.Refractory(pb.LIF(20, spike=getattr(surrogate, name)()), tau_ref=0.2)
    rule = pb.connect.fixed_prob(0.5, 0.3, key=jax.random.key(0))
    loop = pb.Projection("N", "N", rule, pb.Exponential(5.0), pb.COBA(0.0), delay=0.1)
    net = pb.Network({"N": neurons}, [loop])
    state = net.init(dt=0.1)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def mean_rate(net, drive):
        return pb.simulate(net, state, {"N": drive}, dt=0.1, duration=20.1).saved["N"].mean()

    for drive, rate in ((-500.0, 0.0), (5000.0, 1 / 3)):
        value, gradient = mean_rate(net, jnp.asarray(drive))
        np.testing.assert_allclose(value, rate, rtol=1e-12)
        leaves = jax.tree.leaves(gradient)
        assert leaves and all(np.isfinite(leaf).all() for leaf in leaves)

"""Surrogates: the step itself forward, the declared derivative backward, at any order."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import logistic, norm

import purebrain as pb
from purebrain import surrogate

# Each spike function: its declared derivative and the derivative of that, by hand.
DECLARED = [
    (surrogate.SuperSpike,
        lambda x, beta: (1 + beta * abs(x)) ** -2.0,
        lambda x, beta: -2 * beta * np.sign(x) * (1 + beta * abs(x)) ** -3.0,
    ),
    (surrogate.Sigmoid,
        lambda x, beta: beta * logistic.pdf(beta * x),
        lambda x, beta: -(beta**2) * np.tanh(beta * x / 2) * logistic.pdf(beta * x),
    ),
    (surrogate.PiecewiseLinear,
        lambda x, height, width: height * np.maximum(1 - abs(x) / width, 0),
        lambda x, height, width: -height / width * np.sign(x) * (abs(x) < width),
    ),
    (surrogate.ArcTan,
        lambda x, alpha: alpha / 2 / (1 + (np.pi / 2 * alpha * x) ** 2),
        lambda x, alpha: (
            -(np.pi**2) / 4 * alpha**3 * x / (1 + (np.pi / 2 * alpha * x) ** 2) ** 2
        ),
    ),
    (surrogate.Gaussian,
        lambda x, sigma: norm.pdf(x, scale=sigma),
        lambda x, sigma: -x / sigma**2 * norm.pdf(x, scale=sigma),
    ),
]  # fmt: skip
each_surrogate = pytest.mark.parametrize(
    ("cls", "slope", "curvature"), DECLARED, ids=[row[0].__name__ for row in DECLARED]
)
X = np.concatenate([[0, 5, -5, 1e4, -1e4, 1e-37, -1e-37], np.linspace(-3, 3, 62)])


def test_every_surrogate_is_here():
    """A new one joins the table."""
    assert {cls for cls, *_ in DECLARED} == set(surrogate.AbstractSurrogate.__subclasses__())


@each_surrogate
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward_is_heaviside_bit_for_bit(cls, slope, curvature, dtype):
    x = jnp.asarray(np.concatenate([X, [np.inf, -np.inf, -0.0]]), dtype)
    spikes = pb.cast(cls(), dtype)(x)
    heaviside = surrogate.Heaviside()(x)
    assert (spikes.dtype, heaviside.dtype) == (dtype, bool)
    np.testing.assert_array_equal(heaviside, np.asarray(x) >= 0)
    assert np.asarray(spikes).tobytes() == np.asarray(heaviside).astype(dtype).tobytes()


@each_surrogate
@pytest.mark.parametrize("factor", [1.0, 0.37])
def test_derivatives_are_the_declared_ones(cls, slope, curvature, factor):
    parameters = [factor * p for p in vars(cls()).values()]
    spike = cls(*parameters)
    first, second = (f(X, *map(float, parameters)) for f in (slope, curvature))
    x, ones = jnp.asarray(X), jnp.ones(X.size)
    close = dict(rtol=1e-12, atol=1e-290)

    np.testing.assert_allclose(spike.derivative(x), first, **close)
    spikes, tangent = jax.jvp(spike, (x,), (3 * ones,))
    np.testing.assert_array_equal(spikes, spike(x))
    np.testing.assert_allclose(tangent, 3 * first, **close)
    np.testing.assert_allclose(jax.vjp(spike, x)[1](3 * ones)[0], 3 * first, **close)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(spike)))(x), first, **close)

    # The second derivative is that of the declared one, in all four orders of the two modes.
    for outer in (jax.jacfwd, jax.jacrev):
        for inner in (jax.jacfwd, jax.jacrev):
            got = jax.jit(jax.vmap(outer(inner(spike))))(x)
            assert np.isfinite(got).all()
            got, right = got[X != 0], second[X != 0]  # some have a kink at 0
            np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-12)


# A neuron, the scale (mV) of its surrogate's argument, and currents (silent, slow, fast).
NEURONS = {
    "LIF": (lambda spike: pb.LIF(3, spike=spike), 10.0, [0.0, 15.0, 40.0]),
    "TraubMiles": (lambda spike: pb.TraubMiles(3, spike=spike), 20.0, [0.0, 400.0, 1200.0]),
}
each_neuron = pytest.mark.parametrize("name", NEURONS)


@each_surrogate
@each_neuron
def test_slope_at_the_threshold_of_a_neuron(cls, slope, curvature, name):
    build, scale, _ = NEURONS[name]
    neuron = build(cls())
    state = neuron.init(dt=0.1)
    x = np.array([-5.0, 0.0, 5.0])

    def spikes(v):
        return neuron.fire(state, eqx.tree_at(lambda y: y.v, state, v))

    v = neuron.v_th + scale * jnp.asarray(x)
    value, tangent = jax.jvp(spikes, (v,), (scale * jnp.ones(3),))
    np.testing.assert_array_equal(value, [0, 1, 1])
    parameters = map(float, vars(cls()).values())
    np.testing.assert_allclose(tangent, slope(x, *parameters), rtol=1e-12)


@each_surrogate
@each_neuron
def test_surrogate_changes_no_bit_of_a_run(cls, slope, curvature, name):
    build, _, current = NEURONS[name]
    runs = []
    for spike in (cls(), surrogate.Heaviside()):
        neuron = pb.Refractory(build(spike), tau_ref=1.0)
        state = neuron.init(dt=0.1)
        runs.append(pb.simulate(neuron, state, jnp.asarray(current), dt=0.1, duration=50.0))
    assert runs[1].saved.dtype == bool and runs[1].saved.sum(0)[2] > 2
    np.testing.assert_array_equal(runs[0].saved.astype(bool), runs[1].saved)
    np.testing.assert_array_equal(runs[0].state.neuron.v, runs[1].state.neuron.v)


@each_surrogate
def test_silent_and_always_firing_nets_have_finite_gradients(cls, slope, curvature):
    neurons = pb.Refractory(pb.LIF(20, spike=cls()), tau_ref=0.2)
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

"""The Poisson source: the law of its counts, with keys fixed, so that no run is unlucky."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import purebrain as pb


def counts(rate, n, steps, key=0, dt=0.1, **kwargs):
    """[steps, n]"""
    source, key = pb.PoissonSource(n, rate), jax.random.key(key)
    run = pb.simulate(source, (), dt=dt, duration=steps * dt, key=key, **kwargs)
    return np.asarray(run.saved)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("expected", "n", "steps"), [
    (1e-4, 200, 20_000), (0.1, 100, 2000), (1.0, 100, 2000), (5.0, 50, 2000),
])  # fmt: skip
def test_mean_variance_and_law(expected, n, steps, dtype):
    """|z| < 4 for mean and variance; whole numbers in the proportions of Poisson."""
    x = counts(jnp.asarray(expected * 1e4, dtype), n, steps)
    assert x.dtype == dtype and (x == np.rint(x)).all()
    x = x.astype(float)
    assert abs(x.mean() - expected) < 4 * np.sqrt(expected / x.size)
    # The fourth central moment is m + 3 m^2, so the sample variance has (m + 2 m^2) / size.
    assert abs(x.var(ddof=1) - expected) < 4 * np.sqrt((expected + 2 * expected**2) / x.size)

    top = int(stats.poisson.isf(10 / x.size, expected))
    observed = np.bincount(np.minimum(x.astype(int), top).ravel(), minlength=top + 1)
    if top:
        law = stats.poisson(expected)
        law = np.append(law.pmf(np.arange(top)), law.sf(top - 1))
        assert stats.chisquare(observed, law * x.size).pvalue > 1e-3


def test_neurons_and_steps_are_independent():
    """Correlations between neurons and between steps are normal, of sd 1 / sqrt(T)."""
    x = counts(5000.0, 40, 20_000)
    z = (x - x.mean(0)) / x.std(0)
    for lag in range(4):
        r = z[lag:].T @ z[: len(z) - lag] / np.sqrt(len(z) - lag)
        r = r[~np.eye(40, dtype=bool)] if lag == 0 else r.ravel()
        assert abs(r).max() < 5
        assert stats.kstest(r, "norm").pvalue > 1e-3


def test_rates_of_their_own():
    rates = np.array([0.0, 1.0, 20.0, 300.0, 4000.0, 20_000.0])
    x = counts(jnp.asarray(rates), 6, 50_000)
    m = rates * 1e-4
    assert (x[:, 0] == 0).all()
    z = (x.mean(0) - m)[1:] / np.sqrt(m[1:] / len(x))
    assert abs(z).max() < 4
    z = (x.var(0) - m)[1:] / np.sqrt((m + 2 * m**2)[1:] / len(x))
    assert abs(z).max() < 4
    assert abs(np.corrcoef(x[:, 1:].T) - np.eye(5)).max() < 5 / np.sqrt(len(x))


@pytest.mark.parametrize(("rate", "n"), [(0.0, 5), (np.zeros(5), 5), (1e6, 0), (np.zeros(0), 0)])
def test_nothing_to_draw(rate, n):
    x = counts(jnp.asarray(rate), n, 20)
    assert x.shape == (20, n) and (x == 0).all()


def test_the_key_decides():
    x = counts(3000.0, 7, 400)
    np.testing.assert_array_equal(x, counts(3000.0, 7, 400))
    halves = [counts(3000.0, 7, 200), counts(3000.0, 7, 200, i0=200)]
    np.testing.assert_array_equal(x, np.concatenate(halves))
    # Other keys and other steps agree no more often than chance.
    chance = (stats.poisson.pmf(np.arange(9), 0.3) ** 2).sum()
    for other in (counts(3000.0, 7, 400, key=1), np.roll(x, 1, axis=0)):
        z = ((x == other).mean() - chance) / np.sqrt(chance * (1 - chance) / x.size)
        assert abs(z) < 4


def test_two_sources_of_a_network_differ():
    net = pb.Network({name: pb.PoissonSource(50, 5000.0) for name in "ab"})
    run = pb.simulate(net, net.init(dt=0.1), {}, dt=0.1, duration=100.0, key=jax.random.key(0))
    a, b = (np.asarray(run.saved[name]).ravel() for name in "ab")
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.size)


def test_sweeps_of_rates_and_keys():
    """vmap gives what a loop gives, however long each draws."""
    rates, keys = jnp.asarray([0.0, 500.0, 30_000.0]), jax.random.split(jax.random.key(0), 3)

    def one(rate, key):
        source = pb.PoissonSource(4, rate)
        return pb.simulate(source, (), dt=0.1, duration=2.0, key=key).saved

    swept = jax.vmap(one)(rates, keys)
    for row, rate, key in zip(swept, rates, keys, strict=True):
        np.testing.assert_array_equal(row, one(rate, key))


def test_no_derivative_reaches_the_rate():
    def total(rate):
        source = pb.PoissonSource(3, rate)
        return pb.simulate(source, (), dt=0.1, duration=1.0, key=jax.random.key(0)).saved.sum()

    value, tangent = jax.jvp(total, (jnp.asarray(9000.0),), (jnp.asarray(1.0),))
    assert value > 5 and tangent == 0

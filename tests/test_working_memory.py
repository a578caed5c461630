"""Delayed match to sample: trials, the networks' equations and gradients, and that they learn."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special
import scipy.stats

import purebrain as pb

from .test_examples import run

PAPER = Path(__file__).parents[1] / "examples" / "paper"
sys.path.insert(0, str(PAPER))
import _dms  # noqa: E402
import working_memory_rate as rate  # noqa: E402
import working_memory_spiking as spiking  # noqa: E402


def test_trials_show_what_they_say():
    trials = _dms.draw(jr.key(0), 4000, 100.0)
    x, match, sample = map(np.asarray, trials)
    assert x.shape == (25, 4000, 24)
    np.testing.assert_allclose(x[[*range(5), *range(10, 20)]], 1.0)
    # von Mises: kappa 2, the peak 40 Hz at the preferred direction.
    angle = 2 * np.pi * np.arange(24) / 24
    for k in range(8):
        shape = scipy.stats.vonmises.pdf(angle, 2.0, loc=k * np.pi / 4)
        expected = 1 + 40 * shape / scipy.stats.vonmises.pdf(0.0, 2.0)
        np.testing.assert_allclose(x[5:10, sample == k][2, 0], expected, rtol=1e-10)
    same = (x[7] == x[22]).all(-1)
    np.testing.assert_array_equal(same, match == 1)
    np.testing.assert_array_equal(x[5], x[9])
    # Halves, eighths, sevenths: within five standard deviations.
    assert abs(match.mean() - 0.5) < 5 * (0.25 / 4000) ** 0.5
    assert np.abs(np.bincount(sample, minlength=8) - 500).max() < 5 * (500 * 7 / 8) ** 0.5
    test = x[22, :, ::3].argmax(-1)
    turn = np.bincount((test - sample)[match == 0] % 8, minlength=8)
    assert turn[0] == 0 and np.abs(turn[1:] - turn.sum() / 7).max() < 5 * (turn.sum() / 7) ** 0.5
    np.testing.assert_array_equal(x, _dms.draw(jr.key(0), 4000, 100.0).rates)


def test_dales_law_holds_for_any_weights():
    mask = np.asarray(_dms.signs(3, 2))
    expected = np.array([1, 1, 1, -1, -1])[:, None] * (1 - np.eye(5))
    np.testing.assert_array_equal(mask, expected)
    params, neurons = spiking.make(jr.key(0))
    w = np.asarray(spiking.network(params, neurons, _dms.signs(80, 20)).weight)[24:]
    assert (w[:80] >= 0).all() and (w[80:] <= 0).all() and (np.diag(w) == 0).all()
    tau = np.asarray(neurons.tau_2)
    assert 100 <= tau.min() < 300 and 2800 < tau.max() <= 3000


def test_decision_is_the_cross_entropy_and_the_accuracy():
    logits = jr.normal(jr.key(1), (7, 50, 2))
    match = jr.bernoulli(jr.key(2), 0.5, (50,)).astype(jnp.int32)
    value, accuracy = _dms.decision(logits, match)
    each = -scipy.special.log_softmax(np.asarray(logits), -1)[:, np.arange(50), match]
    np.testing.assert_allclose(value, each.mean(), rtol=1e-12)
    right = np.asarray(logits).mean(0)[np.arange(50), match] > np.asarray(logits).mean(0).mean(1)
    np.testing.assert_allclose(accuracy, right.mean())


def test_the_rate_network_is_its_equation():
    net = rate.RateNet(jr.normal(jr.key(0), (7, 4)), jnp.array([0.1, 0.0, -0.1, 0.2]))
    u, key = jr.uniform(jr.key(1), (6, 3)), jr.key(2)
    got = pb.simulate(
        net, net.init(dt=100.0), pb.Series(u), dt=100.0, duration=600.0, key=key
    ).saved
    x = np.zeros(4)
    for n in range(6):
        noise = np.asarray(jr.normal(jr.fold_in(key, n), (4,)))
        drive = np.concatenate([u[n], np.maximum(x, 0)]) @ np.asarray(net.weight) + net.bias
        x = 0.5 * x + 0.5 * drive + 0.05 * noise
        np.testing.assert_allclose(got[n], np.maximum(x, 0), atol=1e-12)


def test_the_rate_networks_gradient_is_that_of_finite_differences():
    params, trials = rate.make(jr.key(0)), _dms.draw(jr.key(1), 8, rate.DT)

    def loss(params):
        r = rate.rates(params, trials, jr.key(2))
        return _dms.decision(rate.logits(params, r), trials.match)[0]

    grad, h = jax.grad(loss)(params), 1e-6
    way = jax.tree.map(lambda a: jr.normal(jr.key(3), a.shape), params)
    moved = [loss(jax.tree.map(lambda p, d, s=s: p + s * h * d, params, way)) for s in (1, -1)]
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), grad, way)))
    np.testing.assert_allclose(slope, (moved[0] - moved[1]) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("steps", [25, 100])
def test_recomputing_changes_no_gradient_of_the_spiking_network(steps):
    params, neurons = spiking.make(jr.key(0))
    mask = _dms.signs(80, 20)
    spikes = jr.bernoulli(jr.key(1), 0.2, (100, 24))

    def loss(params, adjoint):
        net = spiking.network(params, neurons, mask)
        saved = pb.simulate(
            *(net, net.init(dt=1.0), pb.Series(spikes)),
            dt=1.0, duration=100.0, save=spiking.everything, adjoint=adjoint,
        ).saved  # fmt: skip
        s, out, far = saved
        return (out[-20:] ** 2).mean() + far.mean(), s

    direct, s = jax.grad(loss, has_aux=True)(params, pb.Direct())
    assert 5 < float(s.sum()) < 5000
    again, _ = jax.grad(loss, has_aux=True)(params, spiking.Recomputed(steps))
    for a, b in zip(jax.tree.leaves(direct), jax.tree.leaves(again), strict=True):
        scale = float(jnp.abs(a).max())
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * scale)
    assert all(float(jnp.abs(g).max()) > 0 for g in (direct.w_in, direct.w_rec, direct.w_out))


def test_the_spiking_network_by_hand():
    """One step after another in NumPy: synapses, currents, potentials, spikes, readout."""
    params, neurons = spiking.make(jr.key(0))
    mask = np.asarray(_dms.signs(80, 20))
    net = spiking.network(params, neurons, jnp.asarray(mask))
    spikes = jr.bernoulli(jr.key(1), 0.2, (60, 24))
    s, out, _ = pb.simulate(
        *(net, net.init(dt=1.0), pb.Series(spikes)), dt=1.0, duration=60.0, save=spiking.everything
    ).saved
    w_in, w_out = np.asarray(params.w_in), np.asarray(params.w_out)
    w_rec, tau_2 = np.abs(params.w_rec) * mask, np.asarray(neurons.tau_2)
    g, v, i_1, i_2, last, o = (np.zeros(n) for n in (100, 100, 100, 100, 100, 2))
    decay = np.exp(-1 / 20)
    for n in range(60):
        g = g * np.exp(-1 / 100) + np.asarray(spikes[n], float) @ w_in + last @ w_rec
        v = v * decay + (1 - decay) * (g + i_1 + i_2)
        i_1, i_2 = i_1 * np.exp(-1 / 10), i_2 * np.exp(-1 / tau_2)
        last = (v >= 1.0) * 1.0
        v = v - last
        i_1 = np.where(last > 0, np.repeat([0.0, 1.0], [80, 20]), i_1)
        i_2 = i_2 - 0.6 * last
        o = o * np.exp(-1 / 10) + last @ w_out
        np.testing.assert_array_equal(s[n], last)
        np.testing.assert_allclose(out[n], o, atol=1e-10)
    assert s.sum() > 5


def figures(name, *args, cwd):
    done = run(f"paper/{name}", "--json", *args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_rate_network_learns(tmp_path):
    assert figures("working_memory_rate.py", "--epochs", 12, cwd=tmp_path)["test_accuracy"] > 0.95


@pytest.mark.slow
def test_the_spiking_network_begins_to_learn(tmp_path):
    """All of it takes ten minutes of one core; two epochs tell."""
    assert figures("working_memory_spiking.py", "--epochs", 2, cwd=tmp_path)["test_accuracy"] > 0.65

"""The adjoint of the example: against finite differences, and against the solve by events."""

import json
import sys
from pathlib import Path

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purebrain.solvers import solve_spikes

from .test_event_times import central
from .test_examples import ROOT, run

sys.path.insert(0, str(Path(ROOT) / "examples"))
import eventprop_digits as example

RNG = np.random.default_rng(3)
TIMES = np.concatenate([RNG.uniform(0, 15, (2, 7)), [[np.inf], [2.0]]], axis=1)
WEIGHTS = RNG.normal(1.3, 0.9, (8, 4)) * [1.0, 0.2, 1.0, 1.0]  # one stays silent
COTANGENT = RNG.normal(size=(2, 4, 3))
MOST = 3


def test_eventprop_is_the_gradient_of_the_solve_by_events():
    """Also for neurons that fire up to three times, and for the times of the inputs."""

    def neuron(times, weights):
        """Spikes of one neuron, integrated."""

        def vf(t, y, args):
            return (y[1] - y[0]) / example.TAU, -2 * y[1] / example.TAU

        return solve_spikes(
            vf, lambda y: y[0] - 1.0, lambda y, which: (jnp.where(which, 0.0, y[0]), y[1]),
            t0=0.0, t1=example.END, y0=(jnp.zeros(1), jnp.zeros(1)), max_spikes=MOST,
            jump_ts=times, jump=lambda y, k: (y[0], y[1] + weights[k]), throw=False,
            stepsize_controller=dfx.PIDController(rtol=1e-10, atol=1e-10),
        ).ts  # fmt: skip

    def weighted(spikes):
        value = jnp.where(jnp.isfinite(spikes), spikes, 0.0) * COTANGENT
        return jnp.sum(value), spikes

    def by_layer(times, weights):
        return weighted(example.layer(times, weights, MOST))

    def by_events(times, weights):
        each = jax.vmap(jax.vmap(neuron, (None, 1)), (0, None))
        return weighted(each(times, weights))

    x = jnp.asarray(TIMES), jnp.asarray(WEIGHTS)
    slopes, spikes = jax.jit(jax.grad(by_layer, (0, 1), has_aux=True))(*x)
    right, exact = jax.jit(jax.grad(by_events, (0, 1), has_aux=True))(*x)
    counts = np.isfinite(spikes).sum(-1)
    assert counts.min() == 0 and counts.max() == MOST
    np.testing.assert_allclose(spikes, exact, rtol=1e-8)
    for a, b in zip(slopes, right, strict=True):
        assert abs(b).max() > 0.5
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * abs(b).max())


def test_eventprop_through_two_layers_against_finite_differences():
    times, labels = jnp.asarray(TIMES), jnp.array([3, 7])
    shapes = (8, 6), (6, 10)
    flat = np.concatenate([RNG.normal(1.3, 0.5, 48), RNG.normal(1.6, 0.8, 60)])

    @jax.jit
    def value(flat):
        parts = jnp.split(flat, [48])
        weights = [a.reshape(shape) for a, shape in zip(parts, shapes, strict=True)]
        return example.loss(weights, times, labels)

    slope = jax.jit(jax.grad(value))(jnp.asarray(flat))
    right = central(lambda x: [value(jnp.asarray(x))], flat, 1e-6)[0]
    assert (abs(right[:48]) > 1e-3).sum() > 10
    np.testing.assert_allclose(slope, right, rtol=1e-5, atol=1e-5 * abs(right).max())


@pytest.mark.slow
def test_digits_are_learned(tmp_path):
    pytest.importorskip("sklearn")
    done = run("eventprop_digits.py", "--quick", "--json", "--plot", "digits.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["test_digits"] == 360
    assert figures["loss_end"] < 0.5 * figures["loss_start"]
    assert figures["test_accuracy"] > 0.7  # chance is 0.1
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    again = run("eventprop_digits.py", "--quick", "--json", cwd=tmp_path)
    same = json.loads(again.stdout)
    assert all(same[k] == figures[k] for k in ("loss_end", "train_accuracy", "test_accuracy"))


@pytest.mark.slow
def test_digits_are_learned_well(tmp_path):
    pytest.importorskip("sklearn")
    done = run("eventprop_digits.py", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["test_accuracy"] >= 0.93

"""COBA-LIF and COBA-HH in float32 against ten seeds of Brian2: what chaos leaves to compare.

Ours have connectivity and initial values of their own; `oracles/brian2_coba.py` computes the
statistics of both.
"""

import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purebrain as pb
from purebrain.surrogate import Heaviside

ORACLES = Path(__file__).parent / "oracles"
N, N_E, SEEDS = 4000, 3200, 10

# Neurons, weights of E and I, current.
MODELS = {
    "lif": (
        pb.Refractory(pb.LIF(N, v_init=pb.Normal(-55.0, 5.0), spike=Heaviside()), 5.0),
        (0.6, 6.7), 20.0),
    "hh": (pb.TraubMiles(N, v_init=pb.Normal(-65.0, 5.0), spike=Heaviside()), (6.0, 67.0), 0.0),
}  # fmt: skip


def network(neurons, weights, key):
    def projection(view, weight, tau, e_rev, key):
        rule = pb.connect.fixed_prob(80 / N, weight, key=key)
        return pb.Projection(view, "N", rule, pb.Exponential(tau), pb.COBA(e_rev), delay=0.1)

    view, keys = pb.View("N"), jax.random.split(key)
    exc = projection(view[:N_E], weights[0], 5.0, 0.0, keys[0])
    inh = projection(view[N_E:], weights[1], 10.0, -80.0, keys[1])
    return pb.cast(pb.Network({"N": neurons}, [exc, inh]), jnp.float32)


@pytest.fixture(scope="module", params=["lif", pytest.param("hh", marks=pytest.mark.slow)])
def statistics(request):
    """{name: [seeds, ...]} of ours and of Brian2's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ORACLES)
        measure = importlib.import_module("brian2_coba").statistics
    neurons, weights, current = MODELS[request.param]
    rows = []
    for seed in range(SEEDS):
        k_net, k_init = jax.random.split(jax.random.key(seed))
        net = network(neurons, weights, k_net)
        state = net.init(dt=0.1, key=k_init)
        spikes = pb.simulate(net, state, {"N": current}, dt=0.1, duration=1000.0).saved["N"]
        stamp, neuron = pb.measure.spike_times(spikes, 1.0)
        rows.append(measure(neuron, stamp.astype(int)))
    brian2 = json.loads((ORACLES / "brian2_coba.json").read_text())
    ours = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return ours, {name: np.array(brian2[f"{request.param}.{name}"]) for name in ours}


@pytest.mark.parametrize("name", ["rate", "rate_800"])
def test_population_rates_agree(statistics, name):
    """Within 3 standard errors of the difference."""
    ours, theirs = (s[name] for s in statistics)
    error = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / SEEDS)
    assert error < 0.07 * theirs.mean()  # or the next line would say nothing
    assert abs(ours.mean() - theirs.mean()) < 3 * error


@pytest.mark.parametrize("name", ["rate_q", "cv_q", "corr_q"])
def test_distributions_agree(statistics, name):
    """Over neurons or pairs: no further apart than two seeds are (earth mover's distance)."""
    ours, theirs = (s[name] for s in statistics)
    pairs = np.triu_indices(SEEDS, 1)
    between_seeds = abs(theirs[:, None] - theirs[None]).mean(-1)[pairs].mean()
    assert abs(ours.mean(0) - theirs.mean(0)).mean() < between_seeds

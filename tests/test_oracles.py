"""Against NEST and Brian2, from the golden files of `tests/oracles` (see its README).

NEST and Brian2's "exact" integrate V under a synaptic current that decays within the step; our
exponential Euler, like Brian2's, freezes it. For a linear neuron and an exponential synapse the
ratio of the two is one number, `decay_within_a_step`. With weights multiplied by it the schemes are
the same, so that everything else can be compared to the last digits.
"""

import os
import subprocess
from pathlib import Path

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purebrain as pb
from purebrain._core import AbstractSource
from purebrain.neuron import TraubMilesState
from purebrain.surrogate import Heaviside

ORACLES = Path(__file__).parent / "oracles"
DT = 0.1


def golden(name):
    with np.load(ORACLES / f"{name}.npz") as file:
        return dict(file)


def decay_within_a_step(tau_syn, tau_m=20.0, dt=DT):
    """The mean of exp(-t / tau_syn) over a step, as the membrane weighs it."""
    leak, decay = np.expm1(-dt / tau_m), np.expm1(-dt / tau_syn)
    return tau_syn / (tau_m - tau_syn) * (leak - decay) / -leak


class Script(AbstractSource):
    """A source that emits what is written: values[i] in step i."""

    values: jax.Array
    n: int = eqx.field(static=True)

    def __init__(self, values):
        self.values, self.n = jnp.asarray(values, float), np.shape(values)[1]

    def init(self, *, dt, key=None):
        return ()

    def step(self, state, x, tick):
        return (), self.values[tick.i]


def pulse(step, steps):
    """One source's only spike."""
    return Script((np.arange(steps) == step)[:, None])


def iaf(n, t_ref=2.0, v_init=-60.0):
    """NEST's iaf_psc_exp of the files: 200 pF and 20 ms, so that 1 pA is 0.1 mV."""
    lif = pb.LIF(n, v_init=jnp.asarray(v_init), spike=Heaviside())
    return pb.Refractory(lif, jnp.asarray(t_ref))


def spikes_of(spikes):
    """(neuron, stamp step), by stamp."""
    step, neuron = np.nonzero(np.asarray(spikes.to_dense() if hasattr(spikes, "words") else spikes))
    return neuron, step + 1


def trace(tick, state, out):
    """Potentials after the reset, spikes and synaptic variables: all as of the stamp i + 1."""
    return state.populations["N"].neuron.v, out["N"], state.synapses


def run(net, current, steps):
    state = net.init(dt=DT)
    return pb.simulate(net, state, {"N": current}, dt=DT, duration=steps * DT, save=trace).saved


# ---- NEST --------------------------------------------------------------------------------------


def test_nest_f_i_curve():
    """Every spike of 50 currents x 3 refractory times, 1000 ms."""
    data = golden("nest_fi")
    n = data["i_e"].size
    neuron = iaf(3 * n, np.repeat(data["t_ref"], n))
    current = jnp.asarray(0.1 * np.tile(data["i_e"], 3))
    saved = pb.simulate(neuron, neuron.init(dt=DT), current, dt=DT, duration=1000.0).saved
    np.testing.assert_array_equal(saved.sum(0).reshape(3, n), data["count"])
    neuron, stamp = spikes_of(saved)
    np.testing.assert_array_equal(stamp[np.argsort(neuron, kind="stable")], data["spike_step"])


def test_nest_iaf_psc_exp_with_injected_spikes():
    """Three trains of either sign into 8 neurons: every spike, I_syn, and V within 1e-9 mV."""
    data = golden("nest_iaf_psc_exp")
    populations, projections = {"N": iaf(8, data["t_ref"])}, []
    scales = []
    for name, sign, tau in (("E", 1, 5.0), ("I", -1, 10.0)):
        weight, values = np.maximum(sign * data["in_weight"], 0), np.zeros((5000, 3))
        # A generator's spike of stamp s is emitted in step s - 1.
        np.add.at(values, (data["in_stamp"] - 1, data["in_train"]), sign * weight)
        populations[name] = Script(values)
        scales.append(0.1 * decay_within_a_step(tau))
        to = pb.connect.from_coo(data["train"], np.arange(8), scales[-1])
        projections.append(
            pb.Projection(name, "N", to, pb.Exponential(tau), pb.Current(), delay=DT)
        )
    v, spikes, synapses = run(
        pb.Network(populations, projections), jnp.asarray(0.1 * data["i_e"]), 5000
    )
    neuron, stamp = spikes_of(spikes)
    order = np.lexsort((data["spike_neuron"], data["spike_step"]))
    np.testing.assert_array_equal(stamp, data["spike_step"][order])
    np.testing.assert_array_equal(neuron, data["spike_neuron"][order])
    for steps, right in (("fine_step", "fine_v"), ("step", "v")):
        ours = np.asarray(v)[data[steps] - 1].T
        np.testing.assert_allclose(ours, data[right], rtol=0, atol=1e-11)
    first = [np.flatnonzero(data["train"] == k)[0] for k in range(3)]
    for g, scale, right in zip(synapses, scales, ("i_ex", "i_in"), strict=True):
        ours = np.asarray(g)[data["step"] - 1][:, first].T / scale
        np.testing.assert_allclose(ours, data[right], rtol=1e-12, atol=1e-12)


def fan(delays, weight, tau):
    """From one neuron to as many as there are delays (in steps)."""
    n = len(delays)
    to = pb.connect.from_coo(np.zeros(n, int), np.arange(n), weight)(1, n)
    return pb.Projection("P", "N", to, pb.Exponential(tau), pb.Current(), delay=DT * delays)


@pytest.mark.parametrize("source", ["gen", "parrot"])
def test_nest_delays(source):
    """I_syn and V of 25 targets with delays of 1 to 25 steps, at each stamp around the arrival."""
    data = golden("nest_delays")
    scale = 0.1 * decay_within_a_step(5.0)
    stamp = int(data[f"{source}_stamp"])
    delays, columns = data["delays"], data["times"] - 1
    populations = {"P": pulse(stamp - 1, 100), "N": iaf(25)}
    path = fan(delays, scale * float(data["weight"]), 5.0)
    v, _, (g,) = run(pb.Network(populations, [path]), 0.0, 100)
    np.testing.assert_allclose(
        np.asarray(g)[columns].T / scale, data[f"{source}_i_syn"], rtol=1e-12
    )
    np.testing.assert_allclose(np.asarray(v)[columns].T, data[f"{source}_v"], rtol=0, atol=1e-12)
    # The table in the documentation: emitted in step n, seen after step n + d, V moves in the next.
    n = stamp - 1
    np.testing.assert_array_equal((np.asarray(g) > 0).argmax(0), n + delays)
    np.testing.assert_array_equal((np.asarray(v) != -60).argmax(0), n + delays + 1)


def test_frozen_currents_cost_half_a_step():
    """Without the factor a PSP is too large by dt / (2 tau_syn), 1% at 0.1 ms: of first order."""
    steps, errors = 0.1 / 2.0 ** np.arange(4), []
    for dt in steps.tolist():
        path = fan(np.ones(1), 1.0, 5.0)
        net = pb.Network({"P": pulse(0, 2000), "N": iaf(1)}, [path])
        save = lambda tick, state, out: state.populations["N"].neuron.v  # noqa: E731
        state, t = net.init(dt=dt), 10.0
        v = pb.simulate(net, state, {}, dt=dt, duration=t + DT + dt, save=save).saved[-1, 0]
        psp = 5.0 / (20.0 - 5.0) * (np.exp(-t / 20.0) - np.exp(-t / 5.0))
        errors.append((v + 60.0) / psp - 1)
    assert abs(np.polyfit(np.log(steps), np.log(errors), 1)[0] - 1) < 0.05
    np.testing.assert_allclose(errors, steps / 10, rtol=0.02)


# ---- NEST and Brian2 ---------------------------------------------------------------------------


def recurrent(data, scheme, split):
    """The network of 100: one projection a sign with delays, or one for each delay too."""
    projections = []
    for sign, tau in ((1, 5.0), (-1, 10.0)):
        scale = 0.1 * (decay_within_a_step(tau) if scheme == "exact" else 1.0)
        mine = data["weight"] * sign > 0
        groups = [mine & (data["delay"] == d) for d in range(1, 16)] if split else [mine]
        for group in groups:
            pre, post, weight, delay = (data[k][group] for k in ("pre", "post", "weight", "delay"))
            to = pb.connect.from_coo(pre, post, scale * weight)(100, 100)
            delay = float(DT * delay[0]) if split else DT * delay
            syn = pb.Exponential(tau)
            projections.append(pb.Projection("N", "N", to, syn, pb.Current(), delay=delay))
    return pb.Network({"N": iaf(100, v_init=data["v0"])}, projections)


@pytest.mark.parametrize("scheme", ["exact", "euler"])
@pytest.mark.parametrize("form", ["delay a synapse", "delay a projection", "merged"])
def test_recurrent_network(scheme, form):
    """200 ms: every spike of NEST and of Brian2 "exact"; and of Brian2's exponential Euler."""
    data = golden("network_exact")
    prefix = "" if scheme == "exact" else "euler_"
    net = recurrent(data, scheme, split=form != "delay a synapse")
    if form == "merged":
        net = pb.merge(net)
        assert len(net.pathways) == 2
    v, spikes, _ = run(net, jnp.asarray(0.1 * data["i_e"]), 2000)
    neuron, stamp = spikes_of(spikes)
    np.testing.assert_array_equal(stamp, data[f"{prefix}step"])
    np.testing.assert_array_equal(neuron, data[f"{prefix}neuron"])
    right = data[f"{prefix}v"]
    np.testing.assert_allclose(np.asarray(v)[:500, :4].T, right, rtol=0, atol=1e-10)


# ---- Brian2 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["gen", "neuron"])
def test_brian2_delays(source):
    """The offsets: records with `when="start"` are one step later than with `when="end"`."""
    data = golden("brian2_delays")
    scale = decay_within_a_step(5.0)
    delays, step = data["delays"][1:], int(data[f"{source}_step"])  # ours are at least one step
    lif = pb.LIF(25, v_rest=0.0, v_reset=0.0, v_th=1.0, spike=Heaviside())
    populations = {"P": pulse(step, 100), "N": pb.Refractory(lif, 0.0)}
    v, _, (g,) = run(pb.Network(populations, [fan(delays, scale, 5.0)]), 0.0, 100)
    v, g = np.asarray(v).T, np.asarray(g).T / scale
    for when, late in (("start", 1), ("end", 0)):
        columns = data["times"] - late
        for name, ours in (("g", g), ("v", v)):
            right = data[f"{source}_{name}_{when}"][1:]
            np.testing.assert_allclose(ours[:, columns], right, rtol=1e-11, atol=1e-15)


def hh(n, rest=None):
    """Traub-Miles neurons at -65 mV, gates shut or as given."""
    neuron = pb.TraubMiles(n, spike=Heaviside())
    gates = [jnp.full(n, rest[f"rest_{x}"] if rest else 0.0) for x in "mhn"]
    return neuron, TraubMilesState(jnp.full(n, -65.0), *gates)


def hh_trace(tick, state, out):
    return state, out


def test_brian2_hodgkin_huxley_step_for_step():
    """dt 0.1, 400 pA: V and gates, before the first spike and after seven."""
    data = golden("brian2_hh")
    neuron, state = hh(1)
    run = pb.simulate(neuron, state, float(data["same_i"]), dt=DT, duration=100.0, save=hh_trace)
    states, spikes = run.saved
    np.testing.assert_array_equal(spikes_of(spikes)[1], data["same_spikes"])
    for name in "vmhn":
        ours = np.asarray(getattr(states, name))[:300, 0]
        np.testing.assert_allclose(ours, data[f"same_{name}"], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "dt", "gates"), [
    ("zero", 0.01, "shut"), ("rest", 0.01, "rest"), ("fine", 0.001, "shut"),
])  # fmt: skip
def test_brian2_hodgkin_huxley(name, dt, gates):
    """Five currents: V within 1e-8 mV before and after spikes, spike steps of 100 ms."""
    data = golden("brian2_hh")
    neuron, state = hh(5, data if gates == "rest" else None)
    n_steps, every = round(60 / dt), round(DT / dt)

    def potentials(tick, state, out):
        return state.v, out

    current = jnp.asarray(data["i"])
    run = pb.simulate(neuron, state, current, dt=dt, duration=100.0, save=potentials)
    v, spikes = run.saved
    right = data["v" if name == "zero" else f"v_{name}"]
    v = np.asarray(v)[every - 1 : n_steps : every].T
    np.testing.assert_allclose(v, right, rtol=0, atol=1e-8)
    index, stamp = spikes_of(spikes)
    order = np.lexsort((data[f"spikes_{name}_neuron"], data[f"spikes_{name}_ms"]))
    np.testing.assert_array_equal(index, data[f"spikes_{name}_neuron"][order])
    np.testing.assert_array_equal(stamp, np.rint(data[f"spikes_{name}_ms"][order] / dt))
    if name == "fine":  # Another scheme, rk4, at the same dt.
        first = [np.flatnonzero(index == k)[0] for k in np.unique(index)]
        others = data["spikes_rk4_neuron"].tolist()
        for k in first:
            other = data["spikes_rk4_ms"][others.index(index[k])]
            assert abs(stamp[k] * dt - other) < 0.02
            quiet = data["times"] * DT < other - 1.5
            theirs = data["v_rk4"][index[k], quiet]
            assert abs(v[index[k], quiet] - theirs).max() < 0.05


def test_brian2_hodgkin_huxley_f_i_curve():
    """Counts of 50 currents in 1000 ms, the same scheme: all equal; the last spike too."""
    data = golden("brian2_hh_fi")
    neuron, state = hh(50, golden("brian2_hh"))
    current = jnp.asarray(data["fi_i"])
    spikes = np.asarray(pb.simulate(neuron, state, current, dt=0.01, duration=1000.0).saved)
    np.testing.assert_array_equal(spikes.sum(0), data["fi_count"])
    last = np.where(spikes.any(0), len(spikes) - spikes[::-1].argmax(0), 0)
    np.testing.assert_allclose(0.01 * last, data["fi_last"], rtol=1e-12)


def upward_crossings(t, v, v_th=-20.0):
    """For each neuron, the times at which v [time, neuron] rises through v_th, by the secant."""
    step, neuron = np.nonzero((v[1:] >= v_th) & (v[:-1] < v_th))
    before, after = v[step, neuron], v[step + 1, neuron]
    times = t[step] + (t[step + 1] - t[step]) * (v_th - before) / (after - before)
    return [times[neuron == k] for k in range(v.shape[1])]


@pytest.mark.parametrize(
    ("solver", "all_spikes"), [(pb.solvers.ExpEuler(), False), (dfx.Heun(), True)]
)
def test_hodgkin_huxley_against_a_tight_reference(solver, all_spikes):
    """diffrax's Dopri8 at 1e-10. At dt 0.001: spikes within 0.02 ms, V away from them 0.01 mV.

    Exponential Euler, of order 1, does so up to the first spike; then its phase drifts, by 9 us an
    interval.
    """
    current, dt = jnp.asarray([50.0, 100.0, 300.0, 600.0, 1000.0]), 0.001
    neuron = pb.TraubMiles(5, spike=Heaviside(), solver=solver)
    start = neuron.init(dt=dt)
    times = np.arange(1, 1001) * 0.1
    exact = dfx.diffeqsolve(
        dfx.ODETerm(lambda t, y, args: neuron.vf(t, y, lambda v: current)),
        dfx.Dopri8(),
        0.0,
        100.0,
        0.01,
        start,
        stepsize_controller=dfx.PIDController(rtol=1e-10, atol=1e-10),
        saveat=dfx.SaveAt(ts=times, dense=True),
        max_steps=100_000,
    )
    fine = np.arange(100_001) * dt
    right = upward_crossings(fine, np.asarray(jax.vmap(exact.evaluate)(fine).v))

    def potentials(tick, state, out):
        return state.v, out

    v, spikes = pb.simulate(neuron, start, current, dt=dt, duration=100.0, save=potentials).saved
    error = np.abs(np.asarray(v)[99::100] - np.asarray(exact.ys.v))
    for k, spike_times in enumerate(right):
        ours = (np.flatnonzero(spikes[:, k]) + 1) * dt
        assert len(ours) == len(spike_times) > 2
        quiet = times < spike_times[0] - 1.5
        if all_spikes:
            near = np.abs(times[:, None] - spike_times - 3.25) < 4.75  # from 1.5 before to 8 after
            quiet = ~near.any(1)
            assert np.abs(ours - spike_times).max() < 0.002
        assert abs(ours[0] - spike_times[0]) < 0.02
        assert error[quiet, k].max() < 0.01


def coba(model):
    """Seed 0 of `oracles/brian2_coba.py`, which says how it was drawn."""
    n, n_e, rng = 4000, 3200, np.random.default_rng(0)
    v0 = 5 * rng.standard_normal(n) + (-65 if model == "hh" else -55)
    pre, post = np.nonzero(rng.random((n, n)) < 80 / n)
    start = dict(v_init=jnp.asarray(v0), spike=Heaviside())
    if model == "hh":
        neuron, w_e, w_i = pb.TraubMiles(n, **start), 6.0, 67.0
    else:
        tau_ref = {"lif": 5.0, "lif_49": 4.9}[model]
        neuron, w_e, w_i = pb.Refractory(pb.LIF(n, **start), tau_ref), 0.6, 6.7
    rest = pb.View("N")
    projections = [
        pb.Projection(view, "N", pb.connect.from_coo(pre[mine] - view.lo, post[mine], w), *how, DT)
        for view, mine, w, how in (
            (rest[:n_e], pre < n_e, w_e, (pb.Exponential(5.0), pb.COBA(0.0))),
            (rest[n_e:], pre >= n_e, w_i, (pb.Exponential(10.0), pb.COBA(-80.0))),
        )
    ]
    return pb.Network({"N": neuron}, projections), 0.0 if model == "hh" else 20.0


@pytest.mark.parametrize("model", ["lif", "lif_49", "hh"])
def test_brian2_coba_network(model):
    """4000 neurons, the first 50 ms: about 5000 spikes, all the same. (Then chaos parts them.)"""
    data = golden("brian2_coba_spikes")
    net, current = coba(model)
    state = net.init(dt=DT)
    spikes = pb.simulate(net, state, {"N": current}, dt=DT, duration=50.0).saved["N"]
    neuron, stamp = spikes_of(spikes)
    order = np.lexsort((data[f"{model}_neuron"], data[f"{model}_step"]))
    np.testing.assert_array_equal(stamp, data[f"{model}_step"][order])
    np.testing.assert_array_equal(neuron, data[f"{model}_neuron"][order])


# ---- again, live -------------------------------------------------------------------------------

ORACLE_PYTHON = os.environ.get("PUREBRAIN_ORACLE_PYTHON")


@pytest.mark.slow
@pytest.mark.skipif(
    not ORACLE_PYTHON, reason="PUREBRAIN_ORACLE_PYTHON: no interpreter with NEST and Brian2 named"
)
@pytest.mark.parametrize(
    "script",
    [
        "nest_delays",
        "nest_iaf_psc_exp",
        "nest_iaf_psc_alpha",
        "brian2_delays",
        "brian2_hh",
        "network_exact",
    ],
)
def test_oracles_say_it_again(script, tmp_path):
    """The scripts run, and give the committed numbers (their own assertions hold)."""
    command = [ORACLE_PYTHON, ORACLES / f"{script}.py", "--out", tmp_path]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=600)
    made = list(tmp_path.glob("*.npz"))
    assert made
    for path in made:
        with np.load(path) as new:
            for name, right in golden(path.stem).items():
                np.testing.assert_allclose(new[name], right, rtol=1e-9, atol=1e-9, err_msg=name)

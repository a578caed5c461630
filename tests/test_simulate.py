"""`simulate` is a pure function: splits, recorders, jit, vmap and grad; and what it compiles to."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import purebrain as pb

from .helpers_net import DT, Emitter, assert_identical, coba, dense, projection

N, N_STEPS = 20, 50
KEY = jr.key(7)
NET = coba(N)
INPUTS = {"N": jnp.linspace(5.0, 25.0, N)}


def weights(network):
    return [path.inputs[0].comm.weight for path in network.pathways]


def everything(tick, state, out):
    return tick.t, state, out


def potential(tick, state, out):
    return state.populations["N"].neuron.v, out["N"]


def simulate(net=NET, state=None, inputs=INPUTS, n_steps=N_STEPS, **kwargs):
    state = net.init(dt=DT, key=jr.key(1)) if state is None else state
    kwargs = dict(key=KEY, save=potential) | kwargs
    return pb.simulate(net, state, inputs, dt=DT, duration=n_steps * DT, **kwargs)


# ---- one run, however it is cut or watched -------------------------------------------------------


@settings(max_examples=3)
@given(st.integers(1, N_STEPS - 1))
def test_a_split_run_is_one_run_bit_for_bit(k):
    neurons = {"N": NET.populations["N"], "P": pb.PoissonSource(9, 1000.0)}
    rule = pb.connect.fixed_prob(0.5, 0.3, key=KEY)
    net = pb.Network(neurons, [projection("P", "N", rule, drive=pb.COBA(0.0), delay=0.3)])
    whole = simulate(net, save=everything)
    assert whole.saved[2]["P"].any() and whole.saved[2]["N"].any()
    first = simulate(net, n_steps=k, save=everything)
    second = simulate(net, first.state, n_steps=N_STEPS - k, i0=first.i, save=everything)
    assert_identical(second.state, whole.state)
    assert_identical((first.i, second.i), (jnp.int32(k), jnp.int32(N_STEPS)))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first.saved, second.saved)
    assert_identical(both, whole.saved)


def test_no_steps_and_no_recording():
    for adjoint in (pb.Direct(), pb.Checkpointed()):
        run = simulate(n_steps=0, adjoint=adjoint)
        assert_identical(run.state, NET.init(dt=DT, key=jr.key(1)))
        assert run.saved[0].shape == (0, N)
    silent = simulate(save=lambda tick, state, out: None)
    assert_identical(silent.state, simulate(save=everything).state)
    assert silent.saved is None and silent.dt == DT


def test_steps_by_hand_are_a_run():
    # The recorder sees the state after the step, and the time at which the step started.
    state, step = NET.init(dt=DT, key=jr.key(1)), eqx.filter_jit(NET.step)
    run = simulate(save=everything)
    np.testing.assert_allclose(run.saved[0], np.arange(N_STEPS) * DT)
    for i in range(N_STEPS):
        state, out = step(state, INPUTS, pb.Tick(jnp.int32(i), DT, jr.fold_in(KEY, i)))
        saved = jax.tree.map(lambda a, i=i: a[i], run.saved[1:])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-11), saved, (state, out))


ONE = pb.LIF(3, v_init=jnp.array([-60.0, -55.0, -52.0]))


def simulate_one(inputs, n_steps=N_STEPS, state=None, **kwargs):
    state = ONE.init(dt=DT) if state is None else state
    return pb.simulate(ONE, state, inputs, dt=DT, duration=n_steps * DT, **kwargs)


def test_inputs_as_numbers_arrays_functions_and_series():
    one = simulate_one(80.0)
    assert one.saved.any()
    for inputs in (80, np.full(3, 80.0), lambda tick: 80.0, pb.Series(np.full(60, 80.0))):
        assert_identical(simulate_one(inputs), one)
    ramp = pb.Series(jnp.arange(60.0))
    whole = simulate_one(ramp)
    assert_identical(simulate_one(lambda tick: tick.i.astype(float)), whole)
    first = simulate_one(ramp, 20)
    assert_identical(simulate_one(ramp, 30, first.state, i0=first.i).state, whole.state)


def test_a_series_is_not_read_past_its_end():
    series = pb.Series(jnp.ones(60))
    start_at = eqx.filter_jit(lambda i0: simulate_one(series, i0=i0).i)
    assert start_at(10) == 60
    with pytest.raises(RuntimeError, match=r"inputs: 60 steps, but the run of 50"):
        start_at(11).block_until_ready()
    with pytest.raises(ValueError, match=r"inputs: 60 steps, but .* goes on to step 61"):
        simulate_one(series, i0=11)


def test_progress_shows_a_bar_and_changes_nothing(capfd):
    plain = simulate()
    for _ in range(2):
        assert_identical(simulate(progress=True), plain)
        jax.effects_barrier()
        assert f"{N_STEPS}/{N_STEPS}" in capfd.readouterr().err


# ---- transforms ----------------------------------------------------------------------------------


def with_parameters(tau, weight, v_th):
    where = lambda n: [n.populations["N"].neuron.tau, weights(n)[0], n.populations["N"].neuron.v_th]  # noqa: E731
    return eqx.tree_at(where, NET, [tau, weight, v_th])


def assert_close(one, other, rtol):
    assert dense(one[1]).any()
    np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_allclose(one[0], other[0], rtol)


def test_vmap_over_parameters_is_a_loop():
    args = jnp.array([10.0, 15.0, 20.0]), jnp.array([0.1, 0.9, 0.5]), jnp.array([-48.0, -50, -52])
    saved = jax.vmap(lambda *args: simulate(with_parameters(*args)).saved)(*args)
    for k in range(3):
        one = simulate(with_parameters(*(a[k] for a in args))).saved
        assert_close(one, jax.tree.map(lambda a, k=k: a[k], saved), 1e-12)


def test_a_sweep_batches_one_leaf_alone():
    tau = lambda n: n.populations["N"].neuron.tau  # noqa: E731
    taus = jnp.array([10.0, 20.0])
    axes = pb.where_spec(NET, tau, value=0, other=None)
    assert jax.tree.leaves(axes) == [0]
    swept = eqx.tree_at(tau, NET, taus)
    saved = eqx.filter_vmap(lambda n: simulate(n).saved, in_axes=(axes,))(swept)
    for k in range(2):
        one = simulate(eqx.tree_at(tau, NET, taus[k])).saved
        assert_close(one, jax.tree.map(lambda a, k=k: a[k], saved), 1e-12)


def test_jit_around_it_changes_nothing():
    one = simulate().saved
    jitted = eqx.filter_jit(lambda net, inputs: simulate(net, inputs=inputs).saved)
    assert_close(one, jitted(NET, INPUTS), 1e-12)
    assert_close(one, jax.jit(lambda x: simulate(inputs={"N": x}).saved)(INPUTS["N"]), 1e-12)


# ---- gradients -----------------------------------------------------------------------------------


def test_the_gradient_of_a_smooth_functional():
    rng = np.random.default_rng(0)
    rule = pb.connect.from_coo(*rng.integers(5, size=(2, 20)), rng.random(20))
    paths = [
        projection("S", "N", rule, drive=pb.COBA(0.0), delay=0.2),
        projection("S", "N", rule, syn=pb.AtPre(pb.Exponential(3.0)), delay=0.3),
    ]
    at = jnp.array([0, 3, 5, 9, 20], jnp.int32)
    net = pb.Network({"S": Emitter(at), "N": pb.LIF(5, v_th=1e3)}, paths)
    where = lambda n: [  # noqa: E731
        *weights(n), n.populations["N"].tau, *(p.syn.tau for p in n.pathways),
        n.pathways[0].drive.e_rev,
    ]  # fmt: skip

    @jax.jit
    def loss(parameters, current):
        model = eqx.tree_at(where, net, parameters)
        save = lambda tick, state, out: (state.populations["N"].v + 60) ** 2  # noqa: E731
        state = model.init(dt=DT)
        return pb.simulate(
            model, state, {"N": current}, dt=DT, duration=4.0, save=save
        ).saved.mean()

    check_grads(loss, (where(net), 5.0), order=1, rtol=1e-6, eps=1e-4)


def test_checkpoints_change_no_gradient():
    def gradient(adjoint):
        def loss(w):
            v, s = simulate(eqx.tree_at(weights, NET, w), adjoint=adjoint).saved
            return v.mean() + s.mean()

        return jax.jit(jax.value_and_grad(loss))([0.3 * w for w in weights(NET)])

    value, grads = gradient(pb.Direct())
    for checkpoints in (None, 3):
        other, other_grads = gradient(pb.Checkpointed(checkpoints))
        np.testing.assert_allclose(value, other, 1e-12)
        for a, b in zip(grads, other_grads, strict=True):
            assert np.any(a != 0)
            np.testing.assert_allclose(a, b, 1e-12)


@pytest.mark.parametrize(("current", "rate"), [(0.0, 0), (1e6, 1)])
def test_gradients_of_silent_and_of_always_firing_networks_are_finite(current, rate):
    neurons = pb.LIF(N, v_init=jnp.linspace(-60.0, -55.0, N))
    net = pb.Network({"N": neurons}, NET.pathways)

    @jax.jit
    def loss(w):
        save = lambda tick, s, out: (s.populations["N"].v.mean(), out["N"])  # noqa: E731
        model = eqx.tree_at(weights, net, w)
        v, s = simulate(model, net.init(dt=DT), {"N": current}, save=save).saved
        return v.mean() + s.mean(), s

    grads, s = jax.grad(loss, has_aux=True)(weights(net))
    assert s.mean() == rate
    assert all(np.isfinite(g) for g in grads)


def test_the_reset_is_detached_by_default():
    # Then a potential depends on the current since the last spike, and on nothing before.
    def end(current, neuron):
        run = pb.simulate(neuron, neuron.init(dt=DT), current, dt=DT, duration=30.0)
        return run.state.v[0], run.saved

    slope, s = jax.grad(end, has_aux=True)(20.0, pb.LIF(1))
    assert s.sum() == 2
    since = s.size - 1 - np.flatnonzero(s)[-1]
    np.testing.assert_allclose(slope, 1 - np.exp(-since * DT / 20.0), 1e-12)
    attached, _ = jax.grad(end, has_aux=True)(
        20.0, pb.LIF(1, reset_rule=pb.HardReset(detach=False))
    )
    assert abs(attached / slope - 1) > 0.05


def test_the_gradient_of_a_rate_has_the_sign_of_a_secant():
    net = coba(60, spike=pb.surrogate.SuperSpike(100.0), weights=(0.05, 0.5))
    state = net.init(dt=DT, key=jr.key(1))

    @jax.jit
    def rate(w):
        model = eqx.tree_at(weights, net, w)
        save = lambda tick, s, out: out["N"].mean()  # noqa: E731
        return pb.simulate(model, state, {"N": 20.0}, dt=DT, duration=40.0, save=save).saved.sum()

    w = weights(net)
    for k, slope in enumerate(jax.jit(jax.grad(rate))(w)):
        near = [[a * (1 + f * (j == k)) for j, a in enumerate(w)] for f in (0.3, -0.3)]
        secant = (rate(near[0]) - rate(near[1])) / (0.6 * w[k])
        assert np.sign(secant) == (1, -1)[k]
        assert 0.1 < slope / secant < 10


# ---- not finite ----------------------------------------------------------------------------------


def poisoned(tick):
    return {"N": jnp.where(tick.i == 7, jnp.arange(N).at[3].set(0) / jnp.arange(N), 1.0)}


def test_a_state_that_is_not_finite_is_reported():
    assert_identical(simulate(check_finite=True), simulate())
    save = lambda tick, state, out: potential(tick, state, out)[0]  # noqa: E731
    assert np.isnan(simulate(inputs=poisoned, save=save).saved[6:8, 0]).tolist() == [False, True]
    message = r"not finite: state\.populations\['N'\]\.neuron\.v after step 7 \(t = 0\.8 ms\)"
    with pytest.raises(FloatingPointError, match=message):
        simulate(inputs=poisoned, check_finite=True)
    start = simulate(n_steps=5)
    with pytest.raises(FloatingPointError, match="after step 7"):
        simulate(state=start.state, inputs=poisoned, n_steps=5, i0=start.i, check_finite=True)


def test_the_variable_that_was_first_is_named():
    # Two spikes at a target overflow its synapse; its potential is infinite one step later.
    net = eqx.tree_at(weights, NET, [jnp.asarray(1.7e308), jnp.asarray(0.0)])
    with pytest.raises(FloatingPointError, match=r"not finite: state\.synapses\[0\] after step"):
        simulate(net, check_finite=True)


def test_a_state_that_is_not_finite_is_reported_under_jit():
    run = eqx.filter_jit(lambda x: simulate(inputs={"N": x}, check_finite=True).state)
    assert_identical(run(INPUTS["N"]), simulate().state)
    with pytest.raises(RuntimeError, match=r"not finite: state\.populations\['N'\]\.neuron\.v"):
        jax.block_until_ready(run(INPUTS["N"].at[3].set(jnp.nan)))


def test_a_model_without_floats_is_finite():
    net = pb.Network({"S": Emitter(jnp.zeros(3, jnp.int32))})
    run = lambda: pb.simulate(net, net.init(dt=DT), {}, dt=DT, duration=1.0, check_finite=True).i  # noqa: E731
    assert run() == eqx.filter_jit(run)() == 10


# ---- compilation ---------------------------------------------------------------------------------


def test_runs_of_one_structure_compile_once():
    traces = []

    def save(tick, state, out):
        traces.append(tick)
        return out["N"].sum()

    simulate(save=save, inputs={"N": 20.0})
    once = len(traces)
    other = coba(N, weights=(0.1, 1.0))
    for k, net in enumerate((NET, other)):
        state = net.init(dt=DT, key=jr.key(k))
        simulate(net, state, {"N": 3.0 + k}, key=jr.key(k), i0=k, save=save)
    assert len(traces) == once
    simulate(save=save, inputs={"N": 20.0}, n_steps=N_STEPS + 1)
    assert len(traces) == 2 * once


def instructions():
    """Counts in the compiled steps of COBA-LIF and COBA-HH: to run in float32, so in a process of
    its own."""
    from purebrain._simulate import _run, save_output

    n, counts = 4000, {}
    neurons = {
        "lif": pb.Refractory(pb.LIF(n, v_init=pb.Normal(-55.0, 5.0)), tau_ref=5.0),
        "hh": pb.TraubMiles(n),
    }
    for name, neuron in neurons.items():
        rules = [pb.connect.fixed_prob(80 / n, w, key=jr.key(0)) for w in (0.6, 6.7)]
        views = pb.View("N")[:3200], pb.View("N")[3200:]
        paths = [
            projection(v, "N", r, drive=pb.COBA(e), delay=0.5)
            for v, r, e in zip(views, rules, (0.0, -80.0), strict=True)
        ]
        net = pb.inference_mode(pb.Network({"N": neuron}, paths))
        state = net.init(dt=DT, key=jr.key(1))
        args = net, state, {"N": jnp.asarray(20.0)}, DT, 1000, jnp.int32(0), None
        lowered = _run.lower(*args, save_output, pb.Direct(), None, False)
        text = lowered.compile().compiled.as_text()
        loop = text[: text.index("\nENTRY ")]  # all but what runs once
        counts[name] = {
            "instructions": len(re.findall(r"^\s+(?:ROOT )?%\S+ = ", text, re.M)),
            "copies": len(re.findall(r"= f32\[4000\]\S* copy\(", loop)),
            "exponentials": len(re.findall(r"= f32\[4000\]\S* exponential\(", loop)),
        }
    print(json.dumps(counts))


def test_the_compiled_step_stays_small():
    code = "from tests.test_simulate import instructions; instructions()"
    env = {k: v for k, v in os.environ.items() if not k.startswith("XLA_FLAGS")}
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[1],
        env=env | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    counts = json.loads(out.stdout)
    # Measured with JAX 0.10.2: 763 and 1,140 instructions; the ceilings are 15% above. One more
    # copy of an array of neurons, or an exponential computed twice, shows in the time of a step.
    lif, hh = counts["lif"], counts["hh"]
    assert lif["copies"] == 0 and lif["exponentials"] == 1 and lif["instructions"] <= 880
    assert hh["copies"] <= 4 and hh["exponentials"] <= 10 and hh["instructions"] <= 1310

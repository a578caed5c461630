"""The generalised integrate-and-fire neuron, against closed forms, SciPy and its paper."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import purebrain as pb

FULL = dict(
    tau=20.0, tau_1=5.0, tau_2=80.0, a=0.005, b=0.01, r_1=0.3, r_2=1.0, a_1=5.0, a_2=-3.0,
    v_rest=-70.0, v_inf=-50.0, v_reset=-70.0, v_th_reset=-60.0, i_1_init=2.0, i_2_init=-1.0,
)  # fmt: skip


def states(neuron, current, dt, duration):
    start = neuron.init(dt=dt)
    keep = lambda tick, state, out: (state, out)  # noqa: E731
    return pb.simulate(neuron, start, current, dt=dt, duration=duration, save=keep).saved


def by_hand(p, current, duration):
    """States at whole ms and spike times of one neuron, by SciPy with an event at the threshold."""

    def vf(t, y):
        v, v_th, i_1, i_2 = y
        return (
            (p["v_rest"] - v + i_1 + i_2 + current) / p["tau"],
            p["a"] * (v - p["v_rest"]) - p["b"] * (v_th - p["v_inf"]),
            -i_1 / p["tau_1"],
            -i_2 / p["tau_2"],
        )

    def crossing(t, y):
        return y[0] - y[1]

    crossing.terminal, crossing.direction = True, 1
    t, y, times = 0.0, np.array([p["v_rest"], p["v_inf"], p["i_1_init"], p["i_2_init"]]), []
    at, rows = np.arange(1.0, duration + 0.5), []
    while t < duration:
        left = at[at > t]
        sol = solve_ivp(
            vf, (t, duration), y, "DOP853", left, events=crossing, rtol=1e-10, atol=1e-10
        )
        rows.extend(sol.y.T)
        if not sol.t_events[0].size:
            break
        t, (_, v_th, i_1, i_2) = sol.t_events[0][0], sol.y_events[0][0]
        times.append(t)
        y = np.array(
            [
                p["v_reset"],
                max(v_th, p["v_th_reset"]),
                p["r_1"] * i_1 + p["a_1"],
                p["r_2"] * i_2 + p["a_2"],
            ]
        )
    return np.array(rows), np.array(times)


@pytest.mark.parametrize("current", [12.0, 35.0])
def test_all_four_variables_and_spikes_follow_scipy(current):
    expected, times = by_hand(FULL, current, 150.0)
    assert (len(times) == 0) == (current < 20)
    gaps = []
    for dt in (0.02, 0.01):
        state, s = states(pb.GIF(1, **FULL, solver=dfx.Heun()), current, dt, 150.0)
        every = round(1 / dt)
        got = np.stack([state.v, state.v_th, state.i_1, state.i_2], -1)[every - 1 :: every, 0]
        found = (np.flatnonzero(s[:, 0]) + 1) * dt
        assert len(found) == len(times)
        if len(times):
            gaps.append(np.abs(found - times).max())
            quiet = np.abs(at_ms(len(got))[:, None] - times).min(1) > 1.0
            got, expected_ = got[quiet], expected[quiet]
        else:
            expected_ = expected
        # Spikes are stamped at the end of their step, so trajectories are late by up to dt each.
        tolerance = 1e-5 if not len(times) else 6 * dt * max(1, len(times))
        np.testing.assert_allclose(got, expected_, atol=tolerance)
    if gaps:
        assert gaps[1] < 0.7 * gaps[0] and gaps[1] < 0.01 * (1 + len(times))


def at_ms(n):
    return np.arange(1.0, n + 0.5)


def test_below_threshold_it_is_its_closed_form():
    """Constant threshold: v is a sum of three exponentials, exact for a Runge-Kutta of order 8."""
    neuron = pb.GIF(
        1, tau=20.0, tau_1=5.0, tau_2=80.0, v_inf=0.0, i_1_init=6.0, i_2_init=-3.0,
        solver=dfx.Dopri8(),
    )  # fmt: skip
    state, s = states(neuron, 4.0, 0.5, 100.0)
    assert not s.any()
    t = 0.5 * np.arange(1, 201)
    v = -70.0 + 4.0 * (1 - np.exp(-t / 20))
    for i, tau in ((6.0, 5.0), (-3.0, 80.0)):
        v += i * tau / (tau - 20) * (np.exp(-t / tau) - np.exp(-t / 20))
    np.testing.assert_allclose(state.v[:, 0], v, atol=1e-9)
    np.testing.assert_allclose(state.i_2[:, 0], -3.0 * np.exp(-t / 80), rtol=1e-12)


def test_without_internal_currents_it_is_lif():
    gif = pb.GIF(3, v_rest=-65.0, v_inf=-50.0, v_reset=-60.0)
    lif = pb.LIF(3, v_rest=-65.0, v_th=-50.0, v_reset=-60.0)
    current = jnp.array([10.0, 20.0, 30.0])
    (a, s), (b, r) = (states(neuron, current, 0.1, 200.0) for neuron in (gif, lif))
    assert s.sum() > 20
    np.testing.assert_array_equal(s, r)
    np.testing.assert_allclose(a.v, b.v, rtol=1e-12)


@pytest.mark.parametrize("detach", [True, False])
def test_jumps_at_spikes(detach):
    neuron = pb.GIF(
        2, r_1=0.5, a_1=2.0, r_2=1.0, a_2=-3.0, v_th_reset=-55.0,
        reset_rule=pb.SoftReset(detach=detach),
    )  # fmt: skip
    start = neuron.init(dt=1.0)
    before = type(start)(*(jnp.full(2, x) for x in (-58.0, -59.0, 4.0, -1.0)))
    after = neuron.reset(before, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(after.v, [-58.0 - 11.0, -58.0])  # v - (v_th - v_reset)
    np.testing.assert_allclose(after.v_th, [-55.0, -59.0])
    np.testing.assert_allclose(after.i_1, [4.0, 4.0])
    np.testing.assert_allclose(after.i_2, [-4.0, -1.0])
    same = neuron.reset(before, jnp.array([True, False]))
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_spike_leaves_behind_carries_its_derivative():
    """d i_2 / d input through one spike: the surrogate's slope times a_2, by the chain rule."""
    neuron = pb.GIF(1, a_2=-3.0, tau_2=1000.0, v_init=-60.5, spike=pb.surrogate.ReLU())

    def left(current):
        tick = pb.Tick(jnp.int32(0), 1.0)
        return neuron.step(neuron.init(dt=1.0), current, tick)[0].i_2[0]

    decay = np.exp(-1 / 20)
    v = -70.0 + 9.5 * decay + 20.0 * (1 - decay)
    assert v > -60.0
    slope = 0.3 * (1 - abs(v + 60.0) / 10.0)
    expected = -3.0 * slope * (1 - decay) / 10.0
    np.testing.assert_allclose(jax.grad(left)(20.0), expected, rtol=1e-9)


def intervals(current, **kwargs):
    """Between spikes of 600 ms, and the last one, ms; with the values of Mihalas and Niebur (2009),
    table 1: G = 50 / s makes their V / s 20 mV each."""
    volts = {"v_rest": -70.0, "v_inf": -50.0, "v_reset": -70.0, "v_th_reset": -60.0}
    neuron = pb.GIF(1, tau=20.0, tau_1=5.0, tau_2=50.0, b=0.01, **volts, **kwargs)
    times = 0.1 * np.flatnonzero(states(neuron, 20.0 * current, 0.1, 600.0)[1][:, 0])
    return np.diff(times), times[-1]


def test_patterns_of_the_paper():
    tonic, _ = intervals(1.5)
    np.testing.assert_allclose(tonic, 20 * np.log(30 / 10), atol=0.11)
    # Phasic: at rest under the same input the threshold is at -35 mV and the potential at -40.
    assert intervals(1.5, a=0.005)[1] < 300 < intervals(1.5)[1]
    adapting, _ = intervals(2.0, a=0.005)
    assert adapting[-1] > 1.5 * adapting[0] and (np.diff(adapting) > -0.11).all()
    bursting, _ = intervals(2.0, a=0.005, a_1=200.0, a_2=-12.0)
    long = bursting > 20
    assert bursting[~long].max() < 10 and 3 <= long.sum() <= (~long).sum() / 2


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tau_2": 0.0}, "tau_2: 0.0"),
        ({"tau_1": jnp.array([1.0, -1.0])}, "tau_1"),
        ({"v_reset": -50.0}, "v_reset: -50.0"),
        ({"v_th_reset": -80.0}, "v_th_reset = -80.0"),
        ({"a_2": jnp.ones(3)}, "a_2: shape"),
    ],
)
def test_bad_parameters_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        pb.GIF(2, **kwargs)

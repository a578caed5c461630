"""LIF, Traub-Miles, refractoriness, resets; what drives them. Exact solutions are the oracle."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erfcx

import purebrain as pb
from purebrain._drive import OnView
from purebrain.neuron import LIFState, TraubMilesState
from purebrain.surrogate import Heaviside, SuperSpike


def nothing(tick, state, out):
    return None


def potential(tick, state, out):
    return state.v


def isi_steps(spikes):
    """For each neuron, the step of its first spike, the distinct intervals, and the count."""
    step, neuron = np.nonzero(np.asarray(spikes).T)[::-1]
    trains = [step[neuron == k] for k in range(spikes.shape[1])]
    return [(t[0], set(np.diff(t).tolist()), len(t)) for t in trains]


# ---- LIF ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("v_rest", "short", "long"), [(0.0, 1e-13, 1e-9), (-60.0, 1e-12, 1e-9)])
def test_subthreshold_lif_is_exact(v_rest, short, long):
    """mV after 5 and 500 ms at dt = 1 to 2^-13 ms. (The last digit of -60 mV is 7e-15 mV.)"""
    neuron = pb.LIF(1, tau=10.0, v_rest=v_rest, v_th=1e3, v_reset=v_rest, spike=Heaviside())
    for dt in 2.0 ** -np.arange(14):
        for duration, allowed in ((5.0, short), (500.0, long)):
            run = pb.simulate(
                neuron, neuron.init(dt=dt), 7.3, dt=dt, duration=duration, save=nothing
            )
            assert abs(run.state.v[0] - (v_rest - 7.3 * np.expm1(-duration / 10))) < allowed


@pytest.mark.parametrize("k", [0, 4, 10, 13])
def test_subthreshold_lif_in_float32(k):
    neuron = pb.cast(pb.LIF(1, tau=10.0, v_rest=0.0, v_th=1e3, v_reset=0.0), jnp.float32)
    current = jnp.float32(7.3)
    run = pb.simulate(neuron, neuron.init(dt=2.0**-k), current, dt=2.0**-k, duration=5.0)
    assert run.state.v.dtype == jnp.float32
    np.testing.assert_allclose(run.state.v, -7.3 * np.expm1(-0.5), rtol=1e-5)


@pytest.mark.parametrize("i0", [0, 10**8])
def test_one_interval_in_a_million_steps(i0):
    """Spike steps are ceil(t* / dt), whatever the time: from 0, and from 10^7 ms."""
    current, tau_ref = jnp.asarray([10.1, 12.0, 20.0, 77.7]), jnp.asarray([1.7, 0.0, 5.0, 0.1])
    neuron = pb.Refractory(pb.LIF(4, spike=Heaviside()), tau_ref)
    run = pb.simulate(neuron, neuron.init(dt=0.1), current, dt=0.1, duration=1e5, i0=i0)
    assert run.i == i0 + 10**6
    first = np.ceil(20 * np.log(current / (current - 10)) / 0.1).astype(int)
    interval = first + np.array([17, 0, 50, 1])
    for k, found in enumerate(isi_steps(run.saved)):
        count = 1 + (10**6 - first[k]) // interval[k]
        assert found == (first[k] - 1, {interval[k]}, count)


def test_spike_steps_and_counts_over_currents():
    """Every one of 2,000 currents: the first step, the interval and the count, from the formula."""
    current = np.linspace(10.003, 200.0, 2000)
    for dt in (0.1, 0.05, 1.0):
        neuron = pb.LIF(2000, spike=Heaviside())
        run = pb.simulate(neuron, neuron.init(dt=dt), jnp.asarray(current), dt=dt, duration=400.0)
        exact = 20 * np.log(current / (current - 10)) / dt
        clear = abs(exact - np.rint(exact)) > 1e-9  # no tie with the threshold
        assert clear.sum() > 1990
        interval, steps = np.ceil(exact).astype(int), round(400 / dt)
        expected = np.zeros((steps, 2000), bool)
        for k in np.flatnonzero(clear):
            expected[interval[k] - 1 :: interval[k], k] = True
        np.testing.assert_array_equal(np.asarray(run.saved)[:, clear], expected[:, clear])


def test_parameters_of_their_own():
    """One of everything a neuron is the same as neurons one by one."""
    rng = np.random.default_rng(0)
    low = {"tau": 5.0, "v_rest": -70.0, "v_th": -52.0, "v_reset": -75.0, "v_init": -70.0}
    many = {k: v + 8 * rng.random(6) for k, v in low.items()}
    neuron = pb.LIF(6, **{k: jnp.asarray(v) for k, v in many.items()})
    run = pb.simulate(neuron, neuron.init(dt=0.1), 30.0, dt=0.1, duration=60.0, save=potential)
    for k in range(6):
        one = pb.LIF(1, **{name: v[k] for name, v in many.items()})
        alone = pb.simulate(one, one.init(dt=0.1), 30.0, dt=0.1, duration=60.0, save=potential)
        np.testing.assert_allclose(run.saved[:, k], alone.saved[:, 0], rtol=0, atol=1e-11)


@pytest.mark.parametrize(("mean", "sigma"), [(-49.0, 4.0), (-53.0, 4.0), (-45.0, 1.5)])
def test_siegert_rate(mean, sigma):
    """White noise: 1 / r = tau_ref + tau sqrt(pi) int e^{u^2} (1 + erf u) du, for dt -> 0.

    The threshold is only looked at once a step, which costs c sqrt(dt): extrapolated from three dt.
    """
    tau, n, tau_ref = 20.0, 5000, 2.0
    neuron = pb.cast(pb.Refractory(pb.LIF(n, spike=Heaviside()), tau_ref), jnp.float32)

    @jax.jit
    def noisy(tick):
        white = jax.random.normal(tick.key, (n,), jnp.float32)
        return jnp.float32(mean + 60) + jnp.float32(sigma * np.sqrt(tau / tick.dt)) * white

    def count(tick, state, out):
        return out.sum()

    rates, steps = [], np.array([0.4, 0.1, 0.025])
    for dt in steps.tolist():
        state = neuron.init(dt=dt)
        key = jax.random.key(1)
        run = pb.simulate(neuron, state, noisy, dt=dt, duration=500.0, key=key, save=count)
        rates.append(np.asarray(run.saved)[round(100 / dt) :].sum() / (0.4 * n))
    slope, rate = np.polyfit(np.sqrt(steps), rates, 1)
    assert slope < 0
    lower, upper = (-60 - mean) / sigma, (-50 - mean) / sigma
    # e^{u^2} (1 + erf u) = erfcx(-u).
    wait = tau_ref + tau * np.sqrt(np.pi) * quad(lambda u: erfcx(-u), lower, upper)[0]
    assert abs(rate * wait / 1e3 - 1) < 0.03


# ---- refractoriness ----------------------------------------------------------------------------


def test_refractory_counter_to_its_limit():
    """An int16 counts to 32,767 steps, and no further."""
    neuron = pb.Refractory(pb.LIF(1, spike=Heaviside()), 3276.7)
    state = neuron.init(dt=0.1)
    assert state.count.dtype == jnp.int16
    run = pb.simulate(neuron, state, 20.0, dt=0.1, duration=7000.0)
    assert isi_steps(run.saved) == [(138, {139 + 32_767}, 3)]
    with pytest.raises(ValueError, match=r"tau_ref: 3276\.8 ms is 32768 steps"):
        pb.Refractory(pb.LIF(1), 3276.8).init(dt=0.1)


def test_swept_refractory_time():
    """tau_ref is a leaf: traced, it counts the same (0.29 / 0.01 is 28.999...), and is checked."""

    def spikes(tau_ref):
        neuron = pb.Refractory(pb.LIF(1, spike=Heaviside()), tau_ref)
        return pb.simulate(neuron, neuron.init(dt=0.01), 20.0, dt=0.01, duration=40.0).saved

    swept = jax.vmap(spikes)(jnp.asarray([0.0, 0.01, 0.29, 0.57, 1.13]))
    for found, held in zip(swept, (0, 1, 29, 57, 113), strict=True):
        assert isi_steps(found) == [(1386, {1387 + held}, 2)]
    with pytest.raises(Exception, match="tau_ref: not a multiple of dt"):
        jax.jit(spikes)(0.155)


def test_refractoriness_holds_the_potential_only():
    """Gates go on while v is held: they relax to the steady state of that v."""
    neuron = pb.Refractory(pb.TraubMiles(1, v_th=-30.0, spike=Heaviside()), 3.0)
    state = neuron.init(dt=0.01)

    def trace(tick, state, out):
        return state.neuron, out

    run = pb.simulate(neuron, state, 600.0, dt=0.01, duration=30.0, save=trace)
    gates, spikes = run.saved
    (first, *_) = np.flatnonzero(spikes[:, 0])
    held = slice(first, first + 301)
    v = np.asarray(gates.v[held, 0])
    assert (v == v[0]).all() and gates.v[held.stop, 0] != v[0]
    assert not spikes[first + 1 : first + 301].any()
    t = 0.01 * np.arange(301)
    for name in "mhn":
        x = np.asarray(getattr(gates, name)[held, 0])
        alpha, beta = (f(mp.mpf(v[0])) for f in RATES[name])
        steady, tau = float(alpha / (alpha + beta)), float(1 / (alpha + beta))
        np.testing.assert_allclose(x, steady + (x[0] - steady) * np.exp(-t / tau), rtol=1e-11)


@pytest.mark.parametrize("reset", [pb.HardReset(), pb.HardReset(detach=False), pb.SoftReset()])
def test_held_neuron_has_neither_spikes_nor_slope(reset):
    """Even where a soft reset leaves it above threshold; and its threshold has no derivative."""
    for spike in (Heaviside(), SuperSpike()):
        lif = pb.LIF(2, v_init=jnp.asarray([0.0, -30.0]), reset_rule=reset, spike=spike)
        neuron = pb.Refractory(lif, 0.5)

        def spikes(v_th):
            model = eqx.tree_at(lambda m: m.neuron.v_th, neuron, v_th)  # noqa: B023
            run = pb.simulate(model, model.init(dt=0.1), 0.0, dt=0.1, duration=0.7)
            return run.saved.astype(float)

        out, tangent = jax.jvp(spikes, (lif.v_th,), (1.0 + 0 * lif.v_th,))
        again = isinstance(reset, pb.SoftReset)
        np.testing.assert_array_equal(out, np.outer([1, 0, 0, 0, 0, 0, again], [1, 1]))
        slope = np.asarray(tangent) != 0
        assert not slope[1:6].any()
        assert slope[[0, 6]].all() == isinstance(spike, SuperSpike)


# ---- resets ------------------------------------------------------------------------------------

# The potential after a reset from v, and its derivatives with respect to v and to the spike s.
RESETS = {
    pb.HardReset(): lambda v, s: (np.where(s, -60.3, v), 1 - s, 0 * s),
    pb.HardReset(detach=False): lambda v, s: (np.where(s, -60.3, v), 1 - s, -60.3 - v),
    pb.SoftReset(): lambda v, s: (v - s * (-50.1 + 60.3), 1 + 0 * s, 0 * s),
    pb.SoftReset(detach=False): lambda v, s: (v - s * (-50.1 + 60.3), 1 + 0 * s, 0 * s - 10.2),
}  # fmt: skip
each_reset = pytest.mark.parametrize(
    "reset", RESETS, ids=lambda r: type(r).__name__ + ("" if r.detach else "-attached")
)


@each_reset
def test_reset_values_and_derivatives(reset):
    v = np.array([-49.9, -50.1, -33.3, 1e3, -50.2, -61.0, -57.7, -1e3])
    s = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])
    value, by_v, by_s = RESETS[reset](v, s)
    args = jnp.asarray(-50.1), jnp.asarray(-60.3)
    for spikes in (jnp.asarray(s), jnp.asarray(s, bool)):
        np.testing.assert_array_equal(reset(jnp.asarray(v), spikes, *args), value)
    zeros, ones = np.zeros(8), np.ones(8)
    for tangent, right in (((ones, zeros), by_v), ((zeros, ones), by_s)):
        primals = jnp.asarray(v), jnp.asarray(s)
        got = jax.jvp(lambda v, s: reset(v, s, *args), primals, tuple(map(jnp.asarray, tangent)))
        np.testing.assert_allclose(got[1], right, rtol=1e-14)


@each_reset
def test_derivative_of_a_step_across_the_threshold(reset):
    """dv'/dv by the chain rule: flow, spike function, reset."""
    neuron = pb.LIF(4, reset_rule=reset, v_th=-50.1, v_reset=-60.3, spike=SuperSpike(10.0))
    before = jnp.asarray([-49.0, -50.0, -50.3, -58.0])
    tick = pb.Tick(jnp.int32(0), 0.1)

    def step(v):
        return neuron.step(LIFState(v), 3.0, tick)[0].v

    flow = np.exp(-0.1 / 20)
    v = np.asarray(before) * flow + -57.0 * (1 - flow)
    s = (v >= -50.1).astype(float)
    slope = 1 / (1 + 10 * abs(v + 50.1) / 10.2) ** 2 / 10.2
    value, by_v, by_s = RESETS[reset](v, s)
    got, tangent = jax.jvp(step, (before,), (jnp.ones(4),))
    np.testing.assert_allclose(got, value, rtol=1e-14)
    np.testing.assert_allclose(tangent, flow * (by_v + by_s * slope), rtol=1e-12)
    np.testing.assert_allclose(jax.vjp(step, before)[1](jnp.ones(4))[0], tangent, rtol=1e-14)


# ---- Traub and Miles ---------------------------------------------------------------------------


def linoid(x):
    """x / (e^x - 1)."""
    return x / mp.expm1(x) if x else mp.mpf(1)


# The textbook rates (per ms) as functions of v (mV).
U = lambda v: v + 63  # noqa: E731
RATES = {
    "m": (lambda v: mp.mpf("0.32") * 4 * linoid((13 - U(v)) / 4),
          lambda v: mp.mpf("0.28") * 5 * linoid((U(v) - 40) / 5)),
    "h": (lambda v: mp.mpf("0.128") * mp.exp((17 - U(v)) / 18),
          lambda v: 4 / (1 + mp.exp((40 - U(v)) / 5))),
    "n": (lambda v: mp.mpf("0.032") * 5 * linoid((15 - U(v)) / 5),
          lambda v: mp.mpf("0.5") * mp.exp((10 - U(v)) / 40)),
}  # fmt: skip


def our_rates(v):
    """As the vector field has them: of a closed and of an open gate."""
    neuron, rates = pb.cast(pb.TraubMiles(1), v.dtype), {}
    zero = jnp.zeros_like(v)
    shut = neuron.vf(0.0, TraubMilesState(v, zero, zero, zero), pb.Drives())
    wide = neuron.vf(0.0, TraubMilesState(v, zero + 1, zero + 1, zero + 1), pb.Drives())
    for gate in "mhn":
        rates[gate] = getattr(shut, gate), -getattr(wide, gate)
    return rates


SINGULAR = np.array([13.0, 40.0, 15.0]) - 63
NEAR = np.concatenate([SINGULAR + d for d in (0, 1e-13, -1e-9, 1e-5, -1e-2, 1.0, -2.5)])
GRID = np.concatenate([np.linspace(-200, 200, 1601), NEAR])


def test_rates_against_the_textbook():
    for gate, pair in our_rates(jnp.asarray(GRID)).items():
        for got, textbook in zip(pair, RATES[gate], strict=True):
            with mp.workdps(40):
                right = [float(textbook(mp.mpf(v))) for v in GRID.tolist()]
            np.testing.assert_allclose(got, right, rtol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_rates_have_finite_derivatives(dtype):
    """First and second, everywhere; the first is right at and about the singular points."""

    def slopes(v):
        return jax.jvp(our_rates, (v,), (jnp.ones_like(v),))[1]

    def total(v):
        return sum(rate.sum() for rate in jax.tree.leaves(our_rates(v)))

    v, near = jnp.asarray(GRID, dtype), jnp.asarray(NEAR, dtype)
    second = jax.jvp(slopes, (v,), (jnp.ones_like(v),))[1]
    for values in jax.tree.leaves((slopes(v), second, jax.grad(total)(v))):
        assert np.isfinite(values).all()
    for gate, pair in slopes(near).items():
        for got, textbook in zip(pair, RATES[gate], strict=True):
            with mp.workdps(40):
                right = [float(mp.diff(textbook, mp.mpf(at))) for at in near.tolist()]
            np.testing.assert_allclose(got, right, rtol=1e-13 if dtype == jnp.float64 else 1e-4)


REST = (-65.0, 0.011622, 0.999586, 0.021159)


def hh_state(n=1):
    return TraubMilesState(*(jnp.full(n, x) for x in REST))


def test_traub_miles_converges_to_an_adaptive_reference():
    """With order one. At dt 0.001: 0.05 mV below threshold, 0.02 ms for the first spike."""
    neuron = pb.TraubMiles(3, spike=Heaviside())
    current, times = jnp.asarray([-100.0, -40.0, 400.0]), jnp.linspace(0, 20, 2001)
    solution = dfx.diffeqsolve(
        dfx.ODETerm(neuron.vf),
        dfx.Tsit5(),
        0.0,
        20.0,
        0.01,
        hh_state(3),
        args=pb.Drives(current=current),
        saveat=dfx.SaveAt(ts=times),
        stepsize_controller=dfx.PIDController(rtol=1e-9, atol=1e-11),
        max_steps=100_000,
    )
    right = np.asarray(solution.ys.v)
    spike = np.flatnonzero(right[:, 2] >= -20)[0]
    crossing = np.interp(-20, right[spike - 1 : spike + 1, 2], times[spike - 1 : spike + 1])
    quiet = np.full(right.shape, True)
    quiet[spike - 150 :, 2] = False  # never |dV| on the upstroke

    def trace(tick, state, out):
        return state.v, out

    steps, errors, late = (0.005, 0.002, 0.001), [], []
    for dt in steps:
        run = pb.simulate(neuron, hh_state(3), current, dt=dt, duration=20.0, save=trace)
        v, spikes = map(np.asarray, run.saved)
        assert not spikes[:, :2].any()
        every = round(0.01 / dt)
        errors.append(abs(v[every - 1 :: every] - right[1:])[quiet[1:]].max())
        late.append((np.flatnonzero(spikes[:, 2])[0] + 1) * dt - crossing)
    assert errors[-1] < 0.05 and abs(late[-1]) < 0.02
    assert abs(np.polyfit(np.log(steps), np.log(errors), 1)[0] - 1) < 0.2


def test_derivative_of_a_voltage_by_conductances():
    """Over a spike: both modes against central differences, 1e-5."""

    def functional(scale):
        plain = pb.TraubMiles(1)
        conductances = lambda m: (m.g_na, m.g_k, m.g_l)  # noqa: E731
        neuron = eqx.tree_at(conductances, plain, tuple(scale * jnp.stack(conductances(plain))))
        run = pb.simulate(neuron, hh_state(), 400.0, dt=0.05, duration=12.0, save=potential)
        return jnp.mean(run.saved**2) / 1000

    ones, h = jnp.ones(3), 1e-5
    sides = [jax.vmap(functional)(1.0 + d * jnp.eye(3)) for d in (h, -h)]
    secants = (sides[0] - sides[1]) / (2 * h)
    assert abs(secants).min() > 0.01
    np.testing.assert_allclose(jax.grad(functional)(ones), secants, rtol=1e-5)
    along = jnp.asarray([0.3, -1.0, 0.7])
    forward = jax.jvp(functional, (ones,), (along,))[1]
    np.testing.assert_allclose(forward, secants @ along, rtol=1e-5)


# ---- what drives a neuron ----------------------------------------------------------------------

DRIVES = [
    (pb.Current(), lambda g, v: g, lambda g, v: 0 * v),
    (pb.COBA(-80.5), lambda g, v: g * (-80.5 - v), lambda g, v: -g),
    (pb.MgBlock(1.5, 1.2, 0.07, 3.3),
        lambda g, v: g / (1 + 1.2 / 3.3 * np.exp(-0.07 * v)) * (1.5 - v),
        lambda g, v: g / (1 + 1.2 / 3.3 * np.exp(-0.07 * v)) * (
            0.07 * (1.5 - v) / (1 + 3.3 / 1.2 * np.exp(0.07 * v)) - 1)),
]  # fmt: skip


@pytest.mark.parametrize(("drive", "current", "slope"), DRIVES)
def test_drives(drive, current, slope):
    v = np.concatenate([np.linspace(-200, 200, 101), [1.5, -80.5, 0.0]])
    g = np.random.default_rng(0).random(v.size) * 10
    got = jax.jvp(lambda v: drive(jnp.asarray(g), v), (jnp.asarray(v),), (jnp.ones(v.size),))
    np.testing.assert_allclose(got[0], current(g, v), rtol=1e-13)
    np.testing.assert_allclose(got[1], slope(g, v), rtol=1e-12)


def test_drives_add_and_know_their_view():
    v = jnp.linspace(-70.0, -50.0, 6)
    g = jnp.asarray([1.0, 2.0, 4.0])
    seen = OnView(pb.COBA(0.0), g, 2, 5)
    np.testing.assert_array_equal(seen(v), [0, 0, *(-g * v[2:5]), 0])
    total = pb.Drives((seen,), 1.5) + (lambda v: v**2) + jnp.arange(6.0)
    np.testing.assert_allclose(total(v), seen(v) + 1.5 + v**2 + jnp.arange(6.0), rtol=1e-15)
    e_rev = jnp.asarray([-10.0, 0.0, 10.0])  # one a target of the view
    np.testing.assert_array_equal(OnView(pb.COBA(e_rev), g, 3, 6)(v)[3:], g * (e_rev - v[3:]))


def test_exponential_synapse_and_its_derivative_by_tau():
    """A spike of weight w in step 0, delay 0.3 ms: w exp(-(t - 0.4) / tau) from t = 0.4 ms on."""

    def trace(tau):
        once = pb.connect.one_to_one(2.5)
        path = pb.Projection("P", "N", once, pb.Exponential(tau), pb.Current(), delay=0.3)
        pulse = pb.LIF(3, v_init=jnp.asarray([0.0, 0.0, -60.0]))  # two of them fire in step 0
        net = pb.Network({"P": pulse, "N": pb.LIF(3)}, [path])
        save = lambda tick, state, out: state.synapses[0]  # noqa: E731
        return pb.simulate(net, net.init(dt=0.1), {}, dt=0.1, duration=1000.0, save=save).saved

    tau = jnp.asarray([4.0, 7.0, 9.0])
    t = 0.1 * np.arange(-3, 9997)[:, None]
    right = np.where(t < -1e-9, 0, 2.5 * np.exp(-t / np.asarray(tau))) * [1, 1, 0]
    value, tangent = jax.jvp(trace, (tau,), (jnp.ones(3),))
    np.testing.assert_allclose(value, right, rtol=1e-12)
    np.testing.assert_allclose(tangent, right * t / np.asarray(tau) ** 2, rtol=1e-12, atol=1e-15)

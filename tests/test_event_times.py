"""Exact spike times against closed forms, scipy and finite differences; their derivatives too."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import lambertw

import purebrain as pb
from purebrain.solvers import SPIKE_RESULTS, solve_spikes
from purebrain.solvers._bracket import Bracket

TAU = 20.0
TIGHT = dict(stepsize_controller=dfx.PIDController(rtol=1e-10, atol=1e-10))


def lif(current, kick=0.0, t1=80.0, max_spikes=12, **options):
    """LIF neurons with threshold 1 and reset 0; a spike of one adds `kick` to the others."""

    def vf(t, v, args):
        return (args - v) / TAU

    def reset(v, which):
        return jnp.where(which, 0.0, v + kick)

    return solve_spikes(
        vf, lambda v: v - 1.0, reset, t0=0.0, t1=t1, y0=jnp.zeros(current.shape),
        args=current, max_spikes=max_spikes, **(TIGHT | options)
    )  # fmt: skip


def interval(current):
    return TAU * np.log(current / (current - 1))


def slope(current):
    """d interval / d current."""
    return -TAU / (current * (current - 1))


def with_jacobian(f, **options):
    """f and its Jacobian in the first argument, compiled: f(x) -> (values, solution)."""

    def twice(x, *args):
        values, solution = f(x, *args)
        return values, (values, solution)

    return jax.jit(jax.jacrev(twice, has_aux=True, **options))


def central(f, x, h):
    """Central differences of f: (m,) -> (k,), as a (k, m) array."""
    x = np.asarray(x)
    steps = h * np.eye(x.size)
    return np.stack([(np.asarray(f(x + s)) - np.asarray(f(x - s))) / (2 * h) for s in steps], 1)


# ---- closed forms ------------------------------------------------------------------------------


def test_lif_times_and_derivatives_are_the_closed_form():
    """Two neurons that do not see each other, and the derivative through their resets."""
    current = np.array([2.0, 1.5])
    exact = sorted((interval(i) * k, j) for j, i in enumerate(current) for k in range(1, 6))
    times, ids = map(np.array, zip(*[(t, j) for t, j in exact if t < 80], strict=True))
    count = len(times)

    def spikes(c, **options):
        solution = lif(c, **options)
        return solution.ts[:count], solution

    backward, (_, solution) = with_jacobian(spikes)(jnp.asarray(current))
    assert solution.count == count == 8 and solution.result == SPIKE_RESULTS.successful
    np.testing.assert_array_equal(solution.ids[:count], ids)
    np.testing.assert_allclose(solution.ts[:count], times, rtol=1e-9)
    assert (np.asarray(solution.ids[count:]) == -1).all() and np.isinf(solution.ts[count:]).all()
    np.testing.assert_allclose(solution.first, interval(current), rtol=1e-9)
    end = [i * (1 - np.exp(-(80 - times[ids == j][-1]) / TAU)) for j, i in enumerate(current)]
    np.testing.assert_allclose(solution.y, end, rtol=1e-8)

    order = np.array([(ids[: m + 1] == ids[m]).sum() for m in range(count)])
    right = np.where(ids[:, None] == [0, 1], order[:, None] * slope(current), 0)
    np.testing.assert_allclose(backward, right, rtol=1e-7, atol=1e-6)
    forward = jax.jacfwd(lambda c: spikes(c, adjoint=dfx.ForwardMode())[0])(jnp.asarray(current))
    np.testing.assert_allclose(forward, backward, rtol=1e-10, atol=1e-10)


@jax.jit
def sums(currents, t1):
    """The sum of the spike times and its derivative, for runs of one neuron each."""

    def total(c):
        solution = lif(c, t1=t1)
        spikes = jnp.where(solution.ts < jnp.inf, solution.ts, 0.0)
        return jnp.sum(spikes), solution

    return jax.vmap(jax.value_and_grad(total, has_aux=True))(currents[:, None])


def test_vmap_over_runs_of_different_length():
    """Silent, one spike, many: the derivative of each is its own, and finite."""
    current = np.array([0.9, 1.02, 1.5, 3.0])
    (values, solution), slopes = sums(jnp.asarray(current), 80.0)
    counts = np.array([0, 1, 3, 9])
    m = counts * (counts + 1) / 2
    above = np.maximum(current, 1.01)
    np.testing.assert_allclose(values, m * interval(above), rtol=1e-8)
    np.testing.assert_allclose(slopes[:, 0], m * slope(above), rtol=1e-6)
    assert (solution.t == 80.0).all()
    end = current * (1 - np.exp((counts * interval(above) - 80) / TAU))
    np.testing.assert_allclose(solution.y[:, 0], end, rtol=1e-7)


def test_the_derivative_grows_as_the_crossing_becomes_tangential():
    """At the crossing v rises by (I - 1) / tau, and dt/dI has its inverse; a silent neuron, however
    near, has none."""
    gap = np.array([1e-1, 1e-3, 1e-5, -1e-5])
    (values, _), slopes = sums(jnp.asarray(1 + gap), 245.0)
    above, n = 1 + gap[:3], np.array([5, 1, 1])
    assert (245 // interval(above) == n).all()
    m = n * (n + 1) / 2
    np.testing.assert_allclose(values, [*(m * interval(above)), 0], rtol=1e-5)
    np.testing.assert_allclose(slopes[:, 0], [*(m * slope(above)), 0], rtol=1e-4)


@pytest.fixture(scope="module")
def three():
    def spikes(c, kick, t1):
        solution = lif(c, kick, t1)
        return solution.ts[:6], solution

    return with_jacobian(spikes)


def test_neurons_that_fire_together_keep_their_own_derivatives(three):
    jacobian, (times, solution) = three(jnp.array([2.0, 2.0, 2.0]), 0.0, 50.0)
    np.testing.assert_array_equal(solution.ids[:6], [0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(times, np.repeat([1, 2], 3) * interval(2.0), rtol=1e-9)
    right = slope(2.0) * np.concatenate([np.eye(3), 2 * np.eye(3)])
    np.testing.assert_allclose(jacobian, right, rtol=1e-6, atol=1e-5)


def test_a_kick_over_the_threshold_fires_at_once(three):
    """The second spike is where the first is, with the derivative of the first."""
    jacobian, (times, solution) = three(jnp.array([2.0, 1.9, 0.2]), 0.2, 14.0)
    np.testing.assert_array_equal(solution.ids[:3], [0, 1, -1])
    assert times[0] == times[1]
    right = [[slope(2.0), 0.0, 0.0]] * 2
    np.testing.assert_allclose(jacobian[:2], right, rtol=1e-7, atol=1e-7)


# ---- exponential synaptic currents -------------------------------------------------------------


def psc(weights, inputs, tau_m, tau_s, t1=60.0, max_spikes=4, **options):
    """A LIF neuron, threshold 1, that receives weights[k] at inputs[k]: tau_m v' = -v + i."""

    def vf(t, y, args):
        v, i = y
        return (i - v) / tau_m, -i / tau_s

    def jump(y, k):
        return y[0], y[1] + weights[k]

    def reset(y, which):
        return jnp.where(which, 0.0, y[0]), y[1]

    return solve_spikes(
        vf, lambda y: y[0] - 1.0, reset, t0=0.0, t1=t1, y0=(jnp.zeros(1), jnp.zeros(1)),
        max_spikes=max_spikes, jump_ts=inputs, jump=jump, **(TIGHT | options)
    )  # fmt: skip


def goeltz_double(weights, inputs, tau_s):
    """The spike of a LIF neuron with tau_m = 2 tau_s after all inputs: a quadratic equation in
    exp(-t / tau_m). Goeltz et al. (2021), Nature Machine Intelligence 3."""
    a1 = jnp.sum(weights * jnp.exp(inputs / tau_s))
    a2 = jnp.sum(weights * jnp.exp(inputs / (2 * tau_s)))
    # v = tau_s / (tau_m - tau_s) (a2 x - a1 x^2) = 1
    return 2 * tau_s * jnp.log(2 * a1 / (a2 + jnp.sqrt(a2**2 - 4 * a1)))


def goeltz_equal(weights, inputs, tau):
    """The same with tau_m = tau_s: Lambert's W."""
    a = np.sum(weights * np.exp(inputs / tau))
    b = np.sum(weights * np.exp(inputs / tau) * inputs) / tau
    # v = (a t / tau - b) exp(-t / tau) = 1
    z = -np.exp(b / a) / a
    return tau * (b / a - lambertw(z, 0).real)


WEIGHTS, INPUTS = np.array([2.5, -0.8, 3.1]), np.array([1.0, 4.0, 2.5])


@jax.jit
def first_of_psc(weights, inputs, tau_m, tau_s):
    """The first spike, and its derivatives in the weights and in the times of the inputs."""
    first = lambda *x: psc(*x, tau_m, tau_s).ts[0]  # noqa: E731
    return jax.value_and_grad(first, (0, 1))(weights, inputs)


def test_exponential_current_with_tau_m_twice_tau_s():
    x = jnp.asarray(WEIGHTS), jnp.asarray(INPUTS)
    value, slopes = first_of_psc(*x, 10.0, 5.0)
    assert value > 4.0  # after all inputs
    np.testing.assert_allclose(value, goeltz_double(*x, 5.0), rtol=1e-9)
    right = jax.grad(goeltz_double, (0, 1))(*x, 5.0)
    np.testing.assert_allclose(slopes, right, rtol=1e-6)


def test_exponential_current_with_equal_time_constants():
    x = np.concatenate([0.7 * WEIGHTS, INPUTS])
    value, slopes = first_of_psc(jnp.asarray(x[:3]), jnp.asarray(x[3:]), 8.0, 8.0)
    exact = lambda x: [goeltz_equal(x[:3], x[3:], 8.0)]  # noqa: E731
    assert value > 4.0
    np.testing.assert_allclose(value, exact(x)[0], rtol=1e-9)
    np.testing.assert_allclose(np.ravel(slopes), central(exact, x, 1e-5)[0], rtol=1e-6)


def test_inputs_outside_the_interval_do_nothing_and_any_order_will_do():
    weights = jnp.asarray([9.0, *WEIGHTS[::-1], 9.0, 9.0])
    inputs = jnp.asarray([-1.0, *INPUTS[::-1], 60.0, jnp.inf])
    value, slopes = first_of_psc(weights, inputs, 10.0, 5.0)
    right, slopes_right = first_of_psc(jnp.asarray(WEIGHTS), jnp.asarray(INPUTS), 10.0, 5.0)
    np.testing.assert_allclose(value, right, rtol=1e-13)
    for got, inside in zip(slopes, slopes_right, strict=True):
        np.testing.assert_allclose(got[1:4], inside[::-1], rtol=1e-11)
        assert (np.asarray(got)[[0, 4, 5]] == 0).all()


# ---- networks ----------------------------------------------------------------------------------


def network(p, delayed):
    """Two LIF neurons with exponential currents, that excite and inhibit each other, at the default
    tolerances."""
    drive, weight, (tau_m, tau_s), delays = p[:2], jnp.stack([p[2:4], p[4:6]]), p[6:8], p[8:]

    def vf(t, y, args):
        v, i = y
        return (drive + i - v) / tau_m, -i / tau_s

    def arrive(y, which):
        return y[0], y[1] + weight @ which.astype(y[1].dtype)

    def reset(y, which):
        y = y if delayed else arrive(y, which)
        return jnp.where(which, 0.0, y[0]), y[1]

    return solve_spikes(
        vf, lambda y: y[0] - 1.0, reset, t0=0.0, t1=50.0, y0=(jnp.zeros(2), jnp.zeros(2)),
        max_spikes=12, later=[(delays, arrive)] if delayed else []
    )  # fmt: skip


NETWORK = np.array([1.9, 1.3, 0.0, -0.7, 0.9, 0.1, 12.0, 4.0, 1.5, 0.7])


def network_oracle(p, delayed):
    """The same by closed forms between events and scipy's root finder."""
    drive, weight, (tau_m, tau_s), delays = p[:2], p[2:6].reshape(2, 2), p[6:8], p[8:]
    t, v, i = 0.0, np.zeros(2), np.zeros(2)
    arrivals, spikes = [], []

    def flow(s):
        slow, fast = np.exp(-s / tau_m), np.exp(-s / tau_s)
        return drive + (v - drive) * slow + i * tau_s / (tau_m - tau_s) * (slow - fast)

    while True:
        end = min([50.0, *[a for a, _ in arrivals]])
        grid = np.linspace(0, end - t, 400)
        first = (np.inf, -1)
        for j in (0, 1):
            over = np.array([flow(s)[j] for s in grid]) >= 1
            if over.any():
                k = over.argmax()
                s = brentq(lambda s: flow(s)[j] - 1, grid[k - 1], grid[k], xtol=1e-14)  # noqa: B023
                first = min(first, (s, j))
        s = min(first[0], end - t)
        v, i, t = flow(s), i * np.exp(-s / tau_s), t + s
        if first[0] < np.inf:
            j = first[1]
            spikes.append((t, j))
            v[j] = 0.0
            if delayed:
                arrivals.append((t + delays[j], j))
            else:
                i = i + weight[:, j]
        elif end == 50.0:
            return np.array(spikes).T
        else:
            j = min(arrivals)[1]
            arrivals.remove(min(arrivals))
            i = i + weight[:, j]


@pytest.mark.parametrize("delayed", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_network_of_two_neurons(delayed):
    """Times against closed forms; the derivatives in drives, weights, time constants and delays
    against finite differences of those."""
    times, ids = network_oracle(NETWORK, delayed)
    count = len(times)

    def spikes(p):
        solution = network(p, delayed)
        return solution.ts[:count], solution

    jacobian, (_, solution) = with_jacobian(spikes)(jnp.asarray(NETWORK))
    assert solution.count == count >= 5 and set(ids) == {0, 1}
    np.testing.assert_array_equal(solution.ids[:count], ids)
    np.testing.assert_allclose(solution.ts[:count], times, rtol=1e-7)
    right = central(lambda p: network_oracle(p, delayed)[0], NETWORK, 1e-5)
    assert (abs(right[:, 8:]).max() > 0.1) == delayed
    np.testing.assert_allclose(jacobian, right, rtol=1e-5, atol=1e-5 * abs(right).max())


# ---- the models of purebrain -------------------------------------------------------------------


@pytest.mark.slow
def test_a_step_of_current_is_hit_exactly_and_has_a_derivative():
    """12 mV (silent) from the start, `high` from `on` on: v = 12 (1 - e^(-on / tau)) there."""
    neuron = pb.LIF(1, tau=TAU, v_rest=0.0, v_th=15.0, v_reset=0.0)

    def first(on, high):
        current = lambda t: jnp.where(t < on, 12.0, high)  # noqa: E731
        state = neuron.init(dt=0.1)
        return pb.exact_spikes(
            neuron, state, current, t1=60.0, max_spikes=2, jump_ts=on[None], **TIGHT
        ).ts[0]

    def exact(on, high):
        v = 12 * (1 - jnp.exp(-on / TAU))
        return on + TAU * jnp.log((high - v) / (high - 15))

    x = jnp.asarray(17.3), jnp.asarray(20.0)
    value, slopes = jax.value_and_grad(first, (0, 1))(*x)
    np.testing.assert_allclose(value, exact(*x), rtol=1e-9)
    np.testing.assert_allclose(slopes, jax.grad(exact, (0, 1))(*x), rtol=1e-7)


@pytest.mark.slow
def test_refractory_intervals_need_no_grid():
    tau_ref = np.array([np.pi, 0.5])
    neuron = pb.Refractory(pb.LIF(2, v_reset=-58.0), tau_ref)  # from -60 to -45 mV

    def spikes(tau_ref):
        model = eqx.tree_at(lambda m: m.tau_ref, neuron, tau_ref)
        state = model.neuron.init(dt=0.1)
        solution = pb.exact_spikes(model, state, 15.0, t1=90.0, max_spikes=12, **TIGHT)
        return solution.ts, solution

    jacobian, (times, solution) = with_jacobian(spikes)(jnp.asarray(tau_ref))
    for j in (0, 1):
        own = np.asarray(solution.ids) == j
        exact = 20 * np.log(3) + np.arange(own.sum()) * (tau_ref[j] + 20 * np.log(13 / 5))
        assert own.sum() >= 3
        np.testing.assert_allclose(times[own], exact, rtol=1e-8)
        np.testing.assert_allclose(jacobian[own][:, j], np.arange(own.sum()), atol=1e-7)
        np.testing.assert_allclose(jacobian[own][:, 1 - j], 0, atol=1e-7)


def test_steps_of_the_simulator_end_at_the_exact_times():
    """With constant input LIF is exact on its grid: a spike is stamped at the end of its step."""
    neuron = pb.LIF(2, v_init=np.array([-58.0, -51.0]))
    state, current = neuron.init(dt=0.01), np.array([14.0, 11.5])
    run = pb.simulate(neuron, state, current, dt=0.01, duration=60.0)
    solution = pb.exact_spikes(neuron, state, current, t1=60.0, max_spikes=20, **TIGHT)
    steps, ids = np.nonzero(np.asarray(run.saved))
    for j in (0, 1):
        exact = np.asarray(solution.ts)[np.asarray(solution.ids) == j]
        stamped = (steps[ids == j] + 1) * 0.01
        assert exact.size == stamped.size >= 1
        # Each later spike starts from a reset that is late by less than a step.
        late = (stamped - exact) / np.arange(1, exact.size + 1)
        assert (late >= -1e-9).all() and (late <= 0.01).all()


@pytest.mark.slow
def test_hodgkin_huxley_against_scipy():
    """Traub-Miles crosses its threshold, stays above it for a while, and is never reset."""
    neuron = pb.TraubMiles(1)
    state = neuron.init(dt=0.1)
    current = lambda t: 300.0 + 50.0 * jnp.sin(t / 5)  # noqa: E731

    def times(g_na):
        model = eqx.tree_at(lambda m: m.g_na, neuron, g_na)
        solution = pb.exact_spikes(model, state, current, t1=40.0, max_spikes=8, **TIGHT)
        return solution.ts, solution

    field = jax.jit(lambda t, y: neuron.vf(t, unpack(y), pb.Drives((), current(t))))
    unpack = lambda y: type(state)(*[y[k : k + 1] for k in range(4)])  # noqa: E731

    def crossing(t, y):
        return y[0] + 20.0

    crossing.direction = 1
    right = solve_ivp(
        lambda t, y: np.concatenate(jax.tree.leaves(field(t, y))),
        (0.0, 40.0), np.concatenate(jax.tree.leaves(state)),
        method="DOP853", rtol=1e-11, atol=1e-11, events=crossing,
    ).t_events[0]  # fmt: skip
    slopes, (got, solution) = with_jacobian(times)(neuron.g_na)
    count = int(solution.count)
    assert count == right.size >= 2
    np.testing.assert_allclose(got[:count], right, rtol=0, atol=1e-6)
    value, h = jax.jit(lambda g: times(g)[0][:count]), 1.0  # of 20,000 nS
    secant = (value(neuron.g_na + h) - value(neuron.g_na - h)) / (2 * h)
    np.testing.assert_allclose(slopes[:count], secant, rtol=1e-5)


def test_float32():
    with jax.enable_x64(False):
        neuron = pb.LIF(2)
        solution = pb.exact_spikes(
            neuron, neuron.init(dt=0.1), jnp.array([15.0, 20.0]), t1=60.0, max_spikes=8,
            stepsize_controller=dfx.PIDController(rtol=1e-5, atol=1e-5),
        )  # fmt: skip
        assert solution.ts.dtype == jnp.float32
        np.testing.assert_allclose(solution.first, [20 * np.log(3), 20 * np.log(2)], rtol=1e-4)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x**3 - 2,
        lambda x: jnp.tanh(50 * (1.3 - x)),
        lambda x: x - 2,
        lambda x: x**9 - 1e-9,
    ],
    ids=["cubic", "steep", "linear", "flat"],
)
def test_bracket_against_scipy(f):
    """To the last digits, in fewer steps than the 53 of a bisection even where that is hard."""
    bounds, start = dict(lower=0.0, upper=2.0), jnp.asarray(2.0)
    root = optx.root_find(lambda x, _: f(x), Bracket(), start, options=bounds)
    np.testing.assert_allclose(root.value, brentq(f, 0, 2, xtol=1e-15), rtol=1e-13)
    assert root.stats["num_steps"] < 53


# ---- what goes wrong ---------------------------------------------------------------------------


def test_more_spikes_than_the_bound_is_never_a_result():
    currents = jnp.array([[1.5], [2.0]])  # 3 and 5 spikes before 80
    fits = lif(currents[1], max_spikes=5)
    assert fits.result == SPIKE_RESULTS.successful and fits.count == 5
    with pytest.raises(RuntimeError, match="more than `max_spikes` spikes before t1"):
        lif(currents[1], max_spikes=4)
    with pytest.raises(RuntimeError, match="more than `max_spikes` spikes before t1"):
        jax.jit(jax.vmap(lambda c: lif(c, max_spikes=4).ts))(currents)
    cut = jax.vmap(lambda c: lif(c, max_spikes=4, throw=False))(currents)
    reached = cut.result == SPIKE_RESULTS.max_spikes_reached
    np.testing.assert_array_equal(reached, [False, True])
    np.testing.assert_array_equal(cut.count, [3, 4])
    # It says how far it came.
    np.testing.assert_allclose(cut.t, [80.0, 5 * interval(2.0)], rtol=1e-9)


def constant(**change):
    """Arguments of `solve_spikes` that are right."""
    right = dict(
        vf=lambda t, y, args: {"v": (2.0 - y["v"]) / TAU},
        threshold=lambda y: y["v"] - 1.0,
        reset=lambda y, which: {"v": jnp.where(which, 0.0, y["v"])},
        t0=0.0,
        t1=30.0,
        y0={"v": jnp.zeros(2)},
        max_spikes=8,
    )
    return solve_spikes(**(right | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(max_spikes=0), ValueError, "max_spikes: 0; it must be a whole number >= 1"),
        (dict(t1=0.0), ValueError, "t1 must be later"),
        (dict(t1=-1.0), ValueError, "t1 must be later"),
        (dict(t1=np.nan), ValueError, "t1 must be later"),
        (dict(t1=np.inf), ValueError, "t1 must be later"),
        (dict(t1=np.ones(2)), ValueError, "t1: shape"),
        (dict(y0={"v": jnp.array([0.0, 1.5])}), ValueError, "at or above its threshold"),
        (dict(y0={"v": jnp.zeros(2, int)}), TypeError, "y0: .*int64.*float"),
        (dict(y0={}), TypeError, "y0"),
        (dict(vf=lambda t, y, args: {"v": jnp.zeros(3)}), ValueError, "vf: it returns"),
        (dict(threshold=lambda y: jnp.max(y["v"]) - 1.0), ValueError, "threshold: .*one value a"),
        (dict(threshold=lambda y: y), ValueError, "threshold: .*one value a"),
        (dict(reset=lambda y, which: y["v"]), ValueError, "reset: it returns"),
        (dict(jump_ts=np.nan * np.ones(2)), ValueError, "jump_ts: a time is not a number"),
        (dict(jump_ts=1.0), ValueError, "jump_ts: shape"),
        (dict(jump_ts=np.ones(2), jump=lambda y, k: 0.0), ValueError, "jump: it returns"),
        (dict(later=[(0.0, lambda y, w: y)]), ValueError, "later: delay .*above 0"),
        (dict(later=[(np.ones(3), lambda y, w: y)]), ValueError, "later: delays of shape"),
        (dict(later=[(1.0, lambda y, w: 0.0)]), ValueError, r"later\[0\]: it returns"),
    ],
)  # fmt: skip
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        constant(**change)


def test_bad_input_when_traced():
    run = jax.jit(lambda t1, v: constant(t1=t1, y0={"v": v}, vf=lambda t, y, a: y).count)
    with pytest.raises(RuntimeError, match="t1 must be later"):
        run(-1.0, jnp.zeros(2))
    with pytest.raises(RuntimeError, match="at or above its threshold"):
        run(30.0, jnp.full(2, 1.5))


@pytest.mark.parametrize("when", [-1.0, 7.0], ids=["from the start", "later"])
@pytest.mark.parametrize("controller", [dfx.PIDController(1e-6, 1e-6), dfx.ConstantStepSize()])
def test_a_vector_field_that_is_not_a_number(when, controller):
    """The first spike would be at 13.9."""

    def vf(t, y, args):
        return {"v": jnp.where(t > args, jnp.nan, (2.0 - y["v"]) / TAU)}

    options = dict(vf=vf, args=when, stepsize_controller=controller, dt0=0.5)
    with pytest.raises(FloatingPointError, match=r"not finite: .* at t = .*, after 0 spikes"):
        constant(**options)
    if when < 0:
        with pytest.raises(RuntimeError, match="infinite or not a number"):
            jax.jit(lambda: constant(**options).ts)()


def test_a_solve_that_needs_too_many_steps_says_so():
    cut = constant(max_steps=3, throw=False)
    assert cut.result == SPIKE_RESULTS.max_steps_reached and cut.t < 30
    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        constant(max_steps=3)


def test_a_state_above_threshold_or_refractory_is_refused():
    neuron = pb.LIF(1, v_init=-45.0)
    with pytest.raises(ValueError, match="at or above its threshold"):
        pb.exact_spikes(neuron, neuron.init(dt=0.1), 15.0, t1=50.0, max_spikes=3)
    held = pb.Refractory(pb.LIF(1), 5.0)
    state = eqx.tree_at(lambda s: s.count, held.init(dt=0.1), jnp.ones(1, jnp.int16))
    with pytest.raises(ValueError, match="still refractory"):
        pb.exact_spikes(held, state, 15.0, t1=50.0, max_spikes=3)
    with pytest.raises(TypeError, match="model"):
        pb.exact_spikes(pb.Exponential(5.0), None, 15.0, t1=50.0, max_spikes=3)
    with pytest.raises(ValueError, match="inputs: shape"):
        neuron = pb.LIF(2)
        pb.exact_spikes(neuron, neuron.init(dt=0.1), jnp.ones(3), t1=50.0, max_spikes=3)

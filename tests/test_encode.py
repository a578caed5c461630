"""Encoders against closed forms and distributions; lists of events against dense products."""

import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from purebrain import train


def test_latency_is_when_a_leaky_integrator_crosses_its_threshold():
    x, tau, threshold = np.array([0.21, 0.3, 1.0, 5.0]), 20.0, 0.2
    times = np.asarray(train.latency_code(x, tau=tau, threshold=threshold))
    for drive, t in zip(x, times, strict=True):

        def crossed(_, v):
            return v[0] - threshold

        crossed.terminal = True
        solved = scipy.integrate.solve_ivp(
            lambda _, v, drive=drive: (drive - v) / tau,
            (0.0, 200.0),
            [0.0],
            events=crossed,
            rtol=1e-10,
            atol=1e-12,
        )
        assert t == pytest.approx(solved.t_events[0][0], rel=1e-7)
    none = train.latency_code(np.array([0.0, 0.2, 0.1]), tau=tau, threshold=threshold)
    assert np.isinf(np.asarray(none)).all()


def test_latency_has_a_finite_derivative_also_where_there_is_no_spike():
    def total(x):
        t = train.latency_code(x, tau=20.0, threshold=0.2)
        return jnp.where(jnp.isfinite(t), t, 0.0).sum()

    x = jnp.array([0.1, 0.2, 0.5])
    # d/dx tau log(x / (x - threshold)) = -tau threshold / (x (x - threshold))
    np.testing.assert_allclose(jax.grad(total)(x), [0, 0, -20 * 0.2 / (0.5 * 0.3)], rtol=1e-10)


def test_poisson_code_has_the_rate_and_no_memory():
    rate, steps, dt = np.array([0.0, 20.0, 200.0]), 40_000, 1.0
    s = np.asarray(train.poisson_code(rate, steps=steps, dt=dt, key=jr.key(3)))
    p = 1 - np.exp(-rate * dt * 1e-3)
    assert s.dtype == bool and not s[:, 0].any()
    for k in (1, 2):
        assert scipy.stats.binomtest(int(s[:, k].sum()), steps, p[k]).pvalue > 1e-3
        pairs = int((s[1:, k] & s[:-1, k]).sum())  # independent steps: p^2
        assert scipy.stats.binomtest(pairs, steps - 1, p[k] ** 2).pvalue > 1e-3
        intervals = np.diff(np.flatnonzero(s[:, k]))
        grid = np.arange(1, 400)
        expected = scipy.stats.geom.cdf(grid, p[k])
        seen = np.searchsorted(np.sort(intervals), grid, side="right") / intervals.size
        assert abs(seen - expected).max() < 1.9 / np.sqrt(intervals.size)  # Kolmogorov, 0.1%
    again = train.poisson_code(rate, steps=steps, dt=dt, key=jr.key(3))
    other = train.poisson_code(rate, steps=steps, dt=dt, key=jr.key(4))
    assert (s == np.asarray(again)).all() and (s != np.asarray(other)).any()


@pytest.mark.parametrize("bits", [1, 4, 12])
def test_a_period_of_the_phase_code_adds_up_to_the_intensity(bits):
    x = np.concatenate([[0.0, 0.5, 1.0, 1 - 2.0**-13], np.random.default_rng(0).uniform(size=50)])
    s = np.asarray(train.phase_code(x, bits=bits, steps=2 * bits))
    whole = np.minimum(np.floor(x * 2**bits), 2**bits - 1).astype(int)
    assert (s[:bits].sum(0) == whole / 2**bits).all()
    assert (s[bits:] == s[:bits]).all()
    for k, number in enumerate(whole):
        digits = [int(d) for d in f"{number:0{bits}b}"]
        assert s[:bits, k].tolist() == [d / 2 ** (j + 1) for j, d in enumerate(digits)]


def test_tuning_curves():
    angle = np.array([0.3, 2.0])
    rates = np.asarray(train.von_mises_tuning(angle, 24, kappa=2.0, peak=40.0, base=1.0))
    preferred = 2 * np.pi * np.arange(24) / 24
    density = scipy.stats.vonmises.pdf(angle[:, None], 2.0, loc=preferred)
    expected = 1 + 40 * density / scipy.stats.vonmises.pdf(0.0, 2.0)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    rates = np.asarray(
        train.gaussian_tuning(0.4, 5, low=0.0, high=1.0, width=0.2, peak=9.0, base=2.0)
    )
    density = scipy.stats.norm.pdf(0.4, np.linspace(0, 1, 5), 0.2)
    np.testing.assert_allclose(rates, 2 + 9 * density / scipy.stats.norm.pdf(0, 0, 0.2), rtol=1e-12)


# ---- events --------------------------------------------------------------------------------------

SHAPE = (7, 5, 30)


def raster(p=0.1, seed=0):
    return np.random.default_rng(seed).poisson(p, SHAPE)


def as_events(counts, **kwargs):
    index = np.repeat(np.argwhere(counts), counts[counts > 0], axis=0)
    index = np.random.default_rng(1).permutation(index)
    return train.event_list(*index.T, shape=counts.shape, **kwargs)


@pytest.mark.parametrize("p", [0.0, 0.02, 1.0])
def test_project_is_the_dense_product_and_so_are_all_its_derivatives(p):
    counts = raster(p)
    events = as_events(counts)
    assert (np.asarray(events.to_dense()) == counts).all()
    s = jnp.asarray(counts, float)
    w = jnp.asarray(np.random.default_rng(2).normal(size=(30, 4)))

    def dense(w):
        return jnp.einsum("tbi,ij->tbj", s, w)

    def listed(w):
        return train.project(events, w)

    def loss(f):
        return lambda w: jnp.sum(jnp.sin(f(w)))

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)

    close(listed(w), dense(w))
    close(jax.grad(loss(listed))(w), jax.grad(loss(dense))(w))
    along = (w,), (jnp.cos(w),)
    close(jax.jvp(listed, *along)[1], jax.jvp(dense, *along)[1])
    second = [jax.jvp(jax.grad(loss(f)), *along)[1] for f in (listed, dense)]
    close(*second)
    ws = jnp.stack([w, 2 * w], axis=1)
    close(jax.vmap(listed, 1)(ws), jax.vmap(dense, 1)(ws))
    close(*(jax.vmap(jax.grad(loss(f)), 1)(ws) for f in (listed, dense)))


def test_project_in_float32_agrees_with_the_dense_product():
    counts = np.random.default_rng(0).poisson(0.05, (20, 16, 200))
    w = jnp.asarray(np.random.default_rng(2).normal(size=(200, 50)), jnp.float32)
    got = train.project(as_events(counts), w)
    assert got.dtype == jnp.float32
    expected = np.einsum("tbi,ij->tbj", counts.astype(float), np.asarray(w, float))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_capacity_is_room_and_changes_nothing():
    counts, w = raster(), jnp.ones((30, 2))
    tight = train.project(as_events(counts, capacity=int(counts.sum())), w)
    wide = train.project(as_events(counts, capacity=5000), w)
    assert (np.asarray(tight) == np.asarray(wide)).all()


def test_compiled_code_is_reused_for_other_events():
    traces = []

    @jax.jit
    def f(events, w):
        traces.append(1)
        return train.project(events, w)

    for seed in range(3):
        f(as_events(raster(seed=seed), capacity=200), jnp.ones((30, 2)))
    assert len(traces) == 1


def test_events_from_times_whole_and_in_parts():
    times = np.random.default_rng(0).uniform(0, 14, (6, 30))
    times[0, :3] = np.inf, 6.999, 7.0
    whole = np.asarray(train.events_from_times(times, 7).to_dense())
    expected = np.floor(times) == np.arange(7)[:, None, None]
    assert (whole == expected).all()
    parts = train.events_from_times(times, 7, parts=3)
    dense = np.asarray(jax.vmap(lambda e: e.to_dense())(parts))
    assert (np.concatenate(dense, 1) == whole).all()
    w = jnp.asarray(np.random.default_rng(2).normal(size=(30, 4)))
    mapped = jax.vmap(lambda e: train.project(e, w))(parts)
    np.testing.assert_allclose(np.concatenate(mapped, 1), whole @ np.asarray(w), atol=1e-12)


@pytest.fixture
def as_users_run_it():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


ONE = np.array([0])
EVENTS = train.event_list(ONE, ONE, ONE, shape=(2, 1, 3))
REFUSED = {
    r"x: nan; .* 0 or more": lambda: train.latency_code(np.nan, tau=1.0, threshold=0.1),
    r"x: -1\.0": lambda: train.latency_code([0.5, -1.0], tau=1.0, threshold=0.1),
    r"threshold: 0\.0; .* above 0": lambda: train.latency_code(1.0, tau=1.0, threshold=0.0),
    r"rate: -2\.0": lambda: train.poisson_code(-2.0, steps=3, dt=1.0, key=jr.key(0)),
    r"x: 1\.5; .* at most 1": lambda: train.phase_code(1.5, bits=3, steps=3),
    r"bits: 0": lambda: train.phase_code(0.5, bits=0, steps=3),
    r"kappa: 0\.0": lambda: train.von_mises_tuning(0.0, 4, kappa=0.0, peak=1.0),
    r"n: 1, low": lambda: train.gaussian_tuning(0, 1, low=0, high=1, width=1, peak=1),
    r"neuron: 3 to 3; .* \[0, 3\)": lambda: train.event_list(ONE, ONE, ONE + 3, shape=(2, 1, 3)),
    r"step: -1": lambda: train.event_list(ONE - 1, ONE, ONE, shape=(2, 1, 3)),
    r"trial: shape \(2,\)": lambda: train.event_list(ONE, np.zeros(2, int), ONE, shape=(2, 1, 3)),
    r"capacity: 0, .* 1 events": lambda: train.event_list(
        ONE, ONE, ONE, shape=(2, 1, 3), capacity=0
    ),
    r"times: nan": lambda: train.events_from_times(np.array([[np.nan]]), 3),
    r"times: -1\.0": lambda: train.events_from_times(np.array([[-1.0]]), 3),
    r"times: shape \(3,\)": lambda: train.events_from_times(np.ones(3), 3),
    r"parts: 2, for 3 trials": lambda: train.events_from_times(np.ones((3, 2)), 3, parts=2),
    r"weight: shape \(4, 2\); .* \(3, n_post\)": lambda: train.project(EVENTS, jnp.ones((4, 2))),
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_input(message, as_users_run_it):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


def test_bad_types(as_users_run_it):
    with pytest.raises(TypeError, match=r"step: dtype float64"):
        train.event_list(np.array([0.5]), ONE, ONE, shape=(2, 1, 3))
    with pytest.raises(TypeError, match="key: None"):
        train.poisson_code(1.0, steps=3, dt=1.0, key=None)
    with pytest.raises(TypeError, match="times: traced"):
        jax.jit(lambda t: train.events_from_times(t, 3))(jnp.ones((1, 2)))

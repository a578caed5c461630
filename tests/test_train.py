"""Losses against closed forms and references; surrogate networks against finite differences."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.special

import purebrain as pb
from purebrain import train

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def promotion():
    """Optax's Adam mixes types."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def random_spikes(steps=9, trials=4, n=3, p=0.3, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((steps, trials, n)) < p, float)


# ---- losses --------------------------------------------------------------------------------------


def test_cross_entropies_are_those_of_scipy():
    labels = jnp.array([2, 0, 1, 1])
    s = random_spikes()

    def expected(logits):
        return -scipy.special.log_softmax(logits, 1)[np.arange(4), labels].mean()

    got = train.rate_cross_entropy(s, labels)
    assert float(got) == pytest.approx(expected(np.asarray(s).sum(0)), rel=1e-12)
    v = jnp.asarray(RNG.normal(size=(9, 4, 3)) * 300)  # exp would overflow
    got = train.max_over_time_cross_entropy(v, labels)
    assert float(got) == pytest.approx(expected(np.asarray(v).max(0)), rel=1e-12)
    first = np.where(np.asarray(s).any(0), np.asarray(s).argmax(0) + 1, 9) * 2.0
    got = train.latency_cross_entropy(s, labels, dt=2.0, tau=3.0)
    assert float(got) == pytest.approx(expected(-first / 3.0), rel=1e-12)


def test_the_maximum_alone_has_a_gradient():
    v, labels = jnp.asarray(RNG.normal(size=(9, 4, 3))), jnp.array([2, 0, 1, 1])
    grad = np.asarray(jax.grad(lambda v: train.max_over_time_cross_entropy(v, labels))(v))
    top = np.asarray(v).argmax(0)
    logits = np.asarray(v).max(0)
    expected = (scipy.special.softmax(logits, 1) - np.eye(3)[labels]) / 4
    np.testing.assert_allclose(np.take_along_axis(grad, top[None], 0)[0], expected, rtol=1e-12)
    assert np.count_nonzero(grad) == 12


def test_rates():
    s = random_spikes()
    rates = np.asarray(s).sum(0) / (9 * 2e-3)
    np.testing.assert_allclose(train.firing_rates(s, dt=2.0), rates, rtol=1e-12)
    target = RNG.uniform(0, 100, (4, 3))
    got = train.rate_error(s, target, dt=2.0)
    assert float(got) == pytest.approx(((rates - target) ** 2).mean(), rel=1e-12)
    bounds = np.array([100.0, 150.0, 200.0]), np.array([160.0, 170.0, 400.0])
    mean = rates.mean(0)
    out = np.clip(mean, *bounds) - mean
    assert np.count_nonzero(out) == 2  # one within
    assert float(train.rate_bounds(s, *bounds, dt=2.0)) == pytest.approx((out**2).mean())
    assert float(train.spike_l1(s)) == pytest.approx(np.asarray(s).sum() / 4)
    assert float(train.spike_l2(s)) == pytest.approx((np.asarray(s).sum(0).mean(0) ** 2).mean())
    v = RNG.normal(size=(9, 4, 3))
    got = train.membrane_bounds(jnp.asarray(v), -0.5, 0.7)
    assert float(got) == pytest.approx(((np.clip(v, -0.5, 0.7) - v) ** 2).mean())


def test_first_spike_time_is_the_expectation_over_independent_spikes():
    # Its gradient stands in for that of the latency; so its values between 0 and 1 count too.
    p, dt = RNG.uniform(0, 1, 5), 0.5
    patterns = (np.arange(32)[:, None] >> np.arange(5)) & 1
    weight = np.where(patterns, p, 1 - p).prod(1)
    latency = np.where(patterns.any(1), patterns.argmax(1) + 1, 5) * dt
    got = train.first_spike_time(jnp.asarray(p)[:, None, None], dt=dt)
    assert float(got[0, 0]) == pytest.approx((weight * latency).sum(), rel=1e-12)


@pytest.mark.parametrize("tau", [0.3, 5.0, 200.0])
def test_van_rossum_is_the_integral(tau):
    dt, steps = 2.0, 12
    s, target = random_spikes(steps, 1, 1, seed=3), random_spikes(steps, 1, 1, seed=4)

    def filtered(spikes, t):
        at = np.flatnonzero(np.asarray(spikes)[:, 0, 0]) * dt
        return np.exp(-(t - at[at <= t]) / tau).sum()

    def squared(t):
        return (filtered(s, t) - filtered(target, t)) ** 2

    pieces = [*np.arange(steps) * dt, 24.0 + 40 * tau]
    total = sum(
        scipy.integrate.quad(squared, a, np.nextafter(b, a), epsabs=1e-13, limit=200)[0]
        for a, b in itertools.pairwise(pieces)
    )
    got = train.van_rossum(s, target, dt=dt, tau=tau)
    assert float(got[0, 0]) == pytest.approx(total / tau, rel=1e-6)


def test_van_rossum_of_a_spike_moved():
    one = jnp.zeros((20, 1, 1)).at[3].set(1.0)
    other = jnp.zeros((20, 1, 1)).at[10].set(1.0)
    distance = train.van_rossum(one, other, dt=1.0, tau=4.0)
    assert float(distance[0, 0]) == pytest.approx(1 - np.exp(-7 / 4.0), rel=1e-12)


# ---- parameters with a sign, and shared ones -----------------------------------------------------


def test_dale_keeps_signs_and_absent_synapses_through_training():
    sign, mask = jnp.array([1.0, -1.0, 1.0]), ~jnp.eye(3, dtype=bool)
    dale = train.Dale(sign, mask)
    w = sign[:, None] * mask * jnp.asarray(RNG.uniform(0.01, 5.0, (3, 3)))
    free = pb.unconstrain(w, dale)
    np.testing.assert_allclose(pb.constrain(free, dale), w, rtol=1e-12)
    slope = jax.grad(lambda x: pb.constrain(x, dale).sum())(free)
    softplus = sign[:, None] * mask * scipy.special.expit(np.asarray(free))
    np.testing.assert_allclose(slope, softplus, rtol=1e-12)

    def loss(x, batch, key):  # wants every weight to be -1
        return jnp.mean((pb.constrain(x, dale) + 1.0) ** 2)

    done = train.fit(free, loss, optax.adam(0.1), lambda key: range(400), epochs=1, key=jr.key(0))
    w = np.asarray(pb.constrain(done.model, dale))
    assert (w[[0, 2]] >= 0).all() and (w[~np.asarray(mask)] == 0).all()
    np.testing.assert_allclose(w[1, [0, 2]], -1.0, atol=0.02)
    with pytest.raises(ValueError, match=r"not inside"):
        pb.unconstrain(jnp.ones((3, 3)), dale)


def test_shared_parameters_stay_shared_and_others_stay_put():
    layers = eqx.nn.Linear(2, 2, key=jr.key(0)), eqx.nn.Linear(2, 2, key=jr.key(1))
    shared = eqx.nn.Shared(layers, lambda m: m[1].weight, lambda m: m[0].weight)

    def loss(model, x, key):
        a, b = model()
        return jnp.mean(jax.vmap(lambda x: b(a(x)) - x)(x) ** 2)

    batches = train.Batches(RNG.normal(size=(64, 2)), 16)
    weights = pb.where_spec(shared, lambda m: m.pytree[0].weight)
    done = train.fit(
        shared, loss, optax.adam(0.05), batches, epochs=20, key=jr.key(2), trained=weights
    )
    a, b = done.model()
    assert (np.asarray(a.weight) == np.asarray(b.weight)).all()
    assert (np.asarray(a.weight) != np.asarray(layers[0].weight)).all()
    assert (np.asarray(a.bias) == np.asarray(layers[0].bias)).all()
    assert done.losses[-4:].mean() < 0.5 * done.losses[:4].mean()


# ---- surrogate networks --------------------------------------------------------------------------

STEPS, N_IN, N, N_OUT = 25, 12, 6, 3


class Smooth(pb.surrogate.AbstractSpike):
    """The function whose derivative a surrogate is, in place of the step."""

    surrogate: pb.surrogate.AbstractSurrogate
    integral: object = eqx.field(static=True)

    def __call__(self, x):
        return _with_slope(self.integral(jax.lax.stop_gradient(x)), x, self.surrogate.derivative(x))


@jax.custom_jvp
def _with_slope(y, x, slope):
    return y


_with_slope.defjvp(lambda p, t: (p[0], p[2] * t[1]))


SURROGATES = {
    "SuperSpike": (pb.surrogate.SuperSpike(5.0), lambda x: 0.5 + x / (1 + 5 * abs(x))),
    "ArcTan": (
        pb.surrogate.ArcTan(2.0),
        lambda x: 0.5 + jnp.arctan(jnp.pi / 2 * 2.0 * x) / jnp.pi,
    ),
}


class Net(eqx.Module):
    """Events, an exponential synapse, LIF (recurrent or not), readout."""

    w_in: jax.Array
    w_rec: jax.Array
    w_out: jax.Array
    spike: pb.surrogate.AbstractSpike
    recurrent: bool = eqx.field(static=True)

    def __call__(self, events):
        lif = pb.LIF(
            N,
            tau=10.0,
            v_rest=0.0,
            v_th=1.0,
            v_reset=0.0,
            spike=self.spike,
            reset_rule=pb.HardReset(detach=False),
        )
        hidden = pb.Chain(train.Filter(pb.Exponential(10.0), N), lif)
        current = train.project(events, self.w_in)
        if self.recurrent:
            hidden = Recurrent(hidden, self.w_rec)
        s = run(hidden, current)
        return run(train.Filter(pb.Exponential(5.0), N_OUT), s @ self.w_out), s


class Recurrent(pb.AbstractDynamics):
    inner: pb.AbstractDynamics
    weight: jax.Array

    def init(self, *, dt, key=None):
        return self.inner.init(dt=dt, key=key), jnp.zeros(N)

    def step(self, state, x, tick):
        inner, s = state
        inner, s = self.inner.step(inner, x + s @ self.weight, tick)
        return (inner, s), s


def run(model, x):
    return train.over_time(model, x, dt=1.0)


def net_of(spike, recurrent=False, scale=1.0):
    draw = np.random.default_rng(5).normal
    w_in, w_rec, w_out = (
        jnp.asarray(draw(0, s, shape))
        for s, shape in ((0.4, (N_IN, N)), (0.3, (N, N)), (0.5, (N, N_OUT)))
    )
    return Net(abs(w_in) * scale, w_rec, w_out, spike, recurrent)


EVENTS = train.events_from_times(np.random.default_rng(6).uniform(0, 40, (8, N_IN)), STEPS)
LABELS = jnp.arange(8) % 3


def loss_of(net, events=EVENTS, key=None):
    v, s = net(events)
    return train.max_over_time_cross_entropy(v, LABELS) + 1e-3 * train.spike_l2(s)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", SURROGATES)
def test_gradient_is_that_of_finite_differences_of_the_smoothed_loss(name, recurrent):
    surrogate, integral = SURROGATES[name]
    x = jnp.linspace(-2, 2, 41)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(integral))(x), surrogate.derivative(x), rtol=1e-9, atol=1e-12
    )
    net = net_of(Smooth(surrogate, integral), recurrent)
    loss = eqx.filter_jit(loss_of)
    grads = eqx.filter_jit(eqx.filter_grad(loss_of))(net)
    assert float(net(EVENTS)[1].mean()) > 0.01
    for where in (lambda m: m.w_in, lambda m: m.w_out, lambda m: m.w_rec)[: 2 + recurrent]:
        w, h = where(net), 1e-5
        for _ in range(2):
            d = jnp.asarray(RNG.normal(size=w.shape))
            ends = [eqx.tree_at(where, net, w + sign * h * d) for sign in (1, -1)]
            secant = (float(loss(ends[0])) - float(loss(ends[1]))) / (2 * h)
            assert float(jnp.sum(where(grads) * d)) == pytest.approx(secant, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("spike", [pb.surrogate.SuperSpike(), pb.surrogate.ArcTan()])
def test_the_surrogate_gradient_points_down_the_smoothed_loss(spike):
    sharp = pb.surrogate.Sigmoid(25.0)
    smooth = Smooth(sharp, lambda x: jax.nn.sigmoid(25.0 * x))
    grad = eqx.filter_grad(loss_of)(net_of(spike)).w_in
    reference = eqx.filter_grad(loss_of)(net_of(smooth)).w_in
    cosine = jnp.sum(grad * reference) / jnp.linalg.norm(grad) / jnp.linalg.norm(reference)
    assert float(cosine) > 0.3


@pytest.mark.parametrize(("scale", "low", "high"), [(1e-3, 0.0, 0.0), (6.0, 950.0, 1000.0)])
def test_silent_and_always_firing_networks_recover(scale, low, high):
    net = net_of(pb.surrogate.SuperSpike(), scale=scale)
    drive = jnp.full((STEPS, 4, N_IN), 1.0)

    def loss(net, batch, key):
        return train.rate_bounds(of(net), 50.0, 150.0, dt=1.0) * 1e-3

    def of(net):
        return run(
            pb.Chain(
                train.Filter(pb.Exponential(10.0), N),
                pb.LIF(N, tau=10.0, v_rest=0.0, v_th=1.0, v_reset=0.0, spike=net.spike),
            ),
            drive @ net.w_in,
        )

    def rate(net):
        return float(train.firing_rates(of(net)[5:], dt=1.0).mean())

    assert low <= rate(net) <= high
    grads = eqx.filter_grad(lambda net: loss(net, None, None))(net)
    assert np.isfinite(grads.w_in).all() and (np.asarray(grads.w_in) != 0).all()
    trained = pb.where_spec(net, lambda m: m.w_in)
    rates = optax.cosine_decay_schedule(0.03, 400)
    done = train.fit(
        *(net, loss, optax.adam(rates, b2=0.9), lambda key: range(400)),
        epochs=1,
        key=jr.key(0),
        trained=trained,
    )
    assert 40.0 < rate(done.model) < 180.0


def test_loss_decreases_on_a_fixed_seed():
    net = net_of(pb.surrogate.SuperSpike(), recurrent=True)
    trained = pb.where_spec(net, lambda m: (m.w_in, m.w_rec, m.w_out))
    done = train.fit(
        *(net, loss_of, optax.adam(0.03), lambda key: [EVENTS] * 100),
        epochs=1,
        key=jr.key(0),
        trained=trained,
    )
    assert done.losses[-1] < 0.5 * done.losses[0]
    v, _ = done.model(EVENTS)
    assert (jnp.argmax(jnp.max(v, 0), 1) == LABELS).mean() >= 7 / 8


# ---- layers over trials --------------------------------------------------------------------------


@pytest.mark.parametrize("adjoint", [None, pb.Checkpointed(), pb.Truncated(20)])
def test_layers_over_time_are_vmap_around_simulate_and_so_is_their_gradient(adjoint):
    model = pb.Chain(train.Filter(pb.Exponential(4.0), 3), pb.LIF(3, v_rest=-60.0))
    x = jnp.asarray(RNG.normal(10, 20, (20, 5, 3)))
    trials = train.Trials(model, 5)

    def mapped(x):
        def one(x):
            state, drive = model.init(dt=1.0), pb.Series(x)
            return pb.simulate(model, state, drive, dt=1.0, duration=20.0).saved

        return jax.vmap(one, 1, 1)(x)

    def stepped(x):
        state, drive = trials.init(dt=1.0), pb.Series(x)
        return pb.simulate(trials, state, drive, dt=1.0, duration=20.0).saved

    def layered(x):
        return train.over_time(model, x, dt=1.0, adjoint=adjoint)

    weight = jnp.asarray(RNG.normal(size=(20, 5, 3)))
    expected, slope = jax.value_and_grad(lambda x: jnp.sum(mapped(x) * weight))(x)
    assert 0.05 < float(mapped(x).mean()) < 0.95
    for f in (stepped, layered):
        assert (f(x) == mapped(x)).all()
        value, grad = jax.value_and_grad(lambda x, f=f: jnp.sum(f(x) * weight))(x)
        assert float(value) == float(expected)
        np.testing.assert_allclose(grad, slope, rtol=1e-10, atol=1e-14)


class Noise(pb.AbstractDynamics):
    """A random number a step."""

    def init(self, *, dt, key=None):
        return jr.uniform(key)

    def step(self, state, x, tick):
        return state, state + jr.uniform(tick.key) + x


def test_trials_have_noise_and_initial_values_of_their_own():
    trials = train.Trials(Noise(), 3)
    start = trials.init(dt=1.0, key=jr.key(0))
    out = pb.simulate(trials, start, jnp.zeros(3), dt=1.0, duration=20.0, key=jr.key(1)).saved
    assert np.unique(start).size == 3 and np.unique(out).size == 60
    layers = [train.over_time(Noise(), jnp.zeros((20, 3)), dt=1.0, key=jr.key(k)) for k in (0, 1)]
    assert np.unique(layers).size == 120


# ---- bad input -----------------------------------------------------------------------------------

S = jnp.zeros((3, 2, 4))
REFUSED = {
    (ValueError, r"spikes: shape \(3, 2\); it must be \(steps, trials, neurons\)"): (
        lambda: train.spike_l1(S[:, :, 0])
    ),
    (ValueError, r"spikes: shape \(0, 2, 4\)"): lambda: train.firing_rates(S[:0], dt=1.0),
    (TypeError, r"spikes: bool, which have no derivative"): lambda: train.spike_l2(S > 0),
    (ValueError, r"labels: int64\[3\]; they must be 2 whole numbers"): (
        lambda: train.max_over_time_cross_entropy(S, jnp.zeros(3, int))
    ),
    (ValueError, r"labels: float64\[2\]"): (lambda: train.rate_cross_entropy(S, jnp.zeros(2))),
    (ValueError, r"target: shape \(3, 2, 3\)"): (
        lambda: train.van_rossum(S, S[..., :3], dt=1.0, tau=1.0)
    ),
    (ValueError, r"tau: 0\.0 ms"): lambda: train.van_rossum(S, S, dt=1.0, tau=0.0),
    (ValueError, r"sign: .* 1\.0 or -1\.0"): lambda: train.Dale(jnp.array([0.5])),
    (ValueError, r"mask: shape \(3, 3\); it must have 2 rows"): (
        lambda: train.Dale(jnp.ones(2), jnp.ones((3, 3), bool))
    ),
    (ValueError, r"n: 0; it must be at least 1"): lambda: train.Trials(pb.LIF(1), 0),
    (TypeError, r"model: 3; .* AbstractDynamics"): lambda: train.Trials(3, 1),
    (ValueError, r"x: shape \(0, 2\)"): (
        lambda: train.over_time(pb.LIF(2), jnp.zeros((0, 2)), dt=1.0)
    ),
    (TypeError, r"syn: 3; .* AbstractSynapse"): lambda: train.Filter(3, 1),
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[1][:20])
def test_bad_input(case):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(case[0], match=case[1]):
            REFUSED[case]()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range_in_compiled_code_makes_the_loss_nan(label):
    labels = jnp.array([0, label])
    assert np.isnan(float(jax.jit(train.max_over_time_cross_entropy)(S, labels)))

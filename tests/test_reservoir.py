"""Reservoirs and their readouts, against NumPy, SciPy and plain Python."""

import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import solve_ivp

import purebrain as pb
from purebrain.reservoir import NVAR, RLS, ClosedLoop, EchoState, Force, Ridge, ridge, scaled


def samples(key, count=60, features=12, targets=3):
    """Features of very different sizes, and targets with noise."""
    k1, k2, k3 = jr.split(jr.key(key), 3)
    x = jr.normal(k1, (count, features)) * jnp.logspace(-2, 1, features)[None]
    y = x @ jr.normal(k2, (features, targets)) + 0.1 * jr.normal(k3, (count, targets))
    return x, y


def augmented(x, y, penalty, weights=None):
    """Ridge regression as SciPy's least squares of the rows with sqrt(penalty) I below them."""
    x, y = np.asarray(x), np.asarray(y)
    if weights is not None:
        root = np.sqrt(weights)[:, None]
        x, y = root * x, root * y
    below = np.sqrt(penalty) * np.eye(x.shape[1])
    right = np.concatenate([y, np.zeros((x.shape[1], y.shape[1]))])
    return scipy.linalg.lstsq(np.concatenate([x, below]), right)[0]


# ---- readouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.0, 1e-6, 0.3, 100.0])
def test_ridge_is_augmented_least_squares(penalty):
    x, y = samples(0)
    w = ridge(x, y, penalty)
    np.testing.assert_allclose(w, augmented(x, y, penalty), rtol=1e-10, atol=1e-10)
    by_svd = ridge(x, y, penalty, solver=lx.SVD())
    np.testing.assert_allclose(by_svd, w, rtol=1e-9, atol=1e-10)


def test_ridge_without_a_penalty_takes_dependent_features_by_svd():
    x, y = samples(1)
    x = jnp.concatenate([x, x[:, :2]], axis=1)
    w = ridge(x, y, 0.0, solver=lx.SVD())
    np.testing.assert_allclose(w, scipy.linalg.lstsq(np.asarray(x), np.asarray(y))[0], atol=1e-9)


@pytest.mark.parametrize("sizes", [[60], [1, 7, 52], [20, 20, 20]])
def test_ridge_over_batches_is_ridge_in_one_go(sizes):
    x, y = samples(2)
    fit = Ridge(0.3)
    state, first = fit.init(12, 3), 0
    for size in sizes:
        state = fit.add(state, x[first : first + size], y[first : first + size])
        first += size
    np.testing.assert_allclose(fit.solve(state), augmented(x, y, 0.3), rtol=1e-10, atol=1e-10)


def test_ridge_has_the_derivative_of_its_closed_form():
    x, y = samples(3, count=20, features=4, targets=1)

    def by_hand(penalty):
        return jnp.linalg.solve(x.T @ x + penalty * jnp.eye(4), x.T @ y).sum()

    for solve in (lambda p: ridge(x, y, p).sum(), by_hand):
        slope = (solve(0.5 + 1e-5) - solve(0.5 - 1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(lambda p: ridge(x, y, p).sum())(0.5), slope, rtol=1e-6)


def rls_run(rls, x, y):
    return jax.lax.scan(lambda s, xy: rls.step(s, *xy), rls.init(x.shape[1], y.shape[1]), (x, y))


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_rls_is_ridge_after_any_number_of_samples(penalty, count):
    x, y = samples(4, count)
    state, guesses = rls_run(RLS(penalty), x, y)
    np.testing.assert_allclose(state.weight, augmented(x, y, penalty), rtol=1e-8, atol=1e-8)
    gram = np.asarray(x.T @ x) + penalty * np.eye(12)
    np.testing.assert_allclose(gram @ np.asarray(state.inverse), np.eye(12), atol=1e-6)
    # A sample is predicted by the weights of those before it.
    before = np.zeros((12, 3)) if count == 1 else augmented(x[:-1], y[:-1], penalty)
    np.testing.assert_allclose(guesses[-1], np.asarray(x[-1]) @ before, rtol=1e-7, atol=1e-7)


def test_rls_that_forgets_is_ridge_of_weighted_samples():
    x, y = samples(5, 100)
    state, _ = rls_run(RLS(2.0, forgetting=0.95), x, y)
    age = np.arange(100)[::-1]
    w = augmented(x, y, 2.0 * 0.95**100, weights=0.95**age)
    np.testing.assert_allclose(state.weight, w, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ridge(-1.0), "penalty: -1.0"),
        (lambda: ridge(jnp.ones((3, 1)), jnp.ones((3, 1)), float("nan")), "penalty: nan"),
        (lambda: ridge(jnp.ones((3, 1)), jnp.ones((2, 1)), 0.0), "y: 2 samples, but x has 3"),
        (lambda: RLS(0.0), "penalty: 0.0"),
        (lambda: RLS(1.0, forgetting=1.5), "forgetting: 1.5"),
        (lambda: NVAR(3, k=0), "k: 0"),
        (lambda: NVAR(3, orders=(1,)), r"orders: \(1,\)"),
        (lambda: EchoState(pb.ops.Dense(jnp.ones((2, 3))), jnp.ones((2, 1))), "comm: shape"),
        (lambda: EchoState(pb.ops.Dense(jnp.ones((2, 2))), jnp.ones((3, 1))), "w_in: shape"),
        (lambda: reservoir(leak=0.0), "leak: 0.0"),
        (lambda: reservoir(bias=jnp.ones(3)), "bias: shape"),
        (lambda: scaled(pb.ops.Dense(jnp.zeros((2, 2))), 1.0, key=jr.key(0)), "radius 0"),
        (lambda: scaled(pb.ops.Dense(jnp.ones((2, 2))), -1.0, key=jr.key(0)), "radius: -1.0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- the reservoir -------------------------------------------------------------------------------

OPERATORS = {
    "jit": lambda n: pb.ops.jit_normal(0.0, 1.0, 0.1, n, n, seed=3),
    "stored": lambda n: pb.connect.fixed_prob(
        0.1, lambda rng, size: rng.normal(size=size), key=jr.key(3)
    )(n, n),
    "dense": lambda n: pb.ops.Dense(jr.normal(jr.key(3), (n, n))),
}


def reservoir(kind="dense", n=60, inputs=2, radius=0.9, **kwargs):
    op = scaled(OPERATORS[kind](n), radius, key=jr.key(1))
    return EchoState(op, jr.uniform(jr.key(2), (n, inputs), minval=-1.0), **kwargs)


def states(net, u, start=None):
    start = net.init(dt=1.0) if start is None else start
    return pb.simulate(net, start, pb.Series(u), dt=1.0, duration=float(len(u))).saved


@pytest.mark.parametrize("kind", OPERATORS)
def test_the_reservoir_is_its_equation(kind):
    net = reservoir(kind, bias=jnp.linspace(-0.2, 0.2, 60), leak=0.3)
    w, w_in = np.asarray(net.comm.as_matrix()), np.asarray(net.w_in.as_matrix())
    u = np.random.default_rng(0).normal(size=(20, 2))
    x, expected = np.zeros(60), []
    for row in u:
        x = 0.7 * x + 0.3 * np.tanh(w @ x + w_in @ row + np.linspace(-0.2, 0.2, 60))
        expected.append(x)
    np.testing.assert_allclose(states(net, jnp.asarray(u)), expected, rtol=1e-9, atol=1e-12)
    batch = jnp.stack([jnp.asarray(u), -jnp.asarray(u)])
    np.testing.assert_allclose(jax.vmap(lambda u: states(net, u))(batch)[0], expected, atol=1e-12)


@pytest.mark.parametrize("kind", OPERATORS)
def test_scaled_has_the_spectral_radius(kind):
    op = scaled(OPERATORS[kind](60), 0.8, key=jr.key(1))
    exact = np.abs(np.linalg.eigvals(np.asarray(op.as_matrix()))).max()
    assert abs(exact - 0.8) < 0.03  # the power iteration's own error


def test_echo_state_property():
    u = jr.normal(jr.key(5), (300, 2))
    starts = jr.normal(jr.key(6), (2, 60))
    net = reservoir(radius=1.0)
    # A largest singular value below 1 suffices (Jaeger 2001, proposition 3): gaps shrink by it.
    shrink = 0.9 / np.linalg.norm(np.asarray(net.comm.as_matrix()), 2)
    net = EchoState(shrink * net.comm, net.w_in)
    gap = np.linalg.norm(states(net, u, starts[0]) - states(net, u, starts[1]), axis=1)
    first = np.linalg.norm(starts[0] - starts[1])
    assert (gap <= first * 0.9 ** np.arange(1, 301) * (1 + 1e-9)).all() and gap[-1] < 1e-12
    # And a radius far above 1 without input does not forget.
    wild = reservoir(radius=3.0)
    ends = [states(wild, jnp.zeros((300, 2)), s)[-1] for s in starts]
    assert np.abs(ends[0] - ends[1]).max() > 0.1


def test_a_readout_recalls_the_past_only_within_the_memory_of_the_units():
    """Jaeger (2002): memory capacity of i.i.d. input is at most the number of units."""
    n, delays = 30, 60
    u = jr.uniform(jr.key(7), (3000, 1), minval=-0.1, maxval=0.1)
    x = states(reservoir(n=n, inputs=1, radius=0.95), u)
    past = jnp.stack([jnp.roll(u[:, 0], k) for k in range(1, delays)], axis=1)
    train, test = slice(200, 2000), slice(2000, 3000)
    guess = x[test] @ ridge(x[train], past[train], 1e-12)
    corr = [np.corrcoef(guess[:, k], past[test][:, k])[0, 1] ** 2 for k in range(delays - 1)]
    assert corr[0] > 0.999 and corr[-1] < 0.05
    assert 10 < sum(corr) <= n + 1


# ---- next-generation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "stride", "orders", "constant"),
    [
        (1, 1, (2,), True),
        (2, 1, (2,), True),
        (3, 2, (2, 3), False),
        (2, 5, (3,), True),
        (2, 1, (), True),
    ],
)
def test_nvar_is_a_plain_enumeration(k, stride, orders, constant):
    u = np.random.default_rng(1).normal(size=(30, 2))
    net = NVAR(2, k=k, stride=stride, orders=orders, constant=constant)
    got = pb.simulate(net, net.init(dt=1.0), pb.Series(jnp.asarray(u)), dt=1.0, duration=30.0).saved
    assert got.shape == (30, net.n)
    for t in range((k - 1) * stride, 30):
        linear = [u[t - j * stride, i] for j in range(k) for i in range(2)]
        expected = ([1.0] if constant else []) + linear
        m = range(len(linear))
        for order in orders:
            if order == 2:
                expected += [linear[a] * linear[b] for a in m for b in m if a <= b]
            else:
                expected += [
                    linear[a] * linear[b] * linear[c]
                    for a in m
                    for b in m
                    for c in m
                    if a <= b <= c
                ]
        np.testing.assert_allclose(got[t], expected, rtol=1e-12)


def test_nvar_of_a_quadratic_map_finds_its_coefficients():
    u = [0.3]
    for _ in range(60):
        u.append(3.7 * u[-1] * (1 - u[-1]))
    u = jnp.asarray(u)[:, None]
    net = NVAR(1, k=1)
    x = pb.simulate(net, net.init(dt=1.0), pb.Series(u), dt=1.0, duration=60.0).saved
    w = ridge(x, u[1:], 0.0)
    np.testing.assert_allclose(w[:, 0], [0.0, 3.7, -3.7], atol=1e-10)
    loop = ClosedLoop(net, lambda o, _: o @ w, u[0])
    alone = pb.simulate(loop, loop.init(dt=1.0), dt=1.0, duration=20.0).saved
    np.testing.assert_allclose(alone, u[1:21], atol=1e-6)


# ---- loops ---------------------------------------------------------------------------------------


def test_a_closed_loop_goes_on_where_teacher_forcing_ended():
    t = 0.2 * jnp.arange(1200.0)
    y = jnp.sin(t)[:, None]
    net = reservoir(n=100, inputs=1, leak=0.5, bias=0.1)
    run = pb.simulate(net, net.init(dt=1.0), pb.Series(y), dt=1.0, duration=1000.0)
    w = ridge(run.saved[200:], y[201:1001], 1e-9)
    loop = ClosedLoop(net, lambda x, _: x @ w, y[0])
    alone = pb.simulate(loop, (run.state, y[1000]), dt=1.0, duration=199.0).saved
    np.testing.assert_allclose(alone, y[1001:], atol=1e-3)


def test_force_is_its_two_parts_and_learns_to_run_alone():
    net = reservoir(n=200, inputs=1, radius=1.3, leak=0.3, bias=0.1)
    rls, y = RLS(0.1), jnp.sin(0.1 * jnp.arange(2500.0))[:, None]
    force = Force(net, rls, 200, 1)
    run = pb.simulate(force, force.init(dt=1.0), pb.Series(y), dt=1.0, duration=2000.0)
    x, z, learner = net.init(dt=1.0), jnp.zeros(1), rls.init(200, 1)
    tick = pb.Tick(jnp.int32(0), 1.0)
    for n in range(25):
        x, _ = net.step(x, z, tick)
        learner, z = rls.step(learner, x, y[n])
        np.testing.assert_allclose(run.saved[n], z, atol=1e-12)
    assert np.abs(run.saved - y[:2000])[200:].max() < 0.1
    w = run.state.readout.weight
    loop = ClosedLoop(net, lambda x, _: x @ w, y[0])
    alone = pb.simulate(loop, (run.state.model, run.state.z), dt=1.0, duration=500.0).saved
    assert np.sqrt(np.mean((alone - y[2000:]) ** 2)) < 0.05
    untrained = ClosedLoop(net, lambda x, _: x @ (0 * w), y[0])
    silent = pb.simulate(untrained, (run.state.model, run.state.z), dt=1.0, duration=500.0).saved
    assert np.sqrt(np.mean((silent - y[2000:]) ** 2)) > 0.5


def test_lorenz_by_nvar_has_the_errors_of_gauthier_et_al():
    """Ten trainings on 400 samples: they report an NRMSE of 1.06e-4 in training and of (2.40 +-
    0.53) 1e-3 over one Lyapunov time alone. Their data are of RK23 at its default tolerance, whose
    errors are part of the regularisation."""

    def vf(t, y):
        return 10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]

    t, start = 0.025 * np.arange(4300), [17.67715816276679, 12.931379185960404, 43.91404334248268]
    u = jnp.asarray(solve_ivp(vf, (0, t[-1]), start, t_eval=t, method="RK23").y.T)
    net = NVAR(3)
    features = pb.simulate(net, net.init(dt=1.0), pb.Series(u), dt=1.0, duration=4300.0).saved

    def one(first):
        x = jax.lax.dynamic_slice_in_dim(features, first, 400)
        v = jax.lax.dynamic_slice_in_dim(u, first, 445)
        w = ridge(x, v[1:401] - v[:400], 2.5e-6)
        loop = ClosedLoop(net, lambda o, z: z + o @ w, u[0])
        begin = (jnp.stack([v[399], v[398]]), v[400])
        alone = pb.simulate(loop, begin, dt=1.0, duration=44.0).saved
        error = lambda e: jnp.sqrt(jnp.mean(e**2) / jnp.var(u))  # noqa: E731
        return error(x @ w - (v[1:401] - v[:400])), error(alone - v[401:445])

    fitted, alone = jax.vmap(one)(200 + 400 * jnp.arange(10))
    assert abs(fitted.mean() - 1.06e-4) < 0.05e-4
    assert abs(alone.mean() - 2.40e-3) < 0.53e-3

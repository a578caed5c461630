"""Fractional equations against Mittag-Leffler functions, powers of t and finite differences."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import optimistix as optx
import pytest
from scipy.special import binom, gamma

import purebrain as pb
from purebrain.solvers import CaputoEuler, CaputoL1, GrunwaldLetnikov, fdesolve

IMPLICIT = CaputoL1(optx.Newton(rtol=1e-12, atol=1e-12))
METHODS = (CaputoEuler(), CaputoL1(), IMPLICIT, GrunwaldLetnikov())


def name_of(method):
    return type(method).__name__ + ("(Newton)" if method is IMPLICIT else "")


def mittag_leffler(alpha, z):
    """The sum of z^k / Gamma(alpha k + 1)."""
    with mp.workdps(50):
        terms = [mp.mpf(z) ** k * mp.rgamma(mp.mpf(alpha) * k + 1) for k in range(400)]
        assert abs(terms[-1]) < 1e-20
        return float(mp.fsum(terms))


def relax(t, y, args):
    return jax.tree.map(lambda a: -a, y)


def end(vf, method, n, y0, alpha, args=None, t1=1.0, **options):
    return fdesolve(vf, method, 0.0, t1, t1 / n, y0, args, alpha=alpha, **options).ys[0]


# ---- order ---------------------------------------------------------------------------------------

ALPHAS = np.array([0.3, 0.5, 0.8, 1.0])


def smooth(t, y, args):
    """y = t^2, whose derivative is 2 t^(2 - alpha) / Gamma(3 - alpha); one component an order."""
    return 2 / gamma(3 - ALPHAS) * t ** (2 - jnp.asarray(ALPHAS)) + t**4 - y**2


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_order(method):
    """Slopes found for alpha 0.3, 0.5, 0.8, 1: CaputoEuler 1.04, 1.02, 1.01, 1.01; CaputoL1 1.00,
    1.00, 0.97, 1.01; with Newton 1.67, 1.49, 1.19, 0.99; GrunwaldLetnikov 1.01."""
    n = (128, 512)
    found = [abs(end(smooth, method, k, jnp.zeros(4), ALPHAS) - 1) for k in n]
    slopes = np.log(found[0] / found[1]) / np.log(n[1] / n[0])
    np.testing.assert_allclose(slopes, 2 - ALPHAS if method is IMPLICIT else 1, atol=0.06)
    # From y = 1, as of Mittag and Leffler: with the slope t^(alpha - 1) at 0 all are of order 1.
    exact = np.array([mittag_leffler(a, -1.0) for a in ALPHAS])
    found = [abs(end(relax, method, k, jnp.ones(4), ALPHAS) - exact) for k in n]
    slopes = np.log(found[0] / found[1]) / np.log(n[1] / n[0])
    np.testing.assert_allclose(slopes, 1, atol=0.06)
    assert (found[1] < 5e-4).all()


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_order_1_is_euler(method):
    def vf(t, y, args):
        return jnp.sin(3 * t) - y**2

    y, h, n = 0.7, 1 / 64, 64
    for i in range(n):
        if method is IMPLICIT:  # y1 + h y1^2 = y + h sin
            y = (np.sqrt(1 + 4 * h * (y + h * np.sin(3 * (i + 1) * h))) - 1) / (2 * h)
        else:
            y = y + h * (np.sin(3 * i * h) - y**2)
    np.testing.assert_allclose(end(vf, method, n, 0.7, 1.0), y, rtol=1e-14)


def test_a_polynomial_of_degree_1_is_exact():
    """The L1 scheme integrates polygons: D^a (3 t) = 3 t^(1 - a) / Gamma(2 - a)."""

    def vf(t, y, args):
        return 3 * t**0.6 / gamma(1.6)

    saveat = dfx.SaveAt(t0=True, steps=True)
    run = fdesolve(vf, IMPLICIT, 1.0 - 1.0, 5.0, 0.05, 0.0, alpha=0.4, saveat=saveat)
    np.testing.assert_allclose(run.ys, 3 * run.ts, atol=1e-12)


# ---- weights and memory --------------------------------------------------------------------------


def test_weights():
    """By mpmath; to the last digits late in a run too, where a difference of powers loses them."""
    ages, picked = jnp.arange(3000.0), (0, 1, 2, 50, 2999)
    for alpha in (0.05, 0.4, 0.95):
        with mp.workdps(40):
            a = mp.mpf(alpha)
            exact = {
                GrunwaldLetnikov(): lambda k, a=a: (-1) ** (k + 1) * mp.binomial(a, k + 1),
                CaputoL1(): lambda k, a=a: mp.mpf(k + 2) ** (1 - a) - mp.mpf(k + 1) ** (1 - a),
                CaputoEuler(): lambda k, a=a: ((k + 1) ** a - k**a) / mp.gamma(1 + a),
            }
            for method, right in exact.items():
                got = np.asarray(method.weights(jnp.asarray(alpha), ages))
                error = [float(abs(got[k] / right(k) - 1)) for k in picked]
                assert max(error) < (1e-13 if method == GrunwaldLetnikov() else 3e-15)


def test_short_memory_is_within_podlubnys_bound():
    """sup|y - y0| T^(-alpha) / Gamma(1 - alpha), of the derivative with all of the memory."""
    alpha, h, n = 0.6, 0.05, 400
    k = np.arange(n + 1)
    weights = (-1.0) ** k * binom(alpha, k)
    for steps in (10, 40, 160, 400):
        saveat = dfx.SaveAt(t0=True, steps=True)
        method = GrunwaldLetnikov(memory=steps)
        run = fdesolve(relax, method, 0.0, n * h, h, 1.0, alpha=alpha, saveat=saveat)
        change = np.asarray(run.ys) - 1
        full = np.array([weights[: i + 1] @ change[i::-1] for i in range(1, n + 1)]) * h**-alpha
        error = np.max(abs(full + np.asarray(run.ys)[:-1]))
        bound = np.max(abs(change)) * (steps * h) ** -alpha / gamma(1 - alpha)
        if steps == n:
            assert error < 1e-12
        else:
            assert 0.3 * bound < error <= bound


def test_short_memory_of_the_l1_scheme_keeps_a_constant():
    """Its error falls with the memory, and none is left when the memory is the run."""
    ends = [
        end(relax, CaputoL1(memory=m), 400, 1.0, 0.6, t1=4.0) for m in (25, 100, 399, 400, None)
    ]
    errors = abs(np.array(ends) - ends[-1])
    assert errors[0] > errors[1] > 0.1 and (errors[2:] < 1e-14).all()
    saturate = lambda t, y, args: 1 - y  # noqa: E731
    rest = end(saturate, CaputoL1(memory=25), 400, 0.0, 0.6, t1=400.0)
    np.testing.assert_allclose(rest, 1, rtol=1e-12)


def test_trees_and_an_order_for_each_leaf():
    y0 = {"a": jnp.ones(2), "b": (jnp.ones(()),)}
    both = end(relax, CaputoL1(), 50, y0["a"], np.array([0.5, 0.9]))
    one = end(relax, CaputoL1(), 50, 1.0, 0.7)
    saveat = dfx.SaveAt(t1=True)
    run = fdesolve(
        relax,
        CaputoL1(),
        0.0,
        1.0,
        0.02,
        y0,
        alpha={"a": np.array([0.5, 0.9]), "b": 0.7},
        saveat=saveat,
    )
    np.testing.assert_allclose(run.ys["a"][0], both, rtol=1e-15)
    np.testing.assert_allclose(run.ys["b"][0][0], one, rtol=1e-14)
    y0 = jax.tree.map(lambda a: a.astype(jnp.float32), y0)
    run = fdesolve(relax, CaputoEuler(), 0.0, 1.0, 0.02, y0, alpha=0.5)
    assert run.ys["a"].dtype == jnp.float32
    np.testing.assert_allclose(run.ys["a"][0], mittag_leffler(0.5, -1.0), rtol=0.03)


# ---- transforms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_gradients_equal_finite_differences(method):
    """In the order of the derivative too; all members of a batch at once."""

    def loss(p, checkpoints=None):
        vf = lambda t, y, k: k * jnp.cos(t) - y**2  # noqa: E731
        run = fdesolve(
            vf, method, 0.0, 2.0, 0.05, p[0], p[1], alpha=p[2],
            saveat=dfx.SaveAt(steps=10), checkpoints=checkpoints,
        )  # fmt: skip
        return (run.ys**2).sum()

    p, h = jnp.array([0.4, 1.3, 0.7]), 1e-4
    moves = h * jnp.concatenate([jnp.eye(3), -jnp.eye(3), 0.5 * jnp.eye(3), -0.5 * jnp.eye(3)])
    gradient, batch = jax.jit(jax.grad(loss)), jax.jit(jax.vmap(loss))
    got, near = gradient(p), batch(p[None] + moves).reshape(4, 3)
    rough, fine = (near[0] - near[1]) / (2 * h), (near[2] - near[3]) / h
    np.testing.assert_allclose(got, (4 * fine - rough) / 3, rtol=1e-7)
    np.testing.assert_allclose(near[0, 0], loss(p + moves[0]), rtol=1e-13)
    # At order 1 the weights are 0 and their slopes are not; there is no order above it.
    top = p.at[2].set(1.0)
    back = jnp.zeros((12, 3)).at[1:3, 2].set(jnp.array([-1e-5, -2e-5]))
    ends = batch(top[None] + back)
    right = (3 * ends[0] - 4 * ends[1] + ends[2]) / 2e-5
    np.testing.assert_allclose(gradient(top)[2], right, rtol=1e-6)
    if method is METHODS[1]:
        few = jax.jit(jax.grad(lambda p: loss(p, checkpoints=6)))(p)
        np.testing.assert_allclose(few, got, rtol=1e-12)
        forward = jax.jvp(loss, (p,), (jnp.array([0.0, 0.0, 1.0]),))[1]
        np.testing.assert_allclose(forward, got[2], rtol=1e-12)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: end(relax, CaputoL1(), 10, 1.0, 0.0),
            "alpha: 0.0; it must be above 0 and at most",
        ),
        (lambda: end(relax, CaputoL1(), 10, 1.0, 1.2), "alpha: 1.2; it must be above 0"),
        (lambda: end(relax, CaputoL1(), 10, 1.0, np.nan), "alpha: nan; it must be above 0"),
        (
            lambda: end(relax, CaputoL1(), 10, jnp.ones(3), np.ones(2)),
            r"alpha: shape \(2,\); it must",
        ),
        (lambda: CaputoL1(memory=0), "memory: 0; it must be a number of steps, at least 1"),
        (lambda: GrunwaldLetnikov(memory=-3), "memory: -3; it must be"),
        (lambda: fdesolve(relax, CaputoL1(), 0.0, 1.0, 0.3, 1.0, alpha=0.5), "dt0: 0.3 does not"),
        (lambda: end(relax, CaputoL1(), 10, 1.0, 0.5, saveat=dfx.SaveAt(dense=True)), "no dense"),
        (lambda: pb.Fractional(pb.LIF(2), 1.5, 10.0), "alpha: 1.5; it must be above 0"),
        (lambda: pb.Fractional(pb.LIF(2), 0.5, 10.03).init(dt=0.1), "memory: 10.03 ms is not"),
    ],
)
def test_refused_values(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_refused_types():
    with pytest.raises(TypeError, match=r"alpha: .*; it must be one number, or built as y0"):
        end(relax, CaputoL1(), 10, {"a": 1.0}, {"b": 0.5})
    with pytest.raises(TypeError, match=r"vf gives .*it must be built as y0"):
        end(lambda t, y, args: (y,), CaputoL1(), 10, 1.0, 0.5)


def test_errors_at_run_time():
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"alpha: 1.5; it must be above 0"):
        eqx.filter_jit(lambda a: end(relax, CaputoL1(), 10, 1.0, a))(jnp.asarray(1.5))
    text = r"y\['u'\]: not finite after step \d, from t = 0.\d+ to 0.\d+"
    with pytest.raises(eqx.EquinoxRuntimeError, match=text):
        cube = lambda t, y, args: {"u": y["u"] ** 3, "v": -y["v"]}  # noqa: E731
        end(cube, CaputoEuler(), 10, {"u": 50.0, "v": 1.0}, 0.5)


# ---- fractional neurons --------------------------------------------------------------------------


def voltages(neuron, current, duration, dt=0.1):
    """The potential and the spikes of each step, (steps, n)."""
    save = lambda tick, state, out: (state.v, out)  # noqa: E731
    state = neuron.init(dt=dt)
    run = pb.simulate(neuron, state, current, dt=dt, duration=duration, save=save)
    return np.asarray(run.saved[0]), np.asarray(run.saved[1])


def test_fractional_lif_below_threshold():
    """v = v_rest + I (1 - E_alpha(-t^alpha / tau)), tau in ms^alpha; Euler for alpha = 1."""
    alpha = jnp.array([0.3, 0.6, 1.0])
    v, _ = voltages(pb.Fractional(pb.LIF(3, tau=8.0), alpha, 40.0), 8.0, 40.0, dt=0.02)
    exact = [-60 + 8 * (1 - mittag_leffler(a, -(40.0**a) / 8)) for a in alpha.tolist()]
    np.testing.assert_allclose(v[-1], exact, atol=0.02)
    euler, _ = voltages(pb.LIF(1, tau=8.0, solver=dfx.Euler()), 8.0, 40.0, dt=0.02)
    np.testing.assert_allclose(v[:, 2:], euler, rtol=1e-12)


@pytest.mark.parametrize("memory", [60.0, 12.0])
def test_fractional_lif_spikes(memory):
    """By the double sum of Teka et al. (2014), resets in the memory; and refractory."""
    alpha, dt, tau, n, hold = 0.7, 0.1, 6.0, 600, 20
    lif = pb.LIF(1, tau=tau, v_rest=-65.0, v_reset=-65.0, spike=pb.surrogate.Heaviside())
    neuron = pb.Refractory(pb.Fractional(lif, alpha, memory), hold * dt)
    v = np.full(n + 1, -65.0)
    spikes, count, length = [], 0, round(memory / dt)
    for i in range(n):
        k = np.arange(1, min(i, length) + 1)
        changes = v[i - k + 1] - v[i - k]
        trace = (((k + 1) ** (1 - alpha)) - k ** (1 - alpha)) @ changes if i else 0.0
        after = v[i] + dt**alpha * gamma(2 - alpha) * (-65 - v[i] + 25.0) / tau - trace
        after, count = (v[i], count - 1) if count else (after, 0)
        if after >= -50.0:
            spikes.append(i)
            after, count = -65.0, hold
        v[i + 1] = after
    save = lambda tick, state, out: (state.neuron.v, out)  # noqa: E731
    run = pb.simulate(neuron, neuron.init(dt=dt), 25.0, dt=dt, duration=n * dt, save=save)
    np.testing.assert_allclose(run.saved[0][:, 0], v[1:], rtol=1e-10)
    assert np.flatnonzero(run.saved[1]).tolist() == spikes and len(spikes) > 4


def test_fractional_in_a_network():
    """The spikes of the neurons alone, and the derivative of a run in alpha."""

    def spikes(alpha):
        neuron = pb.Refractory(pb.Fractional(pb.LIF(3), alpha, 10.0), 1.0)
        net = pb.Network({"N": neuron}, [])
        current = {"N": jnp.array([8.0, 25.0, 50.0])}
        return pb.simulate(net, net.init(dt=0.1), current, dt=0.1, duration=40.0).saved["N"], neuron

    together, neuron = spikes(0.8)
    alone = pb.simulate(
        neuron, neuron.init(dt=0.1), jnp.array([8.0, 25.0, 50.0]), dt=0.1, duration=40.0
    )
    np.testing.assert_array_equal(together, alone.saved)
    assert 0 == together[:, 0].sum() < together[:, 1].sum() < together[:, 2].sum()

    def mean(alpha):
        one = pb.Fractional(pb.LIF(1), alpha, 10.0)
        save = lambda tick, state, out: state.v  # noqa: E731
        run = pb.simulate(one, one.init(dt=0.1), 8.0, dt=0.1, duration=20.0, save=save)
        return run.saved.mean()

    slope = (mean(0.8 + 1e-5) - mean(0.8 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(mean)(0.8), slope, rtol=1e-7)

"""The squid's neuron against scipy, its gradient by every path, bounded parameters, and the fit."""

import importlib
import json
from pathlib import Path

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import expit, logit

import purebrain as pb
from purebrain.surrogate import Heaviside

from .helpers_net import DT, coba
from .test_examples import run as run_example

REST = -65.0
EXAMPLES = Path(__file__).parents[1] / "examples"


def potential(tick, state, out):
    return state.v


def squid(t, y, current, g_na=120.0, g_k=36.0, g_l=0.3, e_l=-54.387):
    """Hodgkin and Huxley (1952), their equations 26, 7, 15, 16 and the rates 12, 13, 20, 21, 23, 24
    in their own convention: potentials from rest, depolarisation negative."""
    v, n, m, h = y
    alpha_n = 0.01 * (v + 10) / (np.exp((v + 10) / 10) - 1)
    beta_n = 0.125 * np.exp(v / 80)
    alpha_m = 0.1 * (v + 25) / (np.exp((v + 25) / 10) - 1)
    beta_m = 4 * np.exp(v / 18)
    alpha_h = 0.07 * np.exp(v / 20)
    beta_h = 1 / (np.exp((v + 30) / 10) + 1)
    v_l = REST - e_l
    ionic = g_k * n**4 * (v - 12) + g_na * m**3 * h * (v + 115) + g_l * (v - v_l)
    return [
        -current(t) - ionic,
        alpha_n * (1 - n) - beta_n * n,
        alpha_m * (1 - m) - beta_m * m,
        alpha_h * (1 - h) - beta_h * h,
    ]


def scipy_run(current, duration, **parameters):
    """v and the gates m, h, n on a grid of 0.1 ms, with today's sign, from rest at -65 mV."""
    start = [0.0, 0.3176769141, 0.0529324853, 0.5961207535]
    t = np.arange(round(duration / 0.1) + 1) * 0.1
    out = solve_ivp(
        squid, (0, duration), start, method="LSODA", t_eval=t, rtol=1e-10, atol=1e-12,
        max_step=0.5, args=(current, *parameters.values()),
    )  # fmt: skip
    v, n, m, h = out.y
    return t, np.stack([REST - v, m, h, n])


# ---- the neuron --------------------------------------------------------------------------------


def test_squid_against_lsoda():
    """Through diffrax at tight tolerances, all four variables; spikes among them."""
    neuron = pb.HodgkinHuxley(1)
    right, grid = scipy_run(lambda t: 10.0, 60.0)[::-1]
    assert ((right[0, 1:] >= 0) & (right[0, :-1] < 0)).sum() == 4
    out = dfx.diffeqsolve(
        dfx.ODETerm(neuron.vf), dfx.Tsit5(), 0.0, 60.0, 0.01,
        neuron.init(dt=0.1), pb.Drives() + 10.0,
        saveat=dfx.SaveAt(ts=jnp.asarray(grid)), max_steps=None,
        stepsize_controller=dfx.PIDController(rtol=1e-10, atol=1e-12),
    ).ys  # fmt: skip
    for got, exact, scale in zip((out.v, out.m, out.h, out.n), right, (100, 1, 1, 1), strict=True):
        np.testing.assert_allclose(got[:, 0], exact, rtol=0, atol=1e-6 * scale)


def test_squid_in_steps_has_order_one():
    """ExpEuler at t = 12 ms, after a spike."""
    exact = scipy_run(lambda t: 10.0, 12.0)[1][:, -1]
    errors, steps = [], 0.04 / 2.0 ** np.arange(5)
    for dt in steps:
        neuron = pb.HodgkinHuxley(1)
        end = pb.simulate(neuron, neuron.init(dt=dt), 10.0, dt=dt, duration=12.0).state
        errors.append(abs(np.array([end.v, end.m, end.h, end.n])[:, 0] - exact))
    slopes = np.polyfit(np.log(steps[2:]), np.log(errors)[2:], 1)[0]
    assert (abs(slopes - 1) < 0.2).all(), slopes


def test_squid_rests_where_it_should():
    """Gates start at the steady state: against the ratios of the rates, and nothing moves."""
    v = np.array([-90.0, -65.0, -55.0, -40.0, -20.0, 30.0])  # two of them singular as written
    state = pb.HodgkinHuxley(6, v_init=v).init(dt=0.1)
    for k in (0, 1, 4, 5):
        zero = squid(0, [REST - v[k], 0, 0, 0], lambda t: 0)[1:]  # alpha
        one = squid(0, [REST - v[k], 1, 1, 1], lambda t: 0)[1:]  # -beta
        steady = [a / (a - b) for a, b in zip(zero, one, strict=True)]
        got = [state.n[k], state.m[k], state.h[k]]
        np.testing.assert_allclose(got, steady, rtol=1e-13)
    np.testing.assert_allclose(state.n[2], 0.1 / (0.1 + 0.125 * np.exp(-1 / 8)), rtol=1e-14)
    np.testing.assert_allclose(state.m[3], 1 / (1 + 4 * np.exp(-25 / 18)), rtol=1e-14)
    rest = pb.HodgkinHuxley(1)
    end = pb.simulate(rest, rest.init(dt=0.1), 0.0, dt=0.1, duration=200.0).state.v[0]
    assert abs(end - REST) < 5e-3  # their e_l, 10.613 mV above rest, is rounded


def test_rate_over_current():
    """Repetitive firing sets in between 6 and 7 uA/cm^2 with some 50 Hz; counts are scipy's."""
    current = np.array([2.0, 5.0, 7.0, 10.0, 20.0, 40.0])
    neuron = pb.HodgkinHuxley(6, spike=Heaviside())
    run = pb.simulate(
        neuron, neuron.init(dt=0.01), jnp.asarray(current), dt=0.01, duration=200.0
    ).saved
    counts = np.asarray(run).sum(0)
    for n, i in zip(counts, current, strict=True):
        v = scipy_run(lambda t, i=i: i, 200.0)[1][0]
        assert n == ((v[1:] >= 0) & (v[:-1] < 0)).sum()
    assert counts[0] == 0 and counts[1] == 1 and 9 <= counts[2] < counts[3] < counts[4]


def test_squid_refuses_bad_parameters():
    with pytest.raises(ValueError, match=r"c_m: 0.0 uF/cm\^2; it must be finite and above 0"):
        pb.HodgkinHuxley(1, c_m=0.0)
    with pytest.raises(ValueError, match="g_k: nan; it must be finite"):
        pb.HodgkinHuxley(1, g_k=float("nan"))
    with pytest.raises(ValueError, match=r"e_l: shape \(3,\); it must be one number or \(2,\)"):
        pb.HodgkinHuxley(2, e_l=jnp.zeros(3))
    with pytest.raises(ValueError, match="key: missing, but m_init is drawn from Uniform"):
        pb.HodgkinHuxley(2, m_init=pb.Uniform(0.0, 1.0)).init(dt=0.1)


# ---- its gradient ------------------------------------------------------------------------------

TRUE = dict(g_na=120.0, g_k=36.0, g_l=0.3, e_l=-54.387)


def mean_square(parameters, adjoint, duration=20.0):
    """Of a run with a spike."""
    neuron = pb.HodgkinHuxley(1, **parameters)
    state = neuron.init(dt=0.025)
    v = pb.simulate(
        neuron, state, 10.0, dt=0.025, duration=duration, save=potential, adjoint=adjoint
    ).saved
    return jnp.mean((v + 60.0) ** 2)


def central(loss, parameters, h=1e-4):
    """The central difference of each parameter, of order 4, with relative step h."""
    out = {}
    for name, p in parameters.items():
        at = lambda k: loss(parameters | {name: p * (1 + k * h)})  # noqa: B023, E731
        out[name] = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h * p)
    return out


def same(a, b, rtol):
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, err_msg=name)


def test_gradients_of_every_adjoint():
    """Reverse mode, all of it, forward mode and differences; and when mapped."""
    direct = jax.jit(jax.grad(lambda p: mean_square(p, pb.Direct())))(TRUE)
    same(direct, jax.jit(jax.jacfwd(lambda p: mean_square(p, pb.Direct())))(TRUE), 1e-12)
    parallel = jax.jit(jax.grad(lambda p: mean_square(p, pb.TimeParallel())))
    same(parallel(TRUE), direct, 1e-10)
    same(central(jax.jit(lambda p: mean_square(p, pb.Direct())), TRUE), direct, 1e-6)

    many = {k: p * jnp.linspace(0.9, 1.1, 4) for k, p in TRUE.items()}
    mapped = jax.jit(jax.vmap(parallel))(many)
    for k in range(4):
        alone = parallel({n: p[k] for n, p in many.items()})
        same({n: g[k] for n, g in mapped.items()}, alone, 1e-9)


@pytest.mark.parametrize("adjoint", [pb.TimeParallel(), pb.Direct()], ids=["parallel", "direct"])
def test_gradient_of_an_input_and_of_a_start(adjoint):
    """One a step, by central differences: the first, the middle and the last."""
    neuron = pb.HodgkinHuxley(2)
    start = neuron.init(dt=0.05)

    def loss(current, v):
        state = eqx.tree_at(lambda s: s.v, start, v)
        run = pb.simulate(
            neuron, state, pb.Series(current), dt=0.05, duration=5.0, save=potential,
            adjoint=adjoint,
        )  # fmt: skip
        return jnp.sum(run.saved[::7] ** 2) + jnp.sum(run.state.m) * 1e4

    current = 6.0 + jnp.sin(jnp.arange(200.0)).reshape(100, 2)
    value = jax.jit(loss)
    by_current, by_v = jax.jit(jax.grad(loss, (0, 1)))(current, start.v)
    for k in (0, 50, 99):
        h = 1e-3 * jnp.zeros_like(current).at[k, 1].set(1.0)
        secant = (value(current + h, start.v) - value(current - h, start.v)) / 2e-3
        np.testing.assert_allclose(by_current[k, 1], secant, rtol=1e-5, atol=1e-9)
    h = 1e-4 * jnp.asarray([0.0, 1.0])
    secant = (value(current, start.v + h) - value(current, start.v - h)) / 2e-4
    np.testing.assert_allclose(by_v[1], secant, rtol=1e-6)


def test_time_parallel_on_a_network_with_noise_and_a_split_run():
    """Any model: spikes, delays (integers in the state), keys; the second half from i0."""
    net = coba(12)
    state = net.init(dt=DT, key=jr.key(1))
    weight = lambda n: n.pathways[0].inputs[0].comm.weight  # noqa: E731

    def noisy(tick):
        return {"N": 25.0 + 5.0 * jr.normal(tick.key, (12,))}

    def loss(w, adjoint):
        model = eqx.tree_at(weight, net, w)
        kind = dict(dt=DT, duration=30 * DT, key=jr.key(2), adjoint=adjoint)
        first = pb.simulate(model, state, noisy, **kind)
        second = pb.simulate(model, first.state, noisy, i0=first.i, **kind)
        saved = jnp.concatenate([first.saved["N"], second.saved["N"]])
        v = second.state.populations["N"].neuron.v
        return jnp.sum(saved * jnp.arange(60.0)[:, None]) + (v**2).sum(), saved.sum()

    grad = jax.grad(loss, has_aux=True)
    right, spikes = grad(weight(net), pb.Direct())
    got, same_spikes = grad(weight(net), pb.TimeParallel())
    assert spikes == same_spikes > 0 and np.abs(right).max() > 0
    np.testing.assert_allclose(got, right, rtol=1e-11)


def test_time_parallel_is_cheap_where_direct_is_not():
    """Instructions in the loops of the compiled gradient: each is a kernel started at each step."""
    found = {}
    for adjoint in (pb.TimeParallel(), pb.Direct()):
        grad = jax.jit(jax.grad(lambda p, a=adjoint: mean_square(p, a)))
        text = grad.lower(TRUE).compile().as_text()
        bodies = [b for b in text.split("\n\n") if "region" in b.split("(")[0]]
        found[adjoint] = sum(body.count(" fusion(") for body in bodies)
    assert found[pb.TimeParallel()] <= 24 and found[pb.Direct()] > 50, found


def test_time_parallel_refuses_a_large_state():
    neuron = pb.LIF(4000)

    def go(duration):
        state, adjoint = neuron.init(dt=0.1), pb.TimeParallel()
        return pb.simulate(neuron, state, 0.0, dt=0.1, duration=duration, adjoint=adjoint)

    with pytest.raises(ValueError, match=r"keeps 100 x 4000 x 4000; write .*Checkpointed\(\)"):
        go(10.0)
    assert go(0.0).saved.shape == (0, 4000)


# ---- bounded parameters ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_bijectors_against_scipy(dtype):
    x = np.linspace(-12, 12, 49).astype(dtype)
    eps = np.finfo(dtype).eps
    bounded, positive = pb.Bounded(-70.0, 30.0), pb.Positive()
    y = bounded.forward(jnp.asarray(x))
    assert y.dtype == dtype and bounded.inside(y).all()
    np.testing.assert_allclose(y, -70 + 100 * expit(x.astype(float)), rtol=4 * eps, atol=100 * eps)
    middle = np.linspace(-69, 29, 99).astype(dtype)
    free = bounded.inverse(jnp.asarray(middle))
    np.testing.assert_allclose(free, logit((middle.astype(float) + 70) / 100), atol=40 * eps)
    np.testing.assert_allclose(bounded.forward(free), middle, rtol=0, atol=200 * eps)
    np.testing.assert_allclose(positive.forward(jnp.asarray(x)), np.exp(x), rtol=8 * eps)
    np.testing.assert_allclose(positive.inverse(positive.forward(jnp.asarray(x))), x, atol=16 * eps)
    slope = jax.vmap(jax.grad(bounded.forward))(jnp.asarray(x))
    s = expit(x.astype(float))
    np.testing.assert_allclose(slope, 100 * s * (1 - s), rtol=8 * eps, atol=100 * eps)
    far = jax.vmap(jax.grad(bounded.forward))(jnp.asarray([-1e4, 1e4], dtype))
    np.testing.assert_array_equal(far, 0)


def test_a_model_with_bounded_parameters_keeps_its_shape():
    neuron = pb.HodgkinHuxley(2, g_na=jnp.asarray([100.0, 140.0]))
    within = pb.where_spec(neuron, lambda m: (m.g_na, m.c_m), pb.Positive(), None)
    within = eqx.tree_at(
        lambda m: m.e_l, within, pb.Bounded(-80.0, -40.0), is_leaf=lambda a: a is None
    )
    free = pb.unconstrain(neuron, within)
    assert jax.tree.structure(free) == jax.tree.structure(neuron)
    np.testing.assert_allclose(free.g_na, np.log([100.0, 140.0]))
    assert free.g_k == neuron.g_k
    back = pb.constrain(free, within)
    assert eqx.tree_equal(back, neuron, rtol=1e-13, atol=1e-13)

    def loss(free):
        model = pb.constrain(free, within)
        run = pb.simulate(model, model.init(dt=0.05), 10.0, dt=0.05, duration=1.0, save=potential)
        return run.saved.sum()

    free_grad, grad = eqx.filter_grad(loss)(free), eqx.filter_grad(
        lambda m: pb.simulate(m, m.init(dt=0.05), 10.0, dt=0.05, duration=1.0, save=potential)
        .saved.sum()
    )(neuron)  # fmt: skip
    np.testing.assert_allclose(free_grad.g_na, grad.g_na * neuron.g_na, rtol=1e-9)
    u = (neuron.e_l + 80) / 40
    np.testing.assert_allclose(free_grad.e_l, grad.e_l * 40 * u * (1 - u), rtol=1e-9)
    np.testing.assert_allclose(free_grad.g_k, grad.g_k, rtol=1e-12)


def test_a_bijector_for_a_whole_subtree():
    tree = {"a": (jnp.asarray([1.0, 2.0]), jnp.asarray(3.0)), "b": jnp.asarray(-1.0)}
    free = pb.unconstrain(tree, {"a": pb.Positive(), "b": None})
    np.testing.assert_allclose(free["a"][0], np.log([1.0, 2.0]))
    assert free["b"] == -1


def test_bijectors_refuse_what_is_outside():
    with pytest.raises(ValueError, match=r"low: 3.0 is not below high = 3.0"):
        pb.Bounded(3.0, 3.0)
    with pytest.raises(ValueError, match="high: inf; it must be finite"):
        pb.Bounded(0.0, float("inf"))
    for y in (40.0, 200.0, float("nan"), [50.0, 300.0]):
        with pytest.raises(ValueError, match=r"\['g_na'\].*: .* is not inside \(40.0, 200.0\)"):
            pb.unconstrain({"g_na": y}, {"g_na": pb.Bounded(40.0, 200.0)})
    for y in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match=r"values: .* is not inside Positive\(\)"):
            pb.unconstrain(y, pb.Positive())
    with pytest.raises(Exception, match="not inside"):
        jax.jit(lambda y: pb.unconstrain(y, pb.Positive()))(-1.0)


# ---- the example -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example():
    """The example as a module, with a short recording of one spike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        module = importlib.import_module("fit_hh")
        yield module, module.record(28.0, 0.05, 0.0, jr.key(0))


@pytest.mark.parametrize("which", ["steps", pytest.param("adaptive", marks=pytest.mark.slow)])
def test_gradient_of_the_fit_is_that_of_differences(example, which):
    """Of both integrators, with and without the pull; forward mode of the adaptive."""
    module, recording = example
    free = {"g_na": 0.3, "g_k": -0.4, "g_l": 0.2, "e_l": 0.1}
    free = {k: jnp.asarray(x) for k, x in free.items()}
    if which == "steps":
        value_and_grad = module.in_steps(recording, pb.TimeParallel())
        h, allowed = 1e-3, 1e-5
    else:
        value_and_grad = module.adaptive(recording, 1e-12)  # or steps jump with parameters
        h, allowed = 5e-3, 1e-5
    value_and_grad = jax.jit(value_and_grad)
    for kappa in (1.0, 0.0):
        kappa = jnp.asarray(kappa)
        grads = value_and_grad(free, kappa)[1]
        for name, x in free.items():
            at = lambda k: value_and_grad(free | {name: x + k * h}, kappa)[0]  # noqa: B023, E731
            secant = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
            np.testing.assert_allclose(grads[name], secant, rtol=allowed, err_msg=name)


@pytest.mark.slow
def test_quick_fit_recovers_the_parameters(tmp_path):
    done = run_example("fit_hh.py", "--quick", "--json", "--plot", "fit.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["adaptive_best_off_percent"] < 3
    assert figures["steps_best_off_percent"] < 25  # its error at 0.025 ms, not the fit's
    assert figures["adaptive_off_percent_quartiles"][1] < 30  # guesses start 200% off
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--duration", "20"], "--duration: 20.0 ms; it must be above 22.0"),
        (["--noise", "-1"], "--noise: -1.0 mV; it must be finite and not negative"),
        (["--learning-rate", "0"], "--learning-rate: 0.0; it must be between 0 and 1"),
        (["--tolerance", "nan"], "--tolerance: nan; it must be between 0 and 1"),
        (["--iterations", "3"], "--iterations, --refine: at least 4"),
        (["--guesses", "0"], "0 is not above 0"),
    ],
)
def test_wrong_arguments_of_the_fit(example, args, message, capsys):
    module, _ = example
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr("sys.argv", ["fit_hh.py", *args])
        module._cli.main(module.run, module.options())
    assert stop.value.code == 2 and message in capsys.readouterr().err

"""The order of `ExpEuler`, alone and through diffrax."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import purebrain as pb
from purebrain.neuron import LIFState
from purebrain.neuron._abstract import integrate
from purebrain.solvers import ExpEuler


def exact_phi_1(z):
    return mp.expm1(z) / z if z else mp.mpf(1)


def steps_of(term, y, h, n, args=None):
    """y after n steps of ExpEuler."""
    solver = ExpEuler()

    def body(k, y):
        t = k.astype(float) * h
        return solver.step(term, t, t + h, y, args, None, True)[0]

    return jax.lax.fori_loop(0, n, body, y)


@pytest.mark.parametrize("a", [0.0, 1e-300, -1e-12, -0.3, 2.0, 40.0, -50.0, -1e4, -1e8])
def test_exp_euler_is_exact_on_linear_problems(a):
    y0, b, h = np.array([-3.0, 0.0, 7.0]), np.array([2.0, -1.0, 0.5]), 1.0
    term = dfx.ODETerm(lambda t, y, args: a * y + jnp.asarray(b))
    got = np.asarray(jax.jit(lambda y: steps_of(term, y, h, 1))(jnp.asarray(y0)))
    for y, start, drift in zip(got.tolist(), y0, b, strict=True):
        with mp.workdps(60):
            right = float(start * mp.exp(mp.mpf(a) * h) + drift * exact_phi_1(mp.mpf(a) * h))
        # y + h phi_1 f is y + (y_inf - y) where decay is stiff: the error is relative to y too.
        assert abs(y - right) <= 1e-13 * max(abs(right), abs(start))


def alone(t, y, args):  # y = 1 / (1 + t)
    return -y * y


def coupled(t, y, args):  # both 1 / (1 + t)
    return -y[0] * y[1], -y[1] * y[1]


def forced(t, y, args):  # y = 1 / (1 + t) + sin t
    return jnp.cos(t) - (y - jnp.sin(t)) ** 2


def slope(h, error):
    return np.polyfit(np.log(h), np.log(error), 1)[0]


@pytest.mark.parametrize("field, y0, end, order", [
    # The diagonal is the whole Jacobian: the Rosenbrock-Euler scheme, of order 2.
    (alone, 1.0, 1 / 3, 2),
    (coupled, (1.0, 1.0), 1 / 3, 1),
    (forced, 1.0, 1 / 3 + np.sin(2.0), 1),
])  # fmt: skip
def test_order_of_exp_euler(field, y0, end, order):
    term, n = dfx.ODETerm(field), 2 ** np.arange(5, 12)
    y0 = jax.tree.map(jnp.asarray, y0)
    errors = [abs(jax.tree.leaves(steps_of(term, y0, 2.0 / k, k))[0] - end) for k in n]
    assert abs(slope(2.0 / n, errors) - order) < 0.05


def test_exp_euler_through_diffeqsolve():
    """The same steps as its own loop, and the claimed order, with a dense output."""
    term, y0, n = dfx.ODETerm(forced), jnp.asarray([1.0]), 2 ** np.arange(5, 12)

    def solve(k):
        ticks = dfx.SaveAt(t1=True, dense=True)
        control = dfx.ConstantStepSize()
        return dfx.diffeqsolve(
            term, ExpEuler(), 0.0, 2.0, 2.0 / k, y0, stepsize_controller=control, saveat=ticks
        )

    runs = [solve(int(k)) for k in n]
    ends = np.array([run.ys[0, 0] for run in runs])
    own = [steps_of(term, y0, 2.0 / k, k)[0] for k in n]
    np.testing.assert_allclose(ends, own, rtol=1e-13)
    assert abs(slope(2.0 / n, abs(ends - 1 / 3 - np.sin(2.0))) - 1) < 0.05
    middle = runs[-1].evaluate(1.0)[0]
    assert abs(middle - (0.5 + np.sin(1.0))) < 1e-3


def test_exp_euler_looks_at_the_start_of_the_step():
    """As the phases of a network's step have it; y' = t from 0.3 to 0.5."""
    term, y = dfx.ODETerm(lambda t, y, args: t + 0 * y), jnp.asarray(1.0)
    y1, _, dense, *_ = ExpEuler().step(term, 0.3, 0.5, y, None, None, True)
    np.testing.assert_allclose(y1, 1.0 + 0.2 * 0.3, rtol=1e-15)
    assert dense == dict(y0=y, y1=y1)


def test_exp_euler_takes_any_pytree_and_stays_stable():
    """Stiff decay (explicit Euler would explode) beside a slow one, in leaves of other shapes."""

    def field(t, y, args):
        return {"fast": -1e3 * (y["fast"] - args), "slow": (-0.1 * (y["slow"][0] - 1.0),)}

    y = {"fast": jnp.ones((2, 3)), "slow": (jnp.zeros(()),)}
    y = steps_of(dfx.ODETerm(field), y, 0.1, 100, args=jnp.asarray(0.25))
    np.testing.assert_allclose(y["fast"], 0.25, rtol=1e-14)
    np.testing.assert_allclose(y["slow"][0], 1 - np.exp(-1.0), rtol=1e-13)


# ---- any diffrax solver as the solver of a neuron ----------------------------------------------


def bent(tick):
    """A current that makes the subthreshold LIF a quadratic one."""
    return pb.Drives((lambda v: 6.0 + 0.05 * (v + 60.0) ** 2,))


@pytest.mark.parametrize(
    ("solver", "order"),
    [(ExpEuler(), 2), (dfx.Euler(), 1), (dfx.Heun(), 2), (dfx.Ralston(), 2), (dfx.Tsit5(), 5)],
    ids=lambda s: type(s).__name__,
)
def test_solver_of_a_neuron(solver, order):
    """dx/dt = (6 - x + 0.05 x^2) / 20, x = v + 60, from 0: x = 10 + sqrt(20) tan(...)."""
    root = np.sqrt(20.0)  # (x - 10)^2 + 20 = 20 (6 - x + 0.05 x^2)
    end = 10 + root * np.tan(np.arctan(-10 / root) + 20 * root / 400)
    neuron, n = pb.LIF(1, v_th=1e3, solver=solver), 2 ** np.arange(1, 6)
    errors = []
    for k in n:
        state = neuron.init(dt=20.0 / k)
        run = pb.simulate(neuron, state, bent, dt=20.0 / k, duration=20.0)
        errors.append(abs(run.state.v[0] + 60.0 - end))
    assert -0.2 < slope(20.0 / n, errors) - order < 1, errors


def test_a_step_is_the_same_at_any_time():
    """In float32, t1 - t0 is off by 8% of dt after 1e6 ms; no step may depend on that."""
    with jax.enable_x64(False):
        for solver in (ExpEuler(), dfx.Euler(), dfx.Heun(), dfx.Tsit5()):
            neuron = pb.LIF(3, tau=10.0, solver=solver)
            y = LIFState(jnp.asarray([-60.0, -55.0, -50.5], jnp.float32))
            at = [integrate(neuron, y, 12.0, pb.Tick(jnp.int32(i), 0.1)) for i in (0, 10**7)]
            assert at[0].v.dtype == jnp.float32
            np.testing.assert_array_equal(at[0].v, at[1].v)

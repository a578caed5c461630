"""The order of every ODE solver, measured; tableaus; what is exact; any solver in a neuron."""

import math
from fractions import Fraction

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import purebrain as pb
from purebrain import solvers
from purebrain.solvers import ETDRK2, ETDRK4, ExpEuler, ExpRB32, ExpRosenbrockEuler
from purebrain.solvers._phi import matrix_phis, phis

# Solver, its order, and the order of the embedded method (None: no error estimate).
TABLE = [
    (dfx.Euler(), 1, None),
    (dfx.Midpoint(), 2, 1),
    (dfx.Heun(), 2, 1),  # Heun-Euler
    (dfx.Ralston(), 2, 1),  # and RK2
    (dfx.Bosh3(), 3, 2),  # Bogacki-Shampine; its order 3 is Ralston's third
    (solvers.RK3(), 3, 2),
    (solvers.SSPRK3(), 3, 2),
    (solvers.RK4(), 4, None),
    (solvers.RK438(), 4, None),
    (solvers.Ralston4(), 4, None),
    (solvers.RKF12(), 2, 1),
    (solvers.RKF45(), 5, 4),
    (solvers.CashKarp(), 5, 4),
    (dfx.Dopri5(), 5, 4),
    (ExpEuler(), 1, None),
    (ETDRK2(), 2, 1),
    (ETDRK4(), 4, 3),
    (ExpRosenbrockEuler(pointwise=True), 2, None),
    (ExpRB32(pointwise=True), 3, 2),
    (ExpRB32(), 3, 2),
]
NAMES = [f"{type(s).__name__}{'-pointwise' * getattr(s, 'pointwise', False)}" for s, *_ in TABLE]
over_solvers = pytest.mark.parametrize(("solver", "order", "lower"), TABLE, ids=NAMES)
ADAPTIVE = [(s, p, name) for (s, p, q), name in zip(TABLE, NAMES, strict=True) if q is not None]


# ---- tableaus ----------------------------------------------------------------------------------


def trees(order):
    """All rooted trees with `order` nodes, each a sorted tuple of the trees on its root."""
    if order == 1:
        return [()]

    def forests(nodes, largest):
        if nodes == 0:
            yield ()
        for size in range(1, nodes + 1):
            for tree in trees(size):
                if (size, tree) <= largest:
                    for rest in forests(nodes - size, (size, tree)):
                        yield (tree, *rest)

    return list(forests(order - 1, (order, ())))


def density(tree):
    def size(tree):
        return 1 + sum(map(size, tree))

    return size(tree) * math.prod(map(density, tree))


def weight(tree, a):
    """The elementary weight of each stage."""
    return np.prod([a @ weight(branch, a) for branch in tree] or [np.ones(len(a))], axis=0)


def test_rooted_trees():
    assert [len(trees(n)) for n in range(1, 6)] == [1, 1, 2, 4, 9]
    assert sorted(map(density, trees(4))) == [4, 8, 12, 24]


@pytest.mark.parametrize(
    ("solver", "order", "lower"),
    [row for row in TABLE if hasattr(row[0], "tableau")],
    ids=lambda s: type(s).__name__,
)
def test_order_conditions(solver, order, lower):
    """b . weight(tree) = 1 / density(tree) for all trees up to the order, and not beyond it."""
    tableau = solver.tableau
    a = np.zeros((tableau.num_stages,) * 2)
    for i, row in enumerate(tableau.a_lower, 1):
        a[i, :i] = row
    np.testing.assert_allclose(a.sum(1)[1:], tableau.c, rtol=1e-14)

    def residual(b, order):
        return max(abs(b @ weight(t, a) - float(Fraction(1, density(t)))) for t in trees(order))

    assert max(residual(tableau.b_sol, p) for p in range(1, order + 1)) < 1e-14
    assert residual(tableau.b_sol, order + 1) > 1e-6
    if lower is not None:
        embedded = tableau.b_sol - tableau.b_error
        assert max(residual(embedded, p) for p in range(1, lower + 1)) < 1e-14
        assert residual(embedded, lower + 1) > 1e-6


# ---- slopes ------------------------------------------------------------------------------------


def pendulum(t, y, args):
    return {"x": y["v"], "v": -jnp.sin(y["x"]) - 0.2 * y["v"] * y["x"] ** 2}


def forced(t, y, args):  # van der Pol, driven
    return {"x": y["v"], "v": (1 - y["x"] ** 2) * y["v"] - y["x"] + jnp.cos(3 * t)}


START = {"x": np.array([1.0, 0.3, -0.7]), "v": np.array([0.2, -1.1, 0.8])}
END = 2.0
FIELDS = [pendulum, forced]
# Short enough for the order to be seen, too long for roundoff. (Dopri5 starts like an order 6.)
STEPS = {p: 2 ** np.arange(*ends) for p, ends in enumerate([(9, 13), (7, 11), (5, 9), (5, 9)], 1)}
STEPS[5] = np.array([120, 170, 240])


def reference(field, start, t0, t1):
    """scipy's answer, for each of the three, in the order x then v."""

    def flat(t, y):
        dy = field(t, {"x": y[:3], "v": y[3:]}, None)
        return np.concatenate([dy["x"], dy["v"]])

    start = np.concatenate([start["x"], start["v"]])
    run = solve_ivp(flat, (t0, t1), start, method="DOP853", rtol=3e-14, atol=1e-14)
    return run.y[:, -1]


@pytest.fixture(scope="module")
def ends():
    return {field: reference(field, START, 0.0, END) for field in FIELDS}


def flat(y):
    return np.concatenate([y["x"], y["v"]])


def steps_of(solver, field, n):
    """The state after n steps of END / n; compiled once for every n."""
    term, h = dfx.ODETerm(field), END / n
    start = jax.tree.map(jnp.asarray, START)

    def body(k, y):
        t0 = k * h
        state = solver.init(term, t0, t0 + h, y, None)
        return solver.step(term, t0, t0 + h, y, None, state, jnp.array(True))[0]

    return jax.lax.fori_loop(0, n, body, start)


def slope(h, error):
    return np.polyfit(np.log(h), np.log(error), 1)[0]


@pytest.mark.parametrize("field", FIELDS)
@over_solvers
def test_order(solver, order, lower, field, ends):
    run = jax.jit(lambda n: steps_of(solver, field, n))
    n = STEPS[order]
    errors = [abs(flat(run(int(k))) - ends[field]).max() for k in n]
    assert abs(slope(END / n, errors) - order) < 0.2, errors


@over_solvers
def test_error_estimate(solver, order, lower):
    """One step: the estimate is of the order of the embedded method's own error."""
    term, start = dfx.ODETerm(forced), jax.tree.map(jnp.asarray, START)

    @jax.jit
    def estimate(h):
        state = solver.init(term, 0.3, 0.3 + h, start, None)
        return solver.step(term, 0.3, 0.3 + h, start, None, state, jnp.array(True))[1]

    if lower is None:
        assert estimate(0.1) is None
        return
    h = 2.0 ** -np.arange(4, 8)
    sizes = [abs(flat(estimate(step))).max() for step in h]
    assert abs(slope(h, sizes) - (lower + 1)) < 0.2, sizes


@pytest.mark.parametrize(
    ("solver", "order"),
    [row[:2] for row in ADAPTIVE if row[2] != "ExpRB32"],
    ids=[row[2] for row in ADAPTIVE if row[2] != "ExpRB32"],
)
def test_adaptive_steps_and_dense_output(solver, order, ends):
    """The error falls as the tolerance does, at the end and in between; fewer steps if of higher
    order."""
    middle = 1.2345
    right = np.stack([reference(forced, START, 0.0, middle), ends[forced]])

    @jax.jit
    def solve(tol):
        return dfx.diffeqsolve(
            dfx.ODETerm(forced), solver, 0.0, END, None, jax.tree.map(jnp.asarray, START),
            stepsize_controller=dfx.PIDController(rtol=tol, atol=tol),
            saveat=dfx.SaveAt(ts=[middle, END]), max_steps=4096,
        )  # fmt: skip

    tols = np.array([1e-4, 1e-5, 1e-6])
    runs = [solve(tol) for tol in tols]
    errors = np.array([
        [abs(flat(jax.tree.map(lambda a: a[i], run.ys)) - right[i]).max() for i in (0, 1)]  # noqa: B023
        for run in runs
    ])  # fmt: skip
    assert (errors[:, 1] < 500 * tols).all() and slope(tols, errors[:, 1]) > 0.75, errors
    # A dense output of order 3 at least, at steps of size tol^(1 / order).
    assert slope(tols, errors[:, 0]) > 0.75 * min(1, 3 / order), errors
    steps = np.array([int(run.stats["num_accepted_steps"]) for run in runs])
    assert abs(slope(tols, steps) + 1 / order) < 0.12, steps


# ---- phi functions -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_phi_of_numbers(dtype):
    z = np.concatenate([-np.geomspace(1e-9, 1e4, 150), [0.0], np.geomspace(1e-9, 80.0, 100)])
    z = z.astype(dtype)
    for k, got in enumerate(phis(jnp.asarray(z), 3), 1):
        assert got.dtype == dtype
        with mp.workdps(60):
            right = [exact_phi(k, mp.mpf(float(x))) for x in z]
        np.testing.assert_allclose(got, np.array(right, float), rtol=8 * np.finfo(dtype).eps)


def exact_phi(k, z):
    """The series, summed with 60 digits where it converges fast, else the recurrence."""
    if abs(z) < 1e-3:
        return mp.fsum(z**j / mp.factorial(j + k) for j in range(30))
    value = mp.exp(z)
    for j in range(k):
        value = (value - 1 / mp.factorial(j)) / z
    return value


def matrices():
    """Of norm 1e-3 to 1e3, stable or not, in one unit or in several, singular, defective, 0."""
    rng = np.random.default_rng(3)
    a = rng.normal(size=(4, 4))
    stable = a - 3 * np.eye(4)
    units = np.diag([100.0, 1, 1, 1e-2])
    jordan = -2 * np.eye(4) + np.diag(np.ones(3), 1)
    yield from (1e-3 * a, a, 8 * a, stable, 300 * stable, units @ stable @ np.linalg.inv(units))
    yield from (np.outer(a[0], a[1]), jordan, np.zeros((4, 4)), np.diag([-1e6, -1e3, -1.0, 0.0]))


def test_phi_of_matrices():
    a = np.stack(list(matrices()))
    got = jax.jit(matrix_phis)(jnp.asarray(a))
    alone = [jax.jit(matrix_phis)(jnp.asarray(x)) for x in a[:3]]
    for i, x in enumerate(a):
        with mp.workdps(60):
            # The columns of exp of an augmented matrix, which needs no inverse.
            big = mp.zeros(16)
            for r in range(4):
                for c in range(4):
                    big[r, c] = mp.mpf(x[r, c])
            for r in range(12):
                big[r, r + 4] = 1
            exact = np.array(mp.expm(big, method="taylor").tolist()[:4], dtype=object)
        for k in (1, 2, 3):
            right = exact[:, 4 * k : 4 * k + 4].astype(float)
            np.testing.assert_allclose(
                got[k - 1][i], right, rtol=1e-12, atol=2e-14 * abs(right).max()
            )
            if i < 3:
                np.testing.assert_allclose(alone[i][k - 1], got[k - 1][i], rtol=1e-14)


def test_derivatives_of_phi_of_matrices():
    """Both modes, against f([[A, E], [0, A]]), whose corner is the derivative of f at A along E."""
    a, da, w = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 3)))
    phi_2 = jax.jit(lambda x: matrix_phis(x)[1])
    corner = phi_2(jnp.block([[3 * a, da], [jnp.zeros((3, 3)), 3 * a]]))[:3, 3:]
    forward = jax.jit(lambda x, dx: jax.jvp(phi_2, (x,), (dx,))[1])(3 * a, da)
    reverse = jax.jit(jax.grad(lambda x: jnp.vdot(w, phi_2(x))))(3 * a)
    np.testing.assert_allclose(forward, corner, rtol=1e-11)
    np.testing.assert_allclose(jnp.vdot(reverse, da), jnp.vdot(w, corner), rtol=1e-11)


# ---- what is exact -----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [ETDRK2(), ETDRK4()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("a", [0.0, -0.3, 2.0, -50.0, -1e6])
def test_exponential_rk_is_exact_for_linear_decay(solver, a):
    """y' = a y + b + c t over one step of 1, its error estimate and its dense output."""
    b, c = 2.0, -3.0
    term = dfx.ODETerm(lambda t, y, args: a * y + b + c * t)

    def right(y, t):
        with mp.workdps(40):
            z = mp.mpf(a) * t
            return float(y * mp.exp(z) + b * t * exact_phi(1, z) + c * t**2 * exact_phi(2, z))

    y1, error, dense, *_ = solver.step(term, 0.0, 1.0, jnp.array(0.7), None, None, True)
    np.testing.assert_allclose(y1, right(0.7, 1.0), rtol=1e-13, atol=1e-15)
    between = solver.interpolation_cls(t0=0.0, t1=1.0, **dense).evaluate(0.25)
    np.testing.assert_allclose(between, right(0.7, 0.25), rtol=1e-13, atol=1e-15)
    if isinstance(solver, ETDRK4):
        assert abs(error) < 1e-12


@pytest.mark.parametrize(
    "solver", [ExpRosenbrockEuler(), ExpRB32()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_exponential_rosenbrock_is_exact_for_linear_systems(solver, scale):
    """y' = A y + b + c t, coupled and stiff, against scipy's expm of the augmented matrix."""
    rng = np.random.default_rng(1)
    a = scale * (rng.normal(size=(3, 3)) - 3 * np.eye(3))
    b, c, y0, h = *rng.normal(size=(3, 3)), 0.8
    term = dfx.ODETerm(lambda t, y, args: jnp.asarray(a) @ y + jnp.asarray(b + 0 * c) + c * t)
    big = np.zeros((5, 5))
    big[:3, :3], big[:3, 3], big[:3, 4], big[4, 3] = a, b, c, 1.0

    def right(t):
        return (expm(big * t) @ np.concatenate([y0, [1.0, 0.0]]))[:3]

    @jax.jit
    def step(y):
        y1, error, dense, *_ = solver.step(term, 0.0, h, y, None, None, True)
        return y1, error, solver.interpolation_cls(t0=0.0, t1=h, **dense).evaluate(0.3 * h)

    y1, error, between = step(jnp.asarray(y0))
    np.testing.assert_allclose(y1, right(h), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(between, right(0.3 * h), rtol=1e-10, atol=1e-14)
    assert error is None or abs(error).max() < 1e-10


def test_blocks_are_the_whole_jacobian():
    """pointwise=True: the same step as the whole matrix, for neurons side by side."""
    y = jax.tree.map(jnp.asarray, START)
    term = dfx.ODETerm(forced)
    steps = [
        jax.jit(lambda y, s=solver: s.step(term, 0.3, 0.8, y, None, None, True)[0])(y)
        for solver in (ExpRB32(pointwise=True), ExpRB32())
    ]
    np.testing.assert_allclose(flat(steps[0]), flat(steps[1]), rtol=1e-13)


@pytest.mark.parametrize(
    "solver", [ETDRK4(), ExpRB32(), ExpEuler(linear=lambda t, y, args: -t * y)]
)
def test_backward_in_time(solver):
    """diffrax solves backwards over -t with a negative control: a step there undoes one here."""
    field = dfx.ODETerm(lambda t, y, args: -0.5 * t * y * y)  # y = 1 / (1 + t^2 / 4)
    errors = []
    for n in (32, 64, 128):
        run = dfx.diffeqsolve(
            field, solver, 2.0, 0.0, -2.0 / n, jnp.array(0.5), max_steps=n + 1,
            stepsize_controller=dfx.ConstantStepSize(),
        )  # fmt: skip
        errors.append(abs(run.ys[0] - 1.0))
    order = solver.order(None) if not isinstance(solver, ExpEuler) else 1
    assert slope(1 / np.array([32, 64, 128]), errors) > order - 0.25, errors


def test_long_steps_through_a_fast_transient():
    """Stiff decay beside a slow variable: few steps, where an explicit method takes thousands."""

    def field(t, y, args):
        return {"fast": -2e3 * y["fast"] + y["slow"] ** 2, "slow": jnp.cos(t) - 10 * y["fast"]}

    start = {"fast": jnp.array([1.0]), "slow": jnp.array([0.5])}

    @eqx.filter_jit
    def solve(solver, rtol=1e-5):
        return dfx.diffeqsolve(
            dfx.ODETerm(field), solver, 0.0, 5.0, 1e-4, start, max_steps=20_000,
            stepsize_controller=solvers.adaptive(rtol, rtol / 10),
        )  # fmt: skip

    exact = solve(dfx.Kvaerno5(), 1e-10).ys
    explicit = solve(dfx.Dopri5()).stats["num_steps"]
    # ETDRK4 takes 26 steps, for its estimate is too small here; ExpRB32 takes 136.
    for solver, rtol in ((ETDRK4(), 3e-3), (ExpRB32(), 1e-4)):
        run = solve(solver)
        for name, y in run.ys.items():
            np.testing.assert_allclose(y, exact[name], rtol=rtol, atol=1e-6)
        assert run.stats["num_steps"] < explicit / 10


# ---- a stated linear part ----------------------------------------------------------------------


def equations(function, *args):
    """The number of equations that are traced, in all nested functions."""

    def count(jaxpr):
        nested = [p for e in jaxpr.eqns for p in e.params.values() if hasattr(p, "eqns")]
        nested += [p.jaxpr for e in jaxpr.eqns for p in e.params.values() if hasattr(p, "jaxpr")]
        return len(jaxpr.eqns) + sum(map(count, nested))

    return count(jax.make_jaxpr(function)(*args).jaxpr)


def flops(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("kind", [ExpEuler, ETDRK2, ETDRK4])
def test_a_stated_linear_part_is_cheaper(kind):
    """Rates of 60 neurons, dy/dt = -y / tau + W tanh(x), dx/dt = -x + y: the linear part is known,
    and the same; without it each leaf is differentiated."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(60, 60)))

    def field(t, y, args):
        rates, recovery = y
        return -rates / 20 + weights @ jnp.tanh(recovery), -recovery + rates

    def linear(t, y, args):
        return tuple(
            jnp.full_like(leaf, rate) for leaf, rate in zip(y, (-1 / 20, -1.0), strict=True)
        )

    term, y = dfx.ODETerm(field), tuple(jnp.asarray(np.random.default_rng(1).normal(size=(2, 60))))

    def step(solver):
        return lambda y: solver.step(term, 0.0, 0.3, y, None, None, True)[0]

    plain, stated = step(kind()), step(kind(linear=linear))
    for a, b in zip(jax.jit(plain)(y), jax.jit(stated)(y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15, atol=1e-15)
    assert equations(stated, y) < equations(plain, y)
    assert flops(stated, y) <= flops(plain, y)


@pytest.mark.parametrize(("kind", "order"), [(ExpEuler, 1), (ETDRK2, 2), (ETDRK4, 4)])
def test_another_linear_part_keeps_the_order_and_saves_a_product(kind, order):
    """dy/dt = -y + W tanh(y): with -1 stated, the derivative of the product is not taken."""
    weights = jnp.asarray(0.3 * np.random.default_rng(0).normal(size=(30, 30)))
    term = dfx.ODETerm(lambda t, y, args: -y + weights @ jnp.tanh(y))
    start = jnp.asarray(np.random.default_rng(1).normal(size=30))
    solver = kind(linear=lambda t, y, args: jnp.full_like(y, -1.0))
    exact = solve_ivp(lambda t, y: np.asarray(-y + weights @ np.tanh(y)), (0, 1), start,
                      method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]  # fmt: skip

    @jax.jit
    def run(n):
        def body(k, y):
            return solver.step(term, k / n, (k + 1) / n, y, None, None, True)[0]

        return jax.lax.fori_loop(0, n, body, start)

    n = 2 ** np.arange(3, 7)
    assert abs(slope(1 / n, [abs(run(int(k)) - exact).max() for k in n]) - order) < 0.2

    def once(solver):
        return lambda y: solver.step(term, 0.0, 0.1, y, None, None, True)[0]

    saved = flops(once(kind()), start) - flops(once(solver), start)
    assert saved > 2 * 30 * 30 * 0.9  # one matrix-vector product


# ---- any solver of any neuron ------------------------------------------------------------------

NEWTON = dfx.VeryChord(rtol=1e-10, atol=1e-10)
OF_NEURONS = [
    *((s, name) for (s, *_), name in zip(TABLE, NAMES, strict=True) if name != "ExpRB32"),
    *((s, type(s).__name__) for s in (dfx.Tsit5(), dfx.Dopri8())),
    *((s(root_finder=NEWTON), s.__name__) for s in (dfx.ImplicitEuler, dfx.Kvaerno3, dfx.Kvaerno5)),
]
FAST = {(pb.TraubMiles, "Euler"), (pb.TraubMiles, "ExpEuler"), (pb.TraubMiles, "ETDRK2")}
FAST |= {(pb.LIF, "RK4"), (pb.LIF, "ETDRK4"), (pb.LIF, "Kvaerno3")}


def run_of(neuron, x):
    """The potentials after 0.4 ms, from an input, a potential at the start and a parameter."""
    current, v0, rest = x
    leaf = "e_l" if isinstance(neuron, pb.TraubMiles) else "v_rest"
    neuron = eqx.tree_at(lambda m: getattr(m, leaf), neuron, rest)
    state = eqx.tree_at(lambda y: y.v, neuron.init(dt=0.02), jnp.stack([v0, v0 + 3]))
    return pb.simulate(neuron, state, current, dt=0.02, duration=0.4).state.v


INPUT = jnp.array([300.0, -62.0, -61.0])


@pytest.fixture(scope="module")
def tight():
    """scipy's answer, by model."""

    def solve(model):
        neuron = eqx.tree_at(
            lambda m: m.e_l if model is pb.TraubMiles else m.v_rest, model(2, v_th=1e3), INPUT[2]
        )
        start = eqx.tree_at(lambda y: y.v, neuron.init(dt=0.02), INPUT[1] + jnp.array([0.0, 3.0]))
        leaves, tree = jax.tree.flatten(start)

        @jax.jit
        def field(y):
            y = jax.tree.unflatten(tree, list(y.reshape(-1, 2)))
            return jnp.concatenate(jax.tree.leaves(neuron.vf(0.0, y, lambda v: INPUT[0] + 0 * v)))

        run = solve_ivp(
            lambda t, y: np.asarray(field(y)), (0, 0.4), np.concatenate(leaves), method="DOP853",
            rtol=1e-11, atol=1e-11,
        )  # fmt: skip
        return run.y[:2, -1]

    return {model: solve(model) for model in (pb.TraubMiles, pb.LIF)}


@pytest.mark.parametrize(
    ("model", "solver"),
    [
        pytest.param(
            model, s, id=f"{model.__name__}-{name}",
            marks=[] if (model, name) in FAST else pytest.mark.slow,
        )
        for model in (pb.TraubMiles, pb.LIF)
        for s, name in OF_NEURONS
    ],
)  # fmt: skip
def test_any_solver_steps_any_neuron_and_is_differentiable(model, solver, tight):
    """Against scipy, and jax.grad against finite differences."""
    neuron = model(2, v_th=1e3, solver=solver)

    def loss(x):
        v = run_of(neuron, x)
        return (v**2).sum() * 1e-3, v

    both = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, v), gradient = both(INPUT)
    for k, eps in enumerate((1e-2, 1e-4, 1e-4)):
        up, down = (both(INPUT.at[k].add(sign * eps))[0][0] for sign in (1, -1))
        np.testing.assert_allclose(gradient[k], (up - down) / (2 * eps), rtol=3e-6)
    first = isinstance(solver, dfx.Euler | dfx.ImplicitEuler | ExpEuler)
    np.testing.assert_allclose(v, tight[model], atol=0.3 if first else 0.02)


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [s for s, _, lower in TABLE if lower is None],
    ids=[name for (_, _, lower), name in zip(TABLE, NAMES, strict=True) if lower is None],
)
def test_no_error_estimate_no_adaptive_steps(solver):
    term, control = dfx.ODETerm(lambda t, y, args: -y), solvers.adaptive(1e-4, 0)
    message = "Cannot use adaptive step sizes with a solver that does not provide error estimates"
    with pytest.raises(RuntimeError, match=message):
        dfx.diffeqsolve(term, solver, 0.0, 1.0, 0.1, jnp.ones(2), stepsize_controller=control)
    # What to do about it.
    half = dfx.HalfSolver(solver)
    run = dfx.diffeqsolve(term, half, 0.0, 1.0, 0.1, jnp.ones(2), stepsize_controller=control)
    np.testing.assert_allclose(run.ys[0], np.exp(-1), rtol=1e-2)


@pytest.mark.parametrize(
    ("rtol", "atol", "message"),
    [
        (-1e-6, 1e-9, "rtol: -1e-06; it must be a finite number not below 0"),
        (1e-6, -1.0, r"atol: -1.0; it must be.*such as adaptive\(rtol=1e-6, atol=1e-9\)"),
        (float("nan"), 1e-9, "rtol: nan"),
        (1e-6, float("inf"), "atol: inf"),
        ("tight", 1e-9, "rtol: 'tight'"),
        (0, 0, "rtol, atol: both 0"),
    ],
)
def test_tolerances(rtol, atol, message):
    with pytest.raises(ValueError, match=message):
        solvers.adaptive(rtol, atol)


def test_tolerances_reach_the_controller():
    control = solvers.adaptive(1e-5, 0, dtmax=2.0)
    assert (control.rtol, control.atol, control.dtmax) == (1e-5, 0, 2.0)


def blowing_up(t, y, args):
    return {"v": y["v"] ** 2, "w": jnp.where(t > 0.5, jnp.sqrt(args - t), 1.0)}


def test_a_vector_field_that_is_not_finite():
    """The time and the variable are named; as long as all is finite nothing changes."""
    plain, checked = dfx.ODETerm(blowing_up), dfx.ODETerm(solvers.Finite(blowing_up))
    start = {"v": jnp.asarray(0.1), "w": jnp.asarray(0.0)}

    @eqx.filter_jit
    def solve(term, a):
        return dfx.diffeqsolve(
            term, solvers.RK3(), 0.0, 1.0, 0.125, start, args=a,
            stepsize_controller=dfx.ConstantStepSize(),
        ).ys["w"][0]  # fmt: skip

    good = jnp.asarray(2.0)
    assert solve(checked, good) == solve(plain, good)
    secant = (solve(plain, good + 1e-5) - solve(plain, good - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(lambda a: solve(checked, a))(good), secant, rtol=1e-8)

    assert jnp.isnan(solve(plain, jnp.asarray(0.7)))
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"vector field of y\['w'\] at t = 0.75"):
        solve(checked, jnp.asarray(0.7))
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"vector field of y\['w'\] at t = 0.8125"):
        jax.block_until_ready(
            eqx.filter_jit(jax.vmap(lambda a: solve(checked, a)))(jnp.array([2.0, 0.8]))
        )


def test_a_network_that_is_not_finite():
    """For a network `simulate` names the step, the time and the variable, whatever the solver."""
    for solver in (dfx.Euler(), ETDRK2()):
        neuron = pb.LIF(2, solver=solver, v_th=1e3)
        inputs = pb.Series(jnp.array([1.0, 1.0, 1.0, np.nan, 1.0]))
        with pytest.raises(FloatingPointError, match=r"state\.v after step 3 \(t = 0.4 ms\)"):
            pb.simulate(
                neuron, neuron.init(dt=0.1), inputs, dt=0.1, duration=0.5, check_finite=True
            )


def test_an_implicit_solver_needs_tolerances_in_a_network():
    """Elsewhere it takes those of the step size controller, which a network does not have."""
    neuron = pb.LIF(2, solver=dfx.Kvaerno3())
    with pytest.raises(ValueError, match=r"write Kvaerno3\(root_finder=diffrax.VeryChord\(rtol="):
        pb.simulate(neuron, neuron.init(dt=0.1), 1.0, dt=0.1, duration=1.0)


def test_leaves_of_two_shapes_are_no_population():
    term = dfx.ODETerm(lambda t, y, args: y)
    y = {"a": jnp.ones(2), "b": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"pointwise=True: leaves of shapes \[\(2,\), \(3,\)\]"):
        ExpRB32(pointwise=True).step(term, 0.0, 0.1, y, None, None, True)

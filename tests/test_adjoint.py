"""Adjoints: one gradient whatever is kept, what `Truncated` cuts, and the memory of each."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import lax

import purebrain as pb

from .helpers_net import DT, assert_identical, coba

N, N_STEPS = 20, 80
NET = coba(N)
STATE = NET.init(dt=DT, key=jr.key(1))
CURRENT = jnp.linspace(5.0, 25.0, N)


def weights(network):
    return [path.inputs[0].comm.weight for path in network.pathways]


def parameters(network):
    neuron = network.populations["N"].neuron
    return [*weights(network), neuron.tau, *(p.syn.tau for p in network.pathways)]


def potential(tick, state, out):
    return state.populations["N"].neuron.v, out["N"]


def run(net, adjoint, state=STATE, n_steps=N_STEPS, i0=0):
    return pb.simulate(
        net, state, {"N": CURRENT}, dt=DT, duration=n_steps * DT, i0=i0, save=potential,
        adjoint=adjoint,
    )  # fmt: skip


def functional(v, s):
    """Of the record of some steps; no two neurons enter alike."""
    return (v @ jnp.linspace(0.5, 2.0, N)).sum() + 30 * (s**2).sum()


def loss(values, v0, adjoint):
    """Of the record and of the end."""
    net = eqx.tree_at(parameters, NET, values)
    state = eqx.tree_at(lambda s: s.populations["N"].neuron.v, STATE, v0)
    out = run(net, adjoint, state)
    return functional(*out.saved) + (out.state.populations["N"].neuron.v ** 3).sum()


VALUES = [0.3 * w for w in weights(NET)] + parameters(NET)[2:]
V0 = STATE.populations["N"].neuron.v


def value_and_grad(f, how, reverse=True):
    g = lambda values, v0: f(values, v0, how)  # noqa: E731
    derivative = jax.value_and_grad(g, (0, 1)) if reverse else jax.jacfwd(g, (0, 1))
    return jax.jit(derivative)(VALUES, V0)


@pytest.fixture(scope="module")
def exact():
    spikes = run(eqx.tree_at(parameters, NET, VALUES), pb.Direct()).saved[1]
    assert spikes[:60, :16].any() and spikes[:60, 16:].any()  # of either sign, and delivered
    return value_and_grad(loss, pb.Direct())


def assert_close(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.any(b != 0)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * abs(np.asarray(b)).max())


@pytest.mark.parametrize(
    "adjoint",
    [
        *(pb.Checkpointed(), pb.Checkpointed(3), pb.Truncated(N_STEPS), pb.Truncated(10**6)),
        *(pb.Reverse(), pb.Reverse(1), pb.Reverse(17), pb.Reverse(10**6)),
    ],
    ids=str,
)
def test_what_is_kept_changes_no_gradient(adjoint, exact):
    out = value_and_grad(loss, adjoint)
    assert_close(out, exact)


@pytest.mark.parametrize(
    "adjoint", [pb.Direct(), pb.Checkpointed(), pb.Truncated(N_STEPS)], ids=str
)
def test_forward_mode_is_reverse_mode(adjoint, exact):
    assert_close(value_and_grad(loss, adjoint, reverse=False), exact[1])


def by_hand(values, v0, steps):
    """Runs of `steps` each, one after the other, with the state made a constant between them."""
    net = eqx.tree_at(parameters, NET, values)
    state = eqx.tree_at(lambda s: s.populations["N"].neuron.v, STATE, v0)
    total = jnp.zeros(())
    for i in range(0, N_STEPS, steps):
        out = run(net, pb.Direct(), state, min(steps, N_STEPS - i), i0=i)
        total += functional(*out.saved)
        state = jax.tree.map(lax.stop_gradient, out.state)
    return total + (out.state.populations["N"].neuron.v ** 3).sum()


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 16, 17])
def test_truncated_is_a_run_in_pieces_with_constant_states(steps, exact):
    adjoint = pb.Truncated(steps)
    value, grads = value_and_grad(loss, adjoint)
    right = value_and_grad(by_hand, steps)[1]
    assert_close(value, exact[0])
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * abs(np.asarray(b)).max())
    assert abs(grads[0][2] / exact[1][0][2] - 1) > 1e-3  # tau of the neuron: not the whole gradient
    forward = value_and_grad(loss, adjoint, reverse=False)
    np.testing.assert_allclose(forward[1], grads[1], rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("n_steps", [0, 1, 20, 43])
@pytest.mark.parametrize("adjoint", [pb.Truncated(20), pb.Reverse(20)], ids=str)
def test_runs_are_the_same_runs(n_steps, adjoint):
    with_key = coba(N, noise=True)
    state = with_key.init(dt=DT, key=jr.key(1))
    kwargs = dict(dt=DT, duration=n_steps * DT, key=jr.key(2), i0=5)
    plain = pb.simulate(with_key, state, {"N": CURRENT}, **kwargs)
    cut = pb.simulate(with_key, state, {"N": CURRENT}, adjoint=adjoint, **kwargs)
    assert_identical(plain, cut)


def test_reverse_mode_of_some_of_what_is_run():
    """Whole numbers are recorded beside floats, the input is a series and a constant, states with
    and without a derivative come and go, and all of it under `vmap`."""
    net = pb.inference_mode(coba(N, noise=True))
    state = net.init(dt=DT, key=jr.key(1))
    series = pb.Series({"N": jnp.linspace(5.0, 25.0, 45 * N).reshape(45, N)})

    def loss(scale, adjoint):
        now = eqx.tree_at(lambda net: net.populations["N"].neuron.tau, net, 10.0 * scale)
        out = pb.simulate(
            now, state, series, dt=DT, duration=43 * DT, key=jr.key(2), adjoint=adjoint,
            save=lambda tick, state, out: (tick.i, state.populations["N"].neuron.v, out["N"]),
        )  # fmt: skip
        ids, v, spikes = out.saved
        whole = spikes.to_dense().sum().astype(float) + ids[-1].astype(float)
        return jnp.linspace(0.0, 1.0, 43) @ v.sum(1) + whole

    one, two = jnp.array(1.5), jnp.array([0.8, 1.5])
    grad = jax.value_and_grad(loss)
    assert_close(grad(one, pb.Reverse(10)), grad(one, pb.Direct()))
    grad = jax.vmap(grad, (0, None))
    assert_close(grad(two, pb.Reverse(10)), grad(two, pb.Direct()))


class Rotor(pb.AbstractDynamics):
    """A state that is a vector of floats, a count and a number that Python made, and a key."""

    factor: jax.Array

    def init(self, *, dt=None, key=None):
        return jnp.linspace(0.1, 0.7, 3), 0, 0.5, key

    def step(self, state, x, tick):
        v, count, level, key = state
        key, now = jr.split(key)
        v = jnp.sin(self.factor * v) + 0.1 * level * jr.normal(now, v.shape)
        return (v, count + 1, 0.9 * level + 0.1 * v[0], key), v


@pytest.mark.parametrize("n_steps", [20, 23])  # a whole number of blocks, as many as runs; and not
def test_the_gradient_of_many_runs_at_once(n_steps):
    """Of `vmap` within the loss, not around its gradient."""
    rotor = Rotor(jnp.asarray(0.9))
    begin = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)))
    keys = jr.split(jr.key(0), 20)

    def loss(factor, begin, adjoint):
        def run(v, key):
            now = eqx.tree_at(lambda rotor: rotor.factor, rotor, factor)
            out = pb.simulate(now, (v, 0, 0.5, key), dt=DT, duration=n_steps * DT, adjoint=adjoint)
            again = pb.simulate(now, out.state, dt=DT, duration=7 * DT, adjoint=adjoint)
            return out.saved, again.saved, again.state[0]

        saved = jax.tree.leaves(jax.vmap(run)(begin, keys))
        return sum(jnp.sum(jnp.sin(jnp.arange(a.size).reshape(a.shape)) * a) for a in saved)

    grad = jax.value_and_grad(loss, (0, 1))
    assert_close(*(grad(rotor.factor, begin, by) for by in (pb.Reverse(5), pb.Direct())))


def test_reverse_refuses_forward_mode():
    with pytest.raises(TypeError, match="forward-mode"):
        value_and_grad(loss, pb.Reverse(), reverse=False)


@pytest.mark.parametrize("steps", [0, -1])
@pytest.mark.parametrize("adjoint", [pb.Truncated, pb.Reverse])
def test_blocks_have_whole_steps(steps, adjoint):
    with pytest.raises(ValueError, match=r"steps: .*at least 1"):
        adjoint(steps)


# ---- memory ------------------------------------------------------------------------------------


def end(weight, n_steps, adjoint):
    """A number at the end of a run of which nothing is recorded."""
    net = eqx.tree_at(weights, NET, [weight, weights(NET)[1]])
    out = pb.simulate(
        net, STATE, {"N": 20.0}, dt=DT, duration=n_steps * DT, save=lambda *_: None, adjoint=adjoint
    )
    return out.state.populations["N"].neuron.v.sum()


def bytes_of(transform, adjoint, n_steps):
    """The temporary memory of a derivative."""
    f = jax.jit(transform(lambda w: end(w, n_steps, adjoint)))
    return f.lower(jnp.asarray(0.6)).compile().memory_analysis().temp_size_in_bytes


LENGTHS = (100, 300, 1000, 3000, 10_000)


@pytest.mark.parametrize(("transform", "adjoint", "n_steps", "at_least", "at_most"), [
    (jax.grad, pb.Direct(), LENGTHS[::2], 0.95, 1.0),  # what the others are to beat
    (jax.grad, pb.Checkpointed(), LENGTHS, 0.3, 0.6),
    (jax.grad, pb.Reverse(), LENGTHS, 0.3, 0.6),
    (jax.grad, pb.Checkpointed(8), LENGTHS[::4], -0.01, 0.01),
    (jax.jacfwd, pb.Direct(), LENGTHS[::4], -0.01, 0.01),
], ids=["direct", "checkpointed", "reverse", "8 checkpoints", "forward"])  # fmt: skip
def test_memory_in_the_number_of_steps(transform, adjoint, n_steps, at_least, at_most):
    peak = [bytes_of(transform, adjoint, n) for n in n_steps]
    assert at_least <= np.polyfit(np.log(n_steps), np.log(peak), 1)[0] <= at_most


def test_memory_of_truncated_is_that_of_a_block():
    """And of one state a block: far below Direct's."""
    cut, whole = (
        bytes_of(jax.grad, adjoint, 10_000) for adjoint in (pb.Truncated(100), pb.Direct())
    )
    assert cut < whole / 30


# ---- a neuron as a continuous model ------------------------------------------------------------


def charge(neuron, where, values, current, end, adjoint):
    """The potential at the end, below threshold, by diffrax. (`BacksolveAdjoint` differentiates
    `args` only, and only arrays; a fast gate explodes when solved backwards for long.)"""

    def vf(t, y, args):
        values, current = args
        return eqx.tree_at(where, neuron, values).vf(t, y, pb.Drives((), current))

    y0, args = neuron.init(dt=DT), (values, current)
    solution = dfx.diffeqsolve(
        dfx.ODETerm(vf), dfx.Tsit5(), 0.0, end, 0.02, y0, args, adjoint=adjoint
    )
    return solution.ys.v[-1, 0]


@pytest.mark.parametrize(("neuron", "where", "current", "end"), [
    (pb.LIF(1, v_th=1e3), lambda n: [n.tau, n.v_rest], 12.0, 20.0),
    pytest.param(
        pb.TraubMiles(1), lambda n: [n.g_l, n.g_na, n.e_k, n.c_m], 100.0, 1.0,
        marks=pytest.mark.slow,
    ),
], ids=["LIF", "TraubMiles"])  # fmt: skip
@pytest.mark.parametrize(
    ("adjoint", "rtol"),
    [
        (dfx.RecursiveCheckpointAdjoint(), 1e-11),
        (dfx.ForwardMode(), 1e-11),
        # Another equation, backwards: equal as far as it is solved.
        (dfx.BacksolveAdjoint(), 1e-6),
    ],
    ids=lambda a: type(a).__name__,
)
def test_a_neuron_with_the_adjoints_of_diffrax(neuron, where, current, end, adjoint, rtol):
    def loss(values, current, adjoint):
        return charge(neuron, where, values, current, end, adjoint)

    args = where(neuron), jnp.asarray(current)
    derivative = jax.jacfwd if isinstance(adjoint, dfx.ForwardMode) else jax.grad
    got = jax.jit(derivative(lambda *a: loss(*a, adjoint), (0, 1)))(*args)
    right = jax.jit(jax.grad(lambda *a: loss(*a, dfx.DirectAdjoint()), (0, 1)))(*args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(right), strict=True):
        assert b != 0
        np.testing.assert_allclose(a, b, rtol=rtol)

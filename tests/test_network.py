"""Networks: when a spike arrives, and what must not matter."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops

from .helpers_net import DT, Emitter, assert_identical, coba, dense, projection

EMISSIONS = 31  # neuron k of the source spikes k steps after the start
STEPS = 60
TAU, WEIGHT = 3.0, 2.0


@eqx.filter_jit
def recorded(network, at, i0):
    """The synaptic variables of each pathway, and the potentials of T, after each step."""
    network = eqx.tree_at(lambda n: n.populations["S"].at, network, at)
    save = lambda tick, s, out: (s.synapses, s.populations["T"].v)  # noqa: E731
    state = network.init(dt=DT)
    return pb.simulate(network, state, {}, dt=DT, duration=STEPS * DT, save=save, i0=i0).saved


def assert_arrives(g, v, delays, sends):
    """Each target's one spike, sent `sends` steps after the start, shows exactly `delays` later."""
    age = np.arange(STEPS)[:, None] - (delays + sends)
    np.testing.assert_array_equal(g != 0, age >= 0)
    np.testing.assert_allclose(g, np.where(age >= 0, WEIGHT * np.exp(-age * DT / TAU), 0), 1e-12)
    if v is not None:  # and moves the potential one step later
        np.testing.assert_array_equal(v != -60.0, age >= 1)


def network_from(bits, n_targets, *paths):
    at = jnp.arange(EMISSIONS, dtype=jnp.int32)
    return pb.Network({"S": Emitter(at, bits), "T": pb.LIF(n_targets, v_th=1e3)}, paths)


def into(pre, delay, lo=0, drive=None):
    target = pb.View("T")[lo : lo + EMISSIONS]
    comm = pb.connect.one_to_one(WEIGHT)
    return projection(pre, target, comm, syn=pb.Exponential(TAU), drive=drive, delay=delay)


def check_arrivals(network, delays, sends, i0):
    at = i0 + jnp.arange(EMISSIONS, dtype=jnp.int32)
    g, v = recorded(network, at, jnp.asarray(i0, jnp.int32))
    assert_arrives(np.concatenate(g, axis=1), np.asarray(v), delays, sends)


@pytest.mark.parametrize("d", range(1, 26))
def test_a_spike_of_step_n_arrives_at_n_plus_d(d):
    net = network_from(d % 2 == 0, EMISSIONS, into("S", d * DT))
    for i0 in (0, 1000 + d):
        check_arrivals(net, np.full(EMISSIONS, d), np.arange(EMISSIONS), i0)


@pytest.mark.parametrize("bits", [True, False])
def test_projections_that_share_a_history_have_their_own_delays(bits):
    ds = [25, 1, 7, 2, 16]
    drives = [pb.COBA(0.0), None, None, pb.COBA(0.0), None]
    paths = [
        into("S", d * DT, k * EMISSIONS, drive)
        for k, (d, drive) in enumerate(zip(ds, drives, strict=True))
    ]
    net = network_from(bits, len(ds) * EMISSIONS, *paths)
    assert net.init(dt=DT).history["S"].length == 25
    delays, sends = np.repeat(ds, EMISSIONS), np.tile(np.arange(EMISSIONS), len(ds))
    for i0 in (0, 13, 99_999_999):
        check_arrivals(net, delays, sends, i0)


@pytest.mark.parametrize("bits", [True, False])
def test_a_delay_for_each_synapse(bits):
    # From each source one synapse of each delay, each to a target of its own.
    delays, sends = (a.ravel() for a in np.meshgrid(np.arange(1, 26), np.arange(EMISSIONS)))
    comm = ops.CSR(WEIGHT, np.arange(EMISSIONS + 1) * 25, np.arange(25 * EMISSIONS), delays.size)
    path = projection("S", "T", comm, syn=pb.Exponential(TAU), delay=delays * DT)
    net = network_from(bits, delays.size, path)
    for i0 in (0, 13, 99_999_999):
        check_arrivals(net, delays, sends, i0)


@pytest.mark.parametrize("x64", [True, False])
def test_delays_that_no_float32_holds(x64):
    # 17.1 and 20.1: in float32 the nearest are 4e-6 steps off the grid of 0.1.
    with jax.enable_x64(x64):
        for delay in ([17.1, 20.1], np.array([17.1, 20.1]), jnp.array([17.1, 20.1])):
            comm = ops.CSR(1.0, np.array([0, 2]), np.array([0, 0]), 1)
            paths = [projection("N", "N", comm, delay=d) for d in (delay, 17.1)]
            one, two = (pb.Network({"N": pb.LIF(1)}, paths[:k]) for k in (1, 2))
            for net in (one, pb.merge(two), pb.merge(pb.merge(two))):
                ((ring,),) = net.init(dt=DT).arrivals
                assert ring.shape == (201,)


def test_spikes_under_way_survive_a_resume():
    net = network_from(True, EMISSIONS, into("S", 9 * DT))
    kwargs = dict(dt=DT, save=lambda tick, s, out: s.synapses[0])
    first = pb.simulate(net, net.init(dt=DT), {}, duration=5 * DT, **kwargs)
    second = pb.simulate(net, first.state, {}, duration=55 * DT, i0=first.i, **kwargs)
    g = np.concatenate([first.saved, second.saved])
    assert_arrives(g, None, np.full(EMISSIONS, 9), np.arange(EMISSIONS))


# ---- what must not matter ------------------------------------------------------------------------


def run(network, key=3, duration=15.0, inputs=None):
    state = network.init(dt=DT, key=jr.key(key))
    save = lambda tick, s, out: (out["N"], s.populations["N"])  # noqa: E731
    inputs = {"N": 15.0} if inputs is None else inputs
    saved = pb.simulate(
        network, state, inputs, dt=DT, duration=duration, key=jr.key(key + 1), save=save
    ).saved
    assert dense(saved[0]).any()
    return saved


def test_a_population_of_no_concern_changes_no_bit():
    net = coba(noise=True)
    plain = run(net)
    other = pb.Refractory(pb.LIF(9, v_init=pb.Normal(-55.0, 5.0)), tau_ref=1.0)
    # JAX sorts names: one that stands first and one that stands last.
    more = {"A": other, **net.populations, "Z": pb.PoissonSource(3, 100.0)}
    assert_identical(run(pb.Network(more, net.pathways)), plain)
    assert_identical(run(pb.Network(dict(reversed(more.items())), net.pathways)), plain)
    # Nor what transforms do to a dict.
    assert_identical(run(jax.tree.map(lambda a: a, net)), plain)


def test_the_order_of_projections_changes_no_spike():
    net = coba(noise=True)
    s, state = run(net)
    t, other = run(pb.Network(net.populations, net.pathways[::-1]))
    np.testing.assert_array_equal(s, t)
    np.testing.assert_allclose(state.neuron.v, other.neuron.v, 0, 1e-10)


def integer_network(rows, columns, weight, n, order):
    """Neurons in the given order, with integer weights."""
    place = np.argsort(order)
    neurons = pb.LIF(n, tau=jnp.linspace(10.0, 20.0, n)[order], spike=pb.surrogate.Heaviside())
    rule = pb.connect.from_coo(place[rows], place[columns], weight)
    path = projection("N", "N", rule, delay=0.4)
    return pb.Network({"N": neurons}, [path]), {"N": jnp.linspace(5.0, 25.0, n)[order]}


def test_permuting_neurons_permutes_their_spikes():
    rng, n = np.random.default_rng(0), 30
    rows, columns = np.nonzero(rng.random((n, n)) < 0.3)
    weight = rng.integers(-3, 5, rows.size).astype(float)
    order = rng.permutation(n)
    plain, inputs = integer_network(rows, columns, weight, n, np.arange(n))
    permuted, permuted_inputs = integer_network(rows, columns, weight, n, order)
    s, state = run(plain, inputs=inputs)
    t, other = run(permuted, inputs=permuted_inputs)
    np.testing.assert_array_equal(dense(s)[:, order], dense(t))
    np.testing.assert_allclose(state.v[:, order], other.v, 0, 1e-10)


def test_one_population_of_2n_is_two_of_n():
    rng, n = np.random.default_rng(1), 12
    matrix = (rng.random((2 * n, 2 * n)) < 0.4) * rng.integers(-3, 5, (2 * n, 2 * n))
    tau, current = jnp.linspace(10.0, 20.0, 2 * n), jnp.linspace(5.0, 25.0, 2 * n)
    one = pb.Network(
        {"N": pb.LIF(2 * n, tau=tau)},
        [projection("N", "N", pb.connect.dense(matrix), delay=0.4)],
    )
    parts = {"A": slice(0, n), "B": slice(n, 2 * n)}
    two = pb.Network(
        {name: pb.LIF(n, tau=tau[part]) for name, part in parts.items()},
        [
            projection(pre, post, pb.connect.dense(matrix[parts[pre], parts[post]]), delay=0.4)
            for pre in parts
            for post in parts
        ],
    )
    s, _ = run(one, inputs={"N": current})
    out = pb.simulate(
        two, two.init(dt=DT), {k: current[p] for k, p in parts.items()}, dt=DT, duration=15.0
    )
    np.testing.assert_array_equal(s, np.concatenate([out.saved["A"], out.saved["B"]], axis=1))


def test_bits_and_floats_are_the_same_spikes():
    net = coba(noise=True)
    s, state = run(net)
    t, other = run(pb.inference_mode(net))
    assert isinstance(t, ops.Spikes)
    np.testing.assert_array_equal(dense(s), dense(t))
    np.testing.assert_array_equal(state.neuron.v, other.neuron.v)


def test_degenerate_sizes():
    empty = pb.Network({"N": pb.LIF(0)}, [projection("N", "N", ops.AllToAll(1.0, 0, 0))])
    none = pb.Network(
        {"N": pb.LIF(3)}, [projection(pb.View("N")[:0], "N", ops.AllToAll(1.0, 0, 3))]
    )
    for net, n in ((empty, 0), (none, 3)):
        for model in (net, pb.inference_mode(net), pb.merge(net)):
            out = pb.simulate(model, model.init(dt=DT), {"N": 100.0}, dt=DT, duration=3.0)
            assert out.saved["N"].shape == (30, n)
            assert dense(out.saved["N"]).any() == (n > 0)

"""Faults that a review found, each with the case that showed it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops, train
from purebrain._delay import Ring
from purebrain.ops import cpu


def test_times_off_the_grid_of_another_dt_are_refused():
    neuron = pb.Refractory(pb.LIF(1), 0.5)
    with pytest.raises(ValueError, match=r"tau_ref: 0\.5 ms is not a multiple of dt = 0\.2"):
        pb.simulate(neuron, neuron.init(dt=0.1), 20.0, dt=0.2, duration=20.0)


def test_delays_a_synapse_off_the_grid_of_another_dt_are_refused():
    csr = ops.CSR(1.0, np.array([0, 2, 2]), np.array([0, 1], np.int32), 2)
    delays = np.array([0.1, 0.2])
    synapses = pb.Projection("N", "N", csr, pb.Exponential(5.0), pb.Current(), delays)
    net = pb.Network({"N": pb.LIF(2)}, [synapses])
    with pytest.raises(ValueError, match="delay"):
        pb.simulate(net, net.init(dt=0.1), {}, dt=0.15, duration=1.5)


@pytest.mark.parametrize("rule", [pb.connect.fixed_prob, pb.connect.fixed_outdegree])
def test_a_view_without_neurons(rule):
    empty = rule(1 if rule is pb.connect.fixed_outdegree else 0.5, 1.0, key=jr.key(0))
    neurons = pb.LIF(3, spike=pb.surrogate.Heaviside())
    synapses = pb.Projection(
        pb.View("N")[3:3], "N", empty, pb.Exponential(5.0), pb.Current(), delay=0.1
    )
    net = pb.Network({"N": neurons}, [synapses])
    run = pb.simulate(net, net.init(dt=0.1), {"N": 30.0}, dt=0.1, duration=20.0)
    alone = pb.simulate(neurons, neurons.init(dt=0.1), 30.0, dt=0.1, duration=20.0)
    assert int(run.saved["N"].count().sum()) == int(alone.saved.sum()) > 0


def test_a_delay_a_synapse_needs_synapses_whose_order_is_known():
    rule = pb.connect.from_coo(np.array([1, 0]), np.array([0, 1]), np.array([10.0, 20.0]))
    synapses = pb.Projection(
        "N", "N", rule, pb.Exponential(5.0), pb.Current(), np.array([0.1, 0.9])
    )
    with pytest.raises(TypeError, match="delay: one a synapse needs"):
        pb.Network({"N": pb.LIF(2)}, [synapses])


def test_recorded_spikes_are_indexed_as_the_dense_array_is():
    dense = np.random.default_rng(0).random((50, 64)) < 0.3
    packed = ops.pack(jnp.asarray(dense))
    np.testing.assert_array_equal(packed[10:].to_dense(), dense[10:])
    np.testing.assert_array_equal(packed[7].to_dense(), dense[7])
    np.testing.assert_array_equal(packed[7][3:40].to_dense(), dense[7, 3:40])
    np.testing.assert_array_equal(packed.neurons(slice(3, 40)).to_dense(), dense[:, 3:40])


def test_a_ring_at_the_end_of_the_clock():
    ring = Ring(jnp.arange(20.0), 20)
    last = 2**31 - 2
    tick = pb.Tick(jnp.int32(last), 0.1)
    assert float(ring.read(tick, 1)) == (last - 1) % 20


def test_a_population_whose_state_begins_with_a_key():
    class Noisy(pb.AbstractPopulation):
        n: int

        def init(self, *, dt, key=None):
            return (jr.key(0), jnp.zeros(self.n))

        def step(self, state, x, tick):
            key, v = state
            return (key, v + 1.0), (v > 2).astype(v.dtype)

    synapses = pb.Projection(
        "A", "A", pb.connect.all_to_all(1.0), pb.Exponential(5.0), pb.Current(), delay=0.1
    )
    net = pb.Network({"A": Noisy(2)}, [synapses])
    run = pb.simulate(net, net.init(dt=0.1), {}, dt=0.1, duration=0.5)
    assert float(run.saved["A"].sum()) == 4.0


def test_populations_that_would_get_the_same_noise_are_refused():
    source = pb.PoissonSource(2, 10.0)
    with pytest.raises(ValueError, match="same noise"):
        pb.Network({"plumless": source, "buckeroo": source})


def test_drives_and_shapes_of_a_bare_neuron():
    neuron = pb.LIF(3)
    state = neuron.init(dt=0.1)
    drives = pb.Drives((lambda v: 0.5 * (0.0 - v),), jnp.asarray(1.0))
    run = pb.simulate(neuron, state, drives, dt=0.1, duration=2.0)
    assert (run.state.v > -60.0).all()
    with pytest.raises(ValueError, match=r"inputs: shape \(2,\)"):
        pb.simulate(neuron, state, jnp.ones(2), dt=0.1, duration=2.0)


def test_an_initial_potential_can_be_swept():
    def start(v):
        return pb.LIF(2, v_init=v).init(dt=0.1).v[0]

    np.testing.assert_array_equal(jax.vmap(start)(jnp.array([-60.0, -55.0])), [-60.0, -55.0])


def test_merging_distant_views_keeps_state_small_and_matrices_whole():
    ring = pb.connect.one_to_one(2.0)

    def synapses(view, comm, delay):
        return pb.Projection(view, view, comm, pb.Exponential(5.0), pb.Current(), delay)

    near = [synapses(pb.View("N")[5:15], ring, 0.1), synapses(pb.View("N")[12:22], ring, 0.3)]
    full = synapses("N", pb.connect.all_to_all(0.5), 0.2)
    net = pb.Network({"N": pb.LIF(1000)}, [*near, full])
    merged = pb.merge(net)
    sizes = sorted(path.post.n for path in merged.pathways)
    assert sizes == [1000]
    assert any(isinstance(i.comm, ops.AllToAll) for i in merged.pathways[0].inputs)
    apart = pb.merge(pb.Network({"N": pb.LIF(1000)}, near))
    assert [path.post.n for path in apart.pathways] == [17]
    runs = [
        pb.simulate(m, m.init(dt=0.1), {"N": 20.0}, dt=0.1, duration=40.0) for m in (net, merged)
    ]
    np.testing.assert_array_equal(runs[0].saved["N"], runs[1].saved["N"])
    assert float(runs[0].saved["N"].sum()) > 0


def _csr(*lengths):
    indptr = np.cumsum([0, *lengths])
    indices = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
    return ops.CSR(np.arange(1.0, indptr[-1] + 1), indptr, indices, max(lengths))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ops.jit_normal(0.3, 1.0, 0.3, 60, 50, seed=3),
        lambda: ops.jit_homogeneous(1.0, 0.02, 1, 100, seed=15),  # a row of one synapse
        lambda: ops.FixedOutdegree(0.5, np.arange(50_000, dtype=np.int32).reshape(-1, 5) % 99, 99),
        lambda: _csr(1, 2000, 65, 0, 64),
        lambda: _csr(*[1, 64] * 5000),
    ],
)
@pytest.mark.parametrize("n_events", [1, 2, 65])
def test_spikes_that_the_compiler_knows(make, n_events):
    """XLA took no turn of a loop by 64 to a number it knew, if that was 1."""
    op = ops.tuned(make(), cpu.Tuning(native=False))
    s = jnp.zeros(op.n_pre).at[np.arange(min(n_events, op.n_pre))].set(1.0)
    known, given = jax.jit(lambda: op.mv(s))(), jax.jit(lambda op, s: op.mv(s))(op, s)
    assert jnp.any(given != 0)
    np.testing.assert_array_equal(known, given)


def test_events_that_the_compiler_knows():
    times = np.full((1, 3), 0.2) + np.arange(3)
    events = train.events_from_times(times, 4)
    w = jnp.arange(3.0)[:, None] + jnp.ones((1, 4))
    np.testing.assert_array_equal(
        jax.jit(lambda: train.project(events, w))(), jax.jit(train.project)(events, w)
    )


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "make",
    [
        lambda ids, w: ops.FixedOutdegree(w, ids, 1000),
        lambda ids, w: ops.FixedIndegree(w, ids, 1000),
        lambda ids, w: ops.CSR(w, np.arange(0, 80_001, 80), ids.reshape(-1), 1000),
        lambda ids, w: ops.jit_homogeneous(w, 0.08, 1000, 1000, seed=1),
        lambda ids, w: ops.jit_uniform(w, 2 * w, 0.08, 1000, 1000, seed=1),
        lambda ids, w: ops.OneToOne(w, 1000),
        lambda ids, w: ops.AllToAll(w, 1000, 1000),
    ],
)
def test_gradients_of_a_weight_of_all_synapses_in_half_precision(make, dtype, native):
    """They were added up in it: of 80,000 terms it lost most."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 1000, (1000, 80)).astype(np.int32)
    op = ops.tuned(make(ids, jnp.asarray(0.5)), cpu.Tuning(native=native))
    s, x = jnp.asarray(rng.random((2, 1000)) / 1000)

    def gradients(op, s, x):
        def loss(w):
            moved = eqx.tree_at(lambda op: op.weight, op, w)
            return jnp.sum(moved.mv_t(x) * s), jnp.sum(moved.mv(s) * x)

        return jnp.stack([jax.grad(lambda w, k=k: loss(w)[k])(op.weight) for k in (0, 1)])

    want = gradients(op, s, x)
    got = gradients(pb.cast(op, dtype), s.astype(dtype), x.astype(dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(float), want, rtol=1e-2)

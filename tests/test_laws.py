"""Delays, alignment, drives and merging are transforms with laws: the laws, as property tests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import purebrain as pb
from purebrain import ops

from .helpers_net import (
    DT,
    From,
    Saturating,
    assert_identical,
    coba,
    dense,
    projection,
)

few = settings(max_examples=6)  # where each example compiles
seeds = st.integers(0, 2**32 - 1)
STEPS = 15


def outputs(model, xs, i0=0):
    """The output of each step, fed xs[0] in step i0, xs[1] in the next..."""
    return pb.simulate(
        model, model.init(dt=DT), From(xs, i0), dt=DT, duration=STEPS * DT, i0=i0
    ).saved


def csr(rng, n_pre, n_post, scalar=False):
    """Random weights on synapses that are always the same, so that a law is compiled once."""
    rows, columns = np.nonzero(np.random.default_rng(n_pre).random((n_pre, n_post)) < 0.5)
    weight = rng.normal() if scalar else rng.normal(size=rows.size)
    return pb.connect.from_coo(rows, columns, weight)(n_pre, n_post)


def events(rng, n):
    """Spikes of a few steps: as booleans, or as floats of a surrogate."""
    spikes = rng.random((STEPS, n)) < 0.3
    return jnp.asarray(spikes if rng.random() < 0.5 else spikes * rng.random((STEPS, n)))


def close(a, b, rtol=1e-12, atol=1e-12):
    np.testing.assert_allclose(a, b, rtol, atol)


# ---- delays --------------------------------------------------------------------------------------


@few
@given(a=st.integers(0, 5), b=st.integers(0, 5), i0=st.integers(0, 10**9), seed=seeds)
def test_delays_add_and_a_delay_of_zero_is_none(a, b, i0, seed):
    xs = jnp.asarray(np.random.default_rng(seed).normal(size=(STEPS, 4)))
    model = pb.AlignPost(ops.Dense(jnp.arange(12.0).reshape(4, 3)), pb.Exponential(2.0))
    plain = np.asarray(outputs(model, xs, i0))
    assert_identical(outputs(pb.Delayed(model, 0.0, like=xs[0]), xs, i0), jnp.asarray(plain))
    at_once = outputs(pb.Delayed(model, (a + b) * DT, like=xs[0]), xs, i0)
    nested = pb.Delayed(pb.Delayed(model, a * DT, like=xs[0]), b * DT, like=xs[0])
    assert_identical(outputs(nested, xs, i0), at_once)
    # And the delay is one: the same output, a + b steps later.
    shifted = np.concatenate([np.zeros((a + b, 3)), plain[: STEPS - a - b]])
    np.testing.assert_array_equal(at_once, shifted)


def test_a_delay_keeps_any_pytree_and_its_precision():
    x = {"spikes": ops.pack(jnp.array([True, False, True])), "current": jnp.ones(2)}
    model = pb.cast(pb.Delayed(pb.Stateless(lambda x: x), 2 * DT, like=x), jnp.float32)
    x = pb.cast(x, jnp.float32)
    state = model.init(dt=DT)
    for i in range(4):
        state, y = model.step(state, x, pb.Tick(jnp.asarray(i), DT))
        assert_identical(y, x if i >= 2 else jax.tree.map(jnp.zeros_like, x))


# ---- alignment -----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seed=seeds)
def test_connectivities_of_linear_kinetics_add_up(seed):
    rng = np.random.default_rng(seed)
    c1, c2 = csr(rng, 5, 4), csr(rng, 3, 4, scalar=True)
    x1, x2 = events(rng, 5), events(rng, 3)
    syn = pb.Exponential(jnp.asarray(rng.uniform(1, 9, 4)))
    apart = pb.Sum(pb.AlignPost(c1, syn), pb.AlignPost(c2, syn))
    close(outputs(pb.AlignPost((c1, c2), syn), (x1, x2)), outputs(apart, (x1, x2)))


@settings(max_examples=30)
@given(seed=seeds)
def test_linear_kinetics_may_be_aligned_with_either_side(seed):
    rng = np.random.default_rng(seed)
    comm, xs, syn = csr(rng, 5, 4), events(rng, 5), pb.Exponential(rng.uniform(1, 9))
    close(outputs(pb.AlignPost(comm, syn), xs), outputs(pb.AlignPre(syn, comm), xs))


def test_nonlinear_kinetics_are_refused_by_type_and_work_on_the_pre_synaptic_side():
    syn, comm = Saturating(5.0), ops.Dense(jnp.array([[0.5, -1.0], [2.0, 0.0]]))
    with pytest.raises(TypeError, match=r"syn: Saturating is not linear.*AlignPre\(syn, comm\)"):
        pb.AlignPost(comm, syn)
    with pytest.raises(TypeError, match=r"syn: Saturating is not linear.*AtPre\(syn\)"):
        projection("N", "N", comm, syn=syn)
    s = np.random.default_rng(0).random((STEPS, 2)) < 0.4
    g, expected = np.zeros(2), []
    for row in s:
        g = g * np.exp(-DT / 5.0)
        g = g + (1 - g) * row
        expected.append(g @ np.asarray(comm.weight))
    close(outputs(pb.AlignPre(syn, comm), jnp.asarray(s)), expected)


def potentials_and_spikes(network, inputs, duration=20.0, key=1):
    state = network.init(dt=DT, key=jr.key(key))
    v = lambda s: [getattr(p, "neuron", p).v for p in s.populations.values()]  # noqa: E731
    run = pb.simulate(
        network, state, inputs, dt=DT, duration=duration, save=lambda tick, s, out: (v(s), out)
    )
    return run.saved


def assert_same_run(one, other, inputs, **kwargs):
    """Identical spikes, of which there are some, and the same potentials."""
    (v, out), (w, other_out) = (potentials_and_spikes(n, inputs, **kwargs) for n in (one, other))
    assert sum(dense(s).sum() for s in out.values()) > 0
    for name in out:
        np.testing.assert_array_equal(dense(out[name]), dense(other_out[name]))
    for a, b in zip(v, w, strict=True):
        close(a, b, 0, 1e-10)


def test_a_projection_may_be_aligned_with_either_side():
    def network(align):
        rule = pb.connect.fixed_prob(0.5, 2.0, key=jr.key(0))
        args = dict(syn=align(pb.Exponential(5.0)), drive=pb.COBA(0.0), delay=0.4)
        return pb.Network({"N": pb.LIF(20)}, [projection(pb.View("N")[3:], "N", rule, **args)])

    inputs = {"N": jnp.linspace(5, 30, 20)}
    assert_same_run(network(lambda syn: syn), network(pb.AtPre), inputs)


def test_a_nonlinear_projection_at_pre_saturates():
    comm = ops.OneToOne(3.0, 2)
    args = dict(syn=pb.AtPre(Saturating(1e9)), delay=DT)
    net = pb.Network(
        {"N": pb.LIF(2), "M": pb.LIF(2, v_th=1e3)}, [projection("N", "M", comm, **args)]
    )
    state = net.init(dt=DT)
    run = pb.simulate(net, state, {"N": 100.0}, dt=DT, duration=20.0)
    assert dense(run.saved["N"]).sum() > 10
    close(run.state.synapses[0], 1, 1e-6)


# ---- chains and sums -----------------------------------------------------------------------------


def test_chains_are_associative_and_sums_commute():
    rng = np.random.default_rng(0)
    xs, c1, c2 = events(rng, 4), csr(rng, 4, 4), csr(rng, 4, 4)
    a, b = pb.AlignPost(c1, pb.Exponential(3.0)), pb.AlignPost(c2, pb.Exponential(7.0))
    c = pb.Delayed(pb.Stateless(lambda x: 2 * x), 3 * DT, like=jnp.zeros(4))
    left, right = pb.Chain(pb.Chain(a, b), c), pb.Chain(a, pb.Chain(b, c))
    assert_identical(outputs(left, xs), outputs(pb.Chain(a, b, c), xs))
    assert_identical(outputs(right, xs), outputs(pb.Chain(a, b, c), xs))
    assert_identical(outputs(pb.Chain(), xs), xs)
    close(outputs(pb.Sum(a, b), (xs, xs)), outputs(pb.Sum(b, a), (xs, xs)))
    # What is linear goes into a sum.
    into = pb.Sum(pb.Chain(a, c), pb.Chain(b, c))
    close(outputs(pb.Chain(pb.Sum(a, b), c), (xs, xs)), outputs(into, (xs, xs)))


# ---- drives --------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-90, 90), min_size=4, max_size=4),
    st.floats(-5, 5),
    st.lists(st.floats(0, 9), min_size=3, max_size=3),
)
def test_drives_add_as_functions(v, current, g):
    v, g = jnp.asarray(v), jnp.asarray(g)
    parts = pb.COBA(-80.0), pb.Current(), pb.MgBlock(mg=1.5)
    bound = [
        pb.Drives((lambda v, p=p, k=k: p(g[k] * jnp.ones(4), v),)) for k, p in enumerate(parts)
    ]
    one = sum(bound, pb.Drives()) + current
    other = current + bound[2] + (bound[1] + bound[0])
    block = 1 / (1 + 1.5 / 3.57 * np.exp(-0.062 * v))
    expected = current + g[0] * (-80.0 - v) + g[1] + g[2] * block * (0 - v)
    for drives in (one, other):
        close(drives(v), expected)
    close((bound[0] + jnp.arange(4.0))(v), bound[0](v) + jnp.arange(4.0))


# ---- merging -------------------------------------------------------------------------------------

SIZES = {"E": 12, "I": 7}
INPUTS = {"E": jnp.linspace(5, 40, 12), "I": jnp.linspace(30, 5, 7)}


def random_projection(rng, post, syn, drive):
    pre = pb.View(str(rng.choice(list(SIZES))))
    if rng.random() < 0.5:
        pre = pre[1 : SIZES[pre.name] - 2]
    if rng.random() < 0.5:
        post = post[2:6]
    n_pre, n_post = pre.within(SIZES, "pre").n, post.within(SIZES, "post").n
    delay = DT * rng.choice([1, 3, 8])
    weight = rng.choice([0.02, 0.1])
    form = rng.integers(5)
    if form == 0:
        comm = ops.AllToAll(weight, n_pre, n_post)
    elif form == 1:
        comm = ops.Dense(jnp.asarray(rng.uniform(0, 0.2, (n_pre, n_post))))
    elif form == 2:
        ids = rng.integers(n_post, size=(n_pre, 3))
        comm = ops.FixedOutdegree(jnp.asarray(rng.uniform(0, 0.3, ids.shape)), ids, n_post)
    else:
        rows, columns = np.nonzero(rng.random((n_pre, n_post)) < 0.5)
        each = rng.uniform(0, 0.3, rows.size) if form == 3 else weight
        comm = pb.connect.from_coo(rows, columns, each)(n_pre, n_post)
        if form == 3:
            delay = DT * rng.integers(1, 9, rows.size)
    if rng.random() < 0.2 and np.ndim(delay) == 0:
        syn = pb.AtPre(syn)
    return projection(pre, post, comm, syn=syn, drive=drive, delay=delay)


def signature(p):
    """What projections must share to share a synaptic state; None for those at pre."""
    if isinstance(p.syn, pb.AtPre):
        return None
    return p.post.name, float(p.syn.tau), type(p.drive), float(getattr(p.drive, "e_rev", 0))


@few
@given(seed=seeds, bits=st.booleans())
def test_merging_changes_nothing_but_the_size_of_the_state(seed, bits):
    rng = np.random.default_rng(seed)
    projections = []
    for post in pb.View("E"), pb.View("I"):
        syn = pb.Exponential(rng.choice([3.0, 8.0]))
        drive = (pb.Current(), pb.COBA(0.0), pb.COBA(-80.0))[rng.integers(3)]
        projections += [random_projection(rng, post, syn, drive) for _ in range(3)]
    projections.append(projection("E", "E", pb.connect.all_to_all(0.1), syn=syn, drive=drive))
    neurons = {
        "E": pb.Refractory(pb.LIF(12, v_init=pb.Normal(-55.0, 5.0)), tau_ref=0.4),
        "I": pb.LIF(7, tau=10.0, v_init=pb.Uniform(-60.0, -50.0)),
    }
    network = pb.Network(neurons, projections)
    network = pb.inference_mode(network) if bits else network
    merged = pb.merge(network)
    assert_same_run(network, merged, INPUTS)
    signatures = [signature(p) for p in projections]
    at_pre = signatures.count(None)
    assert len(merged.pathways) == len(set(signatures) - {None}) + at_pre
    assert len(merged.init(dt=DT, key=jr.key(0)).synapses) == len(merged.pathways)
    assert jax.tree.structure(pb.merge(merged)) == jax.tree.structure(merged)


def test_merge_leaves_alone_what_it_must():
    e, i = pb.View("E"), pb.View("I")
    rule = pb.connect.fixed_prob(0.5, 0.1, key=jr.key(0))

    def paths(*projections):
        network = pb.Network({n: pb.LIF(k) for n, k in SIZES.items()}, projections)
        return network.pathways, pb.merge(network).pathways

    apart = [
        projection(e, e, rule),
        projection(e, i, rule),  # another target
        projection(e, e, rule, syn=pb.Exponential(6.0)),  # other kinetics
        projection(e, e, rule, drive=pb.COBA(0.0)),  # another drive
        projection(e, e, rule, syn=pb.AtPre(pb.Exponential(5.0))),
        projection(e, e, rule, syn=pb.AtPre(pb.Exponential(5.0))),
    ]
    before, after = paths(*apart)
    assert all(a is b for a, b in zip(before, after, strict=True))
    # Time constants of each target belong to one view; the same on two views are not the same.
    each = pb.Exponential(jnp.arange(1.0, 4.0))
    before, after = paths(*(projection(e, i[k : k + 3], rule, syn=each) for k in (0, 3)))
    assert len(after) == 2
    assert len(paths(*(projection(e, i[:3], rule, syn=each) for _ in range(2)))[1]) == 1
    # Traced parameters are equal only if they are the same object.
    network = pb.Network({"E": pb.LIF(12)}, [projection(e, e, rule), projection(e, e, rule)])

    @jax.jit
    def traced(a, b):
        for taus, n in (((a, b), 2), ((a, a), 1)):
            net = eqx.tree_at(lambda net: [p.syn.tau for p in net.pathways], network, taus)
            assert len(pb.merge(net).pathways) == n

    traced(1.0, 1.0)


def test_merging_nothing_or_projections_without_synapses():
    empty = pb.connect.from_coo(np.zeros(0, int), np.zeros(0, int), 1.0)(12, 7)
    none = np.zeros(0)
    for delays in ([DT, DT], [DT, 2 * DT], [none, none], [none, DT]):
        ps = [projection("E", "I", empty, delay=d) for d in delays]
        network = pb.merge(pb.Network({"E": pb.LIF(12), "I": pb.LIF(7)}, ps))
        assert len(network.pathways) == 1
        run = pb.simulate(network, network.init(dt=DT), {"E": 30.0}, dt=DT, duration=15.0)
        assert dense(run.saved["E"]).any() and not np.any(run.state.synapses[0])
    assert pb.merge(pb.Network({"E": pb.LIF(1)})).pathways == ()


def test_the_gradient_passes_through_merge():
    network = coba(20, weights=(0.3, 1.0))
    rng = np.random.default_rng(0)
    extra = pb.connect.from_coo(*rng.integers(16, size=(2, 60)), rng.random(60))
    view = pb.View("N")
    more = projection(view[:16], view[:16], extra, drive=pb.COBA(0.0), delay=0.7)
    network = pb.Network(network.populations, [*network.pathways, more])
    state = {f: f(network).init(dt=DT, key=jr.key(0)) for f in (pb.merge, lambda n: n)}
    where = lambda n: [p.inputs[0].comm.weight for p in n.pathways]  # noqa: E731

    def gradient(transform):
        def loss(weights):
            model = transform(eqx.tree_at(where, network, weights))
            save = lambda tick, s, out: (out["N"].sum(), s.populations["N"].neuron.v.mean())  # noqa: E731
            run = pb.simulate(model, state[transform], {"N": 20.0}, dt=DT, duration=10.0, save=save)
            return run.saved[0].mean() + run.saved[1].mean()

        return jax.jit(jax.value_and_grad(loss))(where(network))

    (loss, grads), (other_loss, other_grads) = (gradient(f) for f in state)
    close(loss, other_loss, 1e-12)
    assert [g.shape for g in grads] == [(), (), (60,)]
    for a, b in zip(grads, other_grads, strict=True):
        assert np.all(np.isfinite(a)) and np.any(a != 0)
        close(a, b, 1e-8, 1e-12)


@settings(max_examples=3)
@given(seed=seeds)
def test_delays_of_synapses_are_one_projection_for_each_delay(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random((12, 7)) < 0.6)
    weight, steps = rng.uniform(0, 4, rows.size), rng.integers(1, 5, rows.size)

    def network(*parts):
        ps = [
            projection(
                "E",
                "I",
                pb.connect.from_coo(rows[k], columns[k], weight[k])(12, 7),
                delay=delay,
            )
            for k, delay in parts
        ]
        return pb.Network({"E": pb.LIF(12), "I": pb.LIF(7)}, ps)

    every = np.ones(rows.size, bool)
    one = network((every, steps * DT))
    several = network(*((steps == d, d * DT) for d in range(1, 5)))
    assert_same_run(one, several, INPUTS)

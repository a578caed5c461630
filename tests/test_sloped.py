"""Surrogates of bounded support: gradients that visit the synapses of the neurons near threshold
alone, and are the same."""

import re
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.test_util import check_grads

import purebrain as pb
from purebrain import ops, surrogate
from purebrain.neuron._abstract import _ClockTerm
from purebrain.surrogate import AbstractSpike

BOUNDED = [
    surrogate.PiecewiseLinear(height=0.7, width=0.3),
    surrogate.PiecewiseQuadratic(alpha=3.0),
    surrogate.ReLU(alpha=0.5, width=0.4),
]


class Everywhere(AbstractSpike):
    """The same surrogate, that does not say where it ends."""

    inner: AbstractSpike

    def __call__(self, x):
        return self.inner(x)


@pytest.mark.parametrize("spike", BOUNDED, ids=lambda s: type(s).__name__)
def test_a_surrogate_has_a_slope_where_it_says_and_nowhere_else(spike):
    x = jnp.linspace(-1.0, 1.0, 2001)
    assert (np.asarray(spike.sloped(x)) == (np.asarray(spike.derivative(x)) > 0)).all()


def test_other_surrogates_may_have_one_anywhere():
    x = jnp.linspace(-1e3, 1e3, 5)
    others = [surrogate.SuperSpike(), surrogate.LogTailedReLU(), surrogate.Heaviside()]
    assert all(spike.sloped(x) is None for spike in others)


# ---- operators -----------------------------------------------------------------------------------

N_PRE, N_POST = 37, 23


def _operators():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, N_PRE)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = rng.integers(0, N_POST, indptr[-1])
    targets = rng.integers(0, N_POST, (N_PRE, 5))
    long = np.concatenate([[0], np.cumsum(lengths + 400 * (np.arange(N_PRE) == 3))])
    of_long = rng.integers(0, N_POST, long[-1])
    each, fixed = rng.normal(size=indptr[-1]), rng.normal(size=targets.shape)
    return {
        "csr": ops.CSR(each, indptr, indices, N_POST),
        "csr, one weight": ops.CSR(0.7, indptr, indices, N_POST),
        "csr, a long row": ops.CSR(rng.normal(size=long[-1]), long, of_long, N_POST),
        "fixed out-degree": ops.FixedOutdegree(fixed, targets, N_POST),
        "fixed out-degree, one weight": ops.FixedOutdegree(-0.3, targets, N_POST),
        "dense": ops.Dense(rng.normal(size=(N_PRE, N_POST))),
        "one to one": ops.OneToOne(rng.normal(size=N_PRE), N_PRE),
    }


OPERATORS = _operators()
OPERATORS |= {
    f"{name}, pure JAX": ops.tuned(op, ops.cpu.Tuning(native=False))
    for name, op in OPERATORS.items()
    if name not in ("dense", "one to one")
}
operators = pytest.mark.parametrize("name", OPERATORS)


def _events(batch=()):
    k_s, k_m = jr.split(jr.key(1))
    where = jr.bernoulli(k_m, 0.4, (*batch, N_PRE))
    return jnp.where(where, jr.normal(k_s, where.shape), 0), where


def _product(op, s, where):
    """With the dense matrix, and the values that do not count left out."""
    return jnp.where(where, s, 0) @ op.as_matrix()


@operators
@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "batch"])
def test_products_and_their_derivatives_are_those_of_the_matrix(name, batch):
    op = OPERATORS[name]
    s, where = _events(batch)
    y = jr.normal(jr.key(2), (*batch, op.n_post))
    ct = jr.normal(jr.key(3), y.shape)

    def ours(op, y, s):
        one = lambda y, s, where: op.mv_add_where(y, s, where)  # noqa: E731
        return jax.vmap(one)(y, s, where) if batch else one(y, s, where)

    def dense(op, y, s):
        return y + _product(op, s, where)

    def both(f):
        out, pull = jax.vjp(f, op, y, s)
        op_ct, y_ct, s_ct = pull(ct)
        # Elsewhere a derivative does not count, whatever it is.
        return out, op_ct.weight, y_ct, jnp.where(where, s_ct, 0)

    for a, b in zip(both(ours), both(dense), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@operators
def test_derivatives_of_second_order_in_both_modes(name):
    op = OPERATORS[name]
    where = _events()[1]
    s = jr.normal(jr.key(4), (N_PRE,))  # what is not marked does not count

    def f(weight, s):
        y = jnp.zeros(op.n_post)
        o = eqx.tree_at(lambda op: op.weight, op, weight)
        return jnp.sum(jnp.sin(o.mv_add_where(y, jnp.asarray(s), where)))

    assert f(op.weight, s) == pytest.approx(float(jnp.sum(jnp.sin(_product(op, s, where)))))

    check_grads(f, (op.weight, s), order=2, modes=["fwd", "rev"], rtol=1e-5)


@operators
@pytest.mark.parametrize(
    ("s", "where", "message"),
    [
        (jnp.ones(N_PRE), jnp.ones(3, bool), r"where: bool\[3\]; it must be bool\[37\]"),
        (jnp.ones(N_PRE), jnp.ones(N_PRE), "where: float64"),
        (jnp.ones(5), jnp.ones(5, bool), r"s: shape \(5,\)"),
        (ops.pack(jnp.ones(N_PRE, bool)), jnp.ones(N_PRE, bool), "op.mv_add"),
    ],
)
def test_wrong_values_and_masks_are_refused(name, s, where, message):
    op = OPERATORS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        op.mv_add_where(jnp.zeros(op.n_post), s, where)


def test_a_gradient_visits_the_rows_of_the_mask_alone():
    """The program has no array as long as there are synapses, but for those that it is given."""
    n, k = 512, 64
    targets = np.random.default_rng(0).integers(0, n, (n, k))
    op = ops.tuned(ops.FixedOutdegree(0.1, targets, n), ops.cpu.Tuning(native=False))

    def longest(f):
        text = jax.jit(jax.grad(f)).lower(jnp.ones(n)).compile().as_text()
        made = re.findall(r"= f(?:32|64)\[([\d,]+)\][^=]* fusion\(", str(text))
        return max(int(np.prod([int(d) for d in dims.split(",")])) for dims in made)

    mask = jnp.arange(n) % 100 == 0
    y = jnp.zeros(n)
    assert longest(lambda s: jnp.sum(jnp.sin(op.mv_add_where(y, s, mask)))) < n * k // 16
    assert longest(lambda s: jnp.sum(jnp.sin(op.mv_add(y, s)))) >= n * k


# ---- networks ------------------------------------------------------------------------------------

N = 30


def _neurons(spike):
    start: dict[str, Any] = dict(v_init=pb.Uniform(-60.0, -50.0), spike=spike)
    lif = pb.LIF(N, **start)
    return {
        "lif": lif,
        "refractory": pb.Refractory(lif, tau_ref=2.0),
        "soft": pb.LIF(N, reset_rule=pb.SoftReset(detach=False), **start),
        "gif": pb.GIF(
            N, tau_2=30.0, a_2=-1.0, a=0.01, v_init=pb.Uniform(-70.0, -60.0), spike=spike
        ),
        "alif": pb.ALIF(N, **start),
        "noisy": pb.Refractory(pb.Noisy(lif, sigma=0.3), tau_ref=2.0),
        "fractional": pb.Fractional(lif, alpha=0.9, memory=5.0),
    }


def _loss(spike):
    """The mean rates as a function of the weights, the weights, and the state at the start."""
    neurons = _neurons(spike)
    k_net, k_init, k_run = jr.split(jr.key(0), 3)
    projections = []
    for k, name in zip(jr.split(k_net, len(neurons)), neurons, strict=True):
        exc, inh, whole = pb.View(name)[: 4 * N // 5], pb.View(name)[4 * N // 5 :], pb.View(name)
        rules = [pb.connect.fixed_prob(0.3, w, key=k) for w in (0.4, -0.4)]
        pre = pb.AtPre(pb.Exponential(8.0)) if name == "lif" else pb.Exponential(8.0)
        projections += [
            pb.Projection(exc, name, rules[0], pb.Exponential(5.0), pb.Current(), delay=0.5),
            pb.Projection(inh, name, rules[1], pb.Exponential(8.0), pb.Current(), delay=1.5),
            pb.Projection(whole, name, pb.connect.one_to_one(0.1), pre, pb.Current(), delay=0.5),
        ]
    net = pb.Network(neurons, projections)
    state = net.init(dt=0.5, key=k_init)
    weights = lambda net: [path.inputs[0].comm.weight for path in net.pathways]  # noqa: E731
    drives = dict.fromkeys(neurons, 18.0)

    def loss(w):
        made = eqx.tree_at(weights, net, w)
        run = pb.simulate(made, state, drives, dt=0.5, duration=40.0, key=k_run)
        return sum(jnp.mean(s) for s in run.saved.values())

    return loss, weights(net), state


def test_the_gradient_of_a_network_is_the_same():
    spike = BOUNDED[0]
    loss, w, state = _loss(spike)
    whole, w_whole, plain = _loss(Everywhere(spike))
    assert all(ring.slots.sloped.all() for ring in state.history.values())  # at the start: any
    assert not any(hasattr(ring.slots, "sloped") for ring in plain.history.values())
    value, gradient = jax.jit(jax.value_and_grad(loss))(w)
    expected, expected_gradient = jax.jit(jax.value_and_grad(whole))(w_whole)
    assert value == expected
    assert all(abs(g) > 1e-6 for g in expected_gradient)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-10)


def test_the_gradient_in_the_history_at_the_start_is_whole():
    loss_of = []
    for spike in (BOUNDED[0], Everywhere(BOUNDED[0])):
        k_net, k_init = jr.split(jr.key(0))
        rule = pb.connect.fixed_prob(0.3, 0.2, key=k_net)
        loop = pb.Projection("N", "N", rule, pb.Exponential(5.0), pb.Current(), delay=1.0)
        net = pb.Network({"N": pb.LIF(30, spike=spike)}, [loop])
        state = net.init(dt=0.5, key=k_init)

        def loss(past, net=net, state=state):
            ring = state.history["N"]
            where = lambda ring: getattr(ring.slots, "values", ring.slots)  # noqa: E731
            start = eqx.tree_at(lambda s: s.history["N"], state, eqx.tree_at(where, ring, past))
            return pb.simulate(net, start, dt=0.5, duration=3.0).state.populations["N"].v.sum()

        loss_of.append(loss)
    past = jnp.zeros((2, 30))
    ours, whole = (jax.grad(loss)(past) for loss in loss_of)
    assert (np.abs(whole) > 1e-6).all()
    np.testing.assert_allclose(ours, whole, rtol=1e-10)


def test_a_vector_field_may_have_numbers_in_it():
    term = _ClockTerm(lambda t, y, args: (-y[0], 0.0), 0.1)
    (v, fixed), *_ = diffrax.Euler().step(term, 0.0, 0.1, (1.0, 2.0), None, None, False)
    assert (float(v), float(fixed)) == (pytest.approx(0.9), 2.0)

"""Connectivity operators against dense matrices that the operators had no part in making."""

import re
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from purebrain import ops
from tests.helpers_ops import DT, FORMS, FORMS_AND_WEIGHTS, N_SLOTS, without_type_checker

EXACT = dict(rtol=0, atol=0)
FLOAT64 = dict(rtol=1e-12, atol=1e-12)
FLOAT32 = dict(rtol=1e-5, atol=1e-5)
ids_of = [f"{form}-{'per_synapse' if w else 'scalar'}" for form, w in FORMS_AND_WEIGHTS]
each_form = pytest.mark.parametrize(("form", "per_synapse"), FORMS_AND_WEIGHTS, ids=ids_of)


def assert_close(got, want, tolerance, name=""):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a, b, **tolerance, err_msg=name)


def drawn(form, per_synapse, n_pre=6, n_post=5, dtype=float, whole=False, share=0.6, seed=1):
    """A case, and its (weight, s, y): whole numbers or normal ones; a share of s is not zero."""
    rng = np.random.default_rng(seed)
    case = FORMS[form](rng, n_pre, n_post)

    def values(shape):
        return rng.integers(-4, 5, shape) if whole else rng.normal(size=shape)

    s = values(case.n_pre) * (rng.random(case.n_pre) < share)
    args = values(case.shape if per_synapse else ()), s, values(case.n_post)
    return case, tuple(jnp.asarray(a, dtype) for a in args)


# ---- values --------------------------------------------------------------------------------------

sizes = st.sampled_from([0, 1, 2, 5, 31, 32, 33, 50])


@pytest.mark.parametrize("form", [form for form in FORMS if form != "delayed_csr"])
@settings(max_examples=15)
@given(sizes, sizes, st.sampled_from([0.0, 0.2, 1.0]), st.booleans(), st.booleans(), st.integers(0))
@example(0, 0, 1.0, True, False, 0)
@example(0, 3, 1.0, True, True, 0)
@example(3, 0, 1.0, False, True, 0)
@example(50, 33, 0.2, True, True, 0)
def test_values(form, n_pre, n_post, share, per_synapse, whole, seed):
    per_synapse = (form, per_synapse) in FORMS_AND_WEIGHTS and per_synapse or form == "dense"
    case, (weight, s, y) = drawn(
        form, per_synapse, n_pre, n_post, whole=whole, share=share, seed=seed
    )
    n_pre, spikes = case.n_pre, np.asarray(s != 0)
    among_others = np.concatenate([~spikes[:3], spikes, ~spikes[:2]])
    op, start = case.make(weight), len(spikes[:3])

    @jax.jit
    def run(op, s, y, spikes, among_others):
        view = ops.pack(among_others)[start : start + n_pre]
        return {
            "mv": op.mv(s),
            "mv_add": op.mv_add(y, s),
            "mv_t": op.mv_t(y),
            "mm": op.mm(jnp.stack([s, -2 * s, 0 * s])),
            "mm_t": op.mm_t(jnp.stack([y, 3 * y])),
            "mm of packed": op.mm(ops.pack(jnp.stack([spikes, ~spikes]))),
            "as_matrix": op.as_matrix(),
            "booleans": op.mv(spikes),
            "packed": op.mv(ops.pack(spikes)),
            "view of packed": op.mv_add(y, view),
            "floats": op.mv(spikes.astype(y.dtype)),
        }

    got = run(op, s, y, spikes, among_others)
    w, s, y, one = case.matrix(np.asarray(weight)), np.asarray(s), np.asarray(y), spikes * 1.0
    want = {
        "mv": s @ w,
        "mv_add": y + s @ w,
        "mv_t": w @ y,
        "mm": np.stack([s, -2 * s, 0 * s]) @ w,
        "mm_t": np.stack([y, 3 * y]) @ w.T,
        "mm of packed": np.stack([one, 1 - one]) @ w,
        "as_matrix": w,
        "booleans": one @ w,
        "packed": one @ w,
        "view of packed": y + one @ w,
        "floats": one @ w,
    }
    for name in want:
        assert_close(got[name], want[name], EXACT if whole else FLOAT64, name)
    pre, post, weights = op.as_coo()
    found = np.zeros((n_pre, case.n_post))
    np.add.at(found, (pre, post), weights)
    assert_close(found, w, EXACT if whole else FLOAT64, "as_coo")
    assert op.shape == w.shape and op.mv(s).dtype == op.weight.dtype


@settings(max_examples=15)
@given(sizes, sizes, st.booleans(), st.booleans(), st.integers(0))
@example(0, 0, True, True, 0)
@example(3, 0, True, True, 0)
@example(0, 3, True, True, 0)
def test_delayed_spikes_arrive_after_their_delays(n_pre, n_post, per_synapse, packed, seed):
    n_steps = 3 * N_SLOTS
    case, (weight, _, _) = drawn("csr_unequal", per_synapse, n_pre, n_post, whole=True, seed=seed)
    rng = np.random.default_rng(seed)
    age = rng.integers(1, N_SLOTS + 1, case.pre.size)
    spikes = rng.random((n_steps, n_pre)) < 0.4
    op = ops.DelayedCSR(case.make(weight), age * DT)

    @jax.jit
    def run(op, spikes):
        def step(ring, i_and_s):
            i, s = i_and_s
            due, ring = op.due(ring, i)
            return op.send(ring, ops.pack(s) if packed else s.astype(float), i, DT), due

        ring = op.ring(N_SLOTS, op.weight.dtype)
        return lax.scan(step, ring, (jnp.arange(n_steps, dtype=jnp.int32), spikes))[1]

    want = np.zeros((n_steps + N_SLOTS, n_post))
    for step, (k, one_age) in product(range(n_steps), enumerate(age)):
        if spikes[step, case.pre[k]]:
            want[step + one_age, case.post[k]] += np.broadcast_to(weight, age.shape)[k]
    assert_close(run(op, spikes), want[:n_steps], EXACT)


@pytest.mark.parametrize("form", ["dense", "fixed_outdegree", "csr", "csr_unequal", "delayed_csr"])
@pytest.mark.parametrize("share", [0.01, 0.9])
def test_many_words_of_spikes(form, share):
    case, (weight, s, y) = drawn(form, True, 2500, 40, whole=True, share=share)
    want = case.dense(np.asarray(weight), np.asarray(s != 0) * 1.0, np.asarray(y))
    assert_close(jax.jit(case.event)(weight, ops.pack(s != 0), y), want, EXACT)
    want = case.dense(np.asarray(weight), np.asarray(s), np.asarray(y))
    assert_close(jax.jit(case.event)(weight, s, y), want, EXACT)


@pytest.mark.parametrize("form", ["fixed_outdegree", "csr", "csr_unequal", "delayed_csr"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_its_targets_only(form, value):
    case, (weight, s, y) = drawn(form, True, share=0.0)
    got = case.event(weight, s.at[2].set(value), y)
    reached = np.isin(np.arange(case.n_post), case.post[case.pre == 2])
    np.testing.assert_array_equal(np.isfinite(got), ~reached)


def test_rows_are_visited_whole_or_in_slices():
    one_slice = [FORMS[form](np.random.default_rng(1), 6, 5).make(1.0).one_slice for form in CSRS]
    assert one_slice == [True, False]  # or the tests of the two are one


CSRS = ["csr", "csr_unequal"]


@pytest.mark.parametrize("form", ["dense", "fixed_outdegree", "csr_unequal", "delayed_csr"])
def test_without_jit(form):
    case, args = drawn(form, True)

    def run():
        return jax.value_and_grad(lambda *a: jnp.sum(case.event(*a) ** 2), (0, 1, 2))(*args)

    want = jax.jit(run)()
    assert_close(run(), want, FLOAT64)
    with jax.disable_jit():
        assert_close(run(), want, FLOAT64)


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_batch(form):
    case, (weight, s, y) = drawn(form, form == "dense")
    f = jax.vmap(jax.grad(lambda w, s, y: jnp.sum(case.event(w, s, y)), (0, 1)), (None, 0, None))
    d_weight, d_s = f(weight, jnp.zeros((0, *s.shape)), y)
    assert d_weight.shape == (0, *weight.shape) and d_s.shape == (0, *s.shape)


# ---- transforms ----------------------------------------------------------------------------------


def all_of(args):
    return tuple(range(len(args)))


def tangents(args):
    return tuple(jnp.cos(a + 0.5) for a in args)


def loss(f):
    return lambda *args: jnp.sum(jnp.sin(f(*args)))


def rows(a):
    return jnp.stack([a, 1 - a, jnp.sin(a)])


def vjp(f, *args):
    out, pull = jax.vjp(f, *args)
    return pull(jnp.cos(out))


def through_scan(f, *args):
    def run(*args):
        def step(y, t):
            y = 0.9 * y + 0.1 * f(*(jax.nn.sigmoid(a * t) for a in args[:-1]), y)
            return y, jnp.sum(y)

        return lax.scan(step, args[-1], jnp.arange(4.0).astype(args[-1].dtype))

    return jax.grad(lambda *a: sum(map(jnp.sum, run(*a))), all_of(args))(*args)


def second_order(outer, inner):
    return lambda f, *args: outer(inner(loss(f), all_of(args)), all_of(args))(*args)


# Each takes f, linear in each of its arguments, the last of which is added to the result.
TRANSFORMS = {
    "value": lambda f, *a: f(*a),
    "jvp": lambda f, *a: jax.jvp(f, a, tangents(a)),
    "jvp in one": lambda f, *a: [jax.jvp(lambda x: f(x, *a[1:]), a[:1], tangents(a[:1]))],
    "vjp": vjp,
    "grad": lambda f, *a: jax.grad(loss(f), all_of(a))(*a),
    "forward over reverse": second_order(jax.jacfwd, jax.grad),
    "reverse over reverse": second_order(jax.jacrev, jax.grad),
    "forward over forward": second_order(jax.jacfwd, jax.jacfwd),
    "reverse over forward": second_order(jax.jacrev, jax.jacfwd),
    "scan": through_scan,
    "checkpoint": lambda f, *a: jax.grad(jax.checkpoint(loss(f)), all_of(a))(*a),
    "linearize": lambda f, *a: jax.linearize(f, *a)[1](*tangents(a)),
    "linear_transpose": lambda f, *a: [
        jax.linear_transpose(lambda x: f(*a[:k], x, *a[k + 1 : -1], 0 * a[-1]), a[k])(a[-1])
        for k in range(len(a) - 1)
    ],
}


def batched(f, in_axes):
    return lambda *a: jax.vmap(f, in_axes)(
        *(x if axis is None else rows(x) for x, axis in zip(a, in_axes, strict=True))
    )


OVER_WEIGHTS, OVER_SPIKES, OVER_BOTH, OVER_Y = (0, None, None), (None, 0, None), (0, 0, None), (None, None, 0)
# Each takes f(weight, s, y).
BATCHED = {
    **{f"vmap {axes}": lambda f, *a, axes=axes: batched(f, axes)(*a)
       for axes in (OVER_WEIGHTS, OVER_SPIKES, OVER_BOTH, OVER_Y)},
    "nested vmap": lambda f, *a: batched(batched(f, OVER_SPIKES), OVER_WEIGHTS)(*a),
    "nested vmap over both": lambda f, *a: batched(batched(f, OVER_BOTH), OVER_SPIKES)(*a),
    "vmap of grad": lambda f, *a: batched(jax.grad(loss(f), (0, 1, 2)), OVER_BOTH)(*a),
    "vmap of hessian": lambda f, *a: batched(jax.hessian(loss(f), (0, 1)), OVER_SPIKES)(*a),
    "grad of vmap over spikes": lambda f, *a: jax.grad(loss(batched(f, OVER_SPIKES)), (0, 1, 2))(*a),
    "grad of vmap over weights": lambda f, *a: jax.grad(loss(batched(f, OVER_WEIGHTS)), (0, 1))(*a),
    "jvp of vmap": lambda f, *a: jax.jvp(batched(f, OVER_BOTH), a, tangents(a)),
}


def assert_transforms(transforms, event, dense, args, tolerance):
    def all_transforms(f):
        return jax.jit(lambda *a: {name: t(f, *a) for name, t in transforms.items()})(*args)

    got, want = all_transforms(event), all_transforms(dense)
    for name in transforms:
        assert_close(got[name], want[name], tolerance, name)


@each_form
def test_transforms(form, per_synapse):
    case, args = drawn(form, per_synapse)
    assert_transforms(TRANSFORMS | BATCHED, case.event, case.dense, args, FLOAT64)


@pytest.mark.parametrize("form", ["dense", "fixed_outdegree", "csr_unequal", "delayed_csr"])
def test_transforms_in_float32(form):
    case, args = drawn(form, True, dtype=jnp.float32)
    some = {k: TRANSFORMS[k] for k in ("value", "jvp", "grad", "forward over reverse", "scan")}
    assert_transforms(some, case.event, case.dense, args, FLOAT32)


@each_form
def test_transforms_of_packed_spikes(form, per_synapse):
    case, (weight, s, y) = drawn(form, per_synapse)
    spikes = s != 0
    view = ops.pack(jnp.concatenate([~spikes, spikes]))[case.n_pre :]

    def event(weight, y):
        return case.event(weight, view, y)

    def dense(weight, y):
        return case.dense(weight, spikes.astype(y.dtype), y)

    assert_transforms(TRANSFORMS, event, dense, (weight, y), FLOAT64)


@pytest.mark.parametrize("form", ["fixed_outdegree", "csr", "csr_unequal", "delayed_csr"])
def test_batches_of_packed_spikes(form):
    case, (weight, s, y) = drawn(form, True)
    spikes = jnp.stack([s != 0, s == 0, s > 0])

    def over(f):
        def all_of_them(weight, spikes, y):
            return jax.grad(loss(jax.vmap(f, (None, 0, None))), (0, 2), allow_int=True)(
                weight, spikes, y
            )
        return all_of_them

    got = over(case.event)(weight, ops.pack(spikes), y)
    assert_close(got, over(case.dense)(weight, spikes.astype(float), y), FLOAT64)


@pytest.mark.parametrize("form", ["dense", "fixed_outdegree", "csr_unequal", "delayed_csr"])
def test_finite_differences(form):
    case, args = drawn(form, True, 4, 3)
    check_grads(jax.jit(case.event), args, order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


def test_batches_of_connectivities():
    rng = np.random.default_rng(0)
    cases = [FORMS["fixed_outdegree"](np.random.default_rng(5), 6, 5) for _ in range(1)]
    n_pre, n_post, k = 6, 5, 3
    ids = rng.integers(0, n_post, (4, n_pre, k))
    degrees = rng.multinomial(n_pre * k, np.full(n_pre, 1 / n_pre), 4)
    indptr = np.concatenate([np.zeros((4, 1), int), degrees.cumsum(1)], 1)
    weight, s = jnp.asarray(rng.normal(size=n_pre * k)), jnp.asarray(rng.normal(size=n_pre))
    del cases

    def fixed(ids, _, weight, s):
        return ops.FixedOutdegree(weight.reshape(n_pre, k), ids, n_post).mv(s)

    def csr(ids, indptr, weight, s):
        return ops.CSR(weight, indptr, ids.reshape(-1), n_post).mv(s)

    for f, pre in (
        (fixed, np.tile(np.repeat(np.arange(n_pre), k), (4, 1))),
        (csr, np.stack([np.repeat(np.arange(n_pre), d) for d in degrees])),
    ):
        one_hot = np.eye(n_pre)[pre][..., None] * np.eye(n_post)[ids.reshape(4, -1)][:, :, None]

        def all_of_them(weight, s, f=f):
            return jax.vmap(f, (0, 0, None, None))(ids, indptr, weight, s)

        def dense(weight, s, one_hot=one_hot):
            return jnp.einsum("bkij,k,i->bj", one_hot, weight, s)

        for g, h in ((all_of_them, dense), (jax.grad(loss(all_of_them), (0, 1)), jax.grad(loss(dense), (0, 1)))):
            assert_close(jax.jit(g)(weight, s), h(weight, s), FLOAT64)


def test_operators_stack_as_pytrees():
    made = [drawn("fixed_outdegree", True, seed=1)[0].make(w) for w in (jnp.ones((6, 2)), )]
    del made


# ---- the mechanism -------------------------------------------------------------------------------


def compiled(f, *args):
    return jax.jit(f).lower(*args).compile().as_text()


def large(text, size):
    """Instructions that compute `size` elements or more (not views of the arguments)."""
    free = {"parameter", "get-tuple-element", "bitcast"}
    found = re.findall(r"= \w+\[([\d,]*)\]\S* ([\w-]+)\(", text)
    return [
        (shape, name)
        for shape, name in found
        if name not in free and np.prod([int(n) for n in shape.split(",") if n]) >= size
    ]


@pytest.mark.parametrize("form", ["fixed_outdegree", "csr", "csr_unequal"])
@pytest.mark.parametrize("per_synapse", [False, True])
def test_only_the_rows_of_spikes_are_read(form, per_synapse):
    case, (weight, s, y) = drawn(form, per_synapse, 1500, 300)
    assert case.pre.size > 600

    def mv(weight, s):
        return case.event(weight, s, y)

    for spikes in (ops.pack(s != 0), s):
        assert not large(compiled(mv, weight, spikes), case.pre.size)

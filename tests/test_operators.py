"""Connectivity operators against dense matrices that the operators had no part in making."""

import re
from functools import partial
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
from tests.helpers_ops import (
    DT,
    FORMS,
    FORMS_AND_WEIGHTS,
    N_SLOTS,
    RANDOM,
    without_type_checker,
)

EXACT = dict(rtol=0, atol=0)
FLOAT64 = dict(rtol=1e-12, atol=1e-12)
FLOAT32 = dict(rtol=1e-5, atol=1e-5)
UNOPTIMIZED = {"xla_backend_optimization_level": 0}  # halves the time to compile
SPARSE = ["fixed_outdegree", "csr", "csr_unequal", "delayed_csr"]
PURE_JAX = [f"{form}_pure_jax" for form in SPARSE]
ids_of = [f"{form}-{'per_synapse' if w else 'scalar'}" for form, w in FORMS_AND_WEIGHTS]
each_form = pytest.mark.parametrize(("form", "per_synapse"), FORMS_AND_WEIGHTS, ids=ids_of)
# One weight takes the paths of XLA's kernels that one a synapse takes, but for a factor.
SLOW = [
    form.endswith("_pure_jax") and not w and (form, True) in FORMS_AND_WEIGHTS
    for form, w in FORMS_AND_WEIGHTS
]
each_form_of_transforms = pytest.mark.parametrize(
    ("form", "per_synapse"),
    [
        pytest.param(*form, marks=pytest.mark.slow) if slow else form
        for form, slow in zip(FORMS_AND_WEIGHTS, SLOW, strict=True)
    ],
    ids=ids_of,
)


def assert_close(got, want, tolerance, name=""):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a, b, **tolerance, err_msg=name)


def drawn(form, per_synapse, n_pre=6, n_post=5, dtype=float, whole=False, share=0.6, seed=1):
    """A case, and its (weight, s, y): whole numbers or normal ones; a share of s is not zero."""
    rng = np.random.default_rng(seed)
    case = (FORMS | RANDOM)[form](rng, n_pre, n_post)
    shapes = case.shape if per_synapse else (), case.n_pre, case.n_post
    weight, s, y = (rng.integers(-4, 5, n) if whole else rng.normal(size=n) for n in shapes)
    s = s * (rng.random(case.n_pre) < share)
    return case, tuple(jnp.asarray(a, dtype) for a in (weight, s, y))


# ---- values --------------------------------------------------------------------------------------

sizes = st.sampled_from([0, 1, 2, 5, 31, 32, 33, 50])


@pytest.mark.parametrize("form", [form for form in FORMS if "delayed_csr" not in form])
@settings(max_examples=10)
@given(sizes, sizes, st.sampled_from([0.0, 0.2, 1.0]), st.booleans(), st.booleans(), st.integers(0))
@example(0, 0, 1.0, True, False, 0)
@example(0, 3, 1.0, True, True, 0)
@example(3, 0, 1.0, False, True, 0)
@example(50, 33, 0.2, True, True, 0)
def test_values(form, n_pre, n_post, share, per_synapse, whole, seed):
    per_synapse = form == "dense" or (per_synapse and (form, True) in FORMS_AND_WEIGHTS)
    case, (weight, s, y) = drawn(
        form, per_synapse, n_pre, n_post, whole=whole, share=share, seed=seed
    )
    op, spikes = case.make(weight), s != 0

    @partial(jax.jit, compiler_options=UNOPTIMIZED)
    def run(op, s, y, spikes):
        among_others = ops.pack(jnp.concatenate([~spikes[:3], spikes, ~spikes[:2]]))
        start = min(3, s.size)
        return {
            "mv of booleans": op.mv(spikes),
            "mv_add of floats": op.mv_add(y, s),
            "mv_add of a view": op.mv_add(y, among_others[start : start + s.size]),
            "mv_t": op.mv_t(y),
            "mm of floats": op.mm(jnp.stack([s, spikes.astype(y.dtype), 0 * s])),
            "mm of packed": op.mm(ops.pack(jnp.stack([spikes, ~spikes]))),
            "mm_t": op.mm_t(jnp.stack([y, 3 * y])),
            "as_matrix": op.as_matrix(),
        }

    got = run(op, s, y, spikes)
    weight, s, y, ones = (np.asarray(a, float) for a in (weight, s, y, spikes))
    w = case.matrix(weight)
    want = {
        "mv of booleans": ones @ w,
        "mv_add of floats": y + s @ w,
        "mv_add of a view": y + ones @ w,
        "mv_t": w @ y,
        "mm of floats": np.stack([s, ones, 0 * s]) @ w,
        "mm of packed": np.stack([ones, 1 - ones]) @ w,
        "mm_t": np.stack([y, 3 * y]) @ w.T,
        "as_matrix": w,
    }
    for name in want:
        assert_close(got[name], want[name], EXACT if whole else FLOAT64, name)
    pre, post, weights = op.as_coo()
    found = np.zeros(op.shape)
    np.add.at(found, (pre, post), weights)
    assert_close(found, w, EXACT if whole else FLOAT64, "as_coo")
    assert op.shape == w.shape and got["mm of packed"].dtype == op.weight.dtype


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


@pytest.mark.parametrize("form", ["dense", *SPARSE, *PURE_JAX])
@pytest.mark.parametrize("share", [0.01, 0.9])
def test_many_words_of_spikes(form, share):
    case, (weight, s, y) = drawn(form, True, 2500, 7, whole=True, share=share)
    want = case.dense(np.asarray(weight), np.asarray(s != 0) * 1.0, np.asarray(y))
    assert_close(jax.jit(case.event)(weight, ops.pack(s != 0), y), want, EXACT)
    want = case.dense(np.asarray(weight), np.asarray(s), np.asarray(y))
    assert_close(jax.jit(case.event)(weight, s, y), want, EXACT)


@pytest.fixture
def in_groups(monkeypatch):
    """Rows are added several at once of few neurons too."""
    monkeypatch.setattr("purebrain.ops.cpu._rows.MANY", 0)


@pytest.mark.parametrize("form", [*PURE_JAX, "fixed_indegree_pure_jax"])
def test_groups_of_rows_of_which_the_last_is_not_full(form, in_groups):
    n_pre = 150
    case, (weight, s, y) = drawn(form, True, n_pre, 7, whole=True, share=1.0)
    s, order = jnp.where(s == 0, 5, s), np.random.default_rng(0).permutation(n_pre)
    event = jax.jit(case.event, compiler_options=UNOPTIMIZED)
    for n_events in (0, 1, 15, 16, 17, 63, 64, 65, 129, n_pre):
        some = jnp.where(order < n_events, s, 0)
        want = case.dense(np.asarray(weight), np.asarray(some), np.asarray(y))
        assert_close(event(weight, some, y), want, EXACT, f"{n_events} events")
    two = jnp.stack([some, jnp.roll(s, 1)])
    got = jax.jit(jax.vmap(case.event, (None, 0, None)), compiler_options=UNOPTIMIZED)
    want = np.stack([case.dense(*map(np.asarray, (weight, row, y))) for row in two])
    assert_close(got(weight, two, y), want, EXACT, "a batch")


@pytest.mark.parametrize("form", PURE_JAX[:3])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_of_other_rows_than_those_of_events_do_nothing(form, value, in_groups):
    case, (weight, s, y) = drawn(form, True, 70, 7, whole=True)
    s = s.at[0].set(0)  # the first row stands in for the events that the last group lacks
    silent = np.asarray(s == 0)[case.pre].reshape(weight.shape)
    event = jax.jit(case.event, compiler_options=UNOPTIMIZED)
    assert silent.any() and np.isfinite(event(weight, s, y)).all()
    assert_close(event(jnp.where(silent, value, weight), s, y), event(weight, s, y), EXACT)


@pytest.mark.parametrize("form", [*SPARSE, *PURE_JAX])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_its_targets_only(form, value):
    case, (weight, s, y) = drawn(form, True, share=0.0)
    got = case.event(weight, s.at[2].set(value), y)
    reached = np.isin(np.arange(case.n_post), case.post[case.pre == 2])
    np.testing.assert_array_equal(np.isfinite(got), ~reached)


def test_both_ways_to_visit_a_row_are_tested():
    whole, sliced = (drawn(form, False)[0].make(1.0) for form in ("csr", "csr_unequal"))
    assert whole.one_slice and not sliced.one_slice


def test_rows_are_whole_unless_one_is_much_longer():
    for degrees, whole in (([20, 1, 0], True), ([120] * 9 + [190], True), ([400, 1, 1], False)):
        indptr = np.append(0, np.cumsum(degrees))
        op = ops.CSR(1.0, indptr, np.zeros(indptr[-1], np.int32), 1)
        assert op.one_slice == whole and (op.width == max(degrees)) == whole


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

ALL = (0, 1, 2)
OVER_WEIGHTS, OVER_SPIKES, OVER_BOTH = (0, None, None), (None, 0, None), (0, 0, None)


def loss(f):
    return lambda *args: jnp.sum(jnp.sin(f(*args)))


def batched(f, axes):
    """f for three values of each argument that has an axis."""

    def call(*args):
        args = [
            a if axis is None else jnp.stack([a, 1 - a, jnp.sin(a)])
            for a, axis in zip(args, axes, strict=True)
        ]
        return jax.vmap(f, axes)(*args)

    return call


def jvp(f):
    return lambda *args: jax.jvp(f, args, tuple(jnp.cos(a + 0.5) for a in args))


def scan(f):
    def run(w, s, y):
        def step(y, t):
            y = 0.9 * y + 0.1 * f(jnp.sin(w * t), jax.nn.sigmoid(s * t), y)
            return y, jnp.sum(y)

        y, sums = lax.scan(step, y, jnp.arange(4.0).astype(y.dtype))
        return jnp.sum(y) + jnp.sum(sums**2)

    return jax.grad(run, ALL)


# Each makes of f(weight, s, y) another function of the same.
TRANSFORMS = {
    "value": lambda f: f,
    "jvp": jvp,
    "vjp": lambda f: lambda *a: jax.vjp(f, *a)[1](jnp.cos(a[2])),
    "grad": lambda f: jax.grad(loss(f), ALL),
    "forward over reverse": lambda f: jax.hessian(loss(f), ALL),
    "reverse over reverse": lambda f: jax.jacrev(jax.grad(loss(f), ALL), ALL),
    "scan": scan,
    "checkpoint": lambda f: jax.grad(jax.checkpoint(loss(f)), ALL),
    "linearize": lambda f: lambda *a: jax.linearize(f, *a)[1](*map(jnp.cos, a)),
    "transpose in w": lambda f: lambda w, s, y: jax.linear_transpose(lambda w: f(w, s, y), w)(y),
    "transpose in s": lambda f: lambda w, s, y: jax.linear_transpose(lambda s: f(w, s, y), s)(y),
    "vmap over weights": lambda f: batched(f, OVER_WEIGHTS),
    "vmap over spikes": lambda f: batched(f, OVER_SPIKES),
    "vmap over both": lambda f: batched(f, OVER_BOTH),
    "vmap over y": lambda f: batched(f, (None, None, 0)),
    "nested vmap": lambda f: batched(batched(f, OVER_SPIKES), OVER_WEIGHTS),
    "nested vmap over both": lambda f: batched(batched(f, OVER_BOTH), OVER_SPIKES),
    "vmap of grad": lambda f: batched(jax.grad(loss(f), ALL), OVER_BOTH),
    "grad of vmap over weights": lambda f: jax.grad(loss(batched(f, OVER_WEIGHTS)), ALL),
    "grad of vmap over spikes": lambda f: jax.grad(loss(batched(f, OVER_SPIKES)), ALL),
    "jvp of vmap": lambda f: jvp(batched(f, OVER_BOTH)),
}
SOME = {k: TRANSFORMS[k] for k in ("value", "jvp", "grad", "forward over reverse", "scan")}
OF_RANDOM = ("jvp", "forward over reverse", "transpose in w", "transpose in s")
OF_RANDOM += ("nested vmap over both", "vmap of grad")


def assert_transforms(transforms, event, dense, args, tolerance=FLOAT64):
    def all_of(f):
        together = lambda *a: {name: t(f)(*a) for name, t in transforms.items()}  # noqa: E731
        return jax.jit(together, compiler_options=UNOPTIMIZED)(*args)

    got, want = all_of(event), all_of(dense)
    for name in transforms:
        assert_close(got[name], want[name], tolerance, name)


@each_form_of_transforms
def test_transforms(form, per_synapse):
    case, args = drawn(form, per_synapse)
    assert_transforms(TRANSFORMS, case.event, case.dense, args)


@pytest.mark.parametrize(
    ("form", "transposed"),
    [
        *((form, True) for form in RANDOM),
        *((form, False) for form in RANDOM if form not in FORMS),
        *(
            pytest.param(form, True, marks=pytest.mark.slow)
            for form in FORMS
            if form not in RANDOM and not form.startswith("delayed")
        ),
    ],
)
def test_transforms_both_ways(form, transposed):
    case, (weight, s, y) = drawn(form, True)
    transforms = {name: TRANSFORMS[name] for name in OF_RANDOM}
    if not transposed:
        assert_transforms(transforms, case.event, case.dense, (weight, s, y))
        return

    def event(weight, x, y):
        return y + case.make(weight).mv_t(x)

    def dense(weight, x, y):
        return y + case.matrix(weight) @ x

    assert_transforms(transforms, event, dense, (weight, y, s))


@pytest.mark.parametrize("form", ["dense", *SPARSE])
def test_transforms_in_float32(form):
    case, args = drawn(form, True, dtype=jnp.float32)
    assert_transforms(SOME, case.event, case.dense, args, FLOAT32)


@each_form_of_transforms
def test_transforms_with_packed_spikes(form, per_synapse):
    case, (weight, s, y) = drawn(form, per_synapse)
    spikes = s != 0
    view = ops.pack(jnp.concatenate([~spikes, spikes]))[case.n_pre :]
    rows = jnp.stack([spikes, ~spikes, s > 0])

    def event(weight, _, y):
        batch = jax.vmap(case.event, (None, 0, None))(weight, ops.pack(rows), y)
        return case.event(weight, view, y) + jnp.sum(batch**2, 0)

    def dense(weight, _, y):
        batch = [case.dense(weight, row.astype(float), y) for row in rows]
        return case.dense(weight, spikes.astype(float), y) + sum(b**2 for b in batch)

    assert_transforms(SOME, event, dense, (weight, s, y))


@pytest.mark.parametrize("form", ["fixed_outdegree", "csr_unequal"])
def test_finite_differences(form):
    case, args = drawn(form, True, 4, 3)
    check_grads(jax.jit(case.event), args, order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("form", ["fixed_outdegree", "csr", "csr_unequal"])
def test_batches_of_connectivities(form):
    case, args = drawn(form, True)
    n_pre, n_post = case.n_pre, case.n_post
    turned = case._replace(pre=n_pre - 1 - case.pre[::-1], post=case.post[::-1])

    def make(c):
        if form == "fixed_outdegree":
            return ops.FixedOutdegree(args[0], c.post.reshape(n_pre, -1), n_post)
        return ops.CSR(args[0], np.searchsorted(c.pre, np.arange(n_pre + 1)), c.post, n_post)

    stacked = jax.tree.map(lambda *a: jnp.stack(a), make(case), make(turned))

    def event(weight, s, y):
        def one(op):
            return eqx.tree_at(lambda op: op.weight, op, weight).mv_add(y, s)

        return jnp.sum(jax.vmap(one)(stacked), 0)

    def dense(*args):
        return case.dense(*args) + turned.dense(*args)

    assert_transforms(SOME, event, dense, args)


def test_connectivities_made_inside_vmap():
    ids, indptr = np.array([[0, 2, 2], [1, 0, 2]]), np.array([[0, 2, 3], [0, 1, 3]])
    s = jnp.array([2.0, 1.0])
    csr = jax.vmap(lambda p, i: ops.CSR(2.0, p, i, 3).mv(s))(indptr, ids)
    np.testing.assert_array_equal(csr, [[4, 0, 6], [2, 4, 2]])
    fixed = jax.vmap(lambda i: ops.FixedOutdegree(2.0, i[:2, None], 3).mv(s))(ids)
    np.testing.assert_array_equal(fixed, [[4, 0, 2], [2, 4, 0]])


# ---- the mechanism -------------------------------------------------------------------------------


def compiled(f, *args) -> str:
    return jax.jit(f).lower(*args).compile().as_text()


def large(text, size):
    """Instructions that compute at least `size` elements (naming an argument is none)."""
    found = re.findall(r"= \w+\[([\d,]+)\]\S* ([\w-]+)\(", text)
    return [
        (shape, name)
        for shape, name in found
        if name not in ("parameter", "get-tuple-element", "bitcast")
        and np.prod([int(n) for n in shape.split(",")]) >= size
    ]


def mv(op, s):
    return op.mv(s)


@pytest.mark.parametrize("per_synapse", [False, True])
@pytest.mark.parametrize("longest", [0, 10, 200])
def test_only_the_rows_of_spikes_are_read(longest, per_synapse):
    n_pre, n_post, k = 500, 300, 10
    ids = np.random.default_rng(0).integers(0, n_post, n_pre * k)
    weight = jnp.ones(ids.size) if per_synapse else 0.5
    if longest:
        indptr = np.linspace(longest, ids.size, n_pre).astype(int)
        op = ops.CSR(weight, np.append(0, indptr), ids, n_post)
        assert op.one_slice == (longest == 10)
    else:
        weight = jnp.reshape(weight, (n_pre, k) if per_synapse else ())
        op = ops.FixedOutdegree(weight, ids.reshape(n_pre, k), n_post)
    for spikes in (jnp.ones(n_pre), ops.pack(jnp.ones((4, n_pre), bool))):
        f = mv if spikes.shape == (n_pre,) else jax.vmap(mv, (None, 0))
        assert not large(compiled(f, op, spikes), ids.size)
    assert large(compiled(lambda op: op.as_matrix(), op), ids.size)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["dense", *SPARSE[:3], *PURE_JAX[:3]])
def test_a_batch_on_one_connectivity_is_one_walk(form, packed):
    case, (weight, s, _) = drawn(form, True, 40, 30)
    op = case.make(weight)
    walk = " custom-call(" if form in SPARSE else " while("

    def loops(f, *batch):
        spikes = jnp.broadcast_to(s, (*batch, s.size))
        return compiled(f, op, ops.pack(spikes != 0) if packed else spikes).count(walk)

    one = loops(mv)
    assert one == 1 if form in SPARSE else one >= 2
    over_rows = jax.vmap(mv, (None, 0))
    assert loops(over_rows, 8) == loops(jax.vmap(over_rows, (None, 0)), 2, 4) == one


# ---- what int32 cannot number --------------------------------------------------------------------


@pytest.mark.parametrize("form", SPARSE)
def test_a_batch_beyond_int32_is_refused(form):
    case, (weight, s, y) = drawn(form, True, 6, 1000)
    f = jax.vmap(case.event, (None, 0, None))

    def shape_of(n_rows):
        return jax.eval_shape(f, weight, jax.ShapeDtypeStruct((n_rows, 6), s.dtype), y).shape

    most = (2**31 - 1) // case.n_post
    assert shape_of(most) == (most, case.n_post)
    with pytest.raises(ValueError, match=rf"s: {most + 1} rows .* 2\*\*31 - 1.*lax.map"):
        shape_of(most + 1)


def test_synapses_beyond_int32_are_refused():
    def shape_of(n_synapses):
        def f(ids):
            return ops.CSR(1.0, np.array([0, n_synapses]), ids, 7).mv(jnp.ones(1))

        return jax.eval_shape(f, jax.ShapeDtypeStruct((n_synapses,), jnp.int32)).shape

    assert shape_of(2**31 - 1024) == (7,)
    with pytest.raises(ValueError, match=f"indices: {2**31 - 1023} synapses; at most"):
        shape_of(2**31 - 1023)


def test_fixed_outdegree_numbers_the_synapses_of_a_row_only():
    ids = jax.ShapeDtypeStruct((3, 10**9), jnp.int32)
    weight = jax.ShapeDtypeStruct((3, 10**9), jnp.float32)

    def both(weight, ids):
        op = ops.FixedOutdegree(weight, ids, 7)
        return op.mv(jnp.ones(3)), op.mv_t(jnp.ones(7))

    y, x = jax.eval_shape(both, weight, ids)
    assert y.shape == (7,) and x.shape == (3,)
    jax.jit(both).lower(weight, ids)


# ---- bad input -----------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
IDS = np.array([[0, 1], [1, 2]])
OP = {
    "Dense": ops.Dense(jnp.ones((2, 3))),
    "FixedOutdegree": ops.FixedOutdegree(0.5, IDS, 3),
    "CSR": ops.CSR(0.5, [0, 1, 3], [0, 1, 2], 3),
    "AllToAll": ops.AllToAll(0.5, 2, 3),
    "OneToOne": ops.OneToOne(0.5, 2),
    "FixedIndegree": ops.FixedIndegree(0.5, [[0], [1], [1]], 2),
    "JIT": ops.jit_homogeneous(0.5, 0.5, 2, 3, seed=1),
}
MANY = np.broadcast_to(np.int32(0), (3, 2**30))  # ids that take no memory


def csr(weight=1.0, indptr=(0, 1, 3), indices=(0, 1, 2), n_post=3):
    return ops.CSR(weight, np.array(indptr), np.array(indices), n_post)


def traced(indices, indptr=np.array([0, 1, 3])):
    return jax.eval_shape(lambda i, p: ops.CSR(1.0, p, i, 3).mv(jnp.ones(2)), indices, indptr)


def delayed(delay):
    return ops.DelayedCSR(csr(), np.array(delay))


def sent(n_places):
    op, ring = delayed([1.0, 2.0, 0.5]), jax.ShapeDtypeStruct((n_places,), float)
    return jax.eval_shape(lambda ring: op.send(ring, jnp.ones(2), jnp.int32(0), 0.5), ring)


def in_float32(call):
    with jax.enable_x64(False):
        return call()


BAD = [
    # ids
    (lambda: csr(indices=[0, -1, 2]), ValueError, r"indices: -1 at position 1.*\[0, 3\)"),
    (lambda: csr(indices=[0, 1, 3]), ValueError, r"indices: 3 at position 2.*\[0, 3\)"),
    (lambda: csr(indices=[0.0, 1.0, 2.0]), TypeError, "indices: dtype float64.*integers"),
    (lambda: csr(indices=[True, False, True]), TypeError, "indices: dtype bool.*integers"),
    (lambda: csr(indices=[[0], [1], [2]]), ValueError, r"indices: shape \(3, 1\)"),
    (lambda: ops.FixedOutdegree(1.0, IDS, 2), ValueError, r"indices: 2 at position 3.*\[0, 2\)"),
    (lambda: ops.FixedOutdegree(1.0, IDS - 1, 3), ValueError, "indices: -1 at position 0"),
    (lambda: ops.FixedOutdegree(1.0, IDS[0], 3), ValueError, r"indices: shape \(2,\)"),
    (
        lambda: ops.FixedOutdegree(1.0, [[0], [1, 2]], 3),
        TypeError,
        r"indices: \[\[0\], \[1, 2\]\]; .*",
    ),
    (lambda: ops.FixedIndegree(1.0, IDS, 2), ValueError, r"indices: 2 at position 3.*in \[0, 2\)"),
    (lambda: ops.FixedIndegree(1.0, IDS - 1, 3), ValueError, "indices: -1 at position 0.*"),
    (lambda: ops.FixedIndegree(1.0, IDS[0], 3), ValueError, r"indices: shape \(2,\).*n_post, K"),
    (lambda: ops.FixedIndegree(1.0, IDS * 1.0, 3), TypeError, "indices: dtype float64, but ids"),
    (lambda: ops.FixedIndegree(1.0, MANY, 3), ValueError, "indices: 3221225472 synapses; at most"),
    (
        lambda: jax.jit(lambda i: ops.FixedIndegree(1.0, i, 3))(IDS),
        TypeError,
        "indices: traced; .*outside jit",
    ),
    (lambda: csr(indices="abc"), TypeError, "indices: .*; it must be real numbers"),
    (lambda: traced(jnp.ones(3)), TypeError, "indices: dtype float64.*integers"),
    (lambda: traced(np.arange(3), jnp.arange(3.0)), ValueError, "indptr: .*float64.*integers"),
    # indptr
    (lambda: csr(indptr=[0, 2, 1, 3]), ValueError, "indptr: descends from 2 to 1 at position 2"),
    (lambda: csr(indptr=[1, 2, 3]), ValueError, "indptr: starts at 1 and ends at 3.*from 0"),
    (lambda: csr(indptr=[0, 1, 2]), ValueError, "indptr: starts at 0 and ends at 2.*synapses, 3"),
    (lambda: csr(indptr=[0.0, 1.0, 3.0]), ValueError, "indptr: .*float64.*integers"),
    (lambda: csr(indptr=[]), ValueError, r"indptr: shape \(0,\)"),
    (lambda: ops.CSR(1.0, None, [0, 1], 3), TypeError, "indptr: None; it must be real numbers"),
    # weights
    (lambda: csr(weight=jnp.ones(2)), ValueError, r"weight: shape \(2,\).*\(3,\)"),
    (lambda: csr(weight=NAN), ValueError, "weight: nan; it must be finite"),
    (lambda: csr(weight=jnp.array([1.0, INF, 1.0])), ValueError, "weight: inf at position 1"),
    (lambda: csr(weight=1j), TypeError, "weight: complex.*real"),
    (lambda: csr(weight="x"), TypeError, "weight: 'x'; it must be real numbers"),
    (lambda: csr(weight=None), TypeError, "weight: None; it must be real numbers"),
    (lambda: csr(weight=[1.0, [2.0]]), TypeError, r"weight: \[1.0, \[2.0\]\]; it must be real"),
    (lambda: csr(weight=jax.random.key(0)), TypeError, "weight: dtype key.*real numbers"),
    (lambda: ops.Dense("x"), TypeError, "weight: 'x'; it must be"),
    (lambda: ops.Dense([["x"]]), TypeError, r"weight: \[\['x'\]\]; it must be real"),
    (
        lambda: in_float32(lambda: ops.Dense([[1.0, 1e39]])),
        ValueError,
        r"weight: 1e\+39 at position 1; it must be finite, at most 3.403e\+38 in float32",
    ),
    (lambda: in_float32(lambda: csr(weight=-1e39)), ValueError, r"weight: -1e\+39; .* float32"),
    (lambda: ops.FixedIndegree(jnp.ones(2), IDS, 3), ValueError, r"weight: shape \(2,\).*\(2, 2\)"),
    (lambda: ops.FixedIndegree(INF, IDS, 3), ValueError, "weight: inf; it must"),
    (
        lambda: ops.jit_homogeneous("x", 0.1, 3, 3, seed=0),
        TypeError,
        "weight: 'x'; it must be real numbers, one",
    ),
    (lambda: ops.jit_normal("a", 1.0, 0.1, 3, 3, seed=0), TypeError, "mean: 'a'; it must be real"),
    (lambda: ops.jit_normal(0.0, None, 0.1, 3, 3, seed=0), TypeError, "sd: None; it must be real"),
    (lambda: ops.jit_uniform(0.0, 1j, 0.1, 3, 3, seed=0), TypeError, "high: complex.*high.real"),
    (lambda: ops.FixedOutdegree(jnp.ones(2), IDS, 3), ValueError, r"weight: shape \(2,\)"),
    (lambda: ops.FixedOutdegree(-INF, IDS, 3), ValueError, "weight: -inf"),
    (lambda: ops.OneToOne(jnp.ones(3), 2), ValueError, r"weight: shape \(3,\).*\(2,\)"),
    (lambda: ops.OneToOne(NAN, 2), ValueError, "weight: nan"),
    (lambda: ops.Dense(jnp.ones(3)), ValueError, r"weight: shape \(3,\).*\(n_pre, n_post\)"),
    (lambda: ops.Dense(jnp.full((2, 2), NAN)), ValueError, "weight: nan at position 0"),
    (lambda: ops.AllToAll(jnp.ones(2), 2, 2), ValueError, r"weight: shape \(2,\).*ops.Dense"),
    (lambda: ops.AllToAll(INF, 2, 2), ValueError, "weight: inf"),
    # sizes
    (lambda: ops.AllToAll(1.0, 2, 3, False), ValueError, "autapses: False.*2 and 3"),
    (lambda: ops.AllToAll(1.0, -1, 3), ValueError, "n_pre: -1"),
    (lambda: ops.AllToAll(1.0, 1, 2.5), ValueError, r"n_post: 2\.5"),
    (lambda: ops.OneToOne(1.0, True), ValueError, "n: True"),
    (lambda: csr(n_post=-3), ValueError, "n_post: -3"),
    (lambda: csr(n_post=2**31), ValueError, rf"n_post: {2**31}.*2\*\*31 - 1"),
    (lambda: ops.FixedOutdegree(1.0, IDS, "3"), ValueError, "n_post: '3'"),
    (lambda: ops.FixedIndegree(1.0, IDS, 2.5), ValueError, "n_pre: 2.5"),
    (lambda: ops.AllToAll(1.0, 2, 2, "no"), TypeError, "autapses: 'no'.*autapses=False"),
    # delays
    (lambda: delayed([1.0, 0.0, 2.0]), ValueError, "delay: 0.0 ms at position 1.*above 0"),
    (lambda: delayed([1.0, 1.0, -2.0]), ValueError, "delay: -2.0 ms at position 2"),
    (lambda: delayed([NAN, 1.0, 1.0]), ValueError, "delay: nan ms at position 0.*finite"),
    (lambda: delayed([INF, 1.0, 1.0]), ValueError, "delay: inf ms"),
    (lambda: delayed([1.0, 1.0]), ValueError, r"delay: shape \(2,\).*\(3,\)"),
    (lambda: delayed(1.0), ValueError, r"delay: shape \(\).*\(3,\)"),
    (lambda: jax.jit(lambda d: ops.DelayedCSR(csr(), d))(jnp.ones(3)), TypeError, "delay: traced"),
    (lambda: delayed(["a", "b", "c"]), TypeError, "delay: .*; it must be real numbers"),
    (lambda: ops.DelayedCSR(OP["JIT"], 1.0), TypeError, r"csr: JIT; .*ops.CSR, .*ops.CSR\(weight"),
    (
        lambda: delayed([1.0, 2.0, 0.5]).ring(2**30, float),
        ValueError,
        r"delay: 2.0 ms, for a ring of 1073741824 steps x 3 neurons = 3221225472 places; at most",
    ),
    (lambda: sent(3 * 10**9), ValueError, "delay: .* ring of 1000000000 steps x 3 neurons"),
    (
        lambda: delayed([1.0, 2.0, 0.5]).send(jnp.zeros(12, int), jnp.ones(2), jnp.int32(0), 0.5),
        TypeError,
        "ring: dtype int.*floats",
    ),
    # operands
    *(
        (partial(OP[form].mv_add, [1.0, 2.0, 3.0], jnp.ones(2)), TypeError, r"y: .*be an array")
        for form in ("Dense", "FixedOutdegree", "CSR", "AllToAll", "FixedIndegree", "JIT")
    ),
    (
        lambda: csr().mv_add(ops.pack(jnp.ones(3, bool)), jnp.ones(2)),
        TypeError,
        "y: Spikes; .*floats",
    ),
    (
        lambda: csr().mv_add_where([0.0] * 3, jnp.ones(2), jnp.ones(2, bool)),
        TypeError,
        r"y: .*be an array",
    ),
    (
        lambda: OP["Dense"].mv_add_where(jnp.ones(3), [1.0, 1.0], jnp.ones(2, bool)),
        TypeError,
        r"s: \[1.0, 1.0\]; it must be an array",
    ),
    (
        lambda: OP["Dense"].mv_add_where(jnp.ones(3), jnp.ones(2), [True, True]),
        TypeError,
        r"where: \[True, True\]; it must be an array",
    ),
    (lambda: ops.pack([True]), TypeError, r"spikes: \[True\]; pack takes an array of booleans"),
    (lambda: ops.pack(None), TypeError, "spikes: None; pack takes"),
    (lambda: ops.pack("a"), TypeError, "spikes: 'a'; pack takes"),
    (lambda: ops.pack(jnp.ones(2)), TypeError, r"spikes: dtype float64; .*pack\(spikes > 0\)"),
    (
        lambda: ops.pack(jnp.array(True)),
        ValueError,
        r"spikes: shape \(\); .*pack\(spikes\[None\]\)",
    ),
    # how kernels are launched
    (lambda: ops.tuned(csr(), "fast"), TypeError, r"tuning: 'fast'; .*Tuning\(native=False\)"),
    (lambda: ops.tuned(3, None), TypeError, "tree: 3; it must hold an operator or a network"),
    (lambda: ops.cpu.Tuning(native="no"), TypeError, "native: 'no'; .*native=False"),
    (lambda: ops.gpu.Tuning(lanes=2.0), ValueError, r"lanes: 2\.0; it must be 1, 2, 4"),
    (
        lambda: ops.gpu.Tuning(programs=1.5),
        ValueError,
        r"programs: 1\.5; .*whole number in \[1, 65536",
    ),
    (lambda: ops.gpu.Tuning(programs="1"), ValueError, "programs: '1'; it must be a whole number"),
    (lambda: ops.gpu.Tuning(chunk=None), ValueError, "chunk: None; it must be a whole number"),
    (
        lambda: ops.gpu.Tuning(deterministic="yes"),
        TypeError,
        "deterministic: 'yes'; it must be det",
    ),
    (lambda: ops.gpu.Tuning(interpret=1), TypeError, "interpret: 1; it must be interpret=True"),
    (lambda: ops.tpu.Tuning(in_flight=0), ValueError, r"in_flight: 0; .*in \[1, 32\]"),
    (lambda: ops.tpu.Tuning(in_flight=33), ValueError, "in_flight: 33"),
    (
        lambda: ops.tpu.Tuning(width=130),
        ValueError,
        r"width: 130; .*multiple of 128 in \[128, 4096\]",
    ),
    (lambda: ops.tpu.Tuning(width=0), ValueError, "width: 0"),
    (lambda: ops.tpu.Tuning(width=8192), ValueError, "width: 8192"),
    (lambda: ops.tpu.Tuning(private=-1), ValueError, "private: -1"),
    (lambda: ops.tpu.Tuning(private="4"), ValueError, "private: '4'; it must be a whole number"),
    (lambda: ops.tpu.Tuning(block=12), ValueError, "block: 12; it must be a multiple of 8"),
    (lambda: ops.tpu.Tuning(block=0), ValueError, "block: 0"),
    (lambda: ops.tpu.Tuning(block=4104), ValueError, "block: 4104"),
    (lambda: ops.tpu.Tuning(dense_share=1.5), ValueError, r"dense_share: 1\.5; .*\[0, 1\]"),
    (lambda: ops.tpu.Tuning(dense_share=-0.1), ValueError, r"dense_share: -0\.1"),
    (lambda: ops.tpu.Tuning(dense_share="1"), ValueError, "dense_share: '1'; it must be a number"),
    (lambda: ops.tpu.Tuning(interpret="no"), TypeError, "interpret: 'no'"),
]


@pytest.mark.parametrize(("call", "error", "match"), BAD, ids=[m for *_, m in BAD])
def test_bad_connectivity(call, error, match):
    with without_type_checker(), pytest.raises(error, match=match):
        call()


def test_a_ring_turns_beyond_int32():
    op = delayed([1.0, 2.0, 0.5])
    rings = [op.send(op.ring(4, float), jnp.ones(2), jnp.int64(i), 0.5) for i in (6, 2**33 + 6)]
    assert_close(*rings, EXACT)
    np.testing.assert_array_equal(op.due(rings[1], jnp.int64(2**33 + 8))[0], [1, 0, 0])


@pytest.mark.parametrize("delay", [0.2, 2.5])
def test_delays_that_the_ring_cannot_hold(delay):
    op = delayed([1.0, delay, 1.0])
    with pytest.raises(ValueError, match=rf"delay: {delay} ms is . steps of dt = 0.5.*1 to 4"):
        op.send(op.ring(4, float), jnp.ones(2), jnp.int32(0), 0.5)


@pytest.mark.parametrize("op", OP.values(), ids=OP)
def test_bad_operands(op):
    n_pre, n_post = op.shape
    y, s = jnp.ones(n_post), jnp.ones(n_pre, bool)
    rows = ops.pack(jnp.ones((4, n_pre), bool))
    with without_type_checker():
        for bad in (s[:1], jnp.ones(n_pre + 1), ops.pack(s)[:1], rows, jnp.ones((4, n_pre)), y[0]):
            with pytest.raises(ValueError, match=rf"s: shape \(.*n_pre = {n_pre}.*\({n_pre},\)"):
                op.mv(bad)
        for call, name in ((op.mv_t, "x"), (lambda y: op.mv_add(y, s), "y")):
            for bad in (y[:1], jnp.ones(n_post + 1), jnp.ones((4, n_post)), y[0]):
                with pytest.raises(ValueError, match=rf"{name}: shape \(.*n_post = {n_post}"):
                    call(bad)
        with pytest.raises(TypeError, match=r"y: dtype int32.*y.astype"):
            op.mv_add(jnp.ones(n_post, jnp.int32), s)
        for call, name, n in ((op.mv, "s", n_pre), (op.mv_t, "x", n_post)):
            for bad in ([1.0] * n, "a", None, 1.0):
                with pytest.raises(TypeError, match=rf"{name}: .*; it must be an array, .*jnp"):
                    call(bad)
            with pytest.raises(TypeError, match=rf"{name}: complex; .*{name}\.real"):
                call(jnp.ones(n, complex))
            with pytest.raises(TypeError, match=f"{name}: dtype <U1; it must be real"):
                call(np.full(n, "a"))
        for call, one, name, n in ((op.mm, "mv", "s", n_pre), (op.mm_t, "mv_t", "x", n_post)):
            for bad in (jnp.ones((4, n + 1)), jnp.ones(n), ops.pack(jnp.ones((4, 9), bool))):
                shape = re.escape(str(bad.shape))
                match = rf"{name}: shape {shape}; .*\(batch, {n}\).*op\.{one}\({name}\)"
                with pytest.raises(ValueError, match=match):
                    call(bad)
            with pytest.raises(TypeError, match=f"{name}: list; it must be an array"):
                call([[1.0] * n] * 4)

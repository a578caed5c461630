"""Connectivity rules: the laws they draw from, what they refuse, and what they cost."""

import itertools
import math
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.stats

from purebrain import connect, ops
from purebrain.connect._sampling import bernoulli

KEY = jax.random.key(0)
NAN = float("nan")


def matrix(op):
    return np.asarray(op.as_matrix())


def counts(op):
    """Synapses of each pair, whatever they weigh."""
    pre, post, _ = op.as_coo()
    found = np.zeros(op.shape, int)
    np.add.at(found, (pre, post), 1)
    return found


def normal(rng, size):
    return rng.normal(3.0, 0.5, size)


def assert_law(observed, expected):
    """Chi-square; classes expected less than 5 times are taken together."""
    observed, expected = np.asarray(observed, float), np.asarray(expected, float)
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] == 0:
        assert observed[-1] == 0
        observed, expected = observed[:-1], expected[:-1]
    assert math.isclose(observed.sum(), expected.sum())
    if observed.size > 1:
        assert scipy.stats.chisquare(observed, expected, sum_check=False).pvalue > 1e-3


def assert_uniform(samples, n_classes):
    observed = np.unique_counts(samples).counts
    assert len(observed) <= n_classes
    observed = np.append(observed, np.zeros(n_classes - len(observed)))
    assert_law(observed, np.full(n_classes, len(samples) / n_classes))


# The random rules, with about one synapse in five.
DRAWN = {
    "fixed_prob": lambda **kw: connect.fixed_prob(0.2, 0.6, **{"key": KEY, **kw}),
    "fixed_indegree": lambda **kw: connect.fixed_indegree(3, 0.6, **{"key": KEY, **kw}),
    "fixed_outdegree": lambda **kw: connect.fixed_outdegree(3, 0.6, **{"key": KEY, **kw}),
    "fixed_total_number": lambda **kw: connect.fixed_total_number(40, 0.6, **{"key": KEY, **kw}),
}
each_drawn = pytest.mark.parametrize("make", DRAWN.values(), ids=DRAWN)
each_counted = pytest.mark.parametrize("make", list(DRAWN.values())[1:], ids=list(DRAWN)[1:])


# ---- the law of fixed_prob -----------------------------------------------------------------------


@pytest.mark.parametrize("autapses", [True, False])
@pytest.mark.parametrize("p", [0.003, 0.05, 0.4])
def test_fixed_prob_degrees_are_binomial(p, autapses):
    n = 1500
    op = connect.fixed_prob(p, 1.0, key=KEY, autapses=autapses)(n, n)
    found = counts(op)
    assert found.max() == 1
    assert autapses or not np.diag(found).any()
    others = n - (not autapses)
    classes = np.arange(n + 1)
    for degrees in (found.sum(axis=0), found.sum(axis=1)):
        law = scipy.stats.binom.pmf(classes, others, p)
        assert_law(np.bincount(degrees, minlength=n + 1), n * law)
    pairs = n * others
    assert abs(found.sum() - pairs * p) < 4 * math.sqrt(pairs * p * (1 - p))
    if autapses:
        assert abs(np.diag(found).sum() - n * p) < 4 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("p", [0.07, 0.3, 0.5, 0.9])
def test_fixed_prob_pairs_are_independent(p):
    # Each row is one of 2^5 sets of targets: the whole joint law, not its margins.
    n_rows, n_post = 20_000, 5
    found = counts(connect.fixed_prob(p, 1.0, key=KEY)(n_rows, n_post))
    sets = found @ (1 << np.arange(n_post))
    degree = np.array([s.bit_count() for s in range(2**n_post)])
    assert_law(np.bincount(sets, minlength=2**n_post), n_rows * p**degree * (1 - p) ** (5 - degree))


def test_fixed_prob_rows_are_independent():
    # Gaps run on from one row into the next, and from one chunk into the next.
    found = counts(connect.fixed_prob(0.3, 1.0, key=KEY)(100_000, 5))
    last, first = found[:-1, -1], found[1:, 0]
    law = np.outer([0.7, 0.3], [0.7, 0.3]).ravel()
    assert_law(np.bincount(2 * last + first, minlength=4), len(last) * law)


@pytest.mark.parametrize("autapses", [True, False])
def test_fixed_prob_zero_and_one_are_exact(autapses):
    none, all_ = (connect.fixed_prob(p, 0.6, key=KEY, autapses=autapses)(300, 300) for p in (0, 1))
    assert none.indices.size == 0
    assert np.array_equal(counts(all_), np.ones((300, 300)) - (not autapses) * np.eye(300))


def test_bernoulli_over_more_trials_than_int64_sums_hold():
    n = 2**62 - 1
    rng = np.random.default_rng(0)
    assert sum(kept.size for kept in bernoulli(rng, 5e-324, n)) == 0
    for p in (1e-18, 1e-16):
        kept = [np.concatenate(list(bernoulli(rng, p, n))) for _ in range(50)]
        total = sum(k.size for k in kept)
        assert abs(total - 50 * n * p) < 4 * math.sqrt(50 * n * p)
        assert all(np.all(np.diff(k) > 0) and k[0] >= 0 and k[-1] < n for k in kept)
        assert scipy.stats.kstest(np.concatenate(kept) / n, "uniform").pvalue > 1e-3


# ---- the laws of the counted rules ---------------------------------------------------------------


@pytest.mark.parametrize("multapses", [True, False])
@pytest.mark.parametrize("autapses", [True, False])
@pytest.mark.parametrize("k", [0, 7, 20, 39])
def test_degrees_are_exact(k, autapses, multapses):
    options = {"key": KEY, "autapses": autapses, "multapses": multapses}
    outdegree = counts(connect.fixed_outdegree(k, 1.0, **options)(40, 40))
    indegree = counts(connect.fixed_indegree(k, 1.0, **options)(40, 40))
    total = counts(connect.fixed_total_number(40 * k, 1.0, **options)(40, 40))
    assert np.all(outdegree.sum(axis=1) == k)
    assert np.all(indegree.sum(axis=0) == k)
    assert total.sum() == 40 * k
    for found in (outdegree, indegree, total):
        assert np.diag(found).any() == (autapses and k > 0)
        assert (found.max() > 1) == (multapses and k > 0)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])  # of 5: drawn, and left out
@pytest.mark.parametrize("inward", [True, False])
def test_distinct_partners_are_a_uniform_set(k, inward):
    n_rows = 6000
    if inward:
        found = counts(connect.fixed_indegree(k, 1.0, key=KEY, multapses=False)(5, n_rows)).T
    else:
        found = counts(connect.fixed_outdegree(k, 1.0, key=KEY, multapses=False)(n_rows, 5))
    assert_uniform(found @ (1 << np.arange(5)), math.comb(5, k))


@pytest.mark.parametrize("inward", [True, False])
def test_partners_with_multapses_are_multinomial(inward):
    n_rows = 9000
    if inward:
        found = counts(connect.fixed_indegree(3, 1.0, key=KEY)(3, n_rows)).T
    else:
        found = counts(connect.fixed_outdegree(3, 1.0, key=KEY)(n_rows, 3))
    outcomes = [c for c in itertools.product(range(4), repeat=3) if sum(c) == 3]
    observed = [np.all(found == c, axis=1).sum() for c in outcomes]
    ways = np.array([6 / math.prod(map(math.factorial, c)) for c in outcomes])
    assert_law(observed, n_rows * ways / 27)


@pytest.mark.parametrize("multapses", [True, False])
@each_counted
def test_partners_without_autapses_are_uniform_over_the_others(make, multapses):
    rows = []
    for seed in range(400):
        rule = make(key=jax.random.key(seed), autapses=False, multapses=multapses)
        rows.append(counts(rule(8, 8)))
    assert not np.einsum("sii->s", rows).any()
    found = np.sum(rows, axis=0)[~np.eye(8, dtype=bool)]
    assert_law(found, np.full(56, found.sum() / 56))


def test_total_number_of_distinct_pairs_is_a_uniform_set():
    def pairs(seed):
        rule = connect.fixed_total_number(3, 1.0, key=jax.random.key(seed), multapses=False)
        return counts(rule(2, 3)).ravel() @ (1 << np.arange(6))

    assert_uniform([pairs(seed) for seed in range(2000)], math.comb(6, 3))


def test_total_number_of_distinct_pairs_up_to_all():
    for n in (0, 1, 11, 12):
        found = counts(connect.fixed_total_number(n, 1.0, key=KEY, multapses=False)(3, 4))
        assert found.sum() == n and found.max(initial=0) <= 1


# ---- keys, weights, order ------------------------------------------------------------------------


@each_drawn
def test_key_decides(make):
    first = counts(make()(20, 20))
    assert np.array_equal(first, counts(make()(20, 20)))
    assert np.array_equal(first, counts(make(key=jax.random.PRNGKey(0))(20, 20)))
    one_word = [jax.random.wrap_key_data(jnp.array(w, jnp.uint32)) for w in ([0, 1], [1, 0])]
    for other in (*one_word, jax.random.fold_in(KEY, 1), *jax.random.split(KEY)):
        assert not np.array_equal(first, counts(make(key=other)(20, 20)))


@pytest.mark.parametrize("name", ["fixed_prob", "fixed_indegree", "fixed_outdegree"])
def test_weights_are_drawn_one_a_synapse(name):
    amount = 0.1 if name == "fixed_prob" else 20
    op = getattr(connect, name)(amount, normal, key=KEY)(200, 200)
    plain = getattr(connect, name)(amount, 0.5, key=KEY)(200, 200)
    assert op.weight.shape == op.indices.shape and plain.weight.shape == ()
    assert np.array_equal(op.indices, plain.indices)
    assert np.allclose(matrix(plain), 0.5 * counts(plain), rtol=1e-15)
    drawn, indices = np.asarray(op.weight).ravel(), np.asarray(op.indices).ravel()
    assert np.unique(drawn).size == drawn.size
    assert scipy.stats.kstest((drawn - 3.0) / 0.5, "norm").pvalue > 1e-3
    # No synapse's weight hangs on where it lies.
    assert abs(np.corrcoef(drawn, indices)[0, 1]) < 4 / math.sqrt(drawn.size)


@each_drawn
def test_rows_ascend(make):
    op = make()(60, 50)
    pre, post, _ = op.as_coo()
    assert np.all(np.diff(pre * 50 + post) >= 0)
    assert op.indices.dtype == np.int32
    assert isinstance(op, ops.FixedOutdegree if make is DRAWN["fixed_outdegree"] else ops.CSR)


def test_weight_is_of_the_default_float_type():
    def all_of(weight):
        return [
            connect.fixed_prob(0.5, weight, key=KEY)(3, 3),
            connect.fixed_outdegree(2, lambda rng, size: np.full(size, weight), key=KEY)(3, 3),
            connect.from_coo([0, 1], [1, 0], [weight, weight])(3, 3),
            connect.from_csr([0, 1, 1, 1], [1], weight)(3, 3),
            connect.one_to_one(weight)(3, 3),
            connect.all_to_all(weight)(3, 3),
            connect.dense(np.full((3, 3), weight))(3, 3),
        ]

    for weight in (2, 2.0, np.float32(2), np.int8(2)):
        assert {op.weight.dtype for op in all_of(weight)} == {np.dtype(np.float64)}
    with jax.enable_x64(False):
        assert {op.weight.dtype for op in all_of(0.1)} == {np.dtype(np.float32)}
        with pytest.raises(ValueError, match="weight=inf: must be finite"):
            connect.all_to_all(1e300)


def test_gradient_reaches_a_weight_given_to_a_rule():
    pre, post, ones = [1, 0, 1], [0, 1, 0], np.ones(3)

    def total(rule, n=3):
        return lambda weight: rule(weight)(n, n).as_matrix().sum()

    def prob(weight):
        return connect.fixed_prob(1.0, weight, key=KEY)

    assert jax.jit(jax.grad(total(prob)))(0.6) == 9.0
    rows = jnp.array([1.0, 3.0])
    grad = jax.grad(lambda w: (rows @ connect.from_coo(pre, post, w)(2, 2).as_matrix()).sum())
    assert grad(ones).tolist() == [3.0, 1.0, 3.0]
    assert jax.grad(total(lambda w: connect.dense(w)))(np.ones((3, 3))).tolist() == [[1.0] * 3] * 3
    assert jax.grad(total(connect.one_to_one))(ones).tolist() == [1.0] * 3
    assert jax.grad(total(connect.all_to_all))(1.0) == 9.0


# ---- the given ones ------------------------------------------------------------------------------


def test_one_to_one_all_to_all_and_dense():
    weights = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(matrix(connect.dense(weights)(3, 4)), weights)
    assert np.array_equal(matrix(connect.one_to_one(2.0)(3, 3)), 2 * np.eye(3))
    assert np.array_equal(matrix(connect.one_to_one([1, 2, 4])(3, 3)), np.diag([1.0, 2.0, 4.0]))
    assert np.array_equal(matrix(connect.all_to_all(2.0)(3, 4)), np.full((3, 4), 2.0))
    without = connect.all_to_all(2.0, autapses=False)(3, 3, same=True)
    assert np.array_equal(matrix(without), 2.0 - 2 * np.eye(3))


@pytest.mark.parametrize("weight", ["one", "each"])
def test_coo_in_any_order_with_duplicates(weight):
    rng = np.random.default_rng(0)
    pre, post = rng.integers(30, size=500), rng.integers(20, size=500)
    weight = 0.5 if weight == "one" else rng.normal(size=500)
    shape = (30, 20)
    expected = scipy.sparse.coo_array((np.broadcast_to(weight, 500), (pre, post)), shape).toarray()
    op = connect.from_coo(pre, post, weight)(*shape)
    assert np.allclose(matrix(op), expected, rtol=1e-13, atol=1e-13)
    assert op.indices.size == 500
    # Stable: the synapses of one neuron keep their order.
    for i in range(30):
        row = slice(int(op.indptr[i]), int(op.indptr[i + 1]))
        assert np.array_equal(op.indices[row], post[pre == i])
    rows = connect.from_csr(op.indptr, op.indices, op.weight)(*shape)
    assert np.array_equal(matrix(rows), matrix(op))


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_scipy_round_trip(form):
    given = scipy.sparse.random_array((30, 20), density=0.2, rng=np.random.default_rng(0))
    for sparse in (given.asformat(form), scipy.sparse.csr_matrix(given).asformat(form)):
        op = connect.from_scipy(sparse)(30, 20)
        assert np.array_equal(matrix(op), given.toarray())
        pre, post, weight = op.as_coo()
        back = scipy.sparse.coo_array((np.asarray(weight), (pre, post)), shape=op.shape)
        assert np.array_equal(back.toarray(), given.toarray())


def test_rules_keep_what_they_were_given():
    pre, weight = np.array([0, 1], np.int32), np.array([1.0, 2.0])
    sparse = scipy.sparse.csr_array(np.eye(2))
    coo, rows = connect.from_coo(pre, pre, weight), connect.from_scipy(sparse)
    pre[:], weight[:], sparse.data[:] = 7, NAN, NAN
    assert np.array_equal(matrix(coo(2, 2)), np.diag([1.0, 2.0]))
    assert np.array_equal(matrix(rows(2, 2)), np.eye(2))


# ---- degenerate sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize(
    "name", [*DRAWN, "all_to_all", "dense", "from_coo", "from_csr", "one_to_one"]
)
@pytest.mark.parametrize("weight", [0.6, normal], ids=["one", "each"])
def test_no_neurons(name, shape, weight):
    n_pre, n_post = shape
    rules = {
        "fixed_prob": lambda: connect.fixed_prob(0.5, weight, key=KEY),
        "fixed_indegree": lambda: connect.fixed_indegree(3, weight, key=KEY, multapses=False),
        "fixed_outdegree": lambda: connect.fixed_outdegree(3, weight, key=KEY),
        "fixed_total_number": lambda: connect.fixed_total_number(3, weight, key=KEY),
        "all_to_all": lambda: connect.all_to_all(0.6),
        "dense": lambda: connect.dense(np.ones(shape)),
        "from_coo": lambda: connect.from_coo([], [], 0.6),
        "from_csr": lambda: connect.from_csr([0] * (n_pre + 1), [], []),
        "one_to_one": lambda: connect.one_to_one(0.6),
    }
    if name == "one_to_one" and n_pre != n_post:
        return
    op = rules[name]()(n_pre, n_post)
    assert op.shape == shape and matrix(op).shape == shape
    assert op.as_coo()[0].size == op.as_coo()[1].size == 0
    assert op.weight.dtype == np.float64
    assert np.array_equal(op.mv(jnp.ones(n_pre)), np.zeros(n_post))


@each_drawn
def test_no_neurons_and_no_autapses(make):
    assert make(autapses=False)(0, 0, same=True).shape == (0, 0)
    if make is DRAWN["fixed_prob"]:
        assert make(autapses=False)(1, 1).indices.size == 0


# ---- cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("multapses", [True, False])
@pytest.mark.parametrize("name", DRAWN)
def test_memory_is_in_proportion_to_the_synapses(name, multapses):
    # A boolean for every pair would take 125 times the memory of the result.
    n, k = 40_000, 80
    options = {"key": KEY, "autapses": False}
    if name == "fixed_prob":
        rule = connect.fixed_prob(k / n, 0.6, **options)
    else:
        amount = n * k if name == "fixed_total_number" else k
        rule = getattr(connect, name)(amount, 0.6, **options, multapses=multapses)
    tracemalloc.start()
    op = rule(n, n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(op.indices.size - n * k) < 4 * math.sqrt(n * k)
    assert peak < 6 * sum(leaf.nbytes for leaf in jax.tree.leaves(op))


# ---- bad input -----------------------------------------------------------------------------------

DRAWING = [
    ({"key": None}, TypeError, r"key=None: .* connect\.{name}\(..., key=jax\.random\.key\(0\)\)"),
    ({"key": 0}, TypeError, r"key=0: a JAX PRNG key is needed"),
    ({"key": np.zeros(2)}, TypeError, "a JAX PRNG key is needed"),
    ({"key": jax.random.split(KEY, 3)}, ValueError, r"key: one is needed, not .* shape \(3,\)"),
    ({"autapses": 1}, TypeError, "autapses=1: must be autapses=True or autapses=False"),
    ({"autapses": None}, TypeError, "autapses=None"),
    ({"weight": NAN}, ValueError, "weight=nan: must be finite"),
    ({"weight": [1.0, 2.0]}, ValueError, r"weight has shape \(2,\): must have shape \(\)"),
    ({"weight": "0.6"}, TypeError, "weight='0.6': must be real numbers, such as weight=0.6"),
    ({"weight": None}, TypeError, "weight=None"),
    ({"weight": True}, TypeError, "weight=True"),
    ({"weight": 1j}, TypeError, "weight=1j"),
]
FUNCTIONS = {
    "fixed_prob": (connect.fixed_prob, "p", 0.2),
    "fixed_indegree": (connect.fixed_indegree, "k", 3),
    "fixed_outdegree": (connect.fixed_outdegree, "k", 3),
    "fixed_total_number": (connect.fixed_total_number, "n", 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("bad", "error", "match"), DRAWING)
def test_drawn_rules_refuse_at_once(name, bad, error, match):
    function, amount, value = FUNCTIONS[name]
    with pytest.raises(error, match=match.replace("{name}", name)):
        function(**{amount: value, "weight": 0.6, "key": KEY, **bad})


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("draw", "error", "match"),
    [
        (lambda rng, size: 0.6, ValueError, r"weight has shape \(\): must have shape \(\d+,\)"),
        (lambda rng, size: np.ones(size + 1), ValueError, r"weight has shape \(\d+,\)"),
        (lambda rng, size: np.ones((size, 1)), ValueError, r"weight has shape \(\d+, 1\)"),
        (lambda rng, size: np.ones(size) * 1j, TypeError, "must be real numbers"),
        (lambda rng, size: np.ones(size) > 0, TypeError, "must be real numbers"),
        (lambda rng, size: np.where(np.arange(size) == 2, np.inf, 1), ValueError, r"\[2\]=inf"),
    ],
)
def test_drawn_weights_are_checked(name, draw, error, match):
    function, _, value = FUNCTIONS[name]
    with pytest.raises(error, match=match):
        function(value, draw, key=KEY)(20, 20)


@pytest.mark.parametrize("p", [-0.1, 1.1, NAN, math.inf, 80])
def test_probability_out_of_range(p):
    with pytest.raises(
        ValueError, match=rf"p: {p}; it must be a probability.*\[0, 1\], such as p="
    ):
        connect.fixed_prob(p, 0.6, key=KEY)


@pytest.mark.parametrize("p", ["0.2", None, True, [0.2], 0.2j])
def test_probability_of_another_type(p):
    with pytest.raises(ValueError, match=r"p: .*; it must be a probability, a number in \[0, 1\]"):
        connect.fixed_prob(p, 0.6, key=KEY)


@pytest.mark.parametrize("name", ["fixed_indegree", "fixed_outdegree", "fixed_total_number"])
def test_counts_out_of_range(name):
    function, amount, _ = FUNCTIONS[name]
    for bad in (2.5, 3.0, "3", None, True, NAN):
        with pytest.raises(TypeError, match=f"{amount}=.*must be an integer, such as {amount}=80"):
            function(bad, 0.6, key=KEY)
    for bad in (-1, 2**31):
        with pytest.raises(ValueError, match=f"{amount}={bad}: must lie between 0 and 2147483647"):
            function(bad, 0.6, key=KEY)
    with pytest.raises(TypeError, match="multapses='no'"):
        function(3, 0.6, key=KEY, multapses="no")


@pytest.mark.parametrize(
    ("rule", "shape", "match"),
    [
        (connect.fixed_indegree(5, 1.0, key=KEY, multapses=False), (4, 9), "k=5: .* only 4 .* k=4"),
        (connect.fixed_outdegree(5, 1.0, key=KEY, multapses=False), (9, 4), "k=5: .* only 4"),
        (
            connect.fixed_indegree(4, 1.0, key=KEY, multapses=False, autapses=False),
            (4, 4),
            "k=4: there are only 3 to draw from: write k=3 or multapses=True",
        ),
        (connect.fixed_outdegree(1, 1.0, key=KEY, autapses=False), (1, 1), "only 0 .* write k=0"),
        (connect.fixed_total_number(1, 1.0, key=KEY, autapses=False), (1, 1), "only 0"),
        (connect.fixed_total_number(13, 1.0, key=KEY, multapses=False), (3, 4), "n=13: .* only 12"),
    ],
)
def test_more_synapses_than_partners(rule, shape, match):
    with pytest.raises(ValueError, match=match):
        rule(*shape)


NO_AUTAPSES = {
    **{name: make(autapses=False) for name, make in DRAWN.items()},
    "all_to_all": connect.all_to_all(0.6, autapses=False),
}


@pytest.mark.parametrize("rule", NO_AUTAPSES.values(), ids=NO_AUTAPSES)
def test_no_autapses_between_two_populations(rule):
    with pytest.raises(ValueError, match=r"autapses=False: 20 pre- and 30 post-.*autapses=True"):
        rule(20, 30)
    with pytest.raises(ValueError, match="autapses=False: 20 pre- and 20 post-"):
        rule(20, 20, same=False)
    assert np.array_equal(matrix(rule(20, 20)), matrix(rule(20, 20, same=True)))


@pytest.mark.parametrize("make", [*DRAWN.values(), lambda: connect.all_to_all(0.6)])
def test_bad_sizes(make):
    with pytest.raises(ValueError, match="n_pre=-1: must lie between 0"):
        make()(-1, 3)
    with pytest.raises(TypeError, match=r"n_post=3\.0: must be an integer"):
        make()(3, 3.0)


@pytest.mark.parametrize(
    "rule",
    [
        connect.fixed_prob(0.5, 1.0, key=KEY),
        connect.fixed_indegree(2**15, 1.0, key=KEY),
        connect.fixed_outdegree(2**15, 1.0, key=KEY, multapses=False),
    ],
)
def test_more_synapses_than_int32_counts(rule):
    with pytest.raises(ValueError, match=r"synapses: one operator holds at most 2147482624: split"):
        rule(2**16, 2**16)


def test_keys_inside_jit():
    with pytest.raises(TypeError, match=r"call connect\.fixed_prob\(.*\) outside jit"):
        jax.jit(lambda key: connect.fixed_prob(0.5, 1.0, key=key)(3, 3).as_matrix())(KEY)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: connect.from_coo([0, -1], [0, 1], 1.0), ValueError, r"pre_ids\[1\]=-1: must lie"),
        (lambda: connect.from_coo([0, 1], [-2, 1], 1.0), ValueError, r"post_ids\[0\]=-2: must lie"),
        (lambda: connect.from_coo([2**31], [0], 1.0), ValueError, r"pre_ids\[0\]=2147483648"),
        (
            lambda: connect.from_coo([0, 2], [0, 1], 1.0)(2, 2),
            ValueError,
            r"pre_ids\[1\]=2: .*\[0, 2\)",
        ),
        (
            lambda: connect.from_coo([0, 1], [0, 2], 1.0)(2, 2),
            ValueError,
            r"post_ids\[1\]=2: must lie in \[0, 2\), .* for ids from 1 write post_ids - 1",
        ),
        (lambda: connect.from_coo([0.0], [0], 1.0), TypeError, r"pre_ids.*pre_ids\.astype\(int\)"),
        (lambda: connect.from_coo([0], [True], 1.0), TypeError, "post_ids: must be integers.*bool"),
        (lambda: connect.from_coo([[0]], [0], 1.0), ValueError, r"pre_ids has shape \(1, 1\)"),
        (lambda: connect.from_coo([0, 1], [0], 1.0), ValueError, "pre_ids has 2 .* post_ids 1"),
        (lambda: connect.from_coo([0, 1], [0, 1], [1.0]), ValueError, r"weight has shape \(1,\)"),
        (lambda: connect.from_coo([0, 1], [0, 1], [1.0, NAN]), ValueError, r"weight\[1\]=nan"),
        (lambda: connect.from_coo([0], [0], normal), TypeError, "weight=.*must be real numbers"),
        (lambda: connect.from_csr([], [], 1.0), ValueError, "must begin with 0 and end with 0"),
        (lambda: connect.from_csr([1, 2], [0, 1], 1.0), ValueError, "indptr=.*must begin with 0"),
        (lambda: connect.from_csr([0, 2, 3], [0, 1], 1.0), ValueError, "indptr=.*end with 2"),
        (
            lambda: connect.from_csr([0, 2, 1, 2], [0, 1], 1.0),
            ValueError,
            r"indptr\[2\]=1: is below indptr\[1\]=2.*numpy\.cumsum\(outdegrees\)",
        ),
        (
            lambda: connect.from_csr([0, -1, 2], [0, 1], 1.0),
            ValueError,
            r"indptr\[1\]=-1: is below",
        ),
        (
            lambda: connect.from_csr(np.array([0, 2, 1, 2], np.uint64), [0, 1], 1.0),
            ValueError,
            r"indptr\[2\]=1",
        ),
        (lambda: connect.from_csr([0.0, 1.0], [0], 1.0), TypeError, "indptr: must be integers"),
        (lambda: connect.from_csr([0, 1], [0.5], 1.0), TypeError, "indices: must be integers"),
        (lambda: connect.from_csr([0, 1], [-1], 1.0), ValueError, r"indices\[0\]=-1"),
        (
            lambda: connect.from_csr([0, 1], [3], 1.0)(1, 3),
            ValueError,
            r"indices\[0\]=3: .* \[0, 3\)",
        ),
        (lambda: connect.from_csr([0, 1], [0], [1.0, 2.0]), ValueError, r"weight has shape \(2,\)"),
        (lambda: connect.from_csr([0, 1], [0], [np.inf]), ValueError, r"weight\[0\]=inf"),
        (lambda: connect.from_csr([0, 1], [0], 1.0)(2, 3), ValueError, r"shape \(1, 3\).* 2 pre-"),
        (lambda: connect.from_scipy(np.eye(2)), TypeError, r"matrix: ndarray .*connect\.dense"),
        (
            lambda: connect.from_scipy(scipy.sparse.eye_array(2, 3))(3, 2),
            ValueError,
            r"shape \(2, 3\) between 3 pre- and 2 post-.*matrix\.T",
        ),
        (
            lambda: connect.from_scipy(scipy.sparse.csr_array([[0.0, NAN]])),
            ValueError,
            r"weight\[0\]=nan",
        ),
        (lambda: connect.from_scipy(scipy.sparse.csr_array([[1j]])), TypeError, "real numbers"),
        (lambda: connect.one_to_one(1.0)(2, 3), ValueError, "2 pre- and 3 post-synaptic neurons"),
        (lambda: connect.one_to_one([1.0, 2.0])(3, 3), ValueError, r"shape \(2,\): must .* \(3,\)"),
        (lambda: connect.one_to_one([1.0, NAN]), ValueError, r"weight\[1\]=nan"),
        (lambda: connect.one_to_one(normal), TypeError, "weight=.*must be real numbers"),
        (lambda: connect.all_to_all([1.0]), ValueError, r"weight has shape \(1,\)"),
        (lambda: connect.all_to_all(math.inf), ValueError, "weight=inf"),
        (lambda: connect.all_to_all(1.0, autapses=0), TypeError, "autapses=0"),
        (
            lambda: connect.dense([1.0, 2.0]),
            ValueError,
            r"shape \(2,\): must have shape \(any, any\)",
        ),
        (lambda: connect.dense([[1.0, NAN]]), ValueError, r"weight\[0, 1\]=nan"),
        (lambda: connect.dense(np.ones((2, 3)))(3, 2), ValueError, r"\(2, 3\): must .* \(3, 2\)"),
    ],
)
def test_given_synapses_are_checked(make, error, match):
    with pytest.raises(error, match=match):
        make()

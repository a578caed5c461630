"""`ops.pack` and `ops.Spikes`: 32 neurons a word, views by masks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purebrain import ops
from tests.helpers_ops import without_type_checker


def drawn(seed, *shape):
    return np.random.default_rng(seed).random(shape) < 0.4


def test_round_trip_of_every_size_to_100():
    dense = [jnp.asarray(drawn(n, n)) for n in range(101)]

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def through(dense):
        packed = [ops.pack(x) for x in dense]
        return packed, [s.to_dense() for s in packed]

    for n, (packed, back) in enumerate(zip(*through(dense), strict=True)):
        assert packed.size == n and packed.shape == (n,)
        assert packed.words.shape == (-(-n // 32),) and packed.words.dtype == jnp.uint32
        assert back.dtype == bool and packed.count().dtype == jnp.int32
        np.testing.assert_array_equal(back, dense[n])
        assert int(packed.count()) == np.sum(dense[n])


@pytest.mark.parametrize(
    "shape", [(4096,), (100_003,), (3, 70), (2, 3, 33), (0, 5), (5, 0), (0, 0)]
)
@pytest.mark.parametrize("fill", [None, False, True])
def test_round_trip_with_leading_axes(shape, fill):
    x = drawn(0, *shape) if fill is None else np.full(shape, fill)
    packed = ops.pack(jnp.asarray(x))
    assert packed.shape == shape and packed.size == shape[-1]
    np.testing.assert_array_equal(packed.to_dense(), x)
    np.testing.assert_array_equal(packed.count(), x.sum(-1))


bounds = st.one_of(st.none(), st.integers(-120, 120))


@settings(max_examples=40)
@given(st.sampled_from([0, 1, 31, 32, 33, 100]), bounds, bounds, bounds, bounds)
def test_views_of_views_are_slices_of_slices(n, a, b, c, d):
    x = drawn(n, 2, n)
    view, want = ops.pack(jnp.asarray(x))[:, a:b].neurons(slice(c, d)), x[:, a:b][:, c:d]
    assert view.shape == want.shape
    np.testing.assert_array_equal(view.to_dense(), want)
    np.testing.assert_array_equal(view.count(), want.sum(-1))
    assert view.words.shape[-1] == -(-n // 32)  # nothing moved


def test_views_under_jit_and_vmap():
    x = drawn(1, 4, 3, 45)

    def f(row):
        view = ops.pack(row)[3:40]
        return view.to_dense(), view.count()

    dense, count = jax.jit(jax.vmap(jax.vmap(f)))(x)
    np.testing.assert_array_equal(dense, x[..., 3:40])
    np.testing.assert_array_equal(count, x[..., 3:40].sum(-1))
    whole = ops.pack(jnp.asarray(x))
    got = jax.vmap(lambda spikes: spikes[0:2, 3:40].to_dense(), in_axes=1)(whole)
    np.testing.assert_array_equal(got, x[0:2, :, 3:40].swapaxes(0, 1))


INDICES = [
    2,
    -1,
    (1, 2),
    slice(1, 3),
    slice(None, None, -2),
    (slice(1, None), 0),
    (3, 1, slice(5, 40)),
    (slice(None), slice(1, 2), slice(33, None)),
    np.array([3, 0, 0]),
    (np.array([3, 0]), np.array([1, 2]), slice(5, 40)),
    jnp.int32(1),
    (),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_is_that_of_the_dense_array(index):
    x = drawn(2, 4, 3, 45)
    got = ops.pack(jnp.asarray(x))[index]
    assert got.shape == x[index].shape
    np.testing.assert_array_equal(got.to_dense(), x[index])
    np.testing.assert_array_equal(got.neurons(slice(2, 9)).to_dense(), x[index][..., 2:9])


@pytest.mark.parametrize("index", [3, slice(0, 6, 2), slice(None, None, -1), np.arange(2)])
def test_neurons_are_taken_by_plain_slices(index):
    for call in (lambda s: s[index], lambda s: s.neurons(index)):
        with without_type_checker(), pytest.raises(IndexError, match=r"neurons .*\[lo:hi\]"):
            call(ops.pack(jnp.ones(8, bool)))


@pytest.mark.parametrize("index", [..., None, True, np.ones(2, bool), (0, 0, 0), 0.5, "a"], ids=str)
def test_what_would_index_words_is_refused(index):
    with pytest.raises(IndexError, match=r"spikes\[.*one an axis of \(2, 8\)"):
        ops.pack(jnp.ones((2, 8), bool))[index]


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8"])
def test_only_booleans_are_packed(dtype):
    with without_type_checker(), pytest.raises(TypeError, match=rf"spikes: dtype {dtype}"):
        ops.pack(jnp.ones(3, dtype))

"""`ops.materialize` and `ops.after`: identities to everyone but the CPU's compiler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from purebrain import ops

X = jnp.linspace(-2.0, 2.0, 7)
EVENTS = {
    "bool": jnp.array([True, False]),
    "int32": jnp.arange(3, dtype=jnp.int32),
    "uint8": jnp.full((2, 2), 255, jnp.uint8),
    "scalar": jnp.float32(-0.5),
    "NaN": jnp.array([jnp.nan]),
    "complex": jnp.array([1.0 + 2.0j]),
    "empty": jnp.zeros((0, 3)),
}
# Events are arguments, not constants: of those the compiler sees what they are.
IDENTITIES = {f"after {name}": (ops.after, event) for name, event in EVENTS.items()}
IDENTITIES["materialize"] = (lambda x, _: ops.materialize(x)), X
each_identity = pytest.mark.parametrize(("keep", "event"), IDENTITIES.values(), ids=IDENTITIES)


def assert_same_bits(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@each_identity
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_values_keep_their_bits(keep, event, dtype):
    info = jnp.finfo(dtype)
    special = [0.0, jnp.nan, jnp.inf, 1 / 3, info.max, info.tiny, info.smallest_subnormal]
    x = jnp.asarray([sign * float(v) for v in special for sign in (1, -1)], dtype)
    assert_same_bits(keep(x, event), x)
    assert_same_bits(jax.jit(keep)(x, event), x)
    assert_same_bits(jax.jit(jax.vmap(keep, (0, None)))(x[:, None], event), x[:, None])


@each_identity
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0)])
def test_any_shape(keep, event, shape):
    x = jnp.ones(shape)
    assert_same_bits(jax.jit(keep)(x, event), x)
    if shape:
        assert_same_bits(jax.jit(jax.vmap(keep, (0, None)))(x, event), x)


@each_identity
@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "uint32", "int64", "complex128"])
def test_arrays_that_are_no_floats(keep, event, dtype):
    x = jnp.asarray([0, 1, -1, 127, jnp.inf][: 5 if dtype == "complex128" else 4]).astype(dtype)
    assert_same_bits(jax.jit(keep)(x, event), x)


def transforms(keep, x):
    def f(x):
        return jnp.sum(jnp.sin(keep(jnp.exp(keep(x)))))

    def scanned(x):
        return jnp.sum(lax.scan(lambda v, _: (keep(v * v), None), x, None, 3)[0])

    return {
        "jvp": jax.jvp(f, (x,), (jnp.cos(x),)),
        "grad": jax.grad(f)(x),
        "forward over reverse": jax.hessian(f)(x),
        "reverse over reverse": jax.jacrev(jax.grad(f))(x),
        "vmap of grad": jax.vmap(jax.grad(f))(jnp.stack([x, -x])),
        "grad of vmap": jax.grad(lambda x: jnp.sum(jax.vmap(f)(x[:, None])))(x),
        "grad of scan": jax.grad(scanned)(x),
        "checkpoint": jax.grad(jax.checkpoint(f))(x),
        "linear transpose": jax.linear_transpose(lambda x: 2 * keep(x), x)(x),
    }


@each_identity
def test_every_transform_sees_an_identity(keep, event):
    got = jax.jit(lambda x, event: transforms(lambda a: keep(a, event), x))(X, event)
    want = jax.jit(lambda x: transforms(lambda a: a, x))(X)
    for name in want:
        for a, b in zip(jax.tree.leaves(got[name]), jax.tree.leaves(want[name]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0), (1, 0)])
def test_after_with_either_side_batched(in_axes):
    x, event = jnp.arange(9.0).reshape(3, 3), jnp.ones((3, 3), bool)
    got = jax.vmap(ops.after, in_axes)(x, event)
    want = jax.vmap(lambda x, _: x, in_axes, 0)(x, event)
    np.testing.assert_array_equal(got, want)


def test_after_has_no_derivative_in_the_event():
    def f(event):
        return jnp.sum(ops.after(X, event))

    assert not jax.grad(f)(X).any()
    assert jax.jvp(f, (X,), (X,))[1] == 0


# ---- what the compiler makes of them -------------------------------------------------------------


def instructions(f, *args) -> dict[str, int]:
    text = jax.jit(f).lower(*args).compile().as_text()
    return {name: text.count(f" {name}(") for name in ("exponential", "multiply", "copy")}


def test_materialize_computes_once_for_three_consumers():
    def run(keep):
        def step(v, _):
            v = keep(v + 0.1 * (jnp.exp(-v) - v))
            spikes = v > 0.5
            return jnp.where(spikes, 0.0, v), (ops.pack(spikes).words, jnp.sum(spikes))

        return instructions(lambda v: lax.scan(step, v, None, 10), jnp.ones(4096))

    kept, plain = run(ops.materialize), run(lambda v: v)
    assert kept["exponential"] == kept["multiply"] == 1
    assert plain["multiply"] > 1, "XLA duplicates no more: materialize has become needless"


def test_after_spares_copies_of_what_is_updated_in_place():
    def run(order):
        def step(carry, _):
            v, g = carry
            new_v = v + jnp.exp(-v) * g
            g = order(g, new_v)
            return (new_v, lax.fori_loop(0, 3, lambda k, g: g.at[k].add(1.0), g)), None

        start = (jnp.ones(4096), jnp.ones(4096))
        return instructions(lambda s: lax.scan(step, s, None, 10), start)

    assert run(ops.after)["copy"] < run(lambda g, _: g)["copy"]

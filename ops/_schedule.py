"""Identities that tell XLA's CPU compiler what to keep and in which order to work.

XLA fuses an elementwise producer into every consumer and computes it once for each; and it copies
an array that one operation reads and another, unordered with it, overwrites. In a network's step
the first computes every membrane potential three times, the second copies the whole state.
`optimization_barrier` helps with neither, being removed before fusion. What XLA never duplicates is
a floating-point division, and what it never reorders is a data dependency.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array


def materialize(x: Array) -> Array:
    """`x`, computed once and kept, whatever uses it. An identity, also to every transform."""
    return _materialize_p.bind(x) if jnp.issubdtype(x.dtype, jnp.floating) else x


def materialize_cotangent(x: Array) -> Array:
    """`x`, whose cotangent is computed once and kept: a derivative that many go on from."""
    return _materialize_cotangent_p.bind(x) if jnp.issubdtype(x.dtype, jnp.floating) else x


def after(x: Array, event: Array) -> Array:
    """`x`, not touched before `event` is computed: then `x` may be updated in place.

    An identity in `x`, also to every transform; `event` may be any array of numbers.
    """
    if jnp.issubdtype(x.dtype, jnp.complexfloating) or jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return x  # of complex numbers, times one is no identity: infinity becomes NaN
    return _after_p.bind(x, lax.stop_gradient(event))


def times(x: Array, a) -> Array:
    """`x` times a number, whose cotangent is summed in two stages, the first of whole vectors: XLA
    sums term by term on a CPU, as it would here without the kept sums."""
    return _times_p.bind(*varying(x, a))


def varying(*args):
    """The arrays, each as varying from device to device over every axis that one of them varies
    over, as an operation of them all is: `jax.shard_map` does so for JAX's own."""
    axes = frozenset().union(*(jax.typeof(a).mat.varying for a in args))

    def cast(a):
        missing = tuple(axes - jax.typeof(a).mat.varying)
        return lax.pcast(a, missing, to="varying") if missing else a

    return [cast(a) for a in args]


def lowering(f):
    """A primitive's lowering rule, from a function of JAX.

    Arrays that the function makes do not say how they lie on a mesh of devices, so nor do its
    arguments.
    """
    rule = mlir.lower_fun(f, multiple_results=False)

    def plain(avals):
        return [ShapedArray(a.shape, a.dtype) for a in avals]

    def lower(ctx, *args, **static):
        ctx = ctx.replace(avals_in=plain(ctx.avals_in), avals_out=plain(ctx.avals_out))
        return rule(ctx, *args, **static)

    return lower


def _total(x):
    rows = next((k for k in range(32, 1, -1) if x.size % k == 0), 1)
    return jnp.sum(materialize(jnp.sum(x.reshape(rows, -1), 0)))


def one_of(x, dtype):
    """1, in a way that XLA does not see through: of two consecutive integers one is even.

    It depends on `x`, or XLA would compute it once before the loop and read it at every step.
    """
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"int{8 * x.dtype.itemsize}"))
    return (1 + (bits & (bits + 1) & 1)).astype(dtype)


def _materialize_cpu(x):
    return x / one_of(x, x.dtype)


def _after_cpu(x, event):
    if event.size == 0:
        return x
    head = jnp.real(lax.slice(event.reshape(-1), (0,), (1,)).reshape(()))
    one = one_of(head.astype(jnp.int8) if head.dtype == bool else head, x.dtype)
    return x & one if x.dtype == bool else x * one


_materialize_p = Primitive("purebrain_materialize")
_materialize_p.def_impl(lambda x: x)
_materialize_p.def_abstract_eval(lambda x: x)
ad.deflinear2(_materialize_p, lambda ct, _: [materialize(ct)])
batching.defvectorized(_materialize_p)
mlir.register_lowering(_materialize_p, lowering(lambda x: x))
mlir.register_lowering(_materialize_p, lowering(_materialize_cpu), platform="cpu")

_materialize_cotangent_p = Primitive("purebrain_materialize_cotangent")
_materialize_cotangent_p.def_impl(lambda x: x)
_materialize_cotangent_p.def_abstract_eval(lambda x: x)
ad.deflinear2(_materialize_cotangent_p, lambda ct, _: [materialize(ct)])
batching.defvectorized(_materialize_cotangent_p)
mlir.register_lowering(_materialize_cotangent_p, lowering(lambda x: x))

_times_p = Primitive("purebrain_times")
_times_p.def_impl(lambda x, a: x * a)
_times_p.def_abstract_eval(lambda x, a: x)
ad.defbilinear(_times_p, lambda ct, x, a: times(ct, a), lambda ct, x, a: _total(x * ct))
mlir.register_lowering(_times_p, lowering(lambda x, a: x * a))


def _times_batch(args, dims):
    (x, a), (d_x, d_a) = args, dims
    if d_a is None:
        return x * a, d_x
    x = x[None] if d_x is None else jnp.moveaxis(x, d_x, 0)
    return x * jnp.moveaxis(a, d_a, 0)[:, None], 0


batching.primitive_batchers[_times_p] = _times_batch

_after_p = Primitive("purebrain_after")
_after_p.def_impl(lambda x, event: x)
_after_p.def_abstract_eval(lambda x, event: x)
ad.defjvp(_after_p, lambda t, x, event: t, None)
ad.primitive_transposes[_after_p] = lambda ct, x, event: [ct, None]
mlir.register_lowering(_after_p, lowering(lambda x, event: x))
mlir.register_lowering(_after_p, lowering(_after_cpu), platform="cpu")


def _after_batch(args, dims):
    return _after_p.bind(*args), dims[0]


batching.primitive_batchers[_after_p] = _after_batch

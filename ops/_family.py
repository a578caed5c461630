"""One operator as a family of primitives closed under transposition.

For a connectivity with weights `w` on its synapses, pre-synaptic values `s` and post-synaptic
values `x`:

    scatter(y, s, w)_j = y_j + sum_i s_i W_ij      events to targets
    gather (w, x)_i    = sum_j W_ij x_j            its transpose in s
    outer  (s, x)_ij   = s_i x_j on the synapses   its transpose in w

and, where only some neurons' values can be other than 0 or have a derivative, the same with their
mask m: `scatter_where`, of values that are 0 elsewhere, and its transpose `gather_where`, that is.
Values and mask of these two are a whole population's, of which the neurons from `layout.lo` on are
the operator's: to derive a slice, XLA would pad.

Each is linear in each operand (scatter also in y), and the transpose of any is another of them: so
forward and reverse mode of any order are right by construction. Every operand has one leading batch
axis, 1 or B, into which nested `vmap`s fold: batched spikes on one connectivity are one event walk
(or one launch), not B. Of the other designs, `custom_vjp` lacks forward mode, `custom_jvp` with
`linear_call` lacks second derivatives, and `lax.platform_dependent` differentiates every platform's
branch.

`w` has shape (batch,) where all synapses share one weight; `outer` then returns the sum over
synapses. `s` is float, or uint32 words of packed spikes, which have no derivative.

A connectivity's kernels are a `Kernels`; those of another platform are registered by name beside
the default ones, and only the target's are traced.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ._say_once import say_xla
from ._schedule import after, lowering, varying


class Layout(NamedTuple):
    """What is static about a connectivity (hashable): sizes, and the shape of its synapses."""

    n_pre: int
    n_post: int
    synapses: tuple[int, ...]  # () where all share one weight
    lo: int = 0  # the first neuron of the view, where spikes are packed or have a mask
    form: Hashable = None  # what only this form of connectivity knows
    tuning: Hashable = None  # an `ops.gpu.Tuning`, if it is not the default one
    constant: bool = False  # whether the index arrays are part of the traced program


class Kernels(NamedTuple):
    """The functions of one platform; `structure` is the index arrays, without a batch axis."""

    scatter: Callable  # (layout, y [B, n_post], s [B, n_pre | words], w [1|B, ...], *structure)
    gather: Callable  # (layout, w [1|B, ...], x [B, n_post], *structure)
    outer: Callable  # (layout, s [B, ...], x [B, n_post], *structure)
    # of whole populations: (layout, y, s [B, n], w, m [B, n], *structure)
    scatter_where: Callable | None = None
    gather_where: Callable | None = None  # (layout, w, x, m [B, n], *structure)

    def of(self, kind: str) -> Callable:
        """The kernel of any of the primitives."""

        def scatter_where(layout, y, s, w, m, *structure):
            return self.scatter(layout._replace(lo=0), y, _own(layout, s), w, *structure)

        @of_view
        def gather_where(layout, w, x, m, *structure):
            return jnp.where(m, self.gather(layout, w, x, *structure), 0)

        others = {"scatter_where": scatter_where, "gather_where": gather_where}
        return getattr(self, kind) or others[kind]

    def in_single(self) -> "Kernels":
        """These kernels with sums in single precision: half soon cannot be added to. Weights of
        their own for synapses stay as they are, and become single one by one."""

        def of(kind):
            kernel, weights = self.of(kind), WEIGHTS[kind]

            def single(layout, *args):
                n_operands = OPERANDS[kind]
                dtype = next(a.dtype for a in args if jnp.issubdtype(a.dtype, jnp.floating))
                wide = accumulator(dtype)
                if wide == dtype:
                    return kernel(layout, *args)
                kept = weights if layout.synapses else None
                operands = [
                    a.astype(wide) if a.dtype == dtype and n != kept else a
                    for n, a in enumerate(args[:n_operands])
                ]
                return kernel(layout, *operands, *args[n_operands:]).astype(dtype)

            return single

        return Kernels(*map(of, Kernels._fields))


def of_view(gather_where: Callable) -> Callable:
    """A kernel `gather_where` of a whole population, from that of the operator's own neurons."""

    def whole(layout, w, x, m, *structure):
        own = gather_where(layout._replace(lo=0), w, x, _own(layout, m), *structure)
        return jnp.pad(own, ((0, 0), (layout.lo, m.shape[1] - layout.lo - layout.n_pre)))

    return whole


def _own(layout, a):
    """The operator's part of a population's values."""
    return lax.slice_in_dim(a, layout.lo, layout.lo + layout.n_pre, axis=1)


def accumulator(dtype):
    """The precision of sums of values of `dtype`: single at least."""
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


OPERANDS = {"scatter": 3, "gather": 2, "outer": 2, "scatter_where": 4, "gather_where": 3}
WEIGHTS = {"scatter": 2, "gather": 0, "outer": None, "scatter_where": 2, "gather_where": 0}


class Family(NamedTuple):
    """The primitives, as functions `(layout, *operands, *structure)`."""

    scatter: Callable
    gather: Callable
    outer: Callable
    scatter_where: Callable
    gather_where: Callable


def family(name: str, default: Kernels, **platforms: Kernels) -> Family:
    """Makes the primitives of one form of connectivity: the default kernels, and those of the
    platforms (cpu, cuda, tpu) that have some of their own. Where all three have, a product
    on another platform is said to have none."""
    prims = {kind: Primitive(f"purebrain_{name}_{kind}") for kind in Family._fields}

    def function(kind):
        n_operands = OPERANDS[kind]

        def bind(layout, *args):
            traced = [isinstance(a, Tracer) for a in args]
            if any(traced) and not all(traced[n_operands:]):
                layout = layout._replace(constant=True)
            return prims[kind].bind(*varying(*args), layout=layout, n_operands=n_operands)

        return bind

    fam = Family(*map(function, Family._fields))
    if {"cpu", "cuda", "tpu"} == platforms.keys():
        default = default._replace(scatter=_said(default.scatter))
    xla = {None: default, "cpu": platforms.get("cpu", default)}
    kernels = {**platforms, **{name: of.in_single() for name, of in xla.items()}}
    for kind, prim in prims.items():
        _define(prim, kind, fam, kernels)
    return fam


def _said(scatter):
    def said(*args):
        say_xla("op: this platform has no kernels, which CPUs, NVIDIA GPUs and TPUs have")
        return scatter(*args)

    return said


def _common(lengths):
    # Not the largest: a batch may be empty, and an axis of 1 is shared by it.
    return next((n for n in lengths if n != 1), 1)


def _out_shape(kind, layout, batch, operands):
    if kind == "gather_where":
        return batch, operands[2].shape[1]
    tails = {"scatter": (layout.n_post,), "gather": (layout.n_pre,), "outer": layout.synapses}
    return (batch, *tails[kind.removesuffix("_where")])


def _define(prim, kind, fam, kernels):
    compiled = jax.jit(prim.bind, static_argnames=("layout", "n_operands"))

    def impl(*args, **static):
        with jax.disable_jit(False):  # without jit, `compiled` would come back here for ever
            return compiled(*args, **static)

    prim.def_impl(impl)

    def abstract_eval(*avals, layout, n_operands):
        operands = avals[:n_operands]
        batch = _common(a.shape[0] for a in operands)
        # The kernels number the neurons of all rows in int32.
        neurons = max(layout.n_post, layout.lo + layout.n_pre)
        if batch * neurons > np.iinfo(np.int32).max:
            raise ValueError(
                f"s: {batch} rows for {neurons} neurons; at most 2**31 - 1 neurons of all rows can "
                "be numbered. Take fewer rows: jax.lax.map(op.mv, s, batch_size=...)."
            )
        dtype = next(a.dtype for a in operands if jnp.issubdtype(a.dtype, jnp.inexact))
        shape, like = _out_shape(kind, layout, batch, operands), operands[0]
        sharding = like.sharding.update(spec=(None,) * len(shape))
        return ShapedArray(shape, dtype, sharding=sharding, manual_axis_type=like.mat)

    prim.def_abstract_eval(abstract_eval)

    for platform, chosen in kernels.items():
        kernel = chosen.of(kind)

        def lowered(*args, layout, n_operands, kernel=kernel):
            # Kernels see one batch size B on all they are linear in; shared weights keep their 1.
            batch = _common(a.shape[0] for a in args[:n_operands])
            operands = [
                a if n == WEIGHTS[kind] else jnp.broadcast_to(a, (batch, *a.shape[1:]))
                for n, a in enumerate(args[:n_operands])
            ]
            return kernel(layout, *operands, *args[n_operands:])

        mlir.register_lowering(prim, lowering(lowered), platform=platform)

    ad.primitive_jvps[prim] = lambda primals, tangents, **static: _jvp(
        prim, kind, fam, primals, tangents, **static
    )
    ad.primitive_transposes[prim] = lambda ct, *args, **static: _transpose(
        kind, fam, ct, *args, **static
    )
    batching.primitive_batchers[prim] = lambda args, dims, **static: _batch(
        prim, args, dims, **static
    )


def _jvp(prim, kind, fam, primals, tangents, *, layout, n_operands):
    out = prim.bind(*primals, layout=layout, n_operands=n_operands)
    structure = primals[n_operands:]
    terms, start = [], None  # `scatter` is linear in y and another operand at once
    if kind.startswith("scatter") and not isinstance(tangents[0], ad.Zero):
        start = tangents[0]
    for n, tangent in enumerate(tangents[:n_operands]):
        if isinstance(tangent, ad.Zero) or (n == 0 and start is not None):
            continue
        operands = [tangent if m == n else p for m, p in enumerate(primals[:n_operands])]
        if kind.startswith("scatter"):
            zeros = jnp.zeros((1, layout.n_post), out.dtype)
            operands[0], start = zeros if start is None else start, None
        terms.append(getattr(fam, kind)(layout, *operands, *structure))
    if start is not None:
        terms.append(start)
    # A term whose operands are unbatched may still lack the batch axis of another operand.
    terms = [jnp.broadcast_to(t, out.shape) for t in terms]
    return out, sum(terms[1:], terms[0]) if terms else ad.Zero(jax.typeof(out).to_tangent_aval())


def _transpose(kind, fam, ct, *args, layout, n_operands):
    operands, structure = args[:n_operands], args[n_operands:]
    if type(ct) is ad.Zero:
        return [None] * len(args)

    def zeros():
        return jnp.zeros((1, layout.n_post), ct.dtype)

    def outer_where(s, x, m):
        own = _own(layout, jnp.where(m, s, 0))
        return fam.outer(layout._replace(lo=0), own, x, *structure)

    pulls = {
        "scatter": (
            lambda y, s, w: ct,
            lambda y, s, w: fam.gather(layout, w, ct, *structure),
            lambda y, s, w: fam.outer(layout, s, ct, *structure),
        ),
        "gather": (
            lambda w, x: fam.outer(layout, ct, x, *structure),
            lambda w, x: fam.scatter(layout, zeros(), ct, w, *structure),
        ),
        "outer": (
            lambda s, x: fam.gather(layout, ct, x, *structure),
            lambda s, x: fam.scatter(layout, zeros(), s, ct, *structure),
        ),
        "scatter_where": (
            lambda y, s, w, m: ct,
            lambda y, s, w, m: fam.gather_where(layout, w, ct, m, *structure),
            lambda y, s, w, m: outer_where(s, ct, m),
            None,
        ),
        "gather_where": (
            lambda w, x, m: outer_where(ct, x, m),
            lambda w, x, m: fam.scatter_where(
                layout, zeros(), jnp.where(m, ct, 0), w, m, *structure
            ),
            None,
        ),
    }[kind]

    def unbatch(g, operand):
        g = g if g.shape[0] == operand.aval.shape[0] else jnp.sum(g, 0, keepdims=True)
        # On a mesh of explicit axes a cotangent lies as its primal does.
        there = operand.aval.sharding
        return jax.sharding.reshard(g, there) if any(there.spec) else g

    cts = [
        unbatch(pull(*operands), operand) if ad.is_undefined_primal(operand) else None
        for pull, operand in zip(pulls, operands, strict=True)
    ]
    if kind.startswith("scatter") and cts[0] is not None and cts[1] is not None:
        # So that what becomes of `ct` may be in its place: one row in the shape it has outside.
        shape = cts[0].shape
        cts[0] = after(jnp.squeeze(cts[0]), cts[1]).reshape(shape)
    return cts + [None] * len(structure)


def _batch(prim, args, dims, *, layout, n_operands):
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)

    def lead(a, d):
        return jnp.broadcast_to(a, (size, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)

    if any(d is not None for d in dims[n_operands:]):  # a connectivity for each example: one by one

        def one(args):
            return prim.bind(*args, layout=layout, n_operands=n_operands)

        return lax.map(one, tuple(map(lead, args, dims))), 0

    operands = [
        a[None] if d is None else jnp.moveaxis(a, d, 0)
        for a, d in zip(args[:n_operands], dims[:n_operands], strict=True)
    ]
    batch = _common(a.shape[1] for a in operands)

    def fold(a):
        if a.shape[:2] == (1, 1):
            return a[0]
        return jnp.broadcast_to(a, (size, batch, *a.shape[2:])).reshape(size * batch, *a.shape[2:])

    out = prim.bind(*map(fold, operands), *args[n_operands:], layout=layout, n_operands=n_operands)
    return out.reshape(size, batch, *out.shape[1:]), 0

"""Operators to try the kernels on, and functions of them whose kernels are replaced."""

import re
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from purebrain import ops
from purebrain.ops._family import Kernels

STEP, DT = 6, 0.5  # of delayed synapses
N_SLOTS = 4


def fixed_outdegree(rng, n_pre, n_post, weight):
    ids = rng.integers(0, n_post, (n_pre, 37)).astype(np.int32)
    return ops.FixedOutdegree(weight(ids.shape), ids, n_post)


def fixed_indegree(rng, n_pre, n_post, weight):
    ids = rng.integers(0, n_pre, (n_post, 40)).astype(np.int32)
    return ops.FixedIndegree(weight(ids.shape), ids, n_pre)


def csr(rng, n_pre, n_post, weight):
    """Rows of none to more synapses than a warp has lanes."""
    degrees = rng.integers(0, 9, n_pre)
    degrees[: n_pre // 4] = rng.integers(30, 70, n_pre // 4)
    indptr = np.append(0, np.cumsum(degrees))
    ids = rng.integers(0, n_post, indptr[-1]).astype(np.int32)
    return ops.CSR(weight(ids.shape), indptr, ids, n_post)


def jit_homogeneous(rng, n_pre, n_post, weight):
    return ops.jit_homogeneous(weight(()), 0.2, n_pre, n_post, seed=5)


def jit_uniform(rng, n_pre, n_post, weight):
    low = weight(())
    return ops.jit_uniform(low, low + 1, 0.2, n_pre, n_post, seed=6)


def jit_normal(rng, n_pre, n_post, weight):
    return ops.jit_normal(
        weight(()), jnp.asarray(0.3, weight(()).dtype), 0.2, n_pre, n_post, seed=7
    )


FORMS = {
    "fixed_outdegree": fixed_outdegree,
    "fixed_indegree": fixed_indegree,
    "csr": csr,
    "jit_homogeneous": jit_homogeneous,
    "jit_uniform": jit_uniform,
    "jit_normal": jit_normal,
}
STORED = ("fixed_outdegree", "fixed_indegree", "csr")


def make(form, per_synapse=False, dtype=jnp.float32, n_pre=70, n_post=50, tuning=None, seed=0):
    """An operator of the form, launched as `tuning` says."""
    rng = np.random.default_rng(seed)

    def weight(shape):
        return jnp.asarray(rng.normal(size=shape if per_synapse else ()), dtype)

    return ops.tuned(FORMS[form](rng, n_pre, n_post, weight), tuning)


def delayed(dtype=jnp.float32, tuning=None, seed=0):
    """Delayed synapses, their delays in steps, and the ring that they are sent to."""
    rng = np.random.default_rng(seed)
    op = make("csr", True, dtype, tuning=tuning, seed=seed)
    age = rng.integers(1, N_SLOTS + 1, op.indices.size)
    ring = jnp.asarray(rng.normal(size=N_SLOTS * op.n_post), dtype)
    return ops.DelayedCSR(op, age * DT), age, ring


def matrix(op):
    """W, by the list of synapses."""
    pre, post, weight = op.as_coo()
    w = np.zeros(op.shape)
    np.add.at(w, (pre, post), np.asarray(weight, float))
    return w


def spikes(shape, dtype=jnp.float32, share=0.3, seed=1):
    """Floats of which a share is not zero."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) * (rng.random(shape) < share), dtype)


# ---- functions with other kernels ----------------------------------------------------------------


def with_kernels(kernels: Callable[[str], Kernels], f: Callable) -> Callable:
    """`f`, with `kernels(form)` in place of those that the platform has for each form."""

    def call(*args):
        jaxpr, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        out = _evaluate(kernels, jaxpr.jaxpr, jaxpr.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return call


def _evaluate(kernels, jaxpr, consts, args):
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom):
        return atom.val if hasattr(atom, "val") else values[atom]

    for eqn in jaxpr.eqns:
        given = [read(a) for a in eqn.invars]
        name = re.fullmatch(r"purebrain_(\w+)_(scatter|gather|outer)", eqn.primitive.name)
        if name:
            kernel = partial(getattr(kernels(name[1]), name[2]), eqn.params["layout"])
            out = _call(kernel, name[2], given, eqn.params["n_operands"])
        elif "jaxpr" in eqn.params and eqn.primitive.name in ("jit", "pjit"):
            inner = eqn.params["jaxpr"]
            out = _evaluate(kernels, inner.jaxpr, inner.consts, given)
        else:
            out = eqn.primitive.bind(*given, **eqn.params)
            out = out if eqn.primitive.multiple_results else [out]
        values.update(zip(eqn.outvars, out, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _call(kernel, kind, args, n):
    # As the family calls kernels: one batch size, but for shared weights.
    batch = max(a.shape[0] for a in args[:n])
    shared = {"scatter": 2, "gather": 0, "outer": None}[kind]
    operands = [
        a if k == shared else lax.broadcast_in_dim(a, (batch, *a.shape[1:]), tuple(range(a.ndim)))
        for k, a in enumerate(args[:n])
    ]
    return [kernel(*map(jnp.asarray, [*operands, *args[n:]]))]

"""Connectivities as lists of synapses: an oracle that never asks the operator for its matrix."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jaxtyping
import numpy as np

from purebrain import ops

from . import helpers_jit

N_SLOTS = 4  # of the ring that delayed synapses are tested on
STEP, DT = 6, 0.5  # when their spikes are sent


@contextmanager
def without_type_checker() -> Iterator[None]:
    """As users run it: what the suite's type checker refuses, the code must refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


class Case(NamedTuple):
    """The synapses pre[k] -> post[k], and the operator made of them.

    For delayed synapses, `post` is the place on the ring, and `n_post` the ring's size.
    """

    n_pre: int
    n_post: int
    pre: np.ndarray
    post: np.ndarray
    shape: tuple[int, ...]  # of weights; () where the form has but one
    make: Callable  # weight -> operator
    each: Callable = lambda weight: weight  # weight -> that of each synapse, where it is no other

    def matrix(self, weight):
        """W[i, j] = sum_k weight[k] [pre[k] = i] [post[k] = j], for NumPy and for JAX weights."""
        one_hot_pre = np.eye(self.n_pre, dtype=weight.dtype)[self.pre]
        one_hot_post = np.eye(self.n_post, dtype=weight.dtype)[self.post]
        return one_hot_pre.T @ (self.each(weight).reshape(-1, 1) * one_hot_post)

    def event(self, weight, s, y):
        """y + s W, by the operator."""
        op = self.make(weight)
        if isinstance(op, ops.DelayedCSR):
            return op.send(y, s, jnp.int32(STEP), DT)
        return op.mv_add(y, s)

    def dense(self, weight, s, y):
        """y + s W, by the oracle."""
        return y + s @ self.matrix(weight)


def _all(n_pre, n_post):
    return np.indices((n_pre, n_post)).reshape(2, -1)


def dense(rng, n_pre, n_post):
    return Case(n_pre, n_post, *_all(n_pre, n_post), (n_pre, n_post), ops.Dense)


def one_to_one(rng, n, _):
    ids = np.arange(n)
    return Case(n, n, ids, ids, (n,), lambda w: ops.OneToOne(w, n))


def all_to_all(rng, n_pre, n_post):
    pre, post = _all(n_pre, n_post)
    return Case(n_pre, n_post, pre, post, (), lambda w: ops.AllToAll(w, n_pre, n_post))


def no_autapses(rng, n, _):
    pre, post = _all(n, n)[:, ~np.eye(n, dtype=bool).reshape(-1)]
    return Case(n, n, pre, post, (), lambda w: ops.AllToAll(w, n, n, autapses=False))


def fixed_outdegree(rng, n_pre, n_post):
    k = int(rng.integers(0, 6)) if n_post else 0
    ids = rng.integers(0, max(n_post, 1), (n_pre, k)).astype(np.int32)
    pre, post = np.repeat(np.arange(n_pre), k), ids.reshape(-1)
    return Case(n_pre, n_post, pre, post, ids.shape, lambda w: ops.FixedOutdegree(w, ids, n_post))


def fixed_indegree(rng, n_pre, n_post):
    k = int(rng.integers(0, 6)) if n_pre else 0
    ids = rng.integers(0, max(n_pre, 1), (n_post, k)).astype(np.int32)
    pre, post = ids.reshape(-1), np.repeat(np.arange(n_post), k)
    return Case(n_pre, n_post, pre, post, ids.shape, lambda w: ops.FixedIndegree(w, ids, n_pre))


def jit(rng, n_pre, n_post):
    """A random matrix; its synapses as NumPy draws them from the same hash."""
    seed = int(rng.integers(0, 2**32))
    pre, post = helpers_jit.synapses(seed, 0.4, n_pre, n_post)
    return Case(
        n_pre,
        n_post,
        pre,
        post,
        (),
        lambda w: ops.jit_homogeneous(w, 0.4, n_pre, n_post, seed=seed),
    )


def _of_law(make, draws, each):
    """As `jit`, of weights each(weight, draws) for a `weight` of two numbers, whichever."""

    def drawn(rng, n_pre, n_post):
        seed = int(rng.integers(0, 2**32))
        pre, post, draw = helpers_jit.synapses(seed, 0.4, n_pre, n_post, draws)
        op = make(0.0, 1.0, 0.4, n_pre, n_post, seed=seed)

        def of(weight):
            return eqx.tree_at(lambda op: op.weight, op, weight)

        return Case(n_pre, n_post, pre, post, (2,), of, lambda weight: each(weight, draw))

    return drawn


jit_uniform = _of_law(
    ops.jit_uniform, helpers_jit.uniform, lambda w, u: w[0] + (w[1] - w[0]) * (u + 2.0**-17)
)
jit_normal = _of_law(ops.jit_normal, helpers_jit.normal, lambda w, z: w[0] + w[1] * z)


def _csr(rng, n_post, degrees):
    degrees = degrees * (n_post > 0)
    pre = np.repeat(np.arange(degrees.size), degrees)
    ids = rng.integers(0, max(n_post, 1), pre.size).astype(np.int32)
    indptr = np.append(0, np.cumsum(degrees))
    return Case(
        degrees.size, n_post, pre, ids, ids.shape, lambda w: ops.CSR(w, indptr, ids, n_post)
    )


def csr(rng, n_pre, n_post):
    """Rows of 0 to 3 synapses: one slice holds each."""
    return _csr(rng, n_post, rng.integers(0, 4, n_pre))


def csr_unequal(rng, n_pre, n_post):
    """One row of 20 among rows of 0 to 3, visited in slices of 2, as rows are of which one is much
    longer."""
    degrees = rng.integers(0, 4, n_pre)
    degrees[: n_pre > 2] = 20
    case = _csr(rng, n_post, degrees)

    def make(weight):
        op = copy.copy(case.make(weight))
        if case.pre.size >= 2:
            object.__setattr__(op, "width", 2)
            object.__setattr__(op, "one_slice", False)
        return op

    return case._replace(make=make)


def delayed_csr(rng, n_pre, n_post):
    case = csr_unequal(rng, n_pre, n_post)
    age = rng.integers(1, N_SLOTS + 1, case.post.size)
    place = (STEP + age) % N_SLOTS * n_post + case.post
    return case._replace(
        n_post=N_SLOTS * n_post, post=place, make=lambda w: ops.DelayedCSR(case.make(w), age * DT)
    )


def pure_jax(form):
    """The same without native kernels."""

    def drawn(rng, n_pre, n_post):
        case, tuning = form(rng, n_pre, n_post), ops.cpu.Tuning(native=False)
        return case._replace(make=lambda w: ops.tuned(case.make(w), tuning))

    return drawn


SPARSE = (fixed_outdegree, fixed_indegree, csr, csr_unequal, delayed_csr)
ONE_WEIGHT = ("all_to_all", "no_autapses", "jit", "jit_pure_jax")
FORMS = {f.__name__: f for f in (dense, one_to_one, all_to_all, no_autapses, jit, *SPARSE)}
FORMS |= {f"{f.__name__}_pure_jax": pure_jax(f) for f in (jit, *SPARSE)}
# Random matrices of weights that are one number or two, with native kernels and without.
RANDOM = {"jit": jit, "jit_uniform": jit_uniform, "jit_normal": jit_normal}
RANDOM |= {f"{name}_pure_jax": pure_jax(form) for name, form in RANDOM.items()}
# Every form with every kind of weight that it takes.
FORMS_AND_WEIGHTS = [(form, True) for form in FORMS if form not in ONE_WEIGHT]
FORMS_AND_WEIGHTS += [(form, False) for form in FORMS if form != "dense"]

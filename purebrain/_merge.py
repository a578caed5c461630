"""Merging projections."""

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._check import concrete, instance
from ._network import Network
from ._pathway import AbstractPathway, DelayedInput, Input, PostPathway, Span
from .ops import CSR, DelayedCSR, FixedOutdegree, OneToOne, tuned


def merge(network: Network) -> Network:
    """The same network with one synaptic state a (target population, kinetics, drive), not a
    projection.

    Linear kinetics add up, so all projections onto a population that share kinetics and drive can
    share a state: `simulate(merge(net)) == simulate(net)`, to rounding. Those that also share the
    source population become one connectivity, with a delay a synapse where they differ; so state,
    compile time and the walks over spikes no longer grow with the number of projections. What is
    aligned with the pre-synaptic side, and what is alone, stays as it is. On the host; weights may
    be traced.
    """
    instance("network", network, Network)
    groups: dict[object, list[AbstractPathway]] = {}
    for k, path in enumerate(network.pathways):
        groups.setdefault(_signature(path, k), []).append(path)
    return Network(network.populations, [_unite(g) for g in groups.values()])


def _signature(path: AbstractPathway, k: int):
    """Equal for pathways that can share a synaptic state; `k` where there is no other."""
    if not isinstance(path, PostPathway):
        return k
    leaves, tree = jtu.tree_flatten((path.syn, path.drive))
    # Parameters of each target hold for its view only.
    post = path.post if any(np.ndim(leaf) for leaf in leaves) else path.post.name
    # A traced parameter is the same only if it is the same object.
    hosts = [concrete(leaf) for leaf in leaves]
    values = [
        id(leaf) if h is None else (h.shape, h.dtype.str, h.tobytes())
        for leaf, h in zip(leaves, hosts, strict=True)
    ]
    return post, tree, tuple(values)


def _is_sparse(inp: Input | DelayedInput) -> bool:
    """Whether there is a list of synapses to fuse; a dense matrix, say, stays as it is."""
    return isinstance(inp.comm, CSR | DelayedCSR | FixedOutdegree | OneToOne)


def _tuning(inp: Input | DelayedInput):
    """How kernels are launched for it; None for what has no say in that."""
    return getattr(inp.comm.csr if isinstance(inp, DelayedInput) else inp.comm, "tuning", None)


def _unite(group: list[AbstractPathway]) -> AbstractPathway:
    first = group[0]
    if len(group) == 1 or not isinstance(first, PostPathway):
        return first
    post = _hull([path.post for path in group])
    inputs: list[Input | DelayedInput] = []
    by_pre: dict[object, list[tuple[Input | DelayedInput, Span]]] = {}
    for path in group:
        for inp in path.inputs:
            if isinstance(inp, DelayedInput) or _is_sparse(inp):
                by_pre.setdefault((inp.pre.name, _tuning(inp)), []).append((inp, path.post))
            else:
                inputs.append(
                    Input(inp.pre, inp.comm, inp.delay, path.post.lo - post.lo + inp.offset)
                )
    for parts in by_pre.values():
        if len(parts) == 1 and parts[0][1] == post:
            inputs.append(parts[0][0])
        else:
            inputs.append(_fuse(parts, _hull([inp.pre for inp, _ in parts]), post))
    return PostPathway(tuple(inputs), post, first.syn, first.drive)


def _hull(spans: list[Span]) -> Span:
    """The smallest span of the population that holds all of `spans`."""
    return Span(spans[0].name, min(s.lo for s in spans), max(s.hi for s in spans))


def _fuse(
    parts: list[tuple[Input | DelayedInput, Span]], pre: Span, post: Span
) -> Input | DelayedInput:
    """One connectivity from `pre` to `post`, in place of several between views of them."""
    rows, columns, weights, delays = [], [], [], []
    for inp, view in parts:
        delayed = isinstance(inp, DelayedInput)
        i, j, w = (inp.comm.csr if delayed else inp.comm).as_coo()
        rows.append(i + (inp.pre.lo - pre.lo))
        offset = 0 if delayed else inp.offset
        columns.append(j + (view.lo - post.lo + offset))
        weights.append(w)
        delays.append(inp.comm.delays() if delayed else np.full(i.size, inp.delay))
    row, column, delay = map(np.concatenate, (rows, columns, delays))
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=pre.n))])
    csr = CSR(_weight(weights, rows, order), indptr, column[order].astype(np.int32), post.n)
    csr = tuned(csr, _tuning(parts[0][0]))
    common = {inp.delay for inp, _ in parts if isinstance(inp, Input)}
    if len(common) == 1 and all(isinstance(inp, Input) for inp, _ in parts):
        return Input(pre, csr, common.pop())
    return DelayedInput(pre, DelayedCSR(csr, delay[order]))


def _weight(weights, rows, order):
    hosts = [h for w in weights if (h := concrete(w)) is not None]
    if len(hosts) < len(weights):
        each = [jnp.broadcast_to(w, r.shape) for w, r in zip(weights, rows, strict=True)]
        return jnp.concatenate(each)[order]
    if all(h.ndim == 0 and h == hosts[0] for h in hosts):
        return weights[0]
    # On the host: there no shape needs compiling.
    each = [np.broadcast_to(h, r.shape) for h, r in zip(hosts, rows, strict=True)]
    return jnp.asarray(np.concatenate(each)[order])

"""Merging projections."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ._check import concrete
from ._network import Network
from ._projection import AtPre, Input, Pathway, View
from .ops import CSR, DelayedCSR


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
    groups: list[list[Pathway]] = []
    for path in network.pathways:
        group = next((g for g in groups if _mergeable(g[0], path)), None)
        if group is None:
            groups.append([path])
        else:
            group.append(path)
    sizes = {name: p.n for name, p in network.populations.items()}
    pathways = [g[0] if len(g) == 1 else _unite(g, sizes) for g in groups]
    return Network(network.populations, pathways)


def _mergeable(a: Pathway, b: Pathway) -> bool:
    if isinstance(a.syn, AtPre) or isinstance(b.syn, AtPre) or a.post.name != b.post.name:
        return False
    return bool(eqx.tree_equal((a.syn, a.drive), (b.syn, b.drive)))


def _unite(group: list[Pathway], sizes: dict[str, int]) -> Pathway:
    views = {path.post for path in group}
    name = group[0].post.name
    post = views.pop() if len(views) == 1 else View(name, 0, sizes[name])
    by_pre: dict[str, list[tuple[Input, View]]] = {}
    for path in group:
        for inp in path.inputs:
            by_pre.setdefault(inp.pre.name, []).append((inp, path.post))
    inputs = []
    for pre_name, parts in by_pre.items():
        if len(parts) == 1 and parts[0][1] == post:
            inputs.append(parts[0][0])
        else:
            inputs.append(_fuse(parts, View(pre_name, 0, sizes[pre_name]), post))
    return Pathway(tuple(inputs), post, group[0].syn, group[0].drive)


def _fuse(parts: list[tuple[Input, View]], pre: View, post: View) -> Input:
    """One connectivity from the whole population `pre` to `post`, in place of several between
    views."""
    rows, columns, weights, delays = [], [], [], []
    for inp, view in parts:
        delayed = isinstance(inp.comm, DelayedCSR)
        i, j, w = (inp.comm.csr if delayed else inp.comm).as_coo()
        rows.append(i + inp.pre.lo)
        columns.append(j + (view.lo - post.lo))
        weights.append(w)
        delays.append(np.asarray(inp.comm.delay, float) if delayed else np.full(i.size, inp.delay))
    row, column, delay = map(np.concatenate, (rows, columns, delays))
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=pre.n))])
    csr = CSR(_weight(weights, rows, order), indptr, column[order].astype(np.int32), post.n)
    if delay.size == 0 or (delay == delay[0]).all():
        return Input(pre, csr, float(delay[0]) if delay.size else parts[0][0].delay or 0.0)
    return Input(pre, DelayedCSR(csr, delay[order]), None)


def _weight(weights, rows, order):
    values = [concrete(w) for w in weights]
    if all(v is not None and v.ndim == 0 and v == values[0] for v in values):
        return weights[0]
    each = [jnp.broadcast_to(w, r.shape) for w, r in zip(weights, rows, strict=True)]
    return jnp.concatenate(each)[order]

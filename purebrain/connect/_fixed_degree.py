"""The same number of synapses onto, or from, each neuron."""

from typing import Any

import equinox as eqx
import numpy as np

from ..ops import CSR, FixedOutdegree
from . import _check as check
from ._sampling import draw_weight, partners, sort_by_pre


def fixed_indegree(k, weight, *, key, autapses=True, multapses=True) -> "FixedIndegreeRule":
    """Gives each post-synaptic neuron k synapses, from neurons drawn uniformly: Senk et al. (2022),
    PLoS Comput. Biol. 18, e1010086.

    **Arguments:**

    - `k`: synapses onto each neuron. (None are made where there are no pre-synaptic neurons.)
    - `weight`, `key`, `autapses`: as of `connect.fixed_prob`.
    - `multapses`: whether a pair may have several synapses.

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.CSR`.

    **Raises:** `ValueError` or `TypeError` for arguments other than these; `ValueError` of the rule
    where there are fewer than k partners and no multapses.

        >>> import jax
        >>> fixed_indegree(2, 0.5, key=jax.random.key(0))(3, 4).as_matrix().sum(axis=0).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    seed = check.seed("fixed_indegree", key)
    flags = check.flag("autapses", autapses), check.flag("multapses", multapses)
    return FixedIndegreeRule(check.count("k", k), check.weight(weight), seed, *flags)


def fixed_outdegree(k, weight, *, key, autapses=True, multapses=True) -> "FixedOutdegreeRule":
    """Gives each pre-synaptic neuron k synapses, onto neurons drawn uniformly: Senk et al. (2022),
    PLoS Comput. Biol. 18, e1010086.

    **Arguments:**

    - `k`: synapses from each neuron. (None are made where there are no post-synaptic neurons.)
    - `weight`, `key`, `autapses`: as of `connect.fixed_prob`.
    - `multapses`: whether a pair may have several synapses.

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.FixedOutdegree`.

    **Raises:** `ValueError` or `TypeError` for arguments other than these; `ValueError` of the rule
    where there are fewer than k partners and no multapses.

        >>> import jax
        >>> fixed_outdegree(2, 0.5, key=jax.random.key(0))(3, 4).as_matrix().sum(axis=1).tolist()
        [1.0, 1.0, 1.0]
    """
    seed = check.seed("fixed_outdegree", key)
    flags = check.flag("autapses", autapses), check.flag("multapses", multapses)
    return FixedOutdegreeRule(check.count("k", k), check.weight(weight), seed, *flags)


class FixedIndegreeRule(eqx.Module):
    k: int = eqx.field(static=True)
    weight: Any
    seed: tuple[int, ...] = eqx.field(static=True)
    autapses: bool = eqx.field(static=True)
    multapses: bool = eqx.field(static=True)

    def __call__(self, n_pre, n_post, same=None) -> CSR:
        n_pre, n_post = check.sizes(n_pre, n_post, same, self.autapses)
        rng = np.random.default_rng(self.seed)
        pre = partners(rng, n_post, self.k, n_pre, self.autapses, self.multapses)
        indptr, order = sort_by_pre(pre.ravel(), n_pre)
        order //= max(pre.shape[1], 1)
        return CSR(draw_weight(self.weight, rng, order.size), indptr, order, n_post)


class FixedOutdegreeRule(eqx.Module):
    k: int = eqx.field(static=True)
    weight: Any
    seed: tuple[int, ...] = eqx.field(static=True)
    autapses: bool = eqx.field(static=True)
    multapses: bool = eqx.field(static=True)

    def __call__(self, n_pre, n_post, same=None) -> FixedOutdegree:
        n_pre, n_post = check.sizes(n_pre, n_post, same, self.autapses)
        rng = np.random.default_rng(self.seed)
        post = partners(rng, n_pre, self.k, n_post, self.autapses, self.multapses)
        return FixedOutdegree(draw_weight(self.weight, rng, *post.shape), post, n_post)

"""A number of synapses, between random pairs."""

from typing import Any

import equinox as eqx
import numpy as np

from ..ops import CSR
from . import _check as check
from ._sampling import csr_of_pairs, distinct_pairs, draw_weight, in_chunks


def fixed_total_number(n, weight, *, key, autapses=True, multapses=True) -> "FixedTotalNumberRule":
    """Makes n synapses, each between a pair of neurons drawn uniformly: Senk et al. (2022), PLoS
    Comput. Biol. 18, e1010086.

    **Arguments:**

    - `n`: the number of synapses. (None are made where either side has no neurons.)
    - `weight`, `key`, `autapses`: as of `connect.fixed_prob`.
    - `multapses`: whether a pair may have several synapses.

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.CSR`.

    **Raises:** `ValueError` or `TypeError` for arguments other than these; `ValueError` of the rule
    where there are fewer than n pairs and no multapses.

        >>> import jax
        >>> fixed_total_number(5, 1.0, key=jax.random.key(0))(3, 4).as_matrix().sum().item()
        5.0
    """
    seed = check.seed("fixed_total_number", key)
    flags = check.flag("autapses", autapses), check.flag("multapses", multapses)
    return FixedTotalNumberRule(check.count("n", n), check.weight(weight), seed, *flags)


class FixedTotalNumberRule(eqx.Module):
    n: int = eqx.field(static=True)
    weight: Any
    seed: tuple[int, ...] = eqx.field(static=True)
    autapses: bool = eqx.field(static=True)
    multapses: bool = eqx.field(static=True)

    def __call__(self, n_pre, n_post, same=None) -> CSR:
        n_pre, n_post = check.sizes(n_pre, n_post, same, self.autapses)
        n = self.n if n_pre and n_post else 0
        n_pairs = n_pre * (n_post - (not self.autapses))
        check.enough("n", n, n_pairs, self.multapses)
        rng = np.random.default_rng(self.seed)
        if self.multapses:
            pairs = rng.integers(max(n_pairs, 1), size=n)
            pairs.sort()
        else:
            pairs = distinct_pairs(rng, n, n_pairs)
        indptr, indices = csr_of_pairs(in_chunks(pairs), n_pre, n_post, self.autapses)
        return CSR(draw_weight(self.weight, rng, n), indptr, indices, n_post)

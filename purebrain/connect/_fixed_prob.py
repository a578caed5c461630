"""Each pair connected with one probability, independently."""

from typing import Any

import equinox as eqx
import numpy as np

from ..ops import CSR
from ..ops._check import check_probability
from . import _check as check
from ._sampling import bernoulli, csr_of_pairs, draw_weight


def fixed_prob(p, weight, *, key, autapses=True) -> "FixedProbRule":
    """Connects each pair of neurons with probability p, independently of the others.

    Out-degrees are Binomial(n_post, p), in-degrees Binomial(n_pre, p), targets distinct. Only the
    synapses are drawn, by the gaps between them: Batagelj and Brandes (2005), Phys. Rev. E 71,
    036113.

    **Arguments:**

    - `p`: probability, in [0, 1].
    - `weight`: one number for all synapses, or a function `(rng, size) -> array[size]` that draws
      one each with a `numpy.random.Generator`.
    - `key`: a JAX PRNG key. The same key gives the same synapses, whatever the device or `weight`.
    - `autapses`: whether a neuron may connect to itself. False is for a population with itself.

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.CSR`.

    **Raises:** `ValueError` or `TypeError` for arguments other than these.

        >>> import jax
        >>> fixed_prob(1.0, 0.6, key=jax.random.key(0), autapses=False)(3, 3).as_matrix().tolist()
        [[0.0, 0.6..., 0.6...], [0.6..., 0.0, 0.6...], [0.6..., 0.6..., 0.0]]
    """
    seed, autapses = check.seed("fixed_prob", key), check.flag("autapses", autapses)
    return FixedProbRule(check_probability(p), check.weight(weight), seed, autapses)


class FixedProbRule(eqx.Module):
    p: float = eqx.field(static=True)
    weight: Any
    seed: tuple[int, ...] = eqx.field(static=True)
    autapses: bool = eqx.field(static=True)

    def __call__(self, n_pre, n_post, same=None) -> CSR:
        n_pre, n_post = check.sizes(n_pre, n_post, same, self.autapses)
        n_pairs = n_pre * (n_post - (not self.autapses))
        check.synapses(n_pairs * self.p)
        rng = np.random.default_rng(self.seed)
        pairs = bernoulli(rng, self.p, n_pairs)
        indptr, indices = csr_of_pairs(pairs, n_pre, n_post, self.autapses)
        return CSR(draw_weight(self.weight, rng, indices.size), indptr, indices, n_post)

"""Synapses as a list of pairs."""

from typing import Any

import equinox as eqx
import numpy as np

from ..ops import CSR
from . import _check as check
from ._sampling import sort_by_pre


def from_coo(pre_ids, post_ids, weight) -> "FromCOORule":
    """Connects neuron pre_ids[s] to neuron post_ids[s], for each synapse s. Duplicates add up.

    **Arguments:**

    - `pre_ids`, `post_ids`: integers, shape (n_synapses,), in any order, counted from 0 within the
      population or view.
    - `weight`: one number, or one a synapse, shape (n_synapses,), in the order of the ids.

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.CSR`, sorted by the pre-synaptic ids, and
    in the given order among equals.

    **Raises:** `ValueError` or `TypeError` for arguments other than these; `ValueError` of the rule
    for ids beyond its sizes.

        >>> from_coo([1, 0, 1], [0, 1, 0], [1.0, 2.0, 4.0])(2, 2).as_matrix().tolist()
        [[0.0, 2.0], [5.0, 0.0]]
    """
    pre_ids, post_ids = check.ids("pre_ids", pre_ids), check.ids("post_ids", post_ids)
    if pre_ids.size != post_ids.size:
        raise ValueError(
            f"pre_ids has {pre_ids.size} entries and post_ids {post_ids.size}: a synapse needs one "
            "of each, such as from_coo([0, 0], [1, 2], 0.5)."
        )
    check.synapses(pre_ids.size)
    return FromCOORule(pre_ids, post_ids, check.weights(weight, (), pre_ids.shape))


class FromCOORule(eqx.Module):
    pre_ids: np.ndarray
    post_ids: np.ndarray
    weight: Any

    def __call__(self, n_pre, n_post, same=None) -> CSR:
        n_pre, n_post = check.sizes(n_pre, n_post)
        check.below("pre_ids", self.pre_ids, n_pre)
        check.below("post_ids", self.post_ids, n_post)
        indptr, order = sort_by_pre(self.pre_ids, n_pre)
        weight = self.weight[order] if self.weight.ndim else self.weight
        return CSR(weight, indptr, self.post_ids[order], n_post)

"""Synapses as compressed sparse rows."""

from typing import Any

import equinox as eqx
import numpy as np

from ..ops import CSR
from . import _check as check


def from_csr(indptr, indices, weight) -> "FromCSRRule":
    """Connects neuron i to neurons indices[indptr[i]:indptr[i + 1]]. Duplicates add up.

    **Arguments:**

    - `indptr`: integers, shape (n_pre + 1,), ascending from 0 to n_synapses.
    - `indices`: integers, shape (n_synapses,), counted from 0 within the population or view.
    - `weight`: one number, or one a synapse, shape (n_synapses,).

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.CSR`.

    **Raises:** `ValueError` or `TypeError` for arguments other than these; `ValueError` of the rule
    for sizes that do not fit.

        >>> from_csr([0, 1, 3], [2, 0, 2], [1.0, 2.0, 4.0])(2, 3).as_matrix().tolist()
        [[0.0, 0.0, 1.0], [2.0, 0.0, 4.0]]
    """
    indptr, indices = check.integers("indptr", indptr), check.ids("indices", indices)
    check.synapses(indices.size)
    if indptr.size == 0 or indptr[0] != 0 or indptr[-1] != indices.size:
        raise ValueError(
            f"indptr={indptr}: must begin with 0 and end with {indices.size}, the number of "
            "indices, such as from_csr([0, 1, 3], [2, 0, 2], 0.5)."
        )
    drops = np.flatnonzero(np.diff(indptr) < 0)
    if drops.size:
        i = drops[0] + 1
        raise ValueError(
            f"indptr[{i}]={indptr[i]}: is below indptr[{i - 1}]={indptr[i - 1]}, and must not be; "
            "from out-degrees it is numpy.append(0, numpy.cumsum(outdegrees))."
        )
    weight = check.weights(weight, (), indices.shape)
    return FromCSRRule(indptr.astype(np.int32), indices, weight)


def from_scipy(matrix) -> "FromCSRRule":
    """Connects by a SciPy sparse matrix or array: an entry (i, j) is the weight from i to j.

    **Arguments:** `matrix`: shape (n_pre, n_post), of any sparse format.

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.CSR`.

    **Raises:** `ValueError` or `TypeError` for anything else; `ValueError` of the rule for
    sizes other than the matrix has.

        >>> import scipy.sparse
        >>> from_scipy(scipy.sparse.eye_array(2, 3))(2, 3).as_matrix().tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    from scipy.sparse import issparse

    if not issparse(matrix) or matrix.ndim != 2:
        raise TypeError(
            f"matrix: {type(matrix).__name__} of shape {np.shape(matrix)}: must be a scipy.sparse "
            "matrix of shape (n_pre, n_post); connect.dense(matrix) takes one that is not sparse."
        )
    rows = matrix.tocsr()
    rule = from_csr(rows.indptr, rows.indices, rows.data)
    return FromCSRRule(rule.indptr, rule.indices, rule.weight, rows.shape[1])


class FromCSRRule(eqx.Module):
    indptr: np.ndarray
    indices: np.ndarray
    weight: Any
    n_post: int | None = eqx.field(static=True, default=None)  # None: any that holds the indices

    def __call__(self, n_pre, n_post, same=None) -> CSR:
        n_pre, n_post = check.sizes(n_pre, n_post)
        rows, columns = self.indptr.size - 1, n_post if self.n_post is None else self.n_post
        if (rows, columns) != (n_pre, n_post):
            raise ValueError(
                f"connectivity of shape ({rows}, {columns}) between {n_pre} pre- and {n_post} "
                "post-synaptic neurons: row i must be pre-synaptic neuron i (transpose with "
                "matrix.T), and indptr must have n_pre + 1 entries."
            )
        check.below("indices", self.indices, n_post)
        return CSR(self.weight, self.indptr, self.indices, n_post)

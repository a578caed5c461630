"""A weight matrix."""

from typing import Any

import equinox as eqx

from ..ops import Dense
from . import _check as check


def dense(weight) -> "DenseRule":
    """Connects every neuron to every neuron, with a weight each.

    **Arguments:** `weight`: shape (n_pre, n_post).

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.Dense`.

    **Raises:** `ValueError` or `TypeError` for another weight; `ValueError` of the rule for
    sizes other than the matrix has.

        >>> dense([[1.0, 2.0]])(1, 2).as_matrix().tolist()
        [[1.0, 2.0]]
    """
    return DenseRule(check.weights(weight, (None, None)))


class DenseRule(eqx.Module):
    weight: Any

    def __call__(self, n_pre, n_post, same=None) -> Dense:
        return Dense(check.weights(self.weight, check.sizes(n_pre, n_post)))

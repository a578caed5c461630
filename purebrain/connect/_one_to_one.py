"""Neuron i to neuron i."""

from typing import Any

import equinox as eqx

from ..ops import OneToOne
from . import _check as check


def one_to_one(weight) -> "OneToOneRule":
    """Connects neuron i to neuron i.

    **Arguments:** `weight`: one number, or one a neuron, shape (n,).

    **Returns:** a rule: `rule(n, n)` is an `ops.OneToOne`.

    **Raises:** `ValueError` or `TypeError` for another weight; `ValueError` of the rule for two
    sizes.

        >>> one_to_one([1.0, 2.0])(2, 2).as_matrix().tolist()
        [[1.0, 0.0], [0.0, 2.0]]
    """
    return OneToOneRule(check.weights(weight, (), (None,)))


class OneToOneRule(eqx.Module):
    weight: Any

    def __call__(self, n_pre, n_post, same=None) -> OneToOne:
        n_pre, n_post = check.sizes(n_pre, n_post)
        if n_pre != n_post:
            raise ValueError(
                f"one_to_one: {n_pre} pre- and {n_post} post-synaptic neurons: needs as many on "
                f'either side, such as those of View("E")[:{min(n_pre, n_post)}].'
            )
        return OneToOne(check.weights(self.weight, (), (n_pre,)), n_pre)

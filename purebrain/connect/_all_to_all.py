"""Every neuron to every neuron."""

from typing import Any

import equinox as eqx

from ..ops import AllToAll
from . import _check as check


def all_to_all(weight, autapses=True) -> "AllToAllRule":
    """Connects every neuron to every neuron, with one weight. (For one a synapse: `connect.dense`.)

    **Arguments:** `weight`: one number; `autapses`: whether neurons connect to themselves. False is
    for a population with itself.

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.AllToAll`.

    **Raises:** `ValueError` or `TypeError` for arguments other than these.

        >>> all_to_all(0.5, autapses=False)(2, 2).as_matrix().tolist()
        [[0.0, 0.5], [0.5, 0.0]]
    """
    return AllToAllRule(check.weights(weight, ()), check.flag("autapses", autapses))


class AllToAllRule(eqx.Module):
    weight: Any
    autapses: bool = eqx.field(static=True)

    def __call__(self, n_pre, n_post, same=None) -> AllToAll:
        n_pre, n_post = check.sizes(n_pre, n_post, same, self.autapses)
        return AllToAll(self.weight, n_pre, n_post, self.autapses)

"""How an operator's kernels are launched, for a whole tree at once."""

import copy
from typing import TypeVar

import equinox as eqx
import jax.tree_util as jtu

from . import cpu, gpu, tpu

T = TypeVar("T")


def tuned(tree: T, tuning: cpu.Tuning | gpu.Tuning | tpu.Tuning | None) -> T:
    """`tree`, an operator or a network, with all operators of it launched as `tuning` says.

    **Arguments:** `tree`: any pytree; `tuning`: an `ops.cpu.Tuning`, an `ops.gpu.Tuning`, an
    `ops.tpu.Tuning`, or None for the defaults.

    **Returns:** a copy. On another platform than its own a tuning has no effect.

        >>> from purebrain import ops
        >>> op = ops.jit_homogeneous(0.5, 0.1, 10, 10, seed=1)
        >>> ops.tuned(op, ops.gpu.Tuning(deterministic=True)).tuning.deterministic
        True
    """

    def has_tuning(node):
        return isinstance(node, eqx.Module) and hasattr(type(node), "tuning")

    def replace(node):
        if has_tuning(node):
            node = copy.copy(node)
            object.__setattr__(node, "tuning", tuning)
        return node

    return jtu.tree_map(replace, tree, is_leaf=has_tuning)

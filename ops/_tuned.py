"""How an operator's kernels are launched, for a whole tree at once."""

import copy
from typing import TypeVar

import equinox as eqx
import jax.tree_util as jtu

from . import cpu, gpu, tpu
from ._check import shown

T = TypeVar("T")


def is_module(node) -> bool:
    return isinstance(node, eqx.Module)


def tuned(tree: T, tuning: cpu.Tuning | gpu.Tuning | tpu.Tuning | None) -> T:
    """`tree`, an operator or a network, with all operators of it launched as `tuning` says.

    **Arguments:** `tree`: any pytree; `tuning`: an `ops.cpu.Tuning`, `ops.gpu.Tuning` or
    `ops.tpu.Tuning`, or None for the defaults.

    **Returns:** a copy. On another platform than its own a tuning has no effect.

    **Raises:** `TypeError` for a `tree` without operators or models, and for another `tuning`.

        >>> from purebrain import ops
        >>> op = ops.jit_homogeneous(0.5, 0.1, 10, 10, seed=1)
        >>> ops.tuned(op, ops.gpu.Tuning(deterministic=True)).tuning.deterministic
        True
    """

    tunings = cpu.Tuning | gpu.Tuning | tpu.Tuning | None
    if not isinstance(tuning, tunings):
        raise TypeError(
            f"tuning: {shown(tuning)}; it must be an ops.cpu.Tuning, ops.gpu.Tuning or "
            "ops.tpu.Tuning, such as ops.cpu.Tuning(native=False), or None."
        )
    if not any(map(is_module, jtu.tree_leaves(tree, is_leaf=is_module))):
        raise TypeError(
            f"tree: {shown(tree)}; it must hold an operator or a network: tuned(op, tuning)."
        )

    def has_tuning(node):
        return is_module(node) and hasattr(type(node), "tuning")

    def replace(node):
        if has_tuning(node):
            node = copy.copy(node)
            object.__setattr__(node, "tuning", tuning)
        return node

    return jtu.tree_map(replace, tree, is_leaf=has_tuning)

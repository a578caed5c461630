"""Batches of a data set."""

from collections.abc import Callable, Iterator
from typing import Any

import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from .._check import concrete


class Batches:
    """A data set in batches, in another order for each key: what `fit` takes.

    **Arguments:**

    - `data`: a pytree of arrays with one leading axis, the samples.
    - `size`: of a batch. What is left over at the end of an epoch is left out, so that all batches
      have one shape.
    - `encode`: what makes of a batch of samples (a pytree like `data`) and a key what the loss is
      given, on the host; by default the samples themselves.

    Calling it with a key gives an epoch; from the k-th batch on with `start=k`, which costs nothing
    for those before.

    **Raises:** `ValueError` for arrays of several lengths, none, fewer samples than `size`, or
    floats that are not finite.

        >>> import jax.random as jr, numpy as np
        >>> epoch = Batches(np.arange(7), 3)(jr.key(0))
        >>> [batch.size for batch in epoch]
        [3, 3]
    """

    def __init__(
        self, data: PyTree, size: int, encode: Callable[[Any, PRNGKeyArray], Any] | None = None
    ):
        self.data, self.size, self.encode = jtu.tree_map(_finite, data), size, encode
        lengths = {a.shape[:1] for a in jtu.tree_leaves(self.data)}
        if len(lengths) != 1 or lengths == {()}:
            raise ValueError(f"data: arrays of lengths {sorted(lengths)}; they must be one.")
        ((self.samples,),) = lengths
        if not (isinstance(size, int) and 1 <= size <= self.samples):
            raise ValueError(
                f"size: {size!r}; a batch of {self.samples} samples has 1 to {self.samples}."
            )

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return self.samples // self.size

    def __call__(self, key: PRNGKeyArray, start: int = 0) -> Iterator:
        """The batches of one epoch, in an order of `key`."""
        order = np.asarray(jr.permutation(key, self.samples))
        for k in range(start, len(self)):
            rows = order[k * self.size : (k + 1) * self.size]
            batch = jtu.tree_map(lambda a, rows=rows: a[rows], self.data)
            yield batch if self.encode is None else self.encode(batch, jr.fold_in(key, k))


def _finite(a) -> np.ndarray:
    host = concrete(a)
    if host is None:
        raise TypeError("data: traced; batches are made on the host, outside jit.")
    if np.issubdtype(host.dtype, np.floating) and not np.isfinite(host).all():
        at = np.unravel_index(int(np.flatnonzero(~np.isfinite(host))[0]), host.shape)
        raise ValueError(f"data: {host[at]} at {tuple(map(int, at))}; it must be finite.")
    return host

"""Gradient descent."""

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._check import instance, one_key
from ._batches import Batches
from ._checkpoint import load_checkpoint, save_checkpoint

M = TypeVar("M")


class Fit(eqx.Module, Generic[M]):
    """What `fit` returns: `model`, the optimiser's state `opt_state`, and `losses`, one a step."""

    model: M
    opt_state: PyTree
    losses: np.ndarray

    @property
    def steps(self) -> int:
        """How many steps were made."""
        return self.losses.size


class NotFinite(FloatingPointError):
    """A loss or a gradient was infinite or NaN in step `step`; `fit` is as of before that step."""

    def __init__(self, message: str, step: int, fit: Fit):
        super().__init__(message)
        self.step, self.fit = step, fit


def fit(
    model: M,
    loss: Callable[[M, Any, PRNGKeyArray], Float[Array, ""]],
    optimiser,
    batches: Callable[[PRNGKeyArray], Iterable],
    *,
    epochs: int,
    key: PRNGKeyArray,
    trained: PyTree = eqx.is_inexact_array,
    after_epoch: Callable[[int, Fit[M]], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 100,
    resume: bool = False,
    progress: bool = False,
) -> Fit[M]:
    """Descends the gradient of a loss over the batches of some epochs.

    A loop and nothing else: the step is `optax`'s, compiled once for each shape of a batch. While
    one step runs the next batch is made.

    **Arguments:**

    - `model`: any pytree.
    - `loss`: (model, batch, key) -> a scalar; the key is another in each step.
    - `optimiser`: of optax; `optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))` clips
      gradients.
    - `batches`: key -> the batches of an epoch, such as `Batches(data, 256)`; the same ones for the
      same key.
    - `epochs`: how many in all, those before a checkpoint too.
    - `key`: for the order of samples and the loss.
    - `trained`: which leaves to change: a function of a leaf, or a tree of booleans such as
      `where_spec(model, where)`; by default all floating arrays.
    - `after_epoch`: called with the number of epochs done and the fit so far.
    - `checkpoint`: a file to write every `checkpoint_every` steps and at the end.
    - `resume`: go on from `checkpoint`, if it is there: the result is that of an unbroken run, bit
      for bit, also where it was broken within an epoch.
    - `progress`: show a progress bar (needs tqdm).

    **Returns:** a `Fit`.

    **Raises:** `NotFinite` with the step and what there was before it, when a loss or a gradient is
    infinite or NaN; `CheckpointError` for a checkpoint damaged or of another model; `ValueError`
    for an epoch without batches.

        >>> import jax, jax.numpy as jnp, optax
        >>> x = jnp.linspace(-1.0, 1.0, 64)
        >>> loss = lambda w, x, key: jnp.mean((w * x - 3.0 * x) ** 2)
        >>> batches, w = Batches(x, 16), jnp.array(0.0)
        >>> done = fit(w, loss, optax.sgd(0.5), batches, epochs=20, key=jr.key(0))
        >>> round(float(done.model), 3)
        3.0
    """
    instance("loss", loss, Callable)
    instance("batches", batches, Callable)
    if one_key(key) is None:
        raise TypeError("key: None; write key=jax.random.key(0).")
    params, static = eqx.partition(model, trained)
    if not jtu.tree_leaves(params):
        raise ValueError("trained: it picks no leaf; write where_spec(model, lambda m: m.weight).")
    state, meta = (params, optimiser.init(params)), {"losses": [], "epoch": 0, "batch": 0}
    if resume and checkpoint is not None and os.path.exists(checkpoint):
        state, meta = load_checkpoint(checkpoint, state)
    losses, first, done = meta["losses"], meta["epoch"], meta["batch"]
    k_order, k_loss = jr.split(key)

    def so_far() -> Fit[M]:
        return Fit(eqx.combine(state[0], static), state[1], np.array(losses))

    def save(epoch: int, batch: int) -> None:
        if checkpoint is not None:
            save_checkpoint(checkpoint, state, losses=losses, epoch=epoch, batch=batch)

    bar = _bar(batches, epochs, len(losses)) if progress else None
    for epoch in range(first, epochs):
        rest = _epoch(batches, jr.fold_in(k_order, epoch), done)
        batch = next(rest, _END)
        if batch is _END and done == 0:
            raise ValueError(f"batches: none in epoch {epoch}; an epoch must have at least one.")
        while batch is not _END:
            n = len(losses)
            batch = _numbers_as_arrays(batch)
            out = _step(loss, optimiser, static, state, batch, jr.fold_in(k_loss, n))
            batch = next(rest, _END)  # made while the step runs
            new, value, finite = out
            if not finite:
                raise NotFinite(
                    f"loss: {float(value)} in step {n} (epoch {epoch}, batch {done})"
                    + (", but its gradient is not finite" if np.isfinite(value) else "")
                    + ". Is the learning rate too high, or an input wrong?",
                    n,
                    so_far(),
                )
            state, done = new, done + 1
            losses.append(float(value))
            if bar is not None:
                bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)
                bar.update()
            if len(losses) % checkpoint_every == 0:
                save(epoch, done)
        done = 0
        if after_epoch is not None:
            after_epoch(epoch + 1, so_far())
    save(epochs, 0)
    if bar is not None:
        bar.close()
    return so_far()


_END = object()


def _numbers_as_arrays(batch: PyTree) -> PyTree:
    # A Python number would be a constant of the compiled code, compiled anew for every other.
    return jtu.tree_map(lambda a: jnp.asarray(a) if isinstance(a, int | float) else a, batch)


@eqx.filter_jit
def _step(loss, optimiser, static, state, batch, key):
    params, opt_state = state

    def of(params):
        return loss(eqx.combine(params, static), batch, key)

    value, grads = eqx.filter_value_and_grad(of)(params)
    updates, opt_state = optimiser.update(grads, opt_state, params)
    finite = [jnp.isfinite(a).all() for a in (value, *jtu.tree_leaves(grads))]
    return (eqx.apply_updates(params, updates), opt_state), value, jnp.array(finite).all()


def _epoch(batches, key, start: int) -> Iterator:
    if isinstance(batches, Batches):
        return batches(key, start)
    return islice(iter(batches(key)), start, None)


def _bar(batches, epochs: int, done: int):
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'purebrain[progress]'.") from error
    total = epochs * len(batches) if isinstance(batches, Sized) else None
    return tqdm(total=total, initial=done, unit="step")

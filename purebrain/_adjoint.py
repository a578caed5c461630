"""How a run is differentiated: what is kept of the way forward."""

import abc
import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax

from .solvers import PHI_1


class AbstractAdjoint(eqx.Module):
    """A loop over the steps, with its own derivative."""

    @abc.abstractmethod
    def scan(self, body: Callable, carry, length: int):
        """As `jax.lax.scan(body, carry, None, length)`."""


class Direct(AbstractAdjoint):
    """Keeps the state of every step, and recomputes a step to differentiate it: memory of reverse
    mode grows with the number of steps.

    The one for forward mode too, which keeps nothing: `jax.jvp(loss, ...)`, or `jax.jacfwd(loss)`
    in place of `jax.grad(loss)`. Its memory is that of one step a parameter however long the run,
    its time that of one run a parameter: for a few parameters. Derivatives of any order work.

        >>> import jax, purebrain as pb
        >>> def end(tau):
        ...     lif = pb.LIF(1, tau=tau)
        ...     return pb.simulate(lif, lif.init(dt=0.1), 5.0, dt=0.1, duration=9.0).state.v[0]
        >>> bool(abs(jax.jacfwd(end)(20.0) - jax.grad(end)(20.0)) < 1e-6)
        True

    Williams and Zipser (1989), Neural Computation 1 (forward mode, as real-time recurrent
    learning).
    """

    def scan(self, body, carry, length):
        return _scan(body, carry, length)


class Checkpointed(AbstractAdjoint):
    """Keeps few states and recomputes between them: memory grows with the square root of the number
    of steps, or not at all.

    By default the run is cut into blocks as long as there are blocks, and the state at the start of
    each is kept, with those of one block at a time: every step is run once more than by `Direct`.
    Forward mode and any order work. With a number of `checkpoints` these many states are kept, at
    the steps from which the least has to be run again (binomial; reverse mode only).

    **Arguments:** `checkpoints`: how many, or None.

    Griewank and Walther (2000), ACM TOMS 26; Stumm and Walther (2010), SIAM J. Sci. Comput. 32.
    """

    checkpoints: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        n = self.checkpoints
        if n is not None and not (isinstance(n, int) and n >= 1):
            raise ValueError(f"checkpoints: {n!r}; it must be at least 1, or None.")

    def scan(self, body, carry, length):
        if length == 0 or self.checkpoints is None:
            return _in_blocks(body, carry, length, block_length(length), cut=False)
        return eqxi.scan(
            body, carry, None, length=length, kind="checkpointed", checkpoints=self.checkpoints
        )


class Truncated(AbstractAdjoint):
    """Truncated backpropagation: the run is cut into blocks of `steps`, from its first step on, and
    no derivative crosses a cut.

    So it is the gradient of a program in which the state at the start of every block but the first
    is a constant (`lax.stop_gradient`): what is recorded in step n of a block depends on parameters
    and inputs through the n steps of this block only, and the state at the end of the run through
    the last block, which may be shorter. Values are those of any run; with `steps` at least the
    number of steps the gradient is exact. Forward mode and any order work.

    Each block is recomputed when it is differentiated: memory is that of `steps` steps and of one
    state a block.

    **Arguments:** `steps`: the length of a block, in steps.

    Williams and Peng (1990), Neural Computation 2: their BPTT(h; h') with h = h' = `steps`.
    """

    steps: int = eqx.field(static=True)

    def __check_init__(self):
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps: {self.steps!r}; it must be at least 1: Truncated(steps=100).")

    def scan(self, body, carry, length):
        return _in_blocks(body, carry, length, self.steps, cut=True)


def block_length(length: int) -> int:
    """About the square root, and one that leaves no shorter block, which would be compiled too."""
    root = max(1, math.isqrt(length))
    return next((k for k in range(root, 2 * root + 1) if length % k == 0), root)


def _scan(body, carry, length, kept=None):
    # A step recomputed is cheaper than its intermediate values written to memory and read again:
    # of a COBA network there are 4 times as many as states.
    step = jax.checkpoint(body, prevent_cse=False, policy=kept)
    return lax.scan(step, carry, None, length=length)


def _in_blocks(body, carry, length, steps, cut):
    """Blocks of `steps`, recomputed when they are differentiated; no derivative crosses a `cut`.

    Of the steps of one block, more than the state may be kept: what is dear to compute again.
    """
    whole, rest = divmod(length, steps)

    @partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
    def block(carry, first, n):
        if cut:
            carry = jtu.tree_map(lambda a: jnp.where(first, a, lax.stop_gradient(a)), carry)
        return _scan(body, carry, n, kept=jax.checkpoint_policies.save_only_these_names(PHI_1))

    carry, saved = lax.scan(lambda carry, k: block(carry, k == 0, steps), carry, jnp.arange(whole))
    saved = jtu.tree_map(lambda a: a.reshape(whole * steps, *a.shape[2:]), saved)
    if rest:
        carry, last = block(carry, jnp.array(whole == 0), rest)
        saved = jtu.tree_map(lambda a, b: jnp.concatenate([a, b]), saved, last)
    return carry, saved

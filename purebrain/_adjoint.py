"""How a run is differentiated: what is kept of the way forward."""

import abc
from collections.abc import Callable
from functools import partial

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax


class AbstractAdjoint(eqx.Module):
    """A loop over the steps, with its own derivative."""

    @abc.abstractmethod
    def scan(self, body: Callable, carry, length: int):
        """As `jax.lax.scan(body, carry, None, length)`."""


class Direct(AbstractAdjoint):
    """Keeps every step: memory of reverse mode grows with the number of steps.

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
        return lax.scan(body, carry, None, length=length)


class Checkpointed(AbstractAdjoint):
    """Keeps `checkpoints` states and recomputes between them (binomial; reverse mode only).

    **Arguments:** `checkpoints`: how many; by default about the square root of the number of steps.

    Griewank and Walther (2000), ACM TOMS 26; Stumm and Walther (2010), SIAM J. Sci. Comput. 32.
    """

    checkpoints: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        n = self.checkpoints
        if n is not None and not (isinstance(n, int) and n >= 1):
            raise ValueError(f"checkpoints: {n!r}; it must be at least 1, or None.")

    def scan(self, body, carry, length):
        if length == 0:
            return Direct().scan(body, carry, length)
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
        whole, rest = divmod(length, self.steps)

        @partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
        def block(carry, first, n):
            cut = jtu.tree_map(lambda a: jnp.where(first, a, lax.stop_gradient(a)), carry)
            return lax.scan(body, cut, None, length=n)

        carry, saved = lax.scan(
            lambda carry, k: block(carry, k == 0, self.steps), carry, jnp.arange(whole)
        )
        saved = jtu.tree_map(lambda a: a.reshape(whole * self.steps, *a.shape[2:]), saved)
        if rest:
            carry, last = block(carry, jnp.array(whole == 0), rest)
            saved = jtu.tree_map(lambda a, b: jnp.concatenate([a, b]), saved, last)
        return carry, saved

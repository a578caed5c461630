"""How a run is differentiated in reverse: what is kept of the way forward."""

import abc
from collections.abc import Callable

import equinox as eqx
import equinox.internal as eqxi
from jax import lax


class AbstractAdjoint(eqx.Module):
    """A loop over the steps, with its own reverse mode."""

    @abc.abstractmethod
    def scan(self, body: Callable, carry, length: int):
        """As `jax.lax.scan(body, carry, None, length)`."""


class Direct(AbstractAdjoint):
    """Keeps every step: memory grows with the number of steps. Forward mode and any order work."""

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

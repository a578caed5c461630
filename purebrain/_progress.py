"""A progress bar for compiled runs."""

from collections.abc import Callable

import jax
from jax import lax


def progress_hook(length: int) -> Callable:
    """A function to call with the number of each step; it moves a tqdm bar about a hundred
    times."""
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'purebrain[progress]'.") from error
    every = max(1, length // 100)
    return _Hook(tqdm, length, every)


class _Hook:
    # Equal hooks hash alike, so that a second run of the same length is not compiled again.
    def __init__(self, tqdm, length, every):
        self.tqdm, self.length, self.every, self.bar = tqdm, length, every, None

    def __hash__(self):
        return hash((_Hook, self.length))

    def __eq__(self, other):
        return isinstance(other, _Hook) and other.length == self.length

    def __call__(self, n):
        def show(_):
            jax.debug.callback(self._show, n, ordered=False)

        last = n == self.length - 1
        lax.cond((n % self.every == 0) | last, show, lambda _: None, None)

    def _show(self, n):
        n = int(n) + 1
        if self.bar is None or n < self.bar.n:
            self.bar = self.tqdm(total=self.length, unit="step", leave=True)
        self.bar.update(n - self.bar.n)
        if n == self.length:
            self.bar.close()
            self.bar = None

"""Warnings that are shown once."""

import warnings
from functools import cache


@cache  # JAX forgets which warnings were shown
def say_once(message: str) -> None:
    """Warns, but not of what it warned of before."""
    warnings.warn(message, stacklevel=2)


def say_xla(why: str) -> None:
    """Warns, once, that `why` a product is left to XLA."""
    say_once(
        f"{why}: without an event kernel every synapse is visited in every step, spikes or not."
    )

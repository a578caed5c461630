"""What the examples share: timing, figures, pictures and errors on the command line."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import jax

T = TypeVar("T")


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every example has."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    p.add_argument("--seed", type=int, default=0, help="of connectivity and initial values")
    p.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    p.add_argument("--plot", type=Path, metavar="FILE", help="save a picture there (.png, .pdf)")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def whole(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """What `run()` returns, once it is there, and the seconds it took."""
    start = time.perf_counter()
    out = jax.block_until_ready(run())
    return out, time.perf_counter() - start


def peak_rss_mb() -> float:
    """The most memory that this process has held, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2), 1)


def show(figures: Mapping[str, object], as_json: bool) -> None:
    """Prints figures as one line of JSON, or as a table."""
    if as_json:
        print(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        text = f"{value:,}" if type(value) is int else str(value)
        print(f"{name:<{width}}  {text}")


def save_figure(figure, path: Path, as_json: bool) -> None:
    """Saves a matplotlib figure, and says where."""
    figure.savefig(path, dpi=150)
    print(f"saved {path}", file=sys.stderr if as_json else sys.stdout)


def main(run: Callable[[argparse.Namespace], None], p: argparse.ArgumentParser) -> None:
    """Parses and runs; an error in an argument ends with one clear line and exit status 2."""
    args = p.parse_args()
    try:
        run(args)
    except (ArithmeticError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        print(f"{p.prog}: error: {text}", file=sys.stderr)
        raise SystemExit(2) from error

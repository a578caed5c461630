"""What the benchmarks of the paper share: processes on one core, clocks, summaries.

A product is timed warm, on one core, by the CPU time of the process (on a shared machine the wall
time is also that of others), on inputs that vary from call to call, and beside purebrain's own by
turns, so that both meet the same weather. Peers are optional: one that is not installed is a row
that says what to install.
"""

import argparse
import importlib
import itertools
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

sys.path.insert(0, str(Path(__file__).parents[1]))
import _cli  # pyright: ignore[reportMissingImports]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_CORE = dict.fromkeys(THREADS, "1") | {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "0",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
TURNS = 16  # inputs that host functions are given in turn
SPAN = 0.05  # s, of one repeat

Run = Callable[[int], object]  # computes n products; returns the last, of s itself where n = 1
Product = Callable[[jax.Array], Run]  # takes the first input s


# ---- products ------------------------------------------------------------------------------------


def optional(module: str, package: str) -> Any:
    """A peer's module, or an ImportError that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"not installed: pip install {package}") from error


def in_jax(product: Callable, matrix: Any = None) -> Product:
    """`product(matrix, s)` in a compiled loop.

    The loop carries the input, which moves by one place in each turn and depends on the result, and
    the whole result: nothing can be hoisted, left out or computed in part.
    """

    @jax.jit
    def loop(matrix, s, n):
        def turn(_, carry):
            s, _ = carry
            y = product(matrix, s)
            moved, never = jnp.roll(s, 1), y[0] > 1e30
            return (moved ^ never if s.dtype == bool else jnp.where(never, 0.0, moved)), y

        return lax.fori_loop(0, n, turn, (s, jnp.zeros(s.shape, jnp.float32)))[1]

    return lambda s: lambda n: jax.block_until_ready(loop(matrix, s, n))


def in_turn(product: Callable, prepare: Callable) -> Product:
    """`product` of numpy, scipy or torch, on inputs that were prepared before, in turn."""

    def of(s):
        inputs = [prepare(np.roll(np.asarray(s), k)) for k in range(TURNS)]

        def run(n):
            for k in range(n):
                y = product(inputs[k % TURNS])
            return y

        return run

    return of


# ---- clocks --------------------------------------------------------------------------------------


def cpu_us(run: Run, n: int) -> float:
    """CPU time of one of `n` products, us."""
    start = time.process_time()
    run(n)
    return (time.process_time() - start) / n * 1e6


def calls(run: Run) -> int:
    """How many products take about `SPAN`; `run` is warm."""
    once = cpu_us(run, 1)
    if once < SPAN * 1e4:
        once = cpu_us(run, 20)
    return max(1, min(100_000, int(SPAN * 1e6 / max(once, 0.1))))


def beside(run: Run, reference: Run, repeats: int) -> dict[str, float]:
    """The median time of `run`, warm, and the median of its ratios to `reference`, by turns."""
    n, n_reference = calls(run), calls(reference)
    if max(n, n_reference) == 1:  # long enough to be exact
        repeats = min(repeats, 2)
    pairs = [(cpu_us(run, n), cpu_us(reference, n_reference)) for _ in range(repeats)]
    us = statistics.median(mine for mine, _ in pairs)
    ratio = statistics.median(mine / other for mine, other in pairs)
    return {"us": round(us, 3), "ratio": round(ratio, 3) if run is not reference else 1.0}


# ---- processes -----------------------------------------------------------------------------------


def work(script: str, job: Mapping[str, object], silence: float) -> Iterator[dict]:
    """The rows that `script --job JOB` prints, from a process of its own on one core.

    A process that fails, or prints nothing for `silence` seconds, ends with a row {"note": why}.
    """
    process = subprocess.Popen(
        [sys.executable, script, "--job", json.dumps(job)],
        env=os.environ | ONE_CORE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []

    def listen():
        for line in process.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True).start()
    try:
        while (line := lines.get(timeout=silence)) is not None:
            if line.startswith("{"):
                yield json.loads(line)
        if process.wait():
            last = next((text.strip() for text in reversed(errors) if text.strip()), "")
            yield {"note": f"failed with status {process.returncode}: {last}"}
    except queue.Empty:
        yield {"note": f"ended after {silence:g} s without a result"}
    finally:
        process.kill()
        process.wait()


def one_core() -> None:
    """Binds this process to one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def tell(**row: object) -> None:
    """Prints a row for the process that waits for it."""
    print(json.dumps(row), flush=True)


def collect(
    script: str, jobs: Iterable[dict], total: int, rows: list[dict], args: argparse.Namespace
) -> None:
    """Adds the rows of all jobs to `rows`, with a progress bar of `total` methods; what a job that
    ended early left out are rows too."""
    from tqdm import tqdm

    with tqdm(total=total, disable=args.quiet or args.json, unit="method") as bar:
        for job in jobs:
            left = dict.fromkeys(job["methods"])
            for row in work(script, job, 60 + 2 * args.limit):
                if "method" in row:
                    rows.append(row)
                    bar.update(row["method"] in left)
                    left.pop(row["method"], None)
                else:
                    rows += [{"method": m, "n": job["n"], "p": job["p"], **row} for m in left]
            bar.update(len(left))


# ---- the command line ----------------------------------------------------------------------------


def options(description: str) -> argparse.ArgumentParser:
    """The options of both benchmarks."""
    p = _cli.parser(description)
    p.add_argument("--quick", action="store_true", help="small sizes, within half a minute")
    p.add_argument("--sizes", type=_cli.whole, nargs="+", metavar="N", help="numbers of neurons")
    p.add_argument("--probs", type=float, nargs="+", metavar="P", help="connection probabilities")
    p.add_argument("--fractions", type=float, nargs="+", metavar="F", help="of neurons that spike")
    p.add_argument("--methods", nargs="+", metavar="NAME", help="only these, beside purebrain's")
    p.add_argument("--memory", type=float, default=8.0, metavar="GB", help="skip what needs more")
    p.add_argument("--limit", type=float, default=20.0, metavar="S", help="of a method at one size")
    p.add_argument("--repeats", type=_cli.whole, default=3, help="the median of which is taken")
    p.add_argument("--job", help=argparse.SUPPRESS)
    return p


def check(args: argparse.Namespace, methods: Sequence[str]) -> None:
    """Refuses numbers out of range, and methods that there are not."""
    for name in ("probs", "fractions"):
        for value in getattr(args, name):
            if not 0 < value <= 1:
                raise ValueError(f"--{name}: {value}; it must be above 0 and at most 1.")
    for name in ("memory", "limit"):
        if not 0 < getattr(args, name) < float("inf"):
            raise ValueError(f"--{name}: {getattr(args, name)}; it must be finite and above 0.")
    for name in args.methods or ():
        if name not in methods:
            raise ValueError(f"--methods: {name!r}; they are {', '.join(map(repr, methods))}.")


def summary(rows: Sequence[dict], keys: Sequence[str]) -> list[dict]:
    """For each method (and product) the least, median and greatest ratio to its reference, and
    where the least is, by `keys`; `notes` are what kept it from being measured."""
    names = dict.fromkeys((row["method"], row.get("product")) for row in rows)
    out = []
    for method, product in names:
        mine = [r for r in rows if (r["method"], r.get("product")) == (method, product)]
        timed = [r for r in mine if "ratio" in r]
        line = {"method": method} | ({"product": product} if product else {})
        if timed:
            least = min(timed, key=lambda r: r["ratio"])
            line |= {
                "least": least["ratio"],
                "median": round(statistics.median(r["ratio"] for r in timed), 3),
                "most": max(r["ratio"] for r in timed),
                "least_at": {key: least[key] for key in keys if key in least},
            }
        where: dict[str, list[str]] = {}
        for row in (row for row in mine if "note" in row):
            where.setdefault(row["note"], []).append(f"N = {row['n']}, p = {row['p']:g}")
        line["notes"] = [f"{note} ({'; '.join(dict.fromkeys(at))})" for note, at in where.items()]
        if timed or where:
            out.append(line)
    return out


def table(lines: Sequence[dict]) -> None:
    """Prints a summary."""
    names = ["  ".join((line["method"], line.get("product", ""))) for line in lines]
    title = "time / purebrain's time"
    width = max(map(len, [title, *names]))
    titles = " ".join(f"{title:>9}" for title in ("least", "median", "most"))
    print(f"{title:<{width}} {titles}  least at")
    for name, line in zip(names, lines, strict=True):
        texts = list(line["notes"])
        if "least" in line:
            at = ", ".join(f"{key} = {value}" for key, value in line["least_at"].items())
            figures = " ".join(f"{line[key]:>9.3g}" for key in ("least", "median", "most"))
            texts.insert(0, f"{figures}  {at}")
        for k, text in enumerate(texts):
            print(f"{name if k == 0 else '':<{width}} {text}")


def show(rows: Sequence[dict], keys: Sequence[str], args: argparse.Namespace) -> None:
    """Prints the summary as a table, or all rows and the summary as one line of JSON."""
    lines = summary(rows, keys)
    if args.json:
        print(json.dumps({"rows": rows, "summary": lines}))
    else:
        table(lines)


Points = list[tuple[int, float]]


def figure(
    panels: Sequence[Sequence[tuple[str, Mapping[str, Points]]]],
    styles: Mapping[str, Mapping[str, object]],
    sizes: Sequence[int],
) -> Any:
    """Log-log panels, by rows: each a title, and for every method (N, value)."""
    import matplotlib.pyplot as plt

    shape = len(panels), len(panels[0])
    size = (3.4 * shape[1] + 2.2, 3.3 * shape[0])
    fig, axes = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for ax, (title, lines) in zip(axes.flat, itertools.chain(*panels), strict=True):
        for name, points in lines.items():
            ax.loglog(*zip(*points, strict=True), label=name, ms=4, **styles[name])
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("neurons N")
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes], fontsize=8)
        ax.set_xticks([], minor=True)
        ax.grid(alpha=0.3)
    found = [ax.get_legend_handles_labels() for ax in axes.flat]
    handles = {n: h for lines in found for h, n in zip(*lines, strict=True)}
    names = [name for name in styles if name in handles]
    fig.legend([handles[name] for name in names], names, loc="outside right center", fontsize=8)
    return fig


def points(rows: Sequence[dict], value: str, scale: float, **where: object) -> dict[str, Points]:
    """(N, value * scale) of every method, of the rows that have `value` and are as `where` says."""
    out: dict[str, Points] = {}
    for row in rows:
        if value in row and all(row.get(key) == v for key, v in where.items()):
            out.setdefault(row["method"], []).append((row["n"], row[value] * scale))
    return out

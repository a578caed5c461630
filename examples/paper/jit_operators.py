"""Random connectivity that is never stored: time and peak memory, against the paper's alternatives.

N neurons project onto N, each pair with probability p. Four products: of spikes and of numbers,
forwards (s W, x W) and transposed (W s, W x). A method has a process of its own, whose peak memory
is read before purebrain's operator of the same law is made there to be timed beside it. Every
library draws its own matrix: up to 2,000 neurons products are checked against it as the library
shows it (`error`), and always the number of synapses they see against p (`density`, about 1).

Wang et al. (2024), A differentiable brain simulator, ICLR: figure 3 (N and p are chosen here).
"""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import _bench
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _bench import _cli, in_jax, optional

import purebrain as pb

LAWS = {"homogeneous": (1.0,), "uniform": (0.5, 1.5), "normal": (1.0, 0.1)}  # all of mean 1
SHOWN = 2_000  # neurons up to which matrices are made dense


class Operator(NamedTuple):
    """`left(matrix, v)` = v W and `right(matrix, v)` = W v, for booleans and floats."""

    left: Callable[[Any, jax.Array], jax.Array]
    right: Callable[[Any, jax.Array], jax.Array]
    matrix: Any
    dense: Callable[[], jax.Array]


# ---- methods: (law, n, p, seed) -> Operator ------------------------------------------------------


def _of_purebrain(op) -> Operator:
    return Operator(lambda op, v: op.mv(v), lambda op, v: op.mv_t(v), op, op.as_matrix)


def purebrain(law, n, p, seed):
    make = getattr(pb.ops, f"jit_{law}")
    return _of_purebrain(make(*LAWS[law], p, n, n, seed=seed))


def brainpylib(outdim_parallel):
    def make(law, n, p, seed):
        from purebrain.ops import brainpylib as binary

        make = getattr(binary, {"homogeneous": "prob_homo"}.get(law, f"prob_{law}"))
        return _of_purebrain(make(*LAWS[law], p, n, n, seed=seed, outdim_parallel=outdim_parallel))

    return make


def brainevent(corder):
    def make(law, n, p, seed):
        be = optional("brainevent", "brainevent")
        kind = {"homogeneous": "Scalar"}.get(law, law.title())
        matrix = getattr(be, f"JITC{kind}R")((*LAWS[law], p, seed), shape=(n, n), corder=corder)

        def events(v):
            return be.BinaryArray(v) if v.dtype == bool else v

        def left(_, v):
            return events(v) @ matrix

        def right(_, v):
            return matrix @ events(v)

        # A matrix follows events on one side only. One that does so on its right is taken for W^T.
        if corder:
            return Operator(left, right, None, matrix.todense)
        return Operator(right, left, None, lambda: matrix.todense().T)

    return make


def stored(law, n, p, seed):
    low, high = LAWS[law]

    def draw(rng, size):
        return rng.random(size, np.float32) * np.float32(high - low) + np.float32(low)

    return _of_purebrain(pb.connect.fixed_prob(p, draw, key=jr.key(seed))(n, n))


def _matmul(w: Any, dense: Callable) -> Operator:
    return Operator(
        lambda w, v: v.astype(jnp.float32) @ w, lambda w, v: w @ v.astype(jnp.float32), w, dense
    )


def jax_dense(law, n, p, seed):
    w = stored(law, n, p, seed).dense()
    return _matmul(w, lambda: w)


def jax_bcoo(law, n, p, seed):
    from jax.experimental.sparse import BCOO

    pre, post, weight = stored(law, n, p, seed).matrix.as_coo()
    pairs = jnp.asarray(np.stack([pre, post], 1))
    w = BCOO((weight, pairs), shape=(n, n), indices_sorted=True, unique_indices=True)
    return _matmul(w, w.todense)


class Method(NamedTuple):
    """How it is made, for which laws, and the memory it needs."""

    make: Callable[[str, int, float, int], Operator]
    laws: Sequence[str] = tuple(LAWS)
    per_synapse: int = 0  # bytes
    per_pair: int = 0  # bytes


METHODS = {
    "purebrain": Method(purebrain),
    "brainevent, corder=True": Method(brainevent(True)),
    "brainevent, corder=False": Method(brainevent(False)),
    "brainpylib": Method(brainpylib(True)),
    "brainpylib, atomic": Method(brainpylib(False)),
    "purebrain CSR": Method(stored, ("uniform",), 20),
    "JAX BCOO": Method(jax_bcoo, ("uniform",), 40),
    "JAX dense": Method(jax_dense, ("uniform",), 20, 9),
}
QUICK = ("brainevent, corder=True", "brainevent, corder=False", "brainpylib", "JAX BCOO")
PRODUCTS = ("s W", "x W", "W s", "W x")


# ---- measuring -----------------------------------------------------------------------------------


def measure(n, p, seed, methods, laws, products, fractions, repeats, skip) -> None:
    """Tells the peak memory of one method at one size, then a row for each law and product."""
    (name,) = methods
    method = METHODS[name]
    here = {"method": name, "n": n, "p": p}
    rng = np.random.default_rng(seed)
    spikes = {f: jnp.asarray(rng.random(n) < f) for f in fractions}
    numbers = {1.0: jnp.asarray(rng.random(n, np.float32))}
    laws = [law for law in laws if law in method.laws]
    products = {law: [one for one in products if f"{law} {one}" not in skip] for law in laws}
    try:
        for law in laws:  # memory is to be without the library's own, nor its compiler's
            small = method.make(law, 100, p, seed)
            for product in products[law]:
                v = jnp.ones(100, bool if "s" in product else jnp.float32)
                _loop(small, product)(v)(1)
    except ImportError as error:
        _bench.tell(**here, note=str(error))
        return
    before = _cli.peak_rss_mb()
    runs = []
    for law in laws:
        operator = method.make(law, n, p, seed)
        w = np.asarray(operator.dense(), np.float64) if n <= SHOWN else None
        for product in products[law]:
            loop = _loop(operator, product)
            for f, v in (spikes if "s" in product else numbers).items():
                run = loop(v)
                row = {"law": law, "product": product, "fraction": f}
                runs.append((here | row | _checks(product, run(1), v, p, w), run, v))
    peak = _cli.peak_rss_mb()
    if runs:
        _bench.tell(**here, peak_rss_mb=peak, memory_mb=round(peak - before, 1))
    ours = {law: purebrain(law, n, p, seed) for law in laws}
    for row, run, v in runs:
        reference = run if name == "purebrain" else _loop(ours[row["law"]], row["product"])(v)
        reference(1)
        _bench.tell(**row, **_bench.beside(run, reference, repeats))


def _loop(operator: Operator, product: str) -> _bench.Product:
    return in_jax(operator.left if product.endswith("W") else operator.right, operator.matrix)


def _checks(product, y, v, p, w) -> dict:
    """How far y is from the product with the matrix as it is shown, and its size against p."""
    y, v = np.asarray(y, np.float64), np.asarray(v, np.float64)
    row = {"density": float(f"{y.mean() / max(v.sum(), 1) / p:.4g}")}
    if w is not None:
        right = v @ w if product.endswith("W") else w @ v
        row["error"] = float(f"{np.abs(y - right).max() / max(right.max(), 1.0):.2g}")
    return row


def jobs(args: argparse.Namespace, rows: list[dict]):
    """One job a method and size, by size; rows of what is skipped are added here."""
    keys = ("seed", "laws", "products", "fractions", "repeats")
    same = {key: getattr(args, key) for key in keys}
    for p in args.probs:
        for n in args.sizes:
            for name in args.methods:
                method = METHODS[name]
                need = (method.per_synapse * p + method.per_pair) * n * n / 1e9
                if need > args.memory:
                    note = f"skipped: it needs about {need:.2g} GB"
                    rows.append({"method": name, "n": n, "p": p, "note": note})
                    continue
                skip = _too_long(rows, name, n, p, args.limit / 4)
                note = f"skipped: one call would take more than {args.limit / 4:g} s"
                for what in skip:
                    law, product = what.split(" ", 1)
                    row = {"method": name, "n": n, "p": p, "law": law, "product": product}
                    rows.append(row | {"note": note})
                yield same | {"n": n, "p": p, "methods": [name], "skip": skip}


def _too_long(rows, name, n, p, most) -> list[str]:
    """Laws and products of which one call of the method, or of purebrain's beside it, would take
    more than `most` seconds, by their times at the size before."""
    seconds = {}
    for row in rows:
        if "us" in row and row["method"] in (name, "purebrain") and row["n"] < n:
            synapses = (n / row["n"]) ** 2 * p / row["p"]
            key = f"{row['law']} {row['product']}", row["method"]
            seconds[key] = row["us"] * synapses / 1e6
    return list(dict.fromkeys(what for (what, _), s in seconds.items() if s > most))


STYLES = {
    "purebrain": {"color": "black", "lw": 2, "marker": "o"},
    "brainevent, corder=True": {"color": "tab:red", "marker": "o"},
    "brainevent, corder=False": {"color": "tab:red", "marker": "s", "ls": "--"},
    "brainpylib": {"color": "tab:purple", "marker": "o"},
    "brainpylib, atomic": {"color": "tab:purple", "marker": "s", "ls": "--"},
    "purebrain CSR": {"color": "black", "ls": "--", "marker": "^"},
    "JAX BCOO": {"color": "tab:blue", "marker": "^"},
    "JAX dense": {"color": "tab:blue", "marker": "x", "ls": "-."},
}


def run(args: argparse.Namespace) -> None:
    if args.job:
        _bench.one_core()
        measure(**json.loads(args.job))
        return
    args.sizes = args.sizes or ([4_000] if args.quick else [10_000, 100_000, 1_000_000])
    args.probs = args.probs or ([0.01] if args.quick else [0.01, 0.1])
    args.fractions = args.fractions or [0.01]
    args.laws = args.laws or ["uniform"]
    args.products = args.products or (["s W", "W x"] if args.quick else list(PRODUCTS))
    _bench.check(args, list(METHODS))
    chosen = args.methods or (QUICK if args.quick else METHODS)
    args.methods = [name for name in METHODS if name in chosen or name == "purebrain"]
    rows: list[dict] = []
    total = len(args.sizes) * len(args.probs) * len(args.methods)
    _bench.collect(__file__, jobs(args, rows), total, rows, args)
    _bench.show(rows, ("n", "p", "law"), args)
    if not args.json:
        memory = {(r["method"], r["n"], r["p"]): r["memory_mb"] for r in rows if "memory_mb" in r}
        print("\npeak memory of the operator and its four products, compiled, MB")
        for (name, n, p), mb in memory.items():
            print(f"{name:<26} N {n:>9,}  p {p:<6g} {mb:>9,.0f}")
    if args.plot:
        law = "uniform" if "uniform" in args.laws else args.laws[0]
        figure = _bench.figure(panels(rows, law, args), STYLES, args.sizes)
        _cli.save_figure(figure, args.plot, args.json)


def panels(rows, law, args):
    """Time of every product and peak memory, a row of panels a probability."""
    out = []
    for p in args.probs:
        out.append([("peak memory (MB)", _bench.points(rows, "memory_mb", 1.0, p=p))])
        for product in args.products:
            f = args.fractions[0] if "s" in product else 1.0
            where = {"p": p, "law": law, "product": product, "fraction": f}
            title = f"{product}: CPU time (ms), p = {p:g}"
            out[-1].append((title, _bench.points(rows, "us", 1e-3, **where)))
    return out


if __name__ == "__main__":
    parser = _bench.options(__doc__ or "")
    parser.add_argument("--laws", nargs="+", choices=LAWS, help="of the weights (default: uniform)")
    parser.add_argument(
        "--products", nargs="+", choices=PRODUCTS, metavar="P", help="some of s W, x W, W s, W x"
    )
    _cli.main(run, parser)

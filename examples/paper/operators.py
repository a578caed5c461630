"""Event-driven products y_j = sum_i s_i W_ij of stored matrices, against the paper's alternatives.

N neurons project onto N, each pair with probability p (or each neuron onto K = p N), and a fraction
of them spikes. Methods with one reference hold the same matrix and compute the same products, which
numpy checks; each is timed beside its reference, purebrain's operator.

Wang et al. (2024), A differentiable brain simulator, ICLR: figure 2 (N and p are chosen here).
"""

import argparse
import ctypes
import functools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _bench
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _bench import Product, _cli, in_jax, in_turn, optional

import purebrain as pb

C_LOOP = Path(__file__).parents[2] / "tests" / "benchmarks" / "event_scatter.c"


class Matrix(NamedTuple):
    """The synapses by rows, arrays that all methods share, or W itself as `weight`."""

    n: int
    weight: Any
    indices: Any
    indptr: Any


# ---- matrices ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def bernoulli(n: int, p: float, seed: int) -> Matrix:
    """Each pair with probability p; all weights 1."""
    op = pb.connect.fixed_prob(p, 1.0, key=jr.key(seed))(n, n)
    return Matrix(n, jnp.ones((1,), jnp.float32), op.indices, op.indptr)


@functools.lru_cache(maxsize=1)
def weighted(n: int, p: float, seed: int) -> Matrix:
    """The same synapses, with weights uniform in [0.5, 1.5)."""
    m = bernoulli(n, p, seed)
    weight = np.random.default_rng(seed).random(m.indices.size, np.float32)
    weight += np.float32(0.5)
    return m._replace(weight=jnp.asarray(weight))


@functools.lru_cache(maxsize=1)
def transposed(n: int, p: float, seed: int) -> Matrix:
    """The weighted matrix by columns, for methods that only gather."""
    t = _scipy(weighted(n, p, seed)).T.tocsr()
    return Matrix(n, t.data, t.indices, t.indptr)


@functools.lru_cache(maxsize=1)
def dense(n: int, p: float, seed: int) -> Matrix:
    """The weighted matrix with all its zeros."""
    m = weighted(n, p, seed)
    w = np.zeros((n, n), np.float32)
    starts, columns, weight = map(np.asarray, (m.indptr, m.indices, m.weight))
    for i in range(n):
        row = slice(starts[i], starts[i + 1])
        w[i, columns[row]] = weight[row]
    return m._replace(weight=jnp.asarray(w))


@functools.lru_cache(maxsize=1)
def fixed(n: int, p: float, seed: int) -> Matrix:
    """K = p N synapses from each neuron; all weights 1."""
    k = max(1, round(p * n))
    op = pb.connect.fixed_outdegree(k, 1.0, key=jr.key(seed))(n, n)
    indptr = jnp.arange(n + 1, dtype=jnp.int32) * k
    return Matrix(n, jnp.ones((1,), jnp.float32), op.indices.reshape(-1), indptr)


def _scipy(m: Matrix):
    sparse = optional("scipy.sparse", "scipy")
    return sparse.csr_matrix(_csr(m), shape=(m.n, m.n))


def _csr(m: Matrix) -> tuple[np.ndarray, ...]:
    return tuple(map(np.asarray, (m.weight, m.indices, m.indptr)))


# ---- methods -------------------------------------------------------------------------------------


def _floats(s):
    return s.astype(np.float32)


def _mv(op, s):
    return op.mv(s)


def _matvec(matrix, s):
    return matrix @ s.astype(jnp.float32)


def _vecmat(matrix, s):
    return s.astype(jnp.float32) @ matrix


def purebrain_csr(m: Matrix) -> Product:
    weight = m.weight if m.weight.size > 1 else m.weight[0]
    return in_jax(_mv, pb.ops.CSR(weight, m.indptr, m.indices, m.n))


def purebrain_fixed(m: Matrix) -> Product:
    return in_jax(_mv, pb.ops.FixedOutdegree(m.weight[0], m.indices.reshape(m.n, -1), m.n))


def purebrain_dense(m: Matrix) -> Product:
    return in_jax(_mv, pb.ops.Dense(m.weight))


def c_loop(m: Matrix) -> Product:
    library = _c_library()
    loop = library.scatter_each if m.weight.size > 1 else library.scatter_one
    weight, indices, indptr = _csr(m)
    y = np.empty(m.n, np.float32)

    def of(s):
        spikes = np.stack([np.roll(np.asarray(s), k) for k in range(_bench.TURNS)])

        def run(calls):
            sizes = (calls, _bench.TURNS, m.n, m.n)
            arrays = (spikes, indptr, indices, weight, y)
            loop(*map(ctypes.c_long, sizes), *(ctypes.c_void_p(a.ctypes.data) for a in arrays))
            return y

        return run

    return of


@functools.cache
def _c_library():
    if not C_LOOP.is_file():
        raise ImportError(f"{C_LOOP.name} is in purebrain's repository alone")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "event_scatter.so"
        flags = ["-O3", "-march=native", "-shared", "-fPIC"]
        try:
            subprocess.run(["cc", *flags, "-o", library, C_LOOP], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ImportError("no C compiler: install one that `cc` runs") from error
        return ctypes.CDLL(str(library))


def jax_dense(m: Matrix) -> Product:
    return in_jax(_vecmat, m.weight)


def jax_bcoo(m: Matrix) -> Product:
    from jax.experimental.sparse import BCOO

    _, columns, starts = _csr(m)
    pre = np.repeat(np.arange(m.n, dtype=np.int32), np.diff(starts))
    pairs = jnp.asarray(np.stack([pre, columns], 1))
    w = BCOO((m.weight, pairs), shape=(m.n, m.n), indices_sorted=True, unique_indices=True)
    return in_jax(_vecmat, w)


def jax_bcsr(t: Matrix) -> Product:
    from jax.experimental.sparse import BCSR

    weight, indices, indptr = map(jnp.asarray, _csr(t))
    return in_jax(_matvec, BCSR((weight, indices, indptr), shape=(t.n, t.n)))


def scipy_csr(t: Matrix) -> Product:
    matrix = _scipy(t)
    return in_turn(lambda v: matrix @ v, _floats)


def scipy_rows(m: Matrix) -> Product:
    matrix = _scipy(m)

    def product(s):
        rows = matrix[np.flatnonzero(s)]
        return np.bincount(rows.indices, rows.data, minlength=m.n)

    return in_turn(product, np.asarray)


def torch_csr(t: Matrix) -> Product:
    torch = optional("torch", "torch")
    weight, indices, indptr = map(torch.from_numpy, _csr(t))
    matrix = torch.sparse_csr_tensor(indptr, indices, weight, (t.n, t.n), check_invariants=False)
    return in_turn(lambda v: matrix @ v, lambda s: torch.from_numpy(_floats(s)))


def torch_dense(m: Matrix) -> Product:
    torch = optional("torch", "torch")
    w = torch.from_dlpack(m.weight)
    return in_turn(lambda v: v @ w, lambda s: torch.from_numpy(_floats(s)))


def brainevent_csr(m: Matrix) -> Product:
    be = _brainevent()
    return _of_brainevent(be.CSR((m.weight, m.indices, m.indptr), shape=(m.n, m.n)))


def brainevent_fixed(m: Matrix) -> Product:
    be = _brainevent()
    indices = m.indices.reshape(m.n, -1)
    return _of_brainevent(be.FixedNumPerPre((m.weight, indices), shape=(m.n, m.n)))


def brainevent_dense(m: Matrix) -> Product:
    return _of_brainevent(m.weight)


def _brainevent():
    return optional("brainevent", "brainevent")


def _of_brainevent(matrix) -> Product:
    be = _brainevent()
    # Its first use must not be inside a trace, of which it would keep arrays.
    jax.block_until_ready(be.BinaryArray(jnp.zeros(matrix.shape[0], bool)) @ matrix)
    return in_jax(lambda matrix, s: be.BinaryArray(s) @ matrix, matrix)


class Method(NamedTuple):
    """How a product is made, of which matrix, the operator that it is measured against, and the
    memory it needs with all that is held beside it."""

    build: Callable[[Matrix], Product]
    matrix: Callable[[int, float, int], Matrix]
    reference: str
    per_synapse: int = 10  # bytes
    per_pair: int = 0  # bytes


CSR, ONE, FIXED, DENSE = (
    "purebrain CSR",
    "purebrain CSR, one weight",
    "purebrain fixed out-degree",
    "purebrain dense",
)
METHODS = {
    CSR: Method(purebrain_csr, weighted, CSR),
    "C loop": Method(c_loop, weighted, CSR),
    "brainevent CSR": Method(brainevent_csr, weighted, CSR, 18),
    "scipy rows": Method(scipy_rows, weighted, CSR, 12),
    "JAX BCOO": Method(jax_bcoo, weighted, CSR, 32),
    "scipy CSR": Method(scipy_csr, transposed, CSR, 20),
    "torch CSR": Method(torch_csr, transposed, CSR, 20),
    "JAX BCSR": Method(jax_bcsr, transposed, CSR, 28),
    ONE: Method(purebrain_csr, bernoulli, ONE),
    "C loop, one weight": Method(c_loop, bernoulli, ONE),
    "brainevent CSR, one weight": Method(brainevent_csr, bernoulli, ONE, 14),
    FIXED: Method(purebrain_fixed, fixed, FIXED, 14),
    "C loop, fixed out-degree": Method(c_loop, fixed, FIXED, 14),
    "brainevent fixed out-degree": Method(brainevent_fixed, fixed, FIXED, 18),
    DENSE: Method(purebrain_dense, dense, DENSE, 9, 6),
    "JAX dense": Method(jax_dense, dense, DENSE, 9, 6),
    "torch dense": Method(torch_dense, dense, DENSE, 9, 6),
    "brainevent dense": Method(brainevent_dense, dense, DENSE, 9, 10),
}


# ---- measuring -----------------------------------------------------------------------------------


def measure(n: int, p: float, seed: int, fractions, methods, memory, limit, repeats) -> None:
    """Tells a row for each method and fraction at one size."""
    rng = np.random.default_rng(seed)
    inputs = {f: rng.random(n) < f for f in fractions}
    references: dict[str, dict] = {}
    for name in methods:
        method = METHODS[name]
        need = (method.per_synapse * p + method.per_pair) * n * n / 1e9
        if need > memory:
            _bench.tell(method=name, n=n, p=p, note=f"skipped: it needs about {need:.2g} GB")
            continue
        for maker in (transposed, fixed, dense):
            if maker is not method.matrix:
                maker.cache_clear()
        try:
            product = method.build(method.matrix(n, p, seed))
        except ImportError as error:
            _bench.tell(method=name, n=n, p=p, note=str(error))
            continue
        runs = {f: product(jnp.asarray(s)) for f, s in inputs.items()}
        if name == method.reference:
            references[name] = runs
        start = time.perf_counter()
        for f, run in runs.items():
            right = expected(method.matrix, n, p, seed, inputs[f].tobytes())
            error = np.abs(np.asarray(run(1)) - right).max() / max(right.max(), 1.0)
            if time.perf_counter() - start > limit:
                note = f"stopped after {limit:g} s, before fraction {f:g}"
                _bench.tell(method=name, n=n, p=p, note=note)
                break
            figures = _bench.beside(run, references[method.reference][f], repeats)
            row = {"method": name, "reference": method.reference, "n": n, "p": p, "fraction": f}
            _bench.tell(**row, **figures, error=float(f"{error:.2g}"))
        del product, runs, run  # with the arrays, before the next method's


@functools.cache
def expected(matrix, n: int, p: float, seed: int, spikes: bytes) -> np.ndarray:
    """The product by numpy, in float64."""
    made = matrix if matrix in (bernoulli, fixed) else weighted
    weight, indices, indptr = _csr(made(n, p, seed))
    rows = np.flatnonzero(np.frombuffer(spikes, bool))
    synapses = [slice(indptr[i], indptr[i + 1]) for i in rows]
    targets = np.concatenate([indices[k] for k in synapses] or [indices[:0]])
    if weight.size == 1:
        return np.bincount(targets, minlength=n) * float(weight[0])
    return np.bincount(targets, np.concatenate([weight[k] for k in synapses] or [[]]), n)


def style(name: str) -> dict:
    """Colours tell the package, marks and dashes the form of the matrix."""
    colours = {"purebrain": "black", "C": "grey", "brainevent": "tab:red", "scipy": "tab:green"}
    colours |= {"torch": "tab:orange", "JAX": "tab:blue"}
    forms = {"fixed": ("s", "--"), "one": ("v", ":"), "dense": ("x", "-."), "CSR": ("o", "-")}
    marker, line = next((form for key, form in forms.items() if key in name), ("^", "-"))
    width = 2 if name.startswith("purebrain") else 1
    return {"color": colours[name.split()[0]], "marker": marker, "ls": line, "lw": width}


def run(args: argparse.Namespace) -> None:
    if args.job:
        _bench.one_core()
        measure(**json.loads(args.job))
        return
    args.sizes = args.sizes or ([4_000] if args.quick else [2_000, 6_000, 20_000, 60_000])
    args.probs = args.probs or ([0.01] if args.quick else [0.01, 0.1])
    args.fractions = args.fractions or [0.001, 0.01, 0.1]
    _bench.check(args, list(METHODS))
    methods = [
        name
        for name, method in METHODS.items()
        if not args.methods or name in args.methods or name == method.reference
    ]
    same = {key: getattr(args, key) for key in ("seed", "fractions", "memory", "limit", "repeats")}
    jobs = [same | {"n": n, "p": p, "methods": methods} for p in args.probs for n in args.sizes]
    rows: list[dict] = []
    _bench.collect(__file__, jobs, sum(len(job["methods"]) for job in jobs), rows, args)
    _bench.show(rows, ("n", "p", "fraction"), args)
    if args.plot:
        panels = [
            [
                (
                    f"CPU time (ms), p = {p:g}, {f:g} spiking",
                    _bench.points(rows, "us", 1e-3, p=p, fraction=f),
                )
                for f in args.fractions
            ]
            for p in args.probs
        ]
        figure = _bench.figure(panels, {name: style(name) for name in METHODS}, args.sizes)
        _cli.save_figure(figure, args.plot, args.json)


if __name__ == "__main__":
    _cli.main(run, _bench.options(__doc__ or ""))

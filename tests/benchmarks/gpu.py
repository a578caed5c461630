"""Everything to know about the operators on a GPU, in one command: python -m tests.benchmarks.gpu

First numerics: every form of connectivity, precision and transform against the dense product in
double precision, and random matrices bit for bit against those of the CPU. What differs or cannot
run is printed as failed, the rest goes on, and the exit status is 1. Then the time of one product
of packed spikes with each connectivity, and its share of the memory bandwidth limit: the time to
read the synapses of the spiking neurons, read and write their targets and read the spikes once, at
the bandwidth measured here by a copy. Beside it the peers: XLA's scatter over all synapses, the
dense product, `jax.experimental.sparse`, cuSPARSE through CuPy, brainevent. Last COBA-LIF end to
end.

`--smoke` runs all of it on any machine at toy sizes, to see that it runs: not a timing of a GPU.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import purebrain as pb
from purebrain import ops
from purebrain.ops.gpu import Tuning
from purebrain.ops.xla import _csr as xla_csr

K = 80  # synapses a neuron
DT = 0.1  # ms
N_PATTERNS = 16  # of spikes, by turns: a loop over one could be done once
SLOTS, STEP = 4, 6  # of the ring of delayed synapses, and when its spikes are sent


# ---- numerics ------------------------------------------------------------------------------------


def operators(n: int, dtype, rng) -> dict[str, ops.AbstractOperator]:
    """Every form that has a kernel of its own, n neurons to n."""
    k = min(K, n)
    ids = rng.integers(0, n, (n, k)).astype(np.int32)
    indptr = np.arange(0, n * k + 1, k)
    one, each = jnp.asarray(0.5, dtype), jnp.asarray(rng.normal(size=(n, k)), dtype)
    out = {}
    for name, w in (("one weight", one), ("weights", each)):
        out[f"fixed out-degree, {name}"] = ops.FixedOutdegree(w, ids, n)
        out[f"fixed in-degree, {name}"] = ops.FixedIndegree(w, ids, n)
        out[f"CSR, {name}"] = ops.CSR(w.reshape(-1 if w.ndim else ()), indptr, ids.reshape(-1), n)
    return out | random_matrices(k / n, n, n, dtype)


def random_matrices(p: float, n_pre: int, n_post: int, dtype) -> dict[str, ops.AbstractOperator]:
    """One of each law, of numbers whose products round."""
    a, b, c = (jnp.asarray(value, dtype) for value in (-0.3, 0.5, 0.7))
    return {
        "JIT, one weight": ops.jit_homogeneous(b, p, n_pre, n_post, seed=1),
        "JIT, uniform": ops.jit_uniform(a, c, p, n_pre, n_post, seed=1),
        "JIT, normal": ops.jit_normal(a, c, p, n_pre, n_post, seed=1),
    }


def with_weight(op, w):
    """The operator of another weight."""
    return eqx.tree_at(lambda op: op.weight, op, w)


def synapses(op) -> tuple[np.ndarray, ...]:
    """(pre, post, weight), as the CPU lists them."""
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        pre, post, weight = jax.device_put(op, cpu).as_coo()
    return pre, post, np.asarray(weight)


def matrix_of(op) -> Callable:
    """weight -> W in double precision; of delayed synapses, to the places of their ring."""
    delayed = isinstance(op, ops.DelayedCSR)
    pre, post, _ = synapses(op.csr if delayed else op)
    n_pre, n_post = op.shape
    if delayed:
        age = np.rint(op.delays() / DT).astype(int)
        post, n_post = (STEP + age) % SLOTS * n_post + post, SLOTS * n_post
    drawn = []
    if isinstance(op, ops.JIT) and op.weight.ndim:  # W is linear in its two numbers
        drawn = [synapses(with_weight(op, unit))[2] for unit in jnp.eye(2, dtype=jnp.float64)]

    def matrix(w):
        each = w[0] * drawn[0] + w[1] * drawn[1] if drawn else w.reshape(-1)
        return jnp.zeros((n_pre, n_post), jnp.float64).at[pre, post].add(each)

    return matrix


# Products y + s W and y + W s, by an operator and by a matrix.
FLOATS = lambda w, s, y: y + s @ w  # noqa: E731
PACKED = lambda w, s, y: y + (s != 0).astype(y.dtype) @ w  # noqa: E731
WAYS = {
    "floats": (lambda op, s, y: op.mv_add(y, s), FLOATS),
    "packed": (lambda op, s, y: op.mv_add(y, ops.pack(s != 0)), PACKED),
    "transposed": (lambda op, s, y: y + op.mv_t(s), lambda w, s, y: y + w @ s),
}
DELAYED_WAYS = {
    "floats": (lambda op, s, y: op.send(y, s, jnp.int32(STEP), DT), FLOATS),
    "packed": (lambda op, s, y: op.send(y, ops.pack(s != 0), jnp.int32(STEP), DT), PACKED),
}


class Product(NamedTuple):
    """Two functions of (weight, s, y) that should be one, and arguments."""

    form: str
    way: str
    by_operator: Callable
    by_matrix: Callable
    args: tuple


def all_products(n: int, dtype, rng) -> Iterator[Product]:
    """Every form in every way."""
    made: dict = operators(n, dtype, rng)
    for name in ("CSR, one weight", "CSR, weights"):
        csr = made[name]
        delay = DT * rng.integers(1, SLOTS + 1, csr.indices.size)
        made[f"delayed {name}"] = ops.DelayedCSR(csr, delay)
    # All above 0: sums that cancel have no digits in half precision.
    s = jnp.asarray(rng.uniform(0.5, 1.5, n) * (rng.random(n) < 0.2), dtype)
    y = jnp.asarray(rng.uniform(0.5, 1.5, n), dtype)
    for name, op in made.items():
        delayed, matrix = isinstance(op, ops.DelayedCSR), matrix_of(op)
        args = op.weight, s, jnp.concatenate([y] * SLOTS) if delayed else y
        for way, (product, dense) in (DELAYED_WAYS if delayed else WAYS).items():

            def by_operator(w, s, y, op=op, product=product):
                return product(with_weight(op, w), s, y)

            def by_matrix(w, s, y, matrix=matrix, dense=dense):
                return dense(matrix(w), s, y)

            yield Product(name, way, by_operator, by_matrix, args)


def loss(f):
    """A number whose derivatives by f are of f."""
    return lambda *args: jnp.mean((1 + f(*args) / 2) * f(*args))


def gradients(f):
    return jax.grad(loss(f), (0, 1, 2))


def jvp(f):
    return lambda *args: jax.jvp(f, args, tuple(map(jnp.cos, args)))


def batched(f, axes=(None, 0, 0)):
    """f for three values of each argument that has an axis."""

    def call(*args):
        some = [
            a if axis is None else jnp.stack([a, 2 * a, -a])
            for a, axis in zip(args, axes, strict=True)
        ]
        return jax.vmap(f, axes)(*some)

    return call


def scan(f):
    """The gradients through three steps of a network of rates."""

    def last(w, s, y):
        def step(y, _):
            return 0.5 * f(w, 0.1 * jnp.tanh(s * y[: s.size]), y), None

        return jax.lax.scan(step, y, None, length=3)[0]

    return gradients(last)


FEW = {"value": lambda f: f, "gradients": gradients}
TRANSFORMS = FEW | {
    "jvp": jvp,
    "Hessian times a vector": lambda f: jvp(gradients(f)),
    "vmap": batched,
    "vmap over weights": lambda f: batched(f, (0, 0, 0)),
    "vmap of gradients": lambda f: batched(gradients(f)),
    "scan": scan,
}
LIMITS = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 6e-2, "float16": 1e-2}


def checked(what: str, dtype: str, got: Callable, want: Callable, limit: float) -> dict:
    """The largest error of any leaf, as a share of its largest value; or why there is none."""
    row: dict = {"what": what, "dtype": dtype, "error": None, "ok": False}
    try:
        leaves = zip(jax.tree.leaves(got()), jax.tree.leaves(want()), strict=True)
        # NumPy's: Python's loses a NaN that is not the first.
        worst = float(np.max([error_of(np.asarray(a), np.asarray(b)) for a, b in leaves]))
    except Exception as error:  # the others are tried nonetheless
        return row | {"note": note(error)}
    if not np.isfinite(worst):
        return row | {"note": "not finite"}
    return row | {"error": worst, "ok": worst <= limit}


def error_of(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of a from b, as a share of the largest of b."""
    if a.shape != b.shape:
        raise ValueError(f"shape {a.shape}, not {b.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if np.array_equal(a, b):
        return 0.0
    return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-300))


def note(error: Exception) -> str:
    """The first line of an error."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]}"


def numerics(n: int, dtypes) -> Iterator[dict]:
    """The error of each product and derivative."""
    for dtype in dtypes:
        rng, limit = np.random.default_rng(0), LIMITS[dtype]
        for product in all_products(n, dtype, rng):
            few = product.way == "packed" or jnp.dtype(dtype).itemsize < 4
            wide = [a.astype(jnp.float64) for a in product.args]
            for name, transform in (FEW if few else TRANSFORMS).items():
                got = partial(jax.jit(transform(product.by_operator)), *product.args)
                want = partial(transform(product.by_matrix), *wide)
                what = f"{product.form}, {product.way}, {name}"
                yield checked(what, dtype, got, want, limit)
        for name, op in operators(n, dtype, rng).items():
            yield checked(f"{name}, deterministic", dtype, *in_one_order(op, rng), limit)
        for name, p, n_post in (("", 0.1, n), (" in bands", 1 / 64, 2**14 + 100)):
            for law, op in random_matrices(p, n, n_post, dtype).items():
                for use, both in same_bits(op, rng).items():
                    yield checked(f"{law}{name}, bits, {use}", dtype, *both, limit=0.0)
    for name, op in operators(n, jnp.float64, np.random.default_rng(0)).items():
        yield checked(f"{name}, LIF network", "float64", *network_gradients(op), limit=1e-10)


def in_one_order(op, rng) -> tuple[Callable, Callable]:
    """Products whose sums have an order, which are the same bits each time; and by the matrix."""
    fixed = ops.tuned(op, Tuning(deterministic=True))
    s = jnp.asarray(rng.uniform(0.5, 1.5, (3, op.n_pre)) * (rng.random(op.n_pre) < 0.2), op.dtype)

    def got():
        product = jax.jit(lambda s: fixed.mm(s))
        a, b = (np.asarray(product(s)) for _ in range(2))
        if a.tobytes() != b.tobytes():
            raise ValueError("two calls give other bits")
        return a

    return got, lambda: s.astype(jnp.float64) @ matrix_of(op)(op.weight.astype(jnp.float64))


def same_bits(op, rng) -> dict[str, tuple[Callable, Callable]]:
    """A random matrix row by row and column by column, and as the CPU lists its synapses."""
    some = rng.choice(op.n_post, min(op.n_post, 64), replace=False)
    rows = jnp.eye(op.n_pre, dtype=op.dtype)
    columns = jnp.zeros((some.size, op.n_post), op.dtype).at[np.arange(some.size), some].set(1)
    fixed = ops.tuned(op, Tuning(deterministic=True))

    @cache
    def want():
        pre, post, weight = synapses(op)
        w = np.zeros(op.shape)
        w[pre, post] = weight
        return w

    return {
        "floats": (lambda: jax.jit(lambda s: op.mm(s))(rows), want),
        "packed": (lambda: jax.jit(lambda s: op.mm(ops.pack(s != 0)))(rows), want),
        "deterministic": (lambda: jax.jit(lambda s: fixed.mm(s))(rows), want),
        "transposed": (lambda: jax.jit(lambda x: op.mm_t(x))(columns), lambda: want()[:, some].T),
    }


def network_gradients(op) -> tuple[Callable, Callable]:
    """The rate of a network that spikes and its gradients by weights and drive, of the operator and
    of its matrix."""
    drive = jnp.linspace(20.0, 100.0, op.n_pre, dtype=jnp.float64)
    matrix = matrix_of(op)

    def rate(connect, w, drive):
        rule = lambda *_, **__: connect(w)  # noqa: E731
        synapses = pb.Projection("N", "N", rule, pb.Exponential(5.0), pb.Current(), DT)
        net = pb.cast(pb.Network({"N": pb.LIF(op.n_pre)}, [synapses]), "float64")
        run = pb.simulate(net, net.init(dt=DT), {"N": drive}, dt=DT, duration=10.0)
        return jnp.mean(run.saved["N"])

    def of(connect):
        value_and_grad = jax.jit(jax.value_and_grad(partial(rate, connect), (0, 1)))
        return partial(value_and_grad, op.weight, drive)

    return of(lambda w: with_weight(op, w)), of(lambda w: ops.Dense(matrix(w)))


# ---- time ----------------------------------------------------------------------------------------


def seconds(run: Callable, repeats: int) -> float:
    """The median time of a call, after one that compiles."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def copy_bandwidth(n_bytes: int, repeats: int) -> float:
    """Bytes a second that a copy reads and writes."""
    a = jnp.zeros(n_bytes // 4, jnp.float32)
    return 2 * a.nbytes / seconds(partial(jax.jit(lambda a: a + 1), a), repeats)


def step_seconds(product: Callable, patterns, n_post: int, steps: int, repeats: int) -> float:
    """The time of one `product(y, s)` -> y of many in a loop on the device."""

    @jax.jit
    def run(patterns):
        def step(i, y):
            s = jax.tree.map(lambda a: a[i % N_PATTERNS], patterns)
            return product(y, s)

        return jax.lax.fori_loop(0, steps, step, jnp.zeros(n_post, jnp.float32))

    return seconds(partial(run, patterns), repeats) / steps


def limit_bytes(op, n: int, spiking: float) -> float:
    """What has to move: of each event its synapses, and its targets twice; and the spikes."""
    stored = 0 if isinstance(op, ops.JIT) else 4 + 4 * bool(op.weight.ndim)
    return spiking * n * K * (stored + 8) + n / 8


def products(n: int, share: float, steps: int, repeats: int, bandwidth: float) -> list[dict]:
    """The time of one product, of purebrain's operators and of the peers."""
    rng = np.random.default_rng(0)
    spikes = rng.random((N_PATTERNS, n)) < share
    packed, floats = ops.pack(jnp.asarray(spikes)), jnp.asarray(spikes, jnp.float32)
    made = operators(n, jnp.float32, rng)
    csr = made["CSR, weights"]
    spiking = spikes.mean()
    rows = []

    def measure(name, op, time_of: Callable, peer=False):
        row: dict = {"what": name, "neurons": n, "spiking": share}
        try:
            s = time_of()
        except Exception as error:  # a peer may be absent, or cannot: the row says so
            row |= {"note": note(error), "ok": peer}
        else:
            row["us"] = s * 1e6
            row["percent"] = 100 * limit_bytes(op, n, spiking) / bandwidth / s
        rows.append(row)

    for name, op in made.items():
        for tuning in (None, Tuning(deterministic=True)):
            product = ops.tuned(op, tuning).mv_add
            label = f"{name}, deterministic" if tuning else name
            measure(label, op, partial(step_seconds, product, packed, n, steps, repeats))
    measure(
        "CSR, weights, floats", csr, partial(step_seconds, csr.mv_add, floats, n, steps, repeats)
    )
    for name, product in peers(csr).items():
        measure(name, csr, partial(product, floats, steps, repeats), peer=True)
    return rows


def peers(csr: ops.CSR) -> dict[str, Callable]:
    """Peers: (float spikes, steps, repeats) -> seconds of a product with the same synapses."""
    n = csr.n_post

    def loop(product):
        return lambda s, steps, repeats: step_seconds(product, s, n, steps, repeats)

    def xla(y, s):
        args = (csr.layout, y[None], s[None], csr.weight[None], csr.indptr, csr.indices)
        return xla_csr.KERNELS.scatter(*args)[0]

    def dense(s, steps, repeats):
        if n > 40_000:
            raise MemoryError(f"a dense matrix of {4 * n * n / 1e9:.0f} GB")
        w = csr.as_matrix()
        return step_seconds(lambda y, s: y + s @ w, s, n, steps, repeats)

    def bcoo(s, steps, repeats):
        from jax.experimental import sparse

        rows = np.repeat(np.arange(n), np.diff(np.asarray(csr.indptr))).astype(np.int32)
        indices = jnp.stack([jnp.asarray(rows), csr.indices], -1)
        m = sparse.BCOO((csr.weight, indices), shape=(n, n), indices_sorted=True)
        return step_seconds(lambda y, s: y + s @ m, s, n, steps, repeats)

    def cusparse(s, steps, repeats):
        import cupy
        from cupyx.scipy import sparse

        arrays = (np.asarray(a) for a in (csr.weight, csr.indices, csr.indptr))
        transposed = sparse.csr_matrix(tuple(map(cupy.asarray, arrays)), shape=(n, n)).T.tocsr()
        patterns = cupy.asarray(np.asarray(s))

        def run():
            for i in range(steps):
                transposed @ patterns[i % N_PATTERNS]
            cupy.cuda.Device().synchronize()
            return 0.0

        return seconds(run, repeats) / steps

    def brainevent(s, steps, repeats):
        import brainevent

        m = brainevent.CSR((csr.weight, csr.indices, csr.indptr), shape=(n, n))
        binary = getattr(brainevent, "BinaryArray", None) or brainevent.EventArray
        return step_seconds(lambda y, s: y + binary(s != 0) @ m, s, n, steps, repeats)

    return {
        "XLA scatter": loop(xla),
        "dense product": dense,
        "jax.experimental.sparse": bcoo,
        "cuSPARSE (CuPy)": cusparse,
        "brainevent": brainevent,
    }


def networks(sizes, duration: float, repeats: int) -> list[dict]:
    """COBA-LIF end to end: microseconds a step."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    import coba_lif

    rows = []
    for n in sizes:
        try:
            rows.append(_network(coba_lif, n, duration, repeats))
        except Exception as error:
            rows.append({"what": "COBA-LIF", "neurons": n, "note": note(error), "ok": False})
    return rows


def _network(coba_lif, n, duration, repeats):
    net = pb.cast(pb.inference_mode(coba_lif.build(n, DT, jr.key(0))), "float32")
    state = net.init(dt=DT, key=jr.key(1))

    def run():
        return pb.simulate(net, state, {"N": 20.0}, dt=DT, duration=duration).saved["N"]

    us = seconds(run, repeats) / (duration / DT) * 1e6
    rate = float(run().count().sum()) / n / duration * 1e3
    return {"what": f"COBA-LIF, {rate:.1f} Hz", "neurons": n, "us": us}


# ---- the table -----------------------------------------------------------------------------------


def show(rows: list[dict]) -> None:
    """One table: what, neurons, share of them spiking, time, share of the bandwidth limit."""
    print(f"\n{'':44}{'neurons':>10}{'spiking':>9}{'us':>12}{'% of limit':>12}")
    for row in rows:
        line = f"{row['what']:44}{row['neurons']:10,}"
        line += f"{row['spiking']:9.2%}" if "spiking" in row else " " * 9
        failed = "" if row.get("ok", True) else "FAILED: "
        line += f"{row['us']:12.2f}" if "us" in row else f"  {failed}{row['note']}"
        print(line + (f"{row['percent']:12.1f}" if "percent" in row else ""))


def options() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    p.add_argument("--smoke", action="store_true", help="toy sizes, on any machine: no timing")
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    p.add_argument("--neurons", type=int, nargs="+", default=[4_000, 40_000, 400_000, 4_000_000])
    p.add_argument("--repeats", type=int, default=7)
    return p


def main(args: argparse.Namespace) -> int:
    """Runs all; the exit status."""
    device = jax.devices()[0]
    if device.platform != "gpu" and not args.smoke:
        print(f"no GPU: JAX runs on {device.platform}; --smoke tries it without.", file=sys.stderr)
        return 2
    say = (lambda *_, **__: None) if args.json else print
    try:
        jax.devices("cpu")
    except RuntimeError:
        print("no CPU beside the GPU: set JAX_PLATFORMS=cuda,cpu.", file=sys.stderr)
        return 2
    sizes, steps, duration, copied = args.neurons, 200, 200.0, 1 << 30
    if args.smoke:
        sizes, steps, duration, copied, args.repeats = [20], 3, 1.0, 1 << 16, 1
        say("SMOKE TEST: toy sizes; no figure here is a timing of a GPU.")
    say(f"{device.device_kind}, jax {jax.__version__}")
    errors = []
    # The time is that of single precision, and of JAX as it is by default.
    with jax.enable_x64(True):
        for row in numerics(16, ["float64"]) if args.smoke else numerics(1000, LIMITS):
            errors.append(row)
            if not row["ok"]:
                why = row.get("note") or f"error {row['error']:.1e}"
                say(f"  FAILED: {row['dtype']:9} {row['what']}: {why}", flush=True)
    wrong = sum(not row["ok"] for row in errors)
    say(f"numerics: {len(errors)} products and derivatives, {wrong} failed")
    bandwidth = copy_bandwidth(copied, args.repeats)
    say(f"a copy moves {bandwidth / 1e9:,.0f} GB/s")
    rows = []
    for n in sizes:
        for share in (0.1,) if args.smoke else (0.001, 0.01):
            rows += products(n, share, steps, args.repeats, bandwidth)
    rows += networks(sizes, duration, args.repeats)
    if args.json:
        figures = {
            "smoke": args.smoke,
            "device": device.device_kind,
            "jax": jax.__version__,
            "copy_gb_per_s": bandwidth / 1e9,
            "numerics": errors,
            "rows": rows,
        }
        print(json.dumps(figures))
    else:
        show(rows)
    return 0 if all(row.get("ok", True) for row in errors + rows) else 1


if __name__ == "__main__":
    sys.exit(main(options().parse_args()))

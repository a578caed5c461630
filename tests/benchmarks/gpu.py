"""Everything to know about the operators on a GPU, in one command: python -m tests.benchmarks.gpu

First numerics: every form of connectivity, precision and transform against NumPy's dense product;
a difference ends it with exit status 1. Then the time of one product of packed spikes with each
connectivity, and its share of the memory bandwidth limit: the time to read the synapses of the
spiking neurons, read and write their targets and read the spikes once, at the bandwidth measured
here by a copy. Beside it the peers: XLA's scatter over all synapses, the dense product,
`jax.experimental.sparse`, cuSPARSE through CuPy, brainevent. Last COBA-LIF end to end.

`--smoke` runs all of it on any machine at toy sizes, to see that it runs: not a timing of a GPU.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

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
    p, zero = k / n, jnp.zeros((), dtype)
    out["JIT, one weight"] = ops.jit_homogeneous(one, p, n, n, seed=1)
    out["JIT, uniform"] = ops.jit_uniform(zero, one, p, n, n, seed=1)
    out["JIT, normal"] = ops.jit_normal(one, one, p, n, n, seed=1)
    return out


def matrix(op) -> np.ndarray:
    """W by the list of synapses, in double precision."""
    pre, post, weight = op.as_coo()
    w = np.zeros(op.shape)
    np.add.at(w, (pre, post), np.asarray(weight, np.float64))
    return w


LIMITS = {"float32": 2e-6, "bfloat16": 4e-2, "float16": 4e-3}


def numerics(n: int, dtypes) -> list[dict]:
    """The largest error of each product and derivative, as a share of the largest value."""
    rng = np.random.default_rng(0)
    rows = []
    for dtype in dtypes:
        for name, op in operators(n, dtype, rng).items():
            s = jnp.asarray(rng.normal(size=(3, n)) * (rng.random((3, n)) < 0.2), dtype)
            x, w = jnp.asarray(rng.normal(size=(3, n)), dtype), matrix(op)
            wide, values = np.asarray(s, np.float64), np.asarray(x, np.float64)
            fixed = ops.tuned(op, Tuning(deterministic=True))
            twice = [np.asarray(jax.jit(lambda s, o=fixed: o.mm(s))(s)) for _ in range(2)]
            # d/ds and d/dw of sum(x * (s W)); the second, times w, is the value itself.
            pull = jax.jit(jax.grad(lambda op, s, x: jnp.sum(x * op.mm(s)), 1))
            by_weight = eqx.filter_jit(
                eqx.filter_grad(lambda w, op, s, x: jnp.sum(x * _with_weight(op, w).mm(s)))
            )(op.weight, op, s, x)
            parts = np.asarray(by_weight, np.float64) * np.asarray(op.weight, np.float64)
            got = {
                "floats": (jax.jit(lambda s, o=op: o.mm(s))(s), wide @ w),
                "packed": (jax.jit(lambda s, o=op: o.mm(ops.pack(s != 0)))(s), (wide != 0) @ w),
                "transposed": (jax.jit(lambda x, o=op: o.mm_t(x))(x), values @ w.T),
                "by spikes": (eqx.filter_jit(pull)(op, s, x), values @ w.T),
                "by weights": (parts.sum(), np.sum(values * (wide @ w))),
                "deterministic": (twice[0], wide @ w),
            }
            scale = np.abs(wide) @ np.abs(w)
            for what, (a, b) in got.items():
                size = np.sum(np.abs(values) * scale) if what == "by weights" else np.abs(b).max()
                error = float(np.abs(np.asarray(a, np.float64) - b).max() / max(size, 1e-30))
                ok = error <= LIMITS[dtype] and (twice[0].tobytes() == twice[1].tobytes())
                rows.append({"what": f"{name}, {what}", "dtype": dtype, "error": error, "ok": ok})
    return rows


def _with_weight(op, w):
    return eqx.tree_at(lambda op: op.weight, op, w)


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

    def measure(name, op, time_of: Callable):
        row: dict = {"what": name, "neurons": n, "spiking": share}
        try:
            s = time_of()
        except Exception as error:  # a peer that is absent, or cannot: the row says so
            row["note"] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
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
        measure(name, csr, partial(product, floats, steps, repeats))
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
        net = pb.cast(pb.inference_mode(coba_lif.build(n, DT, jr.key(0))), "float32")
        state = net.init(dt=DT, key=jr.key(1))

        def run(net=net, state=state):
            return pb.simulate(net, state, {"N": 20.0}, dt=DT, duration=duration).saved["N"]

        us = seconds(run, repeats) / (duration / DT) * 1e6
        rate = float(run().count().sum()) / n / duration * 1e3
        rows.append({"what": f"COBA-LIF, {rate:.1f} Hz", "neurons": n, "us": us})
    return rows


# ---- the table -----------------------------------------------------------------------------------


def show(rows: list[dict]) -> None:
    """One table: what, neurons, share of them spiking, time, share of the bandwidth limit."""
    print(f"\n{'':44}{'neurons':>10}{'spiking':>9}{'us':>12}{'% of limit':>12}")
    for row in rows:
        line = f"{row['what']:44}{row['neurons']:10,}"
        line += f"{row['spiking']:9.2%}" if "spiking" in row else " " * 9
        line += f"{row['us']:12.2f}" if "us" in row else f"  {row['note']}"
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
    say = (lambda *_: None) if args.json else print
    sizes, steps, duration, copied = args.neurons, 200, 200.0, 1 << 30
    if args.smoke:
        sizes, steps, duration, copied, args.repeats = [20], 3, 1.0, 1 << 16, 1
        say("SMOKE TEST: toy sizes; no figure here is a timing of a GPU.")
    say(f"{device.device_kind}, jax {jax.__version__}")
    errors = numerics(16, ["float32"]) if args.smoke else numerics(1000, LIMITS)
    wrong = [row for row in errors if not row["ok"]]
    say(f"numerics: {len(errors)} products and derivatives, {len(wrong)} wrong")
    for row in wrong:
        say(f"  {row['dtype']:9} {row['what']}: error {row['error']:.1e}")
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
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(options().parse_args()))

"""The two COBA networks (Vogels and Abbott 2005; Brette et al. 2007) differ in their neurons
only."""

import argparse
import time
from collections.abc import Callable

import _cli
import jax.random as jr

import purebrain as pb


def network(neurons, w_exc: float, w_inh: float, delay: float, key) -> pb.Network:
    """80% excitatory; each pair connected with probability 80 / N; conductance-based synapses."""
    n = neurons.n
    n_exc = n * 4 // 5
    k_exc, k_inh = jr.split(key)
    exc, inh = pb.View("N")[:n_exc], pb.View("N")[n_exc:]
    p = min(1.0, 80 / n)

    def projection(pre, weight, tau, e_rev, key):
        rule = pb.connect.fixed_prob(p, weight, key=key)
        return pb.Projection(pre, "N", rule, pb.Exponential(tau), pb.COBA(e_rev), delay)

    return pb.Network(
        {"N": neurons},
        [projection(exc, w_exc, 5.0, 0.0, k_exc), projection(inh, w_inh, 10.0, -80.0, k_inh)],
    )


def options(description: str) -> argparse.ArgumentParser:
    """The options of both examples."""
    p = _cli.parser(description)
    p.add_argument("--neurons", type=_cli.whole, default=4000, metavar="N")
    p.add_argument("--duration", type=float, default=1000.0, metavar="MS")
    p.add_argument("--dt", type=float, default=0.1, metavar="MS")
    p.add_argument("--delay", type=float, metavar="MS", help="of all synapses (default: one step)")
    p.add_argument("--surrogate", action="store_true", help="spikes with a derivative, as floats")
    return p


def benchmark(build: Callable, inputs: dict, args: argparse.Namespace) -> None:
    """Builds, runs twice, prints the figures and draws the raster."""
    delay = args.dt if args.delay is None else args.delay
    k_net, k_init = jr.split(jr.key(args.seed))
    start = time.perf_counter()
    net = build(args.neurons, delay, k_net)
    net = net if args.surrogate else pb.inference_mode(net)
    state = net.init(dt=args.dt, key=k_init)
    build_s = time.perf_counter() - start

    def run():
        bar = not (args.quiet or args.json)
        return pb.simulate(net, state, inputs, dt=args.dt, duration=args.duration, progress=bar)

    result, first_s = _cli.timed(run)
    result, run_s = _cli.timed(run)
    spikes = result.saved["N"]
    steps = spikes.shape[0]
    count = int(spikes.count().sum()) if not args.surrogate else int(spikes.sum())
    figures = {
        "neurons": args.neurons,
        "steps": steps,
        "build_s": round(build_s, 3),
        "compile_s": round(max(first_s - run_s, 0.0), 3),
        "run_s": round(run_s, 4),
        "us_per_step": round(run_s / max(steps, 1) * 1e6, 3),
        "rate_hz": round(count / args.neurons / (steps * args.dt) * 1e3, 3) if steps else 0.0,
        "peak_rss_mb": _cli.peak_rss_mb(),
    }
    _cli.show(figures, args.json)
    if args.plot:
        n_exc = args.neurons * 4 // 5
        axes = pb.plot.raster(result, [pb.View("N")[:n_exc], pb.View("N")[n_exc:]])
        axes.set_title(f"{args.neurons:,} neurons, {figures['rate_hz']:.1f} Hz")
        _cli.save_figure(axes.figure, args.plot, args.json)

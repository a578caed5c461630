"""A sweep: the rate of COBA-LIF over a grid of excitatory and inhibitory weights, in one call.

Only the two weights are batched; connectivity and neurons are shared, and the spikes of all
networks are walked together.
"""

import argparse
import time

import _cli
import coba_lif
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import purebrain as pb


def weights(net) -> tuple:
    """The excitatory and the inhibitory weight."""
    return tuple(path.inputs[0].comm.weight for path in net.pathways)


def run(args: argparse.Namespace) -> None:
    """Builds, sweeps, prints and draws."""
    k_net, k_init = jr.split(jr.key(args.seed))
    net = pb.inference_mode(coba_lif.build(args.neurons, args.dt, k_net))
    state = net.init(dt=args.dt, key=k_init)
    exc = jnp.linspace(0.0, args.exc_max, args.grid)
    inh = jnp.linspace(0.0, args.inh_max, args.grid)
    bar = not (args.quiet or args.json)

    def share(tick, state, out):
        return out["N"].count() / args.neurons

    def rate(w_exc, w_inh):
        one = eqx.tree_at(weights, net, (w_exc, w_inh))
        result = pb.simulate(
            one, state, {"N": 20.0}, dt=args.dt, duration=args.duration, save=share
        )
        return result.saved.mean() / (args.dt * 1e-3)

    sweep = jax.jit(jax.vmap(jax.vmap(rate, (None, 0)), (0, None)))
    if bar:
        print(f"{args.grid**2} networks of {args.neurons} neurons ...", flush=True)
    start = time.perf_counter()
    rates = np.asarray(sweep(exc, inh))
    first_s = time.perf_counter() - start
    rates, run_s = _cli.timed(lambda: sweep(exc, inh))
    rates = np.asarray(rates)
    figures = {
        "networks": args.grid**2,
        "neurons": args.neurons,
        "compile_s": round(max(first_s - run_s, 0.0), 3),
        "run_s": round(run_s, 3),
        "ms_per_network": round(run_s / args.grid**2 * 1e3, 3),
        "rate_min_hz": round(float(rates.min()), 3),
        "rate_max_hz": round(float(rates.max()), 3),
        "peak_rss_mb": _cli.peak_rss_mb(),
    }
    _cli.show(figures, args.json)
    if args.plot:
        _cli.save_figure(draw(exc, inh, rates), args.plot, args.json)


def draw(exc, inh, rates):
    """The rates as a heat map."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 4.8), layout="constrained")
    mesh = ax.pcolormesh(inh, exc, rates, shading="nearest")
    figure.colorbar(mesh, label="rate (Hz)")
    ax.set(xlabel="inhibitory weight (of the leak)", ylabel="excitatory weight (of the leak)")
    return figure


def options() -> argparse.ArgumentParser:
    """The options."""
    p = _cli.parser(__doc__ or "")
    p.add_argument("--neurons", type=_cli.whole, default=400, metavar="N")
    p.add_argument("--grid", type=_cli.whole, default=12, metavar="G", help="G x G networks")
    p.add_argument("--duration", type=float, default=200.0, metavar="MS")
    p.add_argument("--dt", type=float, default=0.1, metavar="MS")
    p.add_argument("--exc-max", type=float, default=1.2, help="the largest excitatory weight")
    p.add_argument("--inh-max", type=float, default=13.4, help="the largest inhibitory weight")
    return p


if __name__ == "__main__":
    _cli.main(run, options())

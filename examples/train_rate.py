"""Gradient descent through the simulator: COBA-LIF is driven to a target rate by its excitatory
weight.

The gradient flows through the integrator, the synapses and every spike (SuperSpike, 1 / (1 + 50
|x|)^2: in a recurrent network a broad surrogate makes it explode). At the start it is held against
a secant, (r(w + h) - r(w - h)) / 2h, of the same rate: sign and size.

Zenke and Ganguli (2018), Neural Computation 30.
"""

import argparse

import _cli
import coba_lif
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

import purebrain as pb


def weight_of(net):
    """The excitatory weight."""
    return net.pathways[0].inputs[0].comm.weight


def run(args: argparse.Namespace) -> None:
    """Builds, checks the gradient, descends, prints and draws."""
    k_net, k_init = jr.split(jr.key(args.seed))
    net = coba_lif.build(args.neurons, args.dt, k_net)
    spike = pb.surrogate.SuperSpike(beta=50.0)
    net = eqx.tree_at(lambda m: m.populations["N"].neuron.spike, net, spike)
    states = jax.vmap(lambda k: net.init(dt=args.dt, key=k))(jr.split(k_init, args.trials))
    start = float(weight_of(net))

    def share(tick, state, out):
        return out["N"].mean()

    def rate(weight):
        model = eqx.tree_at(weight_of, net, weight)

        def trial(state):
            result = pb.simulate(
                model, state, {"N": 20.0}, dt=args.dt, duration=args.duration, save=share
            )
            return result.saved.mean() / (args.dt * 1e-3)

        return jax.vmap(trial)(states).mean()

    value = jax.jit(rate)
    value_and_grad = jax.jit(jax.value_and_grad(rate))
    (_, gradient), first_s = _cli.timed(lambda: value_and_grad(jnp.asarray(start)))
    h = args.secant
    secant = float((value(jnp.asarray(start + h)) - value(jnp.asarray(start - h))) / (2 * h))

    weight, history = start, []
    for k in range(args.steps):
        r, slope = value_and_grad(jnp.asarray(weight))
        history.append((weight, float(r)))
        if not (args.json or args.quiet):
            print(f"step {k:3d}  weight {weight:.4f}  rate {float(r):6.2f} Hz", flush=True)
        # Descent on (rate - target)^2 / 2.
        weight -= args.learning_rate * float((r - args.target) * slope)
    final, step_s = _cli.timed(lambda: value(jnp.asarray(weight)))
    history.append((weight, float(final)))
    figures = {
        "neurons": args.neurons,
        "gradient_hz": round(float(gradient), 3),
        "secant_hz": round(secant, 3),
        "rate_start_hz": round(history[0][1], 3),
        "target_hz": args.target,
        "rate_end_hz": round(float(final), 3),
        "weight_start": round(start, 4),
        "weight_end": round(weight, 4),
        "compile_s": round(first_s, 3),
        "forward_s": round(step_s, 3),
        "peak_rss_mb": _cli.peak_rss_mb(),
    }
    _cli.show(figures, args.json)
    if args.plot:
        _cli.save_figure(draw(history, args.target), args.plot, args.json)


def draw(history, target):
    """Rate and weight over the steps."""
    import matplotlib.pyplot as plt

    weights, rates = zip(*history, strict=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    left.plot(rates, marker=".")
    left.axhline(target, color="0.5", ls="--", label="target")
    left.set(xlabel="step", ylabel="rate (Hz)")
    left.legend()
    right.plot(weights, marker=".", color="tab:orange")
    right.set(xlabel="step", ylabel="excitatory weight (of the leak)")
    return figure


def options() -> argparse.ArgumentParser:
    """The options."""
    p = _cli.parser(__doc__ or "")
    p.add_argument("--neurons", type=_cli.whole, default=1000, metavar="N")
    p.add_argument("--target", type=float, default=15.0, metavar="HZ")
    p.add_argument("--steps", type=_cli.whole, default=20, help="of gradient descent")
    p.add_argument("--learning-rate", type=float, default=3e-4)
    p.add_argument("--trials", type=_cli.whole, default=8, help="initial states to average over")
    p.add_argument("--duration", type=float, default=20.0, metavar="MS")
    p.add_argument("--dt", type=float, default=0.1, metavar="MS")
    p.add_argument("--secant", type=float, default=0.05, help="half the secant's step in weight")
    return p


if __name__ == "__main__":
    _cli.main(run, options())

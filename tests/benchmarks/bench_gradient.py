"""COBA-LIF, 4,000 neurons, 1,000 steps: what the gradient of the mean rate in both weights takes,
in times of the run. One core:

    taskset -c 1 python tests/benchmarks/bench_gradient.py [--width 0.1] [--steps 1000] [--pure-jax]
"""

import argparse
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import _coba

import purebrain as pb

ADJOINTS = {"Direct": pb.Direct(), "Checkpointed": pb.Checkpointed(), "Reverse": pb.Reverse()}


def weights(network):
    """Of the excitatory and of the inhibitory synapses."""
    return [path.inputs[0].comm.weight for path in network.pathways]


def main() -> None:
    """Prints milliseconds, and the median of the ratios of runs by turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=float, default=0.1, help="of the surrogate's support")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--pure-jax", action="store_true", help="without native kernels")
    args = parser.parse_args()

    k_net, k_state = jr.split(jr.key(0))
    lif = pb.LIF(
        4000, tau=20.0, v_rest=-60.0, v_th=-50.0, v_reset=-60.0, v_init=pb.Normal(-55.0, 5.0),
        spike=pb.surrogate.PiecewiseLinear(width=args.width),
    )  # fmt: skip
    net = _coba.network(pb.Refractory(lif, tau_ref=5.0), 0.6, 6.7, 0.1, k_net)
    net = pb.ops.tuned(net, pb.ops.cpu.Tuning(native=not args.pure_jax))
    state = net.init(dt=0.1, key=k_state)

    def rate(values, adjoint):
        return pb.simulate(
            eqx.tree_at(weights, net, values), state, {"N": 20.0}, dt=0.1,
            duration=0.1 * args.steps, save=lambda tick, state, out: out["N"].mean(),
            adjoint=adjoint,
        ).saved.mean() * 1e4  # fmt: skip

    programs = {"run": jax.jit(lambda w: rate(w, pb.Direct()))}
    for name, adjoint in ADJOINTS.items():
        programs[name] = jax.jit(jax.value_and_grad(lambda w, a=adjoint: rate(w, a)))
    times = {name: [] for name in programs}
    for _ in range(args.repeats + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(weights(net)))
            times[name].append(1e3 * (time.perf_counter() - start))
    run = np.array(times["run"][1:])
    for name, each in times.items():
        each = np.array(each[1:])
        least, middle = each.min(), np.median(each)
        print(f"{name:13s} {least:7.1f} ms ({least / run.min():.2f}), median {middle:.1f} "
              f"({np.median(each / run):.2f} times the run)")  # fmt: skip


if __name__ == "__main__":
    main()

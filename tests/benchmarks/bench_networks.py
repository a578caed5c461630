"""The benchmark networks: python -m pytest tests/benchmarks/bench_networks.py --benchmark-only

For figures to quote pin one core, and run the yardstick beside it:
XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" taskset -c 1 ...
"""

import sys
from pathlib import Path

import jax
import jax.random as jr
import pytest

import purebrain as pb

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import coba_hh
import coba_lif

CASES = [
    (coba_lif.build, {"N": 20.0}, 4_000, 500.0),
    (coba_lif.build, {"N": 20.0}, 40_000, 50.0),
    (coba_lif.build, {"N": 20.0}, 400_000, 10.0),
    (coba_hh.build, {}, 4_000, 200.0),
    (coba_hh.build, {}, 40_000, 20.0),
]


@pytest.mark.parametrize(("build", "inputs", "n", "duration"), CASES)
def test_network(benchmark, build, inputs, n, duration):
    net = pb.cast(pb.inference_mode(build(n, 0.1, jr.key(0))), "float32")
    state = net.init(dt=0.1, key=jr.key(1))

    def run():
        return jax.block_until_ready(pb.simulate(net, state, inputs, dt=0.1, duration=duration))

    run()
    benchmark(run)
    benchmark.extra_info["us_per_step"] = benchmark.stats["min"] / (duration / 0.1) * 1e6

"""Event operators against a loop in C, by turns on one core:
python -m pytest tests/benchmarks/bench_operators.py --benchmark-only

`ratio` of the extra information (--benchmark-json, or -s) is purebrain's time over C's. The peers
are in examples/paper/operators.py.
"""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "paper"))
import _bench
import operators

KINDS = {
    "CSR": (operators.weighted, operators.purebrain_csr),
    "CSR, one weight": (operators.bernoulli, operators.purebrain_csr),
    "fixed out-degree": (operators.fixed, operators.purebrain_fixed),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1])
@pytest.mark.parametrize(("n", "p"), [(2_000, 0.01), (20_000, 0.01), (20_000, 0.1)])
def test_product_beside_c(benchmark, n, p, fraction, kind):
    make, build = KINDS[kind]
    matrix = make(n, p, 0)
    spikes = jnp.asarray(np.random.default_rng(0).random(n) < fraction)
    try:
        c = operators.c_loop(matrix)(spikes)
    except ImportError as error:
        pytest.skip(str(error))
    run = build(matrix)(spikes)
    np.testing.assert_allclose(run(1), c(1), rtol=1e-4, atol=1e-4)
    figures = _bench.beside(run, c, repeats=5)
    benchmark.extra_info |= figures
    print(f"{kind}, N = {n:,}, p = {p:g}, {fraction:g} spiking: {figures['ratio']:.2f} times C")
    benchmark(run, 20)

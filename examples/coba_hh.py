"""COBA-HH: 4,000 Hodgkin-Huxley neurons (Traub and Miles) with conductance-based synapses, 34 to 42
Hz.

Benchmark 3 of Brette et al. (2007), J. Comput. Neurosci. 23.
"""

import _cli
import _coba

import purebrain as pb


def build(n: int, delay: float, key) -> pb.Network:
    """Conductances are in nS."""
    return _coba.network(pb.TraubMiles(n, v_init=pb.Normal(-65.0, 5.0)), 6.0, 67.0, delay, key)


if __name__ == "__main__":
    _cli.main(lambda args: _coba.benchmark(build, {}, args), _coba.options(__doc__ or ""))

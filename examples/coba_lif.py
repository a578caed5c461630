"""COBA-LIF: 4,000 leaky integrate-and-fire neurons with conductance-based synapses, 20 to 23 Hz.

Vogels and Abbott (2005), J. Neurosci. 25; benchmark 1 of Brette et al. (2007), J. Comput. Neurosci.
23.
"""

import _cli
import _coba

import purebrain as pb


def build(n: int, delay: float, key) -> pb.Network:
    """Conductances are relative to the leak's, the drive is in mV."""
    lif = pb.LIF(n, tau=20.0, v_rest=-60.0, v_th=-50.0, v_reset=-60.0, v_init=pb.Normal(-55.0, 5.0))
    return _coba.network(pb.Refractory(lif, tau_ref=5.0), 0.6, 6.7, delay, key)


if __name__ == "__main__":
    _cli.main(lambda args: _coba.benchmark(build, {"N": 20.0}, args), _coba.options(__doc__ or ""))

"""Bad input: a typed error that names the argument, the value and what is allowed, and no result.

What the operators and the connectivity rules refuse is tested with them.
"""

import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

import purebrain as pb
from purebrain import ops

from .helpers_net import DT, projection

NAN = float("nan")
N = pb.View("N")
NET = pb.Network({"N": pb.LIF(4)}, [projection("N", "N", ops.AllToAll(0.1, 4, 4), delay=0.4)])
STATE = NET.init(dt=DT)
POISSON = pb.Network({"P": pb.PoissonSource(3, 100.0)})
RANDOM = pb.Normal(-55.0, 5.0)
DIAGONAL = ops.CSR(1.0, np.arange(5), np.arange(4), 4)
TICK = pb.Tick(jnp.int32(0), DT)


@pytest.fixture(autouse=True)
def as_users_run_it():
    """Without the type checks of the test suite: the errors must be the package's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def run(net=NET, state=STATE, inputs=None, *, dt=DT, duration=0.2, **kwargs):
    inputs = {"N": 1.0} if inputs is None else inputs
    return pb.simulate(net, state, inputs, dt=dt, duration=duration, **kwargs)


def network(pre="N", post="N", comm=None, **kwargs):
    comm = pb.connect.all_to_all(0.1) if comm is None else comm
    return pb.Network({"N": pb.LIF(4)}, [projection(pre, post, comm, **kwargs)])


def delayed(delay, dt=DT, **kwargs):
    return network(delay=delay, **kwargs).init(dt=dt)


def refractory(tau_ref):
    return pb.Refractory(pb.LIF(3), tau_ref).init(dt=DT)


def poisson(**kwargs):
    return pb.simulate(POISSON, POISSON.init(dt=DT), {}, dt=DT, duration=DT, **kwargs)


def without_x64():
    with jax.enable_x64(False):
        pb.cast(NET, jnp.float64)


CASES = {
    # time
    "dt 0": (lambda: run(dt=0.0), ValueError, r"dt: 0\.0 ms; .* above 0"),
    "dt negative": (lambda: run(dt=-0.1), ValueError, r"dt: -0\.1 ms; .* above 0"),
    "dt nan": (lambda: run(dt=NAN), ValueError, r"dt: nan ms; .* finite"),
    "dt array": (lambda: run(dt=np.ones(2)), TypeError, r"dt: array.* one number"),
    "dt text": (lambda: run(dt="0.1"), TypeError, r"dt: '0\.1'; .* one number"),
    "dt traced": (lambda: jax.jit(lambda dt: run(dt=dt))(DT), TypeError, r"dt: traced"),
    "dt 0 at init": (lambda: NET.init(dt=0), ValueError, r"dt: 0\.0 ms; .* above 0"),
    "dt nan at init": (lambda: pb.Refractory(pb.LIF(1), 1.0).init(dt=NAN), ValueError, "dt: nan"),
    "dt too long for a delay": (
        lambda: run(dt=0.8, duration=1.6), ValueError, r"delay: 0\.4 ms is not a multiple of dt = 0\.8"
    ),
    "duration off the grid": (
        lambda: run(duration=0.26), ValueError, r"duration: 0\.26 ms is not .* nearest is duration=0\.3"
    ),
    "duration negative": (lambda: run(duration=-1.0), ValueError, r"duration: -1\.0 ms; .* negative"),
    "duration nan": (lambda: run(duration=NAN), ValueError, r"duration: nan ms; .* finite"),
    "duration text": (lambda: run(duration="a"), TypeError, r"duration: 'a'; .* number of ms"),
    "duration past the clock": (lambda: run(duration=1e9), ValueError, r"10000000000 steps"),
    "i0 negative": (lambda: run(i0=-1), ValueError, r"i0: -1, .* in \[0, 2147483647\]"),
    "i0 negative array": (lambda: run(i0=jnp.int32(-3)), ValueError, r"i0: -3"),
    "i0 float": (lambda: run(i0=1.0), TypeError, r"i0: 1\.0; .* whole number such as run\.i"),
    "i0 two": (lambda: run(i0=jnp.arange(2)), TypeError, r"i0: .* whole number"),
    "i0 past the clock": (lambda: run(i0=2**31 - 1), ValueError, r"i0: 2147483647, for 2 steps"),
    "delay off the grid": (
        lambda: delayed(0.25), ValueError, r"delay: 0\.25 ms is not .* nearest is delay=0\.3"
    ),
    "delay negative": (lambda: delayed(-0.1), ValueError, r"delay: -0\.1 ms; .* not negative"),
    "delay 0": (lambda: delayed(0.0), ValueError, r"delay: 0\.0 ms .* at least 1: delay=0\.1"),
    "delay below dt": (lambda: delayed(0.1, 1.0), ValueError, r"delay: 0\.1 ms .* delay=1"),
    "delay nan": (lambda: delayed(NAN), ValueError, r"delay: nan ms; .* finite"),
    "delay none": (lambda: delayed(None), TypeError, r"delay: None; .* number of ms"),
    "delays too few": (
        lambda: delayed(np.ones(2), comm=DIAGONAL), ValueError, r"delay: shape \(2,\); .* \(4,\)"
    ),
    "delays off the grid": (
        lambda: delayed([0.1, 0.2, 0.3, 0.37], comm=DIAGONAL), ValueError, r"delay: 0\.37 .* 0\.4"
    ),
    "delays 0": (lambda: delayed(np.zeros(4), comm=DIAGONAL), ValueError, r"delay: 0\.0 ms at pos"),
    "delays without a CSR": (
        lambda: delayed(np.ones(16)), TypeError, r"delay: one a synapse .* comm is AllToAll"
    ),
    "delays at pre": (
        lambda: delayed(np.ones(4), comm=DIAGONAL, syn=pb.AtPre(pb.Exponential(5.0))),
        TypeError,
        r"delay: one a synapse .* syn is AtPre",
    ),
    "Delayed negative": (
        lambda: pb.Delayed(NET, -0.1, like=0.0).init(dt=DT), ValueError, r"delay: -0\.1"
    ),
    "Delayed input": (
        lambda: (d := pb.Delayed(NET, 0.1, like=jnp.ones(3))).step(d.init(dt=DT), jnp.ones(2), TICK),
        ValueError,
        r"x: float64\[2\] into a delay of float64\[3\]",
    ),
    "tau_ref off the grid": (lambda: refractory(0.26), ValueError, r"tau_ref: 0\.26 .* tau_ref=0\.3"),
    "tau_ref negative": (lambda: refractory(-0.2), ValueError, r"tau_ref: -0\.2 ms; .* negative"),
    "tau_ref too long": (lambda: refractory(1e5), ValueError, r"tau_ref: .* at most 32767"),
    "tau_ref each": (lambda: refractory(np.ones(2)), ValueError, r"tau_ref: shape \(2,\); .* \(3,\)"),
    # parameters
    "n negative": (lambda: pb.LIF(-3), ValueError, r"n: -3; .* whole number >= 0"),
    "n float": (lambda: pb.TraubMiles(3.5), ValueError, r"n: 3\.5; .* whole number >= 0"),
    "tau 0": (lambda: pb.LIF(3, tau=0.0), ValueError, r"tau: 0\.0 ms; .* above 0"),
    "tau nan": (lambda: pb.LIF(3, tau=NAN), ValueError, r"tau: nan; .* finite"),
    "tau each": (lambda: pb.LIF(3, tau=np.ones(2)), ValueError, r"tau: shape \(2,\); .* \(3,\)"),
    "tau one of an axis": (lambda: pb.LIF(3, tau=np.ones(1)), ValueError, r"tau: shape \(1,\)"),
    "v_rest nan": (lambda: pb.LIF(3, v_rest=NAN), ValueError, r"v_rest: nan; .* finite"),
    "v_reset at v_th": (
        lambda: pb.LIF(3, v_reset=-50.0), ValueError, r"v_reset: -50\.0 mV is not below v_th = -50\.0"
    ),
    "c_m negative": (lambda: pb.TraubMiles(3, c_m=-1.0), ValueError, r"c_m: -1\.0 pF; .* above 0"),
    "synaptic tau negative": (lambda: pb.Exponential(-5.0), ValueError, r"tau: -5\.0 ms; .* above 0"),
    "synaptic tau each": (
        lambda: delayed(0.1, syn=pb.Exponential(np.ones(3))), ValueError, r"tau: shape \(3,\); .* \(4,\)"
    ),
    "e_rev nan": (lambda: pb.COBA(NAN), ValueError, r"e_rev: nan; .* finite"),
    "e_rev each": (
        lambda: delayed(0.1, drive=pb.COBA(np.ones(3))), ValueError, r"e_rev: shape \(3,\); .* \(4,\)"
    ),
    "rate negative": (lambda: pb.PoissonSource(3, -1.0), ValueError, r"rate: -1\.0 Hz; .* negative"),
    "rate nan": (lambda: pb.PoissonSource(3, NAN), ValueError, r"rate: nan; .* finite"),
    "rates": (lambda: pb.PoissonSource(3, np.ones(2)), ValueError, r"rate: shape \(2,\); .* \(3,\)"),
    "v_init length": (
        lambda: pb.LIF(3, v_init=np.zeros(4)).init(dt=DT), ValueError, r"v_init: shape \(4,\); .* \(3,\)"
    ),
    "v_init nan": (lambda: pb.LIF(3, v_init=NAN).init(dt=DT), ValueError, r"v_init: nan; .* finite"),
    "sd negative": (lambda: pb.Normal(0.0, -1.0), ValueError, r"sd: -1\.0; .* not be negative"),
    "low above high": (lambda: pb.Uniform(1.0, 0.0), ValueError, r"low: 1\.0 is above high = 0\.0"),
    # keys
    "no key for v_init": (
        lambda: pb.LIF(3, v_init=RANDOM).init(dt=DT), ValueError, r"key: missing, but v_init .* Normal"
    ),
    "no key for a source": (poisson, ValueError, r"key: missing, but PoissonSource is random"),
    "key a number": (lambda: poisson(key=0), TypeError, r"key: 0; .* jax\.random\.key\(0\)"),
    "key many": (lambda: poisson(key=jr.split(jr.key(0))), TypeError, r"key: .* one key"),
    "key a number at init": (lambda: NET.init(dt=DT, key=0), TypeError, r"key: 0; .* one key"),
    # networks
    "pre unknown": (lambda: network(pre="X"), KeyError, r"pre: unknown .* 'X'; there are \['N'\]"),
    "post unknown": (lambda: network(post="X"), KeyError, r"post: unknown .* 'X'; there are \['N'\]"),
    "pre a number": (lambda: network(pre=3), TypeError, r"pre: 3; .* View"),
    "view beyond": (
        lambda: network(pre=N[:5]), ValueError, r"pre: View\('N'\)\[0:5\], .* 4 neurons; .* \[0, 4\]"
    ),
    "view from the end": (lambda: network(post=N[-2:]), ValueError, r"post: View\('N'\)\[-2:4\]"),
    "view descends": (lambda: network(pre=N[3:1]), ValueError, r"pre: View\('N'\)\[3:1\]"),
    "view with a stride": (lambda: N[::2], TypeError, r"View\('N'\).* slice without stride"),
    "view of one": (lambda: N[2], TypeError, r"View\('N'\)\[2\]: .* slice"),
    "view of a view": (lambda: N[:2][:1], TypeError, r"View\('N'\) is a slice already"),
    "connectivity of another shape": (
        lambda: network(comm=ops.AllToAll(1.0, 3, 4)), ValueError, r"comm: .* \(3, 4\), .* \(4, 4\)"
    ),
    "connectivity a matrix": (lambda: network(comm=np.ones((4, 4))), TypeError, r"comm: .* AbstractO"),
    "drive a number": (lambda: network(drive=-80.0), TypeError, r"drive: -80\.0; .* AbstractDrive"),
    "synapse a number": (lambda: network(syn=5.0), TypeError, r"syn: float is not linear"),
    "onto a source": (
        lambda: pb.Network(POISSON.populations, [projection("P", "P", pb.connect.one_to_one(1.0))]),
        TypeError,
        r"post: 'P' is a source, which takes no input",
    ),
    "population without a size": (
        lambda: pb.Network({"N": pb.Chain(pb.LIF(3))}), TypeError, r"populations\['N'\]: Chain; "
    ),
    "projection not in a list": (
        lambda: pb.Network({}, projection("N", "N", DIAGONAL)), TypeError, r"projections: .* Sequence"
    ),
    "nothing to sum": (lambda: pb.Sum(), ValueError, r"parts: none"),
    "too few inputs to a sum": (
        lambda: (s := pb.Sum(NET, NET)).step(s.init(dt=DT), ({},), TICK), ValueError, r"x: 1 inputs for 2"
    ),
    "connectivities of two sizes": (
        lambda: pb.AlignPost((ops.AllToAll(1.0, 3, 4), ops.AllToAll(1.0, 3, 5)), pb.Exponential(5.0)),
        ValueError,
        r"comm: of shapes \[\(3, 4\), \(3, 5\)\]",
    ),
    # inputs
    "input to nobody": (lambda: run(inputs={"X": 1.0}), KeyError, r"inputs: unknown population 'X'"),
    "input of another size": (
        lambda: run(inputs={"N": np.ones(3)}), ValueError, r"inputs\['N'\]: shape \(3,\); .* \(4,\)"
    ),
    "input not a dict": (lambda: run(inputs=3.0), TypeError, r"inputs: .* dict .* \{'N': 20\.0\}"),
    "input text": (lambda: run(inputs={"N": "a"}), TypeError, r"inputs\['N'\]: 'a'"),
    "input none": (lambda: run(inputs={"N": None}), TypeError, r"inputs\['N'\]: None"),
    "input to a source": (
        lambda: pb.simulate(POISSON, POISSON.init(dt=DT), {"P": 1.0}, dt=DT, duration=DT, key=jr.key(0)),
        TypeError,
        r"inputs: 'P' is a source",
    ),
    "series too short": (
        lambda: run(inputs=pb.Series({"N": np.ones(1)})), ValueError, r"inputs\['N'\]: 1 steps, .* step 2"
    ),
    "series of a number": (
        lambda: run(inputs=pb.Series({"N": 1.0})), ValueError, r"inputs\['N'\]: one number, .* time"
    ),
    "series of another size": (
        lambda: run(inputs=pb.Series({"N": np.ones((2, 3))})), ValueError, r"inputs\['N'\]: shape \(3,\)"
    ),
    # states and options of a run
    "state of another size": (
        lambda: run(state=pb.Network({"N": pb.LIF(5)}).init(dt=DT)),
        ValueError,
        r"state\.populations\['N'\]\.v: float64\[5\], .* float64\[4\]; .* model\.init\(dt=0\.1",
    ),
    "state of another structure": (
        lambda: run(state=pb.Network({"N": pb.LIF(4)}).init(dt=DT)), ValueError, r"state\.synapses\[0\]"
    ),
    "state of other names": (
        lambda: run(state=pb.Network({"M": pb.LIF(4)}).init(dt=DT)), ValueError, r"state\.pop.*'M'"
    ),
    "state of another dt": (
        lambda: run(state=NET.init(dt=0.2)), ValueError, r"state\.history\['N'\].* \[?.*dt = 0\.1 ms"
    ),
    "state of another precision": (
        lambda: run(state=pb.cast(STATE, jnp.float32)), ValueError, r"state\..* float32\[4\], .* precision"
    ),
    "no state": (lambda: run(state=0), ValueError, r"state.*: nothing, .* model\.init"),
    "a step of another dtype": (
        lambda: pb.simulate(Widening(), jnp.float32(0), 0.0, dt=DT, duration=DT),
        TypeError,
        r"state: float32\[\], but a step of this Widening makes it float64\[\]",
    ),
    "model a number": (lambda: run(net=3), TypeError, r"model: 3; .* AbstractDynamics"),
    "save not callable": (lambda: run(save=3), TypeError, r"save: 3; .* Callable"),
    "adjoint text": (lambda: run(adjoint="direct"), TypeError, r"adjoint: 'direct'; .* AbstractAdj"),
    "no checkpoints": (lambda: pb.Checkpointed(0), ValueError, r"checkpoints: 0; .* at least 1"),
    "half a checkpoint": (lambda: pb.Checkpointed(2.5), ValueError, r"checkpoints: 2\.5"),
    "float64 without x64": (without_x64, ValueError, r"dtype: float64 .* jax_enable_x64"),
    "dtype of integers": (lambda: pb.cast(NET, int), TypeError, r"dtype: .* floating"),
    "merge of no network": (lambda: pb.merge(3), TypeError, r"network: 3; .* Network"),
}  # fmt: skip


class Widening(pb.AbstractDynamics):
    """Changes the type of its state."""

    def init(self, *, dt, key=None):
        return jnp.zeros((), jnp.float32)

    def step(self, state, x, tick):
        return state.astype(jnp.float64), x


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(case):
    code, error, message = CASES[case]
    with pytest.raises(error, match=message):
        code()


def test_progress_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: pip install"):
        run(progress=True)


def test_a_raster_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"raster needs matplotlib: pip install"):
        pb.plot.raster(run())

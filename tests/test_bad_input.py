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
from purebrain.ops import _say_once

from .helpers_net import DT, projection

NAN = float("nan")
N, SYN, SOURCE = pb.View("N"), pb.Exponential(5.0), pb.PoissonSource(3, 100.0)
RANDOM = pb.Normal(-55.0, 5.0)
DIAGONAL = ops.CSR(1.0, np.arange(5), np.arange(4), 4)
NET = pb.Network({"N": pb.LIF(4)}, [projection("N", "N", DIAGONAL, delay=0.4)])
STATE = NET.init(dt=DT)


@pytest.fixture(autouse=True)
def as_users_run_it():
    """Without the type checks of the test suite: the errors must be the package's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def run(net=NET, state=STATE, inputs=None, *, dt=DT, duration=0.2, **kwargs):
    inputs = {"N": 1.0} if inputs is None else inputs
    return pb.simulate(net, state, inputs, dt=dt, duration=duration, **kwargs)


def poisson(inputs=None, **kwargs):
    net = pb.Network({"P": SOURCE})
    return pb.simulate(net, net.init(dt=DT), inputs or {}, dt=DT, duration=DT, **kwargs)


def network(pre="N", post="N", comm=None, **kwargs):
    comm = pb.connect.all_to_all(0.1) if comm is None else comm
    return pb.Network({"N": pb.LIF(4)}, [projection(pre, post, comm, **kwargs)])


def delayed(delay, dt=DT, **kwargs):
    return network(delay=delay, **kwargs).init(dt=dt)


def refractory(tau_ref):
    return pb.Refractory(pb.LIF(3), tau_ref).init(dt=DT)


def step(model, x):
    return model.step(model.init(dt=DT), x, pb.Tick(jnp.int32(0), DT))


def without_x64():
    with jax.enable_x64(False):
        pb.cast(NET, jnp.float64)


class Widening(pb.AbstractDynamics):
    """Changes the type of its state."""

    def init(self, *, dt, key=None):
        return jnp.zeros((), jnp.float32)

    def step(self, state, x, tick):
        return state.astype(jnp.float64), x


REFUSED = {
    ValueError: {
        r"dt: 0\.0 ms; .* above 0": lambda: run(dt=0.0),
        r"dt: -0\.1 ms; .* above 0": lambda: run(dt=-0.1),
        r"dt: nan ms; .* finite": lambda: run(dt=NAN),
        r"dt: -1\.0 ms; .* above 0": lambda: NET.init(dt=-1),
        r"dt: nan": lambda: pb.Refractory(pb.LIF(1), 1.0).init(dt=NAN),
        r"delay: 0\.4 ms is not a multiple of dt = 0\.8": lambda: run(dt=0.8, duration=1.6),
        r"duration: 0\.26 ms is not .* nearest is duration=0\.3": lambda: run(duration=0.26),
        r"duration: -1\.0 ms; .* negative": lambda: run(duration=-1.0),
        r"duration: nan ms; .* finite": lambda: run(duration=NAN),
        r"10000000000 steps": lambda: run(duration=1e9),
        r"i0: -1, .* in \[0, 2147483647\]": lambda: run(i0=-1),
        r"i0: -3": lambda: run(i0=jnp.int32(-3)),
        r"i0: 2147483647, for 2 steps": lambda: run(i0=2**31 - 1),
        r"delay: 0\.25 ms is not .* nearest is delay=0\.3": lambda: delayed(0.25),
        r"delay: -0\.1 ms; .* not negative": lambda: delayed(-0.1),
        r"delay: 0\.0 ms .* at least 1: delay=0\.1": lambda: delayed(0.0),
        r"delay: 0\.1 ms .* delay=1": lambda: delayed(0.1, 1.0),
        r"delay: nan ms; .* finite": lambda: delayed(NAN),
        r"delay: shape \(2,\); .* \(4,\)": lambda: delayed(np.ones(2), comm=DIAGONAL),
        r"delay: 0\.37 .*=0\.4": lambda: delayed([0.1, 0.2, 0.3, 0.37], comm=DIAGONAL),
        r"delay: 0\.0 ms at pos": lambda: delayed(np.zeros(4), comm=DIAGONAL),
        r"delay: -0\.1": lambda: pb.Delayed(NET, -0.1, like=0.0).init(dt=DT),
        r"x: float64\[2\] into a delay of float64\[3\]": (
            lambda: step(pb.Delayed(NET, 0.1, like=jnp.ones(3)), jnp.ones(2))
        ),
        r"tau_ref: 0\.26 .* tau_ref=0\.3": lambda: refractory(0.26),
        r"tau_ref: -0\.2 ms; .* negative": lambda: refractory(-0.2),
        r"tau_ref: .* at most 32767": lambda: refractory(1e5),
        r"tau_ref: shape \(2,\); .* \(3,\)": lambda: refractory(np.ones(2)),
        r"n: -3; .* whole number >= 0": lambda: pb.LIF(-3),
        r"n: 3\.5; .* whole number >= 0": lambda: pb.TraubMiles(3.5),
        r"tau: 0\.0 ms; .* above 0": lambda: pb.LIF(3, tau=0.0),
        r"tau: nan; .* finite": lambda: pb.LIF(3, tau=NAN),
        r"tau: shape \(2,\); .* \(3,\)": lambda: pb.LIF(3, tau=np.ones(2)),
        r"tau: shape \(1,\)": lambda: pb.LIF(3, tau=np.ones(1)),
        r"v_rest: nan; .* finite": lambda: pb.LIF(3, v_rest=NAN),
        r"v_reset: -50\.0 mV is not below v_th = -50\.0": lambda: pb.LIF(3, v_reset=-50.0),
        r"c_m: -1\.0 pF; .* above 0": lambda: pb.TraubMiles(3, c_m=-1.0),
        r"tau: -5\.0 ms; .* above 0": lambda: pb.Exponential(-5.0),
        r"tau: shape \(3,\); .* \(4,\)": lambda: delayed(0.1, syn=pb.Exponential(np.ones(3))),
        r"e_rev: nan; .* finite": lambda: pb.COBA(NAN),
        r"e_rev: shape \(3,\); .* \(4,\)": (
            lambda: run(network(drive=pb.COBA(np.ones(3)), delay=0.4))
        ),
        r"rate: -1\.0 Hz; .* negative": lambda: pb.PoissonSource(3, -1.0),
        r"rate: nan; .* finite": lambda: pb.PoissonSource(3, NAN),
        r"rate: shape \(2,\); .* \(3,\)": lambda: pb.PoissonSource(3, np.ones(2)),
        r"v_init: shape \(4,\); .* \(3,\)": lambda: pb.LIF(3, v_init=np.zeros(4)).init(dt=DT),
        r"v_init: nan; .* finite": lambda: pb.LIF(3, v_init=NAN).init(dt=DT),
        r"sd: -1\.0; .* not be negative": lambda: pb.Normal(0.0, -1.0),
        r"low: 1\.0 is above high = 0\.0": lambda: pb.Uniform(1.0, 0.0),
        r"key: missing, but v_init .* Normal": lambda: pb.LIF(3, v_init=RANDOM).init(dt=DT),
        r"key: missing, but PoissonSource is random": poisson,
        r"pre: View\('N'\)\[0:5\], .* 4 neurons; .* \[0, 4\]": lambda: network(pre=N[:5]),
        r"post: View\('N'\)\[-2:4\]": lambda: network(post=N[-2:]),
        r"pre: View\('N'\)\[3:1\]": lambda: network(pre=N[3:1]),
        r"comm: .* \(3, 4\), .* \(4, 4\)": lambda: network(comm=ops.AllToAll(1.0, 3, 4)),
        r"parts: none": lambda: pb.Sum(),
        r"x: 1 inputs for 2": lambda: step(pb.Sum(NET, NET), ({},)),
        r"comm: of shapes \[\(3, 4\), \(3, 5\)\]": (
            lambda: pb.AlignPost(tuple(ops.AllToAll(1.0, 3, n) for n in (4, 5)), SYN)
        ),
        r"inputs\['N'\]: shape \(3,\); .* \(4,\)": lambda: run(inputs={"N": np.ones(3)}),
        r"inputs\['N'\]: 1 steps, .* step 2": lambda: run(inputs=pb.Series({"N": np.ones(1)})),
        r"inputs\['N'\]: one number, .* time": lambda: run(inputs=pb.Series({"N": 1.0})),
        r"inputs\['N'\]: shape \(3,\)": lambda: run(inputs=pb.Series({"N": np.ones((2, 3))})),
        r"state\.populations\['N'\]\.v: float64\[5\], .* float64\[4\]; .* model\.init\(dt=0\.1": (
            lambda: run(state=pb.Network({"N": pb.LIF(5)}).init(dt=DT))
        ),
        r"state\.synapses\[0\]": lambda: run(state=pb.Network({"N": pb.LIF(4)}).init(dt=DT)),
        r"state\.pop.*'M'": lambda: run(state=pb.Network({"M": pb.LIF(4)}).init(dt=DT)),
        r"state\.history\['N'\].* \[?.*dt = 0\.1 ms": lambda: run(state=NET.init(dt=0.2)),
        r"state\..* float32\[4\], .* precision": lambda: run(state=pb.cast(STATE, jnp.float32)),
        r"state: int64\[\], but .* nothing; .* model\.init": lambda: run(state=0),
        r"checkpoints: 0; .* at least 1": lambda: pb.Checkpointed(0),
        r"checkpoints: 2\.5": lambda: pb.Checkpointed(2.5),
        r"dtype: float64 .*jax_enable_x64": without_x64,
    },
    TypeError: {
        r"dt: array.* one number": lambda: run(dt=np.ones(2)),
        r"dt: '0\.1'; .* one number": lambda: run(dt="0.1"),
        r"dt: traced": lambda: jax.jit(lambda dt: run(dt=dt))(DT),
        r"duration: 'a'; .* number of ms": lambda: run(duration="a"),
        r"i0: 1\.0; .* whole number such as run\.i": lambda: run(i0=1.0),
        r"i0: .* whole number": lambda: run(i0=jnp.arange(2)),
        r"delay: None; .* number of ms": lambda: delayed(None),
        r"delay: one a synapse .* comm is AllToAll": lambda: delayed(np.ones(16)),
        r"delay: one a synapse .* syn is AtPre": (
            lambda: delayed(np.ones(4), comm=DIAGONAL, syn=pb.AtPre(SYN))
        ),
        r"key: 0; .* jax\.random\.key\(0\)": lambda: poisson(key=0),
        r"(?s)key: .* one key": lambda: poisson(key=jr.split(jr.key(0))),
        r"key: 0; .* one key": lambda: NET.init(dt=DT, key=0),
        r"pre: 3; .* View": lambda: network(pre=3),
        r"View\('N'\).* slice without stride": lambda: N[::2],
        r"View\('N'\)\[2\]: .* slice": lambda: N[2],
        r"View\('N'\) is a slice already": lambda: N[:2][:1],
        r"comm: .* AbstractO": lambda: network(comm=np.ones((4, 4))),
        r"drive: -80\.0; .* AbstractDrive": lambda: network(drive=-80.0),
        r"syn: float is not linear": lambda: network(syn=5.0),
        r"post: 'P' is a source, which takes no input": (
            lambda: pb.Network({"P": SOURCE}, [projection("P", "P", ops.OneToOne(1.0, 3))])
        ),
        r"populations\['N'\]: Chain; ": lambda: pb.Network({"N": pb.Chain(pb.LIF(3))}),
        r"projections: .* Sequence": lambda: pb.Network({}, projection("N", "N", DIAGONAL)),
        r"inputs: .* dict .* \{'N': 20\.0\}": lambda: run(inputs=3.0),
        r"inputs\['N'\]: 'a'": lambda: run(inputs={"N": "a"}),
        r"complex128.*: parameters and currents are real": lambda: run(
            inputs={"N": np.ones(4) * 1j}
        ),
        r"inputs\['N'\]: None": lambda: run(inputs={"N": None}),
        r"inputs: 'P' is a source": lambda: poisson({"P": 1.0}, key=jr.key(0)),
        r"state: float32\[\], but a step of this Widening makes it float64\[\]": (
            lambda: pb.simulate(Widening(), jnp.float32(0), 0.0, dt=DT, duration=DT)
        ),
        r"model: 3; .* AbstractDynamics": lambda: run(net=3),
        r"save: 3; .* Callable": lambda: run(save=3),
        r"adjoint: 'direct'; .* AbstractAdj": lambda: run(adjoint="direct"),
        r"dtype: .* floating": lambda: pb.cast(NET, int),
        r"network: 3; .* Network": lambda: pb.merge(3),
    },
    KeyError: {
        r"pre: unknown .* 'X'; there are \['N'\]": lambda: network(pre="X"),
        r"post: unknown .* 'X'; there are \['N'\]": lambda: network(post="X"),
        r"inputs: unknown population 'X'": lambda: run(inputs={"X": 1.0}),
    },
}
CASES = [(error, message) for error, cases in REFUSED.items() for message in cases]


@pytest.mark.parametrize(("error", "message"), CASES, ids=[message for _, message in CASES])
def test_bad_input_is_refused(error, message):
    with pytest.raises(error, match=message):
        REFUSED[error][message]()


def test_progress_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: pip install"):
        run(progress=True)


def test_a_raster_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"raster needs matplotlib: pip install"):
        pb.plot.raster(run())


@pytest.mark.parametrize(
    "op",
    [
        ops.FixedOutdegree(1.0, np.zeros((3, 2), np.int32), 3),
        ops.CSR(1.0, np.array([0, 1, 1]), np.array([0]), 3),
        ops.jit_homogeneous(1.0, 0.5, 3, 3, seed=1),
    ],
)
def test_another_platform_has_no_kernels_and_this_is_said(op):
    _say_once.say_once.cache_clear()
    traced = jax.jit(lambda s: op.mv(s)).trace(jnp.ones(op.n_pre))
    with pytest.warns(UserWarning, match="op: this platform has no kernels, which CPUs, NVIDIA"):
        traced.lower(lowering_platforms=("rocm",))

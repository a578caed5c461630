"""Networks as data: populations by name, and projections between views of them.

A step of the clock, from t_n = n dt to t_(n+1), has three phases:

1. every population is integrated, driven by the synaptic variables as they stand at t_n;
2. it emits its spikes, stamped t_(n+1);
3. every synaptic variable flows on to t_(n+1), then receives the spikes that are due at t_(n+1):
   those emitted in step n - d, for a delay of d >= 1 steps.

So after the step all that can be recorded is as of t_(n+1). A spike emitted in step n with a delay
of d steps shows in the synaptic variable recorded after step n + d and first moves a potential in
step n + d + 1. No phase reads what the same phase wrote, so the order of populations and
projections changes nothing.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from ._check import step_counts, steps
from ._core import AbstractDynamics, Tick, split
from ._delay import Ring, emitted, ring_of
from ._drive import Drives, OnView, as_drives
from ._projection import Pathway, Projection, resolve
from .ops import Spikes, after


class NetworkState(eqx.Module):
    """The state of a network.

    `populations`: by name; `synapses`: one a pathway; `history`: the spikes still under way, by
    population; `arrivals`: one a pathway, the sums still under way where synapses of one pathway
    differ in delay.
    """

    populations: dict[str, PyTree]
    synapses: tuple[PyTree, ...]
    history: dict[str, Ring]
    arrivals: tuple[tuple[Array | None, ...], ...]


class Network(AbstractDynamics[NetworkState, Mapping[str, object], dict[str, Array | Spikes]]):
    """Populations and the projections between them.

    **Arguments:**

    - `populations`: dynamics by name: neurons, or sources such as `PoissonSource`. Each has a size
      `n`.
    - `projections`: a sequence of `Projection`.

    The input of a step is a dict from names to drives (a number or array: a current; or functions
    of v), for any of the populations; its output a dict from names to spikes, packed (`ops.Spikes`)
    where they are booleans.

    Its `pathways` are the projections with connectivity drawn, each with a synaptic state;
    `merge(network)` unites those that can share one.

    **Raises:** `KeyError` for unknown populations, `ValueError` for views and connectivities of
    other sizes.
    """

    populations: dict[str, AbstractDynamics]
    pathways: tuple[Pathway, ...]

    def __init__(
        self,
        populations: Mapping[str, AbstractDynamics],
        projections: Sequence[Projection | Pathway] = (),
    ):
        self.populations = dict(populations)
        sizes = {name: p.n for name, p in self.populations.items()}
        self.pathways = tuple(resolve(p, sizes) for p in projections)

    def init(self, *, dt, key=None):
        populations = {
            name: p.init(dt=dt, key=split(key, k))
            for k, (name, p) in enumerate(self.populations.items())
        }
        synapses, arrivals, longest = [], [], {}
        for path in self.pathways:
            dtype = path.inputs[0].comm.weight.dtype
            synapses.append(path.syn.init(path.n_state, dtype))
            rings = []
            for inp in path.inputs:
                if inp.delay is None:
                    length = steps("delay", inp.comm.max_delay, dt) if inp.comm.max_delay else 1
                    step_counts("delay", inp.comm.delay, dt, np.int32, at_least=1)
                    rings.append(inp.comm.ring(length, dtype))
                else:
                    age = steps("delay", inp.delay, dt, at_least=1)
                    longest[inp.pre.name] = max(age, longest.get(inp.pre.name, 0))
                    rings.append(None)
            arrivals.append(tuple(rings))
        like = eqx.filter_eval_shape(lambda: self._emissions(populations, dt, key))
        history = {name: ring_of(n, like[name]) for name, n in longest.items()}
        return NetworkState(populations, tuple(synapses), history, tuple(arrivals))

    def _emissions(self, states, dt, key):
        tick = Tick(jnp.zeros((), jnp.int32), dt, key)
        return {
            name: emitted(p.step(states[name], Drives(), tick)[1])
            for name, p in self.populations.items()
        }

    def step(self, state, x, tick):
        check_inputs(self.populations, x)
        # 1. and 2. integrate with the synaptic variables of now, and emit.
        populations, out, raw = {}, {}, {}
        for k, (name, population) in enumerate(self.populations.items()):
            drives = as_drives(x.get(name, 0.0))
            for path, syn in zip(self.pathways, state.synapses, strict=True):
                if path.post.name == name:
                    drive = OnView(path.drive, path.conductance(syn), path.post.lo, path.post.hi)
                    drives = drives + Drives((drive,))
            populations[name], raw[name] = population.step(
                state.populations[name], drives, tick.fold(k)
            )
            out[name] = emitted(raw[name])
        # 3. flow, then receive what is due.
        synapses, arrivals = [], []
        for path, syn, rings in zip(self.pathways, state.synapses, state.arrivals, strict=True):
            done = jtu.tree_leaves(populations[path.post.name])[:1]
            syn = jtu.tree_map(lambda a: after(a, done[0]) if done else a, syn)  # noqa: B023
            syn, rings = path.deliver(syn, rings, state.history, out, tick)
            synapses.append(syn)
            arrivals.append(rings)
        history = {name: ring.write(tick, out[name]) for name, ring in state.history.items()}
        return NetworkState(populations, tuple(synapses), history, tuple(arrivals)), out


def check_inputs(populations: Mapping[str, AbstractDynamics], x) -> None:
    """Refuses inputs for unknown populations or of another size."""
    if not isinstance(x, Mapping):
        raise TypeError(
            f"inputs: {type(x).__name__}; a network takes a dict from population names to "
            f"currents, such as {{'{next(iter(populations), 'N')}': 20.0}}."
        )
    for name, value in x.items():
        if name not in populations:
            raise KeyError(f"inputs: unknown population {name!r}; there are {sorted(populations)}.")
        shape = np.shape(value) if not callable(value) else ()
        n = populations[name].n
        if shape not in ((), (n,)):
            raise ValueError(
                f"inputs[{name!r}]: shape {shape}; it must be one number or ({n},), one a neuron."
            )

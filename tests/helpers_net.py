"""What the tests of combinators, networks and `simulate` share."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

import purebrain as pb
from purebrain.ops import Spikes

DT = 0.1


class From(eqx.Module):
    """Inputs by step, `values[0]` in step `i0`: compiled once for all values, unlike a lambda."""

    values: object
    i0: int | jax.Array = 0

    def __call__(self, tick):
        return jtu.tree_map(lambda a: a[tick.i - self.i0], self.values)


class Emitter(pb.AbstractSource):
    """Neuron k spikes once, in step at[k]."""

    at: jax.Array
    bits: bool = eqx.field(static=True, default=True)

    @property
    def n(self):
        return self.at.size

    def init(self, *, dt, key=None):
        return ()

    def step(self, state, x, tick):
        s = tick.i == self.at
        return (), s if self.bits else s.astype(float)


class Saturating(pb.AbstractSynapse):
    """g -> g + (1 - g) at a spike: what arrives depends on g, so it has no sum over synapses."""

    tau: jax.Array = eqx.field(converter=jnp.asarray)

    def init(self, n, dtype):
        return jnp.zeros(n, dtype)

    def flow(self, state, tick):
        return state * jnp.exp(-tick.dt / self.tau)

    def receive(self, state, add):
        return state + (1 - state) * add(jnp.zeros_like(state))

    def output(self, state):
        return state


def projection(pre, post, comm, *, syn=None, drive=None, delay=DT):
    syn = pb.Exponential(5.0) if syn is None else syn
    return pb.Projection(pre, post, comm, syn, pb.Current() if drive is None else drive, delay)


def coba(n=40, *, key=0, spike=None, noise=False, weights=(0.6, 6.7)):
    """A small COBA-LIF network with delays of 0.3 and 0.5 ms; with noise, also a Poisson source."""
    keys = jr.split(jr.key(key), 3)
    kwargs = {} if spike is None else {"spike": spike}
    neurons = pb.Refractory(pb.LIF(n, v_init=pb.Normal(-55.0, 5.0), **kwargs), tau_ref=0.5)
    populations, n_exc = {"N": neurons}, 4 * n // 5
    excitatory, inhibitory = (
        pb.connect.fixed_prob(0.4, w, key=k) for w, k in zip(weights, keys, strict=False)
    )
    view = pb.View("N")
    projections = [
        projection(view[:n_exc], "N", excitatory, drive=pb.COBA(0.0), delay=0.5),
        projection(view[n_exc:], "N", inhibitory, drive=pb.COBA(-80.0), delay=0.3),
    ]
    if noise:
        populations["P"] = pb.PoissonSource(20, 1000.0)
        rule = pb.connect.fixed_prob(0.3, 0.2, key=keys[2])
        projections.append(projection("P", "N", rule, drive=pb.COBA(0.0), delay=0.2))
    return pb.Network(populations, projections)


def dense(spikes):
    """Recorded spikes as a NumPy array."""
    return np.asarray(spikes.to_dense() if isinstance(spikes, Spikes) else spikes)


def assert_identical(a, b):
    """Every bit, shape and dtype of two pytrees."""
    assert jtu.tree_structure(a) == jtu.tree_structure(b)
    for (path, x), y in zip(jtu.tree_leaves_with_path(a), jtu.tree_leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.shape, x.dtype) == (y.shape, y.dtype), jtu.keystr(path)
        assert x.tobytes() == y.tobytes(), jtu.keystr(path)

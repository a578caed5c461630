"""A spiking network with slow adaptation currents learns delayed match to sample.

80 excitatory and 20 inhibitory generalised integrate-and-fire neurons; each spike lowers an
internal current with a time constant of 100 to 3,000 ms, which is what outlasts the delay. 2,500
steps of 1 ms are differentiated through (`surrogate.ReLU`); a regulariser keeps potentials near the
threshold.

Wang et al. (2024), A differentiable brain simulator, ICLR, section 5.3.
"""

import argparse
import functools

import _dms
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _dms import _cli

import purebrain as pb

N_EXC, N_INH = 80, 20
DT = 1.0  # ms
BLOCK = 50  # steps


class Params(eqx.Module):
    """What is trained. Recurrent weights are absolute values with the signs of Dale's mask."""

    w_in: jax.Array
    w_rec: jax.Array
    b_rec: jax.Array
    w_out: jax.Array
    b_out: jax.Array


class State(eqx.Module):
    """`g`: the synaptic current; `neurons`; `spikes` of the last step; `out`: the readout."""

    g: jax.Array
    neurons: object
    spikes: jax.Array
    out: jax.Array


class Net(pb.AbstractDynamics):
    """Neurons that excite and inhibit each other, and leaky integrators that read them.

    `weight`: of the inputs, then of the neurons, (inputs + n, n).
    """

    neurons: pb.GIF
    weight: jax.Array
    bias: jax.Array
    w_out: jax.Array
    synapse: pb.Exponential
    readout: pb.Exponential

    def init(self, *, dt, key=None):
        n, dtype = self.neurons.n, self.weight.dtype
        neurons = self.neurons.init(dt=dt, key=key)
        return State(
            self.synapse.init(n, dtype), neurons, jnp.zeros(n, dtype), self.readout.init(2, dtype)
        )

    def step(self, state, x, tick):
        """`x`: the spikes of the inputs. Out: the neurons' spikes, the readout, and how far their
        potentials are out of bounds."""
        spikes = jnp.concatenate([x.astype(state.g.dtype), state.spikes])
        g = self.synapse.receive(
            self.synapse.flow(state.g, tick), lambda g: g + (spikes @ self.weight + self.bias)
        )
        after = self.neurons.flow(state.neurons, g, tick)
        s = self.neurons.fire(state.neurons, after)
        out = self.readout.receive(
            self.readout.flow(state.out, tick), lambda out: out + s @ self.w_out
        )
        u = self.neurons.threshold(after)
        far = jnp.maximum(u - 0.4, 0) ** 2 + jnp.maximum(-2 - u, 0) ** 2
        return State(g, self.neurons.reset(after, s), s, out), (s, out, far.mean())


class Recomputed(pb.AbstractAdjoint):
    """Keeps the state every `steps` steps and computes the rest again: what is kept between stays
    in the processor's cache, which takes three quarters of the time of keeping all."""

    steps: int = eqx.field(static=True)

    def scan(self, body, carry, length):
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def block(carry, _):
            return jax.lax.scan(body, carry, None, length=self.steps)

        carry, saved = jax.lax.scan(block, carry, None, length=length // self.steps)
        return carry, jax.tree.map(lambda a: a.reshape(length, *a.shape[2:]), saved)


def make(key) -> tuple[Params, pb.GIF]:
    """Random weights, and neurons with random time constants."""
    n = N_EXC + N_INH
    k_in, k_rec, k_out, k_tau = jr.split(key, 4)
    normal = lambda k, rows, columns: jr.normal(k, (rows, columns)) * np.sqrt(0.4 / rows)  # noqa: E731
    w_rec = normal(k_rec, n, n).at[:N_EXC].multiply(N_INH / N_EXC)
    params = Params(
        normal(k_in, _dms.N_INPUTS, n), w_rec, jnp.zeros(n), normal(k_out, n, 2), jnp.zeros(2)
    )
    neurons = pb.GIF(
        n,
        tau=20.0,
        tau_1=10.0,
        tau_2=jr.uniform(k_tau, (n,), minval=100.0, maxval=3000.0),
        a_1=jnp.repeat(jnp.array([0.0, 1.0]), jnp.array([N_EXC, N_INH])),
        a_2=-0.6,
        v_rest=0.0,
        v_inf=1.0,
        v_reset=0.0,
        spike=pb.surrogate.ReLU(),
        reset_rule=pb.SoftReset(detach=False),
    )
    return params, neurons


def network(params: Params, neurons: pb.GIF, mask) -> Net:
    """The network of some weights."""
    weight = jnp.concatenate([params.w_in, jnp.abs(params.w_rec) * mask])
    synapse, readout = pb.Exponential(100.0), pb.Exponential(10.0)
    return Net(neurons, weight, params.b_rec, params.w_out, synapse, readout)


def learned(tick, state, out):
    """What the loss needs of a step."""
    return out[1:]


def everything(tick, state, out):
    """The spikes too."""
    return out


def main(args: argparse.Namespace) -> None:
    """Trains, prints and draws."""
    if args.quick:
        args.epochs, args.batches, args.test_batches = 1, 3, 1
        args.batch = min(args.batch, 16)
    params, neurons = make(jr.key(args.seed))
    mask = _dms.signs(N_EXC, N_INH)

    def simulate(params, rates, key, save):
        spikes = jr.bernoulli(key, rates * DT * 1e-3)
        net = network(params, neurons, mask)
        start, adjoint = net.init(dt=DT), Recomputed(BLOCK)

        def run(spikes):
            inputs = pb.Series(spikes)
            return pb.simulate(
                *(net, start, inputs), dt=DT, duration=_dms.DURATION, save=save, adjoint=adjoint
            ).saved

        return spikes, jax.vmap(run, in_axes=1, out_axes=1)(spikes)

    def logits(params, out):
        return out[-round(_dms.TEST / DT) :] + params.b_out[None, None]

    def loss(params, key):
        k_trials, k_spikes = jr.split(key)
        trials = _dms.draw(k_trials, args.batch, DT)
        _, (out, far) = simulate(params, trials.rates, k_spikes, learned)
        value, accuracy = _dms.decision(logits(params, out), trials.match)
        return value + far.mean() ** 2, accuracy

    params, history = _dms.train(params, loss, args)
    head = {"neurons": N_EXC + N_INH, "steps": round(_dms.DURATION / DT)}
    k_trials, k_spikes = jr.split(jr.key(args.seed + 1))
    trials = _dms.draw(k_trials, 256, DT)
    shown, (s, out, _) = eqx.filter_jit(simulate)(params, trials.rates, k_spikes, everything)
    head |= {"rate_hz": round(float(s.mean()) * 1e3 / DT, 2)}
    _cli.show(head | _dms.figures(history, args), args.json)
    if args.plot:
        figure = draw(np.asarray(shown), np.asarray(s), trials, logits(params, out), history)
        _cli.save_figure(figure, args.plot, args.json)


def draw(shown, spikes, trials, out, history):
    """Spikes of a trial that matches, rates of neurons sorted by the direction of the sample
    that they prefer, their tuning, and the learning. The delay is silent: what is remembered are
    the adaptation currents."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 2, figsize=(10, 9), layout="constrained")
    one = int(np.argmax(trials.match))
    for axis, s, name in ((axes[0, 0], shown, "input"), (axes[0, 1], spikes, "neuron")):
        t, n = np.nonzero(s[:, one])
        axis.plot(t * DT, n, "|", ms=2, color="k")
        _dms.mark_periods(axis)
        axis.set(xlabel="ms", ylabel=name, xlim=(0, _dms.DURATION))
    axes[0, 1].axhline(N_EXC - 0.5, color="tab:red", lw=0.7)
    rates = spikes.reshape(-1, BLOCK, *spikes.shape[1:]).mean(1) * 1e3 / DT
    _dms.draw_tuned(axes[1], rates, trials, DT * BLOCK, N_EXC, (500.0, 1000.0), "sample")
    _dms.draw_decisions(axes[2, 0], np.asarray(out).mean(0), trials)
    _dms.draw_history(axes[2, 1], history)
    return figure


if __name__ == "__main__":
    _cli.main(main, _dms.options(__doc__ or "", target=0.92, learning_rate=1e-3))

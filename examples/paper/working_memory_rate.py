"""A rate network that obeys Dale's law learns delayed match to sample.

80 excitatory and 20 inhibitory units, tau = 200 ms, 25 steps of dt = 100 ms a trial:

    x(n + 1) = (1 - a) x(n) + a ([s(n), r(n)] W + b) + sqrt(2 a) 0.05 noise,   r = max(x, 0)

with a = dt / tau and the inputs' rates s in units of 40 Hz. The readout sees excitatory units only.

Song, Yang, Wang (2016), PLoS Comput. Biol. 12; Wang et al. (2024), ICLR, section 5.3.
"""

import argparse

import _dms
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _dms import _cli

import purebrain as pb

N_EXC, N_INH, DT, TAU, NOISE = 80, 20, 100.0, 200.0, 0.05
N = N_EXC + N_INH


class Params(eqx.Module):
    """What is trained; weights are absolute values with the signs of Dale's mask."""

    w_in: jax.Array
    w_rec: jax.Array
    b_rec: jax.Array
    w_out: jax.Array
    b_out: jax.Array


def make(key) -> Params:
    """Random weights: of the excitatory units a quarter of the inhibitory, so that they balance,
    with a spectral radius of about 1."""
    k_in, k_rec, k_out = jr.split(key, 3)
    w_rec = 0.1166 * jr.gamma(k_rec, 2.0, (N, N))
    return Params(
        jr.normal(k_in, (_dms.N_INPUTS, N)) / np.sqrt(_dms.N_INPUTS),
        w_rec.at[:N_EXC].multiply(N_INH / N_EXC),
        jnp.full(N, 0.1),
        jr.normal(k_out, (N_EXC, 2)) / np.sqrt(N_EXC),
        jnp.zeros(2),
    )


class RateNet(pb.AbstractDynamics):
    """Leaky rectified units. `weight`: of the inputs, then of the units, (inputs + n, n)."""

    weight: jax.Array
    bias: jax.Array

    def init(self, *, dt, key=None):
        return jnp.zeros_like(self.bias)

    def step(self, state, x, tick):
        if tick.key is None:
            raise ValueError("key: missing, but the units are noisy; simulate(..., key=...).")
        a = tick.dt / TAU
        drive = jnp.concatenate([x, jax.nn.relu(state)]) @ self.weight + self.bias
        noise = NOISE * np.sqrt(2 * a) * jr.normal(tick.key, state.shape, state.dtype)
        state = (1 - a) * state + a * drive + noise
        return state, jax.nn.relu(state)


def rates(params: Params, trials: _dms.Trials, key) -> jax.Array:
    """The rates of all units, (steps, trials, n)."""
    weight = jnp.concatenate([params.w_in, jnp.abs(params.w_rec) * _dms.signs(N_EXC, N_INH)])
    net = RateNet(weight, params.b_rec)
    start = net.init(dt=DT)

    def run(x, key):
        inputs = pb.Series(x / _dms.PEAK)
        return pb.simulate(net, start, inputs, dt=DT, duration=_dms.DURATION, key=key).saved

    keys = jr.split(key, trials.match.size)
    return jax.vmap(run, in_axes=(1, 0), out_axes=1)(trials.rates, keys)


def logits(params: Params, r) -> jax.Array:
    """The readout during the test, (steps, trials, 2)."""
    return r[-round(_dms.TEST / DT) :, :, :N_EXC] @ params.w_out + params.b_out[None, None]


def main(args: argparse.Namespace) -> None:
    """Trains, prints and draws."""
    if args.quick:
        args.epochs, args.batches, args.test_batches = 2, 20, 2

    def loss(params, key):
        k_trials, k_noise = jr.split(key)
        trials = _dms.draw(k_trials, args.batch, DT)
        r = rates(params, trials, k_noise)
        value, accuracy = _dms.decision(logits(params, r), trials.match)
        return value + 1e-3 * jnp.mean(r**2), accuracy

    params, history = _dms.train(make(jr.key(args.seed)), loss, args)
    _cli.show(
        {"units": N, "steps": round(_dms.DURATION / DT)} | _dms.figures(history, args), args.json
    )
    if args.plot:
        trials = _dms.draw(jr.key(args.seed + 1), 512, DT)
        activity = np.asarray(rates(params, trials, jr.key(args.seed + 2)))
        _cli.save_figure(
            draw(activity, trials, logits(params, activity), history), args.plot, args.json
        )


def draw(r, trials, out, history):
    """Units sorted by the direction they prefer in the delay, their tuning, and the learning."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    _dms.draw_tuned(axes[0], r, trials, DT, N_EXC, (1500.0, 2000.0), "late delay")
    _dms.draw_decisions(axes[1, 0], np.asarray(out).mean(0), trials)
    _dms.draw_history(axes[1, 1], history)
    return figure


if __name__ == "__main__":
    _cli.main(main, _dms.options(__doc__ or "", target=0.98, learning_rate=3e-3))

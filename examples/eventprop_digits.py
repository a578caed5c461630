"""Handwritten digits learned with exact spike times: no time step and no surrogate gradient.

The 1,797 digits of scikit-learn, 8 x 8 pixels, are coded as latencies: the darker a pixel, the
earlier its one spike, a white one is silent. They drive a hidden layer and ten output neurons,
leaky integrate-and-fire with exponential currents,

    tau_m dv/dt = -v + i,   di/dt = -i / tau_s + weights at the input spikes,   v -> 0 at v = 1

and the output that fires first is the answer. With tau_m = 2 tau_s, v is a quadratic polynomial in
exp(-t / tau_m), so that every spike time is the root of a quadratic equation. The gradient of the
loss on the first spikes is exact: EventProp, the adjoint of the dynamics, which jumps at spikes.
Each hidden neuron fires at most once here.

Wunderlich and Pehle (2021), Scientific Reports 11; Goeltz et al. (2021), Nature Machine
Intelligence 3.
"""

import argparse
import functools
import time
from typing import Any

import _cli
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax

TAU = 10.0  # ms, of the membrane; of the currents half of it
LATEST = 10.0  # ms, the spike of the lightest pixel there could be
CUE, CUE_WEIGHT = 14.0, 10.0  # ms; a weight of 4 takes a neuron at rest to threshold
END = 40.0  # ms, after which nothing counts
SHARPNESS = 0.5  # ms, of earlier spikes that make an answer e times as probable


def flow(v, i, x):
    """The state after a time s, with x = exp(-s / TAU)."""
    return (v + i) * x - i * x * x, i * x * x


def crossing(v, i):
    """x = exp(-s / TAU) at the time s when v reaches 1 from below; 0 if it never does."""
    a = v + i
    square = a * a - 4 * i
    # (v + i) x - i x^2 = 1; without input that is above 0, v only falls.
    rises = (i > 0) & (square > 0)
    x = (a + jnp.sqrt(jnp.where(rises, square, 1))) / (2 * jnp.where(rises, i, 1))
    return jnp.where(rises & (x < 1), x, 0)


def arrivals(times, weights):
    """Inputs in order: times, (inputs, batch), and weights, (inputs, batch, neurons)."""
    order = jnp.argsort(times, axis=1)
    times = jnp.take_along_axis(times, order, 1).T
    jumps = jnp.where((times < END)[..., None], weights[order.T], 0)
    return order, jnp.minimum(times, END), jumps


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def layer(times, weights, most):
    """The spike times, (batch, neurons, most), of neurons that fire at most `most` times each.

    `times`: of the inputs, (batch, inputs), infinite for silence; `weights`: (inputs, neurons).
    """
    return forward(times, weights, most)[0]


def forward(times, weights, most):
    _, arrive, jumps = arrivals(times, weights)
    shape = jumps.shape[1:]
    zeros = jnp.zeros(shape, weights.dtype)

    def interval(carry, inputs):
        """From one input to the next, through up to `most` spikes."""
        t, v, i, spikes = carry
        until, jump = inputs
        t, steps = jnp.broadcast_to(t, shape), []
        for _ in range(most):
            x = crossing(v, i)
            spike = t - TAU * jnp.log(jnp.where(x > 0, x, 1))
            free = jnp.isinf(spikes[..., -1])
            fires = (x > 0) & (spike < until[:, None]) & free
            x = jnp.where(fires, x, 1)
            t, (v, i) = jnp.where(fires, spike, t), flow(v, i, x)
            v = jnp.where(fires, 0, v)
            # The first slot that is free.
            slot = jnp.cumsum(jnp.isinf(spikes), axis=-1) == 1
            slot = slot & jnp.isinf(spikes) & fires[..., None]
            spikes = jnp.where(slot, t[..., None], spikes)
            steps.append((x, fires, i, slot))
        x = jnp.exp((t - until[:, None]) / TAU)
        v, i = flow(v, i, x)
        return (until[:, None], v, i + jump, spikes), (steps, x)

    spikes = jnp.full((*shape, most), jnp.inf, weights.dtype)
    ends = jnp.concatenate([arrive, jnp.full_like(arrive[:1], END)])
    jumps = jnp.concatenate([jumps, zeros[None]])
    (_, _, _, spikes), record = lax.scan(
        interval, (zeros[:, :1], zeros, zeros, spikes), (ends, jumps)
    )
    return spikes, (times, weights, record)


def backward(most, residuals, cotangent):
    """EventProp: p = dL/dv and q = dL/di, back in time."""
    times, weights, record = residuals
    order, _, jumps = arrivals(times, weights)
    shape = jumps.shape[1:]
    zeros = jnp.zeros(shape, weights.dtype)
    jumps = jnp.concatenate([jumps, zeros[None]])

    def interval(carry, inputs):
        p, q = carry
        (steps, x), jump = inputs
        of_weight = q
        # An input that comes later: i is without the jump for longer.
        of_time = jnp.sum(jump * (2 * q - p), axis=1) / TAU
        p, q = x * p, (x - x * x) * p + x * x * q
        for x, fires, i, slot in reversed(steps):
            # v' is (i - 1) / TAU before the spike, i / TAU after it.
            direct = jnp.sum(jnp.where(slot, cotangent, 0), axis=-1)
            jumped = (p * i - TAU * direct) / jnp.where(fires, i - 1, 1)
            p = jnp.where(fires, jumped, p)
            p, q = x * p, (x - x * x) * p + x * x * q
        return (p, q), (of_weight, of_time)

    _, (of_weights, of_times) = lax.scan(interval, (zeros, zeros), (record, jumps), reverse=True)
    rank = jnp.argsort(order, axis=1)
    of_times = jnp.take_along_axis(of_times[:-1].T, rank, 1)
    of_weights = jnp.take_along_axis(of_weights[:-1], rank.T[..., None], 0)
    of_weights = jnp.where((times < END).T[..., None], of_weights, 0)
    return of_times, jnp.sum(of_weights, axis=1)


layer.defvjp(forward, backward)


def first_spikes(times, weights) -> jax.Array:
    """The times, (batch, neurons), of neurons that fire at most once."""
    spikes: Any = layer(times, weights, 1)
    return spikes[..., 0]


def network(weights, times):
    """Spike times of the hidden layer, (batch, hidden), and of the outputs, (batch, 10).

    A strong spike at CUE makes the outputs that are still silent fire: without a spike there is
    nothing to move, and training would stop at a network that says nothing.
    """
    hidden = first_spikes(times, weights[0])
    cue = jnp.full((len(times), 1), CUE, times.dtype)
    to_output = jnp.concatenate([weights[1], jnp.full((1, 10), CUE_WEIGHT, times.dtype)])
    return hidden, first_spikes(jnp.concatenate([hidden, cue], axis=1), to_output)


def loss(weights, times, labels):
    """Cross-entropy of the first spikes: what fires earlier is more probable."""
    _, first = network(weights, times)
    evidence = jax.nn.log_softmax(-jnp.minimum(first, END) / SHARPNESS)
    return -jnp.mean(jnp.take_along_axis(evidence, labels[:, None], 1))


def digits(seed):
    """Latencies, (digits, 65), and labels, for training and for the test; the last input is a bias
    that fires at the start."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(
            'scikit-learn is missing, which has the digits: pip install "purebrain[data]"'
        ) from error
    images, labels = load_digits(return_X_y=True)
    times = np.where(images > 0, LATEST * (1 - images / 16), np.inf)
    times = np.concatenate([times, np.zeros((len(times), 1))], 1).astype(np.float32)
    parts = train_test_split(
        times, labels.astype(np.int32), test_size=360, stratify=labels, random_state=seed
    )
    return [jnp.asarray(part) for part in parts]


def run(args: argparse.Namespace) -> None:
    """Trains, tests, prints and draws."""
    import optax

    x, x_test, y, y_test = digits(args.seed)
    hidden, epochs = (60, 15) if args.quick else (args.hidden, args.epochs)
    steps = len(x) // args.batch
    if steps == 0:
        raise ValueError(f"--batch: {args.batch}, but there are {len(x)} digits to train with.")
    k1, k2, shuffle = jr.split(jr.key(args.seed), 3)
    weights = [
        0.2 + 0.35 * jr.normal(k1, (x.shape[1], hidden)),
        (12 + 6 * jr.normal(k2, (hidden, 10))) / hidden,
    ]
    # The derivative of a spike that just reaches threshold is huge: the norm is bounded.
    rate = optax.cosine_decay_schedule(0.1 / hidden * args.learning_rate, epochs * steps)
    optimizer = optax.chain(optax.clip_by_global_norm(0.3), optax.adam(rate))

    @jax.jit
    def epoch(weights, state, key):
        order = jr.permutation(key, len(x))[: steps * args.batch].reshape(steps, args.batch)

        def step(carry, rows):
            weights, state = carry
            noise = args.jitter * jr.normal(jr.fold_in(key, rows[0]), (rows.size, x.shape[1]))
            times = jnp.maximum(x[rows] + noise, 0)
            value, slopes = jax.value_and_grad(loss)(weights, times, y[rows])
            updates, state = optimizer.update(slopes, state)
            return (optax.apply_updates(weights, updates), state), value

        (weights, state), values = lax.scan(step, (weights, state), order)
        return weights, state, jnp.mean(values)

    @jax.jit
    def accuracy(weights, times, labels):
        return jnp.mean(jnp.argmin(network(weights, times)[1], axis=1) == labels)

    state, history = optimizer.init(weights), []
    start = time.perf_counter()
    for k in range(epochs):
        weights, state, value = epoch(weights, state, jr.fold_in(shuffle, k))
        history.append((float(value), float(accuracy(weights, x_test, y_test))))
        if not (args.json or args.quiet):
            print(
                f"epoch {k + 1:3d}  loss {value:.4f}  test accuracy {history[-1][1]:.4f}",
                flush=True,
            )
    seconds = time.perf_counter() - start
    fired, first = network(weights, x_test)
    figures = {
        "hidden": hidden,
        "epochs": epochs,
        "train_digits": len(x),
        "test_digits": len(x_test),
        "loss_start": round(history[0][0], 4),
        "loss_end": round(history[-1][0], 4),
        "train_accuracy": round(float(accuracy(weights, x, y)), 4),
        "test_accuracy": round(history[-1][1], 4),
        "hidden_spikes": round(float(jnp.isfinite(fired).mean()), 3),
        "answer_ms": round(float(jnp.median(jnp.min(first, axis=1))), 2),
        "train_s": round(seconds, 1),
        "peak_rss_mb": _cli.peak_rss_mb(),
    }
    _cli.show(figures, args.json)
    if args.plot:
        _cli.save_figure(
            draw(history, x_test[0], fired[0], first[0], y_test[0]), args.plot, args.json
        )


def draw(history, inputs, hidden, outputs, label):
    """Loss and accuracy over the epochs, and the spikes of one test digit."""
    import matplotlib.pyplot as plt

    losses, accuracies = zip(*history, strict=True)
    epochs = range(1, len(history) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(epochs, losses, color="tab:orange")
    left.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    twin = left.twinx()
    twin.plot(epochs, [100 * a for a in accuracies], color="tab:blue")
    twin.set(ylabel="test accuracy (%)", ylim=(0, 100))
    left.yaxis.label.set_color("tab:orange")
    twin.yaxis.label.set_color("tab:blue")
    base, ticks = 0, []
    for name, times in [("pixels", inputs[:-1]), ("hidden", hidden), ("outputs", outputs)]:
        times = np.asarray(times)
        # Outputs are few: each gets the room of several.
        size = 6 if name == "outputs" else 1
        right.scatter(times, base + size * np.arange(len(times)), s=4 * size, marker="|")
        ticks.append((base + size * len(times) / 2, name))
        base += size * len(times) + 12
    right.axvline(CUE, color="0.7", ls=":", label="cue")
    answer = int(np.argmin(outputs))
    right.set(xlabel="time (ms)", title=f"a {int(label)}; output {answer} fires first")
    right.set_yticks(*zip(*ticks, strict=True))
    right.legend(loc="lower right")
    return figure


def options() -> argparse.ArgumentParser:
    """The options."""
    p = _cli.parser(__doc__ or "")
    p.add_argument("--hidden", type=_cli.whole, default=240, metavar="N")
    p.add_argument("--epochs", type=_cli.whole, default=40)
    p.add_argument("--batch", type=_cli.whole, default=64, metavar="N")
    p.add_argument("--learning-rate", type=float, default=1.0, help="of the default one")
    p.add_argument("--jitter", type=float, default=0.5, metavar="MS", help="of inputs in training")
    p.add_argument("--quick", action="store_true", help="60 hidden neurons, 15 epochs")
    return p


if __name__ == "__main__":
    _cli.main(run, options())

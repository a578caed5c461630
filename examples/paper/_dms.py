"""Delayed match to sample, and what the two networks that learn it share.

Fixation (500 ms), a sample (500 ms), a delay (1,000 ms), a test (500 ms): was the test's direction
the sample's? Eight directions, 24 inputs with von Mises tuning, up to 40 Hz above a background of
1 Hz; half of the trials match.

Masse, Yang, Song, Wang, Freedman (2019), Nature Neuroscience 22; Wang et al. (2024), ICLR.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import _cli  # pyright: ignore[reportMissingImports]

FIXATION, SAMPLE, DELAY, TEST = 500.0, 500.0, 1000.0, 500.0  # ms
DURATION = FIXATION + SAMPLE + DELAY + TEST
N_INPUTS, N_DIRECTIONS, KAPPA = 24, 8, 2.0
PEAK, BACKGROUND = 40.0, 1.0  # Hz


class Trials(NamedTuple):
    """`rates`: Hz, (steps, trials, inputs); `match`: 0 or 1; `sample`: the direction, 0 to 7."""

    rates: jax.Array
    match: jax.Array
    sample: jax.Array


def draw(key, count: int, dt: float) -> Trials:
    """`count` random trials in steps of `dt` ms."""
    k_match, k_sample, k_other = jr.split(key, 3)
    match = jr.bernoulli(k_match, 0.5, (count,)).astype(jnp.int32)
    sample = jr.randint(k_sample, (count,), 0, N_DIRECTIONS)
    other = (sample + jr.randint(k_other, (count,), 1, N_DIRECTIONS)) % N_DIRECTIONS
    test = jnp.where(match == 1, sample, other)
    direction = 2 * np.pi * np.arange(N_DIRECTIONS)[:, None] / N_DIRECTIONS
    preferred = 2 * np.pi * np.arange(N_INPUTS) / N_INPUTS
    tuning = jnp.asarray(PEAK * np.exp(KAPPA * (np.cos(direction - preferred) - 1)), float)
    none = jnp.zeros((count, N_INPUTS))
    shown = [(FIXATION, none), (SAMPLE, tuning[sample]), (DELAY, none), (TEST, tuning[test])]
    parts = [jnp.broadcast_to(x, (round(ms / dt), *x.shape)) for ms, x in shown]
    return Trials(BACKGROUND + jnp.concatenate(parts), match, sample)


def signs(n_exc: int, n_inh: int) -> jax.Array:
    """Dale's mask, (n, n): +1 from excitatory, -1 from inhibitory neurons, 0 onto oneself."""
    sign = jnp.concatenate([jnp.ones(n_exc), -jnp.ones(n_inh)])
    return sign[:, None] * (1 - jnp.eye(n_exc + n_inh))


def decision(logits, match):
    """Cross entropy over every step of `logits` (steps, trials, 2), and the accuracy of their mean
    over time."""
    log_p = jax.nn.log_softmax(logits)
    right = jnp.take_along_axis(log_p, jnp.broadcast_to(match[:, None], (*log_p.shape[:2], 1)), 2)
    return -right.mean(), (logits.mean(0).argmax(-1).astype(match.dtype) == match).mean()


class History(NamedTuple):
    """Of every epoch: the mean loss and accuracy of its batches, and the accuracy on new trials."""

    loss: list[float]
    train: list[float]
    test: list[float]
    seconds: list[float]


def train(
    params: Any,
    loss: Callable,
    args: argparse.Namespace,
) -> tuple[Any, History]:
    """Adam on `loss(params, key) -> (loss, accuracy)` until `args.target` or `args.epochs`."""
    import optax

    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(args.learning_rate))

    @eqx.filter_jit
    def step(params, state, key):
        (value, accuracy), grad = eqx.filter_value_and_grad(loss, has_aux=True)(params, key)
        updates, state = optimiser.update(grad, state, params)
        return eqx.apply_updates(params, updates), state, value, accuracy

    evaluate = eqx.filter_jit(lambda params, key: loss(params, key)[1])
    state, (key, k_test) = optimiser.init(params), jr.split(jr.key(args.seed))
    history = History([], [], [], [])
    for epoch in range(args.epochs):
        start, values, scores = time.perf_counter(), [], []
        for batch in range(args.batches):
            k = jr.fold_in(key, epoch * args.batches + batch)
            params, state, value, accuracy = step(params, state, k)
            values.append(value)
            scores.append(accuracy)
            if not np.isfinite(float(value)):
                raise FloatingPointError(f"loss: {value} in batch {batch} of epoch {epoch + 1}")
            if not (args.json or args.quiet) and sys.stderr.isatty():
                print(f"\rbatch {batch + 1}/{args.batches}", end="\r", file=sys.stderr)
        seconds = time.perf_counter() - start
        unseen = [evaluate(params, jr.fold_in(k_test, n)) for n in range(args.test_batches)]
        history.loss.append(float(np.mean(values)))
        history.train.append(float(np.mean(scores)))
        history.test.append(float(np.mean(unseen)))
        history.seconds.append(seconds)
        if not (args.json or args.quiet):
            print(
                f"epoch {epoch + 1:3d}  loss {history.loss[-1]:.4f}  accuracy "
                f"{history.train[-1]:.4f}  on new trials {history.test[-1]:.4f}  {seconds:.1f} s",
                flush=True,
            )
        if history.test[-1] >= args.target:
            break
    return params, history


def figures(history: History, args: argparse.Namespace) -> dict[str, object]:
    """What both examples report."""
    return {
        "epochs": len(history.test),
        "trials": len(history.test) * args.batches * args.batch,
        "test_accuracy": round(history.test[-1], 4),
        "test_trials": args.test_batches * args.batch,
        "loss": round(history.loss[-1], 4),
        "first_epoch_s": round(history.seconds[0], 2),
        "epoch_s": round(float(np.median(history.seconds[1:] or history.seconds)), 2),
        "train_s": round(sum(history.seconds), 2),
        "peak_rss_mb": _cli.peak_rss_mb(),
    }


def options(description: str, *, target: float, learning_rate: float) -> argparse.ArgumentParser:
    """The options of both."""
    p = _cli.parser(description)
    p.add_argument("--quick", action="store_true", help="a short training, within half a minute")
    p.add_argument("--epochs", type=_cli.whole, default=200, help="at most")
    p.add_argument("--batches", type=_cli.whole, default=100, help="an epoch")
    p.add_argument("--batch", type=_cli.whole, default=64, help="trials a batch")
    p.add_argument("--test-batches", type=_cli.whole, default=8, help="of new trials")
    p.add_argument("--target", type=float, default=target, help="accuracy on new trials to stop at")
    p.add_argument("--learning-rate", type=float, default=learning_rate, help="of Adam")
    return p


# ---- pictures ------------------------------------------------------------------------------------


def mark_periods(axis) -> None:
    """Lines around the sample and the test, ms."""
    for start, length, name in ((FIXATION, SAMPLE, "sample"), (DURATION - TEST, TEST, "test")):
        for at in (start, start + length):
            axis.axvline(at, color="0.5", lw=0.7)
        axis.text(start + length / 2, 1.01, name, ha="center", transform=axis.get_xaxis_transform())


def draw_tuned(axes, r, trials: Trials, dt: float, n_exc: int, period, name: str) -> None:
    """Left: units by steps, in trials of one sample, sorted by the sample that each prefers in a
    `period` (start and end, ms); right: their tuning then. `r`: (steps, trials, units)."""
    sample = np.asarray(trials.sample)
    within = slice(*(round(t / dt) for t in period))
    tuning = np.stack([r[within, sample == k].mean((0, 1)) for k in range(N_DIRECTIONS)])
    best = tuning.argmax(0)
    order = np.lexsort((tuning.max(0), best, np.arange(r.shape[-1]) >= n_exc))
    shown = r[:, sample == 3].mean(1).T[order]
    scale = r.mean((0, 1)).max() * 2 or 1.0
    left, right = axes
    image = left.imshow(
        shown, aspect="auto", extent=(0, DURATION, len(order), 0), vmax=scale, interpolation="none"
    )
    left.figure.colorbar(image, ax=left, label="mean rate")
    left.axhline(n_exc, color="w", lw=0.7)
    mark_periods(left)
    left.set(xlabel="ms", ylabel="unit by preferred direction")
    right.imshow(
        (tuning / np.maximum(tuning.max(0), 1e-9)).T[order], aspect="auto", interpolation="none"
    )
    right.axhline(n_exc - 0.5, color="w", lw=0.7)
    right.set(xlabel="direction of the sample", title=f"tuning in the {name} (each to its most)")


def draw_decisions(axis, out, trials: Trials) -> None:
    """The mean readout of each trial, by what is right."""
    margin, match = out[:, 1] - out[:, 0], np.asarray(trials.match)
    bins = np.linspace(margin.min(), margin.max(), 40)
    for value, name in ((0, "non-match"), (1, "match")):
        axis.hist(margin[match == value], bins, alpha=0.6, label=name)
    axis.axvline(0, color="0.5", lw=0.7)
    axis.set(xlabel="readout, match - non-match", ylabel="trials")
    axis.legend()


def draw_history(axis, history: History) -> None:
    """Accuracy by epoch."""
    epochs = 1 + np.arange(len(history.test))
    axis.plot(epochs, history.train, marker=".", label="training")
    axis.plot(epochs, history.test, marker=".", label="new trials")
    axis.set(xlabel="epoch", ylabel="accuracy", ylim=(0.4, 1.02))
    axis.legend()

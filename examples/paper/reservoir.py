"""Reservoir computing: digits read row by row, and forecasts of Mackey-Glass and Lorenz.

The units' connections are random and never trained; only a linear readout is solved for: by ridge
regression (`ridge`), sample by sample by recursive least squares, for forecasts with the output fed
back while it learns (`force`), or on products of delayed inputs in place of a reservoir (`nvar`).

- `mnist`: 28 rows of 28 pixels, one row a step; 8,000 digits to train, 2,000 to test.
- `mackey-glass`, tau = 17: learned from 3,000 samples, then 50 forecasts of 84 steps alone. Jaeger
  (2001), GMD report 148, section 6: NRMSE_84 = 0.00028 with 400 units; Jaeger and Haas (2004),
  Science 304: 10^-4.2 with 1,000.
- `lorenz`: ten times learned from 400 samples, forecasts over one Lyapunov time. Gauthier et al.
  (2021), Nature Communications 12: NRMSE = (2.40 +- 0.53) 1e-3 by `nvar`.

FORCE learns to run alone, and so the attractor, rather than the best forecast.

Sussillo and Abbott (2009), Neuron 63; Wang et al. (2024), ICLR, section 5.2.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import purebrain as pb
from purebrain.reservoir import NVAR, RLS, ClosedLoop, EchoState, Force, Ridge, ridge, scaled

sys.path.insert(0, str(Path(__file__).parents[1]))
import _cli  # pyright: ignore[reportMissingImports]

BLOCK = 250  # digits at once
LYAPUNOV = 44  # steps of 0.025


# ---- models --------------------------------------------------------------------------------------


def connected(args: argparse.Namespace, n: int, key) -> pb.ops.AbstractOperator:
    """Normal weights, ten synapses a unit, stored or not."""
    p = min(1.0, 10 / n)
    if args.connect == "jit":
        return pb.connect.jit(p, pb.Normal(0.0, 1.0), key=key)(n, n)
    draw = lambda rng, size: rng.normal(size=size).astype(jnp.zeros(()).dtype)  # noqa: E731
    return pb.connect.fixed_prob(p, draw, key=key)(n, n)


def echo_state(args, inputs: int, *, radius: float, scale: float, bias: float, **leak):
    """A reservoir whose features are 1 and the units."""
    k_w, k_rho, k_in, k_bias = jr.split(jr.key(args.seed), 4)
    w = scaled(connected(args, args.units, k_w), radius, key=k_rho)
    w_in = jr.uniform(k_in, (args.units, inputs), minval=-scale, maxval=scale)
    biases = jr.uniform(k_bias, (args.units,), minval=-bias, maxval=bias)
    net = EchoState(w, w_in, bias=biases, **leak)
    with_one = lambda x: jnp.concatenate([jnp.ones(1, x.dtype), x])  # noqa: E731
    return pb.Chain(net, pb.Stateless(with_one)), args.units + 1


def run(model, u, save=None):
    """The features of every step (or what `save` says) under the inputs u, and the last state."""
    keep = {} if save is None else {"save": save}
    start = model.init(dt=1.0)
    out = pb.simulate(model, start, pb.Series(u), dt=1.0, duration=float(len(u)), **keep)
    return out.saved, out.state


# ---- digits --------------------------------------------------------------------------------------


def digits(args) -> tuple[np.ndarray, np.ndarray, int]:
    """Images in [0, 1], (count, rows, columns), their labels, and how many are to train."""
    if args.data is None:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError("no --data; for the digits: pip install scikit-learn") from error
        bundled: Any = load_digits()
        images, labels = bundled.images / 16, bundled.target
    else:
        from purebrain.train import read_labelled_images

        files = [
            sorted(args.data.glob(f"*-{kind}-ubyte*")) for kind in ("images-idx3", "labels-idx1")
        ]
        if not all(files):
            raise FileNotFoundError(f"--data: no *-images-idx3-ubyte and labels in {args.data}")
        images, labels = read_labelled_images(files[0][0], files[1][0], classes=10)
        images = images / 255
    count = 1000 if args.quick else len(images)
    return images[:count], labels[:count], count * 4 // 5


def classify(args) -> tuple[dict, Any]:
    """Digits, row by row: the readout sees the mean of the features over quarters of the rows."""
    images, labels, n_train = digits(args)
    rows, columns = images.shape[1:]
    parts = 1 if args.readout == "nvar" else 4
    if args.readout == "nvar":
        model = NVAR(columns)
        n = model.n
    else:
        model, n = echo_state(args, columns, radius=0.9, scale=0.6, bias=0.2, leak=0.5)

    @jax.jit
    def features(images):
        def one(image):
            quarters = run(model, image)[0].reshape(parts, rows // parts, n)
            return quarters.mean(1).ravel()

        return jax.vmap(one)(images)

    def blocks(first, last):
        for at in range(first, last, BLOCK):
            part = slice(at, min(at + BLOCK, last))
            x = features(jnp.asarray(images[part], float))
            yield x, jax.nn.one_hot(labels[part], 10, dtype=x.dtype)

    def learn():
        if args.readout == "force":
            learner = RLS(args.penalty)
            state = learner.init(n * parts, 10)
            online = jax.jit(
                lambda s, x, y: jax.lax.scan(lambda s, a: learner.step(s, *a), s, (x, y))[0]
            )
            for x, y in blocks(0, n_train):
                state = online(state, x, y)
            return state.weight
        fit = Ridge(args.penalty)
        add = jax.jit(lambda state, x, y: fit.add(state, x, y))
        state = fit.init(n * parts, 10)
        for x, y in blocks(0, n_train):
            state = add(state, x, y)
        return fit.solve(state)

    weight, seconds = _cli.timed(learn)
    guess = np.concatenate([(x @ weight).argmax(1) for x, _ in blocks(n_train, len(images))])
    truth = labels[n_train:]
    found = {
        "features": n * parts,
        "train": n_train,
        "test": len(truth),
        "test_accuracy": round(float((guess == truth).mean()), 4),
        "train_s": round(seconds, 2),
    }

    def draw(figure):
        left, right = figure.subplots(1, 2)
        trace = run(model, jnp.asarray(images[0], float))[0][:, 1:41]
        left.imshow(np.concatenate([images[0], np.asarray(trace)], 1), cmap="gray", aspect="auto")
        left.set(xlabel="pixel, then feature", ylabel="row = step", title="one digit")
        table = np.zeros((10, 10), int)
        np.add.at(table, (truth, guess), 1)
        right.imshow(table, cmap="Blues", vmax=table.max() / 8)
        for i, j in zip(*np.nonzero(table), strict=True):
            right.text(
                j,
                i,
                table[i, j],
                ha="center",
                va="center",
                fontsize=6,
                color="w" if i == j else "k",
            )
        right.set(xlabel="read as", ylabel="digit", title=f"accuracy {found['test_accuracy']:.3f}")

    return found, draw


# ---- forecasts -----------------------------------------------------------------------------------


class Forecast(NamedTuple):
    """A series, what is learned of it, and where forecasts start."""

    u: jax.Array  # (steps, inputs), as the model sees it
    back: Any  # to the original coordinates
    model: Any
    n: int  # features
    residual: bool  # whether the readout gives the change of u
    train: list[slice]
    starts: list[np.ndarray]  # of each training
    horizon: int
    names: list[str]


def mackey_glass(args) -> Forecast:
    """dy/dt = 0.2 y(t - 17) / (1 + y(t - 17)^10) - 0.1 y, once a unit of time, as tanh(y - 1)."""

    def vf(t, y, _, past):
        return 0.2 * past[0] / (1 + past[0] ** 10) - 0.1 * y

    discard, n_train, trials = 1000, 3000, 20 if args.quick else 50
    steps = discard + n_train + 1000 + 84 * (trials + 1)
    at = dfx.SaveAt(ts=jnp.arange(float(discard), float(steps)))
    y: Any = pb.solvers.ddesolve(
        vf, dfx.Tsit5(), 0.0, float(steps), 0.1, 1.2, delays=(17.0,), saveat=at
    ).ys
    u = jnp.tanh(y - 1)[:, None]
    if args.readout == "nvar":
        model = NVAR(1, k=6, stride=4, orders=(2, 3))
        n = model.n
    else:
        # Jaeger's time constant 0.44, leak 0.9, spectral radius 0.79, and scale of the feedback.
        model, n = echo_state(
            args, 1, radius=0.79, scale=0.56, bias=0.028, leak=0.9 * 0.44, gain=0.44
        )
    starts = n_train + 1000 + 84 * np.arange(trials)
    train = slice(1000 if args.readout != "force" else 0, n_train)
    back = lambda u: jnp.arctanh(u) + 1  # noqa: E731
    return Forecast(u, back, model, n, False, [train], [starts], 84, ["y"])


def lorenz(args) -> Forecast:
    """Lorenz (1963), every 0.025, by RK23 at its default tolerance as Gauthier et al. have it; its
    errors are part of the regularisation (of exact data NVAR learns better, and diverges)."""
    from scipy.integrate import solve_ivp

    def vf(t, y):
        return 10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]

    t, start = 0.025 * np.arange(5000), [17.67715816276679, 12.931379185960404, 43.91404334248268]
    u = solve_ivp(vf, (0, t[-1]), start, t_eval=t, method="RK23").y.T
    firsts = [200 + 400 * k for k in range(3 if args.quick else 10)]
    train = [slice(first, first + 400) for first in firsts]
    starts = [np.array([first + 400]) for first in firsts]
    if args.readout == "force":  # one training, and as many starts after it
        train, starts = [slice(0, 4200)], [4200 + LYAPUNOV * np.arange(len(firsts))]
    mean, sd = (u.mean(0), u.std(0)) if args.readout != "nvar" else (np.zeros(3), np.ones(3))
    if args.readout == "nvar":
        model = NVAR(3)
        n = model.n
    else:
        model, n = echo_state(args, 3, radius=0.6, scale=0.3, bias=0.5, leak=1.0)
    back = lambda v: v * sd + mean  # noqa: E731
    return Forecast(
        jnp.asarray((u - mean) / sd), back, model, n, args.readout != "force", train, starts,
        LYAPUNOV, ["x", "y", "z"],
    )  # fmt: skip


def forecast(args) -> tuple[dict, Any]:
    """Learns, and goes on alone from known states."""
    task = mackey_glass(args) if args.task == "mackey-glass" else lorenz(args)
    u = task.u
    kept = lambda tick, state, out: (state, out)  # noqa: E731
    (states, features), _ = jax.jit(lambda u: run(task.model, u, kept))(u)
    target = u[1:] - u[:-1] if task.residual else u[1:]

    def learn(train: slice):
        if args.readout == "force":
            force = Force(task.model, RLS(args.penalty), task.n, u.shape[1])
            _, end = jax.jit(lambda y: run(force, y))(u[train])
            return end.readout.weight
        return ridge(features[train], target[train], args.penalty)

    @jax.jit
    def alone(weight, starts):
        def readout(o, v):
            return v * task.residual + o @ weight

        loop = ClosedLoop(task.model, readout, u[0])

        def one(at):
            state = jax.tree.map(lambda a: a[at - 1], states), u[at]
            horizon = float(task.horizon)
            return pb.simulate(loop, state, dt=1.0, duration=horizon).saved

        return jax.vmap(one)(starts)

    weights, seconds = _cli.timed(lambda: [learn(train) for train in task.train])
    truth, guess = [], []
    for weight, starts in zip(weights, task.starts, strict=True):
        truth.append(task.back(u[starts[:, None] + 1 + np.arange(task.horizon)]))
        guess.append(task.back(alone(weight, jnp.asarray(starts))))
    truth, guess = np.asarray(truth), np.asarray(guess)  # (trainings, starts, steps, variables)
    error = (guess - truth) ** 2 / np.var(task.back(u))
    found = {"features": task.n, "train": task.train[0].stop - task.train[0].start}
    if args.task == "mackey-glass":
        found |= {
            "trials": truth.shape[1],
            "nrmse_1": _figure(error[0, :, 0].mean() ** 0.5),
            "nrmse_84": _figure(error[0, :, -1].mean() ** 0.5),
        }
        if args.readout == "ridge" and args.units in (400, 1000):
            found["published_nrmse_84"] = 0.00028 if args.units == 400 else 6.3e-5
    else:
        each = error.mean((2, 3)).ravel() ** 0.5
        found |= {
            "trials": len(each),
            "nrmse_lyapunov": _figure(each.mean()),
            "standard_error": _figure(each.std() / len(each) ** 0.5),
        }
        if args.readout == "nvar":
            found["published_nrmse_lyapunov"] = 0.0024
    found["train_s"] = round(seconds / len(task.train), 3)

    def draw(figure):
        left, right = figure.subplots(1, 2)
        left.plot(truth[0, 0], color="0.6", lw=3)
        left.set_prop_cycle(None)
        left.plot(guess[0, 0], label=task.names, lw=1)
        left.set(xlabel="step alone", ylabel="grey: truth", title=f"{args.task}, {args.readout}")
        left.legend()
        right.semilogy(1 + np.arange(task.horizon), error.mean((0, 1, 3)) ** 0.5)
        right.set(xlabel="step alone", ylabel="NRMSE")

    return found, draw


def _figure(x) -> float:
    return float(f"{float(x):.3g}")


# ---- the command line ----------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    """Runs one task, prints and draws."""
    is_digits = args.task == "mnist"
    # Forecasts to 1e-4 a hundred steps ahead need double precision.
    jax.config.update("jax_enable_x64", not is_digits)
    if args.units is None:
        args.units = (100 if args.quick else 500) if is_digits else 400
    if args.penalty is None:
        by_task = {"mnist": 1e-2, "mackey-glass": 1e-16, "lorenz": 2.5e-6}
        args.penalty = by_task[args.task] if args.readout != "force" or is_digits else 1e-9
    head = {"task": args.task, "readout": args.readout}
    if args.readout != "nvar":
        head |= {"connect": args.connect, "units": args.units}
    found, draw = classify(args) if is_digits else forecast(args)
    _cli.show(
        head | {"penalty": args.penalty} | found | {"peak_rss_mb": _cli.peak_rss_mb()}, args.json
    )
    if args.plot:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(9, 3.8), layout="constrained")
        draw(figure)
        _cli.save_figure(figure, args.plot, args.json)


def options() -> argparse.ArgumentParser:
    """The options."""
    p = _cli.parser(__doc__ or "")
    p.add_argument("--task", choices=["mnist", "mackey-glass", "lorenz"], default="mackey-glass")
    p.add_argument("--readout", choices=["ridge", "force", "nvar"], default="ridge")
    p.add_argument("--connect", choices=["jit", "stored"], default="stored")
    p.add_argument("--units", type=_cli.whole, metavar="N", help="400, of digits 500")
    p.add_argument("--penalty", type=float, help="of ridge regression; by default the task's")
    p.add_argument(
        "--data", type=Path, metavar="DIR", help="MNIST's IDX files; else bundled digits"
    )
    p.add_argument("--quick", action="store_true", help="a small size, within half a minute")
    return p


if __name__ == "__main__":
    _cli.main(main, options())

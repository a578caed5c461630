"""The macaque cortex: 29 areas of spiking neurons, wired by measured connectivity.

Between areas, excitatory neurons project with the fraction of labelled neurons (FLN) as probability
and a delay of distance / 3.5 mm/ms (536 projections); within each, all four pairs with probability
0.1 (116). V1 is stimulated from 400 to 500 ms. The network is written as 652 projections between
views of two stacked populations, "E" and "I", and run as written and merged (one synaptic state a
target and kinetics, delays kept a synapse), which must give the same spikes.

Markov et al. (2014), Cereb. Cortex 24; Joglekar et al. (2018), Neuron 98; Wang et al. (2024), ICLR.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import _cli
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import purebrain as pb

VELOCITY = 3.5  # mm/ms
WEIGHTS = {
    "EE": 0.10108301,
    "EI": 0.60604239,
    "IE": -0.60977116,
    "II": -0.33540355,
    "far": 0.0403722,
}
DRIVE, STIMULUS, ON, OFF = 11.0, 8.0, 400.0, 500.0  # mV, mV, ms, ms


class Cortex(NamedTuple):
    """`fln`, `distance` (mm): [target, source]; `names` of the areas."""

    names: list[str]
    fln: np.ndarray
    distance: np.ndarray


def load(folder: Path, n_areas: int) -> Cortex:
    """The first `n_areas` areas from the MATLAB files in `folder`.

    **Raises:** `FileNotFoundError` for a missing file; `ValueError` for one without the expected
    arrays.
    """
    fln = _array(folder / "efelenMatpython.mat", "flnMatpython")
    distance = _array(folder / "subgraphWiring29.mat", "wiring")
    names = [str(cell.item()) for cell in _array(folder / "subgraphData.mat", "areaList").ravel()]
    for name, a in {"flnMatpython": fln, "wiring": distance}.items():
        if a.shape != (len(names), len(names)) or not (np.isfinite(a) & (a >= 0)).all():
            raise ValueError(
                f"--data: {name} in {folder}, of shape {a.shape}, must be finite numbers >= 0, "
                f"a row and a column for each of {len(names)} areas."
            )
    if (fln > 1).any():
        raise ValueError(f"--data: flnMatpython holds {fln.max()}; a fraction is at most 1.")
    if not 1 <= n_areas <= len(names):
        raise ValueError(f"--areas: {n_areas}; there are 1 to {len(names)}.")
    return Cortex(names[:n_areas], fln[:n_areas, :n_areas], distance[:n_areas, :n_areas])


def _array(path: Path, key: str) -> np.ndarray:
    import scipy.io

    if not path.is_file():
        raise FileNotFoundError(f"--data: {path} is missing; give the folder with the .mat files.")
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:
        raise ValueError(f"--data: {path} is not a MATLAB file ({error}).") from error
    if key not in content:
        raise ValueError(f"--data: {path} has no array {key!r}.")
    return content[key]


def build(cortex: Cortex, scale: float, dt: float, key) -> pb.Network:
    """The network as it is described: one projection a pair of areas, and four within each."""
    n_areas = len(cortex.names)
    if not 1 / 8000 <= scale <= 1:
        raise ValueError(
            f"--scale: {scale}; it must be from {1 / 8000} (1 inhibitory neuron an area) to 1."
        )
    n = {"E": round(32_000 * scale), "I": round(8_000 * scale)}

    def population(size):
        lif = pb.LIF(size * n_areas, v_init=pb.Normal(-55.0, 2.0))
        return pb.Refractory(lif, tau_ref=5.0)

    def area(name, k):
        return pb.View(name)[k * n[name] : (k + 1) * n[name]]

    kinetics = {"E": pb.Exponential(5.0), "I": pb.Exponential(10.0)}
    projections = []

    def project(pre, post, p, weight, delay):
        rule = pb.connect.fixed_prob(p, weight / scale, key=jr.fold_in(key, len(projections)))
        projections.append(pb.Projection(pre, post, rule, kinetics[pre.name], pb.Current(), delay))

    for k in range(n_areas):
        for pair in ("EE", "EI", "IE", "II"):
            project(area(pair[0], k), area(pair[1], k), 0.1, WEIGHTS[pair], dt)
    for target, source in zip(*np.nonzero(cortex.fln), strict=True):
        steps = max(1, int(cortex.distance[target, source] / VELOCITY / dt + 0.5))
        p = float(cortex.fln[target, source])
        project(area("E", source), area("E", target), p, WEIGHTS["far"], steps * dt)
    populations = {name: population(size) for name, size in n.items()}
    return pb.inference_mode(pb.Network(populations, projections))


def measure(net: pb.Network, inputs, args, key) -> tuple[pb.Run, dict]:
    """Runs twice; returns the run and its figures."""
    state = net.init(dt=args.dt, key=key)
    bar = not (args.quiet or args.json)

    def run():
        return pb.simulate(net, state, inputs, dt=args.dt, duration=args.duration, progress=bar)

    _, first_s = _cli.timed(run)
    result, run_s = _cli.timed(run)

    def kilobytes(tree):
        return round(sum(a.nbytes for a in jax.tree.leaves(tree)) / 1e3, 1)

    return result, {
        "synaptic_states": len(state.synapses),
        "synaptic_state_kb": kilobytes(state.synapses),
        "delay_buffers_kb": kilobytes((state.history, state.arrivals)),
        "compile_s": round(max(first_s - run_s, 0.0), 2),
        "run_s": round(run_s, 3),
    }


def _synapses(path) -> int:
    return path.inputs[0].comm.indices.size


def run(args: argparse.Namespace) -> None:
    """Builds, runs merged and as written, compares, prints and draws."""
    if not args.dt > 0:
        raise ValueError(f"--dt: {args.dt} ms; it must be above 0.")
    cortex = load(args.data, args.areas)
    n_areas = len(cortex.names)
    k_net, k_init = jr.split(jr.key(args.seed))
    net, build_s = _cli.timed(lambda: build(cortex, args.scale, args.dt, k_net))
    merged, merge_s = _cli.timed(lambda: pb.merge(net))
    n_e = net.populations["E"].n
    in_v1 = jnp.arange(n_e) < n_e // n_areas
    on, off = round(ON / args.dt), round(OFF / args.dt)

    def inputs(tick):
        stimulated = in_v1 & (tick.i >= on) & (tick.i < off)
        return {"E": jnp.where(stimulated, DRIVE + STIMULUS, DRIVE), "I": DRIVE}

    result, figures = measure(merged, inputs, args, k_init)
    spikes = {name: np.asarray(s.to_dense()) for name, s in result.saved.items()}
    report = {
        "areas": n_areas,
        "neurons": sum(p.n for p in net.populations.values()),
        "synapses": sum(_synapses(path) for path in net.pathways),
        "projections": len(net.pathways),
        "steps": spikes["E"].shape[0],
        "build_s": round(build_s, 2),
        "merge_s": round(merge_s, 2),
        **{f"merged_{k}": v for k, v in figures.items()},
    }
    if not args.merged_only:
        other, figures = measure(net, inputs, args, k_init)
        report |= {f"as_written_{k}": v for k, v in figures.items()}
        report["same_spikes"] = all(
            bool((np.asarray(other.saved[name].to_dense()) == s).all())
            for name, s in spikes.items()
        )
    seconds = report["steps"] * args.dt / 1e3
    rates = {
        name: s.reshape(len(s), n_areas, -1).mean(2).sum(0) / max(seconds, 1e-9)
        for name, s in spikes.items()
    }
    report["rate_e_hz"] = round(float(rates["E"].mean()), 3)
    report["rate_i_hz"] = round(float(rates["I"].mean()), 3)
    report["peak_rss_mb"] = _cli.peak_rss_mb()
    _cli.show(report, args.json)
    if not args.json:
        print("\narea    E (Hz)  I (Hz)")
        for name, e, i in zip(cortex.names, rates["E"], rates["I"], strict=True):
            print(f"{name:<6}  {e:6.2f}  {i:6.2f}")
    if args.plot:
        _cli.save_figure(draw(cortex, result, rates, args), args.plot, args.json)


def draw(cortex: Cortex, result: pb.Run, rates: dict, args):
    """The raster of the excitatory neurons by area, and the rates beside it."""
    import matplotlib.pyplot as plt

    names = cortex.names
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 7), width_ratios=(4, 1), sharey=True, layout="constrained"
    )
    pb.plot.raster(result, ["E"], left)
    size = result.saved["E"].size // len(names)
    left.set_yticks((np.arange(len(names)) + 0.5) * size, names)
    left.hlines(np.arange(1, len(names)) * size, *left.get_xlim(), color="0.8", lw=0.5, zorder=0)
    left.axvspan(ON, OFF, color="tab:orange", alpha=0.15, lw=0)
    left.invert_yaxis()
    left.set_title("excitatory neurons; V1 stimulated in the shaded time")
    places = (np.arange(len(names)) + 0.5) * size
    right.barh(places + 0.18 * size, rates["E"], 0.36 * size, label="E")
    right.barh(places - 0.18 * size, rates["I"], 0.36 * size, label="I")
    right.set(xlabel="rate (Hz)")
    right.legend()
    return figure


def options() -> argparse.ArgumentParser:
    """The options."""
    p = _cli.parser(__doc__ or "")
    p.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the .mat files")
    p.add_argument("--scale", type=float, default=0.01, help="of the 40,000 neurons an area")
    p.add_argument("--areas", type=_cli.whole, default=29, metavar="N")
    p.add_argument("--duration", type=float, default=1000.0, metavar="MS")
    p.add_argument("--dt", type=float, default=0.1, metavar="MS")
    p.add_argument("--merged-only", action="store_true", help="do not run it as written too")
    return p


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)  # so that merged and as written agree in every spike
    _cli.main(run, options())

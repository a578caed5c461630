"""What the oracle scripts share: the command line, the simulators' settings, reading a recorder."""

import argparse
import json
import os
import pathlib
import sys

import numpy as np


def out_dir() -> pathlib.Path:
    """The folder named by `--out` (default: beside the scripts), made if it is not there."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    return out


def save_npz(path: pathlib.Path, **arrays) -> None:
    """Write arrays, compressed; numpy puts no time stamp in, so equal arrays give equal bytes."""
    np.savez_compressed(path, **{k: np.asarray(v) for k, v in arrays.items()})
    print(path.name, path.stat().st_size, "bytes")


def save_json(path: pathlib.Path, data: dict) -> None:
    """Write one top-level key a line."""
    rows = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items()]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(path.name, path.stat().st_size, "bytes")


def fresh_nest(dt: float = 0.1):
    """NEST with a reset kernel, one thread, resolution `dt` (ms)."""
    os.environ.setdefault("PYNEST_QUIET", "1")
    import nest

    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.ResetKernel()
    nest.resolution = dt
    nest.local_num_threads = 1
    return nest


def nest_record(nest, nodes, names, interval=0.1):
    """Attach one multimeter to `nodes`; after Simulate call the returned function.

    It gives (stamps in steps of 0.1 ms, {name: [n_nodes, n_times]}).
    """
    meter = nest.Create("multimeter", params={"record_from": list(names), "interval": interval})
    nest.Connect(meter, nodes)

    def read():
        ev = meter.get("events")
        order = np.lexsort((ev["times"], ev["senders"]))
        shape = (len(nodes), -1)
        steps = np.rint(np.asarray(ev["times"])[order].reshape(shape)[0] * 10).astype(np.int32)
        return steps, {k: np.asarray(ev[k])[order].reshape(shape) for k in names}

    return read


def nest_spikes(nest, nodes):
    """Attach one spike recorder; after Simulate the returned function gives (index, stamp step)."""
    recorder = nest.Create("spike_recorder")
    nest.Connect(nodes, recorder)
    first = nodes.tolist()[0]

    def read():
        ev = recorder.get("events")
        steps = np.rint(np.asarray(ev["times"]) * 10).astype(np.int32)
        index = (np.asarray(ev["senders"]) - first).astype(np.int32)
        order = np.lexsort((index, steps))
        return index[order], steps[order]

    return read


def fresh_brian2(dt: float = 0.1):
    """Brian2 with the cython target, float64 and no -ffast-math, so that rounding is IEEE's."""
    import brian2 as b2

    b2.start_scope()
    b2.prefs.codegen.target = "cython"
    b2.prefs.codegen.cpp.extra_compile_args_gcc = ["-w", "-O3", "-ffp-contract=off", "-std=c++11"]
    b2.defaultclock.dt = dt * b2.ms
    return b2

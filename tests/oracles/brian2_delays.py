"""When does a Brian2 spike show, with a delay of d steps? -> brian2_delays.npz

Brian2 runs a step as: StateMonitor(when="start"), groups (integration), thresholds, synapses,
resets, StateMonitor(when="end"); everything in step n is stamped t_n, the step's start.
Targets: dv/dt = (g - v) / 20 ms, dg/dt = -g / 5 ms, method "exact", dt 0.1 ms, on_pre g += 1.
All times are integers, in steps; row k belongs to delays[k]; d = 0 (Brian2's default) is in too.

1. gen_*: a SpikeGeneratorGroup spike at step gen_step.
2. neuron_*: a neuron dx/dt = 1 / ms that crosses x > 5 in one step, from x = 0; neuron_step is
   what its SpikeMonitor says.
*_g_start, *_v_start, *_g_end, *_v_end: StateMonitor traces with either `when`, stamped `times`.

Asserted at the end, for a spike that Brian2 stamps n (ours: step n, stamp n + 1):
when="start": g first shows the jump in the record stamped n + d + 1, v in the one n + d + 2;
when="end": g first shows the jump in the record stamped n + d, v in the one n + d + 1.
"""

import numpy as np
from _common import fresh_brian2, out_dir, save_npz

DELAYS = np.arange(0, 26)


def record(b2, source, times):
    eqs = "dv/dt = (g - v) / (20*ms) : 1\ndg/dt = -g / (5*ms) : 1"
    targets = b2.NeuronGroup(len(DELAYS), eqs, method="exact")
    synapses = b2.Synapses(source, targets, on_pre="g_post += 1")
    synapses.connect()
    synapses.delay = DELAYS * 0.1 * b2.ms
    start = b2.StateMonitor(targets, ("g", "v"), record=True, when="start")
    end = b2.StateMonitor(targets, ("g", "v"), record=True, when="end")
    spikes = b2.SpikeMonitor(source)
    b2.Network(source, targets, synapses, start, end, spikes).run(9.5 * b2.ms)
    step = round(float(spikes.t[0] / b2.ms) * 10)
    traces = {"g_start": start.g, "v_start": start.v, "g_end": end.g, "v_end": end.v}
    for name, late in (("g_start", 1), ("v_start", 2), ("g_end", 0), ("v_end", 1)):
        shown = np.argmax(traces[name] != 0, axis=1)
        np.testing.assert_array_equal(shown, step + DELAYS + late, err_msg=name)
    return step, {k: np.asarray(v)[:, times] for k, v in traces.items()}


def main():
    out, times = out_dir(), np.arange(46, 90)
    data = dict(delays=DELAYS, times=times)
    b2 = fresh_brian2()
    gen = b2.SpikeGeneratorGroup(1, [0], [5.0] * b2.ms)
    ramp = b2.NeuronGroup(
        1, "dx/dt = 1/ms : 1", threshold="x > 5.05", reset="x = -100", method="euler"
    )
    for name, source in (("gen", gen), ("neuron", ramp)):
        step, traces = record(b2, source, times)
        data |= {f"{name}_step": step} | {f"{name}_{k}": v for k, v in traces.items()}
    save_npz(out / "brian2_delays.npz", **data)
    print("stamps: generator", data["gen_step"], "neuron", data["neuron_step"])


if __name__ == "__main__":
    main()

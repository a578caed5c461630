"""COBA-LIF and COBA-HH (Vogels & Abbott 2005; Brette et al. 2007) in Brian2.

-> brian2_coba.json (statistics of 10 seeds), brian2_coba_spikes.npz (seed 0, the first 50 ms)

4000 neurons (3200 E, 800 I), each ordered pair joined with p = 80 / 4000 (autapses too, no
multapses), delay 0.1 ms, dt 0.1 ms, 1000 ms, float64, exponential_euler (conditionally linear, so
Brian2 takes it for the LIF too; see brian2_hh.py for the scheme).
LIF: 20 ms dv/dt = g_e (0 - v) + g_i (-80 - v) - (v + 60) + 20 mV; g_e, g_i without unit, tau 5 and
10 ms, weights 0.6 and 6.7; threshold v > -50 mV, reset -60 mV; V0 ~ N(-55, 5) mV, g = 0.
HH: C 200 pF, g_L 10, g_Na 20000, g_K 6000 nS, E -60, 50, -90, V_T -63 mV, tau 5 and 10 ms, weights
6 and 67 nS, E 0 and -80 mV; spike: upward crossing of -20 mV; V0 ~ N(-65, 5) mV, gates and g = 0.

Draws of seed s, with numpy: rng = default_rng(s); v0 = mean + 5 rng.standard_normal(4000);
joined = rng.random((4000, 4000)) < 0.02, row = source. LIF and HH thus share connectivity.

Refractory: after the spike in step n Brian2's `refractory=5*ms` holds v for the 49 steps n+1..n+49
and integrates in step n+50; NEST's t_ref = 5 ms holds 50 and integrates in n+51. "lif" holds
50 steps (refractory=5.1 ms), "lif_49" holds 49 (refractory=5*ms).

A seed's statistics (key: a list over seeds): rate (Hz, whole run), rate_800 (last 800 ms), cv (mean
over neurons with >= 3 ISIs in the last 800 ms), n_cv (how many), and deciles 0, 10, .., 100% of
single-neuron rate_q (Hz), cv_q, corr_q (counts in 10 ms bins, pairs of neurons 0..199 that fire;
all in the last 800 ms).
Spikes: {lif,lif_49,hh}_{neuron,step}, stamp steps in ours (Brian2's + 1), up to stamp 500.
"""

import numpy as np
from _common import fresh_brian2, out_dir, save_json, save_npz
from brian2_hh import EQS, parameters

N, N_E, SEEDS = 4000, 3200, 10
LIF = """
dv/dt = (g_e*(0*mV - v) + g_i*(-80*mV - v) - (v + 60*mV) + 20*mV)/(20*ms) : volt (unless refractory)
dg_e/dt = -g_e/(5*ms) : 1
dg_i/dt = -g_i/(10*ms) : 1
"""
HH = EQS.replace("i_ext : amp (constant)", "")
HH = HH.replace("i_ext", "g_e*(0*mV - v) + g_i*(-80*mV - v)")
HH += "dg_e/dt = -g_e/(5*ms) : siemens\ndg_i/dt = -g_i/(10*ms) : siemens"


def spikes_of(model, seed):
    """(neuron, our stamp step) of one run of 1000 ms."""
    rng, b2 = np.random.default_rng(seed), fresh_brian2()
    noise = 5 * rng.standard_normal(N)
    pre, post = np.nonzero(rng.random((N, N)) < 80 / N)
    if model == "hh":
        above, (w_e, w_i) = "v > -20*mV", ("6*nS", "67*nS")
        group = b2.NeuronGroup(
            N,
            HH,
            threshold=above,
            refractory=above,
            method="exponential_euler",
            namespace=parameters(b2),
        )
        group.v = (-65 + noise) * b2.mV
    else:
        tau_ref, (w_e, w_i) = (5.0 if model == "lif_49" else 5.1) * b2.ms, ("0.6", "6.7")
        group = b2.NeuronGroup(
            N,
            LIF,
            threshold="v > -50*mV",
            reset="v = -60*mV",
            refractory=tau_ref,
            method="exponential_euler",
        )
        group.v = (-55 + noise) * b2.mV
    exc = b2.Synapses(group, group, on_pre=f"g_e_post += {w_e}", delay=0.1 * b2.ms)
    inh = b2.Synapses(group, group, on_pre=f"g_i_post += {w_i}", delay=0.1 * b2.ms)
    exc.connect(i=pre[pre < N_E], j=post[pre < N_E])
    inh.connect(i=pre[pre >= N_E], j=post[pre >= N_E])
    monitor = b2.SpikeMonitor(group)
    b2.Network(group, exc, inh, monitor).run(1000 * b2.ms)
    return np.asarray(monitor.i), np.rint(np.asarray(monitor.t / b2.ms) * 10).astype(np.int32) + 1


def statistics(neuron, step):
    late = step > 2000
    neuron_l, step_l = neuron[late], step[late]
    count = np.bincount(neuron_l, minlength=N)
    order = np.lexsort((step_l, neuron_l))
    trains = np.split(step_l[order], np.cumsum(count)[:-1])
    cv = np.array([np.std(i) / np.mean(i) for i in map(np.diff, trains) if i.size >= 3])
    binned = np.array([np.histogram(t, 80, (2000.5, 10000.5))[0] for t in trains[:200] if t.size])
    corr = np.corrcoef(binned)[np.triu_indices(len(binned), 1)]
    tenths = np.linspace(0, 1, 11)
    stats = dict(rate=neuron.size / N, rate_800=count.mean() / 0.8, cv=cv.mean(), n_cv=cv.size)
    quantiles = dict(rate_q=count / 0.8, cv_q=cv, corr_q=corr)
    stats |= {k: np.quantile(v, tenths) for k, v in quantiles.items()}
    return {k: np.round(v, 5).tolist() for k, v in stats.items()}


def main():
    out, table, first = out_dir(), {}, {}
    for model in ("lif", "lif_49", "hh"):
        runs = [spikes_of(model, seed) for seed in range(SEEDS)]
        neuron, step = runs[0]
        first[f"{model}_neuron"] = neuron[step <= 500].astype(np.int16)
        first[f"{model}_step"] = step[step <= 500].astype(np.int16)
        stats = [statistics(*run) for run in runs]
        for key in stats[0]:
            table[f"{model}.{key}"] = [s[key] for s in stats]
        for key in ("rate", "rate_800", "cv"):
            x = np.array(table[f"{model}.{key}"])
            error = x.std(ddof=1) / SEEDS**0.5
            print(f"{model} {key} {x.mean():.4f} +- {error:.4f} (s.e.)", flush=True)
    save_json(out / "brian2_coba.json", table)
    save_npz(out / "brian2_coba_spikes.npz", **first)


if __name__ == "__main__":
    main()

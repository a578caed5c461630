"""NEST iaf_psc_alpha under injected spikes -> nest_iaf_psc_alpha.npz

NEST integrates this model exactly on the grid (Rotter & Diesmann 1999): with I = I_e + I_ex + I_in,
C_m dV/dt = -C_m (V - E_L) / tau_m + I, and I_x a sum of w e (t / tau_syn_x) exp(-t / tau_syn_x)
over the spikes before t, so that a weight is the current at its peak, tau_syn_x after the spike.

The input, the neurons and the arrays are those of `nest_iaf_psc_exp.npz` (see its script), with the
weights times 1/2; in_weight is the weight used. One more neuron, the last, has tau_syn_ex = tau_m:
  tau_syn_ex  [9] ms
"""

import numpy as np
from _common import fresh_nest, nest_record, nest_spikes, out_dir, save_npz
from nest_iaf_psc_exp import I_E, NEURON, T_REF, TRAIN, draw_train

TRAIN = np.append(TRAIN, 1)
T_REF = np.append(T_REF, 2.0)
I_E = np.append(I_E, 20.0)
TAU_SYN_EX = np.append(np.full(8, NEURON["tau_syn_ex"]), NEURON["tau_m"])

if __name__ == "__main__":
    rng, nest = np.random.default_rng(21), fresh_nest()
    trains = [draw_train(rng, *rates) for rates in ((1.0, 0.3), (0.4, 0.3), (2.0, 1.2))]
    trains = [(stamp, weight / 2) for stamp, weight in trains]
    neurons = nest.Create("iaf_psc_alpha", len(TRAIN), params=NEURON)
    parameters = zip(T_REF, I_E, TAU_SYN_EX, strict=True)
    neurons.set([{"t_ref": r, "I_e": i, "tau_syn_ex": tau} for r, i, tau in parameters])
    for k, (stamp, weight) in enumerate(trains):
        for sign in (weight > 0, weight < 0):
            params = {"spike_times": stamp[sign] / 10, "spike_weights": weight[sign]}
            generator = nest.Create("spike_generator", params=params)
            for n in np.flatnonzero(TRAIN == k):
                nest.Connect(generator, neurons[int(n)], syn_spec={"weight": 1.0, "delay": 0.1})
    fine = nest_record(nest, neurons, ("V_m",))
    coarse = nest_record(nest, neurons, ("V_m", "I_syn_ex", "I_syn_in"), interval=1.0)
    spikes = nest_spikes(nest, neurons)
    nest.Simulate(500.1)  # a recorder misses the last instant of a run
    index, steps = spikes()
    fine_step, fine_v = fine()
    step, rec = coarse()
    save_npz(
        out_dir() / "nest_iaf_psc_alpha.npz",
        **{f"par_{k}": v for k, v in NEURON.items()},
        in_train=np.concatenate([np.full(s.size, k, np.int8) for k, (s, _) in enumerate(trains)]),
        in_stamp=np.concatenate([s for s, _ in trains]).astype(np.int16),
        in_weight=np.concatenate([w for _, w in trains]),
        in_delay=1,
        train=TRAIN,
        t_ref=T_REF,
        i_e=I_E,
        tau_syn_ex=TAU_SYN_EX,
        spike_neuron=index[steps <= 5000],
        spike_step=steps[steps <= 5000],
        fine_step=fine_step[:500],
        fine_v=fine_v["V_m"][:, :500],
        step=step,
        v=rec["V_m"],
        i_ex=rec["I_syn_ex"],
        i_in=rec["I_syn_in"],
    )
    print("spikes a neuron", np.bincount(index, minlength=len(TRAIN)))

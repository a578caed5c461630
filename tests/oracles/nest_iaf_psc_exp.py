"""NEST iaf_psc_exp under injected spikes and under DC -> nest_iaf_psc_exp.npz, nest_fi.npz

NEST integrates this model exactly on the grid (Rotter & Diesmann 1999): with I = I_e + I_ex + I_in,
C_m dV/dt = -C_m (V - E_L) / tau_m + I, dI_x/dt = -I_x / tau_syn_x, and inputs on grid points.

nest_iaf_psc_exp.npz: 3 input trains (Poisson counts a step, weights multiples of 1/64 pA, signed:
w > 0 goes to I_syn_ex, w < 0 to I_syn_in), 8 neurons, 500 ms.
  in_train, in_stamp, in_weight   the input: stamps in steps; the connection's delay is 1 step
  train, t_ref, i_e               [8] a neuron's train, refractory time (ms), DC (pA)
  spike_neuron, spike_step        output, stamps in steps
  fine_step, fine_v               V_m [8, 500], every step of the first 50 ms
  step, v                         V_m [8, 500], every 1 ms
  i_ex, i_in                      [3, 500] a train's I_syn, every 1 ms
nest_fi.npz: 50 currents x t_ref 0, 2, 5 ms, 1000 ms from V_m = E_L.
  i_e [50], t_ref [3], count [3, 50], spike_step: concatenated in the order of count.ravel().
"""

import numpy as np
from _common import fresh_nest, nest_record, nest_spikes, out_dir, save_npz

NEURON = dict(C_m=200.0, tau_m=20.0, E_L=-60.0, V_th=-50.0, V_reset=-60.0, V_m=-60.0)
NEURON |= dict(tau_syn_ex=5.0, tau_syn_in=10.0)
TRAIN = np.array([0, 0, 0, 1, 1, 1, 2, 2])
T_REF = np.array([2.0, 5.0, 2.0, 2.0, 5.0, 2.0, 2.0, 5.0])
I_E = np.array([70.0, 70.0, 160.0, 150.0, 130.0, 200.0, 150.0, 300.0])


def draw_train(rng, rate_e, rate_i):
    """(stamp, weight) of 499.9 ms of Poisson input; rates in spikes/ms, stamps from 1."""
    stamps, weights = [], []
    for rate, low, high in ((rate_e, 640, 3200), (rate_i, -3200, -640)):
        stamp = np.repeat(np.arange(1, 5000), rng.poisson(rate * 0.1, 4999))
        stamps.append(stamp)
        weights.append(rng.integers(low, high, stamp.size) / 64)
    return np.concatenate(stamps), np.concatenate(weights)


def injected(out):
    rng, nest = np.random.default_rng(20), fresh_nest()
    trains = [draw_train(rng, *rates) for rates in ((1.0, 0.3), (0.4, 0.3), (2.0, 1.2))]
    neurons = nest.Create("iaf_psc_exp", len(TRAIN), params=NEURON)
    neurons.set([{"t_ref": r, "I_e": i} for r, i in zip(T_REF, I_E, strict=True)])
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
    first = [int(np.flatnonzero(TRAIN == k)[0]) for k in range(3)]
    save_npz(
        out / "nest_iaf_psc_exp.npz",
        **{f"par_{k}": v for k, v in NEURON.items()},
        in_train=np.concatenate([np.full(s.size, k, np.int8) for k, (s, _) in enumerate(trains)]),
        in_stamp=np.concatenate([s for s, _ in trains]).astype(np.int16),
        in_weight=np.concatenate([w for _, w in trains]),
        in_delay=1,
        train=TRAIN,
        t_ref=T_REF,
        i_e=I_E,
        spike_neuron=index[steps <= 5000],
        spike_step=steps[steps <= 5000],
        fine_step=fine_step[:500],
        fine_v=fine_v["V_m"][:, :500],
        step=step,
        v=rec["V_m"],
        i_ex=rec["I_syn_ex"][first],
        i_in=rec["I_syn_in"][first],
    )
    print("spikes a neuron", np.bincount(index, minlength=len(TRAIN)))


def f_i(out):
    i_e, t_ref = 81.5 + 17.0 * np.arange(50), np.array([0.0, 2.0, 5.0])
    counts, all_steps = [], []
    for ref in t_ref:
        nest = fresh_nest()
        neurons = nest.Create("iaf_psc_exp", 50, params=NEURON | {"t_ref": ref})
        neurons.I_e = i_e
        spikes = nest_spikes(nest, neurons)
        nest.Simulate(1000.1)
        index, steps = spikes()
        index, steps = index[steps <= 10000], steps[steps <= 10000]
        counts.append(np.bincount(index, minlength=50))
        all_steps += [steps[index == n] for n in range(50)]
        assert all(len(set(np.diff(s))) <= 1 for s in all_steps)  # one ISI
    par = {f"par_{k}": v for k, v in NEURON.items()}
    steps = np.concatenate(all_steps).astype(np.int16)
    save_npz(out / "nest_fi.npz", **par, i_e=i_e, t_ref=t_ref, count=counts, spike_step=steps)
    print("counts at t_ref 0, 2, 5:", [c[[1, 2, 10, 49]].tolist() for c in counts])


if __name__ == "__main__":
    folder = out_dir()
    injected(folder)
    f_i(folder)

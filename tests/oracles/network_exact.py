"""A recurrent iaf_psc_exp network in NEST and in Brian2 -> network_exact.npz

100 neurons (80 E, 20 I), each ordered pair but the diagonal joined with p = 0.1; weights (pA)
multiples of 1/64, delays 1..15 steps, another DC and V0 for each neuron; dt 0.1 ms, 200 ms.
C_m 200 pF, tau_m 20, tau_syn_ex 5, tau_syn_in 10 ms, E_L = V_reset = -60, V_th -50 mV, t_ref 2 ms
(20 steps held, n+1..n+20 after a spike in step n; in Brian2 refractory = 2.1 ms).

  pre, post, weight, delay        the synapses (weight in pA, signed; delay in steps), sorted by pre
  i_e, v0                         [100]
  neuron, step                    spikes in NEST, stamp steps; asserted: Brian2's method "exact"
                                  gives the same spikes, and V within 1e-9 mV
  euler_neuron, euler_step        the same network in Brian2 by exponential_euler: over a step V
                                  sees the currents as they stand at its start
  v, euler_v                      V of neurons 0..3, every step of the first 50 ms: column k is the
                                  state at stamp k + 1
  margin, euler_margin            the least |V - V_th| (mV) before a reset: how far from a tie
"""

import numpy as np
from _common import fresh_brian2, fresh_nest, nest_record, nest_spikes, out_dir, save_npz

N, N_E, STEPS, SHOWN = 100, 80, 2000, 4


def draw():
    rng = np.random.default_rng(6)
    joined = (rng.random((N, N)) < 0.1) & ~np.eye(N, dtype=bool)
    pre, post = np.nonzero(joined)
    size = rng.integers(1280, 5120, pre.size) / 64  # 20..80 pA
    weight = np.where(pre < N_E, size, -2 * size)
    delay = rng.integers(1, 16, pre.size)
    i_e, v0 = rng.permutation(N) * 2.0 + 90.0, rng.integers(-60 * 64, -50 * 64, N) / 64
    return dict(pre=pre, post=post, weight=weight, delay=delay, i_e=i_e, v0=v0)


def in_nest(net):
    nest = fresh_nest()
    params = dict(C_m=200.0, tau_m=20.0, E_L=-60.0, V_th=-50.0, V_reset=-60.0, t_ref=2.0)
    neurons = nest.Create("iaf_psc_exp", N, params=params | dict(tau_syn_ex=5.0, tau_syn_in=10.0))
    neurons.I_e, neurons.V_m = net["i_e"], net["v0"]
    ids = np.asarray(neurons.tolist())
    syn = {"weight": net["weight"], "delay": net["delay"] / 10}
    nest.Connect(ids[net["pre"]], ids[net["post"]], "one_to_one", syn)
    spikes, voltage = nest_spikes(nest, neurons), nest_record(nest, neurons, ("V_m",))
    nest.Simulate(STEPS / 10 + 0.1)
    neuron, step = spikes()
    return neuron[step <= STEPS], step[step <= STEPS], voltage()[1]["V_m"][:, :STEPS]


def in_brian2(net, method):
    b2 = fresh_brian2()
    eqs = """
    dv/dt = (-60*mV - v)/(20*ms) + (i_ex + i_in + i_e)/(200*pF) : volt (unless refractory)
    di_ex/dt = -i_ex/(5*ms) : amp
    di_in/dt = -i_in/(10*ms) : amp
    i_e : amp (constant)
    """
    group = b2.NeuronGroup(
        N, eqs, threshold="v >= -50*mV", reset="v = -60*mV", refractory=2.1 * b2.ms, method=method
    )
    group.v, group.i_e = net["v0"] * b2.mV, net["i_e"] * b2.pA
    synapses = []
    for name, chosen in (("i_ex", net["weight"] > 0), ("i_in", net["weight"] < 0)):
        syn = b2.Synapses(group, group, "w : amp", on_pre=f"{name}_post += w")
        syn.connect(i=net["pre"][chosen], j=net["post"][chosen])
        syn.w = net["weight"][chosen] * b2.pA
        syn.delay = net["delay"][chosen] * 0.1 * b2.ms
        synapses.append(syn)
    spikes = b2.SpikeMonitor(group)
    raw = b2.StateMonitor(group, "v", record=True, when="after_groups")  # before the reset
    end = b2.StateMonitor(group, "v", record=True, when="end")
    b2.Network(group, *synapses, spikes, raw, end).run(STEPS / 10 * b2.ms)
    neuron, step = np.asarray(spikes.i), np.rint(np.asarray(spikes.t / b2.ms) * 10).astype(int) + 1
    order = np.lexsort((neuron, step))
    margin = np.abs(np.asarray(raw.v) * 1e3 + 50).min()
    return neuron[order], step[order], np.asarray(end.v) * 1e3, margin


def main():
    out, net = out_dir(), draw()
    neuron, step, v = in_nest(net)
    neuron_b, step_b, v_b, margin = in_brian2(net, "exact")
    np.testing.assert_array_equal(neuron, neuron_b)
    np.testing.assert_array_equal(step, step_b)
    np.testing.assert_allclose(v, v_b, rtol=0, atol=1e-9)
    e_neuron, e_step, e_v, e_margin = in_brian2(net, "exponential_euler")
    net |= dict(neuron=neuron, step=step, v=v[:SHOWN, :500], margin=margin)
    net |= dict(euler_neuron=e_neuron, euler_step=e_step, euler_v=e_v[:SHOWN, :500])
    save_npz(out / "network_exact.npz", **net, euler_margin=e_margin)
    print(step.size, "spikes; max |V_NEST - V_Brian2|", np.abs(v - v_b).max(), "mV")
    print("exponential_euler:", e_step.size, "spikes; margins", margin, e_margin)


if __name__ == "__main__":
    main()

"""When does a NEST spike of stamp s show, with a delay of d steps? -> nest_delays.npz

iaf_psc_exp targets, dt 0.1 ms, one target a delay d = 1..25 steps, weight 100 pA. All times are
integers, in steps of 0.1 ms. Row k of a trace belongs to delays[k]; column c is what the
multimeter stamps times[c].

1. gen_*: a spike_generator with a spike of stamp gen_stamp.
2. parrot_*: a parrot_neuron that relays one; parrot_stamp is what a spike_recorder says of it.
3. chain_*: an iaf_psc_exp under DC drives a second one (weight 3000 pA, it fires), delay d:
   stamps of the first (chain_pre), of all second ones (chain_post_delay, chain_post), V_m of the
   first (chain_pre_v) and of the second ones with the delays chain_delays (chain_post_v).

What it shows is asserted at the end: I_syn_ex first shows the jump in the record stamped s + d,
V_m first moves in the record stamped s + d + 1.
"""

import numpy as np
from _common import fresh_nest, nest_record, nest_spikes, out_dir, save_npz

NEURON = dict(C_m=200.0, tau_m=20.0, E_L=-60.0, V_th=-50.0, V_reset=-60.0, V_m=-60.0, t_ref=2.0)
NEURON |= dict(tau_syn_ex=5.0, tau_syn_in=10.0, I_e=0.0)
DELAYS = np.arange(1, 26)
SHOWN = np.array([1, 2, 7, 15, 25])


def fan_out(nest, source, weight):
    targets = nest.Create("iaf_psc_exp", len(DELAYS), params=NEURON)
    for target, d in zip(targets, DELAYS, strict=True):
        nest.Connect(source, target, syn_spec={"weight": weight, "delay": d / 10})
    return targets


def main():
    out = out_dir()
    data = dict(delays=DELAYS, weight=100.0, gen_stamp=50)

    nest = fresh_nest()
    generator = nest.Create("spike_generator", params={"spike_times": [5.0]})
    from_gen = nest_record(nest, fan_out(nest, generator, 100.0), ("I_syn_ex", "V_m"))
    parrot = nest.Create("parrot_neuron")
    nest.Connect(generator, parrot, syn_spec={"delay": 0.4})
    from_parrot = nest_record(nest, fan_out(nest, parrot, 100.0), ("I_syn_ex", "V_m"))
    relayed = nest_spikes(nest, parrot)
    nest.Simulate(9.5)
    stamp = {"gen": 50, "parrot": int(relayed()[1][0])}
    data["parrot_stamp"] = stamp["parrot"]
    for name, read in (("gen", from_gen), ("parrot", from_parrot)):
        times, rec = read()
        keep = times >= 46
        jump = times[np.argmax(rec["I_syn_ex"] > 0, axis=1)]
        moved = times[np.argmax(rec["V_m"] != -60.0, axis=1)]
        np.testing.assert_array_equal(jump, stamp[name] + DELAYS)
        np.testing.assert_array_equal(moved, stamp[name] + DELAYS + 1)
        data |= {"times": times[keep], f"{name}_i_syn": rec["I_syn_ex"][:, keep]}
        data |= {f"{name}_v": rec["V_m"][:, keep]}

    nest = fresh_nest()
    pre = nest.Create("iaf_psc_exp", params=NEURON | {"I_e": 300.0})
    post = fan_out(nest, pre, 3000.0)
    pre_spikes, post_spikes = nest_spikes(nest, pre), nest_spikes(nest, post)
    pre_v, post_v = nest_record(nest, pre, ("V_m",)), nest_record(nest, post, ("V_m",))
    nest.Simulate(40.0)
    index, steps = post_spikes()
    data |= dict(chain_weight=3000.0, chain_i_e=300.0, chain_pre=pre_spikes()[1])
    data |= dict(chain_post_delay=DELAYS[index], chain_post=steps, chain_delays=SHOWN)
    data |= dict(chain_times=pre_v()[0], chain_pre_v=pre_v()[1]["V_m"][0])
    data |= dict(chain_post_v=post_v()[1]["V_m"][SHOWN - 1])
    save_npz(out / "nest_delays.npz", **{f"par_{k}": v for k, v in NEURON.items()}, **data)
    print("parrot", stamp["parrot"], "chain", data["chain_pre"], "d = 1:", steps[index == 0])


if __name__ == "__main__":
    main()

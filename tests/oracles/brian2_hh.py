"""One Traub-Miles HH neuron in Brian2 -> brian2_hh.npz, brian2_hh_fi.npz

C dV/dt = g_L (E_L - V) - g_Na m^3 h (V - E_Na) - g_K n^4 (V - E_K) + I;
dx/dt = alpha_x (1 - x) - beta_x x, rates of Traub & Miles (1991) as in Brette et al. (2007).
C 200 pF, g_L 10 nS, g_Na 20000 nS, g_K 6000 nS, E_L -60, E_Na 50, E_K -90, V_T -63 mV, no synapses.
From V = -65 mV; gates either all 0 ("zero") or at their steady state at -65 mV ("rest").
Spikes: V > -20 mV after a step and not before it, stamped at the step's end (Brian2's t + dt).

Brian2's exponential_euler (brian2/stateupdaters/exponential_euler.py, 2.9): each right-hand side is
expanded by sympy to A y + B, where A and B hold the *other* variables; then, for all variables from
the state at t_n at once (Jacobi, not Gauss-Seidel: V and the gates all read old values),
y <- (y + B/A) exp(A dt) - B/A. Thus for V: A = -(g_L + g_Na m^3 h + g_K n^4) / C (m, h, n at t_n),
B = (g_L E_L + g_Na m^3 h E_Na + g_K n^4 E_K + I) / C; for a gate: A = -(alpha + beta), B = alpha,
rates at V(t_n). It refuses a system that is not conditionally linear. A and B are exactly the
diagonal of the Jacobian and the rest, so one step equals the diagonal exponential Euler up to
rounding; Brian2's x exp(A dt) - form has no expm1, at dt 1e-3 it costs about 1e-13 relative a step.

brian2_hh.npz   i [5] pA; times are steps of 0.1 ms, stamps of what is the state at that time
  times                      1..600, for the traces [5, 600] every 0.1 ms
  v, m, h, n                 dt 0.01, gates zero          (v_rest: dt 0.01, gates at rest)
  v_fine                     dt 0.001, gates zero         (v_rk4: method rk4, dt 0.001, gates zero)
  spikes_{zero,rest,fine,rk4}_{neuron,ms}                 100 ms, stamps in ms
  same_i, same_{v,m,h,n}     dt 0.1, gates zero, every step of 30 ms [300]; same_spikes: stamp steps
  rest_m, rest_h, rest_n     the steady-state gates at -65 mV
brian2_hh_fi.npz  dt 0.01, gates at rest, 1000 ms: fi_i [50] pA, fi_count [50], fi_last [50]: the
  last spike (ms, 0 where there is none)
"""

import numpy as np
from _common import fresh_brian2, out_dir, save_npz

EQS = """
dv/dt = (g_l*(E_l - v) - g_na*(m*m*m)*h*(v - E_na) - g_k*(n*n*n*n)*(v - E_k) + i_ext) / C : volt
dm/dt = alpha_m*(1 - m) - beta_m*m : 1
dn/dt = alpha_n*(1 - n) - beta_n*n : 1
dh/dt = alpha_h*(1 - h) - beta_h*h : 1
alpha_m = 0.32/mV*4*mV/exprel((13*mV - v + V_t)/(4*mV))/ms : Hz
beta_m = 0.28/mV*5*mV/exprel((v - V_t - 40*mV)/(5*mV))/ms : Hz
alpha_h = 0.128*exp((17*mV - v + V_t)/(18*mV))/ms : Hz
beta_h = 4/(1 + exp((40*mV - v + V_t)/(5*mV)))/ms : Hz
alpha_n = 0.032/mV*5*mV/exprel((15*mV - v + V_t)/(5*mV))/ms : Hz
beta_n = 0.5*exp((10*mV - v + V_t)/(40*mV))/ms : Hz
i_ext : amp (constant)
"""
CURRENTS = np.array([0.0, 100.0, 200.0, 400.0, 800.0])


def parameters(b2):
    mV, nS = b2.mV, b2.nS
    par = dict(C=200 * b2.pF, g_l=10 * nS, g_na=20000 * nS, g_k=6000 * nS)
    return par | dict(E_l=-60 * mV, E_na=50 * mV, E_k=-90 * mV, V_t=-63 * mV)


def simulate(i, dt, duration, method="exponential_euler", rest=False, record=()):
    """Run neurons with currents `i` (pA). Returns (neuron, stamp ms), {name: [n, times]}, gates."""
    b2 = fresh_brian2(dt)
    group = b2.NeuronGroup(
        len(i),
        EQS,
        method=method,
        namespace=parameters(b2),
        threshold="v > -20*mV",
        refractory="v > -20*mV",
    )
    group.v, group.i_ext = -65 * b2.mV, np.asarray(i) * b2.pA
    if rest:
        for gate in "mhn":
            setattr(group, gate, f"alpha_{gate} / (alpha_{gate} + beta_{gate})")
    gates = {f"rest_{g}": float(getattr(group, g)[0]) for g in "mhn"}
    spikes = b2.SpikeMonitor(group)
    net = b2.Network(group, spikes)
    if record:
        monitor = b2.StateMonitor(group, record, record=True, dt=0.1 * b2.ms, when="start")
        net.add(monitor)
    net.run(duration * b2.ms)
    stamps = np.rint(np.asarray(spikes.t / b2.ms) / dt).astype(np.int64) + 1
    traces = {}
    for name in record:  # when="start": the record stamped t_k is the state at t_k; drop t = 0
        scale = 1e3 if name == "v" else 1.0
        traces[name] = np.asarray(getattr(monitor, name))[:, 1:601] * scale
    return (np.asarray(spikes.i), stamps * dt), traces, gates


def main():
    out = out_dir()
    data = dict(i=CURRENTS, times=np.arange(1, 601), same_i=400.0)
    spikes, traces, _ = simulate(CURRENTS, 0.01, 100.0, record=("v", "m", "h", "n"))
    data |= traces | dict(spikes_zero_neuron=spikes[0], spikes_zero_ms=spikes[1])
    for name, dt, method, rest in (
        ("rest", 0.01, "exponential_euler", True),
        ("fine", 0.001, "exponential_euler", False),
        ("rk4", 0.001, "rk4", False),
    ):
        spikes, traces, gates = simulate(CURRENTS, dt, 100.0, method, rest, record=("v",))
        data |= {f"v_{name}": traces["v"], f"spikes_{name}_neuron": spikes[0]}
        data |= {f"spikes_{name}_ms": spikes[1]} | (gates if rest else {})
        print(name, "spikes", np.bincount(spikes[0], minlength=5), spikes[1][spikes[0] == 3][:3])
    spikes, traces, _ = simulate([400.0], 0.1, 100.0, record=("v", "m", "h", "n"))
    data |= {f"same_{k}": v[0, :300] for k, v in traces.items()}
    data["same_spikes"] = np.rint(spikes[1] * 10).astype(np.int32)
    print("dt 0.1, 400 pA: spike steps", data["same_spikes"])
    save_npz(out / "brian2_hh.npz", **data)

    i = np.linspace(20.0, 1000.0, 50)
    (index, stamp), _, _ = simulate(i, 0.01, 1000.0, rest=True)
    last = [stamp[index == n].max(initial=0.0) for n in range(50)]
    count = np.bincount(index, minlength=50)
    save_npz(out / "brian2_hh_fi.npz", fi_i=i, fi_count=count, fi_last=last)
    print("f-I", count)


if __name__ == "__main__":
    main()

"""How near surrogate gradients come to the exact ones, on a net of two layers.

The loss is the sum of c_j exp(-t / 20) over the spikes of each output j. A surrogate can only add
or take away spikes at the steps there are, an exact gradient only moves them; an earlier spike
counts more, so that both ways more drive is more of c_j.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purebrain as pb
from purebrain import surrogate
from purebrain.solvers import solve_spikes

INPUTS, HIDDEN, OUTPUTS, END, DT = 6, 8, 2, 30.0, 0.02
TAU, TAU_S = 10.0, 5.0
RNG = np.random.default_rng(2)
TIMES = RNG.uniform(0, 10, INPUTS)
TO_HIDDEN = RNG.normal(1.6, 1.0, (INPUTS, HIDDEN))
TO_OUTPUT = RNG.normal(1.4, 1.2, (HIDDEN, OUTPUTS))
SIGNS = np.array([1.0, -0.6])


def exact_loss(weights):
    n = HIDDEN + OUTPUTS

    def vf(t, y, args):
        v, i = y
        return (i - v) / TAU, -i / TAU_S

    def jump(y, k):
        return y[0], y[1].at[:HIDDEN].add(weights[0][k])

    def reset(y, which):
        arriving = which[:HIDDEN].astype(float) @ weights[1]
        return jnp.where(which, 0.0, y[0]), y[1].at[HIDDEN:].add(arriving)

    solution = solve_spikes(
        vf, lambda y: y[0] - 1.0, reset, t0=0.0, t1=END, y0=(jnp.zeros(n), jnp.zeros(n)),
        max_spikes=60, jump_ts=TIMES, jump=jump,
    )  # fmt: skip
    sign = jnp.concatenate([jnp.zeros(HIDDEN), jnp.asarray(SIGNS)])[solution.ids]
    there = jnp.isfinite(solution.ts)
    value = jnp.where(there, sign * jnp.exp(-jnp.where(there, solution.ts, 0.0) / 20), 0.0)
    return jnp.sum(value), solution


def stepped_loss(weights, spike):
    hidden, output = (
        pb.LIF(n, tau=TAU, v_rest=0.0, v_th=1.0, v_reset=0.0, spike=spike)
        for n in (HIDDEN, OUTPUTS)
    )
    dense = pb.connect.dense(TO_OUTPUT)
    net = pb.Network(
        {"H": hidden, "O": output},
        [pb.Projection("H", "O", dense, pb.Exponential(TAU_S), pb.Current(), delay=DT)],
    )
    net = eqx.tree_at(lambda m: m.pathways[0].inputs[0].comm.weight, net, weights[1])
    since = np.arange(round(END / DT))[:, None] * DT - TIMES[None]
    trace = jnp.asarray(np.where(since >= 0, np.exp(-np.maximum(since, 0) / TAU_S), 0))
    earliness = jnp.asarray(np.exp(-(np.arange(len(since)) + 1) * DT / 20))

    def save(tick, state, out):
        return out["O"] @ jnp.asarray(SIGNS), out["H"].sum(), out["O"].sum()

    run = pb.simulate(
        net, net.init(dt=DT), pb.Series({"H": trace @ weights[0]}), dt=DT, duration=END, save=save
    )
    return jnp.sum(run.saved[0] * earliness), run.saved[1:]


@pytest.fixture(scope="module")
def exact():
    weights = jnp.asarray(TO_HIDDEN), jnp.asarray(TO_OUTPUT)
    return jax.jit(jax.value_and_grad(exact_loss, has_aux=True))(weights)


# For the weights to the hidden layer and to the outputs: at least so much cosine similarity to the
# exact gradient, and such a share of its signs. (With the sign turned round they are -1 and 0.)
FEW = [surrogate.SuperSpike(beta=10.0), surrogate.Sigmoid(), surrogate.SLAYER()]
MORE = [
    surrogate.ArcTan(), surrogate.Gaussian(), surrogate.PiecewiseLinear(),
    surrogate.MultiGaussian(), surrogate.Erf(),
]  # fmt: skip
BOUNDS = [(0.55, 0.85), (0.9, 0.99)]  # measured: 0.59 to 0.74, 0.87 to 1; 0.95 to 0.97, 1


@pytest.mark.parametrize(
    "spike",
    [*FEW, *(pytest.param(spike, marks=pytest.mark.slow) for spike in MORE)],
    ids=lambda s: type(s).__name__,
)
def test_surrogate_gradients_point_the_exact_way(spike, exact):
    (value, solution), gradient = exact
    weights = jnp.asarray(TO_HIDDEN), jnp.asarray(TO_OUTPUT)
    run = jax.jit(jax.value_and_grad(lambda w: stepped_loss(w, spike), has_aux=True))
    (stepped, counts), got = run(weights)
    ids = np.asarray(solution.ids[: solution.count])
    hidden, outputs = (ids < HIDDEN).sum(), (ids >= HIDDEN).sum()
    assert [int(c.sum()) for c in counts] == [hidden, outputs] and outputs >= 3
    np.testing.assert_allclose(stepped, value, rtol=0.03)
    for a, b, (cosine, signs) in zip(got, gradient, BOUNDS, strict=True):
        a, b = np.ravel(a), np.ravel(b)
        counted = abs(b) > 1e-3 * abs(b).max()
        assert counted.mean() > 0.9
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > cosine
        assert (np.sign(a) == np.sign(b))[counted].mean() > signs

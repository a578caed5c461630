"""Spike times, and what the raster plot draws."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import purebrain as pb
from purebrain.measure import spike_times


def some_spikes(steps, n, seed=0, p=0.05):
    return np.random.default_rng(seed).random((steps, n)) < p


@pytest.mark.parametrize(("steps", "n", "lo", "hi", "p", "i0"), [
    (40, 70, 5, 64, 0.1, 0), (7, 1025, 1000, 1025, 0.5, 9), (9, 33, 4, 4, 1.0, 3),
    (2**13, 700, 1, 2, 1e-4, 10**8), (0, 5, 1, 3, 1.0, 0), (5, 0, 0, 0, 1.0, 0),
    (30, 40, 0, 40, 0.0, 0),
])  # fmt: skip
def test_spike_times(steps, n, lo, hi, p, i0):
    """Packed, boolean or float, whole or a view: the times and ids that numpy finds, to the bit."""
    x = some_spikes(steps, n, p=p)
    packed = pb.ops.pack(jnp.asarray(x))
    cases = [(a, x) for a in (packed, jnp.asarray(x), x, x.astype(np.float32))]
    for spikes, dense in [*cases, (packed.neurons(slice(lo, hi)), x[:, lo:hi])]:
        times, ids = spike_times(spikes, 0.1, i0)
        step, right = np.nonzero(dense)
        assert (times.dtype, ids.dtype) == (np.float64, np.int64)
        np.testing.assert_array_equal(times, (step + i0 + 1) * 0.1)
        np.testing.assert_array_equal(ids, right)


def test_spike_times_of_counts():
    """A source's counts give an entry a spike, not one a step."""
    times, ids = spike_times(jnp.asarray([[0.0, 2.0], [1.0, 3.0]]), 0.1)
    np.testing.assert_array_equal(times, np.array([1, 1, 2, 2, 2, 2]) * 0.1)
    np.testing.assert_array_equal(ids, [1, 1, 0, 1, 1, 1])


def test_spike_times_are_stamped_at_the_end_of_the_step():
    """20 ms dv/dt = 20 mV - (v + 60 mV) reaches -50 mV after 20 ln 2 = 13.86 ms: in step 138."""
    neuron = pb.LIF(2, spike=pb.surrogate.Heaviside())
    net = pb.Network({"N": neuron})
    current = {"N": jnp.asarray([20.0, 0.0])}
    run = pb.simulate(net, net.init(dt=0.1), current, dt=0.1, duration=20.0)
    times, ids = spike_times(run.saved["N"], run.dt)
    np.testing.assert_array_equal(times, [139 * 0.1])
    np.testing.assert_array_equal(ids, [0])


@pytest.fixture
def run():
    """Two populations, resumed at step 40: packed spikes, and floats."""
    e, i = some_spikes(200, 50, 1), some_spikes(200, 13, 2)
    saved = {"E": pb.ops.pack(jnp.asarray(e)), "I": jnp.asarray(i, jnp.float32)}
    yield pb.Run(None, jnp.asarray(240, jnp.int32), saved, 0.1), e, i
    plt.close("all")


def points(spikes, offset, i0=40):
    step, neuron = np.nonzero(spikes)
    return np.stack([(step + i0 + 1) * 0.1, neuron + offset], axis=1)


def drawn(ax):
    return [np.asarray(dots.get_offsets()) for dots in ax.collections]


def test_raster_draws_each_spike_at_its_place(run, tmp_path):
    run, e, i = run
    ax = pb.plot.raster(run)
    for got, right in zip(drawn(ax), [points(e, 0), points(i, 50)], strict=True):
        np.testing.assert_array_equal(got, right)
    np.testing.assert_allclose(ax.get_xlim(), (4.0, 24.0))
    np.testing.assert_allclose(ax.get_ylim(), (0, 63))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["E\n50 neurons", "I\n13 neurons"]
    np.testing.assert_allclose(ax.get_yticks(), [25, 56.5])
    ax.figure.savefig(tmp_path / "raster.png")
    pixels = plt.imread(tmp_path / "raster.png")[..., :3]
    dots = (pixels.max(-1) - pixels.min(-1) > 0.2).any(axis=0)
    # Coloured, over the width of the axes.
    assert dots.mean() > 0.6


def test_raster_of_views_in_an_order_on_given_axes(run):
    run, e, i = run
    _, ax = plt.subplots()
    assert pb.plot.raster(run, ["I", pb.View("E")[10:30]], ax) is ax
    right = [points(i, 0), points(e[:, 10:30], 13)]
    for got, want in zip(drawn(ax), right, strict=True):
        np.testing.assert_array_equal(got, want)
    assert "E[10:30]" in ax.get_yticklabels()[1].get_text()


def test_raster_of_no_spikes(run):
    run, *_ = run
    silent = {"E": jnp.zeros((200, 5)), "none": jnp.zeros((200, 0))}
    ax = pb.plot.raster(pb.Run(None, run.i, silent, 0.1))
    assert sum(map(len, drawn(ax))) == 0
    ax.figure.canvas.draw()


def test_raster_of_a_network():
    """What `simulate` returns goes in as it is."""
    net = pb.Network({"P": pb.PoissonSource(30, 100.0)})
    run = pb.simulate(net, net.init(dt=0.1), {}, dt=0.1, duration=50.0, key=jax.random.key(0))
    (dots,) = drawn(pb.plot.raster(run))
    assert len(dots) == run.saved["P"].sum() > 100
    plt.close("all")

"""Online training through time against its equations in NumPy, against backpropagation where both
must agree, and as a user runs it."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.optimize
import scipy.signal
import scipy.special

import purebrain as pb
from purebrain import train

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "mnist10k"
N_IN, N, N_OUT, STEPS, DECAY = 4, 7, 3, 9, 0.5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(STEPS, N_IN)) * 2
TARGET = RNG.random((STEPS, N_OUT))


def lif(n, reset=pb.SoftReset()):
    """v <- v / 2 + x / 2, of the paper's tau = 2."""
    spike = pb.surrogate.Sigmoid(4.0)
    units = {"v_rest": 0.0, "v_th": 1.0, "v_reset": 0.0}
    return pb.LIF(n, tau=2.0, **units, spike=spike, reset_rule=reset, solver=dfx.Euler())


def twice(x):
    return 2 * x


def layers(n_in=N_IN):
    """Two layers of strong weights and biases, so that neurons fire."""
    rng = np.random.default_rng(1)
    for a, b in ((n_in, N), (N, N_OUT)):
        layer = eqx.nn.Linear(a, b, key=jr.key(0))
        w, c = jnp.asarray(rng.normal(size=(b, a))), jnp.asarray(rng.normal(size=b))
        yield eqx.tree_at(lambda m: (m.weight, m.bias), layer, (w, c))


def net(wrap, *after, parts=None):
    """Linear layers, each before a population."""
    chain = []
    for layer, population in zip(layers() if parts is None else parts, after, strict=False):
        chain += [wrap(layer), pb.Stateless(twice), population]
    return pb.Chain(*chain)


def traced(layer):
    return train.Traced(layer, (layer.in_features,), decay=DECAY)


def error(tick, state, out):
    return ((out - jnp.asarray(TARGET)[tick.i]) ** 2).sum()


def online(model, loss=error, inputs=pb.Series(X), steps=STEPS):
    start, duration = model.init(dt=1.0), float(steps)
    return train.online_loss(model, start, inputs, loss, dt=1.0, duration=duration)


def through_time(model, loss=error, inputs=pb.Series(X), steps=STEPS):
    start, duration = model.init(dt=1.0), float(steps)
    return pb.simulate(model, start, inputs, dt=1.0, duration=duration, save=loss).saved.mean()


def weights(grads):
    return [leaf for part in grads.parts for leaf in weight_and_bias(part)]


def weight_and_bias(part):
    layer = getattr(part, "layer", getattr(part, "fn", None))
    return [np.asarray(layer.weight), np.asarray(layer.bias)] if hasattr(layer, "weight") else []


def equations(rate=0.0):
    """Two LIF layers in NumPy: the mean loss, the gradient, and the weights after updates at each
    step."""
    (w1, b1), (w2, b2) = [(np.array(a.weight), np.array(a.bias)) for a in layers()]
    u1, u2, s1, s2 = np.zeros(N), np.zeros(N_OUT), np.zeros(N), np.zeros(N_OUT)
    a0, a1, one, loss = np.zeros(N_IN), np.zeros(N), 0.0, 0.0
    total = [np.zeros_like(a) for a in (w1, b1, w2, b2)]
    fired = []
    for x, target in zip(X, TARGET, strict=True):
        u1 = DECAY * (u1 - s1) + w1 @ x + b1
        s1 = (u1 >= 1).astype(float)
        u2 = DECAY * (u2 - s2) + w2 @ s1 + b2
        s2 = (u2 >= 1).astype(float)
        a0, a1, one = DECAY * a0 + x, DECAY * a1 + s1, DECAY * one + 1
        loss += ((s2 - target) ** 2).sum()
        p1, p2 = (scipy.special.expit(4 * (u - 1)) for u in (u1, u2))
        g2 = 2 * (s2 - target) * 4 * p2 * (1 - p2)
        g1 = (w2.T @ g2) * 4 * p1 * (1 - p1)
        step = np.outer(g1, a0), g1 * one, np.outer(g2, a1), g2 * one
        total = [a + b for a, b in zip(total, step, strict=True)]
        w1, b1, w2, b2 = (w - rate * g for w, g in zip((w1, b1, w2, b2), step, strict=True))
        fired.append(s1.sum() + s2.sum())
    assert 0.1 < np.mean(fired) / (N + N_OUT) < 0.9
    return loss / STEPS, [g / STEPS for g in total], [w1, b1, w2, b2]


# ---- gradients -----------------------------------------------------------------------------------


def test_it_is_the_papers_equations():
    value, grads = eqx.filter_value_and_grad(online)(net(traced, lif(N), lif(N_OUT)))
    loss, expected, _ = equations()
    assert float(value) == pytest.approx(loss, rel=1e-12)
    for got, want in zip(weights(grads), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_weights_can_be_changed_at_every_step():
    model = net(traced, lif(N), lif(N_OUT))
    trained = jax.tree.map(lambda _: False, model)
    linear = lambda m: [m.parts[0], m.parts[3]]  # noqa: E731
    all_of = lambda part: jax.tree.map(eqx.is_inexact_array, part)  # noqa: E731
    trained = eqx.tree_at(linear, trained, [all_of(a) for a in linear(model)])
    state = model.init(dt=1.0)
    for i, x in enumerate(X):
        tick = pb.Tick(jnp.array(i), 1.0)
        _, grads, state, _ = train.instant_gradient(
            model, state, jnp.asarray(x), tick, error, trained=trained
        )
        assert grads.parts[2].tau is None
        model = eqx.apply_updates(model, jax.tree.map(lambda g: -0.05 * g, grads))
    for got, want in zip(weights(model), equations(rate=0.05)[2], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def leaky(decay=DECAY):
    """g <- decay g + x."""
    return train.Filter(pb.Exponential(-1 / math.log(decay)), N)


@pytest.mark.parametrize("population", [leaky(), lif(N)], ids=["leaky integrator", "soft reset"])
def test_one_layer_has_the_gradient_of_backpropagation(population):
    def loss(tick, state, out):
        return (jnp.arange(1.0, N + 1) * (out - 0.3) ** 2).sum() / (1 + tick.t)

    exact = eqx.filter_grad(through_time)(net(pb.Stateless, population), loss)
    got = eqx.filter_grad(online)(net(traced, population), loss)
    for a, b in zip(weights(got), weights(exact), strict=True):
        assert np.abs(b).max() > 0.1
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_of_two_layers_the_last_has_that_of_backpropagation_and_the_first_comes_near():
    after = lif(N), lif(N_OUT)
    exact = weights(eqx.filter_grad(through_time)(net(pb.Stateless, *after)))
    got = weights(eqx.filter_grad(online)(net(traced, *after)))
    for a, b in zip(got[2:], exact[2:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    a, b = np.ravel(got[0]), np.ravel(exact[0])
    assert 0.3 < a @ b / np.linalg.norm(a) / np.linalg.norm(b) < 0.9999


def test_the_layer_itself_is_unchanged():
    conv = eqx.nn.Conv2d(2, 3, 3, padding=1, key=jr.key(0))
    layer = train.Traced(conv, (2, 5, 4), decay=0.3)
    state, tick = layer.init(dt=1.0), pb.Tick(jnp.array(0), 1.0)
    x, ct = jr.normal(jr.key(1), (2, 5, 4)), jr.normal(jr.key(2), (3, 5, 4))
    for k in range(3):
        old, (state, y) = state, layer.step(state, (k + 1) * x, tick)
        np.testing.assert_array_equal(y, conv((k + 1) * x))
    through = lambda f: jax.vjp(f, x)[1](ct)[0]  # noqa: E731
    np.testing.assert_allclose(
        through(lambda x: layer.step(old, x, tick)[1]), through(conv), rtol=1e-12
    )
    seen = 0.09 * x + 0.3 * 2 * x + 3 * x
    np.testing.assert_allclose(state.x, seen, rtol=1e-12)

    def of(weight):
        at = eqx.tree_at(lambda m: m.layer.weight, layer, weight)
        return at.step(old, 3 * x, tick)[1]

    direction = jr.normal(jr.key(3), conv.weight.shape)
    with_direction = eqx.tree_at(lambda c: (c.weight, c.bias), conv, (direction, 0 * conv.bias))
    np.testing.assert_allclose(
        jax.jvp(of, (conv.weight,), (direction,))[1], with_direction(seen), rtol=1e-12
    )


def test_trials_are_averaged():
    x = RNG.normal(size=(STEPS, 5, N_IN))
    model = net(traced, lif(N), lif(N_OUT))
    many = train.Trials(model, 5)

    def loss(tick, state, out):
        target = jnp.broadcast_to(jnp.asarray(TARGET)[tick.i], out.shape)
        return jnp.mean((out - target) ** 2)

    got = weights(eqx.filter_grad(online)(many, loss, pb.Series(x)).model)
    each = [weights(eqx.filter_grad(online)(model, loss, pb.Series(x[:, k]))) for k in range(5)]
    for a, *b in zip(got, *each, strict=True):
        np.testing.assert_allclose(a, np.mean(b, 0), rtol=1e-10, atol=1e-14)


def test_the_value_is_that_of_a_run_and_costs_no_gradient():
    model = net(traced, lif(N), lif(N_OUT))
    assert float(online(model)) == pytest.approx(float(through_time(model)), rel=1e-14)

    def flops(f):
        arrays, static = eqx.partition(model, eqx.is_array)
        of = jax.jit(lambda a: f(eqx.combine(a, static)))
        return of.lower(arrays).compile().cost_analysis()["flops"]

    assert flops(online) < 0.6 * flops(
        lambda m: eqx.filter(eqx.filter_grad(online)(m), eqx.is_array)
    )


def test_memory_does_not_grow_with_the_steps():
    def memory(f, model, steps):
        loss = lambda tick, state, out: (out**2).sum()  # noqa: E731
        arrays, static = eqx.partition(model, eqx.is_inexact_array)
        grad = jax.jit(jax.grad(lambda a, x: f(eqx.combine(a, static), loss, x, steps)))
        return grad.lower(arrays, jnp.ones(N_IN)).compile().memory_analysis().temp_size_in_bytes

    after = lif(N), lif(N_OUT)
    ours, theirs = (
        [memory(f, net(wrap, *after), steps) for steps in (10, 100, 1000)]
        for f, wrap in ((online, traced), (through_time, pb.Stateless))
    )
    assert ours[0] == ours[1] == ours[2]
    assert theirs[2] > 5 * theirs[1] and theirs[2] > 10 * ours[2]


@pytest.mark.parametrize("drive", [-1e4, 1e4], ids=["silent", "always firing"])
def test_silent_and_saturated_nets_have_finite_gradients(drive):
    model = net(traced, lif(N), lif(N_OUT))
    bias = lambda m: [m.parts[0].layer.bias, m.parts[3].layer.bias]  # noqa: E731
    model = eqx.tree_at(bias, model, [jnp.full(N, drive), jnp.full(N_OUT, drive)])
    spikes = through_time(model, lambda tick, state, out: out)
    assert float(spikes) == (drive > 0)
    value, grads = eqx.filter_value_and_grad(online)(model)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in weights(grads))


def test_fit_learns_by_it():
    x = RNG.normal(size=(64, N_IN))
    labels = np.argmax(x @ RNG.normal(size=(N_IN, N_OUT)), 1)
    model = pb.Chain(*net(traced, lif(N)).parts, pb.Stateless(list(layers())[1]))

    def loss(model, batch, key):
        x, labels = batch
        trials = train.Trials(model, len(x))
        entropy = lambda tick, state, out: train.rate_cross_entropy(out[None], labels)  # noqa: E731
        return train.online_loss(trials, trials.init(dt=1.0), x, entropy, dt=1.0, duration=6.0)

    linear = lambda m: [m.parts[0].layer.weight, m.parts[3].fn.weight]  # noqa: E731
    with jax.numpy_dtype_promotion("standard"):
        done = train.fit(
            *(model, loss, optax.adam(0.03), train.Batches((x, labels), 32)),
            epochs=40,
            key=jr.key(0),
            trained=pb.where_spec(model, linear),
        )
    assert done.losses[-4:].mean() < 0.5 * done.losses[0]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_other_precisions(dtype):
    model = net(traced, lif(N), lif(N_OUT))
    low = pb.cast(model, dtype)

    def loss(tick, state, out):
        return ((out - 0.3) ** 2).mean()

    expected = weights(eqx.filter_grad(online)(model, loss))
    inputs = pb.Series(jnp.asarray(X, dtype))
    value, grads = eqx.filter_value_and_grad(online)(low, loss, inputs)
    assert value.dtype == dtype
    for got, want in zip(weights(grads), expected, strict=True):
        assert got.dtype == dtype
        error = np.linalg.norm(got.astype(float) - want) / np.linalg.norm(want)
        assert error < (1e-5 if dtype == jnp.float32 else 0.3)


def test_sums_over_many_steps_keep_their_digits():
    layer = pb.cast(train.Traced(eqx.nn.Linear(1, 1, key=jr.key(0)), (1,), decay=0.0), jnp.bfloat16)
    loss = lambda tick, state, out: out.sum()  # noqa: E731
    x = jnp.ones(1, jnp.bfloat16)
    grads = eqx.filter_grad(online)(layer, loss, x, 2000)
    assert float(grads.layer.weight[0, 0]) == 1.0  # one by one a sum would stop at 256


def test_there_is_no_derivative_but_the_models():
    model = net(traced, lif(N), lif(N_OUT))
    inputs = lambda x: online(model, inputs=pb.Series(x))  # noqa: E731
    scaled = lambda s: online(model, lambda *args: s * error(*args))  # noqa: E731
    for f, at in ((inputs, jnp.asarray(X)), (scaled, 1.0)):
        with pytest.raises(TypeError, match=r"online_loss: .* by `model` alone"):
            jax.grad(f)(at)
    # The state that it starts from may depend on the model.
    assert np.abs(weights(eqx.filter_grad(online)(model))[0]).max() > 0


def test_layers_that_are_not_affine_are_refused():
    key = jr.key(0)
    linear = eqx.nn.Linear(N_IN, N_IN, key=key)
    for bad in (eqx.nn.MLP(N_IN, N, 5, 1, key=key), eqx.nn.LayerNorm(N_IN), lambda x: x * x):
        with pytest.raises(ValueError, match=r"layer: .* not affine in its input"):
            both = eqx.nn.Sequential([linear, eqx.nn.Lambda(bad)])
            train.Traced(both, (N_IN,), decay=0.5).init(dt=1.0)
    conv = eqx.nn.Conv2d(2, 3, 3, padding=1, padding_mode="CIRCULAR", key=key)
    for good, shape in (
        (train.WeightStandardised(conv), (2, 5, 5)),
        (eqx.nn.Sequential([eqx.nn.AvgPool2d(2, 2), conv]), (2, 6, 6)),
        (eqx.nn.MLP(N_IN, N, 5, 1, activation=lambda x: x, key=key), (N_IN,)),
    ):
        start = eqx.filter_jit(lambda layer: layer.init(dt=1.0))
        assert start(train.Traced(good, shape, decay=0.5)).x.shape == shape


def test_bad_arguments_are_refused():
    layer = eqx.nn.Linear(N_IN, N, key=jr.key(0))
    with pytest.raises(ValueError, match=r"decay: 1\.5; it must be in \[0, 1\]"):
        train.Traced(layer, (N_IN,), decay=1.5)
    with pytest.raises(TypeError, match="decay"):
        train.Traced(layer, (N_IN,), decay="a")
    with pytest.raises(ValueError, match=r"shape: \(0,\)"):
        train.Traced(layer, (0,), decay=0.5)
    with pytest.raises(TypeError, match=r"layer: AvgPool2d; it has no floats to train"):
        train.Traced(eqx.nn.AvgPool2d(2, 2), (1, 4, 4), decay=0.5)
    assert train.Traced(layer, [N_IN], decay=0.0).shape == (N_IN,)
    one = train.Traced(layer, (N_IN,), decay=0.5)
    state, tick = one.init(dt=1.0), pb.Tick(jnp.array(0), 1.0)
    with pytest.raises(ValueError, match=r"x: shape \(5,\); .*shape=\(4,\)"):
        one.step(state, jnp.ones(5), tick)
    with pytest.raises(TypeError, match=r"x: bool; it must be floats"):
        one.step(state, jnp.ones(N_IN, bool), tick)
    with pytest.raises(ValueError, match="duration"):
        train.online_loss(one, state, jnp.ones(N_IN), error, dt=1.0, duration=0.0)
    for bad in (lambda tick, state, out: out, lambda tick, state, out: 1):
        with pytest.raises(ValueError, match=r"loss: .*; it must be one floating-point number"):
            train.online_loss(one, state, jnp.ones(N_IN), bad, dt=1.0, duration=5.0)
    with pytest.raises(ValueError, match=r"weight: shape \(3,\)"):
        train.weight_standardise(jnp.ones(3))
    with pytest.raises(TypeError, match="weight"):
        train.weight_standardise(jnp.ones((2, 3), int))
    for eps in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"eps: .*; it must be finite and not negative"):
            train.weight_standardise(jnp.ones((2, 3)), eps)
    with pytest.raises(TypeError, match=r"layer: Dropout; it must have a `weight`"):
        train.WeightStandardised(eqx.nn.Dropout())
    with pytest.raises(ValueError, match=r"eps: -1"):
        train.WeightStandardised(layer, eps=-1.0)


# ---- scaled weight standardisation ---------------------------------------------------------------


def test_standardised_weights_are_the_papers():
    w = RNG.normal(3.0, 5.0, (6, 4, 3, 3))
    rows = w.reshape(6, -1)
    want = (rows - rows.mean(1)[:, None]) / np.sqrt(rows.var(1)[:, None] * 36 + 1e-4)
    got = train.weight_standardise(jnp.asarray(w))
    np.testing.assert_allclose(got, want.reshape(w.shape), rtol=1e-12)
    conv = train.WeightStandardised(eqx.nn.Conv2d(4, 6, 3, key=jr.key(0)))
    parts = lambda c: (c.layer.weight, c.layer.bias, c.gain)  # noqa: E731
    gain, bias = RNG.normal(size=(6, 1, 1, 1)), RNG.normal(size=(6, 1, 1))
    conv = eqx.tree_at(parts, conv, tuple(map(jnp.asarray, (w, bias, gain))))
    x, kernel = RNG.normal(size=(4, 7, 8)), gain * want.reshape(w.shape)
    for k, y in enumerate(np.asarray(conv(jnp.asarray(x)))):
        maps = (scipy.signal.correlate2d(a, b, "valid") for a, b in zip(x, kernel[k], strict=True))
        np.testing.assert_allclose(y, sum(maps) + bias[k], rtol=1e-10)


def test_their_derivative_is_that_of_finite_differences():
    w, ct = RNG.normal(size=(3, 2, 3, 3)), RNG.normal(size=(3, 2, 3, 3))

    def f(flat):
        return jnp.vdot(train.weight_standardise(jnp.asarray(flat).reshape(w.shape)), ct)

    numeric = scipy.optimize.approx_fprime(w.ravel(), f, 1e-7)
    np.testing.assert_allclose(jax.grad(f)(w.ravel()), numeric, atol=1e-6)
    flat = jax.grad(lambda w: jnp.vdot(train.weight_standardise(w), ct))(jnp.full(w.shape, 0.5))
    assert np.isfinite(flat).all() and np.abs(flat).max() > 1  # equal weights


# ---- the example ---------------------------------------------------------------------------------


def run(*args, cwd):
    env = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"} | {"MPLBACKEND": "Agg"}
    script = ROOT / "examples" / "paper" / "vgg_snn.py"
    command = [sys.executable, str(script), "--json", *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=3000)


def figures(*args, cwd):
    done = run(*args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_cifar10(path, n):
    """Records of CIFAR-10's binary version: a label, and an image in a colour of its own."""
    rng = np.random.default_rng(n)
    labels = rng.integers(0, 10, n)
    colours = np.random.default_rng(0).integers(0, 200, (10, 3, 1))
    pixels = colours[labels] + rng.integers(0, 50, (n, 3, 1024))
    records = np.concatenate([labels[:, None], pixels.reshape(n, -1)], axis=1)
    path.write_bytes(records.astype(np.uint8).tobytes())


@pytest.mark.slow
def test_the_example_reads_cifar10(tmp_path):
    write_cifar10(tmp_path / "data_batch_1.bin", 60)
    write_cifar10(tmp_path / "data_batch_2.bin", 36)
    write_cifar10(tmp_path / "test_batch.bin", 20)
    args = ("--data", tmp_path, "--width", "1/64", "--batch", 16, "--steps", 2)
    got = figures(*args, "--epochs", 3, cwd=tmp_path)
    assert got["train"] == 96 and got["test"] == 20
    channels = (1, 2, 4, 4, 8, 8, 8, 8)
    assert got["neurons"] == sum(
        n * side**2 for n, side in zip(channels, (32, 32, 16, 16, 8, 8, 4, 4), strict=True)
    )
    assert got["loss_end"] < got["loss_start"]


def test_the_example_refuses_a_truncated_file(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(b"\0" * 3072)
    done = run("--data", tmp_path, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "test_batch.bin: 3072 bytes; it must be a whole number of records" in done.stderr


@pytest.mark.slow
def test_quick_example_beside_backpropagation(tmp_path):
    pytest.importorskip("sklearn")
    got = figures("--quick", "--compare", "--plot", "a.png", cwd=tmp_path)
    assert got["train"] == 256 and got["epochs"] == 1
    assert got["mb_online_6_steps"] == got["mb_online_60_steps"] == got["mb_online_600_steps"]
    assert got["mb_through_time_600_steps"] > 5 * got["mb_through_time_60_steps"]
    assert got["cosine"] > 0.5
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs MNIST's test set")
def test_mnist_at_97_percent(tmp_path):
    got = figures("--data", DATA, cwd=tmp_path)
    assert got["train"] == 8000 and got["test"] == 2000
    assert got["test_accuracy"] >= 0.97

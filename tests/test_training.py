import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mnistjax.data.batches import Batch, file_order, on_device, take_batch
from mnistjax.data.dataset import Split
from mnistjax.errors import NumericalError
from mnistjax.files import params_sha256
from mnistjax.models.cnn import CNN
from mnistjax.models.functional import functional
from mnistjax.training.compile import compiler_options
from mnistjax.training.evaluate import evaluate, make_eval_step
from mnistjax.training.loop import EpochEnd, Interrupted, StepEnd, fit
from mnistjax.training.metrics import Metrics, metrics_of
from mnistjax.training.state import init_state
from mnistjax.training.step import make_train_step


def toy(count, seed=0, shape=(12, 12, 1)):
    """Noise with one bright quarter, which is the class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count).astype(np.int32)
    images = random.integers(0, 100, (count, *shape))
    for image, label in zip(images, labels, strict=True):
        top, left = (label // 2) * shape[0] // 2, (label % 2) * shape[1] // 2
        image[top : top + shape[0] // 2, left : left + shape[1] // 2] += 150
    return Split(images.astype(np.uint8), labels)


@pytest.fixture
def parts():
    """Everything `fit` needs but the state, and how to make a fresh one."""
    apply_fn, _ = functional(CNN(image_shape=(12, 12, 1), num_classes=4, rngs=nnx.Rngs(0)))
    tx = optax.adam(1e-3)

    def state():
        model = CNN(image_shape=(12, 12, 1), num_classes=4, rngs=nnx.Rngs(0))
        return init_state(functional(model)[1], tx)

    arguments = {
        "train_step": make_train_step(apply_fn=apply_fn, tx=tx),
        "eval_step": make_eval_step(apply_fn=apply_fn),
        "train": toy(50),
        "validation": toy(13, seed=1),
        "epochs": 2,
        "batch_size": 16,
        "seed": 5,
    }
    return state, arguments


def whole_batch(split):
    return take_batch(*on_device(split), jnp.arange(len(split.labels), dtype=jnp.int32))


def test_golden_step():
    tx = optax.adam(1e-3)
    apply_fn, params = functional(CNN(rngs=nnx.Rngs(0)))
    step = make_train_step(apply_fn=apply_fn, tx=tx)
    state, metrics = step(init_state(params, tx), whole_batch(toy(8, shape=(28, 28, 1))))
    got = [float(metrics.loss), float(optax.tree.norm(state.params))]
    assert got == pytest.approx(GOLDEN, rel=1e-4), (
        "One default training step gives other numbers than it did. If you meant to change the "
        "model, its initial values, the loss, the optimiser or the preprocessing, check that "
        "accuracy in README.md still holds, note the change in CHANGELOG.md, and put the new "
        "numbers here. If you did not mean to: this is the bug."
    )


GOLDEN = [2.23495436, 15.44940376]  # loss, norm of the parameters


def test_step_equals_a_gradient_step_written_out(parts):
    make_state, arguments = parts
    apply_fn, _ = functional(CNN(image_shape=(12, 12, 1), num_classes=4, rngs=nnx.Rngs(0)))
    tx = optax.sgd(0.1)
    state = init_state(make_state().params, tx)
    batch = whole_batch(toy(8))

    def loss(params):
        logits = apply_fn(params, batch.images.astype(jnp.float32) / 255)
        log_probabilities = jax.nn.log_softmax(logits)
        return -jnp.mean(log_probabilities[jnp.arange(8), batch.labels])

    gradient = jax.jit(jax.grad(loss))(state.params)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
    after, _ = make_train_step(apply_fn=apply_fn, tx=tx)(state, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, wanted)


def test_padding_does_not_change_the_update():
    images, labels = on_device(toy(5))
    apply_fn, _ = functional(CNN(image_shape=(12, 12, 1), num_classes=4, rngs=nnx.Rngs(0)))
    # Not Adam: its first update is the gradient's sign, of rounding where there is hardly any.
    tx = optax.sgd(0.1)
    step = make_train_step(apply_fn=apply_fn, tx=tx)

    def make_state():
        return init_state(
            functional(CNN(image_shape=(12, 12, 1), num_classes=4, rngs=nnx.Rngs(0)))[1], tx
        )

    alone, _ = step(make_state(), take_batch(images, labels, jnp.arange(5, dtype=jnp.int32)))
    padded = jnp.array([0, 1, 2, 3, 4, 5, 5, 5], jnp.int32)
    with_padding, metrics = step(make_state(), take_batch(images, labels, padded))
    assert metrics.on_host().count == 5
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), alone.params, with_padding.params
    )


def test_the_state_is_donated(parts):
    make_state, arguments = parts
    state = make_state()
    arguments["train_step"](state, whole_batch(toy(4)))
    assert state.params["dense1"]["kernel"].is_deleted()


def test_every_example_is_scored_once_whatever_the_batch(parts):
    make_state, arguments = parts
    split, params = toy(13), make_state().params
    results = [
        evaluate(arguments["eval_step"], params, split, batch_size=b) for b in (1, 4, 13, 99)
    ]
    for metrics, logits in results:
        assert metrics.count == 13
        assert metrics.correct == results[0][0].correct
        np.testing.assert_allclose(logits, results[0][1], atol=1e-5)
        assert metrics.correct == (logits.argmax(axis=1) == split.labels).sum()


def test_measure_is_the_definition():
    logits = np.array([[2.0, 0, 0], [0, 3, 0], [9, 9, 9]], np.float32)
    labels = np.array([0, 2, 1], np.int32)
    mask = jnp.array([True, True, False])
    metrics = metrics_of(jnp.asarray(logits), jnp.asarray(labels), mask).on_host()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = -np.log(probabilities[[0, 1], labels[:2]]).sum()
    assert (metrics.correct, metrics.count) == (1, 2)
    assert metrics.loss_sum == pytest.approx(wanted, rel=1e-6)


def test_fit_learns_and_tells_every_step(parts):
    make_state, arguments = parts
    events = list(fit(make_state(), **arguments | {"epochs": 12}))
    steps = [event for event in events if isinstance(event, StepEnd)]
    epochs = [event for event in events if isinstance(event, EpochEnd)]
    assert [event.step for event in steps] == list(range(1, 12 * 4 + 1))
    assert [event.epoch for event in epochs] == list(range(1, 13))
    assert all(event.train.count == 50 and event.validation.count == 13 for event in epochs)
    assert epochs[-1].validation.accuracy > 0.9


def test_the_device_is_a_step_ahead_of_the_metrics(parts):
    make_state, arguments = parts
    dispatched = 0

    def counting(state, batch):
        nonlocal dispatched
        dispatched += 1
        return arguments["train_step"](state, batch)

    ahead = [
        dispatched - event.step
        for event in fit(make_state(), **arguments | {"train_step": counting})
        if isinstance(event, StepEnd)
    ]
    assert ahead == [1, 1, 1, 0] * 2


def test_interrupted_equals_uninterrupted(parts):
    make_state, arguments = parts
    *_, whole = fit(make_state(), **arguments)
    assert isinstance(whole, EpochEnd)
    for stop_after in range(1, 8):
        polls = iter(range(1, 100))
        *_, cut = fit(
            make_state(), **arguments, should_stop=lambda p=polls, n=stop_after: next(p) >= n
        )
        assert not isinstance(cut, StepEnd)
        so_far = (Metrics.zero(), 0.0)
        if isinstance(cut, Interrupted):
            so_far = (cut.train, cut.train_seconds)
        *_, end = fit(cut.state, **arguments, so_far=so_far)
        assert isinstance(end, EpochEnd)
        assert params_sha256(end.state) == params_sha256(whole.state), f"stopped at {cut.step}"
        assert end.train == whole.train
        assert end.validation == whole.validation


def test_same_seed_same_bits_other_seed_other_bits(parts):
    make_state, arguments = parts

    def digest(seed):
        *_, end = fit(make_state(), **arguments | {"seed": seed})
        assert isinstance(end, EpochEnd)
        return params_sha256(end.state)

    assert digest(5) == digest(5)
    assert digest(5) != digest(6)


def test_a_loss_that_is_no_number_stops_the_run(parts):
    make_state, arguments = parts
    state = make_state()
    state.params["dense2"]["bias"] = jnp.full(4, jnp.nan)
    with pytest.raises(NumericalError, match="step 1: loss or gradient is nan.*learning_rate"):
        list(fit(state, **arguments))


def test_a_level_in_xla_flags_stays(monkeypatch):
    level = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert compiler_options() == level
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert compiler_options() == {}


def test_file_order_is_in_order():
    assert np.asarray(file_order(count=5, batch_size=2)).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_metrics_are_a_pytree():
    assert len(jax.tree.leaves(Metrics(1.0, 2, 3))) == 3
    assert dataclasses.astuple(Metrics(1.0, 2, 3))[:3] == (1.0, 2, 3)
    assert isinstance(Batch(jnp.zeros((1, 1, 1, 1)), jnp.zeros(1), jnp.ones(1)), tuple)

"""Models with state and randomness: equal to plain loops, stopped anywhere, over micro-batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from stateful_models import NNXNet, linen_model, nnx_model, split, written_out

from mnistjax.data.batches import Batch, epoch_order, on_device, take_batch
from mnistjax.errors import Stopped, UsageError
from mnistjax.models.functional import functional_with_state, with_state
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.run import Run
from mnistjax.runs.train_run import train_run
from mnistjax.training.evaluate import evaluate, make_eval_step
from mnistjax.training.loop import EpochEnd, fit
from mnistjax.training.randomness import step_key
from mnistjax.training.state import init_state
from mnistjax.training.step import make_step, make_train_step

TX = optax.sgd(0.05, momentum=0.5)
TRAIN, VALIDATION = split(56), split(13, seed=1)
BATCH, EPOCHS, SEED = 16, 3, 5  # an epoch ends with a batch of eight
MODELS = {"NNX": nnx_model, "Linen": linen_model}


def plain_loop(apply_fn, params, model_state):
    """What a user would write: no library in it but optax and the documented order and keys."""

    @jax.jit
    def update(params, model_state, opt_state, images, labels, key):
        def loss_fn(params):
            logits, new = apply_fn(params, model_state, images.astype(jnp.float32) / 255, key)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), new

        grads, model_state_ = jax.grad(loss_fn, has_aux=True)(params)
        updates, opt_state = TX.update(grads, opt_state)
        return optax.apply_updates(params, updates), model_state_, opt_state

    opt_state, step = TX.init(params), 0
    for epoch in range(EPOCHS):
        order = epoch_order(SEED, epoch, count=len(TRAIN.labels), batch_size=BATCH)
        for row in np.asarray(order):
            row = row[row < len(TRAIN.labels)]
            params, model_state, opt_state = update(
                params,
                model_state,
                opt_state,
                TRAIN.images[row],
                TRAIN.labels[row],
                step_key(SEED, step),
            )
            step += 1
    return params, model_state


def fitted(model, **options):
    """The last event of `fit`, with its state copied before it is donated."""
    apply_fn, params, model_state = model
    last = None
    for event in fit(
        init_state(jax.tree.map(jnp.copy, params), TX, jax.tree.map(jnp.copy, model_state)),
        train_step=make_train_step(apply_fn=apply_fn, tx=TX, seed=SEED, **options),
        eval_step=make_eval_step(apply_fn=apply_fn),
        train=TRAIN,
        validation=VALIDATION,
        epochs=EPOCHS,
        batch_size=BATCH,
        seed=SEED,
    ):
        if isinstance(event, EpochEnd):
            last = event._replace(state=jax.tree.map(jnp.copy, event.state))
    assert last is not None
    return last


def assert_close(got, wanted):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), got, wanted)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_it_equals_a_loop_written_out_in_plain_jax(make):
    model = make()
    state = fitted(model).state
    apply_fn = written_out if make is nnx_model else model.apply_fn
    params, model_state = plain_loop(apply_fn, model.params, model.model_state)
    assert_close(state.params, params)
    assert_close(state.model_state, model_state)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), model_state, model.model_state)
    assert min(jax.tree.leaves(moved)) > 0.01


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_evaluation_is_by_running_statistics_and_without_dropout(make):
    apply_fn, params, model_state = make()
    model_state = jax.tree.map(lambda leaf: leaf + 0.5, model_state)
    step = make_eval_step(apply_fn=apply_fn)
    metrics, logits = evaluate(step, params, VALIDATION, model_state=model_state, batch_size=5)
    if make is nnx_model:
        images = VALIDATION.images.astype(np.float32) / 255
        np.testing.assert_allclose(
            logits, written_out(params, model_state, images, None)[0], rtol=1e-5, atol=1e-6
        )
    alone, _ = evaluate(step, params, VALIDATION, model_state=model_state, batch_size=13)
    assert metrics.count == 13 and metrics.loss == pytest.approx(alone.loss, rel=1e-5)


def test_a_batch_is_cut_only_if_asked_for_and_then_each_portion_is_a_batch_in_turn():
    apply_fn, params, model_state = nnx_model()
    images, labels = on_device(TRAIN)
    batch = take_batch(images, labels, jnp.arange(10, dtype=jnp.int32))
    state = init_state(params, TX, model_state)
    whole, cut = (
        jax.jit(make_step(apply_fn=apply_fn, tx=TX, seed=SEED, micro_batch=size))(state, batch)[0]
        for size in (None, 4)
    )
    key, stats, grads = step_key(SEED, 0), model_state, []
    for number, rows in enumerate([slice(0, 8, 2), slice(1, 8, 2), slice(8, 10)]):

        def loss_fn(params, stats=stats, rows=rows, number=number):
            pixels = batch.images[rows].astype(jnp.float32) / 255
            logits, new = written_out(params, stats, pixels, jax.random.fold_in(key, number))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels[rows])
            return losses.sum(), new

        grad, stats = jax.jit(jax.grad(loss_fn, has_aux=True))(params)
        grads.append(grad)
    mean = jax.tree.map(lambda *g: sum(g) / 10, *grads)
    assert_close(cut.model_state, stats)
    assert_close(cut.params, optax.apply_updates(params, TX.update(mean, state.opt_state)[0]))
    _, once = jax.jit(written_out)(params, model_state, batch.images.astype(jnp.float32) / 255, key)
    assert_close(whole.model_state, once)


def plan(model, epochs=EPOCHS):
    apply_fn, params, model_state = model
    return Plan(
        apply_fn=apply_fn,
        params=params,
        model_state=model_state,
        stages=[Stage(epochs, TX)],
        train=TRAIN,
        validation=VALIDATION,
        batch_size=BATCH,
        seed=SEED,
    )


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_stopped_in_an_epoch_and_resumed_it_has_the_same_bits(make, tmp_path, signal_at):
    quiet = RunOptions(quiet=True)
    whole = train_run(plan(make()), tmp_path / "whole", settings={}, options=quiet)
    with signal_at(6), pytest.raises(Stopped, match="step 7 is saved"):
        train_run(plan(make()), tmp_path / "run", settings={}, options=quiet)
    go_on = RunOptions(quiet=True, resume=True)
    got = train_run(plan(make()), tmp_path / "run", settings={}, options=go_on)
    for name in ("params", "model_state"):
        pairs = zip(
            jax.tree.leaves(getattr(got, name)),
            jax.tree.leaves(getattr(whole, name)),
            strict=True,
        )
        assert all(np.array_equal(a, b) for a, b in pairs)
    params, model_state = Run(tmp_path / "run").best_model
    assert_close((params, model_state), (got.params, got.model_state))
    assert [row["val_loss"] for row in Run(tmp_path / "run").epochs] == [
        row["val_loss"] for row in whole.epochs
    ]


def test_a_model_without_state_pays_nothing():
    def linear(params, images):
        return images.reshape(len(images), -1) @ params["w"]

    params = {"w": jnp.zeros((16, 3))}
    batch = Batch(jnp.zeros((8, 4, 4, 1), jnp.uint8), jnp.zeros(8, jnp.int32), jnp.ones(8, bool))

    def text(apply_fn, model_state):
        step = make_train_step(apply_fn=apply_fn, tx=TX)
        return step.lower(init_state(params, TX, model_state), batch).as_text()

    plain = text(linear, ())
    assert "threefry" not in plain and "shift_right" not in plain
    marked = with_state(lambda params, state, images, key: (linear(params, images), state))
    assert len(text(marked, {"mean": jnp.zeros(3)})) > len(plain)
    assert jax.tree.leaves(init_state(params, TX).model_state) == []


def test_statistics_over_an_axis_have_to_be_asked_for():
    apply_fn, params, model_state = nnx_model()
    step = make_step(apply_fn=apply_fn, tx=TX, axis="data")
    with pytest.raises(UsageError, match="each device's share .* axis='data'"):
        step(init_state(params, TX, model_state), Batch(*(jnp.zeros((2, 4, 4, 1)),) * 3))


def test_a_forgotten_model_state_is_told():
    apply_fn, params, _ = nnx_model()
    with pytest.raises(UsageError, match="model_state: .* model_state=state.model_state"):
        evaluate(make_eval_step(apply_fn=apply_fn), params, VALIDATION)


def test_several_streams_have_keys_of_their_own():
    class Two(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = (nnx.Dropout(0.5, rngs=rngs) for _ in range(2))

        def __call__(self, x):
            return jnp.concatenate([self.a(x), self.b(x)])

    apply_fn, params, model_state = functional_with_state(Two(nnx.Rngs(0)))
    a, b = apply_fn(params, model_state, jnp.ones((1, 64)), step_key(0, 1))[0]
    assert (a != b).any() and (a == 0).any()
    again = apply_fn(params, model_state, jnp.ones((1, 64)), step_key(0, 1))[0]
    other = apply_fn(params, model_state, jnp.ones((1, 64)), step_key(0, 2))[0]
    assert (again[0] == a).all() and (other[0] != a).any()
    assert (apply_fn(params, model_state, jnp.ones((1, 64)), None)[0] == 1).all()


def test_the_module_itself_is_left_as_it_is():
    net = NNXNet(nnx.Rngs(0))
    apply_fn, params, model_state = functional_with_state(net)
    step = make_train_step(apply_fn=apply_fn, tx=TX)
    images, labels = map(jnp.asarray, TRAIN)
    step(init_state(params, TX, model_state), Batch(images, labels, jnp.ones(56, bool)))
    assert not net.norm.use_running_average and float(net.norm.mean[...].sum()) == 0
    assert net.dense1.kernel[...].shape == (16, 8)

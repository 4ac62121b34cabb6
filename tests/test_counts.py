"""The library counts and shows right: parameters, losses, metrics, lines on a narrow terminal."""

import io
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from rich.console import Console

import mnistjax as mj
from mnistjax.data.dataset import Split
from mnistjax.errors import DataError, UsageError
from mnistjax.report.console import TrainingDisplay
from mnistjax.runs.log import MetricsLog
from mnistjax.training.groups import retarget
from mnistjax.training.loop import EpochEnd, StepEnd
from mnistjax.training.losses import ClassWeighted, Smoothed, cross_entropy
from mnistjax.training.metrics import Metric, Metrics, balanced_accuracy, top_k


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.layer, self.batch = nnx.LayerNorm(4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.dense = nnx.Linear(4, 4, rngs=rngs)
        self.shared, self.scale = self.dense, nnx.Param(jnp.ones((1, 1, 1, 4)))
        self.more = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        x = self.shared(self.dense(self.batch(self.layer(self.conv(x))))) * self.scale
        for layer in self.more:
            x = layer(x)
        return x.mean((1, 2))


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.a, self.b = nnx.Linear(16, 16, rngs=rngs), nnx.Linear(16, 16, rngs=rngs)
        self.b.kernel = self.a.kernel

    def __call__(self, x):
        return self.b(self.a(x.reshape(len(x), -1)))


class Recurrent(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.LSTMCell(4, 3, rngs=rngs))
        self.dense = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        out: Any = self.rnn(x[..., 0])
        return self.dense(out[:, -1])


@pytest.mark.parametrize("kind", [Normed, Tied, Recurrent])
def test_every_parameter_is_counted_once(kind):
    model = kind(nnx.Rngs(0))
    rows = mj.summarise(model, (4, 4, 1))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(row.parameters for row in rows) == sum(leaf.size for leaf in leaves)


class Pair(NamedTuple):
    w: Any
    b: Any


@pytest.mark.parametrize(
    ("params", "fresh"),
    [
        ([{"w": jnp.ones(2)}, {"w": jnp.ones(3)}], ("0/w", "1/w")),
        (Pair(jnp.ones(2), [jnp.ones(1)]), ("w", "b/0")),
        ({"a": (jnp.ones(2),)}, ("a/0",)),
    ],
)
def test_new_parameters_are_named_whatever_holds_them(params, fresh):
    got = retarget(optax.sgd(0.1).init(params), tx=optax.adam(0.1), params=params)
    assert got.fresh == fresh
    again = retarget(got.opt_state, tx=optax.adam(0.2), params=params)
    assert again.fresh == ()


def test_tensorboard_shows_each_step_once_after_a_kill(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def write(steps, upto):
        with MetricsLog(tmp_path, upto=upto, tensorboard=True) as log:
            for step in steps:
                log.add(StepEnd(step, 1, Metrics(step, 1, 1)), images_per_second=1.0)

    write([1, 2, 3, 4], 0)
    write([3, 4, 5], 2)
    events = loader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = [(e.step, e.value) for e in events.Scalars("step/loss")]
    assert shown == [(step, float(step)) for step in range(1, 6)]


def test_a_log_keeps_no_rows_of_steps(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in range(1, 1001):
            log.add(StepEnd(step, 1, Metrics(1.0, 1, 1)), images_per_second=1.0)
        end = EpochEnd(1000, 1, Metrics(1.0, 1, 1), Metrics(1.0, 1, 1), 1.0, NO_STATE)
        log.add(end, images_per_second=1.0)
        assert len(log.epochs) == 1
        held = [value for value in vars(log).values() if isinstance(value, list)]
        assert sum(map(len, held)) == 1


NO_STATE = mj.TrainState(jnp.zeros((), jnp.int32), {}, ())


@pytest.mark.parametrize(
    ("width", "shows"),
    [
        (40, "123/2110 loss 0.0391  accuracy 99.22%"),
        (59, "123/2110 loss 0.0391  accuracy 99.22%  12,345 images/s"),
        (120, "epoch 1/5 .*123/2110 loss 0.0391  accuracy 99.22%  12,345 images/s ETA"),
    ],
)
def test_step_and_accuracy_are_seen_on_a_terminal_of_any_width(width, shows):
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    with TrainingDisplay(console, total=2110, epochs=5) as display:
        for step in (122, 123):
            display.show(StepEnd(step, 1, Metrics(5.0, 127, 128)), images_per_second=12345.0)
    assert re.search(shows, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen(console)))


def seen(console: Any) -> str:
    return console.file.getvalue()


def test_colours_forced_into_a_file_move_no_bar(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console(file=io.StringIO(), width=120)
    with TrainingDisplay(console, total=2110, epochs=5) as display:
        for step in (1, 2):
            display.show(StepEnd(step, 1, Metrics(5.0, 127, 128)), images_per_second=1.0)
        display.tell("epoch 1/5")
    assert seen(console) == "epoch 1/5\n"


TX = optax.sgd(0.5)
random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (40, 3, 3, 1), dtype=np.uint8)
CLASSES = random.integers(0, 4, 40).astype(np.int32)
PARAMS: Any = {"w": jnp.asarray(random.standard_normal((9, 4)), jnp.float32)}
X = IMAGES.reshape(40, 9) / np.float32(255)


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"]


def squared(logits, labels):
    return ((logits - labels) ** 2).sum(-1)


def sigmoid(logits, labels):
    return optax.sigmoid_binary_cross_entropy(logits, labels).sum(-1)


MANY = random.integers(0, 2, (40, 4)).astype(np.float32)
SHARES = random.dirichlet(np.ones(4), 40).astype(np.float32)
WEIGHTS = (1.0, 2.0, 0.5, 3.0)


def written_out(labels, loss_fn):
    def loss(w):
        return loss_fn(X @ w, jnp.asarray(labels)).mean()

    return PARAMS["w"] - 0.5 * jax.grad(loss)(PARAMS["w"]), loss(PARAMS["w"])


LOSSES: dict[str, Any] = {
    "regression": (MANY, squared, None),
    "several yes and no": (MANY, sigmoid, None),
    "shares of classes": (SHARES, cross_entropy, SHARES.argmax(1)),
    "smoothed": (CLASSES, Smoothed(0.1), CLASSES),
    "weighted": (CLASSES, ClassWeighted(WEIGHTS), CLASSES),
}


@pytest.mark.parametrize(("labels", "loss_fn", "classes"), LOSSES.values(), ids=LOSSES)
def test_any_loss_trains_as_written_out_and_through_fit(labels, loss_fn, classes):
    made = {"apply_fn": linear, "loss_fn": loss_fn}
    step = mj.make_train_step(tx=TX, micro_batch=16, **made)
    batch = mj.Batch(jnp.asarray(IMAGES), jnp.asarray(labels), jnp.ones(40, bool))
    state, metrics = step(mj.init_state(PARAMS, TX), batch)
    wanted, loss = written_out(labels, loss_fn)
    np.testing.assert_allclose(state.params["w"], wanted, rtol=1e-4, atol=1e-5)
    told = cross_entropy if hasattr(loss_fn, "reported") else loss_fn
    np.testing.assert_allclose(metrics.loss, written_out(labels, told)[1], rtol=1e-5)
    if classes is None:
        with pytest.raises(UsageError, match="labels are no classes"):
            _ = metrics.accuracy
    else:
        assert metrics.correct == ((X @ np.asarray(PARAMS["w"])).argmax(1) == classes).sum()
    events = mj.fit(
        mj.init_state(PARAMS, TX),
        train_step=step,
        eval_step=mj.make_eval_step(**made),
        train=Split(IMAGES, labels),
        validation=Split(IMAGES, labels),
        epochs=2,
        batch_size=16,
        seed=0,
    )
    assert [e.epoch for e in events if isinstance(e, EpochEnd)] == [1, 2]


def test_a_column_of_class_numbers_is_refused_and_not_stretched_to_all_classes():
    made = {"apply_fn": linear, "tx": TX, "loss_fn": cross_entropy}
    batch = mj.Batch(jnp.asarray(IMAGES), jnp.asarray(CLASSES)[:, None], jnp.ones(40, bool))
    with pytest.raises(DataError, match="labels: rows of 1, where there are 4 classes"):
        mj.make_train_step(**made)(mj.init_state(PARAMS, TX), batch)


def test_class_weights_are_those_of_scaled_losses():
    logits, labels = jnp.asarray(X @ np.asarray(PARAMS["w"])), jnp.asarray(CLASSES)
    wanted = cross_entropy(logits, labels) * jnp.asarray(WEIGHTS)[labels]
    np.testing.assert_allclose(ClassWeighted(WEIGHTS)(logits, labels), wanted)


def test_metrics_are_sums_however_the_batch_is_cut():
    metrics = {"top2": top_k(2), "balanced": balanced_accuracy(), "norm": Metric(norm)}
    batch = mj.Batch(jnp.asarray(IMAGES), jnp.asarray(CLASSES), jnp.arange(40) < 37)
    logits = X[:37] @ np.asarray(PARAMS["w"])
    order, answers = np.argsort(-logits, axis=1), logits.argmax(1)
    wanted = {
        "top2": np.mean([c in row for c, row in zip(CLASSES, order[:, :2], strict=False)]),
        "balanced": np.mean([(answers == c)[CLASSES[:37] == c].mean() for c in range(4)]),
        "norm": np.linalg.norm(logits, axis=1).mean(),
    }
    for cut in (None, 7):
        step = mj.make_train_step(apply_fn=linear, tx=TX, micro_batch=cut, metrics=metrics)
        _, got = step(mj.init_state(PARAMS, TX), batch)
        values = got.on_host().values
        assert values.keys() == {"loss", "accuracy", "top2", "balanced", "norm"}
        for name, value in wanted.items():
            np.testing.assert_allclose(values[name], value, rtol=1e-5)
    split = Split(IMAGES[:37], CLASSES[:37])
    scored, _ = mj.evaluate(
        mj.make_eval_step(apply_fn=linear, metrics=metrics), PARAMS, split, batch_size=8
    )
    np.testing.assert_allclose(scored.values["balanced"], wanted["balanced"], rtol=1e-5)


def norm(logits, labels):
    return jnp.linalg.norm(logits, axis=-1)


def test_a_metric_called_as_a_column_is_refused():
    with pytest.raises(UsageError, match="accuracy has a meaning already"):
        mj.make_eval_step(apply_fn=linear, metrics={"accuracy": top_k(1)})

"""What a step tells of itself, in the log and on the screen: gradient, learning rate, skipped."""

import io
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import mnistjax as mj
from mnistjax.data.batches import Batch, epoch_order
from mnistjax.data.dataset import Split
from mnistjax.errors import NumericalError, Stopped
from mnistjax.report.console import TrainingDisplay
from mnistjax.runs.finetune_stages import Adam, several_stages
from mnistjax.runs.log import read_rows
from mnistjax.training.latest import latest
from mnistjax.training.loop import EpochEnd, StepEnd
from mnistjax.training.metrics import Metrics

pytestmark = pytest.mark.usefixtures("usual_promotion")
random = np.random.default_rng(0)
IMAGES = random.standard_normal((40, 2, 2, 1)).astype(np.float32)
TRAIN = Split(IMAGES, (IMAGES.sum((1, 2, 3)) > 0).astype(np.int32))
PARAMS: Any = {"w": jnp.asarray(random.standard_normal((4, 2)), jnp.float32)}
RATE: Any = optax.cosine_decay_schedule(0.5, 8)


@pytest.fixture
def usual_promotion():
    with jax.numpy_dtype_promotion("standard"):  # optax.inject_hyperparams mixes its dtypes
        yield


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"]


def plan(tx, *, train=TRAIN, rates=None, **more):
    stages = [mj.Stage(2, tx, False, rates or {})]
    given: dict[str, Any] = {"apply_fn": linear, "params": PARAMS, "validation": TRAIN} | more
    return mj.Plan(stages=stages, train=train, batch_size=10, preprocess=lambda x: x, **given)


def run(directory, plan, **options):
    mj.train_run(plan, directory, options=mj.RunOptions(quiet=True, **options))
    return rows_of(directory)


def rows_of(directory):
    return [
        {k: v for k, v in row.items() if "second" not in k}
        for row in read_rows(directory / "metrics.jsonl")
    ]


@pytest.mark.parametrize("told_by", ["the stage", "the optimiser"])
def test_rate_and_gradient_are_in_every_row(tmp_path, told_by):
    if told_by == "the stage":
        rows = run(tmp_path, plan(optax.sgd(RATE), rates={"learning_rate": RATE}))
    else:
        rows = run(tmp_path, plan(optax.inject_hyperparams(optax.sgd)(learning_rate=RATE)))
    steps = [row for row in rows if row["kind"] == "step"]
    want = [float(RATE(step)) for step in range(8)]
    assert [row["learning_rate"] for row in steps] == pytest.approx(want)
    epochs = [row["learning_rate"] for row in rows if row["kind"] == "epoch"]
    assert epochs == pytest.approx([want[3], want[7]])
    grad = jax.grad(first_loss)(PARAMS)["w"]
    assert steps[0]["grad_norm"] == pytest.approx(float(jnp.sqrt((grad**2).sum())), rel=1e-5)


def first_loss(params):
    rows = np.asarray(epoch_order(0, 0, count=40, batch_size=10))[0]
    logits, labels = linear(params, TRAIN.images[rows]), TRAIN.labels[rows]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@pytest.mark.parametrize("step", [2, 4])
def test_a_run_stopped_in_an_epoch_has_the_same_rows(tmp_path, signal_at, step):
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=RATE)
    whole = run(tmp_path / "whole", plan(tx))
    with signal_at(step), pytest.raises(Stopped):
        run(tmp_path / "run", plan(tx))
    assert run(tmp_path / "run", plan(tx), resume=True) == whole


def test_each_stage_and_group_tells_its_own_rate():
    blocks = {"block1_conv1": jnp.zeros(1), "block3_conv1": jnp.zeros(1)}
    params = {"head": {"dense": jnp.zeros(1)}, "backbone": blocks}
    parts = [("head", 2, None), ("block3", 1, 1e-4)]
    first, second = several_stages(params, parts, Adam(0.5, 0.0, cosine=True), steps=4)
    fall: Any = optax.cosine_decay_schedule(1.0, 4)
    np.testing.assert_allclose(
        first.rates_until(8)["learning_rate_head"],
        [float(RATE(i)) for i in range(8)],
    )
    rates = second.rates_until(12)
    want = [float(fall(i)) for i in range(4)]
    np.testing.assert_allclose(rates["learning_rate_head"][8:], 0.5 * np.array(want))
    np.testing.assert_allclose(rates["learning_rate_block3"][8:], 1e-4 * np.array(want))


def test_groups_with_rates_of_their_own_are_numbered():
    sgd = optax.inject_hyperparams(optax.sgd)
    tx = optax.partition({"a": sgd(0.1), "b": sgd(0.2)}, {"x": "a", "y": "b"})
    told = latest({"x": jnp.ones(1)}, tx.init({"x": jnp.ones(1), "y": jnp.ones(1)}))
    assert told["learning_rate"] == jnp.float32(0.1)
    assert told["learning_rate_2"] == jnp.float32(0.2)


def test_tensorboard_gets_them(tmp_path):
    pytest.importorskip("tensorboardX")
    run(tmp_path, plan(optax.sgd(0.1), rates={"learning_rate": 0.1}), tensorboard=True)
    (events,) = (tmp_path / "tensorboard").iterdir()
    found = events.read_bytes()
    names = b"step/grad_norm", b"step/learning_rate", b"epoch/learning_rate"
    assert all(name in found for name in names)


def broken(count):
    """`count` examples whose logits overflow, in one batch of the first epoch."""
    images = IMAGES.copy()
    images[np.asarray(epoch_order(0, 0, count=40, batch_size=10))[1][:count]] = 3e38
    return Split(images, TRAIN.labels)


def test_a_step_that_the_optimiser_skips_is_counted_and_the_run_goes_on(tmp_path):
    tx = optax.apply_if_finite(optax.sgd(0.1), 1)
    rows = run(tmp_path, plan(tx, train=broken(1)))
    steps = [row for row in rows if row["kind"] == "step"]
    assert [row["skipped"] for row in steps][:5] == [0, 1, 1, 1, 1]
    assert steps[-1]["skipped"] == 2  # the second epoch has it again
    without = [row["step"] for row in steps if "loss" not in row]
    assert without[0] == 2 and len(without) == 2 and "grad_norm" not in steps[1]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert all(np.isfinite(row["train_loss"]) for row in epochs)
    assert [row["skipped"] for row in epochs] == [1, 2]
    with pytest.raises(NumericalError, match="step 2"):
        run(tmp_path / "bare", plan(optax.sgd(0.1), train=broken(1)))


def test_past_its_limit_the_run_ends(tmp_path):
    bad = Split(np.full_like(IMAGES, 3e38), TRAIN.labels)
    with pytest.raises(NumericalError, match="step 2: loss or gradient"):
        run(tmp_path, plan(optax.apply_if_finite(optax.sgd(0.1), 1), train=bad))


def test_statistics_of_a_skipped_batch_are_left_out():
    def counted(params, model_state, images, key):
        return linear(params, images), {"mean": images.mean()}

    tx = optax.apply_if_finite(optax.sgd(0.1), 3)
    step = mj.make_train_step(
        apply_fn=mj.with_state(counted), tx=tx, preprocess=lambda x: x, donate=False
    )
    state = mj.init_state(PARAMS, tx, {"mean": jnp.array(7.0)})
    images = jnp.full((4, 2, 2, 1), jnp.nan)
    batch = Batch(images, jnp.zeros(4, jnp.int32), jnp.ones(4, bool))
    new, metrics = step(state, batch)
    assert float(new.model_state["mean"]) == 7.0 and int(metrics.count) == 0
    new, metrics = step(state, batch._replace(images=jnp.ones((4, 2, 2, 1))))
    assert float(new.model_state["mean"]) == 1.0 and int(metrics.count) == 4


@pytest.mark.parametrize(
    ("width", "shows"),
    [
        (59, "2/20 loss 0.2500  accuracy 75.00%  9 images/s"),
        (150, "loss 0.2500  accuracy 75.00%  9 images/s  grad_norm 0.125  learning_rate 0.001"),
    ],
)
def test_they_are_seen_where_there_is_room(width, shows):
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    metrics = Metrics(1.0, 3, 4, latest={"grad_norm": 0.125, "learning_rate": 0.001})
    with TrainingDisplay(console, total=20, epochs=5) as display:
        for step in (1, 2):
            display.show(StepEnd(step, 1, metrics), images_per_second=9.0)
        end = EpochEnd(2, 1, metrics, Metrics.zero(), 1.0, mj.init_state(PARAMS, optax.sgd(1.0)))
        display.show(end, images_per_second=9.0)
    file: Any = console.file
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert shows in text
    line = "epoch 1/5  loss 0.2500  accuracy 75.00%  1.0 s  9 images/s  learning_rate 0.001"
    assert line in text.replace("\n", " ").replace("\r", "")
    assert ("grad_norm" in text) == (width > 100)

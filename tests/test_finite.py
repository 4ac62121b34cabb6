"""Numbers that stop being numbers end a run with exit code 6, and never reach a checkpoint."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.core import Tracer

from mnistjax.data.batches import Batch
from mnistjax.data.dataset import Split
from mnistjax.errors import NumericalError
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.options import RunOptions
from mnistjax.runs.plan import Plan, Stage
from mnistjax.runs.settings import Setting
from mnistjax.runs.train_run import train_run
from mnistjax.training.evaluate import evaluate, make_eval_step
from mnistjax.training.finite import check_finite
from mnistjax.training.freeze import freeze_mask
from mnistjax.training.loop import StepEnd, fit
from mnistjax.training.state import init_state
from mnistjax.training.step import make_train_step

BATCH = Batch(jnp.ones((2, 1, 1, 2)), jnp.array([0, 1], jnp.int32), jnp.ones(2, bool))
DATA = Split(np.ones((20, 1, 1, 2), np.float32), np.arange(20, dtype=np.int32) % 2)


def linear(params, images):
    return images.reshape(len(images), -1) @ params["kernel"]


def itself(images):
    return images


def with_root(params, images):
    """The gradient of a square root at zero is infinite, its value is not."""
    return linear(params, images) + jnp.sqrt(params["root"])


@pytest.mark.parametrize("frozen", [False, True])
def test_a_gradient_that_is_not_finite_is_told_by_the_loss_unless_it_is_frozen(frozen):
    params = {"kernel": jnp.zeros((2, 2)), "root": jnp.zeros((1, 1))}
    mask = freeze_mask(params, trainable=["kernel"] if frozen else ["*"])
    tx = optax.selective_transform(optax.sgd(0.1), freeze_mask=mask)
    step = make_train_step(apply_fn=with_root, tx=tx, preprocess=itself, frozen=mask)
    _, metrics = step(init_state(params, tx), BATCH)
    assert np.isfinite(metrics.loss) == frozen


@pytest.mark.parametrize(
    ("tx", "scale", "says"),
    [
        (optax.sgd(3e38), 10, "params/kernel"),
        # Adam would go on: what it divides by is infinite, so nothing moves any more.
        (optax.adam(1e-3), 1e20, "opt_state/0/nu/kernel"),
    ],
)
def test_a_state_that_is_not_finite_is_in_no_event(tx, scale, says):
    def scaled(params, images):
        return linear(params, images * scale)

    arguments = {
        "train_step": make_train_step(apply_fn=scaled, tx=tx, preprocess=itself),
        "eval_step": make_eval_step(apply_fn=linear, preprocess=itself),
        "train": DATA._replace(labels=np.zeros(20, np.int32)),
        "validation": DATA,
        "epochs": 1,
        "batch_size": 20,
        "seed": 0,
    }
    events = fit(init_state({"kernel": jnp.zeros((2, 2))}, tx), **arguments)
    first = next(events)
    assert isinstance(first, StepEnd) and np.isfinite(first.metrics.loss)
    with pytest.raises(NumericalError, match=f"^state after step 1: {says} is not finite"):
        next(events)


def test_the_leaves_are_named_and_of_many_the_first():
    check_finite({"a": jnp.ones(2), "b": jnp.zeros((), jnp.int32)}, "x")
    bad = {name: jnp.array([0, np.inf]) for name in "abcde"}
    with pytest.raises(NumericalError, match="x: a, b, c and 2 more is not finite"):
        check_finite(bad, "x")


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_evaluation_of_a_broken_network_is_an_error_not_an_accuracy(value):
    step = make_eval_step(apply_fn=linear, preprocess=itself)
    with pytest.raises(NumericalError, match="^evaluation: loss") as error:
        evaluate(step, {"kernel": jnp.full((2, 2), value)}, DATA)
    assert error.value.exit_code == 6


def test_a_nan_in_the_data_of_epoch_2_leaves_epoch_1_saved(tmp_path):
    calls = 0

    def through(batch):
        nonlocal calls
        calls += not isinstance(batch.images, Tracer)  # not those that ask for shapes
        if calls <= 3:  # two steps, one to evaluate: then the second epoch
            return batch
        return batch._replace(images=batch.images.at[0, 0, 0, 0].set(jnp.nan))

    plan = Plan(
        apply_fn=linear,
        params={"kernel": jnp.zeros((2, 2))},
        stages=[Stage(3, optax.adam(0.125))],
        train=DATA,
        validation=DATA,
        batch_size=10,
        preprocess=itself,
        through=through,
    )
    settings = {"learning_rate": Setting(0.125)}
    with pytest.raises(NumericalError) as error:
        train_run(plan, tmp_path, settings=settings, options=RunOptions(quiet=True))
    assert str(error.value) == (
        "step 3: loss or gradient is nan at `learning_rate=0.125`; the last good checkpoint is "
        "step 2. Fix: pass a smaller `learning_rate` and another `directory`"
    )
    with Checkpoints(tmp_path / "checkpoints") as saves:
        assert saves.steps == [2]

"""An average of the parameters: kept by the optimiser, used by evaluation, saved and read."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mnistjax as mj
from mnistjax.data.dataset import Split
from mnistjax.errors import Stopped, UsageError
from mnistjax.files import params_sha256
from mnistjax.training.step import make_step

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (40, 2, 2, 1)).astype(np.uint8)
TRAIN = Split(IMAGES, (IMAGES.sum((1, 2, 3)) > 510).astype(np.int32))
PARAMS: Any = {
    "w": jnp.asarray(random.standard_normal((4, 2)), jnp.float32),
    "frozen": jnp.zeros((1, 2)),
}
FROZEN = mj.freeze_mask(PARAMS, trainable=["w"])
BATCH = mj.Batch(jnp.asarray(IMAGES[:10]), jnp.asarray(TRAIN.labels[:10]), jnp.ones(10, bool))


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"] + params["frozen"]


WRAPPED = {
    "within the mask": optax.selective_transform(
        mj.with_ema(optax.sgd(0.5), 0.9), freeze_mask=FROZEN
    ),
    "around it": mj.with_ema(optax.selective_transform(optax.sgd(0.5), freeze_mask=FROZEN), 0.9),
    "in a chain": optax.selective_transform(
        optax.chain(optax.clip(9.0), mj.with_ema(optax.sgd(0.5), 0.9)), freeze_mask=FROZEN
    ),
}


@pytest.mark.parametrize("tx", WRAPPED.values(), ids=WRAPPED)
def test_it_is_the_average_written_out_and_training_is_as_without(tx):
    plain = optax.selective_transform(optax.sgd(0.5), freeze_mask=FROZEN)
    step, bare = (
        mj.make_train_step(apply_fn=linear, tx=which, frozen=FROZEN) for which in (tx, plain)
    )
    state, other, average = mj.init_state(PARAMS, tx), mj.init_state(PARAMS, plain), PARAMS["w"]
    for number in range(15):
        state, _ = step(state, BATCH)
        other, _ = bare(other, BATCH)
        keep = min(0.9, (1 + number) / (10 + number))
        average = keep * average + (1 - keep) * other.params["w"]
    assert np.array_equal(state.params["w"], other.params["w"])
    got = mj.evaluated_params(state)
    np.testing.assert_allclose(got["w"], average, rtol=1e-5)
    assert np.array_equal(got["frozen"], PARAMS["frozen"])


def test_16_bits_are_averaged_in_32():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    tx = mj.with_ema(optax.sgd(1.0), 0.999)
    state: Any = tx.init(params)
    assert state.averaged_params["w"].dtype == jnp.float32
    for _ in range(2000):
        _, state = tx.update({"w": jnp.full(3, -1.0, jnp.bfloat16)}, state, params)
    assert float(state.averaged_params["w"][0]) == pytest.approx(2.0, abs=0.15)
    whole = mj.TrainState(jnp.zeros((), jnp.int32), params, state)
    assert mj.evaluated_params(whole)["w"].dtype == jnp.bfloat16


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_cannot_be_is_refused(decay):
    with pytest.raises(UsageError, match=r"decay=0\.999"):
        mj.with_ema(optax.sgd(1.0), decay)


def plan():
    return mj.Plan(
        apply_fn=linear,
        params=PARAMS,
        stages=[mj.Stage(3, WRAPPED["in a chain"], FROZEN)],
        train=TRAIN,
        validation=TRAIN,
        batch_size=10,
    )


def test_a_run_chooses_gives_and_keeps_the_averages(tmp_path, signal_at):
    quiet = mj.RunOptions(quiet=True)
    whole = mj.train_run(plan(), tmp_path / "whole", options=quiet)
    run = mj.Run(tmp_path / "whole")
    scored, _ = mj.evaluate(mj.make_eval_step(apply_fn=linear), run.best_params, TRAIN)
    assert scored.loss == pytest.approx(whole.best["val_loss"], rel=1e-6)
    assert params_sha256(run.best_params) == params_sha256(whole.params)
    saves = mj.Checkpoints(tmp_path / "whole" / "checkpoints")
    like = plan().begin()
    trained = saves.restore(whole.best["step"], like=like).state
    assert not np.array_equal(trained.params["w"], run.best_params["w"])
    with signal_at(6), pytest.raises(Stopped):
        mj.train_run(plan(), tmp_path / "run", options=quiet)
    on = mj.RunOptions(quiet=True, resume=True)
    again = mj.train_run(plan(), tmp_path / "run", options=on)
    assert params_sha256(again.params) == params_sha256(whole.params)


def test_in_a_scan_it_is_the_same():
    tx = mj.with_ema(optax.sgd(0.5), 0.9)
    step = make_step(apply_fn=linear, tx=tx)
    state = mj.init_state(PARAMS, tx)
    batches = jax.tree.map(lambda x: jnp.stack([x] * 4), BATCH)
    scanned, _ = jax.lax.scan(step, state, batches)
    for _ in range(4):
        state, _ = step(state, BATCH)
    np.testing.assert_allclose(
        mj.evaluated_params(scanned)["w"], mj.evaluated_params(state)["w"], rtol=1e-5
    )

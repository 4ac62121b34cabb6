"""The test of learning rates: what it trains, and what it makes of the losses."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mnistjax as mj
from mnistjax.data.batches import epoch_order, take_batch
from mnistjax.runs.rate_test import say_rate
from mnistjax.training.learning_rate import find_learning_rate, rates_to_try, suggest
from mnistjax.training.step import make_step


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"]


PARAMS = {"w": jnp.zeros((784, 10))}


def digits(count=200):
    split = mj.load_dataset("digits").train
    return mj.Split(split.images[:count], split.labels[:count])


def test_losses_are_those_of_a_loop_written_out():
    def make(tx):
        return make_step(apply_fn=linear, tx=tx)

    found = find_learning_rate(make, PARAMS, digits(), batch_size=64, seed=3, steps=9)
    tx = optax.adam(rates_to_try(9))
    step, state, losses = jax.jit(make(tx)), mj.init_state(PARAMS, tx), []
    split = digits()
    for epoch in range(3):  # of four batches each
        for row in epoch_order(3, epoch, count=200, batch_size=64):
            batch = take_batch(jnp.asarray(split.images), jnp.asarray(split.labels), row)
            state, metrics = step(state, batch)
            losses.append(metrics.on_host().loss)
    wanted = suggest(np.asarray(rates_to_try(9)(np.arange(9))), np.array(losses[:9], np.float32))
    np.testing.assert_allclose(found.losses, wanted.losses, rtol=1e-5)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-5, 1, 9), rtol=1e-4)
    assert found.suggestion == pytest.approx(wanted.suggestion)


@pytest.mark.parametrize("end", [np.nan, 1e6])
def test_what_explodes_is_cut_off(end):
    rates = np.geomspace(1e-5, 1, 101, dtype=np.float32)
    losses = np.where(rates < 0.1, 2.3 - 0.02 * np.arange(101), end).astype(np.float32)
    found = suggest(rates, losses)
    assert len(found.losses) == len(found.rates) == 80 and np.isfinite(found.losses).all()
    assert found.suggestion == pytest.approx(rates[79] / 10)


def test_a_rate_that_was_found_trains_better_than_a_hundredth_or_thirty_times_it(tmp_path):
    plan = mj.Plan(
        apply_fn=linear,
        params=PARAMS,
        stages=[mj.Stage.by_adam(1, 1e-3)],
        train=digits(),
        batch_size=20,
    )
    said = say_rate(plan, tmp_path / "new")
    with (tmp_path / "new" / "learning_rate.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) > 50 and rows[0].keys() == {"learning_rate", "loss"}
    assert (tmp_path / "new" / "learning_rate.png").read_bytes()[:4] == b"\x89PNG"
    rate = float(said.split()[3].rstrip(","))

    def loss_after(rate):
        tx = optax.adam(rate)
        step, state = jax.jit(make_step(apply_fn=linear, tx=tx)), mj.init_state(PARAMS, tx)
        images, labels = jnp.asarray(plan.train.images), jnp.asarray(plan.train.labels)
        for row in epoch_order(0, 0, count=200, batch_size=20):
            state, _ = step(state, take_batch(images, labels, row))
        split = plan.train
        return mj.evaluate(mj.make_eval_step(apply_fn=linear), state.params, split)[0].loss

    assert loss_after(rate) < min(loss_after(rate / 100), loss_after(rate * 30))

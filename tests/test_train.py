"""`mj.train` and `mj.Run`: a run for who has a model and a data set and nothing else."""

import dataclasses
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import nothing_drawn
from flax import nnx
from stateful_models import CLASSES, NNXNet, linen_model, split

import mnistjax as mj
from mnistjax.report.figures import learning_curves
from mnistjax.runs.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("without_pictures")
DATA = mj.Dataset(
    "stripes",
    train=split(70),
    test=split(20, seed=2),
    class_names=tuple("abc"),
    origin="made here",
)
OTHER_DATA = dataclasses.replace(DATA, test=split(20, seed=3))
QUIET = mj.RunOptions(quiet=True)
SHORT: Any = {"epochs": 2, "batch_size": 16, "tx": optax.adam(3e-2)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with nothing_drawn():
        directory = tmp_path_factory.mktemp("runs") / "whole"
        return mj.train(NNXNet(nnx.Rngs(0)), DATA, directory, options=QUIET, **SHORT)


def test_a_run_leaves_all_there_is_to_look_at(whole):
    assert whole.summary["test_examples"] == 20 and whole.summary["dataset"] == "stripes"
    assert whole.summary["parameters"] == 16 * 8 + 2 * 8 + 9 * CLASSES
    assert whole.summary.keys() >= {"experiment", "seed", "params_sha256", "model_state_sha256"}
    assert whole.settings["batch_size"] == 16 and whole.settings["began"] > 0
    assert [row["epoch"] for row in whole.epochs] == [1, 2]
    assert len(whole.rows) == 2 * 4 + 2
    page = whole.report.read_text()
    assert "BatchNorm" in page and "The first layer's filters" not in page


def test_the_best_parameters_are_those_that_were_scored(whole):
    net = NNXNet(nnx.Rngs(1))
    params, model_state = whole.best_model
    apply_fn, _, _ = mj.functional_with_state(net)
    step = mj.make_eval_step(apply_fn=apply_fn)
    metrics, _ = mj.evaluate(step, params, DATA.test, model_state=model_state)
    assert metrics.loss == pytest.approx(whole.summary["test_loss"], rel=1e-6)
    assert jax.tree.map(jnp.shape, whole.best_params) == jax.tree.map(jnp.shape, params)


def test_more_epochs_are_the_bits_of_a_run_that_had_them_at_once(whole, tmp_path):
    net, first = NNXNet(nnx.Rngs(0)), SHORT | {"epochs": 1}
    mj.train(net, DATA, tmp_path / "run", options=QUIET, **first)
    on = mj.RunOptions(quiet=True, resume=True)
    run = mj.train(net, DATA, tmp_path / "run", options=on, **SHORT)
    for name in ("params_sha256", "model_state_sha256"):
        assert run.summary[name] == whole.summary[name]
    assert run.settings["epochs"] == 2


def test_linen_functions_and_frozen_parts_train_too(tmp_path):
    run = mj.train(linen_model(), DATA, tmp_path / "linen", options=QUIET, **SHORT)
    assert run.best_model[1]["batch_stats"]["BatchNorm_0"]["mean"].shape == (8,)
    apply_fn, params, model_state = linen_model()
    frozen = mj.train(
        (apply_fn, params, model_state),
        DATA,
        tmp_path / "frozen",
        trainable=["Dense_1/*"],
        options=QUIET,
        **SHORT,
    )
    kept = frozen.best_params["Dense_0"]["kernel"]
    assert np.array_equal(kept, params["Dense_0"]["kernel"])
    assert frozen.summary["trainable_parameters"] == 8 * CLASSES + CLASSES
    assert not params["Dense_0"]["kernel"].is_deleted()  # the caller's own


REFUSED = {
    "a directory that is used": (
        {},
        mj.MnistjaxError,
        "is not empty. Fix: add `resume=True`",
    ),
    "another seed": (
        {"seed": 1, "options": mj.RunOptions(quiet=True, resume=True)},
        mj.MnistjaxError,
        r"seed 1 \(was 0\). Fix: pass `seed=0`",
    ),
    "other data": (
        {"data": OTHER_DATA, "options": mj.RunOptions(quiet=True, resume=True)},
        mj.MnistjaxError,
        "data is not what this run had",
    ),
    "another model": (
        {"model": NNXNet(nnx.Rngs(7)), "options": mj.RunOptions(quiet=True, resume=True)},
        mj.MnistjaxError,
        "model is not what this run had",
    ),
    "a batch larger than the data": (
        {"batch_size": 100, "directory": "new"},
        mj.MnistjaxError,
        "`batch_size` 100: there are only 63 training examples",
    ),
    "a pattern that matches nothing": (
        {"trainable": ["head/*"], "directory": "new"},
        mj.MnistjaxError,
        "pattern head/.*: matches no parameter",
    ),
}


@pytest.mark.parametrize(("given", "error", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(whole, tmp_path, given, error, says):
    given = {"model": NNXNet(nnx.Rngs(0)), "directory": whole.directory, "options": QUIET} | given
    if given["directory"] == "new":
        given["directory"] = tmp_path / "new"
    model, directory = given.pop("model"), given.pop("directory")
    data = given.pop("data", DATA)
    with pytest.raises(error, match=says):
        mj.train(model, data, directory, **SHORT | given)


def test_a_run_that_is_not_there_or_has_no_epoch_yet_is_told(tmp_path):
    with pytest.raises(mj.MnistjaxError, match="holds no run"):
        mj.Run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    run = mj.Run(tmp_path)
    with pytest.raises(mj.MnistjaxError, match="no whole epoch"):
        _ = run.best_params
    with pytest.raises(mj.MnistjaxError, match="no result yet"):
        _ = run.summary
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]  # looking changes nothing


def test_damaged_parameters_are_told_not_returned(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole.directory, copy)
    step = Checkpoints(copy / "checkpoints").best
    places = (copy / "checkpoints" / str(step)).rglob("d/*")
    path = max(places, key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(mj.MnistjaxError, match="is not what was saved"):
        _ = mj.Run(copy).best_params


def test_metrics_are_in_the_log_the_summary_and_the_curves(tmp_path):
    run = mj.train(
        (linear, {"w": np.zeros((784, 10), np.float32)}),
        mj.load_dataset("digits"),
        tmp_path,
        loss_fn=mj.Smoothed(0.1),
        metrics={"top3": mj.top_k(3)},
        validation=0.0,
        epochs=1,
        options=mj.RunOptions(quiet=True),
    )
    (epoch,) = run.epochs
    assert epoch["train_accuracy"] < epoch["train_top3"] < 1
    assert not [name for name in epoch if name.startswith("val_")]
    assert run.summary["test_accuracy"] < run.summary["test_top3"] < 1
    assert run.summary["best_validation_loss"] is None
    curves = learning_curves(run.epochs, best=1)
    assert [axes.get_title() for axes in curves.axes if axes.lines] == ["loss", "accuracy", "top3"]


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"]

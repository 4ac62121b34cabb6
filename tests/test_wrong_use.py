"""Wrong use is told, with the true reason, and never trained; right use works."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import mnistjax as mj
from mnistjax.data.dataset import Split
from mnistjax.errors import DataError, StorageError, UsageError
from mnistjax.models import layers
from mnistjax.ops.conv_pool import conv_pool
from mnistjax.ops.normalization import local_response_norm
from mnistjax.ops.pooling import avg_pool, max_pool

ROOT = Path(__file__).parent.parent
random = np.random.default_rng(0)
IMAGES: Any = random.integers(0, 256, (24, 4, 4, 1), dtype=np.uint8)
LABELS = np.arange(24, dtype=np.int32) % 3
TX = optax.sgd(0.1)
PARAMS = {"w": jnp.zeros((16, 3))}


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"]


def fit(images: Any = IMAGES, labels: Any = LABELS, apply_fn=linear, validation=None, **more):
    """What `fit` says when it starts."""
    split = Split(images, labels)
    made: dict[str, Any] = {"apply_fn": apply_fn} | more
    events = mj.fit(
        mj.init_state(PARAMS, TX),
        train_step=mj.make_train_step(tx=TX, **made),
        eval_step=mj.make_eval_step(**made),
        train=split,
        validation=validation or split,
        epochs=1,
        batch_size=8,
        seed=0,
    )
    return [*events]


def evaluate(images=IMAGES, labels=LABELS, apply_fn=linear):
    return mj.evaluate(mj.make_eval_step(apply_fn=apply_fn), PARAMS, Split(images, labels))


WRONG: dict[str, Any] = {
    "floats 0..1": ({"images": IMAGES / np.float32(255)}, "are not the uint8 pixels"),
    "16 bits": ({"images": IMAGES.astype(np.uint16)}, "are not the uint8 pixels"),
    "label -1": ({"labels": LABELS - 1}, "labels run from -1 to 1, where the model has 3"),
    "labels 1..N": ({"labels": LABELS + 1}, "labels run from 1 to 3, where the model has 3"),
    "fewer images": ({"images": IMAGES[:20]}, "20 images but 24 labels"),
    "fewer labels": ({"labels": LABELS[:20]}, "24 images but 20 labels"),
    "nothing": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "holds no example"),
}


@pytest.mark.parametrize(("given", "says"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("start", [fit, evaluate])
def test_data_that_would_be_taken_wrongly(start, given, says):
    with pytest.raises(DataError, match=says):
        start(**given)


def test_values_that_are_not_finite_are_not_the_learning_rate_s_fault():
    images = IMAGES / np.float32(255)
    images[3, 1, 1, 0] = np.nan
    with pytest.raises(DataError, match="`train`: images hold values that are not finite"):
        fit(images, preprocess=lambda x: x)


def test_validation_is_looked_at_too_and_a_batch_of_none():
    with pytest.raises(DataError, match="`validation`: labels run from 0 to 5"):
        fit(validation=Split(IMAGES, LABELS + 3 * (LABELS == 2)))
    with pytest.raises(UsageError, match="`batch_size` 0: must be at least 1"):
        mj.evaluate(mj.make_eval_step(apply_fn=linear), PARAMS, Split(IMAGES, LABELS), batch_size=0)


def test_train_looks_before_it_trains(tmp_path):
    split = Split(IMAGES, LABELS)
    data = mj.Dataset("toy", split, split, ("a", "b", "c"), origin="made up")
    few = lambda params, images: linear(params, images)[:, :2]  # noqa: E731
    with pytest.raises(DataError, match="the model has 2 outputs"):
        mj.train((few, PARAMS), data, tmp_path, batch_size=4, options=mj.RunOptions(quiet=True))


def normalised(params, images):
    x = images.reshape(len(images), -1)
    return ((x - x.mean(0, keepdims=True)) / (x.std(0, keepdims=True) + 1)) @ params["w"]


def sorted_over_the_batch(params, images):
    return jnp.sort(linear(params, images), axis=0)


def attends_to_the_batch(params, images):
    x = images.reshape(len(images), -1)
    return jax.nn.softmax(x @ x.T) @ x @ params["w"]


@pytest.mark.parametrize("fn", [normalised, sorted_over_the_batch, attends_to_the_batch])
def test_examples_that_depend_on_each_other_are_refused(fn):
    with pytest.raises(UsageError, match=r"its examples depend on each other.*with_state"):
        fit(apply_fn=fn)
    marked = mj.with_state(lambda params, state, images, key: (fn(params, images), state))
    assert fit(apply_fn=marked)[-1].epoch == 1


def test_examples_that_do_not_are_not():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
            self.norms = nnx.List(
                [nnx.LayerNorm(4, rngs=rngs), nnx.GroupNorm(4, num_groups=2, rngs=rngs)]
            )
            self.attend = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
            self.dense = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x):
            x = self.conv(x)
            for norm in self.norms:
                x = norm(x)
            return self.dense(jax.nn.softmax(self.attend(x.reshape(len(x), -1, 4))).mean(1))

    apply_fn, params = mj.functional(Net(nnx.Rngs(0)))
    step = mj.make_train_step(apply_fn=apply_fn, tx=TX)
    batch = mj.Batch(jnp.asarray(IMAGES), jnp.asarray(LABELS), jnp.ones(24, bool))
    with jax.numpy_rank_promotion("allow"):
        step(mj.init_state(params, TX), batch)


@pytest.mark.parametrize("op", [avg_pool, local_response_norm], ids=["avg_pool", "lrn"])
def test_a_mean_of_integers_is_refused(op):
    with pytest.raises(UsageError, match="of uint8: takes floats"):
        op(jnp.full((1, 4, 4, 4), 255, jnp.uint8))
    assert max_pool(jnp.full((1, 4, 4, 4), 255, jnp.uint8)).max() == 255
    with pytest.raises(UsageError, match="conv_pool of int32"):
        conv_pool(jnp.ones((1, 4, 4, 1), jnp.int32), jnp.ones((3, 3, 1, 1)), jnp.zeros(1))


OPTIONS: dict[str, Any] = {
    "strides": {"strides": 2},
    "dilation": {"kernel_dilation": 2},
    "mask": {"mask": jnp.tri(9 * 8, 8).reshape(3, 3, 8, 8)},
    "no bias": {"use_bias": False},
    "groups": {"feature_group_count": 4},
    "unpadded": {"padding": "VALID"},
    "padded by numbers": {"padding": ((1, 2), (0, 1))},
    "around": {"padding": "CIRCULAR"},
    "precision": {"precision": "highest"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_layer_does_what_nnx_conv_does(options):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 8))
    ours = layers.Conv(8, 8, (3, 3), **options, rngs=nnx.Rngs(0))
    theirs = nnx.Conv(8, 8, (3, 3), **({"padding": "SAME"} | options), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_other_kernels_too():
    for shape, size in (((2, 9, 8), (3,)), ((9, 8, 8), (3, 3)), ((2, 3, 9, 8, 8), (3, 3))):
        x = jax.random.normal(jax.random.key(0), shape)
        ours, theirs = (
            kind(8, 4, size, rngs=nnx.Rngs(0), padding="SAME") for kind in (layers.Conv, nnx.Conv)
        )
        np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("option", ["strides", "dilation", "mask", "no bias", "groups", "around"])
def test_a_fused_layer_refuses_what_it_has_not(option):
    with pytest.raises(UsageError, match="^ConvPool: has no"):
        layers.ConvPool(8, 8, (3, 3), **OPTIONS[option], rngs=nnx.Rngs(0))


STATE: Any = mj.init_state(PARAMS, TX)


def test_saving_takes_what_people_have_at_hand(tmp_path):
    keys = {"key": jax.random.key(3), "many": jax.random.split(jax.random.key(0, impl="rbg"), 3)}
    state = STATE._replace(opt_state=keys | {"none": jnp.zeros((0, 3)), "rate": 0.5})
    with mj.Checkpoints(str(tmp_path)) as saves:
        saves.save(state.step + 3, state, extra={"n": np.float32(0.5)}, score=np.float32(0.5))
        saved: Any = saves.restore(3, like=state)
        assert saves.best == 3
    assert saved.extra == {"n": 0.5} and saved.state.opt_state["none"].shape == (0, 3)
    assert float(saved.state.opt_state["rate"]) == 0.5
    for name, key in keys.items():
        assert (jax.random.key_data(saved.state.opt_state[name]) == jax.random.key_data(key)).all()
        assert saved.state.opt_state[name].dtype == key.dtype
    with mj.Checkpoints(tmp_path) as saves:
        state = STATE._replace(params={"w": jnp.zeros((0, 2)), "k": jax.random.key(1)})
        saves.save(4, state, extra={})
    params, _ = mj.Checkpoints(tmp_path).model(4)
    assert params["w"].shape == (0, 2) and params["k"].dtype == np.uint32


REFUSED: dict[str, Any] = {
    "step -1": ({"step": -1}, "`step` -1: must be at least 0"),
    "step 3.0": ({"step": 3.0}, "`step` 3.0: is no whole number"),
    "extra": ({"extra": {"a": {1}}}, "`extra`: is no JSON"),
    "leaf": ({"state": STATE._replace(params={"w": "a"})}, "params/w is str, no array"),
}


@pytest.mark.parametrize(("given", "says"), REFUSED.values(), ids=REFUSED)
def test_saving_refuses_what_it_would_not_find_again(tmp_path, given, says):
    with mj.Checkpoints(tmp_path) as saves, pytest.raises(UsageError, match=says):
        saves.save(**{"step": 1, "state": STATE, "extra": {}} | given)
    assert not [*tmp_path.iterdir()]


def test_a_step_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with mj.Checkpoints(tmp_path) as saves:
        saves.save(2, STATE, extra={})
        with pytest.raises(StorageError, match="no checkpoint of step 9: there are 2"):
            saves.restore(9, like=STATE)


DIGITS = mj.load_dataset("digits")
FEW = dataclasses.replace(DIGITS, train=Split(DIGITS.train.images[:200], DIGITS.train.labels[:200]))
MODEL = linear, {"w": np.zeros((784, 10), np.float32)}


def train(directory):
    quiet = mj.RunOptions(quiet=True)
    return mj.train(MODEL, FEW, directory, epochs=1, options=quiet).summary["params_sha256"]


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "guard", [pytest.param("disallow", marks=pytest.mark.soak), "disallow_explicit"]
)
def test_it_trains_in_a_thread_and_under_a_transfer_guard(tmp_path, guard):
    found = []

    def work():
        found.append(train(tmp_path / "thread"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    state, step = mj.init_state(PARAMS, TX), mj.make_train_step(apply_fn=linear, tx=TX)
    score, split = mj.make_eval_step(apply_fn=linear), Split(IMAGES, LABELS)
    plan = mj.Plan(
        apply_fn=linear,
        params=PARAMS,
        stages=[mj.Stage(1, TX)],
        train=split,
        validation=split,
        batch_size=8,
    )
    quiet = mj.RunOptions(quiet=True)
    with jax.transfer_guard(guard):
        found.append(train(tmp_path / "guard"))
        given: dict[str, Any] = {"train": split, "epochs": 1, "batch_size": 8, "seed": 0}
        events = mj.fit(state, train_step=step, eval_step=score, validation=split, **given)
        *_, end = events
        assert isinstance(end, mj.EpochEnd)
        assert mj.evaluate(score, end.state.params, split)[0].count == 24
        assert len(mj.train_run(plan, tmp_path / "run", options=quiet).epochs) == 1
    assert len(found) == 2 and len({*found}) == 1


@pytest.mark.usefixtures("without_pictures")
def test_it_can_be_stepped_through_without_jit(tmp_path):
    with jax.disable_jit():
        assert train(tmp_path)


WITHOUT_INSTALLATION = """
import importlib.metadata as metadata
version = metadata.version
def missing(name):
    if name == "mnistjax":
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = missing
from mnistjax.files import versions
print(versions()["mnistjax"])
"""


def test_it_need_not_be_installed():
    command = [sys.executable, "-c", WITHOUT_INSTALLATION]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "not installed\n"


@pytest.mark.parametrize("asked", [["--platform", "gpu"], []], ids=["flag", "JAX_PLATFORMS"])
def test_a_device_that_is_not_there_is_told_with_those_that_are(tmp_path, asked):
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is a GPU")
    command = [sys.executable, "-m", "experiments.scratch", "--output", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, "--dataset", "digits", *asked],
        cwd=ROOT,
        env=os.environ | ({} if asked else {"JAX_PLATFORMS": "cuda"}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert "there is no such device, only cpu (cpu)" in line and "report" not in line


FULL_DISK = """
import resource, signal, sys
from experiments.scratch import ScratchConfig, main
from mnistjax import cli
from mnistjax.runs.checkpoint import Checkpoints
save = Checkpoints.save
def full(self, step, *arguments, **named):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, -1))
    return save(self, step, *arguments, **named)
Checkpoints.save = full
sys.exit(cli.run(ScratchConfig, main, sys.argv[1:]))
"""


def test_a_disk_that_fills_while_training_is_one_line(tmp_path):
    flags = "--dataset", "digits", "--train-size", "100", "--batch-size", "50", "--epochs", "2"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *flags, "--quiet", "--output", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1 and "bytes needed" in done.stderr, done.stderr

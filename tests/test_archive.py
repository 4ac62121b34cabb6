"""model.safetensors: all that a run is worth, read back to the bit or refused in one line."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from conftest import nothing_drawn
from flax import nnx
from stateful_models import NNXNet, linen_model, split

import mnistjax as mj
from mnistjax.errors import StorageError, UsageError
from mnistjax.models.described import describe, network
from mnistjax.models.functional import functional
from mnistjax.runs.archive import ARCHIVE, SCHEMA, read_archive, write_archive
from mnistjax.training.freeze import paths

pytestmark = pytest.mark.usefixtures("without_pictures")
DATA = mj.Dataset(
    "stripes", train=split(70), test=split(20, seed=2), class_names=tuple("abc"), origin="here"
)
SHORT: Any = {"epochs": 1, "batch_size": 16, "options": mj.RunOptions(quiet=True)}
ABOUT = {"class_names": ["a", "é\x1b"], "n": 1.5}


def leaves_of(tree):
    leaves = jax.tree.leaves(tree)
    return {path: np.asarray(leaf) for path, leaf in zip(paths(tree), leaves, strict=True)}


def same(one, other):
    ours, theirs = leaves_of(one), leaves_of(other)
    return ours.keys() == theirs.keys() and all(
        a.dtype == theirs[n].dtype and np.array_equal(a, theirs[n]) for n, a in ours.items()
    )


@pytest.fixture
def saved(tmp_path):
    params = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": jnp.ones(2)}
    params |= {"half": jnp.arange(3, dtype=jnp.bfloat16), "odd.key [0]": np.zeros((0, 2), np.int8)}
    write_archive(
        tmp_path / ARCHIVE, params, {"norm": {"mean": np.array([1, 2], np.float32)}}, ABOUT
    )
    return tmp_path / ARCHIVE, params


def test_what_is_written_is_read_to_the_bit(saved):
    path, params = saved
    got = read_archive(path)
    assert same(got.params, params)
    assert same(got.model_state, {"norm": {"mean": np.array([1, 2], np.float32)}})
    assert {name: got.about[name] for name in ABOUT} == ABOUT


def test_anything_that_reads_safetensors_reads_it(saved):
    path, _ = saved
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata()["schema"] == SCHEMA
        assert json.loads(file.metadata()["about"])["class_names"] == ABOUT["class_names"]
        assert file.get_tensor("params/a/kernel")[1].tolist() == [3, 4, 5]


def test_a_changed_bit_anywhere_is_one_error(saved):
    path, _ = saved
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    for place in {*range(0, len(whole), 7), *draw.integers(0, len(whole), 40).tolist()}:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(StorageError) as error:
            read_archive(path)
        assert str(error.value).count("\n") == 0 and "Fix:" in str(error.value)


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_file_that_ends_early_is_one_error(saved, length):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError):
        read_archive(path)


def test_other_files_of_safetensors_are_told_apart(tmp_path):
    path = tmp_path / ARCHIVE
    for metadata in (None, {"schema": "mnistjax-model-9"}):
        safetensors.numpy.save_file({"w": np.zeros(2)}, path, metadata)
        with pytest.raises(StorageError, match=f"schema .*, not {SCHEMA}"):
            read_archive(path)


def test_keys_of_random_numbers_come_back_as_keys(tmp_path):
    state = {"count": np.uint32(3), "key": jax.random.key(7)}
    write_archive(tmp_path / ARCHIVE, {"w": np.ones(1)}, state, {})
    got = read_archive(tmp_path / ARCHIVE).filled_in(state, "model_state")
    assert jax.random.key_data(got["key"]).tolist() == [0, 7] and int(got["count"]) == 3


def own_net(seed=0, *, width=3):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(16, width, rngs=rngs)

        def __call__(self, images):
            return self.dense(images.reshape(len(images), -1))

    return Net(nnx.Rngs(seed))


def plain_function():
    def linear(params, images):
        return images.reshape(len(images), -1) @ params["w"]

    return linear, {"w": np.zeros((16, 3), np.float32)}


MODELS = {
    "NNX": own_net,
    "NNX with state": lambda: NNXNet(nnx.Rngs(0)),
    "Linen with state": linen_model,
    "a function": plain_function,
}


@pytest.fixture(scope="module", params=MODELS)
def own_run(request, tmp_path_factory):
    with nothing_drawn():
        make = MODELS[request.param]
        return make, mj.train(make(), DATA, tmp_path_factory.mktemp("runs") / "run", **SHORT)


def test_a_network_of_ones_own_answers_as_its_run_did(own_run):
    make, run = own_run
    classifier = mj.load(run, model=make())
    logits = classifier.logits(DATA.test.images.astype(np.uint8))
    right = logits.argmax(axis=1) == DATA.test.labels
    assert right.mean() == run.summary["test_accuracy"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(20), DATA.test.labels]
    assert losses.mean() == pytest.approx(run.summary["test_loss"], rel=1e-5)


def test_a_network_of_ones_own_says_that_it_is_needed(own_run):
    _, run = own_run
    with pytest.raises(UsageError, match="only its parameters are in the run.*`model`"):
        mj.load(run)


def test_another_model_is_refused(own_run):
    make, run = own_run
    others = [own_net(width=4), mj.CNN(rngs=nnx.Rngs(0)), ((lambda p, x: x), {"v": np.ones(1)})]
    for other in others:
        with pytest.raises(UsageError, match="pass the model that was trained"):
            mj.load(run, model=other)


def test_a_state_that_is_missing_is_refused(tmp_path):
    net = NNXNet(nnx.Rngs(0))
    _, params, state = mj.functional_with_state(net)
    images = {"shape": [4, 4, 1], "fit": "crop", "ink_side": None}
    about = {"network": describe(net), "images": images, "class_names": ["a"]}
    write_archive(tmp_path / ARCHIVE, params, (), about)
    with pytest.raises(UsageError, match="model_state"):
        mj.load(tmp_path, model=net)
    write_archive(tmp_path / ARCHIVE, params, state, about)
    assert "NNXNet" in repr(mj.load(tmp_path, model=net))


def test_a_described_network_is_the_one_it_was():
    dtype = "bfloat16"
    model = mj.CNN(num_classes=3, pool="avg", lrn=True, dtype=dtype, rngs=nnx.Rngs(0))
    apply_fn, params = functional(model)
    images = jnp.asarray(np.random.default_rng(0).random((64, 28, 28, 1), np.float32))
    again = network(json.loads(json.dumps(describe(model))))
    assert again is not None
    ours, theirs = jax.jit(again)(params, images), jax.jit(apply_fn)(params, images)
    assert ours.dtype == theirs.dtype == dtype and bool((ours == theirs).all())


def test_a_run_that_has_not_ended_says_so(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StorageError, match="has not ended"):
        mj.load(tmp_path)

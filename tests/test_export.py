"""Files made of finished runs, read by what they are made for: JAX alone, onnxruntime."""

import json
import os
import subprocess
import sys
import zipfile
from functools import partial
from typing import Any

import jax
import jax.export
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import nothing_drawn
from flax import nnx

import mnistjax as mj
from experiments.export import ExportConfig, main
from mnistjax import cli
from mnistjax.errors import MnistjaxError, UsageError
from mnistjax.files import versions
from mnistjax.frozen.forward import make_frozen
from mnistjax.inference import export_formats
from mnistjax.inference.export_stablehlo import whole_network
from mnistjax.models.described import describe
from mnistjax.models.head import FineTuned
from mnistjax.models.vgg16 import map_shape
from mnistjax.models.vgg16_table import BLOCKS
from mnistjax.runs.archive import ARCHIVE, read_archive, write_archive

pytestmark = pytest.mark.usefixtures("without_pictures")
CLASSES = ["cat", "dog", "Å \n\"'", "4"]


def archived(path, model, images, frozen=None, **factors):
    """A run directory as of `model`, trained: of random arrays, kernels larger by `factors`."""
    random, params = np.random.default_rng(1), nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def like(at, of):
        name = jax.tree_util.keystr(at, simple=True, separator="/")
        if name.endswith("kernel"):
            std = np.sqrt(2 / np.prod(of.shape[:-1])) * factors.get(name.split("/")[-2], 1.0)
            return random.normal(0, std, of.shape).astype(np.float32)
        low, high = {"mean": (0, 50), "scale": (0, 0.02)}.get(name.split("/")[-1], (-0.1, 0.1))
        return random.uniform(low, high, of.shape).astype(np.float32)

    described = describe(model)
    if frozen:  # the network proper begins behind it
        blocks = [block for block in described["blocks"] if block not in frozen["blocks"]]
        shape = [*map_shape(tuple(described["input_shape"]), frozen["blocks"])]
        described |= {"blocks": blocks, "input_shape": shape, "frozen": frozen}
    about = {
        "network": described,
        "images": {"shape": [*images], "fit": "crop", "photos": True, "ink_side": None},
        "class_names": CLASSES,
        "versions": versions(),
    }
    path.mkdir()
    params = jax.tree_util.tree_map_with_path(like, params)
    write_archive(path / ARCHIVE, params, (), about)
    return path


def cnn(path, shape, **kind):
    def model():
        return mj.CNN(image_shape=shape, num_classes=4, **kind, rngs=nnx.Rngs(0))

    # Large enough for normalisation to be seen.
    return archived(path, nnx.eval_shape(model), shape, conv1=30.0, dense2=0.3)


def vgg16(path, shape, cut, frozen, *, size=32, pixels="caffe", dtype="float32", **head):
    def model():
        blocks, of = BLOCKS[: BLOCKS.index(cut) + 1], (size, size, 3)
        given = {"num_classes": 4, "dtype": dtype, "rngs": nnx.Rngs(0)} | head
        return FineTuned(input_shape=of, blocks=blocks, **given)

    facts = {"blocks": frozen, "image_size": size, "pixels": pixels, "dtype": dtype}
    small = 1.0 if head.get("standardise") or pixels == "torch" else 0.02
    return archived(path, nnx.eval_shape(model), shape, facts, dense2=small)


def images_for(run, count=100):
    """Coarse patterns with some noise."""
    height, width, channels = read_archive(run / ARCHIVE).about["images"]["shape"]
    random = np.random.default_rng(3)
    coarse = random.integers(0, 236, (count, 5, 5, channels))
    fine = coarse.repeat(-(-height // 5), 1).repeat(-(-width // 5), 2)[:, :height, :width]
    return (fine + random.integers(0, 20, fine.shape)).astype(np.uint8)


CNNS: dict[str, dict[str, Any]] = {
    "rectangles in colour, normalised": {"shape": (33, 20, 3), "lrn": True},
    "the smallest, mean pooling": {"shape": (10, 11, 1), "pool": "avg"},
}
TWO, THREE = [*BLOCKS[:2]], [*BLOCKS[:3]]
STANDARD: dict[str, Any] = {"cut": "block3", "frozen": THREE, "standardise": True}
TORCH: dict[str, Any] = {"cut": "block5", "frozen": TWO, "kind": "gap", "pixels": "torch"}
VGGS: dict[str, dict[str, Any]] = {
    "VGG16, colours made larger": {"shape": (28, 28, 3), **STANDARD},
    "VGG16, grey rectangles, torchvision's, trained blocks": {"shape": (50, 36, 1), **TORCH},
}


@pytest.fixture(scope="module", params=[*CNNS, *VGGS])
def run(request, tmp_path_factory):
    """A run of each kind, and what JAX's own operations make of some images by it."""
    path = tmp_path_factory.mktemp("run") / "run"
    make, kind = (cnn, CNNS) if request.param in CNNS else (vgg16, VGGS)
    make(path, **kind[request.param])
    images = images_for(path, 100 if request.param in CNNS else 24)
    with mj.as_lax():
        return path, images, np.asarray(plain(path)(images))


def plain(path):
    """The network as one function from images to probabilities."""
    arrays, logits = whole_network(read_archive(path / ARCHIVE), None)
    return partial(jax.jit(lambda of, images: jax.nn.softmax(logits(of, images))), arrays)


def test_onnxruntime_answers_as_jax(run):
    path, images, want = run
    network = onnxruntime.InferenceSession(mj.export(path, "onnx").path)
    for count in (1, len(images)):
        got = np.asarray(network.run(["probabilities"], {"images": images[:count]})[0])
        np.testing.assert_allclose(got, want[:count], rtol=0, atol=1e-5)
    assert want.std(axis=0).max() > 0.02  # images make a difference
    (taken,), (given,) = network.get_inputs(), network.get_outputs()
    assert (taken.name, taken.type) == ("images", "tensor(uint8)")
    assert (given.name, given.type) == ("probabilities", "tensor(float)")
    assert (taken.shape, given.shape) == (["n", *images.shape[1:]], ["n", 4])


# What JAX alone makes of a file: no module of this library, no Flax.
ALONE = """
import sys
import jax
import numpy as np
from jax import export
network = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
images = np.load(sys.argv[2])
np.savez(sys.argv[3], *[network.call(images[: int(count)]) for count in sys.argv[4:]])
assert network.platforms == ("cpu", "cuda", "tpu")
assert not {"mnistjax", "flax", "onnx"} & {*sys.modules}
"""


LIBRARY = """
import sys, jax, numpy as np, mnistjax as mj
logits = mj.load(sys.argv[1]).logits(np.load(sys.argv[2]))
np.save(sys.argv[3], jax.jit(jax.nn.softmax)(logits))
"""


def outside_of_tests():
    """The environment without the flags by which tests compile quickly, to other roundings."""
    return {name: of for name, of in os.environ.items() if name != "XLA_FLAGS"}


def by_the_library(directory, images, place):
    np.save(place / "images.npy", images)
    argv = [sys.executable, "-c", LIBRARY, directory, place / "images.npy", place / "ours.npy"]
    subprocess.run([*map(str, argv)], check=True, env=outside_of_tests())
    return np.load(place / "ours.npy")


def alone(exported, images, place, *counts):
    np.save(place / "images.npy", images)
    files = exported.path, place / "images.npy", place / "answers.npz"
    env = {name: of for name, of in outside_of_tests().items() if name != "PYTHONPATH"}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p.endswith("site"))
    subprocess.run([sys.executable, "-c", ALONE, *map(str, (*files, *counts))], check=True, env=env)
    return [*np.load(place / "answers.npz").values()]


@pytest.mark.soak
@pytest.mark.parametrize("run", ["VGG16, colours made larger"], indirect=True)
def test_jax_alone_computes_the_exported_vgg16(run, tmp_path):
    path, images, _ = run
    (got,) = alone(mj.export(path, "stablehlo"), images, tmp_path, len(images))
    np.testing.assert_allclose(got, plain(path)(images), rtol=0, atol=1e-5)
    # Plain blocks, where the library has transformed kernels.
    want = mj.load(path).predict(images).probabilities
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    data = mj.load_dataset("digits")
    model = mj.CNN(image_shape=data.image_shape, rngs=nnx.Rngs(0))
    directory = tmp_path_factory.mktemp("digits") / "it's a run"
    with nothing_drawn():
        mj.train(model, data, directory, epochs=1, options=mj.RunOptions(quiet=True))
    return directory, data.test.images


def test_jax_alone_has_the_bits_of_the_library(digits, tmp_path):
    """Of 96 rows and more: the library fills up to 128, and fewer than 96 round otherwise."""
    directory, images = digits
    exported = mj.export(directory, "stablehlo", tmp_path / "a.stablehlo")
    one, got = alone(exported, images[:100], tmp_path, 1, 100)
    want = by_the_library(directory, images[:100], tmp_path)
    np.testing.assert_allclose(one, want[:1], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(got, want)


def test_what_is_written_says_what_it_is(digits, tmp_path):
    directory, _ = digits
    files = {f: mj.export(directory, f, tmp_path / f"new/a.{f}") for f in ("stablehlo", "onnx")}
    with zipfile.ZipFile(files["stablehlo"].path) as behind:
        said = json.loads(behind.read("about.json"))
    model = onnx.load(files["onnx"].path)
    props = {prop.key: prop.value for prop in model.metadata_props}
    assert model.producer_name == "mnistjax" and json.loads(props["about"]).keys() < said.keys()
    for names in (said["class_names"], json.loads(props["class_names"])):
        assert names == [str(digit) for digit in range(10)]
    assert said["signature"] == files["onnx"].signature
    assert said["signature"].startswith("images: uint8 [n, 28, 28, 1] ->")
    pure = files["stablehlo"].path.read_bytes()[: said["jax_export_bytes"]]
    assert jax.export.deserialize(bytearray(pure)).in_avals[0].shape[1:] == (28, 28, 1)
    again = mj.export(directory, "onnx", tmp_path / "again.onnx")
    assert again.path.read_bytes() == files["onnx"].path.read_bytes()


@pytest.mark.parametrize("format", export_formats.FORMATS)
def test_the_lines_that_the_command_prints_compute(format, digits, tmp_path, capsys):
    directory, images = digits
    output = tmp_path / f"a 'file'.{format}"
    argv = [str(directory), "--format", format, "--output", str(output)]
    assert cli.run(ExportConfig, main, argv) == 0
    told = capsys.readouterr().out
    assert f"{output} · {output.stat().st_size / 1e6:,.1f} MB\nimages: uint8 [n, 28, 28, 1]" in told
    assert "classes: 0, 1, 2" in told
    lines = [line.strip() for line in told.splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    scope: dict[str, Any] = {"images": images[:100]}
    exec("\n".join(lines), scope)
    want = mj.load(directory).predict(images[:100]).probabilities
    np.testing.assert_allclose(scope["probabilities"], want, rtol=0, atol=1e-5)
    assert cli.run(ExportConfig, main, argv) == 5  # it is there now
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--output" in error and "--force to replace it" in error
    assert cli.run(ExportConfig, main, [*argv, "--force"]) == 0


def test_what_cannot_be_written_is_one_line(digits, tmp_path, capsys, monkeypatch):
    directory, _ = digits
    (tmp_path / "file").touch()
    refused = [
        ([], 2, "--format"),
        (["--format", "onxx"], 2, "did you mean onnx?"),
        (["--format", "safetensors"], 2, "pass another --output to copy it to"),
        (["--format", "onnx", "--output", str(tmp_path)], 5, "is a directory"),
        (["--format", "onnx", "--output", f"{tmp_path}/file/x"], 5, "is a file"),
        (["--format", "onnx", "--output", "a\nb"], 2, "control character"),
    ]
    for argv, code, said in refused:
        assert cli.run(ExportConfig, main, [str(directory), *argv]) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error, error
    assert cli.run(ExportConfig, main, [str(tmp_path), "--format", "onnx"]) == 5
    assert "has not ended" in capsys.readouterr().err
    monkeypatch.setattr(export_formats, "find_spec", lambda name: None)
    assert cli.run(ExportConfig, main, [str(directory), "--format", "onnx"]) == 2
    assert "pip install 'mnistjax[export]'" in capsys.readouterr().err
    assert not (directory / "model.onnx").exists()


def test_a_damaged_archive_is_not_exported(digits, tmp_path):
    content = bytearray((digits[0] / ARCHIVE).read_bytes())
    content[-5] ^= 1
    (tmp_path / ARCHIVE).write_bytes(content)
    for format in export_formats.FORMATS:
        with pytest.raises(MnistjaxError, match="not what was saved"):
            mj.export(tmp_path, format, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bfloat16_is_exported_in_float32_and_said(tmp_path):
    run = cnn(tmp_path / "run", (12, 12, 1), dtype="bfloat16")
    exported = mj.export(run, "onnx")
    assert "the run computed in bfloat16, this file computes in float32" in str(exported)
    images = images_for(run, 8)
    got = np.asarray(onnxruntime.InferenceSession(exported.path).run(None, {"images": images})[0])
    want = mj.load(run).predict(images).probabilities
    assert 1e-5 < np.abs(got - want).max() < 0.1


class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(1, use_running_average=True, rngs=rngs)
        self.out = nnx.Linear(64, 4, rngs=rngs)

    def __call__(self, x):
        return self.out(self.norm(x).reshape(x.shape[0], -1))


class Fixed(Net):
    def __call__(self, x):
        return self.out(self.norm(x).reshape(int(x.shape[0]), -1))


def test_a_network_of_ones_own_is_exported_by_jax_only(tmp_path):
    model, images = Net(nnx.Rngs(0)), {"shape": [8, 8, 1], "fit": "crop", "ink_side": None}
    _, params, state = mj.functional_with_state(model)
    about = {"network": describe(model), "images": images, "class_names": CLASSES}
    (run := tmp_path / "run").mkdir()
    about |= {"versions": versions()}
    write_archive(run / ARCHIVE, params, state, about)
    for format in ("onnx", "stablehlo"):
        with pytest.raises(
            UsageError, match=r"Net: .*mj\.export\(run, 'stablehlo', model=\.\.\.\)"
        ):
            mj.export(run, format)
    with pytest.raises(UsageError, match="drop `model`"):
        mj.export(run, "onnx", model=model)
    with pytest.raises(UsageError, match="shapes do not depend on the batch"):
        mj.export(run, "stablehlo", model=Fixed(nnx.Rngs(0)))
    seen = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1)).astype(np.uint8)
    exported = mj.export(run, "stablehlo", model=Net(nnx.Rngs(1)))  # its own arrays are not taken
    got = jax.export.deserialize(bytearray(exported.path.read_bytes())).call(seen)
    want = mj.load(run, model=model).predict(seen).probabilities
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
    copy = mj.export(run, "safetensors", tmp_path / "copy.safetensors")
    assert copy.path.read_bytes() == (run / ARCHIVE).read_bytes()


def test_where_nothing_is_frozen_features_are_the_pixels():
    constant, apply_fn = make_frozen({}, blocks=[], image_size=32)
    x = jax.numpy.ones((2, 32, 32, 3))
    np.testing.assert_array_equal(apply_fn(constant, x), x)


def test_wrong_flags_do_not_wait_for_jax():
    code = "import sys, experiments.export; print({'jax', 'onnx'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"

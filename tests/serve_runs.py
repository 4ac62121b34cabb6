"""Runs to serve in tests: archives written without training, and pictures of strokes."""

import io

import numpy as np
from flax import nnx
from PIL import Image, ImageDraw

from mnistjax.data.digits import load_digits
from mnistjax.models.cnn import CNN
from mnistjax.models.described import describe
from mnistjax.models.functional import functional
from mnistjax.models.head import FineTuned
from mnistjax.runs.archive import ARCHIVE, write_archive
from mnistjax.weights.source import load_weights

SEVEN = [[(80, 70), (200, 70), (130, 220)]]
ONE = [[(140, 60), (140, 220)]]


def png_of(strokes, width=22, kind="PNG"):
    """Strokes of black ink on white, points in a square of 280, as the bytes of a file."""
    image = Image.new("L", (280, 280), 255)
    for points in strokes:
        ImageDraw.Draw(image).line(points, fill=0, width=width, joint="curve")
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def photo(seed=0, size=(90, 60)):
    """A picture in colours."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def cnn_run(directory, **more):
    """A small CNN that has learned nothing, as if trained on the bundled digits."""
    model = CNN(rngs=nnx.Rngs(0))
    _, params = functional(model)
    images = {"shape": [28, 28, 1], "fit": "crop", "photos": False, "ink_side": 28}
    return _write(directory, params, describe(model), images, **more)


def vgg16_run(directory, **more):
    """Random VGG16 blocks and a head, for photos of 32x32."""
    weights = load_weights("random", cut="block3")
    model = FineTuned(input_shape=(8, 8, 128), blocks=["block3"], num_classes=3, rngs=nnx.Rngs(0))
    _, params = functional(model)
    params["backbone"] = {**weights.params, **params["backbone"]}
    frozen = {"blocks": ["block1", "block2"], "image_size": 32, "pixels": "caffe"}
    network = describe(model) | {"frozen": frozen | {"dtype": "float32"}}
    images = {"shape": [32, 32, 3], "fit": "crop", "photos": True, "ink_side": None}
    names = {"class_names": ["cat", "dog", "<b>hen</b>"], "dataset": "folder"}
    return _write(directory, params, network, images, **names | more)


def _write(directory, params, network, images, **more):
    directory.mkdir(parents=True, exist_ok=True)
    about = {
        "network": network,
        "images": images,
        "class_names": [*"0123456789"],
        "dataset": "digits",
        "dataset_sha256": load_digits().sha256,
        "test_accuracy": 0.1,
        "test_examples": 360,
    }
    write_archive(directory / ARCHIVE, params, (), about | more)
    return directory

"""Runs to serve in tests: archives written without training, and pictures of strokes."""

import io

import numpy as np
from flax import nnx
from PIL import Image, ImageDraw

from mnistjax.data.digits import load_digits
from mnistjax.inference.drawn import in_form
from mnistjax.inference.serve.inside import make_inside
from mnistjax.models.cnn import CNN
from mnistjax.models.described import describe
from mnistjax.models.functional import functional
from mnistjax.models.head import FineTuned
from mnistjax.runs.archive import ARCHIVE, read_archive, write_archive
from mnistjax.weights.source import load_weights

ONE, SEVEN = [[(140, 55), (140, 225)]], [[(80, 70), (200, 70), (130, 220)]]
STROKES = {
    "0": [[(140, 55), (90, 90), (80, 150), (100, 210), (145, 225), (190, 200), (200, 140),
           (185, 80), (140, 55)]],
    "1": ONE,
    "2": [[(90, 90), (120, 58), (165, 58), (185, 90), (170, 130), (85, 220), (200, 220)]],
    "3": [[(90, 70), (140, 52), (185, 80), (180, 115), (130, 136), (185, 158), (190, 200),
           (140, 228), (88, 208)]],
    "4": [[(105, 55), (85, 150), (200, 150)], [(170, 60), (165, 228)]],
    "5": [[(190, 60), (105, 60), (98, 130), (150, 120), (190, 150), (185, 205), (140, 228),
           (90, 212)]],
    "6": [[(175, 60), (120, 110), (95, 170), (110, 220), (160, 225), (185, 190), (165, 150),
           (110, 160)]],
    "7": SEVEN,
    "8": [[(140, 55), (100, 80), (115, 120), (165, 155), (180, 195), (140, 228), (98, 195),
           (115, 155), (165, 120), (180, 80), (140, 55)]],
    "9": [[(185, 100), (150, 60), (105, 80), (105, 125), (150, 140), (185, 100), (180, 160),
           (160, 228)]],
}  # fmt: skip


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


def cnn_run(directory):
    """A small CNN that reads digits drawn like `STROKES`, as if trained on the bundled ones.

    Its last layer is fitted by least squares to what the others, as they begin, make of them.
    """
    model = CNN(rngs=nnx.Rngs(0))
    _, params = functional(model)
    images = {"shape": [28, 28, 1], "fit": "crop", "photos": False, "ink_side": 20}
    _write(directory, params, describe(model), images)
    inside = make_inside(read_archive(directory / ARCHIVE))
    assert inside is not None
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 30)
    hidden = inside(np.stack([jittered(STROKES[str(n)], random) for n in labels]))[1]
    hidden = np.hstack([hidden, np.ones((len(labels), 1), np.float32)])
    inner = hidden.T @ hidden + 1e-3 * np.eye(hidden.shape[1])
    fitted = np.linalg.solve(inner, hidden.T @ (12 * np.eye(10)[labels])).astype(np.float32)
    params["dense2"] = {"kernel": fitted[:-1], "bias": fitted[-1]}
    return _write(directory, params, describe(model), images)


def jittered(strokes, random):
    """The strokes turned, sheared, scaled and of another width, in the form of MNIST."""
    image = Image.new("L", (560, 560))
    turn = np.eye(2) + random.uniform(-0.15, 0.15, (2, 2))
    for points in strokes:
        moved = (np.array(points) - 140) @ turn + random.uniform(-6, 6, (len(points), 2)) + 280
        line = [(float(x), float(y)) for x, y in moved]
        ImageDraw.Draw(image).line(line, fill=255, width=int(random.integers(16, 30)))
    return in_form(np.asarray(image.crop(image.getbbox())), 28, 20)[..., None]


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

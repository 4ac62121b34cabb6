"""What every peer of a job gets: the same images, labels and first parameters, as one .npz."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.networks import NETWORKS, by_path, network
from mnistjax.models.vgg16_table import table

BATCH, STEPS = 128, 20
# He-normal kernels make features of about 80, and Adam's first steps on 25,088 of those throw the
# loss into the thousands. So reduced they are 0.2 on average, and the loss ends below its start.
FEATURE_SCALE = 0.003
PHOTOS = 2_000
Arrays = dict[str, Any]  # NumPy's; typed so, pyright fears that one is savez's `allow_pickle`


def cnn_problem(path: Path, *, steps: int = STEPS) -> None:
    """Batches of 128 real digits, repeated, and the small CNN's parameters: a loss that falls."""
    import mnistjax as mj

    train = mj.load_dataset("digits").train
    repeats = max(2, -(-BATCH * steps // len(train.labels)))
    order = np.random.default_rng(0).permutation(len(train.labels) * repeats)[: BATCH * steps]
    order %= len(train.labels)
    np.savez(
        path,
        images=train.images[order].reshape(steps, BATCH, 28, 28, 1),
        labels=train.labels[order].reshape(steps, BATCH).astype(np.uint8),
        **_cnn_arrays(seed=0),
    )


def input_problem(path: Path, *, count: int = 60_000) -> None:
    """`count` images as large as MNIST's, of noise, and labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 28, 28, 1), np.uint8)
    np.savez(path, images=images, labels=random.integers(0, 10, count, np.uint8))


def photos_problem(path: Path, *, count: int = PHOTOS) -> None:
    """`count` JPEG files of 320x240 in ten folders beside `path`: smooth colours, some noise."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        place = path.with_suffix("") / f"class{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((320, 240), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + random.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f"{number:05}.jpg", quality=90)


def mnist_problem(path: Path, *, data_dir: Path, seed: int, with_test: bool = False) -> None:
    """MNIST, a tenth held out, the test set if asked for, and the small CNN's first parameters."""
    import mnistjax as mj

    data = mj.load_dataset("mnist", data_dir, quiet=True)
    train, validation = mj.hold_out(data.train, fraction=0.1, seed=seed)
    test: Arrays = {"test_images": data.test.images, "test_labels": data.test.labels}
    test = test if with_test else {}
    np.savez(
        path,
        images=train.images,
        labels=train.labels.astype(np.uint8),
        validation_images=validation.images,
        validation_labels=validation.labels.astype(np.uint8),
        **test,
        **_cnn_arrays(seed=seed),
    )


def vgg16_training_problem(path: Path, *, size: int, batch: int) -> None:
    """Random images, labels, VGG16's convolutions and a head of 256 and 10."""
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, size, size, 3)).astype(np.float32) * 50
    arrays = _vgg16_and_head_arrays(random, (size // 32) ** 2 * 512)
    labels = random.integers(0, 10, batch).astype(np.uint8)
    np.savez(path, images=images, labels=labels, **arrays)


def vgg16_problem(path: Path, *, size: int, batch: int) -> None:
    """Random images [batch, size, size, 3] and He-normal kernels of the 13 convolutions."""
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, size, size, 3)).astype(np.float32) * 50
    np.savez(path, images=images, **_vgg16_arrays(random))


def finetune_problem(path: Path, *, count: int) -> None:
    """`count` real digits, the 13 convolutions and the head's first parameters."""
    import mnistjax as mj

    random = np.random.default_rng(0)
    train = mj.load_dataset("digits").train
    order = random.permutation(len(train.labels))[:count]
    arrays = _vgg16_and_head_arrays(random, 7 * 7 * 512)
    labels = train.labels[order].astype(np.uint8)
    np.savez(path, images=train.images[order], labels=labels, **arrays)


def network_problem(path: Path, *, name: str) -> None:
    """Random images and labels, and a network's first parameters and statistics."""
    from flax import nnx

    random, of = np.random.default_rng(0), NETWORKS[name]
    images = random.random((of.batch, *of.shape), np.float32)
    shape = images.shape[:3] if of.every_pixel else images.shape[:1]
    labels = random.integers(0, 10, shape).astype(np.uint8)
    state = by_path(nnx.to_pure_dict(nnx.state(network(name))))
    arrays: Arrays = {place: np.asarray(array) for place, array in state.items()}
    np.savez(path, images=images, labels=labels, **arrays)


def _cnn_arrays(*, seed: int) -> Arrays:
    from flax import nnx

    import mnistjax as mj

    _, params = mj.functional(mj.CNN(rngs=nnx.Rngs(seed)))
    return {f"{layer}/{n}": np.asarray(a) for layer, p in params.items() for n, a in p.items()}


def _vgg16_arrays(random: np.random.Generator) -> Arrays:
    arrays: Arrays = {}
    for layer, shapes in table().items():
        *_, inputs, _ = shapes["kernel"]
        kernel = random.normal(size=shapes["kernel"]) * np.sqrt(2 / 9 / inputs)
        arrays[f"{layer}/kernel"] = kernel.astype(np.float32)
        arrays[f"{layer}/bias"] = random.normal(size=shapes["bias"]).astype(np.float32)
    return arrays


def _vgg16_and_head_arrays(random: np.random.Generator, features: int) -> Arrays:
    arrays = _vgg16_arrays(random)
    for role in ("kernel", "bias"):
        arrays[f"block5_conv3/{role}"] *= np.float32(FEATURE_SCALE)
    for layer, shape in {"dense1": (features, 256), "dense2": (256, 10)}.items():
        kernel = random.normal(size=shape) / np.sqrt(shape[0])
        arrays[f"{layer}/kernel"] = kernel.astype(np.float32)
        arrays[f"{layer}/bias"] = np.zeros(shape[1], np.float32)
    return arrays

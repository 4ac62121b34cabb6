"""What every peer of a job gets: the same images, labels and first parameters, as one .npz."""

from pathlib import Path

import numpy as np

BATCH, STEPS = 128, 20
# He-normal kernels make features of about 80, and Adam's first steps on 25,088 of those throw the
# loss into the thousands. So reduced they are 0.2 on average, and the loss ends below its start.
FEATURE_SCALE = 0.003
VGG16 = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}


def cnn_problem(path: Path, *, steps: int = STEPS) -> None:
    """Batches of 128 real digits, repeated, and the small CNN's parameters: a loss that falls."""
    from flax import nnx

    import mnistjax as mj

    train = mj.load_dataset("digits").train
    repeats = max(2, -(-BATCH * steps // len(train.labels)))
    order = np.random.default_rng(0).permutation(len(train.labels) * repeats)[: BATCH * steps]
    order %= len(train.labels)
    _, params = mj.functional(mj.CNN(rngs=nnx.Rngs(0)))
    np.savez(
        path,
        images=train.images[order].reshape(steps, BATCH, 28, 28, 1),
        labels=train.labels[order].reshape(steps, BATCH).astype(np.uint8),
        **{f"{layer}/{n}": np.asarray(a) for layer, p in params.items() for n, a in p.items()},
    )


def input_problem(path: Path, *, count: int = 60_000) -> None:
    """`count` images as large as MNIST's, of noise, and labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 28, 28, 1), np.uint8)
    np.savez(path, images=images, labels=random.integers(0, 10, count, np.uint8))


def mnist_problem(path: Path, *, data_dir: Path, seed: int) -> None:
    """MNIST without its test set, a tenth held out, and the small CNN's parameters of `seed`."""
    from flax import nnx

    import mnistjax as mj

    data = mj.load_dataset("mnist", data_dir, quiet=True)
    train, validation = mj.hold_out(data.train, fraction=0.1, seed=seed)
    _, params = mj.functional(mj.CNN(rngs=nnx.Rngs(seed)))
    np.savez(
        path,
        images=train.images,
        labels=train.labels.astype(np.uint8),
        validation_images=validation.images,
        validation_labels=validation.labels.astype(np.uint8),
        **{f"{layer}/{n}": np.asarray(a) for layer, p in params.items() for n, a in p.items()},
    )


def vgg16_training_problem(path: Path, *, size: int, batch: int) -> None:
    """Random images, labels, VGG16's convolutions and a head of 256 and 10."""
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, size, size, 3)).astype(np.float32) * 50
    arrays = _vgg16_arrays(random)
    for name in ("kernel", "bias"):
        arrays[f"block5_conv3/{name}"] *= np.float32(FEATURE_SCALE)
    arrays |= _head_arrays(random, (size // 32) ** 2 * 512)
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
    arrays = _vgg16_arrays(random)
    for name in ("kernel", "bias"):
        arrays[f"block5_conv3/{name}"] *= np.float32(FEATURE_SCALE)
    arrays |= _head_arrays(random, 7 * 7 * 512)
    labels = train.labels[order].astype(np.uint8)
    np.savez(path, images=train.images[order], labels=labels, **arrays)


def _vgg16_arrays(random: np.random.Generator) -> dict[str, np.ndarray]:
    arrays, inputs = {}, 3
    for block, (convs, outputs) in VGG16.items():
        for i in range(1, convs + 1):
            kernel = random.normal(size=(3, 3, inputs, outputs)) * np.sqrt(2 / 9 / inputs)
            arrays[f"block{block}_conv{i}/kernel"] = kernel.astype(np.float32)
            arrays[f"block{block}_conv{i}/bias"] = random.normal(size=outputs).astype(np.float32)
            inputs = outputs
    return arrays


def _head_arrays(random: np.random.Generator, features: int) -> dict[str, np.ndarray]:
    arrays = {}
    for layer, shape in {"dense1": (features, 256), "dense2": (256, 10)}.items():
        kernel = random.normal(size=shape) / np.sqrt(shape[0])
        arrays[f"{layer}/kernel"] = kernel.astype(np.float32)
        arrays[f"{layer}/bias"] = np.zeros(shape[1], np.float32)
    return arrays


def cnn_step_flops() -> float:
    """Multiplications and additions of one image's training step, convolutions by definition.

    Forward once, backward twice, but no gradient of the pixels: what is needed, not what is done
    (Winograd does less). 26x26 outputs of the first and 11x11 of the second convolution.

    >>> cnn_step_flops() / 1e6
    15.396864
    """
    conv1, conv2 = 26 * 26 * 9 * 32, 11 * 11 * 9 * 32 * 64
    dense = 1600 * 128 + 128 * 10
    return 2.0 * (2 * conv1 + 3 * conv2 + 3 * dense)


def vgg16_flops(size: int) -> float:
    """Multiplications and additions of the 13 convolutions for one image.

    >>> round(vgg16_flops(224) / 1e9, 1)
    30.7
    """
    total, inputs = 0, 3
    for convs, outputs in VGG16.values():
        for _ in range(convs):
            total += size * size * 9 * inputs * outputs
            inputs = outputs
        size //= 2
    return 2.0 * total


def vgg16_step_flops(size: int) -> float:
    """The same for a training step of all 13: forward, two gradients, none of the pixels.

    >>> round(vgg16_step_flops(32) / 1e9, 2)
    1.88
    """
    return 3 * vgg16_flops(size) - 2.0 * size * size * 9 * 3 * 64

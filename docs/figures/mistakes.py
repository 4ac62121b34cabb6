"""What each mistake of docs/learn/finetune.md costs, as the rows of its tables.

python docs/figures/mistakes.py --data-dir MNIST --weights FILE [--photos FOLDER]

VGG16's blocks 1 to 3 at 32x32, a head of 256 and 10 on standardised features, 2,000 training images
(others for each seed) and 5,000 test images, ten epochs in batches of 100, the last epoch scored.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import mnistjax as mj
from mnistjax.frozen.statistics import mean_and_scale
from mnistjax.weights.preprocess import BGR_MEANS

SEEDS = range(5)
BLOCKS = ["block1", "block2", "block3"]
DECAYED = np.float32((1 - 1e-3 * 0.1) ** 4690)  # ten epochs of MNIST by AdamW at 0.001, decay 0.1
ADAM = optax.adam(1e-3)
head_fn, _ = mj.functional(mj.Head(map_shape=(4, 4, 256), rngs=nnx.Rngs(0)))
Arrays = tuple[np.ndarray, np.ndarray]


def orders(seed: int, epochs: int = 10) -> np.ndarray:
    """The rows of each batch, [steps, 100]."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.permutation(2000).reshape(20, 100) for _ in range(epochs)])


@partial(jax.jit, static_argnames="loss_of")
def trained(params: Any, x: jax.Array, y: jax.Array, order: jax.Array, loss_of: Callable) -> Any:
    """The head after a step for each row of `order`."""

    def step(carry: Any, rows: jax.Array) -> Any:
        params, opt_state = carry
        gradient_of = jax.grad(lambda params: loss_of(head_fn(params, x[rows]), y[rows]).mean())
        updates, opt_state = ADAM.update(gradient_of(params), opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(step, (params, ADAM.init(params)), order)[0][0]


def accuracy(
    train: Arrays, test: Arrays, seed: int, *, standardise: bool = True, loss_of=mj.cross_entropy
) -> float:
    """Of a head trained on the features `train`, by `test`, in per cent."""
    mean, scale = mean_and_scale(train[0]) if standardise else (np.float32(0), np.float32(1))
    _, params = mj.functional(mj.Head(map_shape=(4, 4, 256), rngs=nnx.Rngs(seed)))
    x, y = jnp.asarray((train[0] - mean) * scale), jnp.asarray(train[1])
    params = trained(params, x, y, jnp.asarray(orders(seed)), loss_of)
    logits = jax.jit(head_fn)(params, jnp.asarray((test[0] - mean) * scale))
    return 100 * float(np.mean(np.asarray(logits).argmax(-1) == test[1]))


def features(params: Any, preprocess: Callable, splits: list[mj.Split]) -> list[Arrays]:
    """What the blocks make of each split, once, with its labels."""
    constant, apply_fn = mj.make_frozen(params, blocks=BLOCKS, image_size=32)
    compute = jax.jit(lambda constant, images: apply_fn(constant, preprocess(images)))

    def rows(images: np.ndarray) -> np.ndarray:
        parts = [images[start : start + 250] for start in range(0, len(images), 250)]
        return np.concatenate([compute(constant, jnp.asarray(part)) for part in parts])

    return [(rows(split.images), split.labels) for split in splits]


def told(name: str, found: list[float]) -> None:
    cells = f"{np.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})"
    print(f"| {name} | {cells} |", flush=True)


def over_seeds(name: str, train: list[Arrays], test: Arrays, **how: Any) -> None:
    told(name, [accuracy(train[seed], test, seed, **how) for seed in SEEDS])


def drawn(data: mj.Dataset) -> list[mj.Split]:
    """5,000 test images, then 2,000 training images for each seed, each class with its share."""
    _, test = mj.hold_out(data.test, fraction=5000 / len(data.test.labels), seed=0)
    part = partial(mj.hold_out, data.train, fraction=2000 / len(data.train.labels))
    return [test, *(part(seed=seed)[1] for seed in SEEDS)]


def by_255(right: Callable, images: jax.Array) -> jax.Array:
    """RGB in 0..1, without means."""
    return (right(images) + jnp.asarray(BGR_MEANS))[..., ::-1] / 255


def digits(data: mj.Dataset, weights: Any) -> None:
    splits, right = drawn(data), weights.preprocess(32)
    test, *train = features(weights.params, right, splits)
    over_seeds("as it should be", train, test)
    columns = [(x, labels[:, None]) for x, labels in train]
    over_seeds("labels as a column", columns, test, loss_of=optax.softmax_cross_entropy)
    over_seeds("features not standardised", train, test, standardise=False)
    random = mj.load_weights("random", cut="block3").params
    anew = weights.params | {"block1_conv1": random["block1_conv1"]}
    over_seeds("first layer made anew", *_swap(features(anew, right, splits)))
    over_seeds("random weights", *_swap(features(random, right, splits)))
    decayed = jax.tree.map(lambda array: array * DECAYED, weights.params)
    test_of_decayed, *train = features(decayed, right, splits)
    over_seeds("body decayed with its head", train, test_of_decayed)
    over_seeds("head of a decayed body", train, test)
    test, *train = features(weights.params, partial(by_255, right), splits)
    over_seeds("divided by 255", train, test)
    over_seeds("by 255, not standardised", train, test, standardise=False)


def photos(data: mj.Dataset, weights: Any) -> None:
    splits, right = drawn(data), weights.preprocess(32)
    test, *train = features(weights.params, right, splits)
    over_seeds("photos: as it should be", train, test)
    over_seeds("features not standardised", train, test, standardise=False)
    random = mj.load_weights("random", cut="block3").params
    over_seeds("random weights", *_swap(features(random, right, splits)))
    grey = [mj.Split(_grey(split.images), split.labels) for split in splits]
    grey_test, *grey_train = features(weights.params, right, grey)
    over_seeds("grey photos", grey_train, grey_test)
    over_seeds("grey only when asked", train, grey_test)
    wrong = features(weights.params, lambda images: right(images[..., ::-1]), splits)
    over_seeds("red and blue exchanged", *_swap(wrong))
    over_seeds("exchanged only when asked", train, wrong[0])
    test_255, *train_255 = features(weights.params, partial(by_255, right), splits)
    over_seeds("divided by 255", train_255, test_255)
    over_seeds("by 255, not standardised", train_255, test_255, standardise=False)
    over_seeds("by 255 only when asked", train, test_255)


def _swap(made: list[Arrays]) -> tuple[list[Arrays], Arrays]:
    return made[1:], made[0]


def _grey(images: np.ndarray) -> np.ndarray:
    return (images @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for flag in ("--data-dir", "--weights", "--photos"):
        parser.add_argument(flag, required=flag != "--photos")
    args = parser.parse_args()
    weights = mj.load_weights(args.weights, cut="block3")
    mnist = mj.load_dataset("mnist", args.data_dir)
    digits(mnist, weights)
    if args.photos:
        photos(mj.load_dataset("folder", args.photos, photos=mj.Photos(size=32)), weights)

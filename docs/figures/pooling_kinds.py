"""What swapping the pooling does: the table of docs/learn/pooling.md.

python docs/figures/pooling_kinds.py --data-dir DIR

MNIST, the small CNN, one epoch by the recipe `quick` over all 60,000 images, five seeds of each
kind; the mean of the test accuracies, and how far each is from maximum 2x2, seed by seed. Nothing
chooses anything: there is one epoch, and it is scored once.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import tyro
from flax import nnx

import mnistjax as mj
from mnistjax.inference.several import spread
from mnistjax.runs.recipes import RECIPES
from mnistjax.training.losses import Smoothed

QUICK = RECIPES["quick"]
Shrink = Callable[[jax.Array], jax.Array]


class Net(nnx.Module):
    """The small CNN with `shrinks` in the places of its two poolings; `side` is of the last map."""

    def __init__(self, shrinks: list[Shrink], side: int, *, strides: int = 1, rngs: nnx.Rngs):
        how = {"strides": strides, "padding": "VALID", "rngs": rngs}
        self.conv1 = nnx.Conv(1, 32, (3, 3), **how)
        self.conv2 = nnx.Conv(32, 64, (3, 3), **how)
        self.shrink1, self.shrink2 = shrinks
        self.dense1 = nnx.Linear(side * side * 64, 128, rngs=rngs)
        self.dense2 = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.shrink1(nnx.relu(self.conv1(x)))
        x = self.shrink2(nnx.relu(self.conv2(x)))
        x = nnx.relu(self.dense1(x.reshape(len(x), -1)))
        return self.dense2(x)


class Strided(nnx.Module):
    """A convolution 2x2 with stride 2 and ReLU, of as many channels as it is given."""

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.conv = nnx.Conv(channels, channels, (2, 2), 2, padding="VALID", rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(self.conv(x))


def as_it_is(x: jax.Array) -> jax.Array:
    return x


def overlapping(x: jax.Array) -> jax.Array:
    return mj.ops.max_pool(x, (3, 3), strides=(2, 2))


KINDS: dict[str, Callable[..., nnx.Module]] = {
    "maximum 2x2": mj.CNN,
    "average 2x2": partial(mj.CNN, pool="avg"),
    "maximum 3x3, stride 2": partial(Net, [overlapping] * 2, 4),
    "a convolution 2x2, stride 2": lambda rngs: Net(
        [Strided(32, rngs), Strided(64, rngs)], 5, rngs=rngs
    ),
    "none; stride 2 in the convolutions": partial(Net, [as_it_is] * 2, 6, strides=2),
    "second one global average": partial(Net, [mj.ops.max_pool, lambda x: x.mean((1, 2))], 1),
    "second one global maximum": partial(Net, [mj.ops.max_pool, lambda x: x.max((1, 2))], 1),
    "maximum 2x2, then LRN": partial(mj.CNN, lrn=True),
}


def test_accuracy(model: nnx.Module, data: mj.Dataset, seed: int) -> float:
    """In per cent, after one epoch."""
    apply_fn, params = mj.functional(model)
    steps = -(-len(data.train.labels) // QUICK.batch_size)
    tx = mj.Stage.by_one_cycle(1, QUICK.learning_rate, steps=steps).tx
    loss_fn = Smoothed(QUICK.label_smoothing)
    eval_step = mj.make_eval_step(apply_fn=apply_fn)
    *_, end = mj.fit(
        mj.init_state(params, tx),
        train_step=mj.make_train_step(apply_fn=apply_fn, tx=tx, loss_fn=loss_fn),
        eval_step=eval_step,
        train=data.train,
        epochs=1,
        batch_size=QUICK.batch_size,
        seed=seed,
    )
    metrics, _ = mj.evaluate(eval_step, end.state.params, data.test)
    return 100 * metrics.accuracy


def main(data_dir: Path, seeds: int = 5) -> None:
    """Train each kind with seeds 0, 1, 2, ... and print the table."""
    data = mj.load_dataset("mnist", data_dir)
    found: dict[str, np.ndarray] = {}
    print("| pooling | parameters | accuracy, % | difference |\n|---|---|---|---|")
    for kind, make in KINDS.items():
        begin, accuracies = time.perf_counter(), []
        for seed in range(seeds):
            model = make(rngs=nnx.Rngs(seed))
            mj.ops.speed_up(model)
            accuracies.append(test_accuracy(model, data, seed))
        found[kind] = np.array(accuracies)
        count = sum(leaf.size for leaf in jax.tree.leaves(mj.functional(model)[1]))
        of, apart = spread(found[kind]), spread(found[kind] - found["maximum 2x2"])
        cells = f"{of.mean:.2f} ± {of.high - of.mean:.2f}"
        against = f"{apart.mean:+.2f} ± {apart.high - apart.mean:.2f}" if apart.sd else ""
        print(f"| {kind} | {count:,} | {cells} | {against} |".replace("-", "−"), flush=True)
        seconds = time.perf_counter() - begin
        print(f"{kind}: {np.round(found[kind], 2).tolist()}, {seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    tyro.cli(main)

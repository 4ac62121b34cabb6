"""Train part of a network: the rest keeps its bits, and no gradient of it is computed.

A network learns the digits 0 to 4; then its first layer is kept and only the last one learns the
other five.
"""

import jax
import numpy as np
import optax
from flax import nnx

import mnistjax as mj

digits = mj.load_dataset("digits")


def only(classes: range, name: str) -> mj.Dataset:
    """The images of some classes, numbered from 0."""

    def part(split: mj.Split) -> mj.Split:
        chosen = split.take(np.flatnonzero(np.isin(split.labels, classes)))
        return mj.Split(chosen.images, chosen.labels - np.int32(classes.start))

    names = tuple(str(label) for label in classes)
    train, test = part(digits.train), part(digits.test)
    return mj.Dataset(name, train=train, test=test, class_names=names, origin="scikit-learn")


model = mj.Head(map_shape=(28, 28, 1), num_classes=5, rngs=nnx.Rngs(0))  # two dense layers
apply_fn, params = mj.functional(model)
first = mj.train((apply_fn, params), only(range(5), "0 to 4"), "runs/first", batch_size=64)
second = mj.train(
    (apply_fn, first.best_params),
    only(range(5, 10), "5 to 9"),
    "runs/second",
    trainable=["dense2/*"],
    tx=optax.adam(1e-2),
    epochs=20,
    batch_size=64,
)
kept = jax.tree.map(np.array_equal, first.best_params, second.best_params)
print(f"{second.summary['test_accuracy']:.1%} right; kept bit for bit: {kept['dense1']}")
print(f"{second.summary['trainable_parameters']:,} of {second.summary['parameters']:,} trained")

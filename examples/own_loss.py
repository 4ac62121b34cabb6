"""Losses and metrics of your own: several yes-or-no questions at once, and a number with a weight.

A loss is `(logits, labels) -> [batch]`, a metric the same; labels are whatever they take, a row an
example. For classes there are `mj.cross_entropy`, `mj.Smoothed` and `mj.ClassWeighted`.
"""

import jax.numpy as jnp
import numpy as np
import optax

import mnistjax as mj

train, validation = mj.hold_out(mj.load_dataset("digits").train, fraction=0.2, seed=0)


def questions(split: mj.Split) -> mj.Split:
    asked = [split.labels % 2 == 1, split.labels > 4, np.isin(split.labels, (0, 6, 8, 9))]
    return mj.Split(split.images, np.stack(asked, 1).astype(np.float32))


def number(split: mj.Split) -> mj.Split:  # and its weight: a 9 counts three times
    both = np.stack([split.labels, np.where(split.labels == 9, 3, 1)], 1)
    return mj.Split(split.images, both.astype(np.float32))


def fit(outputs, labelled, loss_fn, metrics):
    def linear(params, images):
        return images.reshape(len(images), -1) @ params["w"]

    params = {"w": jnp.zeros((784, outputs))}
    tx, made = optax.adam(3e-3), {"apply_fn": linear, "loss_fn": loss_fn, "metrics": metrics}
    *_, last = mj.fit(
        mj.init_state(params, tx),
        train_step=mj.make_train_step(tx=tx, **made),
        eval_step=mj.make_eval_step(**made),
        train=labelled(train),
        validation=labelled(validation),
        **{"epochs": 20, "batch_size": 64, "seed": 0},
    )
    return last.validation.values


unsure = optax.sigmoid_binary_cross_entropy
right = mj.Metric(lambda logits, labels: ((logits > 0) == (labels > 0)).mean(-1))
got = fit(3, questions, lambda x, y: unsure(x, y).sum(-1), {"right": right})
print(f"questions answered rightly: {got['right']:.1%}")

off = mj.Metric(lambda x, y: jnp.abs(x[:, 0] - y[:, 0]))
got = fit(1, number, lambda x, y: y[:, 1] * (x[:, 0] - y[:, 0]) ** 2, {"off by": off})
print(f"numbers guessed, off by {got['off by']:.2f}")

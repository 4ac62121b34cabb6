"""What mistakes of docs/learn/finetune.md cost that need body and head in one step.

python docs/figures/mistakes_whole.py --data-dir MNIST --weights FILE

As in mistakes.py, but three seeds, and for clipping five epochs of SGD.
"""

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from mistakes import BLOCKS, drawn, features, head_fn, orders

import mnistjax as mj
from mnistjax.frozen.statistics import mean_and_scale

SEEDS = range(3)
CLIP, SGD = optax.clip_by_global_norm(1.0), optax.sgd(0.01, momentum=0.9)
body_fn, _ = mj.functional(mj.VGG16(blocks=BLOCKS, rngs=nnx.Rngs(0)))


class Network:
    """Body and head in one tree, with the statistics of the body's features in between."""

    def __init__(self, weights: Any, train: mj.Split, seed: int) -> None:
        self.train, self.preprocess, self.order = train, weights.preprocess(32), orders(seed, 5)
        _, head = mj.functional(mj.Head(map_shape=(4, 4, 256), rngs=nnx.Rngs(seed)))
        self.params: Any = {"body": jax.tree.map(jnp.asarray, weights.params), "head": head}
        self.frozen = mj.freeze_mask(self.params, trainable=["head/*"])
        self.standard = mean_and_scale(features(weights.params, self.preprocess, [train])[0][0])

    def logits(self, params: Any, images: jax.Array) -> jax.Array:
        mean, scale = self.standard
        maps = body_fn(params["body"], self.preprocess(images))
        return head_fn(params["head"], (maps - mean) * scale)

    def after(self, tx: optax.GradientTransformation) -> tuple[Any, list[Any]]:
        """Parameters; the loss and both norms of the gradient of each step, to the first NaN."""

        def loss_of(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            return mj.cross_entropy(self.logits(params, images), labels).mean()

        @jax.jit
        def step(params: Any, opt_state: Any, images: jax.Array, labels: jax.Array) -> Any:
            loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
            told = [loss, *(optax.tree.norm(grads[part]) for part in ("body", "head"))]
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, jnp.stack(told)

        params, opt_state, rows = self.params, tx.init(self.params), []
        for batch in self.order:
            images, labels = (jnp.asarray(array[batch]) for array in self.train)
            params, opt_state, told = step(params, opt_state, images, labels)
            rows.append(np.asarray(told).round(3).tolist())
            if not np.isfinite(rows[-1][0]):
                break
        return params, rows

    def accuracy(self, params: Any, test: mj.Split) -> float:
        logits_of = jax.jit(self.logits)
        parts = [jnp.asarray(part) for part in np.split(test.images, 20)]
        answers = [np.asarray(logits_of(params, part)).argmax(-1) for part in parts]
        return 100 * float(np.mean(np.concatenate(answers) == test.labels))


def masked(network: Network, test: mj.Split) -> str:
    """`optax.masked` taken for freezing."""
    tx = optax.masked(optax.adam(1e-3), jax.tree.map(lambda out: not out, network.frozen))
    params, rows = network.after(tx)
    return f"{len(rows)} steps, loss {[row[0] for row in rows]}, {network.accuracy(params, test)}"


def clipped(network: Network, test: mj.Split, *, reads_all: bool) -> str:
    """SGD with clipping that reads the gradient of the head, or that of all."""
    freeze = partial(optax.selective_transform, freeze_mask=network.frozen)
    chain = optax.chain(CLIP, freeze(SGD)) if reads_all else freeze(optax.chain(CLIP, SGD))
    params, rows = network.after(chain)
    ratios = [np.hypot(body, head) / head for _, body, head in rows]
    spread = f"{min(ratios):.2f}, median {np.median(ratios):.2f}, {max(ratios):.2f}"
    return f"{network.accuracy(params, test)}, norm of all / head {spread}, loss {rows[-1][0]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for flag in ("--data-dir", "--weights"):
        parser.add_argument(flag, required=True)
    args = parser.parse_args()
    weights = mj.load_weights(args.weights, cut="block3")
    test, *train = drawn(mj.load_dataset("mnist", args.data_dir))
    for seed in SEEDS:
        network = Network(weights, train[seed], seed)
        print("optax.masked", seed, masked(network, test), flush=True)
        for reads_all in (False, True):
            found = clipped(network, test, reads_all=reads_all)
            print("clipping", "all" if reads_all else "head", seed, found, flush=True)

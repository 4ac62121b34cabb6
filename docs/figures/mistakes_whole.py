"""The mistakes that need the whole network in one step: part of docs/figures/mistakes.py."""

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

BLOCKS = ["block1", "block2", "block3"]
SEEDS = range(3)
body_fn, _ = mj.functional(mj.VGG16(blocks=BLOCKS, rngs=nnx.Rngs(0)))
head_fn, _ = mj.functional(mj.Head(map_shape=(4, 4, 256), rngs=nnx.Rngs(0)))


class Network:
    """Body and head in one tree, and the steps of an optimiser."""

    def __init__(self, weights: Any, train: mj.Split, seed: int) -> None:
        self.train, self.seed, self.preprocess = train, seed, weights.preprocess(32)
        body = jax.tree.map(jnp.asarray, weights.params)
        _, head = mj.functional(mj.Head(map_shape=(4, 4, 256), rngs=nnx.Rngs(seed)))
        self.params: Any = {"body": body, "head": head}
        self.maps_of = jax.jit(lambda body, images: body_fn(body, self.preprocess(images)))
        maps = [self.maps_of(body, jnp.asarray(x)) for x in np.split(train.images, 20)]
        self.standard = mean_and_scale(np.concatenate(maps))

    def logits(self, params: Any, images: jax.Array) -> jax.Array:
        mean, scale = self.standard
        return head_fn(params["head"], (self.maps_of(params["body"], images) - mean) * scale)

    def step(self, tx: Any, *, stopped: bool = False) -> Callable:
        """The compiled step; `stopped`: the gradient of the body is zero."""

        def loss_of(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            body = jax.lax.stop_gradient(params["body"]) if stopped else params["body"]
            return mj.cross_entropy(self.logits(params | {"body": body}, images), labels).mean()

        @jax.jit
        def step(params: Any, opt_state: Any, images: jax.Array, labels: jax.Array) -> Any:
            loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
            norms = jax.tree.map(optax.global_norm, grads, is_leaf=lambda x: x is not grads)
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, loss, norms

        return step

    def run(self, tx: Any, epochs: int, *, stopped: bool = False) -> tuple[Any, list[Any]]:
        """Parameters after `epochs`, or the first loss that is not finite; loss and norms by step."""
        step, params, opt_state = self.step(tx, stopped=stopped), self.params, tx.init(self.params)
        random, rows = np.random.default_rng(self.seed), []
        for _ in range(epochs):
            for batch in random.permutation(2000).reshape(20, 100):
                images, labels = (jnp.asarray(array[batch]) for array in self.train)
                params, opt_state, loss, norms = step(params, opt_state, images, labels)
                rows.append((float(loss), float(norms["body"]), float(norms["head"])))
                if not np.isfinite(loss):
                    return params, rows
        return params, rows

    def accuracy(self, params: Any, test: mj.Split) -> float:
        logits_of = jax.jit(self.logits)
        parts = np.split(np.arange(len(test.labels)), len(test.labels) // 250)
        right = [
            np.asarray(logits_of(params, jnp.asarray(test.images[rows]))).argmax(-1)
            == test.labels[rows]
            for rows in parts
        ]
        return 100 * float(np.mean(right))


def whole_network(splits: list[mj.Split], weights: Any) -> None:
    """`splits`: the test images, then training images for each seed."""
    test, *train = splits
    show = partial(print, flush=True)
    for seed in SEEDS:
        network = Network(weights, train[seed], seed)
        frozen = mj.freeze_mask(network.params, trainable=["head/*"])
        masked = optax.masked(optax.adam(1e-3), jax.tree.map(lambda out: not out, frozen))
        params, rows = network.run(masked, 1)
        show(f"masked {seed}: {len(rows)} steps {rows[:6]} {network.accuracy(params, test):.1f}")

        decayed, rows = network.run(optax.adamw(1e-3, weight_decay=0.1), 10, stopped=True)
        published = decayed | {"body": network.params["body"]}
        of_body = [optax.global_norm(tree["body"]) for tree in (decayed, network.params)]
        found = [f"{network.accuracy(params, test):.1f}" for params in (decayed, published)]
        show(f"decay {seed}: {found} body {float(of_body[0] / of_body[1]):.4f}")

        clip, sgd = optax.clip_by_global_norm(1.0), optax.sgd(0.01, momentum=0.9)
        for name, tx, stopped in (
            ("head", optax.selective_transform(optax.chain(clip, sgd), freeze_mask=frozen), True),
            ("all", optax.chain(clip, optax.selective_transform(sgd, freeze_mask=frozen)), False),
        ):
            params, rows = network.run(tx, 5, stopped=stopped)
            ratio = np.median([np.hypot(of_body, of_head) / of_head for _, of_body, of_head in rows])
            first = rows[0]
            show(f"clip {name} {seed}: {network.accuracy(params, test):.1f} {first} {ratio:.2f}")

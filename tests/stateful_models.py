"""A small network with BatchNorm and Dropout, in NNX and in Linen, for test_with_state.py."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mnistjax.data.dataset import Split
from mnistjax.models.functional import Functional, functional_with_state, with_state

CLASSES, MOMENTUM, RATE, EPSILON = 3, 0.9, 0.25, 1e-5


class NNXNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, rate: float = RATE) -> None:
        self.dense1 = nnx.Linear(16, 8, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=MOMENTUM, epsilon=EPSILON, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.dense2 = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, images):
        x = self.norm(self.dense1(images.reshape(len(images), -1)))
        return self.dense2(self.drop(nnx.relu(x)))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, images, train: bool):
        x = nn.Dense(8, use_bias=False)(images.reshape(len(images), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=MOMENTUM)(x)
        x = nn.Dropout(RATE, deterministic=not train)(nn.relu(x))
        return nn.Dense(CLASSES)(x)


def nnx_model(*, rate: float = RATE, axis: str | None = None) -> Functional:
    return functional_with_state(NNXNet(nnx.Rngs(0), rate), axis=axis)


def linen_model() -> Functional:
    net = LinenNet()
    variables = net.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False)

    @with_state
    def apply_fn(params, model_state, images, key):
        given = {"params": params, **model_state}
        if key is None:
            return net.apply(given, images, train=False), model_state
        return net.apply(given, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"])

    params: Any = variables["params"]
    return Functional(apply_fn, params, {"batch_stats": variables["batch_stats"]})


def split(count: int, seed: int = 0) -> Split:
    draw = np.random.default_rng(seed)
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    images = draw.integers(0, 100, (count, 4, 4, 1))
    images[:, 0, :, 0] += 50 * labels[:, None]
    return Split(images.astype(np.uint8), labels)


def written_out(params, model_state, images, key):
    """`NNXNet` in plain jax: what Flax calls its stream of random numbers is in here, too."""
    dense1, norm, dense2 = params["dense1"], params["norm"], params["dense2"]
    x = images.reshape(len(images), -1) @ dense1["kernel"]
    stats = model_state["norm"]
    if key is None:
        mean, variance = stats["mean"], stats["var"]
    else:
        mean, variance = x.mean(0), x.var(0)
        stats = {
            "mean": MOMENTUM * stats["mean"] + (1 - MOMENTUM) * mean,
            "var": MOMENTUM * stats["var"] + (1 - MOMENTUM) * variance,
        }
    x = (x - mean[None]) * jax.lax.rsqrt(variance + EPSILON)[None]
    x = jax.nn.relu(x * norm["scale"][None] + norm["bias"][None])
    if key is not None:
        stream = jax.random.fold_in(jax.random.fold_in(key, 0), 0)
        keep = jax.random.bernoulli(stream, 1 - RATE, x.shape)
        x = jnp.where(keep, x / (1 - RATE), 0)
    return x @ dense2["kernel"] + dense2["bias"][None], {"norm": stats}

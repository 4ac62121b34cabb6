"""Fine-tuning VGG16's head in this library: features from the cache, or anew in every epoch."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import mnistjax as mj
from benchmarks.harness.timing import say_facts, whole_jobs
from mnistjax.data.batches import file_order, on_device, take_batch
from mnistjax.frozen.cache import cached_features, features_key
from mnistjax.frozen.forward import make_frozen
from mnistjax.models.head import Head
from mnistjax.rows.cache import Cached
from mnistjax.weights.preprocess import to_vgg_input

mj.keep_host_memory()

problem = np.load(sys.argv[1])
mode, epochs, batch_size, size = sys.argv[2], *(int(word) for word in sys.argv[3:6])
params: dict[str, dict[str, np.ndarray]] = {}
for name in problem.files:
    if "/" in name:
        layer, role = name.split("/")
        params.setdefault(layer, {})[role] = problem[name]
blocks = [f"block{n}" for n in range(1, 6)]
data = mj.Split(problem["images"], problem["labels"].astype(np.int32))
apply_head, first_head = mj.functional(Head(map_shape=(7, 7, 512), rngs=nnx.Rngs(0)))
tx = optax.adam(1e-3)
step = mj.make_train_step(apply_fn=apply_head, tx=tx, preprocess=lambda features: features)
forward: Any = None
losses: list[float] = []


def job(data: mj.Split = data, epochs: int = epochs) -> None:
    global forward, losses
    # Every job transforms the kernels; only the first one compiles that, and `forward`.
    constant, frozen = make_frozen(params, blocks=blocks, image_size=size)
    forward = forward or jax.jit(lambda c, images: frozen(c, to_vgg_input(images, size=size)))
    if mode == "cached":
        with tempfile.TemporaryDirectory() as directory:
            cache = cached_features(
                lambda images: forward(constant, images),
                data.images,
                key=features_key(job="benchmark"),
                directory=Path(directory),
                batch_size=batch_size,
                quiet=True,
            )
            assert isinstance(cache, Cached)  # without a limit, and nobody stops it
            data = mj.Split(cache.rows, data.labels)
            losses = train(data, epochs, lambda maps: maps)
    else:
        losses = train(data, epochs, lambda images: forward(constant, images))


def train(data: mj.Split, epochs: int, to_maps) -> list[float]:
    images, labels = on_device(data)
    head = {layer: {k: jnp.array(a) for k, a in params[layer].items()} for layer in first_head}
    state, metrics = mj.init_state(head, tx), []
    for row in list(file_order(count=len(labels), batch_size=batch_size)) * epochs:
        batch = take_batch(images, labels, row)
        state, measured = step(state, batch._replace(images=to_maps(batch.images)))
        metrics.append(measured)
    jax.block_until_ready(state)
    return [measured.loss for measured in metrics]


def part() -> None:
    job(mj.Split(data.images[:batch_size], data.labels[:batch_size]), 1)


times = whole_jobs(job, count=3) if mode == "cached" else whole_jobs(job, part=part)
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    losses=losses,
    share=1 / epochs if mode == "cached" else 1,
    **times,
)

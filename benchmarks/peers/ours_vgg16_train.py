"""A training step of all of VGG16 and a head in this library."""

import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import mnistjax as mj
from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.ours_memory import temp_mib
from mnistjax.models.head import FineTuned
from mnistjax.training.compile import compile_for

mj.keep_host_memory()

STEPS = 4
problem = np.load(sys.argv[1])
size = problem["images"].shape[1]
model = FineTuned(
    input_shape=(size, size, 3),
    blocks=[f"block{n}" for n in range(1, 6)],
    dtype=sys.argv[2],
    rngs=nnx.Rngs(0),
)
apply_fn, params = mj.functional(model)
params = {
    part: {n: {k: jnp.array(problem[f"{n}/{k}"]) for k in layer} for n, layer in layers.items()}
    for part, layers in params.items()
}
tx = optax.adam(1e-4)
images, labels = jnp.asarray(problem["images"]), jnp.asarray(problem["labels"].astype(np.int32))
batch = mj.Batch(images, labels, jnp.ones(labels.shape, bool))
state = mj.init_state(params, tx)
train_step = mj.make_train_step(apply_fn=apply_fn, tx=tx, preprocess=lambda images: images)
step, compile_seconds = compile_for(train_step, state, batch)


def run(n: int) -> None:
    global state
    for _ in range(n):
        state, _ = step(state, batch)
    jax.block_until_ready(state)


losses = []
for _ in range(STEPS):
    state, metrics = step(state, batch)
    losses.append(metrics.loss)
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=compile_seconds,
    losses=losses,
    windows=windows(run, warm=(1,)),
    temp_mib=temp_mib(step),
)

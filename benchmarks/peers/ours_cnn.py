"""The small CNN's training step of this library: one step per call, or a whole scan of them."""

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
from mnistjax.training.compile import compile_for

mj.keep_host_memory()

mode = sys.argv[2]
problem = np.load(sys.argv[1])
apply_fn, params = mj.functional(mj.CNN(rngs=nnx.Rngs(0)))
params = {n: {k: jnp.array(problem[f"{n}/{k}"]) for k in layer} for n, layer in params.items()}
tx = optax.adam(1e-3)
train_step = mj.make_train_step(apply_fn=apply_fn, tx=tx)
images, labels = jnp.asarray(problem["images"]), jnp.asarray(problem["labels"].astype(np.int32))
batch = mj.Batch(images, labels, jnp.ones(labels.shape, bool))
batches = [mj.Batch(*arrays) for arrays in zip(*batch, strict=True)]
state = mj.init_state(params, tx)

step, compile_seconds = compile_for(train_step, state, batches[0])
if mode == "scan":
    scan = jax.jit(lambda state, batch: jax.lax.scan(train_step, state, batch), donate_argnums=0)
    steps, compile_seconds = compile_for(scan, state, batch)


def run(n: int) -> None:
    global state
    for i in range(n):
        state, _ = step(state, batches[i % len(batches)])
    jax.block_until_ready(state)


def run_scans(n: int) -> None:
    global state
    for _ in range(n):
        state, _ = steps(state, batch)
    jax.block_until_ready(state)


losses = []
for i in range(len(batches)):
    state, metrics = step(state, batches[i])
    losses.append(metrics.loss)
taken = [w / len(batches) for w in windows(run_scans)] if mode == "scan" else windows(run)
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=compile_seconds,
    losses=losses,
    windows=taken,
    temp_mib=temp_mib(step),
)

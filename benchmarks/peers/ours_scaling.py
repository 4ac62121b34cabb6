"""The small CNN's training step of this library at one batch size, over 1 or more devices.

    python -m benchmarks.peers.ours_scaling PROBLEM jit|mesh|pmap BATCH DEVICES THREADS

On a CPU the devices are virtual: they share its cores.
"""

import os
import sys
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import mnistjax as mj
from benchmarks.harness.timing import say_facts, windows
from mnistjax.training.compile import compile_for
from mnistjax.training.parallel import AXIS, data_mesh, over_pmap, replicate
from mnistjax.training.step import make_step

form, batch_size, count, threads = sys.argv[2], *map(int, sys.argv[3:6])
# XLA's threads; a sum over devices needs one for each, or they wait for each other for ever.
os.environ["NPROC"] = str(threads if count == 1 else 2 * count)
jax.config.update("jax_num_cpu_devices", count)

devices = jax.local_devices()[:count]
if len(devices) < count:
    sys.exit(f"there are only {len(devices)} devices")
problem = np.load(sys.argv[1])
images, labels = problem["images"].reshape(-1, 28, 28, 1), problem["labels"].reshape(-1)
rows = np.arange(batch_size) % len(labels)
batch = mj.Batch(
    jnp.asarray(images[rows]),
    jnp.asarray(labels[rows].astype(np.int32)),
    jnp.ones(batch_size, bool),
)
apply_fn, params = mj.functional(mj.CNN(rngs=nnx.Rngs(0)))
tx = optax.adam(1e-3)
state = mj.init_state(params, tx)
if form == "pmap":
    step = over_pmap(make_step(apply_fn=apply_fn, tx=tx, axis=AXIS), devices=devices)
    started = time.perf_counter()
    state, _ = jax.block_until_ready(step(state, batch))
    compile_seconds = time.perf_counter() - started
else:
    mesh = data_mesh(devices) if form == "mesh" else None
    state = replicate(state, mesh)
    jitted = mj.make_train_step(apply_fn=apply_fn, tx=tx, mesh=mesh)
    step, compile_seconds = compile_for(jitted, state, batch)


def run(n: int) -> None:
    global state
    for _ in range(n):
        state, _ = step(state, batch)
    jax.block_until_ready(state)


say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=compile_seconds,
    windows=windows(run),
)

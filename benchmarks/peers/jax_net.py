"""A network of the field forward in JAX: `usual` as it is, `ours` with `speed_up`."""

import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.jax_net_start import compiled, start
from benchmarks.peers.ours_memory import temp_mib
from mnistjax.host_memory import keep_host_memory

name, way = sys.argv[2:4]
if way == "ours":
    keep_host_memory()
problem = np.load(sys.argv[1])
images = jnp.asarray(problem["images"])
apply_fn, params, model_state = start(problem, name, way)


@jax.jit
def evaluate(params, model_state, images):
    logits, _ = apply_fn(params, model_state, images, None)
    return logits


forward, compile_seconds = compiled(evaluate, params, model_state, images)


def run(n: int) -> jax.Array:
    logits = images
    for _ in range(n):
        logits = forward(params, model_state, images)
    return jax.block_until_ready(logits)


logits = np.asarray(run(1))
say_facts(
    versions={"jax": jax.__version__, "flax": flax.__version__},
    first_seconds=compile_seconds,
    checks=np.abs(logits).reshape(-1, logits.shape[-1]).mean(0).tolist(),
    windows=windows(run),
    temp_mib=temp_mib(forward),
)

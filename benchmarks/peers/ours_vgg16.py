"""VGG16's 13 convolutions forward in this library, frozen, in float32 or bfloat16."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import mnistjax as mj
from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.ours_memory import temp_mib
from mnistjax.frozen.forward import make_frozen
from mnistjax.training.compile import compile_for

mj.keep_host_memory()

problem = np.load(sys.argv[1])
images = jnp.asarray(problem["images"])
params: dict[str, dict[str, np.ndarray]] = {}
for name in problem.files:
    if "/" in name:
        layer, part = name.split("/")
        params.setdefault(layer, {})[part] = problem[name]
blocks = [f"block{n}" for n in range(1, 6)]
size, dtype = images.shape[1], sys.argv[2]
constant, apply_fn = make_frozen(params, blocks=blocks, image_size=size, dtype=dtype)
forward, compile_seconds = compile_for(jax.jit(apply_fn), constant, images)


def run(n: int) -> jax.Array:
    features = images
    for _ in range(n):
        features = forward(constant, images)
    return jax.block_until_ready(features)


features = np.asarray(run(1))
say_facts(
    versions={"jax": jax.__version__},
    first_seconds=compile_seconds,
    checks=np.abs(features).mean((0, 1, 2)).tolist(),
    windows=windows(run),
    temp_mib=temp_mib(forward),
)

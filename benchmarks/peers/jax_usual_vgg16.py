"""VGG16's 13 convolutions forward in JAX as tutorials write it: nnx.Conv, ReLU, nnx.max_pool."""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.timing import report, windows

problem = np.load(sys.argv[1])
images = jnp.asarray(problem["images"])
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG16(nnx.Module):
    def __init__(self, rngs):
        self.convs = nnx.Dict()
        inputs = 3
        for block, (convs, outputs) in enumerate(BLOCKS):
            for i in range(convs):
                conv = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
                name, inputs = f"block{block + 1}_conv{i + 1}", outputs
                conv.kernel[...] = jnp.asarray(problem[f"{name}/kernel"])
                conv.bias[...] = jnp.asarray(problem[f"{name}/bias"])
                self.convs[name] = conv

    def __call__(self, x):
        for name, conv in self.convs.items():
            x = nnx.relu(conv(x))
            if name in ("block1_conv2", "block2_conv2") or name.endswith("conv3"):
                x = nnx.max_pool(x, (2, 2), (2, 2))
        return x


graphdef, state = nnx.split(VGG16(nnx.Rngs(0)))
forward = jax.jit(lambda state, images: nnx.merge(graphdef, state)(images))


def run(n: int) -> jax.Array:
    for _ in range(n):
        features = forward(state, images)
    return jax.block_until_ready(features)


started = time.perf_counter()
features = np.asarray(run(1))
report(
    versions={"jax": jax.__version__},
    first_seconds=time.perf_counter() - started,
    checks=np.abs(features).mean((0, 1, 2)).tolist(),
    windows=windows(run),
)

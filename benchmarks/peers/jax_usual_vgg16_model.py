"""VGG16's convolutions in JAX as tutorials write them: nnx.Conv, ReLU, nnx.max_pool."""

import jax.numpy as jnp
from flax import nnx

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG16(nnx.Module):
    def __init__(self, problem, rngs, dtype):
        self.convs = nnx.Dict()
        inputs = 3
        for block, (convs, outputs) in enumerate(BLOCKS):
            for i in range(convs):
                conv = nnx.Conv(inputs, outputs, (3, 3), dtype=dtype, rngs=rngs)
                name, inputs = f"block{block + 1}_conv{i + 1}", outputs
                for role in ("kernel", "bias"):
                    getattr(conv, role)[...] = jnp.asarray(problem[f"{name}/{role}"])
                self.convs[name] = conv

    def __call__(self, x):
        for name, conv in self.convs.items():
            x = nnx.relu(conv(x))
            if name in ("block1_conv2", "block2_conv2") or name.endswith("conv3"):
                x = nnx.max_pool(x, (2, 2), (2, 2))
        return x

"""What this machine can do at most: a large matrix product, and copying memory."""

import sys
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.harness.timing import say_facts, windows

device = jax.devices()[0]
size, words = (1536, 2**25) if device.platform == "cpu" else (8192, 2**28)
a = jax.random.normal(jax.random.key(0), (size, size))
x = jnp.ones(words)
# Summed in float32: with bfloat16 results XLA:CPU takes more than twice as long.
product = jax.jit(partial(jnp.matmul, preferred_element_type=jnp.float32))
copy = jax.jit(lambda x: x + 1)


def run(fn, *arguments):
    def call(n: int) -> None:
        result = None
        for _ in range(n):
            result = fn(*arguments)
        jax.block_until_ready(result)

    return call


gemm = min(windows(run(product, a, a), count=5, seconds=0.5))
bytes_ = min(windows(run(copy, x), count=5, seconds=0.5))
b = a.astype(jnp.bfloat16)
half = min(windows(run(product, b, b), count=5, seconds=0.5))
say_facts(
    versions={"jax": jax.__version__},
    threads=int(sys.argv[2]),
    device_kind=device.device_kind,
    gemm_gflops=round(2 * size**3 / gemm / 1e9, 1),
    gemm_bf16_gflops=round(2 * size**3 / half / 1e9, 1),
    copy_gb_per_s=round(2 * 4 * words / bytes_ / 1e9, 1),
    windows=[gemm],
)

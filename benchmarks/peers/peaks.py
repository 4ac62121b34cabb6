"""What this machine can do at most: a large float32 matrix product, and copying memory."""

import sys

import jax
import jax.numpy as jnp

from benchmarks.timing import report, windows

size, words = 1536, 2**25
a = jax.random.normal(jax.random.key(0), (size, size))
x = jnp.ones(words)
product = jax.jit(lambda a: a @ a)
copy = jax.jit(lambda x: x + 1)


def run(fn, argument):
    def call(n: int) -> None:
        for _ in range(n):
            result = fn(argument)
        jax.block_until_ready(result)

    return call


gemm = min(windows(run(product, a), count=5, seconds=0.5))
bytes_ = min(windows(run(copy, x), count=5, seconds=0.5))
report(
    versions={"jax": jax.__version__},
    threads=int(sys.argv[2]),
    gemm_gflops=round(2 * size**3 / gemm / 1e9, 1),
    copy_gb_per_s=round(2 * 4 * words / bytes_ / 1e9, 1),
    windows=[gemm],
)

"""What this machine can do at most: a large matrix product, and copying memory."""

import sys

import jax
import jax.numpy as jnp

from benchmarks.timing import report, windows

device = jax.devices()[0]
size, words = (1536, 2**25) if device.platform == "cpu" else (8192, 2**28)
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
facts = {"device_kind": device.device_kind}
if device.platform != "cpu":  # an accelerator's float32 product is its TF32 or bfloat16 one
    half = min(windows(run(product, a.astype(jnp.bfloat16)), count=5, seconds=0.5))
    facts["gemm_bf16_gflops"] = round(2 * size**3 / half / 1e9, 1)
report(
    versions={"jax": jax.__version__},
    threads=int(sys.argv[2]),
    gemm_gflops=round(2 * size**3 / gemm / 1e9, 1),
    copy_gb_per_s=round(2 * 4 * words / bytes_ / 1e9, 1),
    windows=[gemm],
    **facts,
)

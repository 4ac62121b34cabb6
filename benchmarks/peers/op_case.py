"""One operation in all its lowerings, in turn: forward, and forward with both gradients."""

import json
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.harness.timing import say_facts
from benchmarks.peers.ours_memory import temp_mib
from mnistjax.ops.conv_pool import conv_pool
from mnistjax.ops.convolution import DIMENSIONS, conv2d, conv2d_patches
from mnistjax.ops.general import conv_general_dilated
from mnistjax.ops.normalization import local_response_norm
from mnistjax.ops.pooling import avg_pool, max_pool
from mnistjax.ops.tiling import tile_size
from mnistjax.ops.winograd import over_tiles, winograd_conv

case = json.loads(sys.argv[2])
padding = case.get("padding", "SAME")
keys = jax.random.split(jax.random.key(0), 2)
x = jax.random.normal(keys[0], case["x"])
kernel = jax.random.normal(keys[1], case["kernel"])


def by_lax(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=DIMENSIONS)


def by_winograd(m):
    return lambda x, kernel: over_tiles(lambda x: winograd_conv(m, x, kernel), x, m, padding)


def pooled(x, pool, start):
    return lax.reduce_window(x, start, pool, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def usual_conv_pool(x, kernel):
    return pooled(jax.nn.relu(by_lax(x, kernel)), lax.max, -jnp.inf)


bias = jnp.zeros(kernel.shape[-1:])
lowerings = {
    "conv": {"default": by_lax, "ours": lambda x, kernel: conv2d(x, kernel, padding=padding)},
    "general": {
        "default": partial(lax.conv_general_dilated, **case.get("how", {})),
        "ours": partial(conv_general_dilated, **case.get("how", {})),
    },
    "conv_pool": {
        "default": usual_conv_pool,
        "ours": lambda x, kernel: conv_pool(x, kernel, bias, padding=padding),
    },
    "max_pool": {
        "default": lambda x, _: pooled(x, lax.max, -jnp.inf),
        "ours": lambda x, _: max_pool(x),
    },
    "avg_pool": {
        "default": lambda x, _: pooled(x, lax.add, 0.0) / 4,
        "ours": lambda x, _: avg_pool(x),
    },
    "lrn": {
        "default": lambda x, _: (
            x
            / (2 + 1e-4 * lax.reduce_window(x * x, 0.0, lax.add, (1, 1, 1, 5), (1,) * 4, "SAME"))
            ** 0.75
        ),
        "ours": lambda x, _: local_response_norm(x),
    },
}[case["op"]]
if case["op"] == "conv" and case.get("all"):
    lowerings["patches"] = lambda x, kernel: conv2d_patches(x, kernel, padding=padding)
    if case["kernel"][0] == 3:
        for m in (2, 4, 5, 6):
            lowerings[f"F({m},3)"] = by_winograd(m)


def with_gradients(fn):
    def run(x, kernel, g):
        y, pull = jax.vjp(fn, x, kernel)
        return (y, *pull(g))

    return run


def clock(compiled, arguments) -> float:
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < case["seconds"]:
        jax.block_until_ready(compiled(*arguments))
        calls += 1
    return (time.perf_counter() - started) / calls


rows: dict[str, dict] = {}
programs = {}
for name, fn in lowerings.items():
    g = jnp.ones(jax.eval_shape(fn, x, kernel).shape)
    for part, program, arguments in (
        ("forward", fn, (x, kernel)),
        ("with gradients", with_gradients(fn), (x, kernel, g)),
    ):
        started = time.perf_counter()
        compiled = jax.jit(program).lower(*arguments).compile()
        row = rows.setdefault(name, {}).setdefault(part, {"ms": []})
        row["compile_seconds"] = round(time.perf_counter() - started, 2)
        row["temp_mib"] = round(temp_mib(compiled), 1)
        programs[name, part] = compiled, arguments
for _ in range(case["windows"] + 1):
    for (name, part), (compiled, arguments) in programs.items():
        rows[name][part]["ms"].append(clock(compiled, arguments) * 1e3)
for parts in rows.values():
    for row in parts.values():
        times = sorted(row["ms"][1:])  # the first window warms up
        row["ms"] = round(times[len(times) // 2], 3)
tile = None
if case["op"] == "conv":
    (count, height, width, _), (*_, inputs, outputs) = x.shape, kernel.shape
    tile = tile_size(count, height, width, inputs * outputs)
say_facts(
    versions={"jax": jax.__version__},
    rows=rows,
    tile=tile,
)

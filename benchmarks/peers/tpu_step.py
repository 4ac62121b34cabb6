"""A training step of this library compiled for a TPU that is not there: sizes, and no time.

`BATCH` is that of one chip, four get four times as much; `CHIPS` are numbers of chips, "1,4".

    python -m benchmarks.peers.tpu_step - PROGRAM SIZE BATCH DTYPE TOPOLOGY MEMORY_GIB CHIPS THREADS

Needs libtpu, but no TPU: XLA's compiler for it runs on a host with an x86-64 CPU.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # arrays live here; the TPU is only compiled for
os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # else libtpu waits for the metadata server of a cloud
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # no TPU is held: others may compile meanwhile
os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-4"  # of a host that is not there; any will do

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import libtpu
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding

import mnistjax as mj
from benchmarks.harness.timing import say_facts
from benchmarks.peers.tpu_programs import PROGRAMS
from mnistjax.training.parallel import BY_ROWS, EVERYWHERE, data_mesh

COLLECTIVES = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"


def compiler(
    program: str, size: int, dtype: str, mesh: Mesh
) -> Callable[[int], jax.stages.Compiled]:
    """What compiles the step for a batch size."""
    step, arguments, channels = PROGRAMS[program](mesh, size, dtype)

    def abstract(leaf: Any, spec: Any = EVERYWHERE) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    def compile_at(batch_size: int) -> jax.stages.Compiled:
        def batch() -> mj.Batch:
            images = jnp.zeros((batch_size, size, size, channels), jnp.uint8)
            return mj.Batch(images, jnp.zeros(batch_size, jnp.int32), jnp.ones(batch_size, bool))

        rows = jax.tree.map(partial(abstract, spec=BY_ROWS), jax.eval_shape(batch))
        return step.lower(*jax.tree.map(abstract, arguments), rows).compile()

    return compile_at


def sizes(compiled: jax.stages.Compiled) -> dict[str, Any]:
    """Of one chip: FLOPs, bytes, memory, and what of interest is in the program."""
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    assert memory and cost and text, "libtpu tells all three"
    mib = {
        f"{part}_mib": round(getattr(memory, f"{part}_size_in_bytes") / 2**20, 1)
        for part in ("argument", "output", "alias", "temp")
    }
    crossing = Counter(re.findall(rf" ({COLLECTIVES})(?:-start)?\(", text))
    return mib | {
        "gflop": round(cost["flops"] / 1e9, 3),
        "gb_accessed": round(cost["bytes accessed"] / 1e9, 4),
        "peak_memory_mib": round(memory.peak_memory_in_bytes / 2**20, 1),
        "collectives": sum(crossing.values()),
        "kinds_of_collectives": ", ".join(sorted(crossing)),
        "collective_mib": round(crossing_bytes(text) / 2**20, 2),
        "convolutions": len(re.findall(r" convolution\(", text)),
        "loops": len(re.findall(r" while\(", text)),
    }


def crossing_bytes(text: str) -> int:
    """Bytes of all that a program sums over its devices.

    >>> crossing_bytes("x = (f32[2,3]{1,0:T(8)}, s32[]) all-reduce(y, z), channel_id=1")
    28
    """
    total = 0
    for shapes in re.findall(r"= (.*?) all-reduce(?:-start)?\(", text):
        for bits, dims in re.findall(r"\b[a-z]+(\d+)\[([\d,]*)\]", shapes):
            total += int(bits) // 8 * math.prod(map(int, filter(None, dims.split(","))))
    return total


def largest_batch(compile_at: Callable[[int], Any], fits: int, limit: int) -> int:
    """The largest power of two, at least `fits`, that the compiler finds room for.

    As far as the memory of the last one that fitted promises, at most 64 times as far, until one
    fails; then by bisection.
    """
    used, fails = compile_at(fits).memory_analysis().peak_memory_in_bytes, None
    while fails is None or fails > 2 * fits:
        doublings = math.log2(limit / used if fails is None else math.sqrt(fails / fits))
        trial = fits << min(6, max(1, int(doublings)))
        try:
            used = compile_at(trial).memory_analysis().peak_memory_in_bytes
            fits = trial
        except Exception as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            fails = trial
    return fits


def main(
    program: str,
    size: int,
    batch: int,
    dtype: str,
    topology: str,
    memory_gib: int,
    chips_of: list[int],
) -> None:
    devices = topologies.get_topology_desc(topology, platform="tpu").devices
    versions = {"jax": jax.__version__, "libtpu": libtpu.__version__}
    found: dict[str, Any] = {}
    for chips in chips_of:
        compile_at = cache(compiler(program, size, dtype, data_mesh(devices[:chips])))
        started = time.perf_counter()
        found[str(chips)] = sizes(compile_at(chips * batch))
        found[str(chips)]["compile_seconds"] = round(time.perf_counter() - started, 1)
        if chips == 1:
            limit = memory_gib * 2**30
            found["1"]["largest_batch"] = largest_batch(compile_at, batch, limit)
    say_facts(versions=versions, device_kind=devices[0].device_kind, chips=found)


if __name__ == "__main__":
    program, size, batch, dtype, topology, memory_gib, chips, _ = sys.argv[2:]
    numbers = [int(count) for count in chips.split(",")]
    main(program, int(size), int(batch), dtype, topology, int(memory_gib), numbers)

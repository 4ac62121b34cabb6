"""The small CNN's training step, or one sum, over processes on this machine's loopback.

    python -m benchmarks.peers.ours_processes PROBLEM step|sum SIZE PROCESSES CORES THREADS

`SIZE` is a batch, or the floats that are summed; each process has `CORES` cores of its own.
"""

import os
import socket
import subprocess
import sys
import time

import flax
import jax
import numpy as np
import optax
from flax import nnx

import mnistjax as mj
from benchmarks.harness.timing import say_facts, windows
from mnistjax.data.placing import from_own_rows, own_rows
from mnistjax.processes import share
from mnistjax.training.compile import compile_for
from mnistjax.training.parallel import AXIS, BY_ROWS, EVERYWHERE, data_mesh, replicate

WHO = "BENCHMARK_PROCESS"  # COORDINATOR NUMBER, in the processes that compute


def start(processes: int, cores: int) -> int:
    """Start all, wait for them, and say what the first said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
    own = sorted(os.sched_getaffinity(0))
    started = []
    for number in range(processes):
        os.sched_setaffinity(0, own[number * cores : (number + 1) * cores])  # which it inherits
        environment = os.environ | {WHO: f"{where} {number}", "NPROC": str(cores)}
        command = [sys.executable, "-m", "benchmarks.peers.ours_processes", *sys.argv[1:]]
        out = None if number == 0 else subprocess.DEVNULL
        started.append(subprocess.Popen(command, env=environment, stdout=out))
    return max(process.wait() for process in started)


def sum_over(size: int):
    """What sums `size` floats over all processes, and what it needs."""
    mesh = data_mesh()
    total = jax.shard_map(
        lambda x: jax.lax.psum(x[0], AXIS), mesh=mesh, in_specs=BY_ROWS, out_specs=EVERYWHERE
    )
    own = np.ones((1, size), np.float32)
    rows = from_own_rows(jax.process_count())(own)
    return jax.jit(total), (rows,)


def train_step(problem: str, batch_size: int):
    """The step over all processes, its state, and a batch of which each has its rows."""
    arrays = np.load(problem)
    order = own_rows(np.arange(batch_size, dtype=np.int32))
    images, labels = arrays["images"].reshape(-1, 28, 28, 1), arrays["labels"].reshape(-1)
    order = order % len(labels)
    place = from_own_rows(batch_size)
    batch = mj.Batch(
        place(images[order]),
        place(labels[order].astype(np.int32)),
        place(np.ones(len(order), bool)),
    )
    apply_fn, params = mj.functional(mj.CNN(rngs=nnx.Rngs(0)))
    tx = optax.adam(1e-3)
    mesh = data_mesh()
    step = mj.make_train_step(apply_fn=apply_fn, tx=tx, mesh=mesh, donate=False)
    return step, (replicate(mj.init_state(params, tx), mesh), batch)


def compute(problem: str, what: str, size: int) -> None:
    """Measure in this process, in time with the others."""
    fn, arguments = sum_over(size) if what == "sum" else train_step(problem, size)
    started = time.perf_counter()
    fn = compile_for(fn, *arguments)[0]
    first_seconds = time.perf_counter() - started

    def run(n: int) -> None:
        state = arguments
        for _ in range(share(n)):  # as many in all
            out = fn(*state)
            state = (out[0], *arguments[1:]) if what == "step" else arguments
            jax.block_until_ready(out)

    say_facts(
        versions={"jax": jax.__version__, "flax": flax.__version__},
        first_seconds=first_seconds,
        windows=windows(run),
    )


if __name__ == "__main__":
    problem, what, size, processes, cores = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    if WHO not in os.environ:
        sys.exit(start(processes, cores))
    where, _, number = os.environ[WHO].partition(" ")
    if processes > 1:
        mj.distributed(where, num_processes=processes, process_id=int(number))
    compute(problem, what, size)

"""Real processes on loopback: `Group` starts the commands of one run, and reads what they said."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIGITS = "--dataset", "digits", "--train-size", "100", "--batch-size", "20", "--quiet"
DEADLINE = 300  # seconds, for what takes ten; four processes that compile a ResNet take 120


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


# A process that is not the first compiles all it runs each time (JAX keeps programs of the first
# alone): 9 s of CPU, at this level 6. The bits agree at both; kill_two.py compiles as users do.
QUICKLY = "--xla_backend_optimization_level=0"


def users(cache: Path, devices: int = 1, flags: str = "") -> dict[str, str]:
    """The environment of a user, not of the tests, with so many devices."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    environment |= {"MNISTJAX_CACHE": str(cache), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    flags = f"{flags} --xla_force_host_platform_device_count={devices}"
    return environment | {"XLA_FLAGS": flags.strip()}


def command(*flags: str, cache: Path, devices: int = 1, module: str = "experiments.scratch"):
    """A process of `devices` devices."""
    return python("-m", module, *flags, cache=cache, devices=devices, flags=QUICKLY)


def python(
    *arguments: str, cache: Path, devices: int = 1, flags: str = ""
) -> subprocess.Popen[str]:
    """This Python, told `arguments`, with `devices` devices."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=users(cache, devices, flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FAKE_SRUN = """#!/bin/bash
for task in $(seq 0 $((SLURM_NTASKS - 1))); do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
  tasks+=($!)
done
for task in "${tasks[@]}"; do wait $task || code=$?; done
exit ${code:-0}
"""


def sbatch(script: str, *flags: str, place: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run a batch file in `place` as Slurm does, but for `srun`, which starts all tasks here."""
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.M))
    assert asked.keys() <= {"job-name", "nodes", "ntasks-per-node", "signal"}, asked
    srun = place / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(FAKE_SRUN)
    srun.chmod(0o755)
    first = 2**16 - 2**12  # where JAX takes the port from, by the number of the job
    job = next(n for n in range(1, 2**12) if is_free(first + n))
    path = f"{srun.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    tasks = int(asked["nodes"]) * int(asked["ntasks-per-node"])
    slurm = {"SLURM_JOB_ID": job, "SLURM_NTASKS": tasks, "SLURM_STEP_NODELIST": "localhost"}
    return subprocess.run(
        ["bash", "-c", script, "sbatch", *flags],
        cwd=place,
        env=users(cache, flags=QUICKLY) | {k: str(v) for k, v in slurm.items()} | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def without_gloo(said: str) -> str:
    """What was said, but for Gloo's own line."""
    return "\n".join(line for line in said.splitlines() if not line.startswith("[Gloo]"))


class Group:
    """The processes of one run; leaving it kills what is left of them."""

    def __init__(
        self, count: int, *flags: str, output: Path, cache: Path, devices: int = 1
    ) -> None:
        self.output, self.coordinator = output, f"127.0.0.1:{free_port()}"
        where = "--coordinator", self.coordinator, "--num-processes", str(count)
        shared = (*DIGITS, "--output", str(output), *where, *flags)
        self.processes = [
            command(*shared, "--process-id", str(number), cache=cache, devices=devices)
            for number in range(count)
        ]

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()

    def until_epoch(self, number: int, *, of: str = "") -> None:
        """Wait until the row of that epoch is written, by the member `of` several seeds."""
        log, until = self.output / of / "metrics.jsonl", time.monotonic() + DEADLINE
        while not (log.exists() and log.read_text().count('"kind": "epoch"') >= number):
            assert time.monotonic() < until and None in [p.poll() for p in self.processes]
            time.sleep(0.02)

    def ended(self, which: Sequence[int] | None = None) -> list[tuple[int, str]]:
        """Exit code and errors of each, Gloo's own line left out; waits for them."""
        chosen = range(len(self.processes)) if which is None else which
        said = [self.processes[number].communicate(timeout=DEADLINE)[1] for number in chosen]
        codes = [self.processes[number].returncode for number in chosen]
        return list(zip(codes, map(without_gloo, said), strict=True))

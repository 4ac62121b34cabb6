"""Real processes on loopback: `Group` starts the commands of one run, and reads what they said."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIGITS = "--dataset", "digits", "--train-size", "100", "--batch-size", "20", "--quiet"
DEADLINE = 120  # seconds, for what takes ten


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def command(*flags: str, cache: Path, devices: int = 1, module: str = "experiments.scratch"):
    """A process of `devices` devices, in the environment of a user, not of the tests."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    environment |= {"MNISTJAX_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}
    environment |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Group:
    """The processes of one run; leaving it kills what is left of them."""

    def __init__(self, count: int, *flags: str, output: Path, cache: Path) -> None:
        self.output, self.coordinator = output, f"127.0.0.1:{free_port()}"
        where = "--coordinator", self.coordinator, "--num-processes", str(count)
        shared = (*DIGITS, "--output", str(output), *where, *flags)
        self.processes = [
            command(*shared, "--process-id", str(number), cache=cache) for number in range(count)
        ]

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()

    def until_epoch(self, number: int) -> None:
        """Wait until the row of that epoch is written."""
        log, until = self.output / "metrics.jsonl", time.monotonic() + DEADLINE
        while not (log.exists() and log.read_text().count('"kind": "epoch"') >= number):
            assert time.monotonic() < until and None in [p.poll() for p in self.processes]
            time.sleep(0.02)

    def ended(self, which: Sequence[int] | None = None) -> list[tuple[int, str]]:
        """Exit code and errors of each, Gloo's own line left out; waits for them."""
        chosen = range(len(self.processes)) if which is None else which
        said = [self.processes[number].communicate(timeout=DEADLINE)[1] for number in chosen]
        codes = [self.processes[number].returncode for number in chosen]
        lines = ["\n".join(x for x in of.splitlines() if not x.startswith("[Gloo]")) for of in said]
        return list(zip(codes, lines, strict=True))

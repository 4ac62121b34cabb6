"""The training steps compiled for pods of TPUs, without one: `python -m benchmarks tpu_pods`.

As `tpu_aot`: figures of one chip, and no time. Each chip has a batch of its own, as when more are
added to train on more images; what then grows is the sum of gradients alone.
"""

import os
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.environment import environment
from benchmarks.jobs.tpu_aot import CHIPS, check_compiler, compiled, line, name_of, row
from benchmarks.tables import files, screen
from mnistjax.cli import Config

KIND = "v5e"
PODS = {"v5e:4x4": 16, "v5e:16x16": 256}
PROGRAMS = (  # program, side of the images, batch of a chip, dtype
    ("small_cnn", 28, 128, "float32"),
    ("small_cnn", 28, 4096, "float32"),
    ("vgg16", 32, 256, "float32"),
    ("vgg16", 224, 64, "bfloat16"),
)
# 400 GB/s between chips in both directions, 51.2 TB/s of sums in a pod of 256: Google Cloud's page
# of v5e. In a ring each chip sends its array almost twice.
SUM_BYTES_PER_SECOND = 200e9
NOTE = (
    "compiled-only: nothing ran. Figures are of one chip. sum_ms: each chip sends its gradients"
    " 2 (n - 1) / n times at the vendor's 200 GB/s. percent_at_most: how much of one chip's speed"
    " is left where that sum hides behind nothing, against the roofline of the step."
)


@dataclass(frozen=True, kw_only=True)
class JobConfig(Config):
    """Compile the training steps for pods that are not there."""

    save: bool = True
    """Write the figures to benchmarks/results/."""

    def validate(self) -> None:
        """Raise `UsageError` where there is no libtpu."""
        check_compiler()


def main(config: JobConfig) -> int:
    """Compile every program for both pods; print and write the rows."""
    threads = os.cpu_count() or 1
    machine, rows = environment(threads=threads, on="cpu"), {}
    for of in PROGRAMS:
        for topology, chips in PODS.items():
            chip, name = CHIPS[KIND]._replace(topology=topology), name_of(of, chips, KIND)
            rows[name] = with_sum(row(compiled(of, chip, (chips,), threads), chip, chips), chips)
            screen.console.print(line(name, rows[name]), highlight=False)
    if config.save and any(got["status"] == "compiled-only" for got in rows.values()):
        machine |= {"platform": "tpu", "device_kind": f"{KIND} (compiled for, not at hand)"}
        result = {"note": NOTE, "rows": rows}
        path = files.save("tpu_pods", machine, result, name=f"tpu-{KIND}-ahead-of-time")
        screen.say_written(path)
    return 0


def with_sum(row: dict[str, Any], chips: int) -> dict[str, Any]:
    """`row` with the time of its sum, and what is left of a chip's speed.

    >>> got = with_sum({"estimate_ms": 9.0, "collective_mib": 100}, chips=16)
    >>> got["sum_ms"], got["percent_at_most"]
    (0.983, 90.2)
    """
    if "why" in row:
        return row
    sent = 2 * (chips - 1) / chips * row["collective_mib"] * 2**20
    taken = 1e3 * sent / SUM_BYTES_PER_SECOND
    left = 100 * row["estimate_ms"] / (row["estimate_ms"] + taken)
    return row | {"sum_ms": round(taken, 3), "percent_at_most": round(left, 1)}

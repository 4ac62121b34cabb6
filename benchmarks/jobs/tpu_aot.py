"""The training steps compiled for TPUs, without one: `python -m benchmarks tpu_aot`.

libtpu compiles ahead of time on any x86-64 Linux (`make bench-tpu`): memory, FLOPs, bytes and
collectives are those of the program a TPU would run, and what does not fit is refused as there.
It gives no time. The roofline, FLOPs and bytes at the vendor's peaks, is a bound no run reaches.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.cells import Cell, run_cell
from benchmarks.harness.environment import environment
from benchmarks.harness.peaks import DEVICES
from benchmarks.tables import files, screen
from mnistjax.cli import Config
from mnistjax.errors import UsageError

VENV = "tpu"
Program = tuple[str, int, int, str]
"""Its name, the side of the images, the batch on one chip, the dtype."""


class Chip(NamedTuple):
    """The name of its smallest square of four, and the vendor's figures of one chip."""

    topology: str
    memory_gib: int
    bfloat16_flops: float
    bytes_per_second: float


def chip_of(topology: str, name: str) -> Chip:
    """The chip that JAX calls `name`."""
    device = DEVICES[name]
    assert device.memory_gib and device.gb_per_second, f"{name} needs all figures for a roofline"
    flops, bandwidth = device.bfloat16_tflops * 1e12, device.gb_per_second * 1e9
    return Chip(topology, device.memory_gib, flops, bandwidth)


CHIPS = {
    "v5e": chip_of("v5e:2x2", "TPU v5 lite"),
    "v6e": chip_of("v6e:2x2", "TPU v6 lite"),
    "v5p": chip_of("v5p:2x2x1", "TPU v5"),
}
PROGRAMS = (  # program, side of the images, batch on one chip, dtype
    ("small_cnn", 28, 128, "float32"),
    ("small_cnn", 28, 4096, "float32"),
    ("vgg16_frozen", 32, 256, "float32"),
    ("vgg16_frozen", 224, 128, "float32"),
    ("vgg16_frozen", 224, 128, "bfloat16"),
    ("vgg16", 32, 256, "float32"),
    ("vgg16", 224, 64, "float32"),
    ("vgg16", 224, 64, "bfloat16"),
)
NOTE = (
    "compiled-only: nothing ran. Figures are of one chip. A TPU multiplies float32 in bfloat16 by"
    " default, so the estimate is against the bfloat16 peak for both dtypes. estimate_ms is a"
    " roofline: the longer of FLOPs and bytes at the vendor's peaks."
)


@dataclass(frozen=True, kw_only=True)
class JobConfig(Config):
    """Compile the training steps for TPUs that are not there."""

    chips: tuple[str, ...] = tuple(CHIPS)
    """Kinds of TPU."""
    only: tuple[str, ...] = ()
    """Programs to compile: small_cnn, vgg16_frozen, vgg16; default: all."""
    save: bool = True
    """Write the figures to benchmarks/results/, a file for each chip."""

    def validate(self) -> None:
        """Raise `UsageError` for a name that is none, or where there is no libtpu."""
        for chip in self.chips:
            UsageError.unless_in("--chips", chip, [*CHIPS])
        for program in self.only:
            UsageError.unless_in("--only", program, sorted({name for name, *_ in PROGRAMS}))
        check_compiler()


def check_compiler() -> None:
    """Raise `UsageError` where there is no libtpu."""
    if not Cell("", "", venv=VENV).python.is_file():
        why = "libtpu, the TPU's compiler, is not installed"
        raise UsageError(f".venv-{VENV}", why, fix="make bench-tpu (x86-64 Linux)")


def main(config: JobConfig) -> int:
    """Compile every program for every chip, alone and as four; print and write the rows."""
    threads = os.cpu_count() or 1
    for kind in config.chips:
        machine = environment(threads=threads, on="cpu")
        rows: dict[str, dict[str, Any]] = {}
        for name, got in rows_of(kind, config.only, threads):
            rows[name] = got
            screen.console.print(line(name, got), highlight=False)
        some = any(got["status"] == "compiled-only" for got in rows.values())
        if config.save and some and not config.only:
            # The device is the one compiled for; CPU, cores and load are the compiler's.
            machine |= {"platform": "tpu", "device_kind": f"{kind} (compiled for, not at hand)"}
            result = {"note": NOTE, "one_chip": CHIPS[kind]._asdict(), "rows": rows}
            path = files.save("tpu_aot", machine, result, name=f"tpu-{kind}-ahead-of-time")
            screen.say_written(path)
    return 0


def rows_of(kind: str, only: tuple[str, ...], threads: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each program for one chip and for four, as its compiler is done."""
    chip = CHIPS[kind]
    for program, size, batch, dtype in PROGRAMS:
        if only and program not in only:
            continue
        of = program, size, batch, dtype
        found = compiled(of, chip, (1, 4), threads)
        for count in (1, 4):
            yield name_of(of, count, kind), row(found, chip, count)


def compiled(of: Program, chip: Chip, counts: tuple[int, ...], threads: int) -> dict[str, Any]:
    """What the compiler says of the program for `counts` chips of `chip.topology`."""
    program, size, batch, dtype = of
    numbers = ",".join(map(str, counts))
    arguments = program, str(size), str(batch), dtype, chip.topology, str(chip.memory_gib), numbers
    with screen.console.status(f"compiling {program} {size}x{size} {dtype} for {chip.topology}"):
        cell = Cell(program, "tpu_step", arguments, VENV)
        return run_cell(cell, Path("-"), threads=threads, seconds=1500)


def name_of(of: Program, count: int, kind: str) -> str:
    """The name of the row of `count` chips.

    >>> name_of(("vgg16", 32, 256, "float32"), 4, "v5e")
    'vgg16 32x32, batch 1024, float32, 4 x v5e'
    """
    program, size, batch, dtype = of
    return f"{program} {size}x{size}, batch {count * batch}, {dtype}, {count} x {kind}"


def row(found: dict[str, Any], chip: Chip, count: int) -> dict[str, Any]:
    """The compiler's figures for `count` chips with the roofline, or why there are none.

    >>> found = {"chips": {"1": {"gflop": 197.0, "gb_accessed": 0.5}}, "versions": {}}
    >>> row(found, CHIPS["v5e"], 1)["estimate_ms"]
    1.0
    """
    if "missing" in found:
        return {"status": "not run", "why": found["missing"]}
    sizes = found["chips"][str(count)]
    computing = sizes["gflop"] * 1e9 / chip.bfloat16_flops
    reading = sizes["gb_accessed"] * 1e9 / chip.bytes_per_second
    estimate = {"estimate_ms": round(max(computing, reading) * 1e3, 3)}
    return {"status": "compiled-only"} | estimate | sizes | {"versions": found["versions"]}


def line(name: str, row: dict[str, Any]) -> str:
    """A row for the screen."""
    if "why" in row:
        return f"{name}: not run, {row['why']}"
    parts = [
        f"{row['gflop']:,.1f} GFLOP",
        f"{row['gb_accessed']:,.2f} GB",
        f"{row['peak_memory_mib']:,.0f} MiB",
        f"{row['collectives'] or 'no'} {row['kinds_of_collectives'] or 'collectives'}",
        f"at least {row['estimate_ms']:,.2f} ms by roofline (an estimate)",
    ]
    if "largest_batch" in row:
        parts.append(f"largest batch {row['largest_batch']:,}")
    return f"{name}: {' · '.join(parts)}"

"""Fine-tuning VGG16 for 5 epochs, the whole job, beside its peers: `python -m benchmarks finetune`.

The article's recipe: grey 28x28 images in memory, enlarged to 224x224, through 13 frozen
convolutions, then flatten, dense 256, dense 10, trained by Adam at 1e-3. Smaller than there are
the number of images (`--train-size`) and with it the batch, 32 for 128, so that an epoch has
several steps; nothing is validated or shuffled, so that losses can be compared. The table
compares a job in a program that has compiled; "with compiling" adds what the first job pays
besides. Loading the library and the weights is outside both.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.harness.cells import Cell
from benchmarks.harness.flops import vgg16_flops
from benchmarks.harness.job import BenchmarkConfig, finish, machine_facts
from benchmarks.harness.measure import measure_in_turn
from benchmarks.harness.problems import finetune_problem
from benchmarks.harness.same import same_losses
from benchmarks.tables import screen
from benchmarks.tables.summary import ratio
from mnistjax.errors import UsageError

SIZE, BATCH, EPOCHS = 224, 32, 5
CACHED, DIRECT = "mnistjax, features cached", "mnistjax, no cache"


@dataclass(frozen=True, kw_only=True)
class JobConfig(BenchmarkConfig):
    rounds: int = 2
    """Each cell is measured so many times, in turn with the others."""
    train_size: int = 96
    """Training images: less than 32, or a multiple of it."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        size = self.train_size
        if not 1 <= size <= 1024 or (size > BATCH and size % BATCH):
            why = f"must be up to {BATCH}, or a multiple of {BATCH} up to 1024"
            raise UsageError(f"--train-size {size}", why, fix="pass --train-size 96")


def cells(batch: int) -> tuple[Cell, ...]:
    """Every program, ours first."""
    job = (str(EPOCHS), str(batch), str(SIZE))
    keras = ("keras_finetune", "tensorflow")
    return (
        Cell(CACHED, "ours_finetune", ("cached", *job)),
        Cell(DIRECT, "ours_finetune", ("direct", *job)),
        Cell("Keras 3 on TensorFlow", keras[0], ("fit", *job), keras[1]),
        Cell("PyTorch channels_last", "torch_finetune", job, "torch"),
        Cell("Keras, features by hand", keras[0], ("by_hand", *job), keras[1]),
    )


def main(config: JobConfig) -> int:
    """Measure every cell; the exit code is 0 also where peers are missing."""
    machine = machine_facts(config)
    count, batch = config.train_size, min(config.train_size, BATCH)
    result = measure_in_turn(
        config,
        f"fine-tuning VGG16's head, {SIZE}x{SIZE}, {count} images, batch {batch}, {EPOCHS} epochs,"
        f" float32, {config.threads} threads",
        cells(batch),
        problem=partial(finetune_problem, count=count),
        images=count * EPOCHS,
        flops=vgg16_flops(SIZE),
        same=partial(same_losses, first=1e-3, last=0.05),
    )
    rows = {name: row for name, row in result["rows"].items() if row["status"] == "measured"}
    for name, row in rows.items():
        if DIRECT in rows and "mnistjax" not in name and (times := ratio(rows[DIRECT], row)):
            row["no_cache_is"] = times  # as "ours is", of our second row
    _print(rows)
    return finish("finetune", config, machine, result | {"train_size": count})


def _print(rows: dict[str, dict[str, Any]]) -> None:
    headings = ["job s", "n", "with compiling s", "no cache is"]
    table = screen.start_table(["program"], headings)
    for name, row in rows.items():
        times = f"{row['no_cache_is']:.2f} x" if "no_cache_is" in row else ""
        steady, whole = (f"{row[key]:.1f}" for key in ("steady_seconds", "job_seconds"))
        table.add_row(name, steady, f"{row['n']}", whole, times)
    screen.console.print(table)

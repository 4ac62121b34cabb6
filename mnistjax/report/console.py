"""What the terminal shows: a banner, a live progress bar, plain lines where nobody watches."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mnistjax.models.summary import LayerRow
from mnistjax.training.loop import EpochEnd, StepEnd


class TrainingDisplay:
    """Shows events as they come: a bar on a terminal, one line per epoch in any case.

    A context manager. `quiet` shows nothing.
    """

    def __init__(self, console: Console, *, total: int, epochs: int, quiet: bool = False) -> None:
        self._console, self._epochs, self._quiet = console, epochs, quiet
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:6.2%}"),
            TextColumn("{task.fields[speed]:,.0f} images/s  ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, epoch=1, loss=0, accuracy=0, speed=0)
        self._last_line = time.monotonic()

    def __enter__(self) -> "TrainingDisplay":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, event: StepEnd | EpochEnd, *, images_per_second: float) -> None:
        """Show one event."""
        if self._quiet:
            return
        if isinstance(event, EpochEnd):
            self._console.print(
                f"epoch {event.epoch}/{self._epochs}"
                f"  loss {event.train.loss:.4f}  accuracy {event.train.accuracy:.2%}"
                f"  validation loss {event.validation.loss:.4f}"
                f"  accuracy {event.validation.accuracy:.2%}"
                f"  {event.train_seconds:.1f} s  {images_per_second:,.0f} images/s",
                highlight=False,
            )
            return
        loss, accuracy = event.metrics.loss, event.metrics.accuracy
        self._bar.update(
            self._task,
            completed=event.step,
            epoch=event.epoch,
            loss=loss,
            accuracy=accuracy,
            speed=images_per_second,
        )
        if not self._console.is_terminal and time.monotonic() - self._last_line > 10:
            self._last_line = time.monotonic()
            self._console.print(
                f"  step {event.step}  loss {loss:.4f}  accuracy {accuracy:.2%}"
                f"  {images_per_second:,.0f} images/s",
                highlight=False,
            )


def model_table(rows: list[LayerRow]) -> Table:
    """The model's layers as a rich table, with totals."""
    table = Table(title=None)
    table.add_column("layer", no_wrap=True)
    table.add_column("kind")
    table.add_column("output")
    for heading in ("parameters", "FLOPs"):
        table.add_column(heading, justify="right")
    frozen = not all(row.trains for row in rows)
    if frozen:
        table.add_column("")
    for row in rows:
        shape = "x".join(map(str, row.output))
        last = ["trains" if row.trains else "frozen"] if frozen else []
        table.add_row(row.name, row.kind, shape, f"{row.parameters:,}", f"{row.flops:,}", *last)
    table.add_section()
    parameters, flops = sum(row.parameters for row in rows), sum(row.flops for row in rows)
    table.add_row("total", "", "", f"{parameters:,}", f"{flops:,}")
    return table

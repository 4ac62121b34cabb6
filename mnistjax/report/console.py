"""What the terminal shows of training: a bar, a line for each epoch, the model as a table."""

from functools import cache

from rich.console import Console
from rich.table import Table

from mnistjax.models.summary import LayerRow, total_flops
from mnistjax.progress import ProgressBar, console
from mnistjax.training.loop import EpochEnd, StepEnd
from mnistjax.training.metrics import Metrics

__all__ = ["TrainingDisplay", "console", "in_words", "model_table", "show_once"]
WIDE = 130  # columns that a bar takes with all that a step tells of itself


class TrainingDisplay:
    """Shows events as they come: a bar of steps, and one line per epoch. A context manager.

    `quiet` shows nothing.
    """

    def __init__(self, console: Console, *, total: int, epochs: int, quiet: bool = False) -> None:
        self._console, self._epochs, self._quiet = console, epochs, quiet
        self._bar = ProgressBar("training", total, console=console, quiet=quiet)

    def __enter__(self) -> "TrainingDisplay":
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__()

    def show(self, event: StepEnd | EpochEnd, *, images_per_second: float) -> None:
        """Show one event."""
        if isinstance(event, EpochEnd):
            scores = in_words(event.validation)
            validation = f"  validation {scores}" if scores else ""
            self.tell(
                f"epoch {event.epoch}/{self._epochs}  {in_words(event.train)}{validation}"
                f"  {event.train_seconds:.1f} s  {images_per_second:,.0f} images/s"
                f"{_told(event.train, but='grad_norm')}"
            )
            return
        self._bar.show(
            event.step,
            what=f"epoch {event.epoch}/{self._epochs}",
            words=f"{in_words(event.metrics)}  {images_per_second:,.0f} images/s"
            + (_told(event.metrics) if self._console.width >= WIDE else ""),
        )

    def tell(self, line: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(line, highlight=False)


def in_words(metrics: Metrics) -> str:
    """Every figure of `metrics` by its name.

    >>> in_words(Metrics(1.0, 3, 4))
    'loss 0.2500  accuracy 75.00%'
    """
    words = (
        f"{name} {value:.2%}" if name == "accuracy" else f"{name} {value:.4f}"
        for name, value in metrics.values.items()
    )
    return "  ".join(words)


def _told(metrics: Metrics, *, but: str | None = None) -> str:
    """What the last step tells of itself; of an epoch, the norm of one gradient says little."""
    words = (f"  {name} {value:.3g}" for name, value in metrics.told.items() if name != but)
    return "".join(words)


@cache
def show_once(line: str, rows: tuple[LayerRow, ...]) -> None:
    """`line` and `model_table`: of several seeds the same, and so not again until it is cleared."""
    console.print(line, model_table([*rows]), sep="\n", highlight=False)


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
        flops = "" if row.flops is None else f"{row.flops:,}"
        last = ["trains" if row.trains else "frozen"] if frozen else []
        table.add_row(row.name, row.kind, shape, f"{row.parameters:,}", flops, *last)
    table.add_section()
    parameters = sum(row.parameters for row in rows)
    table.add_row("total", "", "", f"{parameters:,}", total_flops(rows))
    return table

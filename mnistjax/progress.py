"""How far a long work has come: a bar with an ETA on a terminal, now and then a line elsewhere."""

import os
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

console = Console(soft_wrap=True)
SECONDS_BETWEEN_LINES = 10
# Columns that a bar, an ETA and the figures of training need, and that ETA and figures do: what
# would not fit is left out, not what matters pushed off the line.
NARROW, SMALL = 90, 70


class ProgressBar:
    """`done` of `total` with a few words beside it; a context manager.

    On a terminal a bar that goes when it is done; elsewhere, for a log, a line every ten seconds.
    `quiet` shows nothing.
    """

    def __init__(self, what: str, total: int, *, console: Console, quiet: bool = False) -> None:
        self._what, self._total, self._quiet, self._console = what, total, quiet, console
        self._animated = console.is_terminal and not _colours_in_a_file(console)
        one_line = Column(no_wrap=True, overflow="crop")
        text = "{task.completed:.0f}/{task.total:.0f} {task.fields[words]}"
        columns: list[ProgressColumn] = [TextColumn(text, table_column=one_line)]
        eta = [TextColumn("ETA"), TimeRemainingColumn()] if console.width >= SMALL else []
        if console.width >= NARROW:
            name, words = TextColumn("{task.description}"), TextColumn("{task.fields[words]}")
            columns = [name, BarColumn(), MofNCompleteColumn(), words]
        columns += eta
        self._bar = Progress(
            *columns, console=console, transient=True, disable=quiet or not self._animated
        )
        self._task = self._bar.add_task(what, total=total, words="")
        self._first: tuple[float, int] | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, *, what: str | None = None, words: str = "") -> None:
        """Show that so much is done; the first call says how much was there from the start."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
            self._bar.reset(self._task, total=self._total, completed=done, words=words)
            return
        what = what or self._what
        self._bar.update(self._task, description=what, completed=done, words=words)
        if self._quiet or self._animated:
            return
        if now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            since, found = self._first
            left = (self._total - done) * (now - since) / max(done - found, 1)
            words = f"{words}  " if words else ""
            line = f"  {what}  {done:,}/{self._total:,}  {words}ETA {left:.0f} s"
            self._console.print(line, highlight=False)


def _colours_in_a_file(console: Console) -> bool:
    """FORCE_COLOR asks for colours, of which a log can keep some, not for a bar that moves."""
    return bool(os.environ.get("FORCE_COLOR")) and not console.file.isatty()

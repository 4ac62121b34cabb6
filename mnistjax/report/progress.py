"""How far a long count has come, on a terminal or in a log."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class CountDisplay:
    """A bar with an ETA on a terminal; elsewhere a line every ten seconds and one at the end."""

    def __init__(self, console: Console | None, total: int, quiet: bool) -> None:
        self._console, self._total, self._quiet = console or Console(), total, quiet
        self._bar = Progress(
            TextColumn("features"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images  ETA"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)
        self._first: tuple[float, int] | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> "CountDisplay":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int) -> None:
        """Show that so many rows are there; the first call says how many were from the start."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
            self._bar.reset(self._task, total=self._total, completed=done)
            return
        self._bar.update(self._task, completed=done)
        if self._quiet or self._console.is_terminal:
            return
        if now - self._last_line > 10 or done == self._total:
            self._last_line = now
            since, found = self._first
            speed = (done - found) / max(now - since, 1e-9)
            left = (self._total - done) / speed
            self._console.print(
                f"  features {done:,}/{self._total:,}  {speed:,.0f} images/s  ETA {left:.0f} s",
                highlight=False,
            )

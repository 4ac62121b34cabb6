"""metrics.jsonl: one JSON object per line, for steps and for epochs; TensorBoard on request."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from mnistjax.disk import write_whole
from mnistjax.errors import UsageError, warn
from mnistjax.training.loop import EpochEnd, StepEnd


class MetricsLog:
    """Append events to `<directory>/metrics.jsonl`; with `tensorboard`, to its event files too.

    Opening it drops rows after step `upto` (and a torn last line), so that a resumed run has each
    step once; of steps, only every `every`th is written. `evaluated` False: the epoch that ends at
    `upto` will be evaluated again, so its row goes too. A context manager. Raises `UsageError` when
    the tensorboard extra is missing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        upto: int = 0,
        evaluated: bool = True,
        tensorboard: bool = False,
        every: int = 1,
    ) -> None:
        self._path = directory / "metrics.jsonl"
        self._writer = _tensorboard_writer(directory, upto) if tensorboard else None
        again = set() if evaluated else {("epoch", upto)}
        rows = [row for row in read_rows(self._path) if row["step"] <= upto]
        rows = [row for row in rows if (row["kind"], row["step"]) not in again]
        self.epochs: list[dict[str, Any]] = epoch_rows(rows)
        """The epoch rows, in order; those of steps are in the file, however many they are."""
        self._every, last = every, rows[-1]["step"] if rows else 0
        spaced = max([every, *(b["step"] - a["step"] for a, b in pairwise(rows[-3:]))])
        if last + spaced <= upto:
            warn(f"{self._path}: is damaged; rows of steps {last + 1} to {upto} are lost")
        self._file: TextIO | None = None
        with self._never_fatal():
            write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows))
            self._file = self._path.open("a")

    def add(self, event: StepEnd | EpochEnd, *, images_per_second: float) -> None:
        """Write the row of `event`; a kill of this process cannot take it back.

        What cannot be written is told once; training goes on.
        """
        if isinstance(event, StepEnd) and event.step % self._every:
            return
        row: dict[str, Any] = {"kind": "step", "step": event.step, "epoch": event.epoch}
        if isinstance(event, EpochEnd):
            row |= {"kind": "epoch"}
            row |= {f"train_{name}": value for name, value in event.train.values.items()}
            row |= {f"val_{name}": value for name, value in event.validation.values.items()}
            row |= event.train.told | {"train_seconds": event.train_seconds}
        else:
            row |= event.metrics.values | event.metrics.told
        row |= {"images_per_second": images_per_second}
        if isinstance(event, EpochEnd):
            self.epochs.append(row)
        with self._never_fatal():
            if self._file is not None:
                self._file.write(json.dumps(row) + "\n")
                self._file.flush()
                if isinstance(event, EpochEnd):  # before its checkpoint: power may fail, too
                    os.fsync(self._file.fileno())
            if self._writer is not None:
                for name in row.keys() - {"kind", "step", "epoch"}:
                    self._writer.add_scalar(f"{row['kind']}/{name}", row[name], event.step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        with self._never_fatal():
            for file in (self._file, self._writer):
                if file is not None:
                    file.close()

    @contextmanager
    def _never_fatal(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or error
            warn(f"{self._path}: {why}; no more rows are written, training goes on")
            file, self._file, self._writer = self._file, None, None
            if file is not None:
                with suppress(OSError):  # closing tries to write again
                    file.close()


def epoch_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of whole epochs, in order."""
    return [row for row in rows if row["kind"] == "epoch"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a metrics.jsonl; a line torn by a kill ends them."""
    rows = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        try:
            row = json.loads(line)
            rows.append(row | {"step": int(row["step"]), "kind": str(row["kind"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            break
    return rows


def _tensorboard_writer(directory: Path, upto: int):
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        fix = "pip install 'mnistjax[tensorboard]'"
        raise UsageError("`tensorboard=True`", "tensorboardX is not installed", fix=fix) from error
    # What a killed run wrote after its last checkpoint is written again: viewers drop it then.
    return SummaryWriter(str(directory / "tensorboard"), purge_step=upto + 1 if upto else None)

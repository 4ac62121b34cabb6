"""A run directory as a thing to look at: settings, figures, the best parameters, the report."""

import json
from pathlib import Path
from typing import Any

from mnistjax.errors import StorageError
from mnistjax.models.functional import ModelState, Params
from mnistjax.processes import is_leader
from mnistjax.runs.checkpoint import Checkpoints
from mnistjax.runs.directory import CONFIG, read_config
from mnistjax.runs.log import epoch_rows, read_rows


class Run:
    """What `train` left in `directory`, read each time it is asked for; nothing is changed.

    Raises `StorageError` if no run ever began there.

    >>> Run("nowhere")
    Traceback (most recent call last):
    mnistjax.errors.StorageError: nowhere: holds no run. Fix: pass the `directory` of one
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        if is_leader() and not (self.directory / CONFIG).is_file():  # others may not see it
            fix = "pass the `directory` of one"
            raise StorageError(str(directory), "holds no run", fix=fix)

    def __repr__(self) -> str:
        return f"Run({str(self.directory)!r})"

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with: `config.json`."""
        return read_config(self.directory)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every step and epoch so far, in order: `metrics.jsonl`."""
        return read_rows(self.directory / "metrics.jsonl")

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The rows of whole epochs."""
        return epoch_rows(self.rows)

    @property
    def summary(self) -> dict[str, Any]:
        """Its result, `summary.json`; raise `StorageError` while it has not ended."""
        path = self.directory / "summary.json"
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            fix = "train it to its end first: RunOptions(resume=True)"
            raise StorageError(str(path), "there is no result yet", fix=fix) from error

    @property
    def report(self) -> Path:
        """The page that shows the result; there once the run has ended."""
        return self.directory / "report.html"

    @property
    def best_params(self) -> Params:
        """The parameters that validation chose so far, a nested dict of NumPy arrays.

        Read from the checkpoint and compared with its digests. Raises `StorageError` if there is
        none yet or it is damaged.
        """
        return self.best_model[0]

    @property
    def best_model(self) -> tuple[Params, ModelState]:
        """`best_params`, and the model state that belongs to them: () for most models."""
        place = self.directory / "checkpoints"
        checkpoints = Checkpoints(place) if place.is_dir() else None  # which would make it
        if checkpoints is None or (step := checkpoints.best) is None:
            fix = "train it for an epoch first"
            raise StorageError(str(self.directory), "has no whole epoch yet", fix=fix)
        return checkpoints.model(step)

"""Small finished runs by the command line, made once a process, with the logits of their end."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import few_digits_to_test, nothing_drawn

from experiments import finetune, scratch
from mnistjax import cli
from mnistjax.runs import result


class Finished(NamedTuple):
    directory: Path
    logits: np.ndarray
    """Of the test set, as the run's own evaluation gave them."""

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.directory / "summary.json").read_text())


@cache
def place() -> Path:
    """Where they are, with a cache of their own; gone when the process ends."""
    path = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def scratch_run(*flags: str) -> Finished:
    """The small CNN on digits, or on what `flags` say."""
    default = () if flags else ("--dataset", "digits", "--epochs", "2")
    return _finished(scratch.ScratchConfig, scratch.main, (*default, *flags))


@cache
def finetune_run(*flags: str) -> Finished:
    """VGG16's blocks 1 to 3 with random weights on 60 digits, tested on 100."""
    small = ("--dataset", "digits", "--weights", "random", "--cut", "block3", "--train-size", "60")
    with few_digits_to_test(100):
        return _finished(finetune.FinetuneConfig, finetune.main, (*small, "--epochs", "1", *flags))


def _finished(config: Any, main: Any, flags: tuple[str, ...]) -> Finished:
    directory = place() / f"run{len(list(place().glob('run*')))}"
    kept: list[np.ndarray] = []

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        metrics, logits = own(*args, **kwargs)
        kept.append(logits)
        return metrics, logits

    own = result.evaluate
    with pytest.MonkeyPatch.context() as patch, nothing_drawn():
        patch.setenv("MNISTJAX_CACHE", str(place() / "cache"))
        patch.setattr(result, "evaluate", evaluate)
        argv = [*flags, "--output", str(directory), "--quiet"]
        assert cli.run(config, main, argv) == 0
    return Finished(directory, kept[-1])

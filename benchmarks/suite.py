"""The whole suite on the machine it is on: `python -m benchmarks`, or `make bench`."""

import dataclasses
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks import ROOT
from benchmarks.harness.job import BenchmarkConfig
from benchmarks.registry import JOBS
from benchmarks.tables import screen
from mnistjax.cli import Config
from mnistjax.errors import UsageError

DEFAULT = tuple(name for name, job in JOBS.items() if job.by_default)


@dataclass(frozen=True, kw_only=True)
class SuiteConfig(BenchmarkConfig):
    """Measure this machine. Also: `report`, `compare BEFORE AFTER`, or the name of one job."""

    rounds: int = 1
    """Each cell is measured so many times, in turn with the others; 3 for figures to publish."""
    jobs: Annotated[str, tyro.conf.arg(metavar="A,B")] = ",".join(DEFAULT)
    """Jobs to run; python -m benchmarks JOB --help lists the flags of one."""
    all: bool = False
    """Run every job: an hour or two on two cores."""
    sizes: tuple[int, ...] = (32, 64)
    """Sides of VGG16's images; --all takes 224 too."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """MNIST's IDX files, for time_to_accuracy and quick."""

    @property
    def chosen(self) -> list[str]:
        """The jobs to run, in the suite's order."""
        asked = {name.strip() for name in self.jobs.split(",") if name.strip()}
        return [name for name in JOBS if self.all or name in asked]

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        super().validate()
        for name in self.jobs.split(","):
            if name.strip():
                UsageError.unless_in("--jobs", name.strip(), list(JOBS))
        if not self.chosen:
            raise UsageError("--jobs", "names none", fix="pass --jobs step")


def program(job: str) -> tuple[type[Config], Callable[[Any], int]]:
    """A job's flags and what runs it, both from its own file."""
    module = importlib.import_module(f"benchmarks.jobs.{job}")
    return getattr(module, "JobConfig", BenchmarkConfig), module.main


def main(config: SuiteConfig) -> int:
    """Run the chosen jobs one after the other; the exit code is 0 also where peers are missing."""
    peers = [f".venv-{name}" for name in ("torch", "tensorflow")]
    if missing := [name for name in peers if not (ROOT / name).is_dir()]:
        without = ", ".join(missing)
        screen.note(f"no {without}: those peers are left out. make bench-peers installs them")
    started = time.perf_counter()
    shared: dict[str, Any] = dataclasses.asdict(config)
    if config.all:
        shared["sizes"] = (32, 64, 224)
    for job in config.chosen:
        if (venv := JOBS[job].venv) and not (ROOT / f".venv-{venv}").is_dir():
            screen.note(f"no .venv-{venv}: {job} is left out. make bench-{venv} installs it")
            continue
        config_class, run = program(job)
        names = {field.name for field in dataclasses.fields(config_class)}
        run(config_class(**{name: shared[name] for name in names & shared.keys()}))
    minutes = (time.perf_counter() - started) / 60
    screen.console.print(f"{minutes:.1f} minutes. python -m benchmarks report renders all results")
    return 0

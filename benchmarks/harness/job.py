"""What every job has: its flags, the machine's facts before anything runs, its file at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import tyro

from benchmarks.harness.environment import environment, load
from benchmarks.tables import files, screen
from benchmarks.tables.rows import was_busy
from mnistjax.cli import Config
from mnistjax.errors import UsageError
from mnistjax.platforms import PLATFORMS


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Config):
    rounds: int = 3
    """Each cell is measured so many times, in turn with the others."""
    threads: int = 2
    """Cores that every cell may use."""
    platform: Annotated[str | None, tyro.conf.arg(metavar="|".join(PLATFORMS))] = None
    """Device kind that the cells compute on; default: the best there is."""
    only: tuple[str, ...] = ()
    """Cells to run, by their names; default: all."""
    save: bool = True
    """Write the figures to benchmarks/results/."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""
        UsageError.unless_in("--platform", self.platform or "cpu", PLATFORMS)
        for name in ("rounds", "threads"):
            if getattr(self, name) < 1:
                flag = f"--{name} {getattr(self, name)}"
                raise UsageError(flag, "must be at least 1", fix=f"pass --{name} 2")


class Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def asked_for(config: BenchmarkConfig, cells: Sequence[N]) -> list[N]:
    """The cells that `--only` leaves; raise `UsageError` if it names none of them."""
    chosen = [cell for cell in cells if not config.only or cell.name in config.only]
    if not chosen:
        UsageError.unless_in("--only", config.only[0], [cell.name for cell in cells])
    return chosen


def machine_facts(config: BenchmarkConfig) -> dict[str, Any]:
    """The environment, read before anything runs."""
    return environment(threads=config.threads, on=config.platform)


def keep(
    job: str, config: BenchmarkConfig, machine: dict[str, Any], result: dict[str, Any]
) -> Path | None:
    """Write the file, if one is wanted; group by group, a job cut off loses what it was at."""
    if not config.save or config.only:
        return None
    return files.save(job, machine | {"load_after": load()}, result)


def finish(
    job: str, config: BenchmarkConfig, machine: dict[str, Any], result: dict[str, Any]
) -> int:
    """Say how quiet the machine was, and write the file."""
    if was_busy(machine):
        screen.note(f"load {machine['load_before']} before the run: other work may have slowed it")
    if path := keep(job, config, machine, result):
        screen.say_written(path)
    return 0

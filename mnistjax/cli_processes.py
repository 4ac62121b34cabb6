"""The flags by which a command is one of several processes. Nothing here imports jax."""

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from mnistjax.cli import Config, MayChange
from mnistjax.errors import UsageError
from mnistjax.joining import check_processes, distributed
from mnistjax.processes import is_leader


@dataclass(frozen=True, kw_only=True)
class ProcessFlags(Config):
    """Who this process is among several; without them it is alone."""

    coordinator: MayChange[Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")]] = None
    """One of several processes: where process 0 listens. With --num-processes, --process-id."""
    num_processes: MayChange[Annotated[int | None, tyro.conf.arg(metavar="N")]] = None
    """How many processes there are; each is started with the same flags but for its number."""
    process_id: MayChange[Annotated[int | None, tyro.conf.arg(metavar="I")]] = None
    """The number of this one, from 0; process 0 writes the run directory."""
    distributed: MayChange[bool] = False
    """One of several processes, as Slurm, Open MPI, a Cloud TPU or Kubernetes say."""

    def validate(self) -> None:
        """Raise `UsageError` for flags that do not say who this process is."""
        super().validate()
        check_processes(self.coordinator, self.num_processes, self.process_id)
        if self.distributed and self.coordinator:
            why = "one says what the other asks for"
            raise UsageError("--distributed with --coordinator", why, fix="drop --distributed")

    @property
    def is_one_of_several(self) -> bool:
        """Whether any flag says so."""
        return self.distributed or self.coordinator is not None

    def join(self) -> bool:
        """Join the other processes, if there are any; whether this is the first, or alone."""
        if not self.is_one_of_several:
            return True
        who: dict[str, Any] = {"num_processes": self.num_processes, "process_id": self.process_id}
        distributed(self.coordinator, **who)
        return is_leader()

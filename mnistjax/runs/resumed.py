"""A resumed command continues the run that is there: what it does not say is as it was."""

import dataclasses
from collections.abc import Set
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from mnistjax.cli import before
from mnistjax.runs.directory import read_config

Flags = TypeVar("Flags", bound=Any)


def as_it_was(flags: Flags, directory: Path, *, but: Set[str]) -> Flags:
    """`flags`, a dataclass, with the settings of the run in `directory` for all fields `but` those.

    What a run is older than is as it was before (`cli.Before`).

    >>> import tempfile
    >>> @dataclasses.dataclass
    ... class Flags:
    ...     seed: int = 0
    ...     epochs: int | None = None
    >>> with tempfile.TemporaryDirectory() as run:
    ...     _ = (Path(run) / "config.json").write_text('{"seed": 3, "epochs": 2}')
    ...     as_it_was(Flags(epochs=5), Path(run), but={"epochs"})
    Flags(seed=3, epochs=5)
    """
    made_with = before(type(flags)) | read_config(directory)
    hints = get_type_hints(type(flags))
    was = {
        field.name: made_with[field.name]
        for field in dataclasses.fields(flags)
        if field.name in made_with and field.name not in but
    }
    for name, value in was.items():
        if value is not None and Path in get_args(hints[name]):
            was[name] = Path(value)
    return dataclasses.replace(flags, **was)

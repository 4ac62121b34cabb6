"""From a dataclass to a command line, and from any failure to one line and an exit code.

The one place where errors meet the user: `error: <what>: <why>. Fix: <one action>` on stderr.
Nothing here imports jax, so usage is checked (and `--help` answers) before it loads.
"""

import contextlib
import errno
import io
import re
import signal
import sys
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from mnistjax import peers
from mnistjax.errors import (
    MnistjaxError,
    Stopped,
    StorageError,
    UsageError,
    as_peer_lost,
)
from mnistjax.flag_checks import as_flags
from mnistjax.streams import make_lossy

T = TypeVar("T")
C = TypeVar("C", bound="Config")
MAY_CHANGE = "--resume may change it"
MayChange = Annotated[T, MAY_CHANGE]
"""A flag that a resumed run may have otherwise: it does not change what the next step computes."""


@dataclass(frozen=True)
class Before:
    """On a flag: what runs did that are older than it, where that is not its default."""

    value: object


def before(flags: type) -> dict[str, Any]:
    """What `Before` says of the fields of `flags`, by their names.

    >>> class Flags:
    ...     fit: Annotated[str, Before("stretch")] = "crop"
    ...     seed: int = 0
    >>> before(Flags)
    {'fit': 'stretch'}
    """
    return {
        name: note.value
        for name, hint in get_type_hints(flags, include_extras=True).items()
        for note in getattr(hint, "__metadata__", ())
        if isinstance(note, Before)
    }


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every command line has; its fields become flags."""

    flag_of = dict[str, str]()
    """Flags for arguments of the library that are not called as they are: see `as_flags`."""

    debug: MayChange[bool] = False
    """Show the traceback of an error."""

    def validate(self) -> None:
        """Raise `UsageError` for the first flag that cannot work."""

    def completed(self: C, given: Set[str]) -> C:
        """With what flags that are not `given` are taken from elsewhere, such as an earlier run."""
        return self


def run(config_class: type[C], main: Callable[[C], int], argv: Sequence[str] | None = None) -> int:
    """Parse `argv` into `config_class`, call `main` with it, and return the process's exit code.

    Codes: 0 done, 1 bug, 2 usage, 3 data, 4 weights, 5 storage, 6 numerical, 7 memory,
    8 another process
    lost, 130/143 interrupted (Ctrl-C / SIGTERM). `--debug` lets the traceback through.
    """
    make_lossy()
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    try:
        config = parse(config_class, argv)
        config.validate()
        config = config.completed(given(sys.argv[1:] if argv is None else argv))
        config.validate()
        with as_peer_lost():
            return main(config)
    except KeyboardInterrupt:
        fix = "Fix: run it again, with --resume if it had begun to train"
        return _complain(f"interrupted. {fix}", 128 + signal.SIGINT, debug)
    except Stopped as stopped:
        print(as_flags(str(stopped), config_class.flag_of), file=sys.stderr)
        return stopped.exit_code
    except MnistjaxError as error:
        return _complain(as_flags(str(error), config_class.flag_of), error.exit_code, debug)
    except Exception as error:
        if _is_memory(error):
            return _complain("memory: none left. Fix: pass a smaller --batch-size", 7, debug)
        if _NOT_DETERMINISTIC.search(str(error)):
            why = "a part of the model has no such form on this device"
            refused = UsageError("--deterministic", why, fix="drop it, or pass --platform cpu")
            return _complain(str(refused), refused.exit_code, debug)
        if isinstance(error, OSError):  # of which nobody before made a better error
            fix = "check that it may be read and written, and that the disk has room"
            why = error.strerror or str(error)
            storage = StorageError(str(error.filename or "storage"), why, fix=fix)
            return _complain(str(storage), storage.exit_code, debug)
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        fix = "Fix: run again with --debug and report the traceback as a bug"
        return _complain(f"unexpected {what.rstrip('.')}. {fix}", 1, debug)


# XLA's words, for an operation it has in no deterministic form and for a full memory.
_NOT_DETERMINISTIC = re.compile(r"UNIMPLEMENTED.*determinis", re.IGNORECASE | re.DOTALL)
_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)


def _is_memory(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return full or isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)))


def parse(config_class: type[C], argv: Sequence[str] | None = None) -> C:
    """Read the command line with tyro; the box it prints becomes a one-line `UsageError`."""
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                config_class,
                prog=f"python -m {main_module()}",
                args=argv,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as exit_:
        if exit_.code == 0:  # --help
            raise
    lines = [line.strip(" │|") for line in _read(said).splitlines()]
    inside = "\n".join(lines[1:-1])  # the box's edges; its lines are dashes where ─ has no code
    parts = [part.strip() for part in re.split(r"(?m)^[─-]{4,}$", inside) if part.strip()]
    meant = re.search(r"Perhaps you meant:\s+(--[\w-]+)", "\n".join(parts))
    fix = f"did you mean {meant.group(1)}? " if meant else ""
    why = parts[0].replace("{None}|", "")
    raise UsageError("command line", why, fix=f"{fix}--help lists every flag")


def given(argv: Sequence[str]) -> set[str]:
    """The fields that `argv` has flags for.

    >>> sorted(given(["--batch-size", "8", "--no-cache-features", "--seed=1"]))
    ['batch_size', 'cache_features', 'seed']
    """
    flags = (word.split("=")[0][2:].replace("-", "_") for word in argv if word.startswith("--"))
    return {flag.removeprefix("no_") for flag in flags}


def _read(file: io.TextIOWrapper) -> str:
    file.seek(0)
    return file.read()


def main_module() -> str:
    """The dotted name of the program running: what stands after `python -m`."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else "experiments"


def _complain(line: str, code: int, debug: bool) -> int:
    if debug:
        raise
    print(f"error: {line}", file=sys.stderr)
    peers.end_at_once(code)
    return code

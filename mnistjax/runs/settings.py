"""config.json: what a run was made with, and whether a resumed one is the same run."""

import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import jax

from mnistjax.cli import MAY_CHANGE, before
from mnistjax.data.dataset import Dataset
from mnistjax.errors import StorageError, warn
from mnistjax.files import versions, write_json
from mnistjax.runs.directory import CONFIG, began, read_config


class Setting(NamedTuple):
    """One setting of a run, as plain JSON, and what a resumed run may do about it."""

    value: Any
    may_change: bool = False
    """Whether a resumed run may have another one: it does not change what the steps compute."""
    absent: Any = None
    """What it was in runs made before there was this setting."""
    given_by: tuple[str, ...] = ()
    """Of a digest: the arguments by which came what it is of. A path may change, what lies there
    may not."""
    told: str = ""
    """What else changes where it does, for a warning."""


Settings = Mapping[str, Setting]


def settings_of(flags: Any) -> dict[str, Setting]:
    """Every field of a dataclass of flags; `cli.MayChange` and `cli.Before` say what it allows.

    >>> from mnistjax.cli import MayChange
    >>> @dataclasses.dataclass
    ... class Flags:
    ...     seed: int = 0
    ...     quiet: MayChange[bool] = True
    >>> [tuple(setting)[:3] for setting in settings_of(Flags(seed=1)).values()]
    [(1, False, 0), (True, True, True)]
    """
    settings, hints = {}, get_type_hints(type(flags), include_extras=True)
    then = before(type(flags))
    for field in dataclasses.fields(flags):
        settings[field.name] = Setting(
            _plain(getattr(flags, field.name)),
            may_change=MAY_CHANGE in getattr(hints[field.name], "__metadata__", ()),
            absent=_plain(then.get(field.name, field.default)),
        )
    return settings


def settings_for(flags: Any, data: Dataset, epochs: Setting) -> dict[str, Setting]:
    """`settings_of` the flags, with the epochs they come to, the classes and the data's digest."""
    return settings_of(flags) | {
        "epochs": epochs,
        "class_names": Setting([*data.class_names], may_change=True),
        "dataset_sha256": Setting(data.sha256, given_by=("dataset", "data_dir")),
    }


def setting_of_epochs(epochs: int, *, falls: str) -> Setting:
    """How many; of a rate that falls over all of them, and to what, what more of them do to it."""
    anew = "so it starts to fall anew from where it stopped"
    told = f"the rate falls {falls} over all epochs, {anew}" if falls else ""
    return Setting(epochs, may_change=True, told=told)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def write_config(directory: Path, settings: Settings) -> None:
    """Write `config.json`; a run that is there keeps the time it began."""
    path = directory / CONFIG
    start = began(directory) if path.exists() else time.time()
    values = {name: setting.value for name, setting in settings.items()}
    write_json(path, values | {"began": start, "made_with": made_with()})


def made_with() -> dict[str, Any]:
    """What the bits of a result depend on beside the settings."""
    device = {"backend": jax.default_backend(), "device": jax.devices()[0].device_kind}
    machine = device | {"devices": jax.device_count(), "threads": _threads()}
    settings = {name: getattr(jax.config, name, default) for name, default in _DEFAULTS.items()}
    return versions() | machine | settings | {"xla_flags": _xla_flags()}


# Settings of JAX that change what a step computes, and what they are where nobody sets them.
_DEFAULTS = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
}


def _xla_flags() -> str:
    """XLA_FLAGS in one order, without those that only say how many devices there are or dump."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    silent = "--xla_force_host_platform_device_count", "--xla_dump", "--xla_gpu_deterministic_ops"
    return " ".join(sorted(flag for flag in flags if not flag.startswith(silent)))


def _threads() -> int:
    """How many XLA's CPU backend uses: NPROC, or the cores this process may run on."""
    nproc = os.environ.get("NPROC", "")
    if nproc.isdecimal() and int(nproc):
        return int(nproc)
    cores = getattr(os, "sched_getaffinity", None)  # not on macOS, not on Windows
    return len(cores(0)) if cores else os.cpu_count() or 1


def check_same_run(directory: Path, settings: Settings) -> None:
    """Raise `StorageError` naming each setting that differs from those `directory` was made with.

    Data may come by another road, but must be the same: its digest is compared. A setting that the
    run does not know counts as what it was then. Other versions, devices or thread counts only
    warn: the result is right, not bit for bit.
    """
    before = read_config(directory)
    changed = {
        name: before.get(name, setting.absent)
        for name, setting in settings.items()
        if not setting.may_change and setting.value != before.get(name, setting.absent)
    }
    if changed:
        raise _refusal(directory, settings, before, changed)
    for name, setting in settings.items():
        was = before.get(name)
        if setting.told and was is not None and was != setting.value:
            warn(f"resuming {directory}: {name} {setting.value} (was {was}): {setting.told}")
    then, now = _DEFAULTS | {"xla_flags": ""} | before.get("made_with", {}), made_with()
    other = [
        f"{name} {now[name]} (was {then.get(name)})" for name in now if then.get(name) != now[name]
    ]
    if other:
        warn(f"resuming {directory}: not bit-exact with its first part: {', '.join(other)}")


def _refusal(
    directory: Path, settings: Settings, before: dict[str, Any], changed: dict[str, Any]
) -> StorageError:
    what, fixes = [], {}
    for name in sorted(changed, key=lambda name: (bool(settings[name].given_by), name)):
        if roads := settings[name].given_by:
            what.append(f"{roads[0]} is not what this run had")
            fixes |= {road: before.get(road) for road in roads}
        else:
            what.append(f"{name} {settings[name].value} (was {changed[name]})")
            fixes[name] = changed[name]
    off = {name for name, value in fixes.items() if value is None or value is False}
    dropped = [f"`{name}`" for name in fixes if name in off]
    passed = [f"`{name}={value!r}`" for name, value in fixes.items() if name not in off]
    parts = [f"{word} {' '.join(of)}" for word, of in (("pass", passed), ("drop", dropped)) if of]
    return StorageError(
        f"resuming {directory}", f"changed: {', '.join(what)}", fix=" and ".join(parts) or _ANEW
    )


_ANEW = "start anew with another `directory`"

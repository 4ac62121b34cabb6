"""Is it the same run? And where in its epoch did it stop?"""

import json
import os
from pathlib import Path
from typing import Any

import jax

from mnistjax.errors import StorageError, warn
from mnistjax.files import versions
from mnistjax.runs.log import read_rows
from mnistjax.training.metrics import Metrics

# Flags that do not change what the next step computes.
FREE = {"epochs", "early_stopping", "keep", "resume", "output", "platform", "tensorboard"}
FREE |= {"debug", "quiet", "dataset", "data_dir", "allow_unverified_data"}
FREE |= {"weights", "cache_features", "cache_limit", "deterministic"}
# Digests of what came by these flags: a path may change, what lies there may not.
DIGESTS = {"dataset_sha256": ("dataset", "data_dir"), "weights_sha256": ("weights",)}


def made_with() -> dict[str, Any]:
    """What the bits of a result depend on beside the settings."""
    device = {"backend": jax.default_backend(), "device": jax.devices()[0].device_kind}
    return versions() | device | {"devices": jax.device_count(), "threads": _threads()}


def _threads() -> int:
    """How many XLA's CPU backend uses: NPROC, or the cores this process may run on."""
    nproc = os.environ.get("NPROC", "")
    if nproc.isdecimal() and int(nproc):
        return int(nproc)
    cores = getattr(os, "sched_getaffinity", None)  # not on macOS, not on Windows
    return len(cores(0)) if cores else os.cpu_count() or 1


def check_same_run(directory: Path, settings: dict[str, Any]) -> None:
    """Raise `StorageError` naming each setting that differs from those `directory` was made with.

    Data may come by another road (`--data-dir`), but must be the same: its digest is compared.
    Other versions, devices or thread counts only warn: the result is right, not bit for bit.
    """
    try:
        before = {**json.loads((directory / "config.json").read_text())}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        fix = "start anew with another --output"
        raise StorageError(f"{directory / 'config.json'}", str(error), fix=fix) from error
    _refuse_other_settings(directory, settings, before)
    then, now = before.get("made_with", {}), made_with()
    other = [
        f"{name} {now[name]} (was {then.get(name)})" for name in now if then.get(name) != now[name]
    ]
    if other:
        warn(f"--resume {directory}: not bit-exact with its first part: {', '.join(other)}")


def _refuse_other_settings(
    directory: Path, settings: dict[str, Any], before: dict[str, Any]
) -> None:
    changed = [name for name in settings.keys() - FREE if settings[name] != before.get(name)]
    if not changed:
        return
    digests = [name for name in changed if name in DIGESTS]
    others = sorted(set(changed) - set(digests))
    what = [f"{name} {settings[name]} (was {before.get(name)})" for name in others]
    what += [f"{DIGESTS[name][0]} is not what this run had" for name in digests]
    flags = others + [flag for name in digests for flag in DIGESTS[name]]
    fix = " ".join(f"--{name.replace('_', '-')} {before.get(name)}" for name in flags)
    raise StorageError(f"--resume {directory}", f"changed: {', '.join(what)}", fix=f"pass {fix}")


def refuse_lost_checkpoints(directory: Path) -> None:
    """Raise `StorageError` if a run without checkpoints has had one: it would start at step 0.

    An epoch's row is written before its checkpoint, so a second row tells that the first was saved.
    """
    rows = read_rows(directory / "metrics.jsonl")
    epochs = sum(row["kind"] == "epoch" for row in rows)
    if epochs > 1:
        why = f"has no checkpoint left, after {epochs} epochs"
        fix = "put checkpoints/ back from a copy, or start anew with another --output"
        raise StorageError(f"--resume {directory}", why, fix=fix)


def so_far(extra: dict[str, Any]) -> tuple[Metrics, float]:
    """Metrics and seconds of the epoch a checkpoint was saved in; none at an epoch's end."""
    if "so_far" not in extra:
        return Metrics.zero(), 0.0
    return Metrics(*extra["so_far"]), extra["train_seconds"]

"""Is it the same run? And where in its epoch did it stop?"""

import json
from pathlib import Path
from typing import Any

from mnistjax.errors import StorageError
from mnistjax.training.metrics import Metrics

# Flags that do not change what the next step computes.
FREE = {"epochs", "early_stopping", "keep", "resume", "output", "platform", "tensorboard"}
FREE |= {"debug", "quiet", "dataset", "data_dir", "allow_unverified_data"}
FREE |= {"weights", "cache_features", "cache_limit", "deterministic"}
# Digests of what came by these flags: a path may change, what lies there may not.
DIGESTS = {"dataset_sha256": ("dataset", "data_dir"), "weights_sha256": ("weights",)}


def check_same_run(directory: Path, settings: dict[str, Any]) -> None:
    """Raise `StorageError` naming each setting that differs from those `directory` was made with.

    Data may come by another road (`--data-dir`), but must be the same: its digest is compared.
    """
    try:
        before = json.loads((directory / "config.json").read_text())
    except (OSError, ValueError) as error:
        fix = "start anew with another --output"
        raise StorageError(f"{directory / 'config.json'}", str(error), fix=fix) from error
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


def so_far(extra: dict[str, Any]) -> tuple[Metrics, float]:
    """Metrics and seconds of the epoch a checkpoint was saved in; none at an epoch's end."""
    if "so_far" not in extra:
        return Metrics.zero(), 0.0
    return Metrics(*extra["so_far"]), extra["train_seconds"]

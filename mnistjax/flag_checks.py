"""Checks of flags, before jax is imported: each raises `UsageError` in the words of the user."""

import math
import os
from pathlib import Path
from typing import NoReturn

from mnistjax.errors import UsageError


def refuse(name: str, value: object, why: str, good: str | None = "1") -> NoReturn:
    """Raise `UsageError` for the flag of `name`, whose value could be `good`; None: drop it.

    >>> refuse("train_size", 0, "must be at least 1")
    Traceback (most recent call last):
    mnistjax.errors.UsageError: --train-size 0: must be at least 1. Fix: pass --train-size 1
    """
    flag = f"--{name.replace('_', '-')}"
    fix = f"drop {flag}" if good is None else f"pass {flag} {good}"
    raise UsageError(f"{flag} {value}", why, fix=fix)


def check_positive(name: str, value: float | None, good: str) -> None:
    """Refuse what is no finite number above 0."""
    if value is not None and not (math.isfinite(value) and value > 0):
        refuse(name, value, "must be a positive number", good)


def check_share(name: str, value: float) -> None:
    """Refuse what does not lie from 0 to below 1."""
    if not 0 <= value < 1:
        refuse(name, value, "must lie in 0..1", "0.1")


def check_path(name: str, path: Path) -> None:
    """Refuse a path that no file system has."""
    if any(ord(character) < 32 or ord(character) == 127 for character in str(path)):
        refuse(name, ascii(str(path)), "holds a control character", "DIR")
    if max((len(os.fsencode(part)) for part in path.parts), default=0) > 255:
        refuse(name, f"{str(path)[:40]}...", "holds a name of more than 255 bytes", "DIR")

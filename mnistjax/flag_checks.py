"""Flags, before jax is imported: checks in the words of the user, and arguments as flags."""

import math
import os
import re
from collections.abc import Mapping
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


def check_least(name: str, value: int | None, least: int) -> None:
    """Refuse what is less than `least`."""
    if value is not None and value < least:
        refuse(name, value, f"must be at least {least}", str(least))


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


def as_flags(text: str, flag_of: Mapping[str, str] | None = None) -> str:
    """The arguments that `text` names in backquotes as the flags of a command line.

    `flag_of` says what is not called as the argument is, or of one value: `{"verify=False": "--any"}`.

    >>> as_flags("`batch_size` 3: pass `batch_size=8`, `resume=True`, `cache=False` or `cut='a'`")
    '--batch-size 3: pass --batch-size 8, --resume, --no-cache or --cut a'
    >>> as_flags("pass another `directory`", {"directory": "--output"})
    'pass another --output'
    """  # noqa: E501

    def flag(match: re.Match[str]) -> str:
        name, value = match.group(1), match.group(2)
        if whole := (flag_of or {}).get(f"{name}={value}"):
            return whole
        flag = (flag_of or {}).get(name, f"--{name.replace('_', '-')}")
        if value == "False":
            return flag.replace("--", "--no-", 1)
        return flag if value in (None, "True") else f"{flag} {value.strip(chr(39))}"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", flag, text)

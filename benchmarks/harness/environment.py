"""On what a number was measured: no result is written without it."""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from mnistjax.errors import UsageError
from mnistjax.platforms import JAX_NAMES

ISA = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
# In a process of its own: a GPU or TPU that this one held, no cell could use.
DEVICE = """
import json, jax
first = jax.devices()[0]
facts = {"platform": first.platform, "device_kind": first.device_kind}
print(json.dumps(facts | {"device_count": jax.device_count()}))
"""


def environment(*, threads: int, on: str | None = None) -> dict[str, Any]:
    """Device, CPU, instruction sets, cores, versions, flags, commit, load and date, now.

    From here on every child process computes on platform `on` (default: the best there is), and
    this one on its CPU. Raises `UsageError` if there is no such device.
    """
    before = load()
    device = _device(on)
    import jax

    jax.config.update("jax_platforms", "cpu")
    info = _read("/proc/cpuinfo")
    flags = set(_field("flags", info).split()) | set(_field("Features", info).split())
    return device | {
        "cpu": _field("model name", info) or platform.processor() or platform.machine(),
        "cpu_family_model": f"{_field('cpu family', info)}/{_field('model', info)}",
        "isa": [name for name in ISA if name in flags],
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "flags": _flags(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "-uno")),
        "load_before": before,
        "date": datetime.date.today().isoformat(),
    }


def _device(on: str | None) -> dict[str, Any]:
    if on:
        os.environ["JAX_PLATFORMS"] = JAX_NAMES[on]
    command = [sys.executable, "-c", DEVICE]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        fix = "pass --platform cpu, or install the extra for that device (cuda, tpu)"
        raise UsageError(f"--platform {on}", "JAX finds no such device", fix=fix) from error
    device = json.loads(said.splitlines()[-1])
    os.environ["JAX_PLATFORMS"] = JAX_NAMES[device["platform"]]
    return device | _driver() if device["platform"] == "gpu" else device


def _driver() -> dict[str, str]:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"driver": said.splitlines()[0].strip()} if said else {}


def _flags() -> dict[str, str]:
    """XLA's, JAX's and malloc's variables; where they name a path of this machine, not which."""
    ours = ("XLA_", "JAX_", "GLIBC_", "MALLOC_")
    names = [name for name in os.environ if name.startswith(ours) and name != "JAX_PLATFORMS"]
    return {name: re.sub(r"(?<!\w)/[^\s,:;]+", "PATH", os.environ[name]) for name in sorted(names)}


def load() -> float | None:
    """The load average of the last minute, where the system tells."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _field(name: str, text: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1) if found else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _memory_gib() -> int | None:
    kib = _field("MemTotal", _read("/proc/meminfo")).split()
    return round(int(kib[0]) / 2**20) if kib else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""

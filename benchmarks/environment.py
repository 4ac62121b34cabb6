"""On what a number was measured: no result is written without it."""

import datetime
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ISA = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def environment(*, threads: int) -> dict[str, Any]:
    """CPU, instruction sets, cores, versions, flags, commit, load and date of this machine now."""
    import jax

    info = _read("/proc/cpuinfo")
    flags = set(_field("flags", info).split()) | set(_field("Features", info).split())
    return {
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "cpu": _field("model name", info) or platform.processor() or platform.machine(),
        "cpu_family_model": f"{_field('cpu family', info)}/{_field('model', info)}",
        "isa": [name for name in ISA if name in flags],
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "flags": {n: v for n, v in os.environ.items() if n.startswith(("XLA_", "JAX_"))},
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "-uno")),
        "load_before": load(),
        "date": datetime.date.today().isoformat(),
    }


def load() -> float | None:
    """The load average of the last minute, where the system tells."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def slug(facts: dict[str, Any]) -> str:
    """A file name for results of this kind of machine.

    >>> slug({"platform": "cpu", "cpu": "AMD EPYC", "isa": ["avx2", "avx512f"], "threads": 2})
    'cpu-amd-epyc-avx512f-2-threads'
    """
    isa = next((n for n in reversed(ISA) if n in facts["isa"] and n in ("avx512f", "avx2")), "")
    name = facts["cpu"] if facts["platform"] == "cpu" else facts["device_kind"]
    words = f"{facts['platform']} {name} {isa} {facts['threads']} threads"
    return "-".join(re.findall(r"[a-z0-9]+", words.lower()))


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

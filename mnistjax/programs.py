"""What JAX compiles is kept in the user's cache directory, and found there by the next run."""

import hashlib
import platform
import shutil
from pathlib import Path
from typing import Any

from mnistjax.cache_dir import cache_dir
from mnistjax.errors import warn

LIMIT_BYTES = 2**29  # a run of the small CNN leaves 0.6 MB


def keep_programs(wanted: bool = True) -> None:
    """Switch on JAX's persistent compilation cache, of at most `LIMIT_BYTES`; or off, not `wanted`.

    JAX decides what is the same program: by the program itself, its options, versions, devices and
    flags. A directory that it was told of before (`JAX_COMPILATION_CACHE_DIR`) stays. An entry that
    cannot be read is a warning of JAX's, and compiled anew; a place that cannot be written is told
    once.
    """
    import jax  # not before it is needed: `platforms`, which calls this, is read for --help, too

    config: Any = jax.config

    if not wanted:
        config.update("jax_enable_compilation_cache", False)
    if not wanted or config.jax_compilation_cache_dir:
        return
    place = cache_dir() / "programs" / _processor()
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "writable").touch()
        if shutil.disk_usage(place).free < LIMIT_BYTES:
            raise OSError(None, "no room left on the disk")
    except OSError as error:
        warn(f"{place}: {error.strerror or error}; programs are compiled in every run")
        return
    config.update("jax_compilation_cache_dir", str(place))
    config.update("jax_compilation_cache_max_size", LIMIT_BYTES)
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _processor() -> str:
    """A name for this kind of processor: a home directory may be shared by machines of several.

    >>> len(_processor()) > 8
    True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    about = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return f"{platform.machine()}-{hashlib.sha256(repr(about).encode()).hexdigest()[:12]}"

"""Memory of a CPU's programs stays with the process instead of coming anew for each call."""

import ctypes
import os
import platform
import sys
from pathlib import Path

# Of glibc's malloc.h, and of Linux's mman.h.
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
HUGE_PAGES, HUGE_PAGE = 14, 2**21
RESERVED = 2**32
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


def keep_host_memory() -> bool:
    """Let glibc keep what is freed, in pages of 2 MiB; whether it was done.

    XLA asks for all that a program needs on its way at each call. What is larger than 32 MiB glibc
    gets from the kernel every time, 4 KiB after 4 KiB, each wiped: ResNet-18's step, 579 MiB, made
    150,000 page faults a call, and no more after this. MobileNetV2 (docs/performance.md) trained
    1.6 times as fast.

    For the whole process and for good: it keeps the most it ever needed. Nothing happens, and it
    says False, once JAX has devices, whose threads have heaps of their own by then; without glibc;
    and under a kernel that promises no more memory than it has.

    >>> keep_host_memory() in (True, False)
    True
    """
    if _jax_has_devices() or platform.libc_ver()[0] != "glibc" or _text(OVERCOMMIT) == "2":
        return False
    libc = ctypes.CDLL(None)
    done = [libc.mallopt(ARENA_MAX, 1), libc.mallopt(MMAP_MAX, 0), libc.mallopt(TRIM_THRESHOLD, -1)]
    if not all(done):
        return False
    if "[madvise]" in _text(THP):
        _reserve_huge_pages(libc)
    return True


def _reserve_huge_pages(libc: ctypes.CDLL) -> None:
    """Make the heap `RESERVED` larger, which costs nothing untouched, and ask for huge pages."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    libc.free(libc.malloc(min(RESERVED, memory // 2)))
    for line in _text(Path("/proc/self/maps")).splitlines():
        if line.endswith("[heap]"):
            start, end = (int(place, 16) for place in line.split()[0].split("-"))
            start = -(-start // HUGE_PAGE) * HUGE_PAGE
            libc.madvise(start, max(0, end - start), HUGE_PAGES)


def _jax_has_devices() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")  # no public name tells without making them
    return bool(bridge and getattr(bridge, "backends_are_initialized", bool)())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

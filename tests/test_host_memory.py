"""Memory that programs on a CPU need again and again is asked of the kernel once."""

import platform
import subprocess
import sys

import jax
import pytest

from mnistjax import host_memory, platforms
from mnistjax.host_memory import keep_host_memory

# 64 MB on its way: glibc gives back what is larger than 32 MiB.
CALLS = """
import resource, sys
from mnistjax.platforms import choose_platform
if sys.argv[1] == "kept":
    choose_platform("cpu", keep_programs=False)
import jax, jax.numpy as jnp
step = jax.jit(lambda x, w: (jax.lax.optimization_barrier(jnp.sin(x @ w)) @ w.T).sum())
x, w = jnp.ones((1_000_000, 4)), jnp.ones((4, 16))
step = step.lower(x, w).compile()
for call in range(8):
    if call == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x, w).block_until_ready()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
pages = step.memory_analysis().temp_size_in_bytes / resource.getpagesize()
print(faults / 4 / pages)
"""


def faults_of(way):
    command = [sys.executable, "-c", CALLS, way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.cpu
def test_a_program_called_again_makes_no_page_faults():
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("this C library has no such settings")
    assert faults_of("as it is") > 0.9  # every page of it, each time
    assert faults_of("kept") < 0.2


def test_where_it_cannot_be_done_nothing_is(monkeypatch, tmp_path):
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: pytest.fail("called"))
    jax.devices()
    assert not keep_host_memory()
    monkeypatch.setattr(host_memory, "_jax_has_devices", lambda: False)
    monkeypatch.setattr(host_memory, "OVERCOMMIT", tmp_path / "overcommit_memory")
    (tmp_path / "overcommit_memory").write_text("2\n")
    assert not keep_host_memory()
    (tmp_path / "overcommit_memory").unlink()
    monkeypatch.setattr(host_memory.platform, "libc_ver", lambda: ("", ""))
    assert not keep_host_memory()


@pytest.mark.parametrize("chosen", ["cpu", None])
def test_a_run_on_a_cpu_keeps_it(chosen, monkeypatch):
    asked = []
    monkeypatch.setattr(platforms, "keep_host_memory", lambda: asked.append(chosen))
    monkeypatch.setattr(platforms.programs, "keep_programs", lambda wanted: None)
    platforms.choose_platform(chosen)
    assert asked == [chosen]

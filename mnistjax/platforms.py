"""The kinds of device that `platform` names, what JAX calls them, and choosing one."""

import os

from mnistjax import programs
from mnistjax.errors import UsageError
from mnistjax.host_memory import keep_host_memory

# JAX's own "gpu" means CUDA and ROCm both, and fails for want of the other one.
JAX_NAMES = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
PLATFORMS = tuple(JAX_NAMES)


def choose_platform(
    platform: str | None, *, deterministic: bool = False, keep_programs: bool = True
) -> None:
    """Let JAX use `platform`, or what it finds best; before anything of JAX has run.

    `deterministic`: on a GPU only operations with the same bits in every run. `keep_programs`: what
    is compiled is kept for the next run (`programs.keep_programs`). A CPU's memory is kept from
    call to call (`keep_host_memory`). Raises `UsageError`, with the devices there are, if there is
    none of that kind.
    """
    import jax  # not before it is needed: this file is read for --help, too

    if deterministic:  # read when the device is chosen, below
        flags = os.environ.get("XLA_FLAGS", ""), "--xla_gpu_deterministic_ops=true"
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()
    if platform:
        jax.config.update("jax_platforms", JAX_NAMES[platform])
    if platform in (None, "cpu"):
        keep_host_memory()
    programs.keep_programs(keep_programs)
    try:
        jax.devices()
    except Exception as error:  # RuntimeError, AssertionError, and what plugins raise
        what, fix = f"`platform` {platform}", "pass `platform=cpu`, or install what it needs"
        if platform is None:
            what, fix = f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS')}", "unset it, or set cpu"
        said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        why = f"there is no such device, only {_found()} ({said})"
        raise UsageError(what, why, fix=fix) from error


def in_xla_flags(name: str) -> bool:
    """Whether XLA_FLAGS sets the option `name`, which is then not ours to choose.

    >>> in_xla_flags("xla_no_such_option")
    False
    """
    return f"--{name}=" in os.environ.get("XLA_FLAGS", "")


def _found() -> str:
    """The devices that JAX finds when it may choose."""
    import jax

    jax.config.update("jax_platforms", None)
    try:
        kinds = {f"{device.platform} ({device.device_kind})" for device in jax.devices()}
    except Exception:
        return "cpu"
    return ", ".join(sorted(kinds))

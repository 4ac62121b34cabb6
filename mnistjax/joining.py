"""Joining other processes of one program: by `jax.distributed`."""

import os
import socket
import threading
from typing import Any

from mnistjax.errors import PeerLost, UsageError
from mnistjax.peers import LOST, Watch, leave, leave_on_abort

JOIN = 60
"""Seconds to wait for all processes at the start."""


def distributed(
    coordinator: str | None = None,
    *,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: int = JOIN,
) -> None:
    """Make this process one of several; call it before JAX looks for a device.

    `coordinator` is HOST:PORT, where process 0 listens, on that address and no other. Without it
    JAX asks Slurm, Open MPI, a Cloud TPU or Kubernetes (`jax.distributed.initialize`). From then on
    steps go over the devices of all, and one that ends or is silent for 15 s ends the others, with
    `PeerLost` and exit code 8. Raises `UsageError` for arguments that contradict each other and
    for a call that comes too late, and `PeerLost` if not all have come after `timeout` seconds.
    """
    check_processes(coordinator, num_processes, process_id)
    import jax

    _refuse_late()
    more: dict[str, Any] = {}
    if coordinator is not None:
        # gRPC would ask a proxy for the way to a machine next door, and hang.
        host = coordinator.rpartition(":")[0]
        if process_id == 0:
            _refuse_taken(coordinator)
        known = [os.environ.get(name) for name in ("no_proxy", "NO_PROXY")]
        os.environ["no_proxy"] = ",".join([*filter(None, known), host])
        more = {
            "coordinator_address": coordinator,
            "coordinator_bind_address": coordinator,
            "num_processes": num_processes,
            "process_id": process_id,
            "cluster_detection_method": "deactivate",
        }
    jax.config.update("jax_check_proxy_envs", False)  # it would warn of the line above
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else pages of gRPC where a peer ends
    alone = _not_all_came(coordinator, process_id, timeout)
    leave_on_abort(alone)  # as JAX's client does where the coordinator has others of this number
    # JAX's own limit ends in an abort, and pages of C++.
    lonely = threading.Timer(timeout, leave, [alone])
    lonely.daemon = True
    lonely.start()
    try:
        jax.distributed.initialize(
            initialization_timeout=2 * timeout,
            heartbeat_timeout_seconds=10 * LOST,  # ours comes first, and names who is lost
            shutdown_timeout_seconds=LOST,
            **more,
        )
    except Exception as error:
        raise _not_joined(coordinator, " ".join(str(error).split())[:160]) from error
    finally:
        lonely.cancel()
    leave_on_abort(PeerLost("process 0", "has ended", fix=PeerLost.FIX))
    Watch().start()


def check_processes(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Raise `UsageError` where the three do not say together who this process is."""
    given = {"num_processes": num_processes, "process_id": process_id}
    if coordinator is None:
        for name, value in given.items():
            if value is not None:
                fix = "pass `coordinator='HOST:PORT'`, too"
                raise UsageError(f"`{name}` {value}", "says nothing alone", fix=fix)
        return
    for name, value in given.items():
        if value is None:
            fix = f"pass `{name}={'2' if name == 'num_processes' else '0'}`"
            raise UsageError(f"`coordinator` {coordinator}", f"needs `{name}`", fix=fix)
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        fix = "pass `coordinator='127.0.0.1:9876'`"
        raise UsageError(f"`coordinator` {coordinator}", "is no HOST:PORT", fix=fix)
    if num_processes is not None and num_processes < 1:
        raise UsageError(f"`num_processes` {num_processes}", "must be at least 1", fix="pass 2")
    if process_id not in range(num_processes or 0):
        why = f"must lie in 0..{(num_processes or 1) - 1}"
        raise UsageError(f"`process_id` {process_id}", why, fix="pass `process_id=0`")


def _refuse_late() -> None:
    """Raise `UsageError` where JAX could not join any more."""
    import jax
    from jax._src.xla_bridge import backends_are_initialized  # no public name tells it

    if jax.distributed.is_initialized():
        why, fix = "this process has joined already", "call it once, before all else"
    elif backends_are_initialized():
        why, fix = (
            "JAX has its devices already",
            "call it before the first array or `jax.devices()`",
        )
    else:
        return
    raise UsageError("`distributed`", why, fix=fix)


def _not_joined(coordinator: str | None, said: str) -> UsageError:
    if coordinator is not None:
        fix = "pass the address of process 0, as the others see it"
        return UsageError(f"`coordinator` {coordinator}", f"could not be joined ({said})", fix=fix)
    fix = "pass `coordinator`, `num_processes` and `process_id`"
    return UsageError("`distributed=True`", f"no cluster was found ({said})", fix=fix)


def _refuse_taken(coordinator: str) -> None:
    """Raise `UsageError` where process 0 cannot listen."""
    host, _, port = coordinator.rpartition(":")
    try:
        with socket.create_server((host.strip("[]"), int(port))):
            pass
    except OSError as error:
        fix = "pass another port, or start only one process as number 0"
        why = f"cannot be listened at: {error.strerror}"
        raise UsageError(f"`coordinator` {coordinator}", why, fix=fix) from error


def _not_all_came(coordinator: str | None, process_id: int | None, timeout: int) -> PeerLost:
    who = "not all processes came" if process_id == 0 else "no answer, or not all processes came"
    fix = "start each number once, with the same coordinator, where it can be reached"
    return PeerLost(f"coordinator {coordinator}", f"{who} within {timeout} s", fix=fix)

"""Joining other processes, and leaving when one of them is lost: by `jax.distributed`."""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from mnistjax.errors import PeerLost, UsageError
from mnistjax.flag_checks import as_flags

JOIN, LOST = 60, 15
"""Seconds to wait for all processes at the start, and after which a silent one counts as lost."""
BEAT = 1.0  # seconds between two signs of life


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
    `PeerLost` and exit code 8. Raises `UsageError` for arguments that contradict each other, and
    `PeerLost` if not all have come after `timeout` seconds.
    """
    check_processes(coordinator, num_processes, process_id)
    import jax

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
    _leave_on_abort()
    # JAX's own limit ends in an abort, and pages of C++.
    lonely = threading.Timer(timeout, leave, [_not_all_came(coordinator, process_id, timeout)])
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
        said = " ".join(str(error).split())[:160]
        fix = "pass `coordinator`, `num_processes` and `process_id`"
        raise UsageError("`distributed=True`", f"no cluster was found ({said})", fix=fix) from error
    finally:
        lonely.cancel()
    _Watch().start()


def _leave_on_abort() -> None:
    """JAX's client aborts where the coordinator is gone, after words of its own: exit code 8, too.

    A handler of Python's would wait for the main thread, which waits for who is gone; one of C runs
    at once. (`missed_heartbeat_callback` ends in std::bad_cast, jaxlib 0.10.2.)
    """
    lost = PeerLost("process 0", "has ended", fix=PeerLost.FIX)
    _kept.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: leave(lost)))
    ctypes.CDLL(None).signal(signal.SIGABRT, _kept[-1])


_kept: list[Any] = []  # what C holds and Python must not throw away; empty in a process alone


def end_at_once(code: int) -> None:
    """End one of several processes that has failed: at its usual end it would wait for all."""
    if _kept:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


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


class _Watch:
    """Signs of life in the coordinator's store, and the end where one stays out.

    Collectives notice a process that ends: its connections close. One that stands still, or a
    cable that is pulled, they wait for; JAX's own heartbeat then aborts with a page of C++.
    """

    def __init__(self) -> None:
        import jax
        from jax._src.distributed import global_state  # no public road to the store

        self._store: Any = global_state.client
        self._id = jax.process_index()
        self._others = [i for i in range(jax.process_count()) if i != self._id]
        self._seen: dict[int, tuple[str, float]] = {}
        self._answered = time.monotonic()

    def start(self) -> None:
        """Two threads, gone with the process: the store itself may be what does not answer."""
        if self._others:
            for work in (self._live, self._judge):
                threading.Thread(target=work, daemon=True, name="mnistjax peers").start()

    def _live(self) -> None:
        beat = 0
        while True:
            beat += 1
            try:
                self._store.key_value_set(f"mnistjax/{self._id}", str(beat), allow_overwrite=True)
                for key, value in self._store.key_value_dir_get("mnistjax/"):
                    process = int(key.rpartition("/")[2])
                    if self._seen.get(process, ("", 0.0))[0] != value:
                        self._seen[process] = value, time.monotonic()
                self._answered = time.monotonic()
            except Exception:  # told by `_judge`, if it lasts
                pass
            time.sleep(BEAT)

    def _judge(self) -> None:
        started = time.monotonic()
        while True:
            time.sleep(BEAT)
            now = time.monotonic()
            lost = [i for i in self._others if now - self._seen.get(i, ("", started))[1] > LOST]
            if now - self._answered > LOST:
                lost = [0]
            if lost:
                names = ", ".join(map(str, lost))
                leave(PeerLost(f"process {names}", f"silent for {LOST} s", fix=PeerLost.FIX))


def leave(error: PeerLost) -> None:
    """End this process at once with the line of `error`, from any thread."""
    os.write(2, f"error: {as_flags(str(error))}\n".encode())
    os._exit(error.exit_code)

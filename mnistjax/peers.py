"""Leaving when another process of one program is lost, with one line and exit code 8."""

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

from mnistjax.errors import PeerLost
from mnistjax.flag_checks import as_flags

LOST = 15
"""Seconds after which a silent process counts as lost."""
BEAT = 1.0  # seconds between two signs of life


def leave_on_abort(error: PeerLost) -> None:
    """JAX's client aborts where the coordinator is gone: then `error`, after words of its own.

    A handler of Python's would wait for the main thread, which waits for who is gone; one of C runs
    at once. (`missed_heartbeat_callback` ends in std::bad_cast, jaxlib 0.10.2.)
    """
    _kept.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: leave(error)))
    ctypes.CDLL(None).signal(signal.SIGABRT, _kept[-1])


_kept: list[Any] = []  # what C holds and Python must not throw away; empty in a process alone


def end_at_once(code: int) -> None:
    """End one of several processes that has failed: at its usual end it would wait for all."""
    if _kept:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Watch:
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

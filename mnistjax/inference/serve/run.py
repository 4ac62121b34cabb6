"""A socket, and an app served on it until a signal."""

import errno
import os
import signal
import socket
import threading
from types import FrameType
from typing import Any

from mnistjax.errors import UsageError
from mnistjax.inference.serve.requests import LOOPBACK, is_loopback


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port`, 0 for any; raise `UsageError` if that cannot be.

    >>> listening("256.0.0.1", 0)
    Traceback (most recent call last):
    mnistjax.errors.UsageError: `host` 256.0.0.1: there is no such address. Fix: pass `host=127.0.0.1`
    """  # noqa: E501
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        what, why = f"`host` {host}", "there is no such address"
        raise UsageError(what, why, fix="pass `host=127.0.0.1`") from error
    bound = socket.socket(family, kind)
    try:
        if os.name == "posix":  # on Windows it would take another's port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise _refused(host, port, error) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """Where a browser finds what is served on it."""
    address, port = bound.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def names_of(bound: socket.socket, host: str) -> frozenset[str] | None:
    """The names by which it may be asked: this machine's, where only this machine reaches it."""
    return LOOPBACK | {host.lower()} if is_loopback(bound.getsockname()[0]) else None


def _refused(host: str, port: int, error: OSError) -> UsageError:
    other = port + 1 if 1024 <= port < 65535 else 8000
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"`port` {port}", "is in use", fix=f"pass `port={other}`")
    if error.errno == errno.EADDRNOTAVAIL:
        why = "is no address of this machine"
        return UsageError(f"`host` {host}", why, fix="pass `host=127.0.0.1`")
    return UsageError(f"`port` {port}", str(error.strerror), fix=f"pass `port={other}`")


def serve_until_signal(app: Any, bound: socket.socket) -> int | None:
    """Serve `app` on `bound`; the number of the signal that ended it.

    Requests under way have 3 s to end; a second signal ends them at once.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        # uvicorn ends at these, puts our handlers back and sends the signal once more.
        before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return caught[0] if caught else None

"""Why a download failed, by its own name, and the one action that helps: never "no connection"."""

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import NameResolutionError, ProtocolError

BUNDLE = "set REQUESTS_CA_BUNDLE to the file with your network's certificates"
PASSWORD = "set HTTPS_PROXY to http://NAME:PASSWORD@HOST:PORT"  # noqa: S105  a form to fill in
PROXY = "check the environment's HTTPS_PROXY"
CLOCK = "set this machine's clock, which the certificate's dates are compared with"
PORTAL = "open the address in a browser: a login page or a proxy may stand in between"
ROOM = "free some space"


def reason(error: Exception, url: str) -> tuple[str, str]:
    """What stopped the download of `url`, and what helps; "" where only other files would.

    The URL of a proxy, which may hold a password, is in neither.

    >>> reason(requests.ConnectionError(ConnectionRefusedError(111, "refused")), "https://a.org/x")
    ('a.org refused the connection', '')
    >>> reason(OSError("Tunnel connection failed: 407 Proxy Authentication Required"), "https://a")[0]
    'the proxy wants a name and a password (407)'
    """
    host = urlsplit(url).hostname or url
    causes = list(_causes(error))
    if tls := next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None):
        return _tls(tls, host)
    proxied = isinstance(error, requests.exceptions.ProxyError)
    whose = "the proxy" if proxied else host
    told = _answer(error) or _tunnel(causes) or _lookup(causes, whose)
    if told is None and (cause := next(_system(causes), None)) is not None:
        told = _errno(cause, whose)
    return told or (_timeout_or_break(error, causes, whose), PROXY if proxied else "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what lies beneath it: urllib3 keeps causes in `args`, `reason`, `__cause__`."""
    waiting, seen = [error], []
    while waiting:
        here = waiting.pop(0)
        if not isinstance(here, BaseException) or any(here is one for one in seen):
            continue
        seen.append(here)
        yield here
        waiting += [*here.args, getattr(here, "reason", None), here.__cause__, here.__context__]


def _tls(error: ssl.SSLError, host: str) -> tuple[str, str]:
    if not isinstance(error, ssl.SSLCertVerificationError):
        why = re.sub(r"_+", " ", error.reason or "no TLS").lower()
        return f"{host} does not speak TLS as it should ({why})", PORTAL
    why = error.verify_message or str(error)
    if "expired" in why or "not yet valid" in why:
        fix = CLOCK
    else:
        fix = PORTAL if "mismatch" in why else BUNDLE
    return f"the certificate of {host} is not trusted ({why})", fix


def _answer(error: Exception) -> tuple[str, str] | None:
    if not isinstance(error, requests.HTTPError) or error.response is None:
        return None
    return _status(error.response.status_code, "the server answered")


def _tunnel(causes: list[BaseException]) -> tuple[str, str] | None:
    found = re.search(r"Tunnel connection failed: (\d{3})", " ".join(map(str, causes)))
    return _status(int(found[1]), "the proxy answered") if found else None


def _status(code: int, who: str) -> tuple[str, str]:
    if code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return "the proxy wants a name and a password (407)", PASSWORD
    return f"{who} {code}", PROXY if "proxy" in who else ""


def _lookup(causes: list[BaseException], whose: str) -> tuple[str, str] | None:
    if not any(isinstance(cause, NameResolutionError | socket.gaierror) for cause in causes):
        return None
    if whose == "the proxy":
        return "the name of the proxy was not found (DNS)", PROXY
    return f"the name {whose} was not found (DNS)", ""


def _system(causes: list[BaseException]) -> Iterator[OSError]:
    """The errors of the system itself: requests' own are OSErrors without a number."""
    return (cause for cause in causes if isinstance(cause, OSError) and cause.errno is not None)


def _errno(error: OSError, whose: str) -> tuple[str, str]:
    fix = PROXY if whose == "the proxy" else ""
    if error.errno == errno.ECONNREFUSED:
        return f"{whose} refused the connection", fix
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
        return f"no way to {whose} ({os.strerror(error.errno)})", fix
    if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
        return f"{whose} broke off the connection", fix
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or 'the cache'})", ROOM
    return error.strerror or str(error), fix


def _timeout_or_break(error: Exception, causes: list[BaseException], whose: str) -> str:
    if isinstance(error, requests.Timeout):
        return f"{whose} gave no answer in time"
    if any(isinstance(cause, ProtocolError) for cause in causes):
        return f"{whose} broke off the connection"
    return str(error)

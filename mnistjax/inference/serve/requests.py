"""What a request may be: its host, its kind, its size; everything else is refused in JSON."""

import asyncio
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse

MOST_BYTES = 10_000_000
SECONDS = 30  # for a body to arrive
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Refused(Exception):
    """An answer of 4xx or 5xx: what is wrong, and what mends it."""

    def __init__(self, status: int, error: str, fix: str) -> None:
        super().__init__(error)
        self.status, self.error, self.fix = status, " ".join(error.split()), fix

    def response(self) -> JSONResponse:
        """It as JSON."""
        return JSONResponse({"error": self.error, "fix": self.fix}, self.status)


async def picture_bytes(request: Request) -> bytes:
    """The body of `request`, a picture; raise `Refused` for what can be none.

    A form's content types are no picture's: a page of another site can send nothing else without
    asking first.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/octet-stream" and not kind.startswith("image/"):
        fix = "send the bytes of the file, with Content-Type: image/png"
        raise Refused(415, f"{kind[:80]} is no picture", fix)
    claimed = request.headers.get("content-length", "")
    if claimed.isdigit() and int(claimed[:20]) > MOST_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise _too_large()
    except TimeoutError:
        why = f"the picture did not arrive within {SECONDS} s"
        raise Refused(408, why, "send a smaller one") from None
    if not body:
        raise Refused(400, "the request holds no picture", "send the bytes of the file as its body")
    return bytes(body)


def number(request: Request, name: str) -> int:
    """The small whole number that the address gives under `name`, 0 if none."""
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise Refused(400, f"{name} is no small whole number", f"send {name}=0")
    return int(text)


def known_host(header: str, hosts: Collection[str]) -> bool:
    """Whether a request's `Host` names one of `hosts`: another site's name may lead here, too.

    >>> known_host("localhost:8000", LOOPBACK), known_host("[::1]:80", LOOPBACK)
    (True, True)
    >>> known_host("evil.example", LOOPBACK), known_host("[", LOOPBACK)
    (False, False)
    """
    try:
        return urlsplit(f"//{header}").hostname in hosts
    except ValueError:
        return False


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches `address`.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    return ipaddress.ip_address(address).is_loopback


def _too_large() -> Refused:
    return Refused(413, f"the picture has more than {MOST_BYTES:,} bytes", "send a smaller one")

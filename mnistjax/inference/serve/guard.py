"""Around every answer: whose host it is, and what a browser may do with it."""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnistjax.inference.serve.requests import Refused, known_host

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def page_policy(nonce: str) -> str:
    """The Content-Security-Policy of the page: its own script and style, and nothing from outside.

    >>> "script-src 'nonce-x'" in page_policy("x")
    True
    """
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


class Guard:
    """An ASGI app that gives `HEADERS` to the answers of `app`, where they are not set already.

    With `hosts`, requests by any other name are refused: a site whose name is made to lead to this
    machine (DNS rebinding) is then none the wiser.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None = None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if self._hosts is None or known_host(host, self._hosts):
            await self._app(scope, receive, send_guarded)
        else:
            refused = Refused(421, "this is no name of this server", "open it as localhost")
            await refused.response()(scope, receive, send_guarded)

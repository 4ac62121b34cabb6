"""The server as an ASGI app: a page, and three questions about a picture in JSON."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mnistjax.errors import DataError, warn
from mnistjax.inference.classifier import Classifier
from mnistjax.inference.serve.guard import Guard, page_policy
from mnistjax.inference.serve.requests import Refused
from mnistjax.inference.serve.service import Service

Endpoint = Callable[[Request], Awaitable[dict[str, Any]]]


def make_app(
    classifier: Classifier,
    *,
    training: Callable[[], Any] | None = None,
    hosts: Collection[str] | None = None,
) -> Starlette:
    """An app that answers for `classifier`: `GET /` is the page, the rest is JSON.

    `POST /predict`, `/inside` and `/where` take the bytes of a picture: see docs/serve.md. What
    cannot be answered is `{"error", "fix"}` with a status of 4xx, a fault of ours 500; nothing is
    written, and no request names a file. `training`: what fetches the images that the network was
    trained on, for the nearest of them. `hosts`: the names by which it may be asked, else any.
    """
    service = Service(classifier, training)
    page = files("mnistjax.inference.serve").joinpath("page.html").read_text("utf-8")

    async def show(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = {"Content-Security-Policy": page_policy(nonce)}
        return HTMLResponse(page.replace("{{ nonce }}", nonce), headers=policy)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/about", _answered(service.about)),
            Route("/predict", _answered(service.predict), methods=["POST"]),
            Route("/inside", _answered(service.inside), methods=["POST"]),
            Route("/where", _answered(service.where), methods=["POST"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: _no_such_thing},
    )


def _answered(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """`endpoint` with every failure as JSON of one line."""

    async def answered(request: Request) -> Response:
        try:
            return JSONResponse(await endpoint(request))
        except Refused as refused:
            return refused.response()
        except DataError as error:
            return Refused(422, f"{error.what}: {error.why}", error.fix).response()
        except (ClientDisconnect, asyncio.CancelledError):
            return Response(status_code=499)  # nobody is there to read it, or the server ends
        except MemoryError:
            return Refused(503, "no memory is left for it", "send a smaller picture").response()
        except Exception as error:
            warn(" ".join(f"{request.url.path}: {type(error).__name__}: {error}".split())[:300])
            return Refused(500, "the server failed", "its terminal says why").response()

    return answered


async def _no_such_thing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = Refused(error.status_code, f"{error.detail}".lower(), "GET / is the page")
    response = refused.response()
    response.headers.update(error.headers or {})
    return response

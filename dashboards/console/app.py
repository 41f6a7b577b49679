"""The web application: every address of the console, the right it needs, and who answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from dashboards.console import alerting, entering, looking, suppressing
from dashboards.console.access import Right
from dashboards.console.guard import Guard
from dashboards.console.pages import STATIC
from dashboards.console.visit import Console, Handler, Visit, door

_TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_KEPT: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
"""A shipped file's address has its digest."""


async def _home(visit: Visit) -> Response:
    return visit.moved("/map")


ADDRESSES: Final[tuple[tuple[str, str, Right | None, Handler], ...]] = (
    ("GET", "/", "look", _home),
    ("GET", "/map", "look", looking.show_map),
    ("GET", "/map/band/{key}", "look", looking.show_band),
    ("GET", "/map/place/{key}", "look", looking.show_place),
    ("GET", "/declaration", "look", looking.show_declaration),
    ("GET", "/declaration/drawing.svg", "look", looking.show_drawing),
    ("GET", "/coverage", "look", looking.show_coverage),
    ("GET", "/alerts", "look", alerting.show_alerts),
    ("GET", "/alerts/{id}", "look", alerting.show_alert),
    ("POST", "/alerts/{id}/decide", "decide", alerting.decide),
    ("GET", "/alerts/{id}/draft", "draft", alerting.show_draft),
    ("GET", "/suppressions", "look", suppressing.show_suppressions),
    ("POST", "/suppressions", "decide", suppressing.suppress),
    ("POST", "/suppressions/{id}/end", "decide", suppressing.unsuppress),
    ("GET", "/access", "look", entering.show_access),
    ("POST", "/access/end", "sessions", entering.end_session),
    ("GET", "/login", None, entering.show_login),
    ("POST", "/login", None, entering.login),
    ("GET", "/login/provider", None, entering.to_provider),
    ("GET", "/login/back", None, entering.from_provider),
    ("POST", "/logout", None, entering.logout),
)
"""Method, address, the right it needs (None: nobody has to be known), and who answers."""


async def _shipped(request: Request) -> Response:
    """A file that is shipped; its name is one of the folder's, so no path leads out of it."""
    name = request.path_params["name"]
    path = next((path for path in STATIC.iterdir() if path.name == name and path.suffix in _TYPES), None)
    if path is None:
        return PlainTextResponse("no such file\n", 404)
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=_KEPT)


async def _alive(request: Request) -> Response:
    return PlainTextResponse("ok\n")


def application(console: Console, names: Collection[str]) -> Starlette:
    """The application for a console that answers to these names."""

    async def missing(request: Request, error: Exception) -> Response:
        async def answer(visit: Visit) -> Response:
            return visit.refused(404, "There is no such page.")

        return await door(console, None, answer)(request) if request.method == "GET" else PlainTextResponse("no such page\n", 404)

    @contextlib.asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        yield
        console.library.close()

    addresses = [one for one in ADDRESSES if console.decides or not one[1].startswith(("/alerts", "/suppressions"))]
    routes = [Route(address, door(console, right, handler), methods=[method]) for method, address, right, handler in addresses]
    routes += [Route("/static/{name}", _shipped), Route("/health", _alive)]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, names=names, tls=console.tls)],
        exception_handlers={404: missing},
        lifespan=living,
    )

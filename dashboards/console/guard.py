"""What stands before every page: who is asked for, from which page, how much is sent, and the headers that bind the browser.

- The Host header must be a name of this console (RFC 9110, 7.2): a page of the internet whose name was made to mean 127.0.0.1 (DNS
  rebinding) asks for its own name, and is answered 421.
- What changes something must come from a page of ours: Origin and Sec-Fetch-Site (Fetch Metadata) say so, the form's token besides.
- Nothing is loaded but what is shipped, no script or style stands in a page (CSP 3), no other page may frame one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORM_BYTES_MAX: Final = 64 * 1024
"""A form of the console is a few hundred bytes."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": the browser would then send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}

_STRICT_TRANSPORT: Final = "max-age=31536000"
_SAFE: Final = ("GET", "HEAD")


class Guard:
    """The application behind its guard; ``names`` are what a browser may call this console."""

    def __init__(self, app: ASGIApp, names: Collection[str], *, tls: bool) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)
        self._tls = tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI 3.0)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self._tls:
                    headers.setdefault("Strict-Transport-Security", _STRICT_TRANSPORT)
            await send(message)

        refused = self._refused(scope["method"], Headers(scope=scope))
        if refused is not None:
            status, why = refused
            await PlainTextResponse(why + "\n", status)(scope, receive, bound)
            return
        await self._app(scope, receive, bound)

    def _refused(self, method: str, headers: Headers) -> tuple[int, str] | None:
        asked = headers.getlist("host")
        if len(asked) != 1 or host_of(asked[0]) not in self._names:
            return 421, "this console does not answer to that name"
        if method in _SAFE:
            return None
        if method != "POST":
            return 405, "GET, HEAD and POST only"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "sent by a page of another site"
        origin = headers.get("origin")
        if origin is not None and _authority(origin) != asked[0].lower():
            return 403, "sent by a page of another origin"
        if number(headers.get("content-length", ""), FORM_BYTES_MAX) is None:
            return 413, f"a form of at most {FORM_BYTES_MAX} bytes, its length said"
        return None


def number(text: str, most: int) -> int | None:
    """A number from 0 to ``most``; None of anything else, however long it is and whatever is called a digit."""
    found = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    return None if found is None or found > most else found


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def host_of(authority: str) -> str:
    """The host of a Host header, without its port; the brackets of IPv6 go too (RFC 3986, 3.2.2)."""
    try:
        return (urlsplit("//" + authority).hostname or "").lower()
    except ValueError:
        return ""

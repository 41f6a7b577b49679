"""A browser of few words: what a test asks a console with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from hopwatch.events import time_ns

EXAMPLES = Path(__file__).parents[3] / "examples"
DECLARATION = EXAMPLES / "plant-demo.yaml"
NOW_NS = time_ns("2026-11-21T16:21:00Z")
"""A little after the recorded day."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Browser:
    """Sends what a browser sends, keeps cookies, and knows the token of the page it was on."""

    def __init__(self, app: Any, base: str = "http://127.0.0.1:8710", client: str = "127.0.0.1", console: Any = None) -> None:
        # Any: an ASGI application, and the console behind it for tests that look there.
        self._transport = httpx.ASGITransport(app, client=(client, 50_000))
        self._base = base
        self.console = console
        self.cookies = httpx.Cookies()
        self.token = ""

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:  # Any: arguments of httpx.
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url=self._base, cookies=self.cookies) as client:
                answer = await client.request(method, path, **more)
                self.cookies = client.cookies
                return answer

        answer = asyncio.run(send())
        found = re.search(r'name="token" value="([^"]+)"', answer.text)
        self.token = found[1] if found else self.token
        return answer

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, token: str | None = None, **fields: str) -> httpx.Response:
        body = urlencode({"token": self.token if token is None else token, **fields})
        return self.request("POST", path, content=body, headers={"content-type": "application/x-www-form-urlencoded"})


Make = Callable[..., Browser]

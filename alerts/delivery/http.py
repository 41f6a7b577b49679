"""HTTP as destinations speak it: one client, one deadline for a whole exchange, and what an answer's status means.

A status about the *letter* (400, 409 to 411, 413 to 415, 422, 431) refuses it for good. A status about the *destination* or about us
(401, 403, 404, 405, 407, 5xx, redirections) is put right by a person or by time: the letter waits (docs/decisions/0031). 429 and 503 may
say for how long (RFC 9110, 10.2.3; RFC 6585, 4).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from alerts.delivery import Refused, Retry

ANSWER_BYTES_MAX: Final = 64 << 10
"""Bytes read of an answer."""

AFTER_S_MAX: Final = 3600.0
"""The longest a receiver may make us wait."""

LETTER: Final = frozenset((400, 409, 410, 411, 413, 414, 415, 422, 431))
"""What is wrong with the letter, not with where it goes."""


class Http:
    """A client for one receiver; redirections are not followed, and no proxy is used that was not named."""

    def __init__(
        self, tls: ssl.SSLContext, *, timeout_s: float, token: str | None, proxy: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timeout_s, self._clock = timeout_s, clock
        headers = {"User-Agent": "hopwatch", "Accept": "application/json, */*;q=0.5"}
        if token is not None:
            headers["Authorization"] = token
        self._client = httpx.Client(
            verify=tls,
            timeout=httpx.Timeout(timeout_s),
            headers=headers,
            proxy=proxy,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=30.0),
        )

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, httpx.Headers]:
        """Status, body and headers of the answer.

        Raises:
            Retry: there was none within the time-out, over however many small pieces.
        """
        until = self._clock() + self._timeout_s
        answer = bytearray()
        try:
            with self._client.stream("POST", url, content=body, headers=dict(headers)) as response:
                for piece in response.iter_bytes():
                    answer += piece[: ANSWER_BYTES_MAX - len(answer)]
                    if len(answer) >= ANSWER_BYTES_MAX:
                        break
                    if self._clock() > until:
                        raise Retry(f"no whole answer within {self._timeout_s:g} s")
                return response.status_code, bytes(answer), response.headers
        except httpx.TimeoutException as error:
            raise Retry(f"no answer within {self._timeout_s:g} s ({type(error).__name__})") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise Retry(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        self._client.close()


def judge(status: int, headers: httpx.Headers, *, whole: bool = False, now_s: Callable[[], float] = time.time) -> None:
    """Return if the status says that the receiver has it.

    Raises:
        Retry, Refused: what it says instead; of the answer's text nothing is quoted, which may repeat the letter.
    """
    if 200 <= status < 300:
        return
    why = f"HTTP {status}"
    if status in LETTER:
        raise Refused(why, whole=whole)
    if status in (401, 403, 407):
        why += ": we are not let in; look at the token"
    elif status in (404, 405) or 300 <= status < 400:
        why += ": not the address of such a receiver"
    raise Retry(why, after_s=_after_s(headers.get("Retry-After"), now_s))


def _after_s(said: str | None, now_s: Callable[[], float]) -> float | None:
    """Seconds, or a date, of Retry-After (RFC 9110, 10.2.3); None if there is none that can be read."""
    if said is None:
        return None
    try:
        seconds = float(said) if said.strip().isdigit() else parsedate_to_datetime(said).timestamp() - now_s()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), AFTER_S_MAX)

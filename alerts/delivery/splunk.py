"""Splunk's HTTP Event Collector, with indexer acknowledgement.

Events are posted on a channel of our own (``X-Splunk-Request-Channel``); the answer bears an ``ackId``, which is asked for at
``/services/collector/ack`` until the indexer says that the events are written (Splunk Enterprise 9, "About HTTP Event Collector Indexer
Acknowledgment"). Not acknowledged in time, they are sent again; the second is recognised by ``event_id``.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

from alerts.delivery import Item, Plain, Refused, Retry, tls
from alerts.delivery.http import Http, judge
from alerts.delivery.rendering import Render
from alerts.settings import SplunkSettings
from hopwatch.events import time_ns

ASK_S: Final = 0.5
ASK_S_MAX: Final = 10.0
"""Seconds between two questions for an acknowledgement, growing to this."""

_LETTER: Final = frozenset((5, 6, 12, 13, 15))
"""Codes of an answer with status 400 that are about the events: no data, invalid format, event field missing or blank, bad fields."""


class Splunk(Plain):
    """One collector."""

    acknowledgement = "that of the indexer: the event is written"

    def __init__(
        self,
        settings: SplunkSettings,
        render: Render,
        *,
        channel: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        assert settings.token is not None, "the settings ask for it"
        self._settings, self._render, self._clock, self._wait = settings, render, clock, wait
        self._channel = channel or str(uuid.uuid4())
        self._url = settings.address.rstrip("/") + "/services/collector"
        if not settings.acknowledge:
            self.acknowledgement = "its answer to the request; the indexer is not asked"
        self._http = Http(
            tls.context(settings.ca_file, settings.certificate_file, settings.key_file, settings.key_password),
            timeout_s=settings.timeout_s,
            token=f"Splunk {settings.token.get_secret_value()}",
            proxy=settings.proxy,
        )

    def send(self, batch: Sequence[Item]) -> None:
        body = b"".join(self._event(item) for item in batch)
        said = self._said(self._url + "/event", body, whole=len(batch) > 1)
        if not self._settings.acknowledge:
            return
        number = said.get("ackId")
        if not isinstance(number, int) or isinstance(number, bool):
            raise Retry("the collector gives no ackId: its token has no indexer acknowledgement (or set acknowledge = false)")
        self._written(number)

    def _event(self, item: Item) -> bytes:
        """One event with its metadata (Splunk, "Format events for HTTP Event Collector")."""
        rendered = self._render(item.event)
        try:
            event = json.loads(rendered)
        except ValueError:
            event = rendered.decode(errors="replace")  # A format of text: CEF, for example.
        if isinstance(event, dict) and "event" in event and "kind" not in event:
            said = event  # The format has metadata of its own.
        else:
            said = {"time": time_ns(item.event.time) / 1e9, "host": item.event.plant, "event": event}
        said = said | {"source": self._settings.source, "sourcetype": self._settings.sourcetype}
        if self._settings.index is not None:
            said["index"] = self._settings.index
        return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()

    def _written(self, number: int) -> None:
        until, pause_s = self._clock() + self._settings.acknowledge_s, ASK_S
        asked = json.dumps({"acks": [number]}).encode()
        while True:
            # The answer tells it once: the acknowledgement is removed from the channel with it.
            acks = self._said(self._url + "/ack", asked).get("acks")
            if isinstance(acks, dict) and acks.get(str(number)) is True:
                return
            if self._clock() + pause_s > until:
                raise Retry(f"the indexer has not acknowledged within {self._settings.acknowledge_s:g} s; sent again")
            self._wait(pause_s)
            pause_s = min(pause_s * 1.5, ASK_S_MAX)

    def _said(self, url: str, body: bytes, *, whole: bool = False) -> dict[str, Any]:  # Any: JSON values
        headers = {"Content-Type": "application/json", "X-Splunk-Request-Channel": self._channel}
        status, answer, more = self._http.post(url, body, headers)
        try:
            said = json.loads(answer)
        except ValueError:
            said = {}
        said = said if isinstance(said, dict) else {}
        if status == 400:
            code, text = said.get("code"), said.get("text")
            why = f"HTTP 400, code {code}: {text}" if isinstance(text, str) else "HTTP 400"
            if code in _LETTER:
                raise Refused(why, whole=whole)
            raise Retry(why)  # Of the token, the index or the channel: put right at the collector.
        judge(status, more, whole=whole)
        return said

    def close(self) -> None:
        self._http.close()

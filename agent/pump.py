"""From the spool to the broker, in a thread of its own: a broker that is slow or away never holds up the capture.

An event is taken from the spool, sent, and acknowledged to the spool once everything before it was acknowledged as well: the spool
knows one offset only. What the broker refuses for now is sent again with everything behind it, so that the order of a key holds;
what it will never take (an event too large for it) is left behind and said as a ``loss``.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from agent.spool import Spool
from hopwatch.bus import LogError

TAKE_EVENTS: Final = 512
TAKE_BYTES_MAX: Final = 2 << 20
"""Taken from the spool at once; what is in flight is bounded by the publisher."""

POLL_S: Final = 0.1
RETRY_S_MIN, RETRY_S_MAX = 0.5, 30.0
"""How long nothing is sent after a refusal; doubled for each that follows."""

_TEXT: Final = rb'(?:"[^"\\]*"|null)'
_WINDOW: Final = re.compile(
    rb'\{"kind":"flow","event_id":"([0-9a-f]{32})","plant":"([^"\\]*)","agent":%b,"tap":%b,"context":%b,"connection":"[0-9a-f]{32}",'
    % (_TEXT, _TEXT, _TEXT)
)

CLOSE_S: Final = 10.0
RENEW_S: Final = 1.0
"""How long what is on its way is waited for at the end, and before other settings are used."""


class Failure(Protocol):
    """An event the broker did not take; ``lasting`` if it never will."""

    @property
    def token(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def lasting(self) -> bool: ...


class Reports(Protocol):
    """What became of sent events; each token once."""

    @property
    def acknowledged(self) -> Sequence[int]: ...
    @property
    def failed(self) -> Sequence[Failure]: ...


class Publisher(Protocol):
    """What the pump needs of ``hopwatch.bus.kafka.Publisher``; used by one thread only."""

    trouble: str | None

    def send(self, kind: str, plant: str, event_id: str, line: bytes, token: int) -> bool:
        """Put an event on its way; False if too much is in flight."""
        ...

    def poll(self, timeout_s: float = 0.0) -> Reports:
        """What became of sent events; waits for the first at most so long."""
        ...

    def counters(self) -> dict[str, int]:
        """Totals, and what is in flight."""
        ...

    def stalled(self) -> Sequence[object]:
        """The keys that wait although the cluster answers for others."""
        ...

    def close(self, timeout_s: float = 10.0) -> Reports:
        """Wait for what is in flight; the last reports."""
        ...


def addressed(line: bytes) -> tuple[str, str, str]:
    """Kind, id and plant of an event: as the packet path writes them without parsing the rest, else by parsing it."""
    found = _WINDOW.match(line)
    if found is not None:
        return "flow", found[1].decode("ascii"), found[2].decode()
    event = json.loads(line)
    return event["kind"], event["event_id"], event["plant"]


class Pump:
    """Publishes what the spool holds until ``stop``; the publisher is made in the pump's thread and used nowhere else."""

    def __init__(self, spool: Spool, publisher: Callable[[], Publisher], clock: Callable[[], float]) -> None:
        self._spool, self._make, self._clock = spool, publisher, clock
        self._publisher: Publisher | None = None
        self._sent: deque[int] = deque()
        self._open: set[int] = set()
        """Offsets of which nothing was heard yet; ``_failed`` those to be sent again."""
        self._failed: set[int] = set()
        self._taken: list[tuple[int, bytes]] = []
        self._not_before_s = 0.0
        self._retry_s = RETRY_S_MIN
        self._close_s = CLOSE_S
        self._stopping = threading.Event()
        self._renewing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._counters: dict[str, int] = {}
        self.error: str | None = None
        """Why the pump ended by itself: the spool could not be read or written, or the settings are wrong."""
        self.trouble: str | None = None
        """What is wrong with the cluster, as far as it said; None while it acknowledges."""
        self.stalls = 0
        self.published_total = 0
        self.repeated_total = 0
        self.refused_total = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def renew(self, publisher: Callable[[], Publisher]) -> None:
        """Go on with another publisher: the settings have changed."""
        self._make = publisher
        self._renewing.set()

    def stop(self, timeout_s: float = CLOSE_S) -> None:
        """End; what waits is published while the broker answers, and stays in the spool if it was not acknowledged."""
        self._close_s = timeout_s
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def lives(self) -> bool:
        """Whether it still publishes."""
        return self._thread.is_alive()

    def counters(self) -> dict[str, int]:
        """What the publisher counted, as of its last poll."""
        return dict(self._counters)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.step(POLL_S)
            end_s = self._clock() + self._close_s
            while self._spool.waiting() and (self.trouble is None or self._renewing.is_set()) and self._clock() < end_s:
                self.step(POLL_S)
            self.close(RENEW_S)
        except LogError as error:
            self.error = str(error)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Let go of the broker."""
        if self._publisher is not None:
            self._settle(self._publisher.close(timeout_s))
            self._publisher = None

    def step(self, timeout_s: float) -> None:
        """Send what may be sent, then hear what became of it; waits at most ``timeout_s`` for that."""
        if self._renewing.is_set():
            self._renewing.clear()
            self.close(RENEW_S)
            self._again()
            self.trouble = None
        if self._publisher is None:
            self._publisher = self._make()
        sent = False
        if not self._failed and self._clock() >= self._not_before_s:
            sent = self._send(self._publisher)
        reports = self._publisher.poll(0.0 if sent else timeout_s)
        self._counters, self.stalls = self._publisher.counters(), len(self._publisher.stalled())
        self.trouble = self._publisher.trouble or self.trouble
        self._settle(reports)

    def _send(self, publisher: Publisher) -> bool:
        """Send what was taken; whether there may be more."""
        if not self._taken:
            self._taken = self._spool.take(TAKE_EVENTS, min(TAKE_BYTES_MAX, self._spool.size_bytes_max // 16))
        for at, (offset, line) in enumerate(self._taken):
            kind, event_id, plant = addressed(line)
            if not publisher.send(kind, plant, event_id, line, offset):
                self._taken = self._taken[at:]
                return False
            self._sent.append(offset)
            self._open.add(offset)
        more, self._taken = bool(self._taken), []
        return more

    def _settle(self, reports: Reports) -> None:
        self._open.difference_update(reports.acknowledged)
        self.published_total += len(reports.acknowledged)
        if reports.acknowledged:
            self._retry_s, self.trouble = RETRY_S_MIN, None
        for failure in reports.failed:
            self._open.discard(failure.token)
            if failure.lasting:
                self._spool.refuse(failure.token, failure.reason)
                self.refused_total += 1
            else:
                self._failed.add(failure.token)
                self.trouble = failure.reason
        end: int | None = None
        while self._sent and self._sent[0] not in self._open and self._sent[0] not in self._failed:
            end = self._sent.popleft()
        if end is not None:
            self._spool.acknowledge(end + 1)
        if self._failed and not self._open:
            # What followed a refused event may have arrived before it: it is sent again behind it, and known by its id.
            self.repeated_total += len(self._sent)
            self._again()
            self._not_before_s = self._clock() + self._retry_s
            self._retry_s = min(RETRY_S_MAX, 2 * self._retry_s)

    def _again(self) -> None:
        """Begin once more at what the spool still has."""
        self._sent.clear()
        self._open.clear()
        self._failed.clear()
        self._taken = []
        self._spool.rewind()

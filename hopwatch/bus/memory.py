"""The log of a run that keeps nothing: events wait in memory for the judge, and end with the process.

The contract is that of every log. Durable it cannot be, so it is for runs without a store: there a file would be deleted unread.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from hopwatch.bus import EVENT_BYTES_MAX, LogError, LogFull
from hopwatch.bus.embedded import LOG_BYTES_MAX, READ_EVENTS_MAX


class MemoryLog:
    """A log of at most ``size_bytes_max`` bytes of events."""

    def __init__(self, *, size_bytes_max: int = LOG_BYTES_MAX) -> None:
        self.size_bytes_max = size_bytes_max
        self._events: deque[bytes] = deque()
        self._first = 0
        self._size_bytes = 0
        self._consumers: dict[str, int] = {}

    def append(self, events: list[bytes]) -> int:
        """Add all events or none; returns the offset behind the last one."""
        size_bytes = sum(map(len, events))
        if max(map(len, events), default=0) > EVENT_BYTES_MAX:
            raise LogError(f"log in memory: an event of more than {EVENT_BYTES_MAX} bytes")
        if self._size_bytes + size_bytes > self.size_bytes_max:
            raise LogFull(f"log in memory: no room for more events: its bound of {self.size_bytes_max} bytes is reached")
        self._events.extend(events)
        self._size_bytes += size_bytes
        return self.end()

    def read(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        """At most ``limit`` events (and never more than READ_EVENTS_MAX) from ``offset`` on."""
        start = max(offset, self._first)
        place = start - self._first
        return list(enumerate(islice(self._events, place, place + min(limit, READ_EVENTS_MAX)), start))

    def commit(self, consumer: str, offset: int) -> None:
        """Remember ``offset`` for ``consumer`` and forget what every consumer has finished."""
        self._consumers[consumer] = max(offset, self.committed(consumer))
        finished = min(*self._consumers.values(), self.end())
        while self._first < finished:
            self._size_bytes -= len(self._events.popleft())
            self._first += 1

    def committed(self, consumer: str) -> int:
        """The offset ``consumer`` reads next; 0 if it never committed."""
        return self._consumers.get(consumer, 0)

    def end(self) -> int:
        """The offset the next appended event gets."""
        return self._first + len(self._events)

    def close(self) -> None:
        """Nothing is pending."""

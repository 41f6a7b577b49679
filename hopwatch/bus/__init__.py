"""How events travel: one durable, ordered log that is appended to, read from an offset, and committed by each consumer.

Offsets are those of Kafka, so that both implementations keep one contract: the first event has offset 0, reading from an
offset includes it, and what a consumer commits is the offset it wants to read next. Delivery is at least once: a consumer
that stops between its work and its commit reads the same events again, and the store recognises them by their ids. The log
itself therefore looks into no event.
"""

from __future__ import annotations

from typing import Protocol

EVENT_BYTES_MAX = 1 << 20
"""The largest event the log takes; also the default message limit of a Kafka broker."""


class LogError(Exception):
    """The log cannot be opened, read or written; the message is one line for the person who runs it."""


class LogDamaged(LogError):
    """The log's file is none, or is broken inside; what it holds cannot be relied on."""


class LogFull(LogError):
    """The log's bound or the disk is reached; the events of the refused append are still the caller's."""


class Log(Protocol):
    """One ordered log of events, each one JSON object as UTF-8 bytes."""

    def append(self, events: list[bytes]) -> int:
        """Add all events or none; returns the offset behind the last one.

        Raises:
            LogFull: there is no room; nothing of ``events`` was written.
        """
        ...

    def read(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        """At most ``limit`` events from ``offset`` on, each with its own offset; empty at the end of the log.

        An offset whose event was trimmed yields the oldest one that is kept.
        """
        ...

    def commit(self, consumer: str, offset: int) -> None:
        """Remember that ``consumer`` has finished everything below ``offset``; it never moves backwards."""
        ...

    def committed(self, consumer: str) -> int:
        """The offset ``consumer`` reads next; 0 if it never committed."""
        ...

    def end(self) -> int:
        """The offset the next appended event gets."""
        ...

    def close(self) -> None:
        """Write out what is pending and let go of the log; idempotent."""
        ...

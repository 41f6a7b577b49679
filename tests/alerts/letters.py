"""Alerts and queues for the tests of delivery."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psycopg

from alerts.outbox import Connection, Letter, Outbox, letter, open_outbox, queue
from hopwatch.events import Alert, Finding, time_text

T0_NS = 1_775_558_528 * 10**9
"""2026-04-07T10:42:08Z"""


def alert(number: int = 0, **said: Any) -> Alert:
    """The raised alert of one account; ``said`` are other fields of it."""
    who = f"svc_{number}"
    identity = blake2b(who.encode(), digest_size=16).hexdigest()
    revision = said.get("revision", 0)
    finding = Finding.model_validate(
        {
            "event_id": blake2b(f"finding {identity}".encode(), digest_size=16).hexdigest(),
            "finding_id": identity,
            "verdict": "undeclared-hop",
            "severity": said.get("severity", "critical"),
            "plant": said.get("plant", "north"),
            "first_seen": time_text(T0_NS),
            "last_seen": time_text(T0_NS),
            "who": who,
            "source": "10.40.2.10:5432",
            "destination": "10.40.9.77:0",
            "observed": {"rows": 1204331, "bytes": 851443712, "objects": ["genealogy"], "classes": ["process_ip"]},
            "nearest_hop": "extract-quality",
        }
    )
    fields: dict[str, Any] = {
        "event_id": blake2b(f"alert {identity} {revision}".encode(), digest_size=16).hexdigest(),
        "alert_id": f"A-{identity}",
        "revision": revision,
        "plant": "north",
        "time": time_text(T0_NS),
        "change": "raised",
        "why": "first seen",
        "severity": "critical",
        "techniques": ["T0882"],
        "group": f"north/{who}",
        "raised": time_text(T0_NS),
        "page": "docs/verdicts/undeclared-hop.md",
        "finding": finding,
    }
    return Alert.model_validate(fields | said)


def letters(destination: str, numbers: range, **said: Any) -> list[Letter]:
    """Letters that raise alerts."""
    return [letter(destination, alert(number, **said)) for number in numbers]


class Book:
    """A database of queues, as the alert book has it: one writer, any number of outboxes."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.outbox().close()
        self._writer: Connection
        if address.startswith("postgresql://"):
            self._writer = psycopg.connect(address, autocommit=True)
        else:
            self._writer = sqlite3.connect(address, isolation_level=None)

    def outbox(self) -> Outbox:
        """Another user of the queues."""
        return open_outbox(self.address)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The transaction in which somebody writes an alert."""
        if isinstance(self._writer, psycopg.Connection):
            with self._writer.transaction():
                yield self._writer
            return
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise

    def queue(self, some: list[Letter], now_ns: int = T0_NS, **more: int) -> int:
        """Queue them, in a transaction of their own."""
        with self.transaction() as db:
            return queue(db, some, now_ns, **more)

    def close(self) -> None:
        self._writer.close()


@contextmanager
def book(kind: str, folder: Path, postgres: Any) -> Iterator[Book]:
    """Queues in a file or in PostgreSQL."""
    made = Book(postgres() if kind == "postgresql" else str(folder / "store.db.alerts"))
    try:
        yield made
    finally:
        made.close()

"""The outbox: what waits for each destination, durable, bounded and in order.

A revision of an alert and the letters that tell of it are written in one transaction (a transactional outbox), so that neither is
there without the other: ``queue`` takes the caller's open transaction and writes into it. The sender of a destination, in a
thread or a process of its own, reads its letters from the front, and takes away what the destination has. What it took
away after sending and before a crash is sent again: at least once, and ``event_id`` tells the second. ::

    queue(db, [letter("siem", alert)], now_ns)          # within the transaction that wrote the alert

    outbox = open_outbox("hopwatch.db.alerts")          # or postgresql://…
    for one in outbox.waiting("siem", 100):
        ...
    outbox.sent("siem", [one.place], now_ns)

One SQL for SQLite and PostgreSQL. ``delivery_destinations`` has one row a destination. Taking the next places locks that row until
the transaction ends, so that the order of places is the order of commits, also with several writers.

The bound: DELIVERIES_MAX letters a destination. Beyond it the oldest updates of the lowest severity go first, then those of higher
ones, last what people decided; each is counted and said. A letter that raises an alert never goes: there are no more of those than
the book has alerts, and by how many they stand above the bound is said too (``QueueState.over``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import psycopg

from hopwatch.events import SEVERITIES, Alert, Decision, dump, time_ns, time_text
from hopwatch.store import StoreError, StoreFull
from hopwatch.store.postgresql import opened, spoken
from hopwatch.store.rows import sortable
from hopwatch.transaction import transaction

DELIVERIES_MAX: Final = 100_000
"""Letters that wait for one destination; of more, the oldest updates of the lowest severity go (`dropped_total`), never a raised alert."""

DEAD_MAX: Final = 10_000
"""Dead letters kept of one destination; of more, the oldest go (`dead_dropped_total`), those that raise an alert last."""

ERROR_CHARACTERS_MAX: Final = 300
"""Characters kept of what a destination said when it refused."""

CIRCUIT_FAILURES: Final = 5
"""Failures in a row after which a destination's circuit is called open."""

WAIT_S: Final = 10.0
READ_MAX: Final = 1_000
"""Letters read at once; the next ones at the next reading."""

KEPT_RANK: Final = 9
"""Of what is never dropped: it raises an alert."""

Connection = sqlite3.Connection | psycopg.Connection[Any]  # Any: SQL values.

_MADE: Final = re.compile(r"CREATE (?:TABLE|INDEX) IF NOT EXISTS (\w+)")
_TEXT_TIME: Final = 'TEXT COLLATE "C"'
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS deliveries (
        destination TEXT NOT NULL, place BIGINT NOT NULL, event_id TEXT NOT NULL, state TEXT NOT NULL, rank INTEGER NOT NULL,
        attempts BIGINT NOT NULL DEFAULT 0, queued_time {time} NOT NULL, next_time {time}, error TEXT, event TEXT NOT NULL,
        PRIMARY KEY (destination, place))""",
    "CREATE INDEX IF NOT EXISTS deliveries_by_rank ON deliveries (destination, state, rank, place)",
    "CREATE INDEX IF NOT EXISTS deliveries_by_place ON deliveries (destination, state, place)",
    """CREATE TABLE IF NOT EXISTS delivery_destinations (
        destination TEXT NOT NULL PRIMARY KEY, next_place BIGINT NOT NULL DEFAULT 0,
        waiting BIGINT NOT NULL DEFAULT 0, dead BIGINT NOT NULL DEFAULT 0,
        sent_total BIGINT NOT NULL DEFAULT 0, retried_total BIGINT NOT NULL DEFAULT 0, dead_total BIGINT NOT NULL DEFAULT 0,
        dropped_total BIGINT NOT NULL DEFAULT 0, dead_dropped_total BIGINT NOT NULL DEFAULT 0,
        failures BIGINT NOT NULL DEFAULT 0, next_time {time}, last_sent_time {time}, error TEXT, error_time {time},
        canary_event TEXT, canary_time {time}, canary_delay_ns BIGINT)""",
)
SQLITE_TABLES: Final = tuple(statement.format(time="TEXT") for statement in _TABLES)
POSTGRESQL_TABLES: Final = tuple(statement.format(time=_TEXT_TIME) for statement in _TABLES)


@dataclass(frozen=True, slots=True)
class Letter:
    """One event for one destination; ``rank`` says how soon it goes at the bound, KEPT_RANK never."""

    destination: str
    event_id: str
    rank: int
    line: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter that waits, or is dead, at its ``place`` in the queue."""

    destination: str
    place: int
    event_id: str
    attempts: int
    queued_ns: int
    error: str | None
    line: bytes


@dataclass(frozen=True, slots=True)
class QueueState:
    """How one destination stands; times are RFC 3339, None for never.

    ``failures`` are those since it last took something; ``over`` counts letters above the bound, which raise alerts.
    """

    destination: str
    waiting: int
    dead: int
    oldest_time: str | None
    sent_total: int
    retried_total: int
    dead_total: int
    dropped_total: int
    dead_dropped_total: int
    failures: int
    next_time: str | None
    last_sent_time: str | None
    error: str | None
    error_time: str | None
    canary_event: str | None
    canary_time: str | None
    canary_delay_s: float | None
    over: int = 0

    @property
    def circuit(self) -> str:
        """``closed``: it takes letters; ``retrying``: it failed; ``open``: it failed CIRCUIT_FAILURES times in a row."""
        return "closed" if not self.failures else "open" if self.failures >= CIRCUIT_FAILURES else "retrying"

    @property
    def said(self) -> str:
        """What a person should know of it besides, or nothing."""
        parts = []
        if self.dropped_total:
            parts.append(f"{self.dropped_total} updates were dropped at the bound of {DELIVERIES_MAX}, the oldest of the lowest severity")
        if self.over:
            parts.append(f"{self.over} more wait than the bound, all of them raise an alert")
        if self.dead_dropped_total:
            parts.append(f"{self.dead_dropped_total} dead letters went at the bound of {DEAD_MAX}")
        return "; ".join(parts)


class Outbox(Protocol):
    """What a sender needs of the queues. One thread at a time uses one."""

    def hold(self, destination: str) -> bool:
        """Be the one sender of a destination; False while another process is."""

    def waiting(self, destination: str, most: int) -> list[Waiting]:
        """The letters at the front, in order."""

    def sent(
        self,
        destination: str,
        places: Sequence[int],
        now_ns: int,
        *,
        canary: tuple[str, int] | None = None,
        remark: str | None = None,
    ) -> None:
        """The destination has them; ``canary`` is the event and the delay in nanoseconds of one among them, ``remark`` what it said."""

    def failed(self, destination: str, place: int, why: str, now_ns: int, next_ns: int) -> None:
        """The letter at the front did not arrive and is tried again at ``next_ns``."""

    def dead(self, destination: str, place: int, why: str, now_ns: int) -> None:
        """The destination will never take it."""

    def states(self, oldest: bool = True) -> list[QueueState]:
        """Every destination that ever had a letter, by name."""

    def dead_letters(self, destination: str | None = None, most: int = READ_MAX) -> list[Waiting]:
        """What was refused for good, oldest first."""

    def replay(self, destination: str, now_ns: int, places: Sequence[int] | None = None) -> int:
        """Put dead letters, or those at ``places``, at the end of the queue, in their order; returns how many."""

    def add(self, letters: Iterable[Letter], now_ns: int) -> None:
        """Queue letters in a transaction of their own, as a canary's."""

    def close(self) -> None:
        """Let go of the file or the database."""


def letter(destination: str, event: Alert | Decision) -> Letter:
    """The letter that tells ``destination`` of an event."""
    return Letter(destination, event.event_id, rank(event), dump(event))


def rank(event: Alert | Decision) -> int:
    """What goes first at the bound: canaries and updates by severity, then what people decided and news of a known alert."""
    if isinstance(event, Decision):
        return len(SEVERITIES)
    if event.canary:
        return 0
    if event.change == "raised":
        return KEPT_RANK
    if event.change in ("decided", "returned", "raised-again"):
        return len(SEVERITIES)
    return SEVERITIES.index(event.severity)


def queue(db: Connection, letters: Iterable[Letter], now_ns: int, most: int = DELIVERIES_MAX) -> int:
    """Write letters into the caller's open transaction; returns how many older ones went at the bound.

    Errors of the database are the caller's, who has to roll its transaction back with them.
    """
    by: dict[str, list[Letter]] = {}
    for one in letters:
        by.setdefault(one.destination, []).append(one)
    # Two writers that took the destinations' rows in different orders would wait for one another.
    return sum(_queue(db, destination, by[destination], now_ns, most) for destination in sorted(by))


def _queue(db: Connection, destination: str, letters: list[Letter], now_ns: int, most: int) -> int:
    _run(db, "INSERT INTO delivery_destinations (destination) VALUES (?) ON CONFLICT DO NOTHING", (destination,))
    taken = "UPDATE delivery_destinations SET next_place = next_place + ?, waiting = waiting + ? WHERE destination = ?"
    count = len(letters)
    ((next_place, waits),) = _run(db, f"{taken} RETURNING next_place, waiting", (count, count, destination)).fetchall()
    now = _time(now_ns)
    insert = "INSERT INTO deliveries (destination, place, event_id, state, rank, queued_time, event) VALUES (?, ?, ?, 'waiting', ?, ?, ?)"
    rows = [
        (destination, place, one.event_id, one.rank, now, one.line.decode()) for place, one in enumerate(letters, int(next_place) - count)
    ]
    if isinstance(db, sqlite3.Connection):
        db.executemany(insert, rows)
    else:
        db.cursor().executemany(insert.replace("?", "%s"), rows)
    beyond = int(waits) - most
    return _drop(db, destination, beyond) if beyond > 0 else 0


def _drop(db: Connection, destination: str, count: int) -> int:
    chosen = "SELECT place FROM deliveries WHERE destination = ? AND state = 'waiting' AND rank < ? ORDER BY rank, place LIMIT ?"
    removed = _run(
        db,
        f"DELETE FROM deliveries WHERE destination = ? AND place IN ({chosen})",
        (destination, destination, KEPT_RANK, count),
    ).rowcount
    change = "UPDATE delivery_destinations SET waiting = waiting - ?, dropped_total = dropped_total + ? WHERE destination = ?"
    _run(db, change, (removed, removed, destination))
    return int(removed)


def _lock(db: Connection, destination: str) -> None:
    """The destination's row first, as whoever queues: two that take locks in different orders would wait for one another."""
    _run(db, "UPDATE delivery_destinations SET next_place = next_place WHERE destination = ?", (destination,))


def _run(db: Connection, statement: str, values: Sequence[Any] = ()) -> Any:  # Any: a cursor of either, and SQL values.
    if isinstance(db, sqlite3.Connection):
        return db.execute(statement, values)
    return db.execute(statement.replace("?", "%s").encode(), values)


def _time(instant_ns: int) -> str:
    return sortable(time_text(instant_ns))


class _Queues(ABC):
    """The statements that SQLite and PostgreSQL share; how a transaction is made is what they do not."""

    _db: Any  # Any: a connection of either.

    @abstractmethod
    def _transaction(self, *, reads: bool = False) -> contextlib.AbstractContextManager[Connection]:
        """All of it or nothing; one that ``reads`` waits for no writer."""

    def waiting(self, destination: str, most: int) -> list[Waiting]:
        return self._letters("destination = ? AND state = 'waiting'", (destination,), most)

    def dead_letters(self, destination: str | None = None, most: int = READ_MAX) -> list[Waiting]:
        if destination is None:
            return self._letters("state = 'dead'", (), most)
        return self._letters("destination = ? AND state = 'dead'", (destination,), most)

    def _letters(self, where: str, values: Sequence[Any], most: int) -> list[Waiting]:
        columns = "destination, place, event_id, attempts, queued_time, error, event"
        with self._transaction(reads=True) as db:
            found = _run(
                db, f"SELECT {columns} FROM deliveries WHERE {where} ORDER BY destination, place LIMIT ?", (*values, min(most, READ_MAX))
            ).fetchall()
        return [
            Waiting(name, int(place), event_id, int(attempts), time_ns(queued), error, event.encode())
            for name, place, event_id, attempts, queued, error, event in found
        ]

    def sent(
        self,
        destination: str,
        places: Sequence[int],
        now_ns: int,
        *,
        canary: tuple[str, int] | None = None,
        remark: str | None = None,
    ) -> None:
        with self._transaction() as db:
            _lock(db, destination)
            removed = 0
            for place in places:
                removed += _run(db, "DELETE FROM deliveries WHERE destination = ? AND place = ?", (destination, place)).rowcount
            said = "waiting = waiting - ?, sent_total = sent_total + ?, failures = 0, next_time = NULL, last_sent_time = ?"
            values: list[Any] = [removed, len(places), _time(now_ns)]  # Any: SQL values.
            if canary is not None:
                said += ", canary_event = ?, canary_time = ?, canary_delay_ns = ?"
                values += [canary[0], _time(now_ns), canary[1]]
            if remark is not None:
                said += ", error = ?, error_time = ?"
                values += [_short(remark), _time(now_ns)]
            _run(db, f"UPDATE delivery_destinations SET {said} WHERE destination = ?", (*values, destination))

    def failed(self, destination: str, place: int, why: str, now_ns: int, next_ns: int) -> None:
        why, next_time = _short(why), _time(next_ns)
        with self._transaction() as db:
            _lock(db, destination)
            _run(
                db,
                "UPDATE deliveries SET attempts = attempts + 1, next_time = ?, error = ? WHERE destination = ? AND place = ?",
                (next_time, why, destination, place),
            )
            _run(
                db,
                "UPDATE delivery_destinations SET failures = failures + 1, retried_total = retried_total + 1, next_time = ?, error = ?,"
                " error_time = ? WHERE destination = ?",
                (next_time, why, _time(now_ns), destination),
            )

    def dead(self, destination: str, place: int, why: str, now_ns: int) -> None:
        why = _short(why)
        with self._transaction() as db:
            _lock(db, destination)
            moved = _run(
                db,
                "UPDATE deliveries SET state = 'dead', attempts = attempts + 1, next_time = NULL, error = ?"
                " WHERE destination = ? AND place = ? AND state = 'waiting'",
                (why, destination, place),
            ).rowcount
            _run(
                db,
                "UPDATE delivery_destinations SET waiting = waiting - ?, dead = dead + ?, dead_total = dead_total + ?, failures = 0,"
                " next_time = NULL, error = ?, error_time = ? WHERE destination = ?",
                (moved, moved, moved, why, _time(now_ns), destination),
            )
            self._bury(db, destination)

    def _bury(self, db: Connection, destination: str) -> None:
        """Keep DEAD_MAX dead letters."""
        dead = int(_run(db, "SELECT dead FROM delivery_destinations WHERE destination = ?", (destination,)).fetchone()[0])
        if dead <= DEAD_MAX:
            return
        # What raises an alert is the last to go; the alert itself stays in the book.
        chosen = "SELECT place FROM deliveries WHERE destination = ? AND state = 'dead' ORDER BY rank = ?, place LIMIT ?"
        gone = _run(
            db,
            f"DELETE FROM deliveries WHERE destination = ? AND place IN ({chosen})",
            (destination, destination, KEPT_RANK, dead - DEAD_MAX),
        ).rowcount
        change = "UPDATE delivery_destinations SET dead = dead - ?, dead_dropped_total = dead_dropped_total + ? WHERE destination = ?"
        _run(db, change, (gone, gone, destination))

    def replay(self, destination: str, now_ns: int, places: Sequence[int] | None = None) -> int:
        again = 0
        with self._transaction() as db:
            _lock(db, destination)
            wanted = [
                int(place)
                for (place,) in _run(
                    db, "SELECT place FROM deliveries WHERE destination = ? AND state = 'dead' ORDER BY place", (destination,)
                ).fetchall()
                if places is None or int(place) in places
            ]
            for place in wanted:
                ((next_place,),) = _run(
                    db,
                    "UPDATE delivery_destinations SET next_place = next_place + 1, waiting = waiting + 1, dead = dead - 1"
                    " WHERE destination = ? RETURNING next_place",
                    (destination,),
                ).fetchall()
                again += _run(
                    db,
                    "UPDATE deliveries SET state = 'waiting', place = ?, attempts = 0, queued_time = ? WHERE destination = ? AND place = ?",
                    (int(next_place) - 1, _time(now_ns), destination, place),
                ).rowcount
        return again

    def add(self, letters: Iterable[Letter], now_ns: int) -> None:
        with self._transaction() as db:
            queue(db, letters, now_ns)

    def states(self, oldest: bool = True) -> list[QueueState]:
        columns = (
            "destination, waiting, dead, sent_total, retried_total, dead_total, dropped_total, dead_dropped_total, failures, next_time,"
            " last_sent_time, error, error_time, canary_event, canary_time, canary_delay_ns"
        )
        front = "SELECT queued_time FROM deliveries WHERE destination = ? AND state = 'waiting' ORDER BY place LIMIT 1"
        found = []
        with self._transaction(reads=True) as db:
            for row in _run(db, f"SELECT {columns} FROM delivery_destinations ORDER BY destination").fetchall():
                name, waits, dead, sent, retried, refused, dropped, gone, failures, *times = row
                next_time, last, error, error_time, canary, canary_time, delay_ns = times
                first = _run(db, front, (name,)).fetchone() if oldest and waits else None
                state = QueueState(
                    destination=name,
                    waiting=int(waits),
                    dead=int(dead),
                    oldest_time=first[0] if first else None,
                    sent_total=int(sent),
                    retried_total=int(retried),
                    dead_total=int(refused),
                    dropped_total=int(dropped),
                    dead_dropped_total=int(gone),
                    failures=int(failures),
                    next_time=next_time,
                    last_sent_time=last,
                    error=error,
                    error_time=error_time,
                    canary_event=canary,
                    canary_time=canary_time,
                    canary_delay_s=None if delay_ns is None else int(delay_ns) / 1e9,
                    over=max(0, int(waits) - DELIVERIES_MAX),
                )
                found.append(state)
        return found


def _short(why: str) -> str:
    return " ".join(why.split())[:ERROR_CHARACTERS_MAX]


class SqliteOutbox(_Queues):
    """The queues in the file ``path``, the alert book's."""

    def __init__(self, path: str | Path) -> None:
        """Open the file (made with mode 0600), and make the tables if they are not there.

        Raises:
            StoreError: the file cannot be opened, or is none of ours.
        """
        self.path = Path(path)
        self._holders: dict[str, IO[bytes]] = {}
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=WAIT_S)
            self._db.execute("PRAGMA journal_mode = WAL")
            # What a power failure takes of a sender's words is sent once more; the alert's own transaction is the book's.
            self._db.execute("PRAGMA synchronous = NORMAL")
            for statement in SQLITE_TABLES:
                self._db.execute(statement)
        except (OSError, sqlite3.Error) as error:
            raise self._spoken(error) from error

    def _spoken(self, error: Exception) -> StoreError:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and (code & 0xFF) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return StoreFull(f"{self.path}: no room for more: the disk is full")
        return StoreError(f"{self.path}: {error}")

    @contextlib.contextmanager
    def _transaction(self, *, reads: bool = False) -> Iterator[Connection]:
        try:
            with transaction(self._db, reads=reads) as db:
                yield db
        except sqlite3.Error as error:
            raise self._spoken(error) from error

    def hold(self, destination: str) -> bool:
        """An advisory lock on a file beside the queues (flock(2)); it goes with the process."""
        if destination in self._holders:
            return True
        holder = Path(f"{self.path}.{destination}.sender").open("ab")  # noqa: SIM115  # open is what holds the lock
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder.close()
            return False
        self._holders[destination] = holder
        return True

    def close(self) -> None:
        self._db.close()
        for holder in self._holders.values():
            holder.close()
        self._holders.clear()


def make_tables(db: psycopg.Connection[Any], statements: Sequence[str], lock: int) -> None:  # Any: SQL values.
    """Make the tables and indexes that are missing; of several that begin at once one, by the advisory ``lock``.

    What is there is not made again: to find that out ``CREATE INDEX IF NOT EXISTS`` waits for every writer, and lets none begin.
    """
    names = [found[1] for statement in statements if (found := _MADE.match(statement)) is not None]
    assert len(names) == len(statements), "every statement makes something that has a name"
    missing = "SELECT count(*) FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL"
    with db.transaction():
        if db.execute(missing, (names,)).fetchall()[0][0]:
            db.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
            for statement in statements:
                db.execute(statement.encode())


class PostgresOutbox(_Queues):
    """The queues in a PostgreSQL database; a connection that was lost is made anew at the next call."""

    def __init__(self, address: str) -> None:
        """Connect, and make the tables if they are not there.

        Raises:
            StoreAway: nobody answers.
        """
        self._address = address
        self._held: set[str] = set()
        self._db = self._connected()

    def _connected(self) -> psycopg.Connection[Any]:  # Any: SQL values.
        self._held.clear()
        with spoken():
            db = opened(self._address, "hopwatch alerts")
            try:
                make_tables(db, POSTGRESQL_TABLES, zlib.crc32(b"hopwatch outbox"))
            except BaseException:
                db.close()
                raise
        return db

    @contextlib.contextmanager
    def _transaction(self, *, reads: bool = False) -> Iterator[Connection]:
        if self._db.closed:
            self._db = self._connected()
        with spoken(), self._db.transaction():
            yield self._db

    def hold(self, destination: str) -> bool:
        """An advisory lock of the session (PostgreSQL, 13.3.5); it goes with the connection."""
        if destination in self._held and not self._db.closed:
            return True
        with self._transaction() as db:
            asked = "SELECT pg_try_advisory_lock(?, ?)"
            row = _run(db, asked, (_signed(b"hopwatch sender"), _signed(destination.encode()))).fetchone()
        if row[0]:
            self._held.add(destination)
        return bool(row[0])

    def close(self) -> None:
        # The server ends a session some time after the connection; the next sender is not to wait for that.
        with contextlib.suppress(psycopg.Error):
            self._db.execute("SELECT pg_advisory_unlock_all()")
        self._db.close()


def _signed(text: bytes) -> int:
    """A number of 32 bits as PostgreSQL's integer has them."""
    return zlib.crc32(text) - (1 << 31)


def open_outbox(address: str) -> Outbox:
    """The queues at ``address``: a PostgreSQL URI or connection string, or the alert book's file.

    Raises:
        StoreError: they cannot be opened.
    """
    if address.startswith(("postgresql://", "postgres://")) or ("=" in address and "host" in address):
        return PostgresOutbox(address)
    return SqliteOutbox(address)

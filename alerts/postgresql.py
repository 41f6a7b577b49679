"""The alert book in PostgreSQL, in tables beside those of the store.

**Changed since.** Each finding bears the transaction that changed it last (``finding_changes.changed``, PostgreSQL 9.27.7, type xid8). A
transaction with a smaller number may commit later, so a place is not the largest number that was seen: everything from the place on is
read, whoever committed it, and the place moves only to the oldest transaction that was under way when the reading began
(``pg_snapshot_xmin``). What lies between is read again, which changes nothing. So no finding waits for a transaction that hangs, and
none is missed.

**One writer.** Each step and each decision locks one row, so that a book has one writer at a time, however many programs there are.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from alerts.book import POSTGRESQL_TABLES, VERSION, Book, Row, opened_key
from alerts.outbox import PostgresOutbox, QueueState, make_tables
from hopwatch.store import StoreError
from hopwatch.store.postgresql import connect, opened, spoken
from hopwatch.store.rows import sortable

_LOCK: Final = zlib.crc32(b"hopwatch alert book")


class PostgresBook(Book):
    """The book in the database at ``address``; one connection, one thread. A connection that was lost is made anew."""

    def __init__(self, address: str, key: Path | None = None) -> None:
        """Connect, and make what is missing.

        Raises:
            StoreAway: nobody answers.
            StoreError: the tables are of a later version.
        """
        self._address = address
        self.pseudonyms = opened_key(key)
        known = psycopg.conninfo.conninfo_to_dict(address)
        self._name = f"postgresql {known.get('host', 'localhost')}/{known.get('dbname', '')}"
        # The store's tables come first: findings are read from them.
        connect(address, "hopwatch alerts").close()
        PostgresOutbox(address).close()
        self._db: psycopg.Connection[Any] | None = None  # Any: SQL values.
        self._connect()

    def _connect(self) -> psycopg.Connection[Any]:  # Any: SQL values.
        with spoken():
            db = opened(self._address, "hopwatch alerts")
            try:
                make_tables(db, POSTGRESQL_TABLES, _LOCK)
                with db.transaction():
                    row = db.execute("SELECT value FROM alert_state WHERE name = 'version'").fetchone()
                    if row is not None and int(row[0]) > VERSION:
                        raise StoreError(f"{self._name}: alert book of version {row[0]}, expected {VERSION}")
                    db.execute("INSERT INTO alert_state VALUES ('version', %s) ON CONFLICT (name) DO NOTHING", (str(VERSION),))
            except BaseException:
                db.close()
                raise
        self._db = db
        return db

    @property
    def name(self) -> str:
        """Host and database."""
        return self._name

    def close(self) -> None:
        """Let go of the database; idempotent."""
        if self._db is not None:
            with contextlib.suppress(psycopg.Error):
                self._db.close()
            self._db = None

    def destinations(self) -> list[QueueState]:
        """How each destination's queue stands."""
        outbox = PostgresOutbox(self._address)
        try:
            return outbox.states()
        finally:
            outbox.close()

    @property
    def _open(self) -> psycopg.Connection[Any]:  # Any: SQL values.
        if self._db is None or self._db.closed:
            return self._connect()
        return self._db

    def moment(self) -> str:
        """See ``Book`` (PostgreSQL 9.27.7: who has written and committed, which is as long the same as nobody writes)."""
        return str(self._rows("SELECT pg_current_snapshot()::text")[0][0])

    def _rows(self, sql: str, values: Iterable[Any] = ()) -> Sequence[Row]:  # Any: SQL values.
        with spoken():
            return self._open.execute(sql.replace("?", "%s").encode(), tuple(values)).fetchall()

    def _many(self, sql: str, rows: Sequence[Row]) -> None:
        if rows:
            with spoken(), self._open.cursor() as cursor:
                cursor.executemany(sql.replace("?", "%s").encode(), rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[psycopg.Connection[Any]]:  # Any: SQL values.
        db = self._open
        with spoken(), db.transaction():
            db.execute("SELECT value FROM alert_state WHERE name = 'version' FOR UPDATE")
            yield db

    def _changed(self, place: str | None, most: int) -> tuple[list[str], str | None]:
        """``place`` is where reading begins, where the reading under way has come to, and what it will begin at next."""
        said = json.loads(place) if place else {"from": "0", "next": None, "at": None, "finding": ""}
        if said["next"] is None:
            ((oldest,),) = self._rows("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
            # A database that was restored into another server counts its transactions anew: what a place says of others is nothing here.
            begin = said["from"] if int(str(said["from"])) <= int(oldest) else "0"
            said |= {"next": oldest, "at": begin, "finding": ""}
        rows = self._rows(
            "SELECT c.changed::text, c.finding_id, f.event FROM finding_changes c JOIN findings f ON f.finding_id = c.finding_id"
            " WHERE (c.changed, c.finding_id) > (?::xid8, ?) ORDER BY c.changed, c.finding_id LIMIT ?",
            (said["at"], said["finding"], most),
        )
        if len(rows) == most:
            said |= {"at": rows[-1][0], "finding": rows[-1][1]}
        else:
            said = {"from": said["next"], "next": None, "at": None, "finding": ""}
        return [str(event) for _, _, event in rows], json.dumps(said)

    def _heard(self, plant: str, agent: str) -> str | None:
        ((at,),) = self._rows("SELECT MAX(seen_time) FROM heartbeats WHERE plant = ? AND agent = ?", (plant, agent))
        return None if at is None else sortable(str(at))

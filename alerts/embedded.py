"""The alert book of the embedded store: a SQLite file of its own beside it.

Findings are read from the store through a connection that only reads: in WAL mode a reader waits for no writer and no writer for it
(SQLite, "Write-Ahead Logging", 2.2), so whatever alerts do, detection goes on.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from alerts.book import SQLITE_TABLES, VERSION, Book, Row, opened_key
from alerts.outbox import SQLITE_TABLES as OUTBOX_TABLES
from alerts.outbox import QueueState, SqliteOutbox
from hopwatch.store import StoreError, StoreFull
from hopwatch.transaction import transaction

BOOK_BYTES_MAX: Final = 8 << 30
"""Default bound of the file; beyond it a step writes nothing and is said to have failed, and the findings wait in the store."""

WAIT_S: Final = 30.0


class EmbeddedBook(Book):
    """The book in ``STORE.alerts`` of the store in the file ``store``, which need not be there yet."""

    def __init__(self, store: str | Path, key: Path | None = None, *, size_bytes_max: int = BOOK_BYTES_MAX) -> None:
        """Open or make the book (mode 0600).

        Raises:
            StoreError: the file cannot be opened, or a newer version made it.
        """
        self.store = Path(store)
        self.path = Path(f"{store}.alerts")
        self.pseudonyms = opened_key(key or Path(f"{store}.key"))
        self._size_bytes_max = size_bytes_max
        self._findings: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db: sqlite3.Connection | None = sqlite3.connect(self.path, isolation_level=None, timeout=WAIT_S)
            self._prepare(self._db)
        except (OSError, sqlite3.Error) as error:
            raise self._spoken(error) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        # A decision that was answered is on the disk.
        db.execute("PRAGMA synchronous = FULL")
        for statement in (*SQLITE_TABLES, *OUTBOX_TABLES):
            db.execute(statement)
        version = int(self._state().get("version", VERSION))
        if version > VERSION:
            raise StoreError(f"{self.path}: schema version {version}, expected {VERSION}")
        db.execute("INSERT INTO alert_state VALUES ('version', ?) ON CONFLICT (name) DO NOTHING", (str(VERSION),))
        page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {max(self._size_bytes_max // page_bytes, 64)}")

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    def close(self) -> None:
        """Let go of both files; idempotent."""
        for db in (self._db, self._findings):
            if db is not None:
                db.close()
        self._db = self._findings = None

    def destinations(self) -> list[QueueState]:
        """How each destination's queue stands."""
        outbox = SqliteOutbox(self.path)
        try:
            return outbox.states()
        finally:
            outbox.close()

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._db is not None, "the book is closed"
        return self._db

    def moment(self) -> str:
        """See ``Book`` (SQLite, "PRAGMA data_version": what other connections committed; the own ones are counted)."""
        return f"{self._rows('PRAGMA data_version')[0][0]}/{self._open.total_changes}"

    def _rows(self, sql: str, values: Iterable[Any] = ()) -> Sequence[Row]:  # Any: SQL values.
        try:
            return self._open.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise self._spoken(error) from error

    def _many(self, sql: str, rows: Sequence[Row]) -> None:
        try:
            if rows:
                self._open.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self._spoken(error) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with transaction(self._open) as db:
                yield db
        except sqlite3.Error as error:
            raise self._spoken(error) from error

    def _changed(self, place: str | None, most: int) -> tuple[list[str], str | None]:
        """By the store's count of changes: it has one writer, so the order of counts is the order in which they are seen."""
        last = self._asked("SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'finding_changes'), 0)", ())
        if last and int(place or 0) > int(last[0][0]):
            # Another store than the one whose place that is: it was made anew, or is an older copy.
            place = "0"
        rows = self._asked(
            "SELECT c.change, f.event FROM finding_changes c JOIN findings f ON f.finding_id = c.finding_id"
            " WHERE c.change > ? ORDER BY c.change LIMIT ?",
            (int(place or 0), most),
        )
        return [str(event) for _, event in rows], str(rows[-1][0]) if rows else place

    def _heard(self, plant: str, agent: str) -> str | None:
        rows = self._asked("SELECT MAX(seen_time) FROM heartbeats WHERE plant = ? AND agent = ?", (plant, agent))
        return None if not rows or rows[0][0] is None else str(rows[0][0])

    def _asked(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:  # Any: SQL values.
        """What the store says; nothing while there is none."""
        try:
            file = _file(self.store)
            if self._findings is not None and file != self._file:
                # What is open is no longer what is there.
                self._findings.close()
                self._findings = None
            self._file = file
            if self._findings is None:
                if file is None:
                    return []
                self._findings = sqlite3.connect(
                    f"{self.store.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=WAIT_S
                )
            return self._findings.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                # It was made by an earlier version, or is being made; whoever writes to it adds what it lacks.
                return []
            raise StoreError(f"{self.store}: {error}") from error
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self.store}: {error}") from error

    def _spoken(self, error: Exception) -> StoreError:
        if isinstance(error, OSError):
            return StoreError(f"{error.filename or self.path}: {error.strerror or error}")
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return StoreFull(f"{self.path}: no room: the disk is full or the bound of {self._size_bytes_max} bytes is reached")
        return StoreError(f"{self.path}: {error}")


def _file(path: Path) -> tuple[int, int] | None:
    """Which file is there, whatever its name; None if none is."""
    try:
        said = path.stat()
    except FileNotFoundError:
        return None
    return said.st_dev, said.st_ino

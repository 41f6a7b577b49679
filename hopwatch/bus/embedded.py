"""The embedded log: one SQLite file in WAL mode, for one process that both writes and reads.

A write-ahead log keeps an append to one sequential write and lets it survive the end of the process. Events below every
consumer's commit are deleted as soon as they are committed and overwritten with zeros (``secure_delete``): account names
are in clear here, and only the store makes pseudonyms, so the log must not become a second archive.

What a power failure takes of the write-ahead log are its last transactions, each wholly (SQLite, "Write-Ahead Logging"). A log
whose offsets others have seen must not give them again, so such a log is ``synced``: an append has reached the disk when it returns.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar, cast

from hopwatch.bus import EVENT_BYTES_MAX, LogDamaged, LogError, LogFull
from hopwatch.transaction import transaction

LOG_BYTES_MAX = 1 << 30
"""Default bound of the file: about a million undelivered flow records."""

PAGE_BYTES = 4096
WAL_BYTES_MAX = 16 << 20
READ_EVENTS_MAX = 65_536

KEYS_MAX = 262_144
"""Keys of appended events that are remembered, the latest of them; a small log remembers one for each KEY_SHARE_BYTES of its bound."""

KEY_SHARE_BYTES = 2_048

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, event BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS consumers (name TEXT PRIMARY KEY, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ends (only INTEGER PRIMARY KEY CHECK (only = 0), first INTEGER NOT NULL, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS identity (only INTEGER PRIMARY KEY CHECK (only = 0), name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS keys (position INTEGER PRIMARY KEY, key BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS key_of ON keys (key);
INSERT INTO ends VALUES (0, 0, 0) ON CONFLICT DO NOTHING;
INSERT INTO identity VALUES (0, lower(hex(randomblob(8)))) ON CONFLICT DO NOTHING;
"""


class EmbeddedLog:
    """A log in the file ``path``, bounded at ``size_bytes_max`` and held by one process at a time.

    ``synced``: what an append or a commit returned from survives a power failure, not only the end of the process.
    ``shared``: several threads use the log, one at a time; the caller sees to that.
    """

    def __init__(self, path: str | Path, *, size_bytes_max: int = LOG_BYTES_MAX, synced: bool = False, shared: bool = False) -> None:
        """Open or create the log (mode 0600).

        Raises:
            LogError: the file cannot be opened, is no log, or another process holds it.
        """
        self.path = Path(path)
        self.size_bytes_max = size_bytes_max
        self._holder = _hold(self.path)
        try:
            # Kept open to the end: closing it would give up the locks that SQLite holds on the same file (POSIX fcntl).
            self._blocks = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
            self._db: sqlite3.Connection | None = sqlite3.connect(self.path, isolation_level=None, check_same_thread=not shared)
            self._configure(self._db, "FULL" if synced else "NORMAL")
        except (OSError, sqlite3.Error) as error:
            self._holder.close()
            raise _spoken(self.path, error) from error

    def _configure(self, db: sqlite3.Connection, synchronous: str) -> None:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA secure_delete = ON")
        db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        db.executescript(_SCHEMA)
        page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {max(self.size_bytes_max // page_bytes, 16)}")

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._db is not None, "the log is closed"
        return self._db

    def identity(self) -> str:
        """16 hex digits drawn when the file was made: offsets of one log say nothing about another."""
        return str(self._open.execute("SELECT name FROM identity").fetchone()[0])

    def append(self, events: list[bytes], keys: Sequence[bytes] = ()) -> int:
        """Add all events or none; returns the offset behind the last one. ``keys``, one an event, are remembered for ``known``."""
        for event in events:
            if len(event) > EVENT_BYTES_MAX:
                raise LogError(f"{self.path}: an event of {len(event)} bytes, expected at most {EVENT_BYTES_MAX}")
        with self._transaction() as db:
            first = int(db.execute("SELECT next FROM ends").fetchone()[0])
            db.executemany("INSERT INTO log VALUES (?, ?)", enumerate(events, first))
            db.execute("UPDATE ends SET next = ?", (first + len(events),))
            if keys:
                db.executemany("INSERT INTO keys VALUES (?, ?)", enumerate(keys, first))
                remembered = min(KEYS_MAX, self.size_bytes_max // KEY_SHARE_BYTES)
                db.execute("DELETE FROM keys WHERE position < ?", (first + len(events) - remembered,))
        return first + len(events)

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that an append brought; of the oldest nothing is known any more (KEYS_MAX)."""
        asked = ((key, self._open.execute("SELECT 1 FROM keys WHERE key = ?", (key,)).fetchone()) for key in keys)
        return {key for key, found in asked if found}

    def read(self, offset: int, limit: int, *, size_bytes_max: int | None = None) -> list[tuple[int, bytes]]:
        """At most ``limit`` events (never more than READ_EVENTS_MAX) from ``offset`` on; the first even beyond ``size_bytes_max``."""
        read: list[tuple[int, bytes]] = []
        size_bytes = 0
        try:
            rows = self._open.execute(
                "SELECT position, event FROM log WHERE position >= ? ORDER BY position LIMIT ?", (offset, min(limit, READ_EVENTS_MAX))
            )
            for position, event in rows:
                size_bytes += len(event)
                if read and size_bytes_max is not None and size_bytes > size_bytes_max:
                    break
                read.append((int(position), bytes(event)))
            rows.close()
        except sqlite3.DatabaseError as error:
            raise _spoken(self.path, error) from error
        return read

    def replace(self, removed: Iterable[int], placed: Iterable[tuple[int, bytes]]) -> None:
        """Take events out of the log and put others in their places, all or none; other offsets stay what they are."""
        with self._transaction() as db:
            db.executemany("DELETE FROM log WHERE position = ?", ((position,) for position in removed))
            db.executemany("INSERT OR REPLACE INTO log VALUES (?, ?)", placed)

    def reserve(self, size_bytes: int) -> None:
        """Take so much room from the disk, for the file and for its write-ahead log, that it cannot fail for want of it later.

        The blocks are taken beyond what SQLite uses of the files, as its own SQLITE_FCNTL_CHUNK_SIZE does: pages that lie in the
        write-ahead log and find no place in the file would keep that log from ever being written over.

        Raises:
            LogFull: the disk has less, or the bound is reached.
        """
        wanted = self._pragma("page_size") * (self._pragma("page_count") - self._pragma("freelist_count")) + size_bytes
        if wanted > self.size_bytes_max:
            raise LogFull(f"{self.path}: its bound of {self.size_bytes_max} bytes is reached")
        # The first page must stand in the file before anything stands behind it.
        self._open.execute("PRAGMA wal_checkpoint(PASSIVE)")
        try:
            if os.fstat(self._blocks).st_size < wanted:
                os.posix_fallocate(self._blocks, 0, wanted)
            ahead = os.open(f"{self.path}-wal", os.O_RDWR)
            try:
                if os.fstat(ahead).st_size < (room := min(size_bytes, WAL_BYTES_MAX // 2)):
                    os.posix_fallocate(ahead, 0, room)
            finally:
                os.close(ahead)
        except OSError as error:
            raise LogFull(f"{self.path}: no room for more events: {error.strerror}") from error

    def free_bytes(self) -> int:
        """Bytes of the file that hold nothing and are the file's already."""
        page_bytes = self._pragma("page_size")
        behind = os.fstat(self._blocks).st_size - page_bytes * self._pragma("page_count")
        return page_bytes * self._pragma("freelist_count") + max(0, behind)

    def size_bytes(self) -> int:
        """Bytes of the file that hold something; at ``size_bytes_max`` an append finds no room."""
        return self._pragma("page_size") * (self._pragma("page_count") - self._pragma("freelist_count"))

    def _pragma(self, name: str) -> int:
        return int(self._open.execute(f"PRAGMA {name}").fetchone()[0])

    def commit(self, consumer: str, offset: int) -> None:
        """Remember ``offset`` for ``consumer`` and delete what every consumer has finished."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO consumers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET position = max(position, excluded.position)",
                (consumer, offset),
            )
            finished = int(db.execute("SELECT min(position) FROM consumers").fetchone()[0])
            db.execute("DELETE FROM log WHERE position < ?", (finished,))
            db.execute("UPDATE ends SET first = max(first, min(?, next))", (finished,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; a failure is one clear error."""
        try:
            with transaction(self._open) as db:
                yield db
        except sqlite3.Error as error:
            raise _spoken(self.path, error, size_bytes_max=self.size_bytes_max) from error

    def committed(self, consumer: str) -> int:
        """The offset ``consumer`` reads next; 0 if it never committed."""
        row = self._open.execute("SELECT position FROM consumers WHERE name = ?", (consumer,)).fetchone()
        return int(row[0]) if row else 0

    def end(self) -> int:
        """The offset the next appended event gets."""
        return int(self._open.execute("SELECT next FROM ends").fetchone()[0])

    def close(self) -> None:
        """Fold the write-ahead log into the file, so that no deleted event stays readable beside it."""
        if self._db is None:
            return
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            # A full disk: the write-ahead log stays and is read again at the next start.
            pass
        finally:
            self._db.close()
            self._db = None
            os.close(self._blocks)
            self._holder.close()


@dataclass(frozen=True, slots=True)
class Salvage:
    """What could still be read of a damaged log: its identity ("" if unknown), where reading was to begin, its end, and events."""

    identity: str
    first: int
    end: int
    events: list[tuple[int, bytes]]


def salvage(path: Path) -> Salvage:
    """Read what can be read of a damaged log, from both of its ends up to the damage; never an error."""
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return Salvage("", 0, 0, [])

    def one(query: str, otherwise: T) -> T:
        try:
            row = db.execute(query).fetchone()
        except sqlite3.Error:
            return otherwise
        return cast(T, row[0]) if row and row[0] is not None else otherwise

    first, end = one("SELECT min(position) FROM consumers", 0), one("SELECT next FROM ends", 0)
    found: dict[int, bytes] = {}
    for order in ("ASC", "DESC"):
        try:
            for position, event in db.execute(f"SELECT position, event FROM log WHERE position >= ? ORDER BY position {order}", (first,)):
                if position in found:
                    break
                found[position] = bytes(event)
        except sqlite3.Error:
            continue
    identity = one("SELECT name FROM identity", "")
    db.close()
    return Salvage(identity, first, max(end, max(found, default=-1) + 1), sorted(found.items()))


def _hold(path: Path) -> IO[bytes]:
    """An advisory lock beside the log: two readers of one consumer would each see half of the events."""
    try:
        holder = Path(f"{path}.lock").open("ab")  # noqa: SIM115  # open is what holds the lock
    except OSError as error:
        raise _spoken(path, error) from error
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder.close()
        raise LogError(f"{path}: in use by another process") from error
    return holder


def _spoken(path: Path, error: Exception, *, size_bytes_max: int | None = None) -> LogError:
    """The one line a person gets for what SQLite or the system said."""
    if isinstance(error, OSError):
        return LogError(f"{path}: {error.strerror or error}")
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and (code & 0xFF) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        bound = f" or its bound of {size_bytes_max} bytes is reached" if size_bytes_max is not None else ""
        return LogFull(f"{path}: no room for more events: the disk is full{bound}")
    if code is not None and (code & 0xFF) == sqlite3.SQLITE_NOTADB:
        return LogDamaged(f"{path}: not a hopwatch log")
    if code is not None and (code & 0xFF) == sqlite3.SQLITE_CORRUPT:
        return LogDamaged(f"{path}: the log is damaged")
    return LogError(f"{path}: {error}")

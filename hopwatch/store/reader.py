"""The door for whoever reads a store: the same questions to a file of SQLite and to PostgreSQL.

Reading PostgreSQL makes nothing and changes nothing: the session is read-only, and a role that may SELECT is enough. The key of the
pseudonyms is needed for one thing there, to find a person's records by the name in clear.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg

from hopwatch.store import Reader, StoreError
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.store.postgresql import Connection, kept_version, opened, spoken
from hopwatch.store.pseudonyms import Pseudonyms, key_file
from hopwatch.store.reading import Reading
from hopwatch.store.schema import POSTGRESQL_VERSION

SCHEMES: Final = ("postgresql://", "postgres://")
FETCHED: Final = 2_000
"""Rows of a history that are held at once."""


def is_postgres(address: str) -> bool:
    """Whether an address of a store names a database, not a file (libpq 34.1.1.2)."""
    return address.startswith(SCHEMES)


def reader(address: str, key: Path | None = None) -> Reader:
    """The store at ``address``: ``postgresql://…``, or the path of a file with its key beside it.

    Raises:
        StoreError: it is not there, or of another version.
    """
    return PostgresReader(address, key) if is_postgres(address) else EmbeddedStore(address, key_path=key, create=False)


class PostgresReader(Reading):
    """Events, judgements and findings in PostgreSQL as they are read; one connection, one thread."""

    flows_from = "judged_flows"
    read_depth = ("event::json ->> 'depth'", "event::json -> 'completeness' ->> 'state'")

    def __init__(self, address: str, key: Path | None = None) -> None:
        """Connect; ``key`` is a file that exists.

        Raises:
            StoreError: nobody answers, nothing of ours is there, or it is of another version.
        """
        self._pseudonyms = None if key is None else _pseudonyms(key)
        self._cursors = count(1)
        with spoken():
            known = psycopg.conninfo.conninfo_to_dict(address)
        self._name = f"postgresql {known.get('host', 'localhost')}/{known.get('dbname', '')}"
        self._db: Connection | None = opened(address, "hopwatch")
        try:
            with spoken():
                self._open.execute("SET default_transaction_read_only = on")
                kept = kept_version(self._open)
            if kept is None:
                raise StoreError(f"{self._name}: no hopwatch store; `hopwatch store` makes one")
            if kept < POSTGRESQL_VERSION:
                raise StoreError(f"{self._name}: schema version {kept}; `hopwatch store` of this version brings it to {POSTGRESQL_VERSION}")
        except BaseException:
            self.close()
            raise

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

    @property
    def _open(self) -> Connection:
        assert self._db is not None, "the store is closed"
        return self._db

    def history(
        self, since: str | None = None, until: str | None = None, *, plant: str | None = None, kinds: Collection[str] = ("flow",)
    ) -> Iterator[dict[str, Any]]:  # Any: JSON values.
        """As ``Reading.history``, of one moment of the database."""
        # Cursors at the server live as long as their transaction.
        with spoken(), self._open.transaction():
            yield from super().history(since, until, plant=plant, kinds=kinds)

    def moment(self) -> str:
        """See ``Reader`` (PostgreSQL 9.27.7: who has written and committed, which is as long the same as nobody writes)."""
        return str(self._rows("SELECT pg_current_snapshot()::text")[0][0])

    def _rows(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:  # Any: SQL values.
        with spoken():
            return self._open.execute(_placed(sql), tuple(values)).fetchall()

    def _each(self, sql: str, values: Iterable[Any] = ()) -> Iterator[tuple[Any, ...]]:  # Any: SQL values.
        with self._open.cursor(name=f"history_{next(self._cursors)}") as cursor:
            cursor.itersize = FETCHED
            yield from cursor.execute(_placed(sql), tuple(values))

    def _spellings(self, account: str) -> Sequence[str]:
        if self._pseudonyms is None:
            raise StoreError(f"{self._name}: whose account rests as a pseudonym is found with its key only: --key FILE")
        return account, self._pseudonyms.made(account)


def _pseudonyms(key: Path) -> Pseudonyms:
    try:
        if not key.exists():
            raise StoreError(f"{key}: no such key")
        return Pseudonyms(key_file(key))
    except (OSError, ValueError) as error:
        raise StoreError(str(error)) from None


def _placed(sql: str) -> bytes:
    """The statement in the client's own spelling of a value's place; ours holds neither ``?`` nor ``%`` otherwise."""
    return sql.replace("?", "%s").encode()

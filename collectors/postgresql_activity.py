"""A PostgreSQL server that may not log: who is connected is asked of `pg_stat_activity`, how many rows of `pg_stat_statements`.

Sessions come with the client's address and port, so they name the connections that a tap sees; one that begins and ends between two
looks is not seen. `pg_stat_statements` counts calls and rows of each statement by account, since the server's start and not by session
(PostgreSQL 15, F.32): what was added between two looks is the account's, and its place is that of the account's sessions, if all of
them come from one address. Such rows are ``estimated``. Where an account has sessions from several addresses they belong to none, and
every session's window is ``lossy``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar, Final

from collectors.asked import Asked, every
from collectors.dialled import secret
from collectors.feed import POLL_S, FeedError
from collectors.log import UNREADABLE
from collectors.records import Entry, Json, Records, Session
from collectors.statements import MOVES, reads

TIMEOUT_S: Final = 5

STATEMENTS_MAX: Final = 1_000
"""Statements whose counts are remembered between two looks, the busiest; that there are more is counted."""

LISTED_MAX: Final = 8_192
"""Sessions of one look; of more, the newest are seen."""

SESSIONS: Final = f"""
SELECT a.pid, a.usename, a.application_name, host(a.client_addr), a.client_port, a.datname,
  (extract(epoch from a.backend_start) * 1000000)::bigint, s.version, s.cipher
FROM pg_stat_activity a LEFT JOIN pg_stat_ssl s USING (pid)
WHERE a.client_addr IS NOT NULL AND a.client_port > 0 AND a.usename IS NOT NULL ORDER BY a.backend_start DESC LIMIT {LISTED_MAX}"""
COUNTS: Final = f"""
SELECT r.rolname, s.dbid, s.queryid, s.toplevel, s.calls, s.rows, s.query
FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE s.toplevel ORDER BY s.calls DESC LIMIT {STATEMENTS_MAX + 1}"""
KNOWN: Final = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'"
CLOCK: Final = "SELECT (extract(epoch from clock_timestamp()) * 1000000)::bigint"

Counts = dict[str, list[int]]
"""Calls and rows by statement."""


class PostgresqlActivity(Records):
    """One server: ``[FEED=]ADDRESS:PORT=DATABASE?user=NAME[&password_file=PATH&ca=PATH&server_name=NAME&every=SECONDS]``.

    Its own counters: ``polls``, ``polls_failed``, ``rows_unplaced`` (of accounts at several addresses), ``resets``.
    """

    KIND = "postgresql-activity"
    PROTOCOL: ClassVar[str | None] = "postgresql"
    OPTIONS = ("user", "password_file", "ca", "server_name", "every")

    def _where(self) -> tuple[list[Any], str]:  # Any: as of a log
        if not self._told.options.get("user"):
            raise FeedError(f"{self._told.kind} {self._told.feed}: expected ?user=NAME, an account with the role pg_monitor")
        place, self._database = super()._where()
        return place, ""

    def _begin(self) -> None:
        super()._begin()
        self._counted_before: Counts | None = None
        self._look: Json | None = None
        self._looked_ns = 0
        told, (address, port) = self._told, self._server
        options: dict[str, Any] = {"hostaddr": address, "port": port, "dbname": self._database, "user": told.options["user"]}
        options |= {"password": secret(told, "password_file"), "connect_timeout": TIMEOUT_S, "application_name": "hopwatch"}
        if "ca" in told.options:
            options |= {"sslmode": "verify-full", "sslrootcert": told.options["ca"], "host": told.options.get("server_name", address)}
        self._asks: Asked[Json] = Asked(Look(options).look, every(told))

    def counters(self) -> dict[str, int]:
        """What every log counts, and how often the server was asked."""
        return super().counters() | {f"postgresql_activity_{name}": count for name, count in self._asks.counters().items()}

    def _check(self, pattern: str) -> None:
        """There are no files."""

    def _said(self, record: Json) -> list[Entry]:
        """There are no lines."""
        return []

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        return super()._kept() | {"counts": self._counted_before, "look": self._look, "looked_ns": self._looked_ns}

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        super()._resume(said)
        self._counted_before, self._look, self._looked_ns = said["counts"], said["look"], said["looked_ns"]

    def batches(self, stopping: Callable[[], bool], *, follow: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[list[bytes]]:
        """The events of each look; without ``follow`` those of one.

        Raises:
            FeedError: the state cannot be written.
        """
        if self._look is not None:
            # It may not have been handed over.
            yield self._taken(self._look)
        while not stopping():
            look = self._asks.newest()
            if look is not None:
                self._look = look
                self._save(None)
                yield self._taken(look)
            elif follow:
                if self._asks.failure:
                    self.example = f"asking: {self._asks.failure}"
                yield []
                sleep(POLL_S)
            if not follow:
                break
        self._asks.stop()
        self._look = None
        self._save(None)

    def _taken(self, look: Json) -> list[bytes]:
        time_ns = int(look["time_ns"])
        present: set[str] = set()
        for row in look["sessions"]:
            try:
                present.add(self._seen(row, time_ns))
            except UNREADABLE:
                self.unreadable += 1
                self.example = "a row of pg_stat_activity"
        if look["counts"] is not None:
            self._compare(look["counts"], time_ns)
        for one in [one for key, one in self._sessions.items() if key not in present]:
            self._end(one, time_ns)
        for touched in self._touched.values():
            touched.told = self._windows.told(touched.connection)
        self._touched, self._looked_ns, self._last_ns = {}, time_ns, time_ns
        self._look = None
        self._count("lines", len(look["sessions"]))
        return self._windows.take()

    def _seen(self, row: list[Any], time_ns: int) -> str:  # Any: as the server gave it
        """One session of a look; its name here."""
        pid, user, application, address, port, database, began_us, version, _ = row
        key, began_ns = f"{pid} {began_us}", int(began_us) * 1_000
        # What began before the last look and was not in it is older than this collector.
        first_ns = began_ns if self._looked_ns and began_ns > self._looked_ns else time_ns
        transport = f"tls{version.removeprefix('TLSv')}" if version else "none"
        transport = "tls1.0" if transport == "tls1" else transport
        if key not in self._sessions:
            entry = Entry(first_ns, "login" if first_ns == began_ns else "seen", key, str(address), int(port), account=user)
            entry.application, entry.transport, entry.database = application or None, transport, database
            self._last_ns = max(self._last_ns, time_ns)
            self._say(entry)
        return key

    def _compare(self, counts: list[list[Any]], time_ns: int) -> None:  # Any: rows of the server
        before: Counts | None = self._counted_before
        now: Counts = {}
        if len(counts) > STATEMENTS_MAX:
            self._count("statements_over")
        for row in counts[:STATEMENTS_MAX]:
            try:
                user, database, number, calls, rows, said = [*row[:3], int(row[3]), int(row[4]), row[5]]
            except UNREADABLE:
                self.unreadable += 1
                self.example = "a row of pg_stat_statements"
                continue
            key = f"{user} {database} {number}"
            now[key] = [int(calls), int(rows)]
            if before is None or (key not in before and len(before) >= STATEMENTS_MAX):
                # What it had counted before is not known.
                continue
            calls_before, rows_before = before.get(key, [0, 0])
            if calls < calls_before:
                # The counts were reset, or the statement was let go and came again.
                self._count("resets")
                calls_before = rows_before = 0
            if calls > calls_before:
                self._added(str(user), said, int(calls) - calls_before, int(rows) - rows_before, time_ns)
        self._counted_before = now

    def _added(self, user: str, said: list[Any] | None, calls: int, rows: int, time_ns: int) -> None:  # Any: as ``_read`` gave it
        """What an account's statement has done since the last look."""
        if said is None:
            return
        operation, data_from, names, columns, print_, marks = said
        there = [one for one in self._sessions.values() if one.account == user]
        if len({one.client for one in there}) != 1:
            self._count("calls_unplaced", calls)
            self._count("rows_unplaced", rows)
            for session in there:
                self._windows.uncounted(session.connection, max(time_ns, session.first_ns), operation, data_from)
                self._touched[session.key] = session
            return
        session = there[0] if len(there) == 1 else self._of_many(there[0], time_ns)
        at_ns = max(time_ns, session.first_ns)
        self._windows.add(
            session.connection, at_ns, operation, data_from, names=names, columns=columns, statement=print_, marks=marks,
            messages=calls, rows=rows if operation in MOVES else 0,
        )  # fmt: skip
        self._windows.estimated(session.connection, at_ns, operation, data_from)
        self._touched[session.key] = session
        if session.key.startswith("many "):
            session.told = self._windows.told(session.connection)
            self._end(session, at_ns)

    def _of_many(self, one: Session, time_ns: int) -> Session:
        """What several sessions of one address did together: of which connection it is nobody knows."""
        entry = Entry(time_ns, "seen", f"many {one.account} {one.client}", one.client, 0, account=one.account, application=one.application)
        session = self._sessions.get(entry.session)
        if session is None:
            session = self._first(entry)
        assert session is not None, "its address has been one before"
        return session


class Look:
    """Looks at a server over one connection, which is opened anew after a failure."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._texts: dict[int, list[Any] | None] = {}  # Any: what is kept of a statement
        self._connection: Any = None  # Any: rows of the server are typed by what was asked.

    def look(self) -> Json:
        """Sessions, and the counts of statements; without the extension None."""
        try:
            return self._looked()
        except Exception:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(Exception):
                    connection.close()
            raise

    def _looked(self) -> Json:
        import psycopg

        if self._connection is None:
            self._connection = psycopg.connect(**self._options, autocommit=True, options="-c default_transaction_read_only=on")
            self._connection.execute(f"SET statement_timeout = '{TIMEOUT_S}s'")
            self._counts = bool(self._connection.execute(KNOWN).fetchone()[0])
        ask = self._connection.execute
        time_ns = int(ask(CLOCK).fetchone()[0]) * 1_000
        sessions = [list(row) for row in ask(SESSIONS).fetchall()]
        counts = (
            [[*row[:2], row[2], row[4], row[5], self._read(row[2], row[6])] for row in ask(COUNTS).fetchall()] if self._counts else None
        )
        return {"time_ns": time_ns, "sessions": sessions, "counts": counts}

    def _read(self, number: int, text: str) -> list[Any] | None:  # Any: JSON values
        """What is kept of a statement: no text, in which what the server does not normalise has its literals."""
        if number not in self._texts:
            if len(self._texts) > 2 * STATEMENTS_MAX:
                self._texts.clear()
            one = next((read for read in reads(text) if read.operation != "connect"), None)
            kept = None if one is None else [one.operation, one.data_from, one.names, one.columns, one.fingerprint, one.marks]
            self._texts[number] = kept
        return self._texts[number]

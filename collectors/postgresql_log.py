"""A PostgreSQL server's own log becomes flows, where a tap sees only TLS: csvlog and jsonlog, pgAudit's lines if there are any.

Who connects, from where and over what, is in the lines of ``log_connections``; what is asked in those of ``log_statement`` or
``log_min_duration_statement`` (PostgreSQL 15, 20.8); how many rows it was only pgAudit counts (``pgaudit.log_rows``). Statements are
read by the reader that the wire's decoders use, and nothing else of their text is kept.

What the log does not tell is said to be unknown: a window with rows that nobody counted is ``lossy``. That is a statement without a
line of pgAudit, and what pgAudit calls 0 rows though there were some: COPY (before the releases of mid-2026) and FETCH of a cursor.
"""

from __future__ import annotations

import csv
import io
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from collectors.feed import FeedError
from collectors.log import ServerLog, counted, cut_lines, lines, loaded
from collectors.statements import MOVES, POSTGRESQL_REFUSED, reads
from collectors.tail import Cut
from hopwatch.events import time_ns as instant

if TYPE_CHECKING:
    from hopwatch_wire import Read

SESSIONS_MAX: Final = 8_192
"""Sessions followed at a time; of more, the one heard of longest ago is let go, and counted."""

PENDING_MAX: Final = 64
"""Statements of a session that wait for pgAudit's line."""

CURSORS_MAX: Final = 64
"""Cursors and prepared statements of a session that are known by name."""

FIELD_BYTES_MAX: Final = 8 << 20

SETTLE_NS: Final = 2 * 10**9
"""How long a statement waits for a line of pgAudit on a server that never wrote one."""

COUNTED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})
"""Commands whose rows pgAudit takes from the executor; of the others it has none."""

SYNTAX_ERROR: Final = "42601"

BEFORE_ROWS: Final = ("42", "26", "34", "25", "0A", "22P02")
"""SQLSTATE of errors that come before a row has moved."""

_STATEMENT: Final = re.compile(r"(?:duration: [\d.]+ ms  )?(?:statement|execute (?!fetch from )[^:]*): (.*)", re.DOTALL)
_TRANSACTION: Final = re.compile(r"\s*(begin|start(?=\s+transaction)|commit|end|rollback(?!\s+(?:work\s+)?to\b)|abort)\b", re.IGNORECASE)
_EXPLAIN: Final = re.compile(r"\s*explain\b", re.IGNORECASE)
_TLS: Final = re.compile(r" SSL enabled \(protocol=TLSv([\d.]+), cipher=([\w-]+), bits=\d+\)$")
_METHOD: Final = re.compile(r"method=([\w-]+) \([^()]*\)$")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?) (?:(UTC|GMT|Z)|([+-]\d\d)(?::?(\d\d))?)")
_CSV: Final = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [^,\s]{1,8},")

csv.field_size_limit(FIELD_BYTES_MAX)


@dataclass(slots=True)
class Entry:
    """One record of a log, whichever way it is written."""

    time_ns: int
    user: str | None
    host: str
    port: int
    session: str
    number: int
    severity: str
    state: str
    message: str
    statement: str | None
    application: str | None


@dataclass(slots=True)
class Statement:
    """What is kept of a statement: no text."""

    fingerprint: str
    operation: str
    data_from: str
    names: list[str]
    columns: list[str]
    marks: list[str]
    moves: bool
    """Rows move over the connection."""
    time_ns: int
    logged: str = "statement"
    """By ``statement`` when it was parsed, by ``execute`` when it was bound, by ``duration`` when it had succeeded."""

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Statement(*state)`` takes it."""
        names = (self.names, self.columns, self.marks)
        return [self.fingerprint, self.operation, self.data_from, *names, self.moves, self.time_ns, self.logged]


@dataclass(slots=True)
class Audit:
    """The lines of pgAudit about one statement, of which there is one for each relation."""

    number: list[int]
    statement: Statement
    relations: list[str]
    rows: int | None
    time_ns: int

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Audit.of`` takes it."""
        return [self.number, self.statement.state(), self.relations, self.rows, self.time_ns]

    @classmethod
    def of(cls, state: list[Any]) -> Audit:  # Any: JSON values
        """The same again."""
        number, statement, *more = state
        return cls(number, Statement(*statement), *more)


@dataclass(slots=True)
class Session:
    """A connection of a client, from its first line to its last."""

    host: str
    port: int
    first_ns: int
    line: int
    late: bool
    user: str | None = None
    application: str | None = None
    role: str | None = None
    role_before: str | None = None
    """What it was before the last statement, and what it is when the transaction is undone."""
    role_outside: str | None = None
    inside: bool = False
    undone: bool = False
    local: bool = False
    transport: str | None = None
    cipher: str | None = None
    authentication: str | None = None
    pending: list[Statement] = field(default_factory=list)
    audit: Audit | None = None
    audited: list[int] = field(default_factory=lambda: [0, 0])
    """The last statement of pgAudit that was told."""
    named: dict[str, Statement] = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)  # Any: as the windows gave it
    connection: int = -1

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Session.of`` takes it."""
        who = [self.user, self.application, self.role, self.role_before, self.role_outside, self.inside, self.undone, self.local]
        how = [self.transport, self.cipher, self.authentication]
        pending = [one.state() for one in self.pending]
        audit = None if self.audit is None else self.audit.state()
        named = {name: one.state() for name, one in self.named.items()}
        return [self.host, self.port, self.first_ns, self.line, self.late, *who, *how, pending, audit, self.audited, named, self.told]

    @classmethod
    def of(cls, state: list[Any]) -> Session:  # Any: JSON values
        """The same again."""
        *plain, pending, audit, audited, named, told = state
        session = cls(*plain)
        session.pending = [Statement(*one) for one in pending]
        session.audit = None if audit is None else Audit.of(audit)
        session.named = {name: Statement(*one) for name, one in named.items()}
        session.audited, session.told = audited, [tuple(flow) for flow in told]
        return session


class PostgresqlLog(ServerLog[Entry]):
    """One server's log. Its own counters: ``missing`` (lines, by the numbers of their session), ``holes``, ``rows_unknown``, …"""

    KIND = "postgresql-log"

    def _begin(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._audited = self._copies_counted = False
        *_, self._address, self._port = self._place

    def counters(self) -> dict[str, int]:
        """What every log counts, and the sessions that are followed."""
        return super().counters() | {"postgresql_log_sessions": len(self._sessions)}

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        return {
            "sessions": {key: session.state() for key, session in self._sessions.items()},
            "audited": self._audited,
            "copies_counted": self._copies_counted,
        }

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        self._audited, self._copies_counted = said["audited"], said["copies_counted"]
        for key, state in said["sessions"].items():
            session = self._sessions[key] = Session.of(state)
            self._open(session)

    # Lines.

    def _format(self, path: Path, head: bytes) -> None:
        form = _format(head)
        if form is None:
            raise FeedError(f"{path}: neither csvlog nor jsonlog; set log_destination = 'jsonlog' (PostgreSQL 15) or 'csvlog'")
        stamp = re.sub(rb'\A\{\s*"timestamp"\s*:\s*"', b"", head)[:30].decode("utf-8", "replace")
        if len(stamp) == 30 and not _TIME.match(stamp):
            raise FeedError(f"{path}: times in a zone that its short name does not tell; set log_timezone = 'UTC'")

    def _cut(self, path: Path) -> Cut | None:
        try:
            with path.open("rb") as file:
                form = _format(file.read(64))
        except OSError:
            return None
        return None if form is None else cut_lines if form == "json" else _cut_csv

    def _records(self, content: bytes) -> Iterator[tuple[int, bytes]]:
        return lines(content) if content.startswith(b"{") else _quoted(content)

    def _parsed(self, record: bytes) -> Entry | None:
        return _entry(record)

    def _heard(self, entry: Entry) -> None:
        session = self._sessions.get(entry.session)
        if session is None:
            session = self._first(entry)
            if session is None:
                return
        elif entry.number <= session.line:
            self._count("repeated")
            return
        else:
            self._sessions.move_to_end(entry.session)
            if entry.number > session.line + 1:
                self._count("missing", entry.number - session.line - 1)
                self._uncounted(session, entry.time_ns, "connect", "client")
        session.line = entry.number
        self._touched[entry.session] = session
        if entry.user is not None and entry.user != session.user:
            session.user = entry.user
            self._identify(session, entry.time_ns)
        if entry.application is not None and entry.application != (session.application or ""):
            session.application = entry.application or None
            if " SSL enabled (" in entry.application:
                # Such a name makes the line of the login ambiguous.
                session.transport = session.cipher = None
                self._describe(session, entry.time_ns)
            self._identify(session, entry.time_ns)
        self._say(entry, session)

    def _first(self, entry: Entry) -> Session | None:
        if not entry.port:
            self._count("local")
            return None
        if len(self._sessions) >= SESSIONS_MAX:
            key, oldest = self._sessions.popitem(last=False)
            self._end(key, oldest, self._last_ns)
            self._count("sessions_over")
        session = Session(entry.host, entry.port, entry.time_ns, entry.number, late=entry.number > 1)
        try:
            self._open(session)
        except ValueError:
            # log_hostname = on writes names where addresses are needed.
            self._count("unplaced")
            return None
        self._sessions[entry.session] = session
        return session

    def _say(self, entry: Entry, session: Session) -> None:
        message = entry.message
        if entry.severity in ("ERROR", "FATAL", "PANIC"):
            self._failed(entry, session)
        elif message.startswith("AUDIT: "):
            self._audit(entry, session, message[len("AUDIT: ") :])
        elif message.startswith("connection received:"):
            return
        elif message.startswith("connection authenticated:"):
            if found := _METHOD.search(message):
                session.authentication = found[1]
        elif message.startswith("connection authorized:"):
            found = _TLS.search(message)
            session.transport, session.cipher = (
                (f"tls{found[1] if '.' in found[1] else found[1] + '.0'}", found[2]) if found else (None, None)
            )
            if " application_name=" in message:
                name = message.rpartition(" application_name=")[2]
                session.application = (_TLS.sub("", name) if found else name) or None
            self._describe(session, entry.time_ns)
            self._identify(session, entry.time_ns)
            self._windows.add(session.connection, entry.time_ns, "connect", "client")
        elif message.startswith("disconnection:"):
            self._sessions.pop(entry.session)
            self._end(entry.session, session, entry.time_ns)
        elif found := _STATEMENT.match(message):
            self._stated(entry, session, found[1], logged=message.partition(":")[0].partition(" ")[0])

    def _stated(self, entry: Entry, session: Session, text: str, *, logged: str) -> None:
        self._settle_audit(session)
        if found := _TRANSACTION.match(text):
            self._transaction(session, found[1].lower(), entry.time_ns)
        # Several statements of one text are one transaction (PostgreSQL 15, 55.2.2.1).
        before = session.role
        for read in reads(text):
            kind, name = read.effect or ("", None)
            if kind == "role":
                session.role, session.local = name, read.local
                if not session.inside:
                    session.role_outside = session.role = name if not read.local else session.role_before
                self._identify(session, entry.time_ns)
            statement = _kept(read, entry.time_ns)
            if _EXPLAIN.match(text):
                # pgAudit counts the rows of the plan's run, which do not leave the server.
                statement.moves = False
            if kind in ("declare", "prepare") and name is not None:
                if len(session.named) >= CURSORS_MAX:
                    del session.named[next(iter(session.named))]
                session.named[name] = statement
                # Nothing moves before it is fetched from or executed.
                statement = Statement(read.fingerprint, "connect", "client", [], [], [], False, entry.time_ns)
            elif kind in ("fetch", "execute") and name is not None:
                known = session.named.get(name)
                # Of a cursor nobody saw declared only that it moves something is known.
                names, columns = (known.names, known.columns) if known else (["unknown"], ["*"])
                operation, data_from = (known.operation, known.data_from) if known and known.operation in MOVES else ("select", "server")
                statement = Statement(read.fingerprint, operation, data_from, names, columns, list(statement.marks), True, entry.time_ns)
            if statement.operation == "connect":
                self._add(session, statement, entry.time_ns, messages=1)
                continue
            if len(session.pending) >= PENDING_MAX:
                self._unaudited(session, 1, entry.time_ns)
            statement.logged = logged
            session.pending.append(statement)
            self._settled = False
        session.role_before = session.role if logged == "duration" else before

    def _transaction(self, session: Session, word: str, time_ns: int) -> None:
        """A role that was set is unset by what undoes the transaction, a local one at its end (PostgreSQL, SET)."""
        if word in ("begin", "start"):
            session.role_outside, session.inside, session.undone, session.local = session.role, True, False, False
            return
        if word in ("rollback", "abort") or session.undone or session.local:
            session.role = session.role_outside
            self._identify(session, time_ns)
        session.role_outside, session.inside, session.undone, session.local = session.role, False, False, False

    def _audit(self, entry: Entry, session: Session, said: str) -> None:
        fields = _audited(said)
        if fields is None:
            self._count("audits_unreadable")
            return
        # kind, statement, substatement, class, command, type of object, its name, text, parameters, and rows if they are logged.
        number = [int(fields[1]), int(fields[2])]
        self._audited = True
        relation = fields[6] if fields[5] in ("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE") else ""
        if session.audit is not None and session.audit.number == number:
            if relation:
                session.audit.relations.append(relation)
            return
        self._settle_audit(session)
        if number <= session.audited:
            return
        if number[1] > 1:
            # A function's own statements, and the command around one: their rows do not leave the server.
            self._count("nested")
            return
        rows = int(fields[9]) if len(fields) > 9 else None
        command, text = fields[4], fields[7]
        if text in ("<previously logged>", "<not logged>"):
            text = ""
        found = reads(text)
        statement = self._matched(session, found, command, entry.time_ns)
        if statement is None:
            return
        statement.moves = statement.moves and not _EXPLAIN.match(text)
        if statement.moves and command not in COUNTED:
            if command == "COPY" and rows:
                self._copies_counted = True
            elif not (command == "COPY" and self._copies_counted):
                rows = None
                self._count("holes")
        session.audit = Audit(number, statement, [relation] if relation else [], rows, entry.time_ns)
        self._settled = False

    def _matched(self, session: Session, said: list[Read], command: str, time_ns: int) -> Statement | None:
        """The statement that waits for this line of pgAudit, or, where none was logged, what the line says of it itself."""
        prints = {read.fingerprint for read in said}
        for at, waiting in enumerate(session.pending):
            known = waiting.fingerprint in prints
            # A password in it is replaced, which changes the text; an EXECUTE shows what was prepared.
            if (
                known
                or (waiting.operation == "admin" and any(read.operation == "admin" for read in said))
                or (said and (said[0].effect or ("",))[0] == "prepare" and command in COUNTED)
            ):
                self._unaudited(session, at, time_ns)
                return session.pending.pop(0)
        if not said:
            self._count("texts_missing")
            return None
        statement = _kept(said[0], time_ns)
        if statement.operation == "connect" or command in ("DECLARE CURSOR", "PREPARE", "CLOSE CURSOR"):
            return None
        return statement

    def _settle_audit(self, session: Session) -> None:
        audit, session.audit = session.audit, None
        if audit is None:
            return
        session.audited = audit.number
        statement = audit.statement
        full = {name.rpartition(".")[2]: name for name in audit.relations}
        statement.names = [full.get(name.rpartition(".")[2], name) if ":" not in name else name for name in statement.names]
        if statement.moves and audit.rows is None:
            self._add(session, statement, audit.time_ns, messages=1)
            self._uncounted(session, audit.time_ns, statement.operation, statement.data_from)
            return
        self._add(session, statement, audit.time_ns, messages=1, rows=(audit.rows or 0) if statement.moves else 0)

    def _unaudited(self, session: Session, count: int, time_ns: int) -> None:
        """The first that wait get no line of pgAudit any more."""
        for statement in session.pending[:count]:
            self._add(session, statement, time_ns, messages=1)
            if statement.moves:
                self._count("rows_unknown")
                self._uncounted(session, time_ns, statement.operation, statement.data_from)
        del session.pending[:count]

    def _failed(self, entry: Entry, session: Session) -> None:
        self._settle_audit(session)
        failed = reads(entry.statement) if entry.statement else None
        if session.pending and self._is_failed(session.pending[-1], failed, entry.state):
            statement = session.pending.pop()
            moved = statement.moves and (failed is None or not entry.state.startswith(BEFORE_ROWS))
            if not entry.state.startswith(POSTGRESQL_REFUSED):
                self._add(session, statement, entry.time_ns, messages=1)
            if moved:
                self._uncounted(session, entry.time_ns, statement.operation, statement.data_from)
        session.undone = session.inside
        sets = failed is None or any((read.effect or ("",))[0] == "role" for read in failed)
        if sets and session.role != session.role_before:
            session.role = session.role_before
            self._identify(session, entry.time_ns)
        if entry.state.startswith(POSTGRESQL_REFUSED):
            said = next(iter(failed or ()), None)
            self._windows.add(
                session.connection,
                entry.time_ns,
                "refused",
                "client",
                names=said.names if said else (),
                columns=said.columns if said else (),
                statement=said.fingerprint if said else None,
                messages=1,
            )
        if entry.severity != "ERROR" and entry.state.startswith(POSTGRESQL_REFUSED):
            # A login that failed gets no line of its end.
            self._sessions.pop(entry.session, None)
            self._end(entry.session, session, entry.time_ns)

    def _is_failed(self, last: Statement, failed: list[Read] | None, state: str) -> bool:
        """Whether the last statement that waits is the one that failed, and not one before it that nobody audits."""
        if failed is not None and all(read.fingerprint != last.fingerprint for read in failed):
            return False
        if self._audited or failed is None:
            return True
        # What cannot be parsed gets no line of its own, and what is executed gets it when it is bound.
        early = state == SYNTAX_ERROR if last.logged == "statement" else state.startswith((*BEFORE_ROWS, *POSTGRESQL_REFUSED))
        return last.logged != "duration" and not early

    def _settle(self, *, idle: bool) -> None:
        """Statements that have waited long enough; when nothing more is there, what is complete by itself."""
        waiting = False
        for key, session in self._sessions.items():
            audit, pending = session.audit, session.pending
            if audit is not None and (idle or self._last_ns - audit.time_ns > SETTLE_NS):
                self._touched[key] = session
                self._settle_audit(session)
            if pending and not self._audited and (idle or self._last_ns - pending[0].time_ns > SETTLE_NS):
                self._touched[key] = session
                self._unaudited(session, len(pending), self._last_ns)
            waiting |= session.audit is not None or (bool(pending) and not self._audited)
        self._settled = not waiting

    # What the windows are told.

    def _open(self, session: Session) -> None:
        client, server = (session.host, session.port), (self._address, self._port)
        session.connection = self._windows.open(client, server, session.first_ns, protocol="postgresql", opened_by="client")
        self._windows.go_on(session.connection, session.first_ns, session.told)
        self._describe(session, session.first_ns)
        self._identify(session, session.first_ns)

    def _describe(self, session: Session, time_ns: int) -> None:
        self._windows.describe(
            session.connection,
            time_ns,
            transport=session.transport or ("unknown" if session.late else "none"),
            cipher=session.cipher,
            authentication=session.authentication,
            joined_late=session.late,
        )

    def _identify(self, session: Session, time_ns: int) -> None:
        self._windows.identify(
            session.connection,
            time_ns,
            account=session.user,
            role=session.role,
            application=session.application,
            account_from="server-log" if session.user else None,
        )

    def _add(self, session: Session, of: Statement, time_ns: int, *, messages: int, rows: int = 0) -> None:
        self._windows.add(
            session.connection,
            time_ns,
            of.operation,
            of.data_from,
            names=of.names if of.operation != "connect" else (),
            columns=of.columns,
            statement=of.fingerprint if of.operation != "connect" else None,
            marks=of.marks,
            messages=messages,
            rows=rows,
        )

    def _uncounted(self, session: Session, time_ns: int, operation: str, data_from: str) -> None:
        self._windows.uncounted(session.connection, time_ns, operation, data_from)

    def _end(self, key: str, session: Session, time_ns: int) -> None:
        self._settle_audit(session)
        self._unaudited(session, len(session.pending), time_ns)
        self._touched.pop(key, None)
        self._windows.close(session.connection, time_ns)


def _kept(read: Read, time_ns: int) -> Statement:
    moves = read.operation in MOVES and not read.server_side
    return Statement(read.fingerprint, read.operation, read.data_from, read.names, read.columns, read.marks, moves, time_ns)


def _audited(said: str) -> list[str] | None:
    """The fields of pgAudit's line, if it is one: anyone may raise a notice that begins like it."""
    with suppress(csv.Error, ValueError):
        fields = next(csv.reader(io.StringIO(said, newline=""), strict=True), [])
        if len(fields) in (9, 10) and fields[0] in ("SESSION", "OBJECT"):
            for number in (*fields[1:3], *fields[9:]):
                counted(number)
            return fields
    return None


# The two formats.


def _format(head: bytes) -> Literal["json", "csv"] | None:
    if head.startswith(b"{"):
        return "json"
    return "csv" if _CSV.match(head) else None


def _cut_csv(content: bytes) -> int:
    """A line break inside quotes is part of a field (RFC 4180, 2.6): of the last one outside them."""
    end = content.rfind(b"\n")
    quotes = content.count(b'"', 0, max(0, end))
    # All of it is looked at once, however many lines a client's statement has.
    while end >= 0 and quotes % 2:
        opened = content.rfind(b'"', 0, end)
        end = content.rfind(b"\n", 0, opened)
        quotes -= 1 + content.count(b'"', end + 1, opened)
    return end + 1


def _quoted(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = first = quotes = 0
    while (end := content.find(b"\n", at)) >= 0:
        quotes += content.count(b'"', at, end)
        at = end + 1
        if quotes % 2 == 0:
            if end > first:
                yield first, content[first:end]
            first = at


def _entry(record: bytes) -> Entry | None:
    """A record about a client's session; None for those of the server itself."""
    if record.startswith(b"{"):
        said = loaded(record)
        if not said.get("remote_host"):
            return None
        host, port = str(said["remote_host"]), counted(said.get("remote_port") or 0, 65_535)
        return Entry(
            _time_ns(said["timestamp"]), _word(said, "user"), host, port, str(said["session_id"]), counted(said["line_num"]),
            str(said["error_severity"]), str(said.get("state_code", "")), str(said.get("message", "")), _word(said, "statement"),
            _word(said, "application_name") if said.get("user") else None,
        )  # fmt: skip
    fields = next(csv.reader(io.StringIO(record.decode("utf-8", "replace"), newline=""), strict=True))
    # PostgreSQL 15, 20.8.4: the columns of csvlog; later releases only add at the end.
    if len(fields) < 23:
        raise ValueError(f"{len(fields)} columns, expected at least 23")
    if not fields[4]:
        return None
    host, colon, port_text = fields[4].rpartition(":")
    if not colon:
        host, port_text = fields[4], "0"
    return Entry(
        _time_ns(fields[0]), fields[1] or None, host, counted(port_text, 65_535), fields[5], counted(fields[6]),
        fields[11], fields[12], fields[13], fields[19] or None, fields[22] or None,
    )  # fmt: skip


def _word(said: dict[str, Any], name: str) -> str | None:  # Any: JSON values
    return None if said.get(name) is None else str(said[name])


def _time_ns(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("expected a time in UTC")
    zone = "Z" if found[3] else f"{found[4]}:{found[5] or '00'}"
    return instant(f"{found[1]}T{found[2]}{zone}")

"""Records of who logged in where, and of what was asked, as JSON lines: what is common to all that write them.

A record names a session by its client's address and port, or by a number of its own; from its login to its logout it is one connection of
the windows, with no bytes: those are the tap's, and both are joined by the connection's hash. A record without the client's port is a
session with the port 0: whoever joins views may take it for the tap's connection only when nobody else was logged in there
(docs/decisions/0041).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from collectors.feed import FeedError
from collectors.log import ServerLog, counted, loaded, moment
from collectors.statements import MOVES, reads
from hopwatch.events import time_ns as instant

if TYPE_CHECKING:
    from hopwatch_wire import Read

Json = Mapping[str, Any]  # Any: JSON values

SESSIONS_MAX: Final = 8_192
"""Sessions followed at a time; of more, the one heard of longest ago is let go, and counted."""

GONE_NS: Final = 60 * 10**9
"""A session that samples showed, and show no longer after so long, has ended."""

ENDED_NS: Final = 2 * 10**9
"""How long a session that has ended waits for records that come late."""

Verb = Literal["login", "logout", "refused", "seen", "said"]


@dataclass(slots=True)
class Entry:
    """One record. ``seen``: a sample shows the session; ``said``: it ran a statement."""

    time_ns: int
    verb: Verb
    session: str
    client: str = ""
    port: int = 0
    server: tuple[str, int] | None = None
    account: str | None = None
    application: str | None = None
    transport: str | None = None
    authentication: str | None = None
    until_ns: int | None = None
    """When it ends, if no record says so."""
    text: str = ""
    database: str | None = None
    operation: tuple[str, str] | None = None
    """Operation and side of the data, where the record tells them itself."""
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: int | None = None


@dataclass(slots=True)
class Session:
    """A session that is open."""

    key: str
    client: str
    port: int
    server: tuple[str, int]
    first_ns: int
    late: bool
    account: str | None
    application: str | None = None
    transport: str | None = None
    authentication: str | None = None
    until_ns: int | None = None
    sampled_ns: int | None = None
    told: list[Any] = field(default_factory=list)  # Any: as the windows gave it
    connection: int = -1

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Session.of`` takes it."""
        how = [self.application, self.transport, self.authentication, self.until_ns, self.sampled_ns]
        return [self.key, self.client, self.port, list(self.server), self.first_ns, self.late, self.account, *how, self.told]

    @classmethod
    def of(cls, state: list[Any]) -> Session:  # Any: JSON values
        """The same again."""
        key, client, port, server, *more, told = state
        session = cls(key, client, port, (server[0], server[1]), *more)
        session.told = [tuple(flow) for flow in told]
        return session


@dataclass(slots=True)
class Said:
    """What one record says: of a sample, of many sessions."""

    time_ns: int
    entries: tuple[Entry, ...]


class Records(ServerLog[Said]):
    """JSON lines about one server. Its own counters: ``sessions``, ``unplaced`` (without a port), ``rows_unknown``, ``passed_over``, …"""

    PROTOCOL: ClassVar[str | None] = None
    """What the server speaks, if its records tell."""

    DIALECT: ClassVar[str] = "postgresql"
    """Whose SQL its texts are."""

    @abstractmethod
    def _said(self, record: Json) -> list[Entry]:
        """What a record says; nothing of what is not about clients."""

    def _begin(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        *_, address, port = self._place
        self._server = (str(address), int(port))

    def counters(self) -> dict[str, int]:
        """What every log counts, and the sessions that are followed."""
        return super().counters() | {f"{self.KIND.replace('-', '_')}_sessions": len(self._sessions)}

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        return {"sessions": [session.state() for session in self._sessions.values()]}

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        for state in said["sessions"]:
            session = Session.of(state)
            self._sessions[session.key] = session
            self._open(session)

    def _format(self, path: Path, head: bytes) -> None:
        if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[{")):
            raise FeedError(f"{path}: no JSON lines; {self.KIND} reads one object, or an array of them, a line")

    def _parsed(self, record: bytes) -> Said | None:
        said = loaded(record.removeprefix(b"\xef\xbb\xbf"))
        # FOR JSON and its like write the rows of one query as one array.
        entries = tuple(entry for one in (said if isinstance(said, list) else [said]) for entry in self._said(one))
        if not entries:
            self._count("passed_over")
            return None
        return Said(max(moment(entry.time_ns) for entry in entries), entries)

    def _heard(self, entry: Said) -> None:
        for one in entry.entries:
            self._say(one)

    def _settle(self, *, idle: bool) -> None:
        """Sessions whose end is known by now, or that samples show no longer."""
        over = [one for one in self._sessions.values() if self._ends(one) is not None]
        for one in over:
            self._end(one, self._ends(one) or self._last_ns)

    def _ends(self, session: Session) -> int | None:
        if session.until_ns is not None and self._last_ns > session.until_ns + ENDED_NS:
            return session.until_ns
        if session.sampled_ns is not None and self._last_ns > session.sampled_ns + GONE_NS:
            return session.sampled_ns
        return None

    def _say(self, entry: Entry) -> None:
        session = self._sessions.get(entry.session)
        if entry.verb == "logout":
            if session is not None:
                session.until_ns = entry.time_ns
            return
        if entry.client:
            # An address of version 4 is often written as one of version 6.
            with suppress(ValueError):
                address = ip_address(entry.client)
                entry.client = str(getattr(address, "ipv4_mapped", None) or address)
        if session is not None and (
            (entry.verb == "login" and entry.time_ns > session.first_ns)
            or (entry.client and (entry.client, entry.port) != (session.client, session.port) and (entry.port or not session.port))
        ):
            # Its name is used again, or its port is known now.
            self._end(session, max(session.first_ns, entry.time_ns))
            session = None
        if session is None:
            if not entry.client:
                self._count("unplaced_records")
                return
            session = self._first(entry)
            if session is None:
                return
        self._sessions.move_to_end(session.key)
        self._touched[session.key] = session
        at_ns = max(entry.time_ns, session.first_ns)
        if entry.verb == "seen":
            session.sampled_ns = entry.time_ns
        if entry.until_ns is not None:
            session.until_ns = entry.until_ns
        if entry.account and entry.account != session.account:
            session.account = entry.account
            self._identify(session, at_ns)
        if entry.verb == "refused":
            said = self._reads(entry)
            for read in said:
                self._windows.add(
                    session.connection, at_ns, "refused", "client",
                    names=read.names, columns=read.columns, statement=read.fingerprint, messages=1,
                )  # fmt: skip
            if not said:
                self._windows.add(session.connection, at_ns, "refused", "client", names=list(entry.names), messages=1)
            if not entry.text and not entry.names and session.until_ns is None and session.sampled_ns is None and session.late is False:
                session.until_ns = at_ns
        elif entry.verb == "said":
            self._stated(entry, session, at_ns)

    def _stated(self, entry: Entry, session: Session, at_ns: int) -> None:
        if entry.operation is not None:
            self._counted(session, at_ns, *entry.operation, list(entry.names), list(entry.columns), None, (), entry.rows)
            return
        said = self._reads(entry)
        for read in said:
            # One record is of a whole batch: its rows are of one of the statements, and which is not known.
            rows = entry.rows if len(said) == 1 else None
            names, columns = read.names, read.columns
            self._counted(session, at_ns, read.operation, read.data_from, names, columns, read.fingerprint, read.marks, rows)

    def _counted(
        self,
        session: Session,
        at_ns: int,
        operation: str,
        data_from: str,
        names: list[str],
        columns: list[str],
        statement: str | None,
        marks: Iterable[str],
        rows: int | None,
    ) -> None:
        moves = operation in MOVES
        if operation == "connect":
            names, columns, statement = [], [], None
        self._windows.add(
            session.connection, at_ns, operation, data_from, names=names, columns=columns, statement=statement,
            marks=list(marks), messages=1, rows=(rows or 0) if moves else 0,
        )  # fmt: skip
        if (moves and rows is None) or operation == "call":
            self._count("rows_unknown")
            self._windows.uncounted(session.connection, at_ns, operation, data_from)

    def _reads(self, entry: Entry) -> list[Read]:
        return reads(entry.text, dialect=self.DIALECT, database=entry.database) if entry.text else []

    # What the windows are told.

    def _first(self, entry: Entry) -> Session | None:
        if len(self._sessions) >= SESSIONS_MAX:
            self._end(next(iter(self._sessions.values())), self._last_ns)
            self._count("sessions_over")
        # Sessions of one moment without a port would be one flow: each has its digits that no clock has.
        first_ns = entry.time_ns if entry.port else entry.time_ns + int(blake2b(entry.session.encode(), digest_size=2).hexdigest(), 16)
        session = Session(
            entry.session, entry.client, entry.port, entry.server or self._server, first_ns, entry.verb in ("seen", "said"), entry.account,
            entry.application, entry.transport, entry.authentication,
        )  # fmt: skip
        try:
            self._open(session)
        except (ValueError, OverflowError):
            # A name where an address is needed.
            self._count("unresolved")
            return None
        if not session.port:
            self._count("unplaced")
        self._sessions[session.key] = session
        self._windows.add(session.connection, first_ns, "connect", "client")
        return session

    def _open(self, session: Session) -> None:
        client = (session.client, session.port)
        session.connection = self._windows.open(client, session.server, session.first_ns, protocol=self.PROTOCOL, opened_by="client")
        self._windows.go_on(session.connection, session.first_ns, session.told)
        self._windows.describe(
            session.connection,
            session.first_ns,
            transport=session.transport or "unknown",
            authentication=session.authentication,
            joined_late=session.late,
        )
        self._identify(session, session.first_ns)

    def _identify(self, session: Session, time_ns: int) -> None:
        account = session.account or None
        self._windows.identify(
            session.connection, time_ns, account=account, application=session.application, account_from="server-log" if account else None
        )

    def _end(self, session: Session, time_ns: int) -> None:
        self._sessions.pop(session.key, None)
        self._touched.pop(session.key, None)
        time_ns = max(time_ns, session.first_ns)
        # Whoever joins a login without a port to a connection must hear of its end.
        self._windows.add(session.connection, time_ns, "connect", "client")
        self._windows.close(session.connection, time_ns)


# What the records of several kinds have alike.


def found(record: Json, *paths: str) -> Any:  # Any: a JSON value
    """The first of the fields, said with dots, that is there and is something; None if none is."""
    for path in paths:
        value: Any = record.get(path)
        if value is None:
            value = record
            for name in path.split("."):
                value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None and value not in ("", "-"):
            return value
    return None


def text_of(record: Json, *paths: str) -> str | None:
    """The same as text."""
    value = found(record, *paths)
    return None if value is None or isinstance(value, Mapping | list) else str(value)


def port_of(record: Json, *paths: str) -> int:
    """A port; 0 if none is said.

    Raises:
        ValueError: something else is.
    """
    return counted(found(record, *paths) or 0, 65_535)


def time_of(record: Json, *paths: str) -> int:
    """A time as RFC 3339 or ISO 8601 has it, in UTC if it says no zone.

    Raises:
        ValueError: none is there.
    """
    said = text_of(record, *paths)
    if said is None:
        raise ValueError("no time")
    found_ = _TIME.fullmatch(said.strip())
    if found_ is None:
        raise ValueError("a time in a form that is not known")
    zone = (found_[3] or "Z").replace(" ", "")
    if zone in ("z", "UTC"):
        zone = "Z"
    elif zone != "Z" and ":" not in zone:
        zone = f"{zone[:3]}:{zone[3:] or '00'}"
    return instant(f"{found_[1]}T{found_[2]}{zone}")


_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?)\d* ?(Z|z|UTC|[+-]\d\d:?(?:\d\d)?)?")

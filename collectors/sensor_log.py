"""What another sensor on the wire says of connections, as flows: the part that Zeek and Suricata have in common.

Their records come by protocol and out of order: who logged in, what was asked, what TLS agreed, and, when the connection is over, how
many bytes it was. They are joined by the sensor's own number of the connection. A record of the end waits until what the others
say of the connection has been read.

Bytes come for a whole connection. They go to the one movement of each direction where the content was read, and are ``estimated``
where there were several; what was not read is one ``transfer``, as it is from a tap.
A sensor that does not say who sent a message of MQTT (Suricata) leaves it to the session's filters: what they match was delivered.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from collectors.log import Log, counted
from collectors.statements import MOVES, reads

SESSIONS_MAX: Final = 8_192
"""Connections followed at a time; of more, the one heard of longest ago is let go, and counted."""

MOVEMENTS_MAX: Final = 64
"""Kinds of movement of one connection among which its bytes are shared; what comes after shares none."""

NAMES_MAX: Final = 8
"""Names of one server that are told."""

ANSWERS_MAX: Final = 8_192
"""Answers of DNS that are remembered over a restart; of more, the one heard longest ago is forgotten, and counted."""

FILTERS_MAX: Final = 64
"""Filters of one MQTT client that are remembered."""

TTL_S_MAX: Final = 0x7FFFFFFF
"""The longest life of an answer of DNS (RFC 2181, 8)."""

SETTLE_NS: Final = 60 * 10**9
"""How long the end of a connection waits for records that were written before it, where there is always more to read."""

CONTROL: Final = frozenset({"connect", "refused", "admin", "ddl"})
"""What bytes of a connection are not counted for where it moved data, too."""

UNKNOWN: Final = "unknown"
"""The name of objects that no record told."""


@dataclass(slots=True)
class Movement:
    """Something that moved; no text of it."""

    operation: str
    data_from: str
    names: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    statement: str | None = None
    marks: list[str] = field(default_factory=list)
    rows: int = 0
    messages: int = 1
    uncounted: bool = False
    """What it moved is not in the record."""
    sender_unknown: bool = False
    """A message of MQTT that the client or the broker sent."""


@dataclass(slots=True)
class End:
    """A connection is over, or this much of it is: bytes from the client, and back."""

    bytes: int
    bytes_back: int
    late: bool = False
    one_sided: bool = False
    missed: bool = False
    estimated: bool = False
    final: bool = True


@dataclass(slots=True)
class Said:
    """One record."""

    time_ns: int
    key: str
    client: tuple[str, int]
    server: tuple[str, int]
    transport: str = "tcp"
    protocol: str | None = None
    account: str | None = None
    account_from: str | None = None
    application: str | None = None
    tls: str | None = None
    cipher: str | None = None
    names: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[str, str, int]] = field(default_factory=list)
    """Addresses, names and seconds: what DNS told the client."""
    movements: list[Movement] = field(default_factory=list)
    unread: bool = False
    """Something was said that the sensor could not read."""
    end: End | None = None


@dataclass(slots=True)
class Session:
    """A connection, as far as it was told."""

    client: list[Any]  # Any: address and port, as JSON gives them back
    server: list[Any]  # Any: as above
    transport: str
    first_ns: int
    protocol: str | None = None
    account: str | None = None
    account_from: str | None = None
    application: str | None = None
    tls: str | None = None
    cipher: str | None = None
    names: list[list[str]] = field(default_factory=list)
    unread: bool = False
    filters: list[str] = field(default_factory=list)
    """What an MQTT client has subscribed to."""
    moved: list[list[Any]] = field(default_factory=list)  # Any: operation, side, one set of objects, and how many messages
    end: dict[str, Any] | None = None  # Any: an End, and its time
    end_ns: int = 0
    told: list[Any] = field(default_factory=list)  # Any: as the windows gave it
    opened: bool = False
    connection: int = -1


class SensorLog(Log[Said]):
    """The records of one sensor. Its own counters: ``sessions``, ``sessions_over``, ``unplaced`` (no address, no port), …"""

    def _begin(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._answers: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        """Until when which client knows which address by which name: the windows' memory of it ends with the process."""

    def counters(self) -> dict[str, int]:
        """What every log counts, and the connections that are followed."""
        return super().counters() | {f"{self.KIND}_sessions": len(self._sessions)}

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        answers = [[*key, until_ns] for key, until_ns in self._answers.items() if until_ns > self._last_ns]
        return {"sessions": {key: asdict(session) for key, session in self._sessions.items()}, "answers": answers}

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        for client, address, name, until_ns in said["answers"]:
            self._answered(client, address, name, self._last_ns, until_ns - self._last_ns)
        for key, state in said["sessions"].items():
            session = self._sessions[key] = Session(**state | {"told": [tuple(flow) for flow in state["told"]]})
            if session.opened:
                self._open(session)

    def _heard(self, said: Said) -> None:
        for address, name, ttl_s in said.answers:
            with suppress(ValueError):
                self._answered(said.client[0], address, name, said.time_ns, ttl_s * 10**9)
        session = self._session(said)
        self._learn(session, said)
        for movement in said.movements:
            self._move(said.key, session, movement, said.time_ns)
        if said.end is not None:
            self._settled = False
            if session.end is not None:
                self._close(said.key, session)
                session = self._session(said)
                self._learn(session, said)
            session.end, session.end_ns = asdict(said.end), said.time_ns

    def _answered(self, client: str, address: str, name: str, time_ns: int, ttl_ns: int) -> None:
        self._windows.answered(client, address, name, time_ns, -(-ttl_ns // 10**9))
        key = (client, address, name)
        self._answers[key] = max(self._answers.pop(key, 0), time_ns + ttl_ns)
        if len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
            self._count("names_over")

    def _session(self, said: Said) -> Session:
        session = self._sessions.get(said.key)
        if session is not None:
            self._sessions.move_to_end(said.key)
            return session
        if len(self._sessions) >= SESSIONS_MAX:
            key = next(iter(self._sessions))
            self._close(key, self._sessions[key])
            self._count("sessions_over")
        session = self._sessions[said.key] = Session(list(said.client), list(said.server), said.transport, said.time_ns)
        return session

    def _learn(self, session: Session, said: Said) -> None:
        """Who it is and how it is protected; a connection under TLS stays so whatever else is said of it."""
        who = (session.account, session.application)
        session.protocol = session.protocol or said.protocol
        session.account, session.account_from = said.account or session.account, said.account_from or session.account_from
        session.application = said.application or session.application
        session.unread = session.unread or said.unread
        news = said.tls is not None or bool(said.names)
        if session.tls in (None, UNKNOWN):
            session.tls = said.tls or session.tls
        session.cipher = said.cipher or session.cipher
        for name in map(list, said.names):
            if name not in session.names and len(session.names) < NAMES_MAX:
                session.names.append(name)
        if session.opened and (news or who != (session.account, session.application)):
            self._touched[said.key] = session
            self._describe(session, said.time_ns)

    def _move(self, key: str, session: Session, movement: Movement, time_ns: int) -> None:
        self._opened(key, session)
        if movement.operation == "subscribe" and not movement.messages:
            session.filters = list(dict.fromkeys([*session.filters, *movement.names]))[-FILTERS_MAX:]
        elif movement.sender_unknown and any(matches(one, movement.names[0]) for one in session.filters):
            movement.operation, movement.data_from = "subscribe", "server"
        kind = [movement.operation, movement.data_from, movement.names, movement.columns, movement.statement, movement.marks]
        known = next((one for one in session.moved if one[:-1] == kind), None)
        if known is not None:
            known[-1] += movement.messages
        elif len(session.moved) < MOVEMENTS_MAX:
            session.moved.append([*kind, movement.messages])
        self._windows.add(
            session.connection,
            time_ns,
            movement.operation,
            movement.data_from,
            names=movement.names,
            columns=movement.columns,
            statement=movement.statement,
            marks=movement.marks,
            rows=movement.rows,
            messages=movement.messages,
        )
        if movement.uncounted:
            self._windows.uncounted(session.connection, time_ns, movement.operation, movement.data_from)

    def _settle(self, *, idle: bool) -> None:
        """Connections that are over, once nothing more can come of them."""
        over = [key for key, one in self._sessions.items() if one.end is not None and (idle or self._last_ns - one.end_ns > SETTLE_NS)]
        for key in over:
            self._close(key, self._sessions[key])
        self._settled = not any(one.end is not None for one in self._sessions.values())

    def _close(self, key: str, session: Session) -> None:
        del self._sessions[key]
        if session.end is not None:
            end = End(**session.end)
            self._opened(key, session)
            self._windows.describe(
                session.connection,
                session.end_ns,
                transport=_transport(session),
                cipher=session.cipher,
                joined_late=end.late,
                one_sided=end.one_sided,
                encrypted=session.tls is not None,
            )
            self._ended(session, end)
        self._touched.pop(key, None)
        if session.opened:
            self._windows.close(session.connection, session.end_ns or self._last_ns)

    def _ended(self, session: Session, end: End) -> None:
        shares = _shares(session, end)
        for (operation, data_from, names, columns, statement, marks), forth, back in shares:
            self._windows.add(
                session.connection,
                session.end_ns,
                operation,
                data_from,
                names=names,
                columns=columns,
                statement=statement,
                marks=marks,
                bytes=forth,
                bytes_back=back,
            )
            if end.estimated or len(shares) > 1:
                self._windows.estimated(session.connection, session.end_ns, operation, data_from)
            if end.missed:
                self._windows.uncounted(session.connection, session.end_ns, operation, data_from)

    def _opened(self, key: str, session: Session) -> None:
        self._touched[key] = session
        if not session.opened:
            session.opened = True
            self._open(session)

    def _open(self, session: Session) -> None:
        (client, client_port), (server, server_port) = session.client, session.server
        depth = "blind" if session.tls is not None else "decoded" if session.moved or session.protocol else "sizes"
        session.connection = self._windows.open(
            (client, client_port),
            (server, server_port),
            session.first_ns,
            protocol=session.protocol,
            depth=depth,
            seen_by="sensor",
            transport=session.transport,
            opened_by="client",
        )
        self._windows.go_on(session.connection, session.first_ns, session.told)
        self._describe(session, session.first_ns)

    def _describe(self, session: Session, time_ns: int) -> None:
        for name, by in session.names:
            self._windows.named(session.connection, time_ns, name, by)
        encrypted = session.tls is not None
        self._windows.describe(session.connection, time_ns, transport=_transport(session), cipher=session.cipher, encrypted=encrypted)
        self._windows.identify(
            session.connection,
            time_ns,
            account=session.account,
            application=session.application,
            account_from=session.account_from if session.account else None,
        )


def _transport(session: Session) -> str:
    return session.tls or ("opcua-none" if session.protocol == "opcua" else "none")


def _shares(session: Session, end: End) -> list[tuple[list[Any], int, int]]:  # Any: a movement as a session keeps it
    """Whose the bytes are: movements, their bytes and bytes back; of several that come from one side, by their messages."""
    alone: list[Any] = ["client", [], [], None, []]  # Any: as above
    if not (end.bytes or end.bytes_back):
        return [] if session.moved else [(["attempt", *alone], 0, 0)]
    if session.tls is not None or session.unread or not session.moved:
        return [(["transfer", *alone], end.bytes, end.bytes_back)]
    moved = [one for one in session.moved if one[0] not in CONTROL]
    up, down = ([one for one in moved if one[1] == side] for side in ("client", "server"))
    if up and down:
        return [(one[:-1], size, 0) for one, size in _split(up, end.bytes)] + [
            (one[:-1], size, 0) for one, size in _split(down, end.bytes_back)
        ]
    if not (up or down):
        return [(["connect", *alone], end.bytes, end.bytes_back)]
    sizes = (end.bytes, end.bytes_back) if up else (end.bytes_back, end.bytes)
    forth, back = (_split(up or down, size) for size in sizes)
    return [(one[:-1], size, returned) for (one, size), (_, returned) in zip(forth, back, strict=True)]


def _split(moved: list[list[Any]], size: int) -> list[tuple[list[Any], int]]:  # Any: as above
    weights = [max(1, one[-1]) for one in moved]
    whole = sum(weights)
    parts = [size * weight // whole for weight in weights]
    parts[-1] += size - sum(parts)
    return list(zip(moved, parts, strict=True))


def matches(filter_: str, topic: str) -> bool:
    """Whether a filter has the topic (OASIS MQTT 5.0, 4.7; a shared one by what stands behind its group, 4.8.2)."""
    parts = filter_.split("/")
    wanted = parts[2:] if parts[0] == "$share" else parts
    levels = topic.split("/")
    for place, part in enumerate(wanted):
        if part == "#":
            return True
        if place >= len(levels) or part not in ("+", levels[place]):
            return False
    return len(wanted) == len(levels)


def placed(address: str, port: Any) -> tuple[str, int]:  # Any: a JSON value
    """An end, its address in the one spelling.

    Raises:
        ValueError: not an address, or not a port.
    """
    return str(ipaddress.ip_address(address)), counted(port, 65_535)


def word(row: Mapping[str, Any], name: str) -> str | None:  # Any: JSON values
    """A field as text; None if it is not there, or empty."""
    found = row.get(name)
    return str(found) if found not in (None, "") else None


def asked(said: Said, method: str, target: str, status: int) -> None:
    """A request of HTTP and its answer; ``status`` 0: not told."""
    from hopwatch_wire import read_request

    operation, data_from, name, marks, *_ = read_request(method, target, status=status)
    tunnel = method == "CONNECT"
    said.protocol, said.unread = "http", said.unread or (tunnel and operation == "connect")
    said.movements.append(Movement(operation, data_from, [] if tunnel else [name], marks=marks))


def stated(text: str, rows: int | None, dialect: str) -> list[Movement]:
    """The statements of a text, the rows those of the last that moves any; nothing of the text is kept."""
    found: list[Movement] = []
    for read in reads(text, dialect=dialect):
        movement = Movement(read.operation, read.data_from, read.names, read.columns, read.fingerprint, read.marks)
        if movement.operation == "connect":
            movement.names, movement.columns, movement.statement = [], [], None
        movement.uncounted = movement.operation in MOVES and not read.server_side and rows is None
        found.append(movement)
    carriers = [one for one in found if one.operation in MOVES]
    if rows and carriers:
        carriers[-1].rows = rows
        for one in carriers[:-1]:
            one.uncounted = True
    return found

"""An OPC UA server's own diagnostics become flows, where a tap sees an encrypted channel only (OPC 10000-5, 6.3 and 12.9 to 12.15).

The server counts, for every session, how often each service was called, and for every subscription how many values it has sent. The
counts are asked for in one Read every few seconds; what a session has moved is what they have grown by, so a restart of ours loses and
doubles nothing. Audit events (OPC 10000-5, 6.4) say which node was written, and which sessions came and went in between.

What the server does not tell is not invented: no client's address (see `Clients`), no nodes that were read, no values of a Read.
No field that holds a value or a user's token is ever asked for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from collectors.dialled import Dialled, backoff, gap, number, secret
from collectors.feed import POLL_S, FeedError, Told, resumed
from collectors.log import read_state, write_state
from hopwatch.events import time_ns as instant

SESSIONS_MAX: Final = 1_000
"""Sessions of one answer that are followed."""

SUBSCRIPTIONS_MAX: Final = 10_000
"""Subscriptions of one answer that are counted."""

CLIENTS_MAX: Final = 4_096
CLIENTS_BYTES_MAX: Final = 1 << 20

AUDITED_MAX: Final = 10_000
"""Audit events between two answers that are kept; of more, the writes are counted without their nodes."""

NAME_CHARS_MAX: Final = 256
"""Characters of a name that are kept."""

ITEMS_MAX: Final = 64
COUNTER_MAX: Final = 1 << 32
"""Counters are of 32 bits (OPC 10000-5, 12.15)."""

TIMEOUT_S: Final = 10.0

SERVICES: Final = {
    "ReadCount": ("read", "server", 2, False),
    "HistoryReadCount": ("history-read", "server", 2, False),
    "WriteCount": ("write", "client", 2, False),
    "HistoryUpdateCount": ("history-write", "client", 2, False),
    "CallCount": ("call", "client", 2, True),
    "BrowseCount": ("browse", "server", 2, True),
    "BrowseNextCount": ("browse", "server", 2, True),
    "TranslateBrowsePathsToNodeIdsCount": ("browse", "server", 2, True),
    "RegisterNodesCount": ("browse", "server", 2, True),
    "AddNodesCount": ("ddl", "client", 2, True),
    "AddReferencesCount": ("ddl", "client", 2, True),
    "DeleteNodesCount": ("ddl", "client", 2, True),
    "DeleteReferencesCount": ("ddl", "client", 2, True),
    "QueryFirstCount": ("query", "server", 2, False),
    "QueryNextCount": ("query", "server", 2, False),
    "UnauthorizedRequestCount": ("refused", "client", 1, True),
}
"""Of a counter of a session: what was done, whence the data comes, messages of one call, and whether that is all there is to count."""

AUDIT_FIELDS: Final = (
    (2041, "EventType"), (2041, "SourceNode"), (2052, "Status"), (2052, "ClientUserId"), (2069, "SessionId"), (2071, "ClientCertificate"),
)  # fmt: skip
"""By the type that defines each (OPC 10000-5, 6.4.3 to 6.4.8). Neither a value nor a token, in which servers have left passwords."""

AUDIT_WRITE: Final = 2100
AUDIT_SESSIONS: Final = (2069, 2071, 2075)
"""Of a session in general, that one is made, and that one is activated."""

_CLIENT: Final = re.compile(r"(?P<address>[0-9A-Fa-f.:]+)\s+(?P<name>\S.*)")

Counts = dict[str, int]

VALUES: Final = "values "
NOTES: Final = "notifications "
"""Before the number of a subscription: how many values, and how many notifications, it has sent."""


@dataclass(slots=True)
class Session:
    """A session of a client, as the server told of it last."""

    name: str
    account: str | None
    host: str
    port: int
    first_ns: int
    mode: str
    policy: str
    late: bool
    """It was there before anybody asked."""
    counts: Counts
    told: list[Any] = field(default_factory=list)  # Any: as the windows gave it
    connection: int = -1

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Session.of`` takes it."""
        return [self.name, self.account, self.host, self.port, self.first_ns, self.mode, self.policy, self.late, self.counts, self.told]

    @classmethod
    def of(cls, state: list[Any]) -> Session:  # Any: JSON values
        """The same again."""
        return resumed(cls, state)


class Clients:
    """Where clients are: a file that says so, else the one address in a client's certificate (OPC 10000-6, 6.2.2).

    Each line of the file is ``ADDRESS NAME``, the name that of the session's application URI, or the common name of its certificate.
    """

    def __init__(self, told: Told) -> None:
        """Reads the file of the option ``clients``.

        Raises:
            FeedError: it cannot be read, or a line says something else.
        """
        self._known: dict[str, str] = {}
        path = told.options.get("clients")
        if path is None:
            return
        try:
            with Path(path).open("rb") as file:
                text = file.read(CLIENTS_BYTES_MAX + 1).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise FeedError(f"{told.kind} {told.feed}: clients {path}: {error}") from None
        for number_, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _CLIENT.fullmatch(line.strip())
            address = _address(found["address"]) if found else None
            if found is None or address is None or len(self._known) >= CLIENTS_MAX:
                raise FeedError(f"{told.kind} {told.feed}: clients {path}, line {number_}: expected ADDRESS NAME, 10.20.1.30 urn:historian")
            self._known[found["name"]] = address

    def place(self, uri: str, certificate: x509.Certificate | None) -> str | None:
        """The address of the client that says it is ``uri``; None if nobody says."""
        named = self._known.get(uri) or self._known.get(_common_name(certificate) or "")
        if named is not None or certificate is None:
            return named
        with suppress(x509.ExtensionNotFound, ValueError):
            said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            addresses = said.get_values_for_type(x509.IPAddress)
            if len(addresses) == 1:
                return str(addresses[0])
        return None


class OpcuaServer(Dialled[dict[str, Any]]):  # Any: JSON values, as the plan keeps them
    """One server. ``lives`` while it answers."""

    KIND = "opcua-server"
    OPTIONS = (
        "user", "password_file", "user_cert", "user_key", "cert", "key", "server_cert", "uri",
        "poll", "clients", "objects", "messages", "cleartext",
    )  # fmt: skip

    def __init__(self, told: Told, plant: str, state: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        """As of every feed that dials.

        Raises:
            FeedError: as there.
        """
        super().__init__(told, plant, state, now_ns)
        self._host, self._port = _server(told)
        self._password = secret(told, "password_file")
        self._poll_s = number(told, "poll", 5, 1, 3_600)
        self._clients = Clients(told)
        self._objects = [told.options["objects"]] if "objects" in told.options else []
        self._messages = told.options.get("messages") == "yes"
        if ("cert" in told.options) != ("key" in told.options) or ("cert" not in told.options and told.options.get("cleartext") != "yes"):
            raise FeedError(f"{told.kind} {told.feed}: cert and key of this client (Basic256Sha256, SignAndEncrypt), or cleartext=yes")
        if "cert" in told.options and "server_cert" not in told.options:
            raise FeedError(f"{told.kind} {told.feed}: server_cert, the server's certificate: without it anyone could be the server")
        for option in ("cert", "key", "user_cert", "user_key", "server_cert"):
            if option in told.options and not Path(told.options[option]).is_file():
                raise FeedError(f"{told.kind} {told.feed}: {option} {told.options[option]}: no such file")
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._until_ns = 0
        """When the server was asked last of what was handed over; 0 if never."""
        self._cumulated: int | None = None
        self._plan: list[dict[str, Any]] | None = None  # Any: JSON values
        self._restore()

    @classmethod
    def of(cls, told: Told, plant: str, state: Path) -> OpcuaServer:
        """``[FEED=]opc.tcp://HOST:PORT[?user=…&password_file=…&cert=…&key=…&…]``.

        Raises:
            FeedError: something else.
        """
        return cls(told, plant, state)

    def counters(self) -> dict[str, int]:
        """What was asked and told, and what stays unknown."""
        more = {
            "connected": int(self.lives),
            "sessions": len(self._sessions),
            "unreadable": self.unreadable,
            "waits": self._heard.waits_total,
        }
        return {f"opcua_server_{name}": count for name, count in (self._counts | more).items()}

    def _follow(self, stopping: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[list[bytes]]:
        if self._plan is not None:
            yield self._read(self._plan)
            self._save(None)
        while not stopping():
            items = self._heard.take(ITEMS_MAX)
            if not items:
                yield []
                sleep(POLL_S)
                continue
            self._save(items)
            yield self._read(items)
            self._save(None)

    # The state: what is read next is written down before it is read (docs/decisions/0037).

    def _save(self, plan: list[dict[str, Any]] | None) -> None:  # Any: JSON values
        said = {
            "version": 1,
            "of": self._place,
            "until_ns": self._until_ns,
            "cumulated": self._cumulated,
            "sessions": {key: session.state() for key, session in self._sessions.items()},
            "plan": plan,
        }
        write_state(self._state, said)

    def _restore(self) -> None:
        said = read_state(self._state, self._place)
        if said is None:
            return
        self._until_ns, self._cumulated, self._plan = said["until_ns"], said["cumulated"], said["plan"]
        for key, state in said["sessions"].items():
            session = self._sessions[key] = Session.of(state)
            self._open(session)

    def _read(self, items: Sequence[dict[str, Any]]) -> list[bytes]:  # Any: JSON values
        for item in items:
            if "sessions" in item:
                self._asked(item)
            else:
                self.lives = False
        for session in self._sessions.values():
            if session.connection >= 0:
                session.told = self._windows.told(session.connection)
        events, self._events = self._events, []
        return [*events, *self._windows.take()]

    # What the server said.

    def _asked(self, said: dict[str, Any]) -> None:  # Any: JSON values
        now_ns, since_ns, began = said["time_ns"], self._until_ns, not self._until_ns
        was_alive, self.lives = self.lives, True
        self._count("polls")
        self._count("over", said.get("over", 0))
        appeared = 0
        # A subscription may have gone from one session to another (OPC 10000-4, 5.14.7).
        sent = {name: count for one in self._sessions.values() for name, count in one.counts.items() if name not in SERVICES}
        for key, now in said["sessions"].items():
            session = self._sessions.get(key)
            if session is None:
                appeared += 1
                session = self._first(key, now, late=began)
            elif now["account"] and now["account"] != session.account:
                session.account = now["account"]
                self._identify(session, now_ns)
            self._grown(session, sent | session.counts, now["counts"], said["written"].get(now["user"] or "", {}), now_ns)
        unread = said.get("unread", ())
        if unread:
            # What they moved is in the next answer that can be read.
            self.unreadable += len(unread)
            self.example = f"{self._host}:{self._port}: session {unread[0][:NAME_CHARS_MAX]}"
        for key in [key for key in self._sessions if key not in said["sessions"] and key not in unread]:
            self._gone(self._sessions.pop(key), now_ns)
        for place in said["refused"]:
            self._refused(place, now_ns)
        self._count("audited", said["audited"])
        cumulated = said["cumulated"]
        if not began and cumulated is not None and self._cumulated is not None:
            # Sessions that came and went between two answers moved what nobody counted.
            missed = cumulated - self._cumulated - appeared
            if missed > 0:
                self._count("sessions_missed", missed)
                self._events.append(gap(self._place, since_ns, now_ns, f"{missed} sessions came and went between two answers"))
            elif missed < 0 and not was_alive:
                self._events.append(gap(self._place, since_ns, now_ns, "the server began anew: what it counted before is gone"))
        self._cumulated, self._until_ns = cumulated, now_ns

    def _first(self, key: str, now: dict[str, Any], *, late: bool) -> Session:  # Any: JSON values
        """A session that is new to us; what it did before we first asked any is not ours to tell."""
        counts = dict(now["counts"]) if late else {}
        session = Session(now["name"], now["account"], now["host"], now["port"], now["first_ns"], now["mode"], now["policy"], late, counts)
        self._sessions[key] = session
        if session.mode == "unknown":
            self._count("security_unread")
        if not session.host:
            self._count("unplaced")
            return session
        self._open(session)
        if session.connection >= 0:
            self._windows.add(session.connection, session.first_ns, "connect", "client")
        return session

    def _open(self, session: Session) -> None:
        if not session.host:
            return
        server = (self._host, self._port)
        try:
            session.connection = self._windows.open(
                (session.host, session.port), server, session.first_ns, protocol="opcua", opened_by="client"
            )
        except (ValueError, OverflowError):
            self._count("unplaced")
            return
        self._windows.go_on(session.connection, session.first_ns, session.told)
        self._windows.describe(
            session.connection, session.first_ns, transport=session.mode, policy=session.policy or None, joined_late=session.late
        )
        self._identify(session, session.first_ns)

    def _identify(self, session: Session, time_ns: int) -> None:
        if session.connection >= 0:
            self._windows.identify(
                session.connection,
                time_ns,
                account=session.account,
                application=session.name or None,
                account_from="server-log" if session.account else None,
            )

    def _grown(self, session: Session, before: Counts, counts: Counts, written: dict[str, int], now_ns: int) -> None:
        """What a session did since the last answer."""
        grown = {name: _since(before.get(name, 0), count) for name, count in counts.items()}
        ended = any(name.startswith(VALUES) and name not in counts for name in session.counts)
        session.counts = counts
        if session.connection < 0:
            return
        names = self._objects
        for name, (operation, data_from, messages, counted) in SERVICES.items():
            whole, calls = counted, grown.get(name, 0)
            if not calls:
                continue
            shown = messages * calls if self._messages else 0
            nodes = [] if whole else names
            if operation == "write" and sum(written.values()) >= calls:
                for node, values in written.items():
                    self._windows.add(session.connection, now_ns, operation, data_from, names=[node], values=values)
                whole = True
                nodes = []
            self._windows.add(session.connection, now_ns, operation, data_from, names=nodes, messages=shown)
            if not whole:
                self._windows.uncounted(session.connection, now_ns, operation, data_from)
        values = sum(count for name, count in grown.items() if name.startswith(VALUES))
        notes = sum(count for name, count in grown.items() if name.startswith(NOTES)) if self._messages else 0
        if values or notes:
            self._windows.add(session.connection, now_ns, "subscribe", "server", names=names, values=values, messages=notes)
        if ended:
            # What it sent after the last answer and before its end nobody has counted.
            self._windows.uncounted(session.connection, now_ns, "subscribe", "server")

    def _gone(self, session: Session, now_ns: int) -> None:
        """What a session did after the last answer and before its end nobody has counted."""
        if session.connection < 0:
            return
        done = {SERVICES[name][:2] for name, count in session.counts.items() if name in SERVICES and count and not SERVICES[name][3]}
        if any(name.startswith(VALUES) for name in session.counts):
            done.add(("subscribe", "server"))
        for operation, data_from in sorted(done):
            self._windows.uncounted(session.connection, now_ns, operation, data_from)
        # The end of a login is told with it: until then it names what a tap sees of this client (docs/decisions/0041).
        self._windows.add(session.connection, now_ns, "connect", "client")
        self._windows.close(session.connection, now_ns)
        self._count("sessions_ended")

    def _refused(self, host: str, now_ns: int) -> None:
        self._count("refused")
        if not host:
            return
        connection = self._windows.open((host, 0), (self._host, self._port), now_ns, protocol="opcua", opened_by="client")
        self._windows.add(connection, now_ns, "refused", "client", messages=1)
        self._windows.close(connection, now_ns)

    # The thread of the network.

    def _dial(self) -> None:
        asyncio.run(self._stay())

    async def _stay(self) -> None:
        attempt = 0
        while not self._heard.stopping.is_set():
            stood = False
            try:
                async for said in self._ask():
                    stood = True
                    self._heard.put(said)
            except Exception as error:  # asyncua's errors and those of what it stands on have no family in common
                self.example = f"{self._host}:{self._port}: {type(error).__name__} {str(error)[:200]}"
            self._count("dials")
            self._heard.put({"gone": True})
            attempt = 0 if stood else attempt + 1
            waited = 0.0
            while waited < backoff(attempt) and not self._heard.stopping.is_set():
                await asyncio.sleep(POLL_S)
                waited += POLL_S

    async def _ask(self) -> Any:  # Any: an iterator of JSON values
        from collectors.opcua_client import Asking

        async with Asking(self._told, self._password, self._clients) as asking:
            while not self._heard.stopping.is_set():
                yield await asking.answer(self._now_ns)
                waited = 0.0
                while waited < self._poll_s and not self._heard.stopping.is_set():
                    await asyncio.sleep(min(POLL_S, self._poll_s))
                    waited += POLL_S


def _since(before: int, now: int) -> int:
    """What a counter has grown by; one that is smaller than before has wrapped, or begun anew."""
    if now >= before:
        return now - before
    return now + COUNTER_MAX - before if before > COUNTER_MAX // 2 else now


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _common_name(certificate: x509.Certificate | None) -> str | None:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME) if certificate is not None else []
    return str(found[0].value) if found else None


def account_of(user: str, certificate: x509.Certificate | None, uri: str) -> str | None:
    """Who a session is: the user of its token, else its certificate, else what its application says it is."""
    if user:
        return user
    name = _common_name(certificate)
    if name:
        return f"certificate:CN={name}"
    return f"application:{uri}" if uri else None


def started(moment: datetime | None, now_ns: int) -> int:
    """When a session began, as the server says; now if it does not."""
    if moment is None:
        return now_ns
    return min(now_ns, instant(moment.isoformat().replace("+00:00", "Z")))


def _server(told: Told) -> tuple[str, int]:
    try:
        parts = urlsplit(told.where)
        host, port = _address(parts.hostname or ""), parts.port or 4840
    except ValueError:
        parts, host, port = urlsplit(""), None, 0
    if parts.scheme != "opc.tcp" or host is None or parts.username:
        raise FeedError(f"{told.kind} {told.where!r}: expected opc.tcp://ADDRESS:PORT, opc.tcp://10.10.1.10:4840")
    return host, port

"""A Mosquitto broker's own log becomes flows: who is connected from where, what each publishes, and what each is sent.

A subscription shows no publisher and a tap sees only TLS; the log says both (mosquitto.conf(5), ``log_type``: ``debug`` has a line for
every PUBLISH, ``notice`` one for every connection). Its lines are words with names inside that clients choose: where such a name
makes a line ambiguous, what the line would say of an account is not believed, and counted.

Bytes are those of the payloads, which is what the log counts. Payloads themselves are not in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from collectors.feed import FeedError, Told, resumed
from collectors.log import ServerLog
from hopwatch.events import time_ns as instant

CLIENTS_MAX: Final = 16_384
"""Clients followed at a time; of more, the one heard of longest ago is let go, and counted."""

WAITING_MAX: Final = 4_096
"""Connections that have not said who they are; of more, the oldest is forgotten, and counted."""

WAITING_NS: Final = 100 * 10**9
"""A broker closes a connection that says nothing after one and a half times its 60 s (OASIS MQTT 5.0, 3.1.2.10)."""

FILTERS_MAX: Final = 64
"""Filters of one request that are told by name; of more, the request is told again."""

CONTROL: Final = "$CONTROL/"
"""Topics by which a broker is administered."""

DENIED: Final = 128
"""The least of the reason codes that refuse (OASIS MQTT 3.1.1, 3.9.3; MQTT 5.0, 2.4)."""

_LINE: Final = re.compile(r"(?:(\d{9,11})|(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:Z|([+-]\d\d):?(\d\d))): (.*)", re.DOTALL)
_OPENED: Final = re.compile(r"New connection from ([0-9A-Fa-f.:]+):(\d{1,5}) on port (\d{1,5})\.")
_CONNECTED: Final = re.compile(
    r"New (?:client|bridge) connected from ([0-9A-Fa-f.:]+):(\d{1,5}) as (.*) \(p\d, c[01], k\d+(?:, u'(.*)')?\)\.", re.DOTALL
)
_WHO: Final = re.compile(r" \(p\d, c[01], k\d+")
_PUBLISH: Final = re.compile(r" \(d[01], q[0-2], r[01], m\d+, '")
_PUBLISHED: Final = re.compile(r"(.*)', \.\.\. \((\d{1,9}) bytes\)\)", re.DOTALL)
_ANSWERED: Final = re.compile(r"(.*) \(\d+, (\d{1,3})\)", re.DOTALL)
_ENDED: Final = re.compile(
    r"(.*?)(?: closed its connection| has exceeded timeout, disconnecting| been disconnected by administrative action"
    r"| disconnected(?:, not authorised| due to [^.]{0,99}|: [^.]{0,99})?)\.",
    re.DOTALL,
)
_ASKED: Final = re.compile(r"\t(.*?)(?: \(QoS [0-2]\))?", re.DOTALL)
_GRANTED: Final = re.compile(r" (\d{1,3}) ")
_SHARED: Final = re.compile(r"\$share/[^/]+/")
_HEAD: Final = re.compile(rb"(?:\d{9,11}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:?\d\d)): ")


@dataclass(slots=True)
class Entry:
    """One line."""

    time_ns: int
    message: str


@dataclass(slots=True)
class Client:
    """A connection of a client, from the line that names it to its end."""

    name: str
    host: str
    port: int
    server_port: int
    first_ns: int
    account: str | None
    """None: the line that named it was ambiguous."""
    told: list[Any] = field(default_factory=list)  # Any: as the windows gave it
    connection: int = -1

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Client.of`` takes it."""
        return [self.name, self.host, self.port, self.server_port, self.first_ns, self.account, self.told]

    @classmethod
    def of(cls, state: list[Any]) -> Client:  # Any: JSON values
        """The same again."""
        return resumed(cls, state)


class MosquittoLog(ServerLog[Entry]):
    """One broker's log: ``[FEED=]ADDRESS:PORT=PATH[?tls=PORT,PORT]``; ``tls``: the ports of listeners that take TLS only.

    Its own counters: ``published``, ``sent``, ``clients``, ``unplaced``, ``ambiguous``, ``undebugged``, …
    """

    KIND: ClassVar = "mosquitto-log"
    OPTIONS = ("tls",)

    def _where(self) -> tuple[list[Any], str]:  # Any: as of a log
        place, pattern = super()._where()
        return [*place, sorted(_ports(self._told))], pattern

    def _begin(self) -> None:
        self._clients: OrderedDict[str, Client] = OrderedDict()
        self._waiting: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """Connections that have not said who they are, as ``HOST PORT``: the listener's port, and since when."""
        self._asking: tuple[str, list[str], list[str]] | None = None
        """Whose request is being told, its filters, and those that were refused."""
        self._quiet = 0
        """Logins since a line of the kind that every login has besides."""
        *_, self._address, self._port, ports = self._place
        self._tls = frozenset(ports)

    def counters(self) -> dict[str, int]:
        """What every log counts, and the clients that are followed."""
        return super().counters() | {"mosquitto_log_clients": len(self._clients)}

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        return {
            "clients": [client.state() for client in self._clients.values()],
            "waiting": list(self._waiting.items()),
            "asking": self._asking,
            "quiet": self._quiet,
        }

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        self._waiting = OrderedDict((key, (int(port), int(since_ns))) for key, (port, since_ns) in said["waiting"])
        if said["asking"] is not None:
            name, filters, refused = said["asking"]
            self._asking = (name, filters, refused)
        self._quiet = said["quiet"]
        for state in said["clients"]:
            client = Client.of(state)
            self._clients[client.name] = client
            self._open(client)

    # Lines.

    def _format(self, path: Path, head: bytes) -> None:
        if not _HEAD.match(head):
            raise FeedError(
                f"{path}: no log of Mosquitto with times that say their zone; set log_timestamp_format %Y-%m-%dT%H:%M:%S%z or leave it out"
            )

    def _parsed(self, record: bytes) -> Entry | None:
        found = _LINE.fullmatch(record.decode("utf-8", "replace"))
        if found is None:
            raise ValueError("expected a time and what happened")
        if found[1] is not None:
            return Entry(int(found[1]) * 10**9, found[5])
        return Entry(instant(f"{found[2]}{f'{found[3]}:{found[4]}' if found[3] else 'Z'}"), found[5])

    def _heard(self, entry: Entry) -> None:
        message = entry.message
        if message.startswith("Received PUBLISH from "):
            self._published(entry, message[len("Received PUBLISH from ") :], "publish", "client")
        elif message.startswith("Sending PUBLISH to "):
            self._published(entry, message[len("Sending PUBLISH to ") :], "subscribe", "server")
        elif message.startswith(("Denied PUBLISH from ", "Dropped too large PUBLISH from ")):
            self._published(entry, message.partition(" PUBLISH from ")[2], "refused", "client")
        elif message.startswith("\t"):
            if self._asking is not None and (found := _ASKED.fullmatch(message)):
                self._asked(entry, found[1])
        elif message.startswith(("Received SUBSCRIBE from ", "Received UNSUBSCRIBE from ")):
            self._answered(entry)
            self._asking = (message.partition("SUBSCRIBE from ")[2], [], [])
        elif message.startswith(("Sending SUBACK to ", "Sending UNSUBACK to ")):
            self._answered(entry)
        elif found := _OPENED.fullmatch(message):
            self._wait(_address(found[1]), int(found[2]), int(found[3]), entry.time_ns)
        elif message.startswith(("New client connected from ", "New bridge connected from ")):
            self._connected(entry)
        elif message.startswith("Sending CONNACK to ") and (found := _ANSWERED.fullmatch(message, len("Sending CONNACK to "))):
            self._quiet = 0
            if int(found[2]):
                self._refused(found[1], entry.time_ns)
        elif message.startswith("Client ") and message.endswith(" already connected, closing old connection."):
            self._end(message[len("Client ") : -len(" already connected, closing old connection.")], entry.time_ns)
        elif message.startswith("Client ") and (found := _ENDED.fullmatch(message, len("Client "))):
            if found[1] == "<unknown>":
                self._forget()
            self._end(found[1], entry.time_ns)
        elif message.startswith("Bad socket read/write on client "):
            name = message[len("Bad socket read/write on client ") :]
            for end in (at.start() for at in re.finditer(": ", name)):
                self._end(name[:end], entry.time_ns)
        elif message.startswith("Outgoing messages are being dropped for client "):
            self._dropped(message[len("Outgoing messages are being dropped for client ") : -1], entry.time_ns)
        elif message.startswith("mosquitto version ") and message.endswith((" starting", " terminating")):
            for name in list(self._clients):
                self._end(name, entry.time_ns)
            self._waiting.clear()
        elif self._asking is not None:
            name, filters, refused = self._asking
            if filters and message.startswith(f"{name} ") and message.endswith(f" {filters[-1]}"):
                code = message[len(name) + 1 : -len(filters[-1]) - 1]
                if code.isdecimal() and int(code) >= DENIED:
                    refused.append(filters.pop())
        elif self._quiet:
            self._granted(entry)

    # Connections.

    def _wait(self, host: str, port: int, server_port: int, time_ns: int) -> None:
        while self._waiting:
            key, (_, since_ns) = next(iter(self._waiting.items()))
            if time_ns - since_ns <= WAITING_NS and len(self._waiting) < WAITING_MAX:
                break
            del self._waiting[key]
            self._count("waiting_over")
        self._waiting[f"{host} {port}"] = (server_port, time_ns)

    def _connected(self, entry: Entry) -> None:
        found = _CONNECTED.fullmatch(entry.message)
        if found is None:
            self._count("unplaced")
            return
        host, port, name, user = _address(found[1]), int(found[2]), found[3], found[4]
        clear = len(_WHO.findall(entry.message)) == 1
        if not clear:
            self._count("ambiguous")
        self._end(name, entry.time_ns)
        if len(self._clients) >= CLIENTS_MAX:
            self._end(next(iter(self._clients)), entry.time_ns)
            self._count("clients_over")
        server_port, first_ns = self._waiting.pop(f"{host} {port}", (self._port, entry.time_ns))
        account = (user if user is not None else f"client-id:{name}") if clear else None
        client = Client(name, host, port, server_port, first_ns, account)
        if not self._open(client):
            return
        self._clients[name] = client
        self._touched[client.name] = client
        self._windows.add(client.connection, entry.time_ns, "connect", "client")
        # Without debug every login is the only line of its kind.
        self._quiet += 1
        if self._quiet > 1:
            self._count("undebugged")
            self._dropped(name, entry.time_ns)
            self._windows.uncounted(client.connection, entry.time_ns, "publish", "client")

    def _refused(self, host: str, time_ns: int) -> None:
        """A login that was refused has no name but the client's address."""
        waiting = [key for key in self._waiting if key.rpartition(" ")[0] == _address(host)]
        if len(waiting) != 1:
            self._count("refused_unplaced")
            return
        server_port, first_ns = self._waiting.pop(waiting[0])
        host, _, port = waiting[0].rpartition(" ")
        client = Client("", host, int(port), server_port, first_ns, None)
        if self._open(client):
            self._windows.add(client.connection, time_ns, "refused", "client", messages=1)
            self._windows.close(client.connection, time_ns)

    def _forget(self) -> None:
        """One that never said who it was is gone; which, is known if there is one."""
        if len(self._waiting) == 1:
            self._waiting.clear()

    def _open(self, client: Client) -> bool:
        server = (self._address, client.server_port)
        try:
            client.connection = self._windows.open((client.host, client.port), server, client.first_ns, protocol="mqtt", opened_by="client")
        except (ValueError, OverflowError):
            self._count("unplaced")
            return False
        self._windows.go_on(client.connection, client.first_ns, client.told)
        # A listener with a certificate takes no cleartext, and by itself nothing older than TLS 1.2 (mosquitto.conf(5), tls_version).
        transport = "tls1.2" if client.server_port in self._tls else "unknown"
        self._windows.describe(client.connection, client.first_ns, transport=transport)
        self._windows.identify(
            client.connection,
            client.first_ns,
            account=client.account,
            application=client.name or None,
            account_from=None if client.account is None else "server-log",
        )
        return True

    def _end(self, name: str, time_ns: int) -> None:
        client = self._clients.pop(name, None)
        if client is not None:
            self._touched.pop(name, None)
            self._windows.close(client.connection, time_ns)

    # What moves.

    def _published(self, entry: Entry, said: str, operation: str, data_from: str) -> None:
        found = list(_PUBLISH.finditer(said))
        known = [at for at in found if said[: at.start()] in self._clients]
        if len(known) != 1:
            self._count("ambiguous" if known else "unplaced")
            for at in known:
                self._windows.uncounted(self._heard_of(said[: at.start()]).connection, entry.time_ns, operation, data_from)
            return
        client = self._heard_of(said[: known[0].start()])
        rest = _PUBLISHED.fullmatch(said, known[0].end())
        if rest is None:
            self._count("ambiguous")
            self._windows.uncounted(client.connection, entry.time_ns, operation, data_from)
            return
        topic, size = rest[1], int(rest[2])
        if operation == "publish" and topic.startswith(CONTROL):
            # Whom it is about is in the payload, which the log does not have.
            self._windows.add(client.connection, entry.time_ns, "admin", "client", messages=1, bytes=size)
            return
        self._count({"publish": "published", "subscribe": "sent"}.get(operation, operation))
        # What was refused may be named with an alias that nobody resolves (OASIS MQTT 5.0, 3.3.2.3.4).
        names = [topic] if topic else []
        self._windows.add(client.connection, entry.time_ns, operation, data_from, names=names, messages=1, bytes=size)

    def _heard_of(self, name: str) -> Client:
        client = self._clients[name]
        self._clients.move_to_end(name)
        self._touched[client.name] = client
        return client

    def _asked(self, entry: Entry, filter_: str) -> None:
        assert self._asking is not None, "asked for by the caller"
        if len(self._asking[1]) >= FILTERS_MAX:
            name = self._asking[0]
            self._answered(entry)
            self._asking = (name, [], [])
        self._asking[1].append(filter_)

    def _answered(self, entry: Entry) -> None:
        """A request for filters has its answer."""
        asking, self._asking = self._asking, None
        if asking is None:
            return
        name, filters, refused = asking
        if name not in self._clients:
            self._count("unplaced")
            return
        client = self._heard_of(name)
        for operation, names in (("subscribe", filters), ("refused", refused)):
            if names:
                side = "server" if operation == "subscribe" else "client"
                shown = [_SHARED.sub("", one) if one.startswith("$share/") else one for one in names]
                self._windows.add(client.connection, entry.time_ns, operation, side, names=shown)

    def _granted(self, entry: Entry) -> None:
        """A filter and its answer in one line, which is all that a log without debug has: ``NAME QOS FILTER``."""
        message = entry.message
        known = [at for at in _GRANTED.finditer(message) if message[: at.start()] in self._clients]
        if len(known) != 1:
            if known:
                self._count("ambiguous")
            return
        client, filter_ = self._heard_of(message[: known[0].start()]), message[known[0].end() :]
        shown = _SHARED.sub("", filter_) if filter_.startswith("$share/") else filter_
        if int(known[0][1]) >= DENIED:
            self._windows.add(client.connection, entry.time_ns, "refused", "client", names=[shown])
            return
        self._windows.add(client.connection, entry.time_ns, "subscribe", "server", names=[shown])
        # What it is sent no line tells.
        self._windows.uncounted(client.connection, entry.time_ns, "subscribe", "server")

    def _dropped(self, name: str, time_ns: int) -> None:
        if name in self._clients:
            self._windows.uncounted(self._heard_of(name).connection, time_ns, "subscribe", "server")


def _address(text: str) -> str:
    with suppress(ValueError):
        address = ipaddress.ip_address(text)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return str(mapped or address)
    return text


def _ports(told: Told) -> set[int]:
    ports = {int(port) for port in told.options.get("tls", "").split(",") if port.isdecimal() and 0 < int(port) < 65_536}
    if len(ports) != len([port for port in told.options.get("tls", "").split(",") if port]):
        raise FeedError(f"{told.kind} {told.feed}: tls={told.options['tls']}, expected ports such as 8883,8884")
    return ports

"""A broker's own client: a subscription that is metered and never kept, the broker's counters, and its listing of roles.

What a subscription shows is one copy of each message: topic and size. Who published it the protocol does not say (OASIS MQTT 5.0,
3.3), so nothing is said of publishers; `collectors.mosquitto_log` knows them. What is told is the monitor's own connection, which is
declared as any other, and how much of what the broker counted (``$SYS``) it was shown. A payload is measured and dropped at once.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from collectors.dialled import Dialled, backoff, gap, number, secret, subject, tls, tls_name
from collectors.feed import POLL_S, FeedError, Told
from collectors.log import read_state, write_state

PACKET_BYTES_MAX: Final = 16 << 20
"""A message longer than this is not sent to us by a broker that speaks MQTT 5; it is among the ``hidden``."""

LISTING_BYTES_MAX: Final = 8 << 20
"""Bytes of a listing of roles that are read."""

ITEMS_MAX: Final = 4_000
"""Messages of one batch."""

FILTERS_MAX: Final = 64

SAVE_NS: Final = 10**9
"""How often the place is written down: what was heard later than that is a loss if the program is killed."""

SYS: Final = ("$SYS/broker/publish/messages/+", "$SYS/broker/messages/+", "$SYS/broker/clients/connected")
RECEIVED: Final = "$SYS/broker/publish/messages/received"
DROPPED: Final = "$SYS/broker/publish/messages/dropped"

CONTROL: Final = "$CONTROL/dynamic-security/v1"
LISTINGS: Final = ("listClients", "listGroups", "listRoles")

Listing = dict[str, dict[str, str]]
"""``account:NAME``, ``group:NAME`` or ``role:NAME``: what is granted to it, and a hash of what else it may."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker has let us in."""

    time_ns: int
    client: tuple[str, int]
    server: tuple[str, int]
    transport: str
    cipher: str | None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """From now on messages come."""

    time_ns: int
    refused: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The connection has ended, or could not be made."""

    time_ns: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message, without its payload; ``count``: what a counter of the broker's says."""

    time_ns: int
    topic: str
    size: int
    retained: bool
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """What the broker says of its accounts."""

    time_ns: int
    listing: Listing


Change = tuple[int, str, list[tuple[str, list[str]]]]
"""When it was noticed, the broker's address, and what was done to whom."""

Item = Connected | Subscribed | Gone | Message | Listed


@dataclass(slots=True)
class Coverage:
    """What the broker counted against what we were shown, since the first of its counts that is not an old one.

    ``hidden`` is the least that was not shown: Mosquitto 2.0.11 does not count what it receives with QoS 2 (measured).
    """

    base: tuple[int, int] | None = None
    seen: int = 0
    hidden: int = 0

    def broker_says(self, received: int) -> None:
        """The broker's count of PUBLISH packets it received so far."""
        if self.base is None or received < self.base[0]:
            self.base = (received, self.seen)
            return
        self.hidden = max(self.hidden, received - self.base[0] - (self.seen - self.base[1]))


class MqttBroker(Dialled[Item]):
    """One broker. ``lives`` while its subscription stands."""

    KIND = "mqtt-broker"
    OPTIONS = ("user", "password_file", "ca", "cert", "key", "client", "filter", "version", "dynsec", "cleartext")

    def __init__(self, told: Told, plant: str, state: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        """As of every feed that dials.

        Raises:
            FeedError: as there.
        """
        super().__init__(told, plant, state, now_ns)
        self._host, self._port, self._secure = _address(told)
        self._user, self._password = told.options.get("user"), secret(told, "password_file")
        self._name = told.options.get("client", "hopwatch")
        self._filters = [one for one in told.options.get("filter", "#").split(",") if one]
        if not 0 < len(self._filters) <= FILTERS_MAX:
            raise FeedError(f"{told.kind} {told.feed}: {len(self._filters)} filters, expected 1 to {FILTERS_MAX}")
        self._version = number(told, "version", 5, 3, 5)
        self._listed_s = number(told, "dynsec", 0, 10, 86_400) if "dynsec" in told.options else 0
        self._tls = tls(told) if self._secure else None
        self._subject = subject(told) if self._secure else None
        if self._password is not None and not self._secure and told.options.get("cleartext") != "yes":
            raise FeedError(f"{told.kind} {told.feed}: a password over mqtt:// can be read by anyone; mqtts://, or cleartext=yes")
        self._coverage = Coverage()
        self._open: int | None = None
        self._touched = False
        said = read_state(state, self._place)
        self._until_ns: int | None = None if said is None else said["until_ns"]
        """Until when everything was handed over; None if there is nothing before."""
        self._listing: Listing | None = None if said is None else said["listing"]
        self._changes: list[Change] = [] if said is None else said["changes"]
        """Changes of accounts that may not have been handed over: the same events again have the same ids."""
        self._last_ns = 0
        """When the broker was last heard."""
        self._server = ("", 0)

    @classmethod
    def of(cls, told: Told, plant: str, state: Path) -> MqttBroker:
        """``[FEED=]mqtts://HOST:PORT[?user=…&password_file=…&ca=…&…]``.

        Raises:
            FeedError: something else.
        """
        return cls(told, plant, state)

    def counters(self) -> dict[str, int]:
        """What was shown, what the broker counted, and how the connection is."""
        more = {
            "connected": int(self.lives),
            "hidden": self._coverage.hidden,
            "waits": self._heard.waits_total,
            "unreadable": self.unreadable,
            "accounts": sum(name.startswith("account:") for name in self._listing or ()),
        }
        return {f"mqtt_broker_{name}": count for name, count in (self._counts | more).items()}

    def _follow(self, stopping: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[list[bytes]]:
        yield self._told_changes()
        saved_ns = 0
        while not stopping():
            items = self._heard.take(ITEMS_MAX)
            known = len(self._changes)
            for item in items:
                self._take(item)
            if len(self._changes) > known:
                # Written before they are said: who is killed in between says them again.
                self._save()
                self._events += self._told_changes()
            now_ns = self._now_ns()
            save = bool(self._changes) or (self.lives and now_ns - saved_ns >= SAVE_NS)
            if save:
                self._settle()
            self._windows.advance(now_ns if not items or self._heard.empty else items[-1].time_ns)
            events, self._events = self._events, []
            yield [*events, *self._windows.take()]
            if save:
                self._handed_over()
                saved_ns = now_ns
            if not items:
                sleep(POLL_S)
        if self._open is not None:
            self._windows.close(self._open, self._now_ns())
        yield self._windows.take()
        self._handed_over()

    def _handed_over(self) -> None:
        if self.lives:
            # Not now: a line that was cut is noticed late.
            self._until_ns = self._last_ns
        self._changes = []
        self._save()

    def _save(self) -> None:
        said = {"version": 1, "of": self._place, "until_ns": self._until_ns, "listing": self._listing, "changes": self._changes}
        write_state(self._state, said)

    def _settle(self) -> None:
        """Ends the open windows, so that all that was heard is handed over."""
        if self._open is not None and self._touched:
            self._windows.told(self._open)
            self._touched = False

    # What was heard becomes events.

    def _take(self, item: Item) -> None:
        if not isinstance(item, Gone):
            self._last_ns = max(self._last_ns, item.time_ns)
        if isinstance(item, Message):
            self._moved(item)
        elif isinstance(item, Connected):
            self._connected(item)
        elif isinstance(item, Subscribed):
            self.lives = True
            self._count("refused_filters", item.refused)
            if self._until_ns is not None:
                self._events.append(
                    gap(self._place, self._until_ns, item.time_ns, "the broker was not heard: what it moved meanwhile is unknown")
                )
                self._count("gaps")
            self._until_ns = item.time_ns
        elif isinstance(item, Gone):
            self._gone(item.time_ns)
        else:
            self._compare(item)

    def _connected(self, said: Connected) -> None:
        self._gone(said.time_ns)
        self._count("connects")
        self._server = said.server
        connection = self._windows.open(said.client, said.server, said.time_ns, protocol="mqtt", seen_by="broker", opened_by="client")
        self._open = connection
        login = "password" if self._password is not None else "none"
        self._windows.describe(connection, said.time_ns, transport=said.transport, cipher=said.cipher, authentication=login)
        account = self._user or self._subject or f"client-id:{self._name}"
        self._windows.identify(connection, said.time_ns, account=account, application=self._name, account_from="startup")
        self._windows.add(connection, said.time_ns, "connect", "client")
        self._windows.add(connection, said.time_ns, "subscribe", "server", names=[*self._filters, *SYS])
        self._touched = True

    def _gone(self, time_ns: int) -> None:
        if self.lives:
            self._until_ns = self._last_ns
        self.lives = False
        self._coverage = Coverage(hidden=self._coverage.hidden)
        if self._open is not None:
            self._windows.close(self._open, time_ns)
            self._open = None

    def _moved(self, said: Message) -> None:
        if self._open is None:
            return
        self._touched = True
        self._windows.add(self._open, said.time_ns, "subscribe", "server", names=[said.topic], messages=1, bytes=said.size)
        if not said.topic.startswith("$"):
            self._count("retained" if said.retained else "messages")
            self._count("bytes", said.size)
            self._coverage.seen += not said.retained
        if said.count is not None and not said.retained:
            if said.topic == RECEIVED:
                self._coverage.broker_says(said.count)
            elif said.topic == DROPPED:
                self._counts["dropped"] = said.count

    def _compare(self, said: Listed) -> None:
        before, self._listing = self._listing, said.listing
        self._count("listings")
        if before is not None and before != said.listing:
            self._changes.append((said.time_ns, self._server[0], changes(before, said.listing)))

    def _told_changes(self) -> list[bytes]:
        """Changes of accounts: who made them the broker does not say, so they are of nobody, at the broker itself."""
        for time_ns, address, found in self._changes:
            connection = self._windows.open(
                (address, 0), (address, self._port), time_ns, protocol="mqtt", seen_by="broker", opened_by="client"
            )
            for name, columns in found:
                self._windows.add(connection, time_ns, "admin", "client", names=[name], columns=columns, messages=1)
                self._count("changes")
            self._windows.close(connection, time_ns)
        return self._windows.take()

    # The thread of the network.

    def _dial(self) -> None:
        attempt = 0
        while not self._heard.stopping.is_set():
            stood = self._stay()
            self._heard.put(Gone(self._now_ns()))
            attempt = 0 if stood else attempt + 1
            self._count("dials")
            self._heard.stopping.wait(backoff(attempt))

    def _stay(self) -> bool:
        """Connects and stays as long as it lasts; whether the broker let us in."""
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties
        from paho.mqtt.subscribeoptions import SubscribeOptions

        five = self._version == 5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=self._name, protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311, reconnect_on_failure=False
        )
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        let_in = False

        def subscribe() -> None:
            wanted = [*self._filters, *SYS, *([f"{CONTROL}/response"] if self._listed_s else [])]
            if five:
                options = SubscribeOptions(qos=0, noLocal=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
                client.subscribe([(one, options) for one in wanted])
            else:
                client.subscribe([(one, 0) for one in wanted])

        def on_connect(_: object, __: object, ___: object, reason: Any, ____: object) -> None:  # Any: as paho says it
            nonlocal let_in
            sock: Any = client.socket()  # Any: paho names only what it needs of a socket
            if reason.is_failure or sock is None:
                self._count("refused")
                self.example = f"{self._host}:{self._port} answers {reason}"
                return
            let_in = True
            version, cipher = None, None
            if isinstance(sock, ssl.SSLSocket):
                version, cipher = sock.version(), (sock.cipher() or (None,))[0]
            here, there = sock.getsockname(), sock.getpeername()
            self._heard.put(Connected(self._now_ns(), (here[0], here[1]), (there[0], there[1]), tls_name(version), cipher))
            subscribe()

        def on_subscribe(_: object, __: object, ___: object, reasons: Any, ____: object) -> None:  # Any: as paho says it
            self._heard.put(Subscribed(self._now_ns(), sum(one.is_failure for one in reasons)))

        def on_message(_: object, __: object, message: Any) -> None:  # Any: paho's message
            try:
                topic = message.topic
            except UnicodeDecodeError:
                # Section 1.5.4 of the standard forbids it; a broker that lets it pass ends nothing here.
                self.unreadable += 1
                self.example = f"{self._host}:{self._port}: a message whose topic is no UTF-8"
                return
            self._hear(topic, message.payload, bool(message.retain))

        client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
        properties = None
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's is not typed
            properties.MaximumPacketSize = PACKET_BYTES_MAX
        try:
            if five:
                client.connect(self._host, self._port, clean_start=True, properties=properties)
            else:
                client.connect(self._host, self._port)
            listed_s = 0.0
            while not self._heard.stopping.is_set() and client.loop(0.2) == mqtt.MQTT_ERR_SUCCESS:
                if self._listed_s and let_in and time.monotonic() >= listed_s:
                    listed_s = time.monotonic() + self._listed_s
                    asked = [{"command": command, "verbose": True} for command in LISTINGS]
                    client.publish(CONTROL, json.dumps({"commands": asked}), qos=0)
            client.disconnect()
        except (OSError, ValueError, ssl.SSLError) as error:
            self.example = f"{self._host}:{self._port}: {error}"
        return let_in

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        now_ns = self._now_ns()
        if topic == f"{CONTROL}/response":
            self._hear_listing(payload, now_ns)
        count = None
        if topic.startswith("$SYS/") and len(payload) <= 20 and payload.isdigit():
            count = int(payload)
        self._heard.put(Message(now_ns, topic, len(payload), retained, count))

    def _hear_listing(self, payload: bytes, now_ns: int) -> None:
        try:
            if len(payload) > LISTING_BYTES_MAX:
                raise ValueError("longer than is read")
            listing = listed(json.loads(payload))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.unreadable += 1
            self.example = f"{self._host}:{self._port}: a listing of {len(payload)} bytes"
            return
        if listing is not None:
            self._heard.put(Listed(now_ns, listing))


def listed(said: dict[str, Any]) -> Listing | None:  # Any: JSON values
    """Accounts, groups and roles of an answer to all three listings; None if it answers something else.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not what Mosquitto's plugin says (mosquitto_ctrl_dynsec(1)).
    """
    answers = {one["command"]: one for one in said["responses"]}
    if not set(LISTINGS) <= set(answers):
        return None
    found: Listing = {}
    kinds = (("listClients", "clients", "username", "account"), ("listGroups", "groups", "groupname", "group"))
    for command, many, named, kind in (*kinds, ("listRoles", "roles", "rolename", "role")):
        if "error" in answers[command]:
            raise ValueError("the listing was refused")
        for one in answers[command]["data"][many]:
            granted = {str(role["rolename"]): "grant" for role in one.get("roles", ())}
            granted |= {f"group:{group['groupname']}": "grant" for group in one.get("groups", ())}
            rest = [one.get("acls", []), bool(one.get("disabled"))]
            granted[""] = blake2b(json.dumps(rest, sort_keys=True).encode(), digest_size=16).hexdigest()
            found[f"{kind}:{one[named]}"] = granted
    return found


def changes(before: Listing, now: Listing) -> list[tuple[str, list[str]]]:
    """What was done, in the words of the contract: ``create``, ``alter``, ``drop``, ``grant:ROLE``, ``revoke:ROLE``."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        done = ["create"] if old is None else ["drop"] if new is None else []
        if new is not None:
            done += [f"grant:{role}" for role in sorted(new.keys() - (old or {}).keys()) if role]
        if old is not None and new is not None:
            done += [f"revoke:{role}" for role in sorted(old.keys() - new.keys()) if role]
            done += ["alter"] if old[""] != new[""] else []
        if done:
            found.append((name, done))
    return found


def _address(told: Told) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(told.where)
        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        host = parts.hostname or ""
    except ValueError:
        parts, port, host = None, 0, ""
    if parts is None or parts.scheme not in ("mqtt", "mqtts") or not host or parts.username or parts.path not in ("", "/"):
        raise FeedError(f"{told.kind} {told.where!r}: expected mqtts://HOST:PORT, mqtts://10.10.5.3:8883")
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return host, port, parts.scheme == "mqtts"

"""What a relay says of its clients: proxies (Squid), load balancers (HAProxy, nginx), address translation, and IIS.

Behind a relay a tap sees the relay's address and, under TLS, nothing else. The relay knows who was before it: the client's
end, its user, what was asked for, and the bytes both ways. Each line is one request, or one tunnel, and becomes one window.

All but IIS can be told what to log, so there is one format, JSON lines with the keys of docs/collectors/relays.md. IIS writes the W3C
Extended Log File Format, whose directives name its columns.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from collectors.feed import FeedError
from collectors.log import HEAD_LINES_BYTES_MAX, Log, counted, epoch_ns, loaded
from collectors.tail import Found
from hopwatch.events import time_ns as instant

ENDS_MAX: Final = 8_192
"""Connections whose last line is remembered, so that two lines of one instant have ids of their own."""

STATUS_MAX: Final = 999
"""Three digits (RFC 9110, 15)."""

SQUID_NONE: Final = "-"

_W3C: Final = {
    "c-ip": "client", "c-port": "client_port", "REMOTE_PORT": "client_port", "s-ip": "relay", "s-port": "relay_port", "cs-username": "user",
    "cs-method": "method", "cs-uri-stem": "target", "cs-host": "host", "cs(User-Agent)": "agent", "sc-status": "status",
    "cs-bytes": "received", "sc-bytes": "sent", "time-taken": "ms",
}  # fmt: skip


@dataclass(slots=True)
class Passed:
    """One request, or one tunnel, through a relay."""

    time_ns: int
    client: tuple[str, int]
    relay: tuple[str, int]
    user: str | None
    agent: str | None
    method: str | None
    target: str
    host: str | None
    status: int
    received: int
    sent: int
    outside: tuple[str, int] | None = None
    """The client's end as it is behind an address translation."""


class RelayLog(Log[Passed]):
    """One relay's log. Its own counter: ``portless``, lines without the client's port, which nothing joins with a tap's view."""

    KIND = "relay-log"
    HEAD_LINES_BYTES = HEAD_LINES_BYTES_MAX

    def _begin(self) -> None:
        self._columns: list[str] = []
        self._last: OrderedDict[tuple[str, int, str, int], int] = OrderedDict()

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        return {"last": [[*ends, last_ns] for ends, last_ns in self._last.items()]}

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        for client, client_port, relay, relay_port, last_ns in said["last"]:
            self._last[client, client_port, relay, relay_port] = last_ns

    def _format(self, path: Path, head: bytes) -> None:
        if not head.startswith(b"#") and b"{" not in head.split(b"\n")[0]:
            raise FeedError(f"{path}: neither JSON lines nor W3C (#Fields:); docs/collectors/relays.md says how to have them")

    def _begins(self, found: Found) -> None:
        self._columns = []
        for line in found.head.split(b"\n") if found.head.startswith(b"#") else ():
            self._directive(line)

    def _directive(self, line: bytes) -> None:
        if line.startswith(b"#Fields:"):
            self._columns = line.decode("utf-8", "replace").split()[1:]

    def _parsed(self, record: bytes) -> Passed | None:
        if record.startswith(b"#"):
            self._directive(record)
            return None
        start = record.find(b"{")
        # What syslog puts before it is not part of it.
        row = loaded(record[start:]) if start >= 0 else self._row(record.decode("utf-8", "replace"))
        client, relay = _end(row, "client"), _end(row, "relay")
        method = _text(row, "method")
        return Passed(
            time_ns=_time_ns(row),
            client=client,
            relay=relay,
            user=_text(row, "user"),
            agent=_text(row, "agent"),
            method=method,
            target=_text(row, "target") or "/",
            host=_text(row, "host"),
            status=counted(_text(row, "status") or 0, STATUS_MAX),
            received=counted(row["received"]),
            sent=counted(row["sent"]),
            outside=_end(row, "outside") if "outside" in row else None,
        )

    def _row(self, line: str) -> dict[str, Any]:  # Any: as the JSON lines have it
        cells = line.split()
        if not self._columns or len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} columns, expected {len(self._columns)}")
        said = dict(zip(self._columns, cells, strict=True))
        row: dict[str, Any] = {_W3C[name]: cell for name, cell in said.items() if name in _W3C}  # Any: as above
        # IIS writes a space of an agent as a plus.
        return row | {"time": f"{said['date']}T{said['time']}Z", "agent": row.get("agent", SQUID_NONE).replace("+", " ")}

    def _heard(self, entry: Passed) -> None:
        from hopwatch_wire import read_request

        tunnel = entry.method == "CONNECT"
        # Without a method, what was asked for is where a translation or a load balancer passed it on to.
        method = entry.method or ("CONNECT" if entry.target != "/" else "")
        operation, data_from, name, marks, host, port = read_request(method, entry.target, status=entry.status)
        if not (entry.received or entry.sent):
            operation, data_from = "attempt", "client"
        elif operation == "connect" or (entry.method is None and operation != "refused"):
            # What went through it is not known.
            operation = "transfer"
        if not entry.client[1]:
            self._count("portless")
        time_ns = self._instant(entry, (*entry.client, *entry.relay))
        connection = self._windows.open(
            entry.client,
            entry.relay,
            time_ns,
            protocol="http" if entry.method else None,
            depth="server-log" if entry.method and not tunnel else "sizes",
            seen_by="proxy-log",
            opened_by="client",
        )
        self._windows.identify(
            connection, time_ns, account=entry.user, application=entry.agent, account_from="proxy-log" if entry.user else None
        )
        # The relay knows whether TLS was on this leg; its log, as told to write it, does not.
        self._windows.describe(connection, time_ns, transport="unknown", encrypted=tunnel)
        if host is not None and port is not None:
            self._windows.asked(connection, time_ns, host, port, "connect" if method == "CONNECT" else "absolute-form")
        elif entry.host is not None:
            self._windows.named(connection, time_ns, entry.host, "http")
        forth, back = (entry.received, entry.sent) if data_from == "client" else (entry.sent, entry.received)
        names = [name] if entry.method and not tunnel else []
        self._windows.add(
            connection, time_ns, operation, data_from, names=names, marks=marks, messages=1 if names else 0, bytes=forth, bytes_back=back
        )
        self._windows.close(connection, time_ns)
        if entry.outside is not None:
            to = entry.relay
            with suppress(ValueError):
                to = (str(ipaddress.ip_address(host or "")), port or 0)
            self._beyond(entry, entry.outside, to)

    def _beyond(self, entry: Passed, outside: tuple[str, int], to: tuple[str, int]) -> None:
        """The same connection as it is behind the translation: whose it is. How much it moved was told of the first of the two."""
        time_ns = self._instant(entry, (*outside, *to))
        connection = self._windows.open(outside, to, time_ns, depth="sizes", seen_by="proxy-log", opened_by="client")
        host, port = entry.client
        before = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        account_from = "proxy-log" if entry.user else None
        self._windows.identify(connection, time_ns, account=entry.user, account_from=account_from, on_behalf_of=before)
        self._windows.describe(connection, time_ns, transport="unknown")
        self._windows.add(connection, time_ns, "connect", "client")
        self._windows.close(connection, time_ns)

    def _instant(self, entry: Passed, ends: tuple[str, int, str, int]) -> int:
        """When the line is from, made later than the one before of the same connection."""
        time_ns = max(entry.time_ns, self._last.pop(ends, 0) + 1)
        self._last[ends] = time_ns
        if len(self._last) > ENDS_MAX:
            self._last.popitem(last=False)
        return time_ns


def _end(row: dict[str, Any], name: str) -> tuple[str, int]:  # Any: JSON values
    return str(ipaddress.ip_address(str(row[name]))), counted(_text(row, f"{name}_port") or 0, 65_535)


def _text(row: dict[str, Any], name: str) -> str | None:  # Any: JSON values
    said = str(row.get(name, SQUID_NONE))
    return None if said in ("", SQUID_NONE) else said


def _time_ns(row: dict[str, Any]) -> int:  # Any: JSON values
    """When the request was over: seconds of the epoch, or RFC 3339."""
    said = str(row["time"])
    with suppress(ValueError):
        return epoch_ns(said)
    return instant(said)

"""Zeek's logs as a source: conn, ssl, dns, http, mqtt_*, mysql, postgresql, and ICSNPP's opcua_binary; JSON or tab-separated.

A plant that has Zeek at a boundary needs no tap of ours there (Zeek 5 to 8; docs/collectors/sensors.md says which field becomes what).
Bytes are those of conn.log, which is written when a connection is over. Of rows Zeek has those of a result
on PostgreSQL and those that were changed on MySQL; the others are unknown, and so is a user of MQTT.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from collectors.feed import FeedError
from collectors.log import HEAD_LINES_BYTES_MAX, counted, epoch_ns, loaded
from collectors.sensor_log import TTL_S_MAX, UNKNOWN, End, Movement, Said, SensorLog, asked, placed, stated, word
from collectors.statements import MOVES, POSTGRESQL_REFUSED
from collectors.tail import Found
from hopwatch.events import time_ns as instant

_NAME: Final = re.compile(r"([a-z_-]+?)(?:[._-]\d.*)?\.log")
"""``conn.log``, ``conn.10:00:00-11:00:00.log``, ``conn_20260407_10:00:00-11:00:00+0000.log``."""

_TLS: Final = re.compile(r"(D?TLS)v(\d)(\d)")
_SERVICES: Final = {
    "postgresql": "postgresql", "mysql": "mysql", "mqtt": "mqtt", "dns": "dns", "http": "http", "opcua-binary": "opcua",
    "opcua_binary": "opcua", "spicy_opcua_binary": "opcua",
}  # fmt: skip

# OPC 10000-4, by the names that ICSNPP prints: what a service moves, from which side, and whether values that are not told.
_OPCUA: Final = {
    "ReadResponse": ("read", "server", True), "HistoryReadResponse": ("history-read", "server", True),
    "PublishResponse": ("subscribe", "server", True), "BrowseResponse": ("browse", "server", False),
    "BrowseNextResponse": ("browse", "server", False), "WriteRequest": ("write", "client", True),
    "HistoryUpdateRequest": ("history-write", "client", True), "CallRequest": ("call", "client", False),
}  # fmt: skip

Row = dict[str, Any]  # Any: JSON values


class Zeek(SensorLog):
    """A folder of Zeek's logs, ``/opt/zeek/logs/current/*.log``."""

    KIND = "zeek"
    HEAD_LINES_BYTES = HEAD_LINES_BYTES_MAX

    def _begin(self) -> None:
        super()._begin()
        self._log = ""
        self._columns: list[str] = []

    def _format(self, path: Path, head: bytes) -> None:
        if not head.startswith((b"{", b"#")):
            raise FeedError(f"{path}: neither JSON nor a log of Zeek with its columns named (#fields)")

    def _begins(self, found: Found) -> None:
        name = _NAME.fullmatch(found.path.name)
        self._log, self._columns = (_log(name[1]) if name else ""), []
        for line in found.head.split(b"\n") if found.head.startswith(b"#") else ():
            self._directive(line)

    def _directive(self, line: bytes) -> None:
        if line.startswith(b"#fields\t"):
            self._columns = line.decode("utf-8", "replace").split("\t")[1:]
        elif line.startswith(b"#path\t"):
            self._log = _log(line.decode("utf-8", "replace").split("\t")[1])

    def _parsed(self, record: bytes) -> Said | None:
        if record.startswith(b"#"):
            self._directive(record)
            return None
        if record.startswith(b"{"):
            row: Row = loaded(record)
            log = _log(str(row.get("_path", self._log)))
        else:
            row, log = self._row(record.decode("utf-8", "replace")), self._log
        reader = _READERS.get(log)
        if reader is None or row.get("proto") == "icmp":
            return None
        client = placed(row["id.orig_h"], row["id.orig_p"])
        server = placed(row["id.resp_h"], row["id.resp_p"])
        said = Said(_time_ns(row["ts"]), str(row["uid"]), client, server, str(row.get("proto", "tcp")))
        reader(row, said)
        return said

    def _row(self, line: str) -> Row:
        cells = line.split("\t")
        if not self._columns or len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} columns, expected {len(self._columns)}")
        return {name: "" if cell == "(empty)" else cell for name, cell in zip(self._columns, cells, strict=True) if cell != "-"}


def _conn(row: Row, said: Said) -> None:
    services = _listed(row.get("service", ""))
    said.protocol = next((_SERVICES[name] for name in services if name in _SERVICES), None)
    if "ssl" in services:
        # Which version it was is in ssl.log; where that is not read, only that it was TLS.
        said.tls, said.protocol = UNKNOWN, said.protocol or "tls"
    said.time_ns += round(float(row.get("duration", 0)) * 1_000_000) * 1_000
    seen = "".join(re.findall(r"[A-Za-z]", str(row.get("history", ""))))
    sizes = counted(row.get("orig_bytes", 0)), counted(row.get("resp_bytes", 0))
    tcp = said.transport == "tcp"
    said.end = End(
        *sizes,
        late=tcp and any(sizes) and "S" not in seen,
        one_sided=tcp and any(sizes) and (seen.isupper() or seen.islower()),
        missed=int(row.get("missed_bytes", 0)) > 0,
    )


def _ssl(row: Row, said: Said) -> None:
    found = _TLS.fullmatch(str(row.get("version", "")))
    said.tls = f"{found[1].lower()}{found[2]}.{found[3]}" if found else UNKNOWN
    said.cipher = word(row, "cipher")
    if name := row.get("server_name"):
        said.names.append((str(name), "sni"))
    common = re.search(r"(?:^|,)\s*CN=([^,]+)", str(row.get("client_subject", "")))
    if common:
        said.account, said.account_from = f"certificate:{common[1]}", "certificate"


def _dns(row: Row, said: Said) -> None:
    said.protocol = "dns"
    query, answers, lives = str(row.get("query", "")), _listed(row.get("answers", "")), _listed(row.get("TTLs", ""))
    for answer, ttl_s in zip(answers, lives, strict=False):
        if re.fullmatch(r"[\d.]+|[0-9a-fA-F:]+:[0-9a-fA-F:.]*", answer):
            said.answers.append((answer, query, counted(float(ttl_s), TTL_S_MAX)))
    said.movements.append(Movement("query", "server", messages=1 + ("rcode" in row)))


def _http(row: Row, said: Said) -> None:
    asked(said, str(row.get("method", "")), str(row.get("uri", "/")), int(row.get("status_code", 0)))
    if row.get("username"):
        said.account, said.account_from = str(row["username"]), "startup"
    said.application = word(row, "user_agent")
    if host := row.get("host"):
        said.names.append((str(host).rsplit(":", 1)[0] if not str(host).endswith("]") else str(host), "http"))


def _mqtt_connect(row: Row, said: Said) -> None:
    said.protocol, said.application = "mqtt", word(row, "client_id")
    accepted = "accept" in str(row.get("connect_status", "accepted")).lower()
    said.movements.append(Movement("connect" if accepted else "refused", "client", messages=0))


def _mqtt_publish(row: Row, said: Said) -> None:
    said.protocol = "mqtt"
    operation, data_from = ("publish", "client") if _true(row.get("from_client")) else ("subscribe", "server")
    said.movements.append(Movement(operation, data_from, [str(row.get("topic", UNKNOWN))]))


def _mqtt_subscribe(row: Row, said: Said) -> None:
    said.protocol = "mqtt"
    said.movements.append(Movement("subscribe", "server", _listed(row.get("topics", "")), messages=0))


def _mysql(row: Row, said: Said) -> None:
    said.protocol = "mysql"
    command, text, success = str(row.get("cmd", "")), str(row.get("arg", "")), row.get("success")
    rows = None if row.get("rows") is None else counted(row["rows"])
    if command in ("login", "change_user"):
        said.account, said.account_from = text or None, "startup"
        said.movements.append(Movement("connect" if _true(success) else "refused", "client"))
    elif command == "query" and success is not None and not _true(success):
        said.movements.append(Movement("refused" if "denied" in str(row.get("response", "")) else "connect", "client"))
    elif command == "query":
        said.movements += stated(text, rows, "mysql")
        for movement in said.movements:
            if movement.operation in MOVES and movement.data_from == "server":
                # What Zeek has are rows that were changed, not those of a result.
                movement.rows, movement.uncounted = 0, True
    elif command in ("execute", "fetch_stmt"):
        # The text is in the record of its preparation, without a number that joins them.
        said.movements.append(Movement("select", "server", [UNKNOWN], ["*"], uncounted=True))
        said.unread = True
    elif command in ("binlog_dump", "binlog_dump_gtid"):
        said.movements.append(Movement("replicate", "server", uncounted=True))
    else:
        said.movements.append(Movement("connect", "client", messages=0))


def _postgresql(row: Row, said: Said) -> None:
    # Statements of the extended query protocol leave no line, or one with rows only.
    said.protocol, said.unread = "postgresql", True
    frontend, success = str(row.get("frontend", "")), row.get("success")
    said.account, said.application = word(row, "user"), word(row, "application_name")
    said.account_from = "startup" if said.account else None
    refused = any(f"Code={state}" in str(row.get("backend_arg", "")) for state in POSTGRESQL_REFUSED)
    if success is not None and not _true(success):
        said.movements.append(Movement("refused" if refused or frontend == "startup" else "connect", "client"))
    elif "frontend_arg" in row and frontend in ("simple_query", "parse"):
        rows = None if row.get("rows") is None else counted(row["rows"])
        said.movements += stated(str(row["frontend_arg"]), rows, "postgresql")
        for movement in said.movements:
            # Zeek counts DataRow messages: what a statement changed is in a tag that it does not print.
            movement.uncounted |= movement.data_from == "client" and movement.operation in ("insert", "update", "delete", "copy")
    elif rows := counted(row.get("rows", 0)):
        said.movements.append(Movement("select", "server", [UNKNOWN], ["*"], rows=rows))
    else:
        said.movements.append(Movement("connect", "client", messages=0))


def _opcua(row: Row, said: Said) -> None:
    said.protocol = "opcua"
    if str(row.get("sec_policy_uri", "None")).rpartition("#")[2] not in ("None", ""):
        # Signed only, or encrypted too: the mode is not in this log.
        said.tls = UNKNOWN
    if url := re.match(r"opc\.tcp://([^:/]+)", str(row.get("endpoint_url", ""))):
        said.names.append((url[1], "opcua"))
    operation, data_from, uncounted = _OPCUA.get(str(row.get("identifier_str")), ("connect", "client", False))
    # OPC 10000-6, 7.1.2.2: F ends a message, C goes on, A is given up.
    said.movements.append(Movement(operation, data_from, messages=int(row.get("is_final", "F") == "F"), uncounted=uncounted))


def _opcua_session(row: Row, said: Said) -> None:
    said.protocol = "opcua"
    if row.get("user_name"):
        said.account, said.account_from = str(row["user_name"]), "token"
    elif row.get("application_uri"):
        said.application = str(row["application_uri"])


_READERS: Final[dict[str, Callable[[Row, Said], None]]] = {
    "conn": _conn, "ssl": _ssl, "dns": _dns, "http": _http, "mqtt_connect": _mqtt_connect, "mqtt_publish": _mqtt_publish,
    "mqtt_subscribe": _mqtt_subscribe, "mysql": _mysql, "postgresql": _postgresql, "opcua_binary": _opcua,
    "opcua_binary_activate_session": _opcua_session, "opcua_binary_create_session": _opcua_session,
}  # fmt: skip


def _log(name: str) -> str:
    """ICSNPP's logs had hyphens in their names before 2024."""
    return name.replace("-", "_")


def _time_ns(value: object) -> int:
    """Epoch seconds, milliseconds (``JSON::TS_MILLIS``) or RFC 3339 (``JSON::TS_ISO8601``)."""
    if isinstance(value, str) and "T" in value:
        return instant(value)
    if isinstance(value, str):
        return epoch_ns(value)
    if isinstance(value, int) and value > 10**11:
        return value * 10**6
    # A double holds microseconds of this century, not nanoseconds.
    return round(float(value) * 10**6) * 1_000  # type: ignore[arg-type]  # what is no number raises


def _listed(value: object) -> list[str]:
    """A set or vector: a list in JSON, joined by commas otherwise."""
    return [str(one) for one in value] if isinstance(value, list) else [one for one in str(value).split(",") if one]


def _true(value: object) -> bool:
    return value is True or value == "T"

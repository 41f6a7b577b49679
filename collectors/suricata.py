"""Suricata's eve.json as a source: flow, tls, dns, http, mqtt and pgsql records (Suricata 7; docs/collectors/sensors.md).

Its flow records count whole packets, not what they carry: bytes are those less the headers that every packet has, and ``estimated``.
MQTT's user and topics are there, and who publishes. It does not read
PostgreSQL's extended query protocol nor the data of COPY: bytes of such a session are its ``transfer``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from collectors.feed import FeedError
from collectors.log import counted, loaded
from collectors.sensor_log import TTL_S_MAX, UNKNOWN, End, Movement, Said, SensorLog, asked, placed, stated, word
from collectors.statements import POSTGRESQL_REFUSED
from hopwatch.events import time_ns as instant

HEADERS_BYTES: Final = {("tcp", 4): 14 + 20 + 20, ("tcp", 6): 14 + 40 + 20, ("udp", 4): 14 + 20 + 8, ("udp", 6): 14 + 40 + 8}
"""Ethernet, IP and TCP or UDP without options (IEEE 802.3, RFC 791, 8200, 9293, 768)."""

DNS_PORT: Final = 53

_PROTOCOLS: Final = {"pgsql": "postgresql", "mqtt": "mqtt", "tls": "tls", "dns": "dns", "http": "http"}

Row = dict[str, Any]  # Any: JSON values


class Suricata(SensorLog):
    """One sensor's eve.json, ``/var/log/suricata/eve.json*``."""

    KIND = "suricata"

    def _format(self, path: Path, head: bytes) -> None:
        if not head.startswith(b"{"):
            raise FeedError(f"{path}: not the JSON lines of an eve-log")

    def _parsed(self, record: bytes) -> Said | None:
        row: Row = loaded(record)
        kind = str(row["event_type"])
        reader = _READERS.get(kind)
        transport = str(row.get("proto", "")).lower()
        if reader is None or transport not in ("tcp", "udp"):
            return None
        source, destination = placed(row["src_ip"], row["src_port"]), placed(row["dest_ip"], row["dest_port"])
        if kind == "dns" and row["dns"].get("type") == "answer" and source[1] == DNS_PORT != destination[1]:
            # An answer's record may have the server as its source.
            source, destination = destination, source
        said = Said(_time_ns(row["timestamp"]), str(row["flow_id"]), source, destination, transport)
        reader(row, said)
        return said


def _flow(row: Row, said: Said) -> None:
    flow, tcp = row["flow"], row.get("tcp", {})
    said.protocol = _PROTOCOLS.get(str(row.get("app_proto")))
    if said.protocol == "tls":
        said.tls = UNKNOWN
    said.time_ns = _time_ns(flow["end"])
    version = 6 if ":" in said.client[0] else 4
    header = HEADERS_BYTES[said.transport, version]
    there, back = counted(flow["pkts_toserver"]), counted(flow["pkts_toclient"])
    one_sided = said.transport == "tcp" and (there == 0) != (back == 0)
    said.end = End(
        max(0, counted(flow["bytes_toserver"]) - there * header),
        max(0, counted(flow["bytes_toclient"]) - back * header),
        late=said.transport == "tcp" and not tcp.get("syn", False),
        one_sided=one_sided,
        missed=bool(row.get("flow", {}).get("gap") or tcp.get("tc_gap") or tcp.get("ts_gap")),
        estimated=True,
    )


def _tls(row: Row, said: Said) -> None:
    tls = row["tls"]
    version = str(tls.get("version", ""))
    said.tls = f"tls{version[4:]}" if version.startswith("TLS 1.") else UNKNOWN
    said.cipher = None
    if name := tls.get("sni"):
        said.names.append((str(name), "sni"))


def _dns(row: Row, said: Said) -> None:
    dns = row["dns"]
    said.protocol = "dns"
    said.movements.append(Movement("query", "server"))
    for answer in dns.get("answers", ()):
        if answer.get("rrtype") in ("A", "AAAA"):
            said.answers.append((str(answer["rdata"]), str(dns.get("rrname", "")), counted(answer.get("ttl", 0), TTL_S_MAX)))


def _http(row: Row, said: Said) -> None:
    http = row["http"]
    asked(said, str(http.get("http_method", "GET")), str(http.get("url", "/")), int(http.get("status", 0)))
    said.application = word(http, "http_user_agent")
    if host := http.get("hostname"):
        said.names.append((str(host), "http"))


def _mqtt(row: Row, said: Said) -> None:
    mqtt = row["mqtt"]
    said.protocol = "mqtt"
    if connect := mqtt.get("connect"):
        name = connect.get("username")
        said.account = str(name) if name else f"client-id:{connect['client_id']}" if connect.get("client_id") else None
        said.account_from, said.application = "startup", word(connect, "client_id")
        said.movements.append(Movement("refused" if mqtt.get("connack", {}).get("return_code", 0) else "connect", "client", messages=0))
    elif publish := mqtt.get("publish"):
        # Every record has the client as its source, whoever sent the message.
        said.movements.append(Movement("publish", "client", [str(publish.get("topic", UNKNOWN))], sender_unknown=True))
    elif subscribe := mqtt.get("subscribe"):
        topics = [str(one["topic"]) for one in subscribe.get("topics", ())]
        said.movements.append(Movement("subscribe", "server", topics, messages=0))
    else:
        said.movements.append(Movement("connect", "client", messages=0))


def _pgsql(row: Row, said: Said) -> None:
    pgsql = row["pgsql"]
    # False for what it could not read. Statements of the extended query protocol and the data of COPY leave that, or nothing.
    request, response = pgsql.get("request") or {}, pgsql.get("response") or {}
    said.protocol, said.unread = "postgresql", True
    if startup := request.get("startup_parameters"):
        said.account, said.account_from = word(startup, "user"), "startup"
        more = startup.get("optional_parameters", ())
        said.application = next((str(one["application_name"]) for one in more if "application_name" in one), None)
    if response.get("severity_non_localizable") in ("ERROR", "FATAL") or "code" in response:
        refused = str(response.get("code", "")).startswith(POSTGRESQL_REFUSED)
        said.movements.append(Movement("refused" if refused else "connect", "client"))
    elif text := request.get("simple_query"):
        rows = counted(response["data_rows"]) if "data_rows" in response else _changed(str(response.get("command_completed", "")))
        said.movements += stated(str(text), rows, "postgresql")
    elif rows := counted(response.get("data_rows", 0)):
        said.movements.append(Movement("select", "server", [UNKNOWN], ["*"], rows=rows))
    else:
        said.movements.append(Movement("connect", "client", messages=0))


def _changed(tag: str) -> int | None:
    """The rows of a command's tag (PostgreSQL 15, 55.7, CommandComplete); None without a tag."""
    last = tag.rpartition(" ")[2]
    return counted(last) if last.isdecimal() else 0 if tag else None


_READERS: Final[dict[str, Callable[[Row, Said], None]]] = {
    "flow": _flow, "tls": _tls, "dns": _dns, "http": _http, "mqtt": _mqtt, "pgsql": _pgsql,
}  # fmt: skip


def _time_ns(text: str) -> int:
    """``2026-04-07T10:42:08.026000+0000``."""
    return instant(f"{text[:-2]}:{text[-2:]}" if text[-5] in "+-" else text)

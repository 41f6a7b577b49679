"""What a collector of logs reads, as it grows: lines of each kind, one session that lasts and many that are short, with a ledger.

The lines are those of the recordings and pages that the kinds' own tests name, with times and numbers of their own.
"""

import csv
import io
import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

Json = dict[str, Any]  # Any: JSON values
Ledger = Counter[str]
"""Operation and unit, ``select rows``: how much."""

CLIENT = "10.30.0.20"
LASTING = 0
"""The session that is open from the first step to the end."""


class Growing(ABC):
    """The files of one source. Each step adds to a session that lasts, and is a short one besides."""

    kind: ClassVar[str]
    name: ClassVar[str] = "a.json"
    pattern: ClassVar[str] = "*"
    where: ClassVar[str] = ""
    """Before the pattern: ``ADDRESS:PORT=``."""
    counted: ClassVar[tuple[str, ...]]
    """Of the ledger: operation and unit."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder / self.kind
        self.folder.mkdir()
        self.ledger: Ledger = Counter()
        self.turn = self.renamed = 0
        self._clock = clock
        self.begin()

    @property
    def told(self) -> str:
        """As a person tells it."""
        return f"{self.kind}:{self.kind}={self.where}{self.folder}/{self.pattern}"

    def begin(self) -> None:
        """What stands before everything."""
        self.opened(LASTING)

    def step(self) -> None:
        """A little more of everything."""
        self.turn += 1
        self.moved(LASTING, self.turn % 7)
        self.opened(self.turn)
        for amount in range(1, 2 + self.turn % 3):
            self.moved(self.turn, amount)
        self.closed(self.turn)

    def end(self) -> None:
        """The session that lasted is over."""
        self.closed(LASTING)

    def rotate(self) -> None:
        """The file gets another name, and what comes is in a new one."""
        self.renamed += 1
        path = self.folder / self.name
        path.rename(path.with_name(self.rotated(self.renamed)))
        path.touch()

    def rotated(self, number: int) -> str:
        """What a file is called that is not written to any more."""
        return f"{self.name}.{number}"

    @abstractmethod
    def opened(self, session: int) -> None: ...
    @abstractmethod
    def moved(self, session: int, amount: int) -> None: ...
    def closed(self, session: int) -> None:  # noqa: B027  # Some kinds say nothing of an end.
        """The session is over."""

    def measure(self, flows: Iterable[Mapping[str, Any]]) -> Ledger:
        """What was told, in the units of the ledger."""
        found: Ledger = Counter()
        for flow in flows:
            for unit in ("rows", "messages", "bytes", "bytes_back"):
                found[f"{flow['operation']} {unit}"] += flow[unit]
        return Counter({unit: found[unit] for unit in self.counted})

    def bad(self) -> None:
        """A record that is none, after the last."""
        self.write("{neither this nor that; hunter2\n")

    def write(self, text: str, name: str = "") -> None:
        """In two goes, as programs do whose buffers are full in the middle of a line."""
        half = len(text) // 2
        for part in (text[:half], text[half:]):
            with (self.folder / (name or self.name)).open("a", encoding="utf-8") as file:
                file.write(part)

    def record(self, *records: Json) -> None:
        self.write("".join(json.dumps(one) + "\n" for one in records))

    def port(self, session: int) -> int:
        return 10_000 + session % 50_000

    def rfc3339(self, digits: int = 6) -> str:
        now = self._clock()
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 10**digits):0{digits}d}"


class Postgresql(Growing):
    kind, name, where = "postgresql-log", "postgresql-0.json", "10.20.1.21:5432="
    counted = ("select rows",)

    def begin(self) -> None:
        self.numbers: Counter[int] = Counter()
        super().begin()

    def rotate(self) -> None:
        """The server gives each a name of its own."""
        self.renamed += 1
        self.name = f"postgresql-{self.renamed}.json"  # type: ignore[misc]  # this one's own

    def say(self, session: int, message: str, **more: Any) -> None:
        self.numbers[session] += 1
        stamp = self.rfc3339(3).replace("T", " ") + " UTC"
        who = {"user": "svc_mw", "dbname": "mes", "pid": 411, "remote_host": CLIENT, "remote_port": self.port(session)}
        what = {"session_id": f"6b025f18.{session:x}", "line_num": self.numbers[session], "error_severity": "LOG", "message": message}
        self.record({"timestamp": stamp} | who | what | {"application_name": "extract/1.4"} | more)

    def opened(self, session: int) -> None:
        self.say(session, f"connection received: host={CLIENT} port={self.port(session)}")
        self.say(session, "connection authorized: user=svc_mw database=mes application_name=extract/1.4")

    def moved(self, session: int, amount: int) -> None:
        text = f"select lot from lots where id < {amount}"
        fields = io.StringIO()
        number = self.numbers[session]
        csv.writer(fields, lineterminator="").writerow(
            ["SESSION", number, 1, "READ", "SELECT", "TABLE", "mes.lots", text, "<not logged>", amount]
        )
        self.say(session, f"statement: {text}")
        self.say(session, f"AUDIT: {fields.getvalue()}")
        self.ledger["select rows"] += amount

    def closed(self, session: int) -> None:
        self.say(session, "disconnection: session time: 0:00:00.119 user=svc_mw database=mes")


class Mariadb(Growing):
    kind, name, where = "mariadb-log", "slow.log", "10.20.1.22:3306="
    counted = ("select rows",)
    audited = "audit.log"

    def audit(self, session: int, verb: str) -> None:
        stamp = time.strftime("%Y%m%d %H:%M:%S", time.gmtime(self._clock()))
        self.write(f"{stamp},mes-db,svc_mw,{CLIENT},{session + 1},0,{verb},mes,,0\n", self.audited)

    def begin(self) -> None:
        self.rotated_banner()
        super().begin()

    def rotated_banner(self) -> None:
        self.write(
            "mariadbd, Version: 10.11.19-MariaDB (Debian 12). started with:\nTcp port: 3306  Unix socket: /run/s\n"
            "Time\t\t    Id Command\tArgument\n"
        )

    def rotate(self) -> None:
        super().rotate()
        self.rotated_banner()

    def opened(self, session: int) -> None:
        self.audit(session, "CONNECT")

    def moved(self, session: int, amount: int) -> None:
        self.write(
            f"# User@Host: svc_mw[svc_mw] @  [{CLIENT}]\n# Thread_id: {session + 1}  Schema: mes  QC_hit: No\n"
            f"# Query_time: 0.000813  Lock_time: 0.000510  Rows_sent: {amount}  Rows_examined: 40\n"
            "# Rows_affected: 0  Bytes_sent: 691\n# Full_scan: Yes  Full_join: No  Tmp_table: No  Tmp_table_on_disk: No\n"
            f"SET timestamp={int(self._clock())};\nselect lot from lots where id < {amount};\n"
        )
        self.ledger["select rows"] += amount

    def closed(self, session: int) -> None:
        self.audit(session, "DISCONNECT")

    def bad(self) -> None:
        self.write("neither this nor that; hunter2\n", self.audited)


class Sqlserver(Growing):
    kind, where = "sqlserver-log", "10.20.1.23:1433="
    counted = ("select rows",)

    def step(self) -> None:
        """A session that samples show no longer is over."""
        self.opened(LASTING)
        super().step()

    def opened(self, session: int) -> None:
        who = {"original_login_name": "PLANT\\svc_mes", "program_name": "MES Client", "auth_scheme": "NTLM", "encrypt_option": "TRUE"}
        place = {"client_net_address": CLIENT, "client_tcp_port": self.port(session), "session_id": session + 51}
        self.record({"sample_time": self.rfc3339() + "Z"} | place | who)

    def extended(self, session: int, kind: str, data: str) -> None:
        action = f'<action name="session_id" package="sqlserver"><value>{session + 51}</value></action>'
        event = f'<event name="{kind}" package="sqlserver" timestamp="{self.rfc3339(3)}Z">{data}{action}</event>'
        self.record({"object_name": kind, "event_data": event, "file_name": "x.xel", "file_offset": 0})

    def moved(self, session: int, amount: int) -> None:
        data = f'<data name="row_count"><value>{amount}</value></data><data name="result"><value>0</value><text>OK</text></data>'
        self.extended(session, "sql_batch_completed", data + '<data name="batch_text"><value>select Lot from dbo.Lots</value></data>')
        self.ledger["select rows"] += amount

    def closed(self, session: int) -> None:
        self.extended(session, "logout", '<data name="is_cached"><value>false</value></data>')


class Oracle(Growing):
    kind, where = "oracle-log", "10.20.1.24:1521="
    counted = ("select messages",)

    def trail(self, session: int, action: str, **more: Any) -> None:
        how = f"(TYPE=(DATABASE));(CLIENT ADDRESS=((PROTOCOL=tcps)(HOST={CLIENT})(PORT={self.port(session)})));"
        who = {"DBUSERNAME": "SVC_MES", "CLIENT_PROGRAM_NAME": "mes.exe", "AUTHENTICATION_TYPE": how, "RETURN_CODE": 0}
        self.record({"EVENT_TIMESTAMP_UTC": self.rfc3339() + "Z", "ACTION_NAME": action, "SESSIONID": session + 100} | who | more)

    def opened(self, session: int) -> None:
        self.trail(session, "LOGON")

    def moved(self, session: int, amount: int) -> None:
        for _ in range(amount):
            self.trail(session, "SELECT", OBJECT_SCHEMA="MES", OBJECT_NAME="LOTS")
        self.ledger["select messages"] += amount

    def closed(self, session: int) -> None:
        self.trail(session, "LOGOFF")


class Mosquitto(Growing):
    kind, name, where = "mosquitto-log", "mosquitto.log", "10.10.5.3:8883="
    counted = ("publish messages", "publish bytes")

    def say(self, *lines: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(self._clock()))
        self.write("".join(f"{stamp}: {line}\n" for line in lines))

    def opened(self, session: int) -> None:
        where = f"{CLIENT}:{self.port(session)}"
        self.say(
            f"New connection from {where} on port 8883.",
            f"New client connected from {where} as press-{session} (p2, c1, k60, u'svc_press').",
            f"Sending CONNACK to press-{session} (0, 0)",
        )

    def moved(self, session: int, amount: int) -> None:
        self.say(f"Received PUBLISH from press-{session} (d0, q1, r0, m7, 'line/{amount}', ... ({amount} bytes))")
        self.ledger += Counter({"publish messages": 1, "publish bytes": amount})

    def closed(self, session: int) -> None:
        self.say(f"Client press-{session} disconnected.")

    def bad(self) -> None:
        self.write("neither this nor that; hunter2\n")


class Relay(Growing):
    kind = "relay-log"
    counted = ("put bytes", "put bytes_back", "put messages")

    def opened(self, session: int) -> None:
        """Nothing is said before a request is over."""
        (self.folder / self.name).touch()

    def moved(self, session: int, amount: int) -> None:
        place = {"client": CLIENT, "client_port": self.port(session), "relay": "10.30.0.40", "relay_port": 3128, "user": "svc_lake"}
        what = {"method": "PUT", "target": "https://lake.example/raw/day", "agent": "extract/1.4", "status": 201}
        self.record({"time": f"{self._clock():.3f}"} | place | what | {"received": 100 + amount, "sent": 20 + amount})
        self.ledger += Counter({"put bytes": 100 + amount, "put bytes_back": 20 + amount, "put messages": 1})


class Logins(Growing):
    kind, where = "logins", "10.20.1.23:1433="
    counted = ("connections",)

    def say(self, session: int, event: str) -> None:
        who = {"client": CLIENT, "client_port": self.port(session), "account": "svc_mw", "session": f"s{session}"}
        self.record({"time": self.rfc3339() + "Z", "event": event} | who)

    def opened(self, session: int) -> None:
        self.say(session, "login")
        self.ledger["connections"] += 1

    def moved(self, session: int, amount: int) -> None:
        self.say(session, "seen")

    def closed(self, session: int) -> None:
        self.say(session, "logout")

    def measure(self, flows: Iterable[Mapping[str, Any]]) -> Ledger:
        return Counter(connections=len({flow["flow_id"] for flow in flows if flow["operation"] == "connect"}))


class Pgbouncer(Growing):
    kind, name, where = "pgbouncer-log", "pgbouncer.log", "10.30.0.41:6432="
    counted = ("connections",)

    def say(self, session: int, side: str, text: str) -> None:
        place = f"{CLIENT}:{self.port(session)}" if side == "C" else "10.20.1.21:5432"
        stamp = self.rfc3339(3).replace("T", " ")
        self.write(f"{stamp} UTC [411] LOG {side}-0x55d0{session:08x}: mes/svc_mw@{place} {text}\n")

    def opened(self, session: int) -> None:
        self.say(session, "C", "login attempt: db=mes user=svc_mw tls=TLSv1.3/TLS_AES_256_GCM_SHA384")
        self.say(session, "S", f"new connection to server (from 10.30.0.41:{self.port(session)})")
        self.ledger["connections"] += 2

    def moved(self, session: int, amount: int) -> None:
        """Nothing is said of statements."""

    def closed(self, session: int) -> None:
        self.say(session, "C", "closing because: client close request (age=0s)")
        self.say(session, "S", "closing because: server lifetime over (age=0s)")

    def measure(self, flows: Iterable[Mapping[str, Any]]) -> Ledger:
        return Counter(connections=len({flow["flow_id"] for flow in flows if flow["operation"] == "connect"}))


class Zeek(Growing):
    kind, name = "zeek", "conn.log"
    counted = ("transfer bytes", "transfer bytes_back")

    def opened(self, session: int) -> None:
        """A connection is told when it is over."""
        (self.folder / self.name).touch()

    def rotated(self, number: int) -> str:
        return f"conn.2026-04-07-{number:02d}-00-00.log"

    def moved(self, session: int, amount: int) -> None:
        number = sum(self.ledger.values())
        ends = {"id.orig_h": CLIENT, "id.orig_p": self.port(number), "id.resp_h": "10.20.1.30", "id.resp_p": 9100}
        seen = {"proto": "tcp", "duration": 0.25, "conn_state": "SF", "history": "ShADadFf", "missed_bytes": 0}
        sizes = {"orig_bytes": 100 + amount, "resp_bytes": 20 + amount}
        self.record({"ts": self._clock(), "uid": f"C{number}"} | ends | seen | sizes)
        self.ledger += Counter({"transfer bytes": 100 + amount, "transfer bytes_back": 20 + amount})


class Suricata(Growing):
    kind, name = "suricata", "eve.json"
    counted = ("transfer bytes", "transfer bytes_back")
    headers = 54
    """Of a packet of TCP."""

    def opened(self, session: int) -> None:
        """A flow is told when it is over."""
        (self.folder / self.name).touch()

    def moved(self, session: int, amount: int) -> None:
        number, stamp = sum(self.ledger.values()), self.rfc3339() + "+0000"
        ends = {"src_ip": CLIENT, "src_port": self.port(number), "dest_ip": "10.20.1.30", "dest_port": 9100, "proto": "TCP"}
        flow = {"pkts_toserver": 2, "pkts_toclient": 1, "start": stamp, "end": stamp, "bytes_toserver": 2 * self.headers + 100 + amount}
        flow["bytes_toclient"] = self.headers + 20 + amount
        self.record({"timestamp": stamp, "flow_id": number, "event_type": "flow"} | ends | {"flow": flow, "tcp": {"syn": True}})
        self.ledger += Counter({"transfer bytes": 100 + amount, "transfer bytes_back": 20 + amount})


FILES: tuple[type[Growing], ...] = (Postgresql, Pgbouncer, Mariadb, Sqlserver, Oracle, Mosquitto, Relay, Logins, Zeek, Suricata)
"""Of every kind that reads files."""

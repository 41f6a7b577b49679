"""The table: what is asked of every pair of client and server, and how an answer is printed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.matrix.ledger import AMOUNTS, Moved

NOT_SHOWN = "not shown"
VERBS: dict[str, tuple[str, ...]] = {
    "postgresql": (
        "simple select",
        "extended select",
        "prepared",
        "cursor",
        "partial Execute",
        "pipelined",
        "COPY out, text",
        "COPY out, CSV",
        "COPY out, binary",
        "COPY in, text",
        "COPY in, CSV",
        "COPY in, binary",
        "insert, update, delete",
        "merge",
        "function call",
        "FunctionCall message",
        "account administration",
        "dump",
        "base backup",
        "logical replication",
        "physical replication",
        "result of 10 MB",
    ),
    "mysql": (
        "simple select",
        "unbuffered select",
        "prepared",
        "server-side cursor",
        "compressed",
        "several statements",
        "insert, update, delete",
        "LOAD DATA LOCAL",
        "INTO OUTFILE",
        "procedure call",
        "account administration",
        "change of user",
        "binary log",
        "result of 10 MB",
        "values of 20 MiB",
    ),
    "mqtt": (
        *(f"publish and subscribe, {version}, QoS {qos}" for version in ("3.1.1", "5.0") for qos in (0, 1, 2)),
        "retained, wildcard replay",
        "shared subscription",
        "topic alias",
        "Sparkplug B",
        "OPC UA PubSub",
        "WebSocket",
        "account administration",
        "bridge",
    ),
    "opcua": (
        "read",
        "read in chunks",
        "write",
        "browse",
        "browse next",
        "call",
        "history read, continuation points",
        "history read in chunks",
        "history read, processed",
        "history read, at time",
        "history read, events",
        "history update",
        "subscribe",
        "events",
        "monitored items modified, deleted",
        "republish",
        "subscription transferred",
        "X.509 user token",
        "SignAndEncrypt (sizes only)",
    ),
}
# Operations under which a driver asks the server something for itself and counts no row of it.
ASIDE: dict[tuple[str, str], tuple[str, ...]] = {
    # pg_dump reads the catalogue before it copies; a walsender's commands and settings answer with rows.
    ("PostgreSQL's programs", "dump"): ("select",),
    ("PostgreSQL's programs", "base backup"): ("select", "replicate"),
    ("PostgreSQL's programs", "physical replication"): ("select",),
    ("PostgreSQL's programs", "logical replication"): ("select",),
    # It asks for the session's sql_mode before it writes a list of values.
    ("MySQL Connector", "insert, update, delete"): ("select",),
    # It asks for the server's version.
    ("MariaDB's programs", "binary log"): ("select",),
}
# Objects that a client's library reads for itself: OPC UA's own nodes (namespace 0: limits, namespaces).
OWN_OBJECTS = {"Milo": re.compile(r"ns=0;i=\d+"), "async-opcua": re.compile(r"ns=0;i=\d+")}
SIZES_ONLY = frozenset({"SignAndEncrypt (sizes only)"})


@dataclass(frozen=True, slots=True)
class Cell:
    """One client doing one thing at one server."""

    protocol: str
    verb: str
    client: str
    server: str

    def __str__(self) -> str:
        return f"{self.protocol} {self.client} at {self.server}: {self.verb}"


@dataclass(slots=True)
class Shown:
    """What was seen in a cell."""

    ledger: Sequence[Moved]
    wrong: Sequence[str]
    bytes: int
    cuts: int = 0
    """Replays of the same bytes in other segments that gave the same counts."""
    recorded: bool = False

    def text(self, cell: Cell) -> str:
        if self.wrong:
            return "WRONG"
        if cell.verb in SIZES_ONLY:
            return f"{self.bytes:,} B, encrypted" + ("*" if self.recorded else "")
        amounts = {name: sum(getattr(moved, name) or 0 for moved in self.ledger) for name in (*AMOUNTS, "payload_bytes")}
        # Statements are told where they are more than what they moved.
        counted = [
            name for name in amounts if amounts[name] and (name != "messages" or amounts[name] > amounts["rows"] + amounts["values"])
        ]
        told = [f"{amounts[name]:,} {_short(name)}" for name in counted]
        return " ".join(told or [f"{self.bytes:,} B"]) + ("*" if self.recorded else "")


def _short(name: str) -> str:
    return {"messages": "msg", "payload_bytes": "B"}.get(name, name)


Table = dict[Cell, Shown]


@dataclass(slots=True)
class Report:
    """Cells, and the versions of every stack they came from."""

    cells: Table = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)


def columns(cells: Mapping[Cell, Any], protocol: str) -> list[tuple[str, str]]:
    return sorted({(cell.server, cell.client) for cell in cells if cell.protocol == protocol}, key=lambda pair: (pair[0], pair[1].lower()))


def lines(report: Report) -> list[str]:
    """The table in Markdown, one part a protocol."""
    out = []
    for protocol, verbs in VERBS.items():
        shown = columns(report.cells, protocol)
        out += [f"## {protocol}", ""]
        if not shown:
            out += [NOT_SHOWN, ""]
            continue
        out.append("| verb | " + " | ".join(f"{client} at {server}" for server, client in shown) + " |")
        out.append("| --- |" + " --- |" * len(shown))
        for verb in verbs:
            row = []
            for server, client in shown:
                cell = Cell(protocol, verb, client, server)
                row.append(report.cells[cell].text(cell) if cell in report.cells else NOT_SHOWN)
            out.append(f"| {verb} | " + " | ".join(row) + " |")
        cells = [(cell, shown) for cell, shown in report.cells.items() if cell.protocol == protocol]
        cuts, empty = sum(shown.cuts for _, shown in cells), len(verbs) * len(columns(report.cells, protocol)) - len(cells)
        out += ["", f"{len(cells)} cells shown, {empty} not shown; {cuts:,} replays of the same bytes cut elsewhere gave equal sums.", ""]
    return out

"""Verdicts judged: labelled windows, every verdict with every protocol, and what is said of each.

The labels are the table of docs/verdicts.md, applied by hand: every line below says which clause makes it so, and nothing here was
taken from what the judge says. Where a verdict cannot be had of a protocol the line says why instead; the table counts those apart.
tests/detectors/test_table.py goes deeper (both sides of every clause, on PostgreSQL for the most part); this goes wider.

    python -m benchmarks.detection.level1        # the table as Markdown; ends with 1 if anything is not as labelled
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from hashlib import blake2b
from typing import Any, Final

from detectors.judgement import ROW
from detectors.verdict import VerdictDetector
from hopwatch.declared.load import loads
from hopwatch.declared.model import Architecture
from hopwatch.events import Flow, Heartbeat, time_ns, time_text

NOON: Final = "2026-06-10T10:00:00Z"
NIGHT: Final = "2026-06-10T21:30:00Z"
"""A Wednesday; plant time is two hours later, so that the second lies behind 22:00."""

CLIENT: Final = "10.30.0.20"
STRANGER: Final = "10.30.0.99"
"""A host beside the client, which no account names."""

OFFICE: Final = "10.50.0.9"
"""A zone that no hop reaches."""

NOWHERE: Final = "198.51.100.9"
MONITOR: Final = "10.20.0.7"
DECLARATION: Final = """
plant: labelled
version: 1
owner: bench
approved: {by: bench}
review_by: 2028-01-01
timezone: Europe/Berlin
classes:
  plain:   {sensitivity: internal, transit: any, keep_max: 1y, off_site: approved}
  guarded: {sensitivity: confidential, transit: tls1.2, keep_max: 1y, off_site: approved}
  secret:  {sensitivity: ip-sensitive, transit: any, keep_max: 1y}
zones:
  ops:    {level: 3, nets: [10.20.0.0/24]}
  dmz:    {level: 3.5, nets: [10.30.0.0/24]}
  office: {level: 4, nets: [10.50.0.0/16]}
  lake:   {level: 5, off_site: true, country: DE, operator: CloudCo, nets: [203.0.113.0/27], terms: {ref: VND-1, until: 2028-01-01}}
assets:
  db:     {zone: ops, kind: postgresql, at: "10.20.0.1:5432"}
  broker: {zone: ops, kind: mqtt, at: "10.20.0.2:8883"}
  server: {zone: ops, kind: opcua, at: "10.20.0.3:4840"}
  pages:  {zone: ops, kind: http, at: "10.20.0.4:8080"}
  names:  {zone: ops, kind: dns, at: "10.20.0.5:53"}
  files:  {zone: ops, kind: files, at: "10.20.0.6:9999"}
  store:  {zone: lake, kind: object-store, at: "203.0.113.5:443"}
  client: {zone: dmz, kind: middleware, at: 10.30.0.20}
services:
  watching: {ports: [5432, 8883, 4840, 8080, 53, 9999, 443], to: [ops, lake], from: [10.20.0.7], cap: 1 MiB / 1d per host}
data:
  tables: {class: guarded, in: [db], tables: [good.*]}
  topics: {class: guarded, in: [broker], topics: ["good/#"]}
  nodes:  {class: guarded, in: [server], nodes: ["ns=2;s=Good/*"]}
  paths:  {class: plain, in: [pages], paths: ["/good/*"]}
  hosts:  {class: plain, in: [names], paths: ["*.good.example"]}
  made:   {class: guarded, in: [client]}
  other-tables: {class: secret, in: [db], tables: [other.*]}
  other-topics: {class: secret, in: [broker], topics: ["other/#"]}
  other-nodes:  {class: secret, in: [server], nodes: ["ns=2;s=Other/*"]}
  other-paths:  {class: secret, in: [pages], paths: ["/other/*"]}
  other-hosts:  {class: secret, in: [names], paths: ["*.other.example"]}
  bait:
    {class: secret, in: [db, broker, server, pages, names], decoy: true, tables: [bait.*], topics: ["bait/#"], nodes: ["ns=2;s=Bait/*"],
     paths: ["/bait/*", "*.bait.example"]}
accounts:
  a-db:     {kind: service, owner: o, from: [client], auth: scram-sha-256}
  a-broker: {kind: service, owner: o, from: [client], auth: certificate}
  a-server: {kind: service, owner: o, from: [client], auth: certificate}
  a-pages:  {kind: service, owner: o, from: [client], auth: password}
  a-names:  {kind: service, owner: o, from: [client], auth: none}
  a-files:  {kind: service, owner: o, from: [client], auth: token}
  a-store:  {kind: service, owner: o, from: [client], auth: short-lived}
conduits:
  inner: {from: [ops], to: [dmz], agent: tap, sees: decoded, feed: tap-log}
  upward: {from: [dmz], to: [ops], agent: tap, sees: decoded, feed: tap-log}
  outer: {from: [dmz], to: [lake], agent: tap, sees: sizes}
hops:
  h-db:     {who: a-db, from: db, to: client, via: inner, may: [select], what: [tables], limit: 1000 rows / 1h, APPROVED}
  h-broker: {who: a-broker, from: broker, to: client, via: inner, may: [subscribe], what: [topics], limit: 1000 messages / 1h, APPROVED}
  h-server: {who: a-server, from: server, to: client, via: inner, may: [read], what: [nodes], limit: 1000 values / 1h, APPROVED}
  h-pages:  {who: a-pages, from: pages, to: client, via: inner, may: [get], what: [paths], limit: 1000 messages / 1h, APPROVED}
  h-names:  {who: a-names, from: names, to: client, via: inner, may: [query], what: [hosts], limit: 1000 messages / 1h, APPROVED}
  h-files:  {who: a-files, from: client, to: files, via: upward, may: [transfer], what: [made], limit: 1 MiB / 1h, APPROVED}
  h-store:
    {who: a-store, from: client, to: store, via: outer, may: [transfer], what: [made], limit: 1 MiB / 1h, protect: {at_rest: encrypted},
     APPROVED}
""".replace(
    "APPROVED",
    "when: daily 06:00-22:00, keep: 1d, why: labelled, approved: {by: bench, ticket: CHG-1, date: 2026-01-01, until: 2026-12-31}",
)


@dataclass(frozen=True, slots=True)
class Protocol:
    """A declared window of a protocol, and what of it makes each verdict; an empty ``unit`` is a flow nobody reads."""

    asset: str
    address: str
    port: int
    protocol: str | None
    operation: str
    unit: str = ""
    good: str = ""
    other: str = ""
    bait: str = ""
    unclassed: str = ""
    unapproved: tuple[str, ...] = ()
    protection: tuple[tuple[str, str], ...] = ()
    weak: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Protections below the class, or logins other than the account's."""


_TLS = (("transport", "tls1.3"),)
PROTOCOLS: Final[dict[str, Protocol]] = {
    "postgresql": Protocol(
        "db", "10.20.0.1", 5432, "postgresql", "select", "rows", "good.parts", "other.parts", "bait.parts", "nobody.parts",
        ("copy", "insert", "update", "delete", "ddl", "replicate", "backup"),
        (*_TLS, ("authentication", "scram-sha-256")),
        (
            (("transport", "none"), ("authentication", "scram-sha-256")),
            (("transport", "tls1.0"), ("authentication", "scram-sha-256")),
            (*_TLS, ("authentication", "md5")), (*_TLS, ("authentication", "trust")),
        ),
    ),
    "mqtt": Protocol(
        "broker", "10.20.0.2", 8883, "mqtt", "subscribe", "messages", "good/line1", "other/line1", "bait/line1", "nobody/line1",
        ("publish",),
        (*_TLS, ("authentication", "certificate")),
        ((("transport", "none"), ("authentication", "certificate")), (*_TLS, ("authentication", "password"))),
    ),
    "opcua": Protocol(
        "server", "10.20.0.3", 4840, "opcua", "read", "values", "ns=2;s=Good/Temp", "ns=2;s=Other/Temp", "ns=2;s=Bait/Temp",
        "ns=2;s=Nobody/Temp",
        ("write", "call", "history-read", "history-write"),
        (("transport", "opcua-signandencrypt"), ("policy", "Basic256Sha256"), ("authentication", "certificate")),
        (
            (("transport", "opcua-none"), ("policy", "None"), ("authentication", "certificate")),
            (("transport", "opcua-sign"), ("policy", "Basic256Sha256"), ("authentication", "certificate")),
            (("transport", "opcua-signandencrypt"), ("policy", "Basic128Rsa15"), ("authentication", "certificate")),
            (("transport", "opcua-signandencrypt"), ("policy", "Basic256Sha256"), ("authentication", "anonymous")),
        ),
    ),
    "http": Protocol(
        "pages", "10.20.0.4", 8080, "http", "get", "messages", "/good/parts", "/other/parts", "/bait/parts", "/nobody/parts",
        ("put",),
        (("transport", "none"), ("authentication", "basic")),
        ((("transport", "none"), ("authentication", "bearer")), (("transport", "none"), ("authentication", "none"))),
    ),
    "dns": Protocol(
        "names", "10.20.0.5", 53, "dns", "query", "messages", "a.good.example", "a.other.example", "a.bait.example", "a.nobody.example",
        (),
        (("transport", "none"),),
        ((("transport", "none"), ("authentication", "password")),),
    ),
    "tls": Protocol(
        "store", "203.0.113.5", 443, "tls", "transfer", protection=_TLS,
        weak=((("transport", "tls1.0"),), (("transport", "tls1.1"),), (("transport", "none"),)),
    ),
    "unread": Protocol(
        "files", "10.20.0.6", 9999, None, "transfer", protection=_TLS, weak=((("transport", "none"),), (("transport", "tls1.1"),)),
    ),
    "no payload": Protocol("db", "10.20.0.1", 5432, None, "attempt", protection=(("transport", "none"),)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled window: the last of ``windows``; severity is None where verdicts.md gives none."""

    protocol: str
    verdict: str
    severity: str | None
    clause: str
    windows: tuple[Flow, ...]
    at: date | None = None
    feed: bool = False
    """Whether the conduit's feed has just said that it lives."""


@dataclass(frozen=True, slots=True)
class Impossible:
    """A verdict that no window of the protocol can have, and why."""

    protocol: str
    verdict: str
    why: str


@cache
def architecture() -> Architecture:
    """The declaration that the windows are judged by."""
    return loads(DECLARATION)


def window(name: str, number: int = 0, **said: Any) -> Flow:  # Any: fields of a flow
    """A window that the declaration approves, but for what is said; ``client``, ``object`` and ``amount`` change those."""
    kind = PROTOCOLS[name]
    at, client = said.pop("at", NOON), said.pop("client", CLIENT)
    amount, named = said.pop("amount", 1), said.pop("object", kind.good)
    server = {"address": kind.address, "port": kind.port, "names": []}
    dialler = {"address": client, "port": 50_000, "names": []}
    unread = not kind.unit
    flow_id = blake2b(f"{name}{client}{kind.operation}".encode(), digest_size=16).hexdigest()
    base: dict[str, Any] = {
        "plant": "labelled", "agent": "tap", "event_id": f"{flow_id}{number}", "flow_id": flow_id, "connection": flow_id,
        "sequence": number,
        "start": at, "end": time_text(time_ns(at) + 10**9), "transport": "udp" if name == "dns" else "tcp", "protocol": kind.protocol,
        "source": dialler if unread else server, "destination": server if unread else dialler,
        "opened_by": "source" if unread else "destination", "operation": kind.operation, "packets": 2,
        "account": None if unread else f"a-{kind.asset}", "depth": "sizes" if unread else "decoded", "protection": dict(kind.protection),
        "bytes": amount if unread else 100 * amount,
    }  # fmt: skip
    if not unread:
        base |= {kind.unit: amount, "objects": [{"names": [named], kind.unit: amount, "bytes": 100 * amount}]}
    elif kind.operation == "attempt":
        base |= {"bytes": 0, "depth": "decoded"}
    elif name == "tls":
        base |= {"completeness": {"state": "encrypted"}}
    if name == "postgresql":
        base["objects"][0]["columns"] = ["id"]
    return Flow.model_validate(base | said)


def cases() -> Iterator[Case | Impossible]:
    """Every cell of the table: its windows, or why it has none."""
    for name, kind in PROTOCOLS.items():
        for verdict in ROW:
            yield from _cell(name, kind, verdict)


def _cell(name: str, kind: Protocol, verdict: str) -> Iterator[Case | Impossible]:
    attempt, unread = kind.operation == "attempt", not kind.unit
    worst = "medium" if attempt else "critical"

    def case(severity: str | None, clause: str, *windows: Flow, **said: Any) -> Case:  # Any: fields of a case
        return Case(name, verdict, severity, clause, windows, **said)

    def never(why: str) -> Impossible:
        return Impossible(name, verdict, why)

    if verdict == "decoy":
        if unread:
            yield never("what is not read names no object")
        else:
            yield case("critical", "a declared decoy was touched", window(name, object=kind.bait))
            yield case("critical", "above service: the monitor touches it too", window(name, object=kind.bait, client=MONITOR))
    elif verdict == "service":
        yield case(None, "inside its servers, users and cap", window(name, client=MONITOR, **_quiet(kind)))
    elif verdict == "undeclared-destination":
        if attempt:
            yield never("nothing is received, and the way runs client -> server")
        else:
            yield case(worst, "no hop joins, an end that receives is in no zone", window(name, client=NOWHERE))
    elif verdict == "undeclared-hop":
        if name == "tls":
            yield never("the store is off site: there it is an undeclared destination")
        else:
            yield case(worst, "no hop joins, both zones declared", window(name, client=OFFICE))
            if not unread:
                yield case(worst, "a service's host that reads what the file classes", window(name, client=MONITOR, account=None))
    elif verdict == "undeclared-account":
        if attempt:
            yield case("medium", "another host: an attempt is at most medium", window(name, client=STRANGER))
        else:
            yield case("high", "another host, account unread or not", window(name, client=STRANGER))
        if not unread:
            yield case("high", "not listed", window(name, account="nobody"))
            yield case("high", "listed, and not the hop's", window(name, account="a-store"))
    elif verdict == "undeclared-data":
        if unread:
            yield never("what is not read names no object")
        else:
            yield case("high", "outside what, of class secret (ip-sensitive)", window(name, object=kind.other))
            yield case("high", "unclassified counts as the highest class", window(name, object=kind.unclassed))
    elif verdict == "unapproved-operation":
        if unread:
            yield never("an attempt may be made, and what is not read is taken as both ways")
        elif not kind.unapproved:
            yield never("it has no other operation")
        else:
            for operation in kind.unapproved:
                yield case("high", f"{operation} is not in may", window(name, operation=operation))
    elif verdict == "over-limit":
        if attempt:
            yield never("it moves nothing")
            return
        most = 2**20 if unread else 1_000
        step = {"dns": ("low", "medium", "high"), "http": ("low", "medium", "high")}.get(name, ("medium", "high", "critical"))
        for ratio, severity in ((1, step[0]), (2, step[1]), (10, step[2])):
            spent = most * ratio + (ratio == 1)
            yield case(severity, f"{spent} of {most}, by class and ratio", window(name, amount=spent))
        yield case(step[0], "spent before, and one more", window(name, amount=most), window(name, 1, amount=1))
        yield case("medium", "the cap of a service", window(name, client=MONITOR, **_quiet(kind) | {"bytes": 2**20 + 1}))
    elif verdict == "outside-window":
        if attempt:
            yield never("between the hosts of a hop it is judged for who and where only")
        else:
            yield case("medium", "right hop, wrong time", window(name, at=NIGHT))
    elif verdict == "under-protected":
        severity = "low" if name in ("http", "dns") else "medium"
        for weak in kind.weak:
            yield case(severity, ", ".join(text for _, text in weak), window(name, protection=dict(weak)))
        if not kind.weak:
            yield never("nothing is protected by nothing")
    elif verdict == "expired":
        if attempt:
            yield never("between the hosts of a hop it is judged for who and where only")
        else:
            yield case("medium", "until has passed by no more than 30 days", window(name), at=date(2027, 1, 15))
            yield case("high", "until has passed by more", window(name), at=date(2027, 2, 15))
    elif verdict == "blind":
        yield from _blind(name, kind, case, never)
    elif verdict == "declared-in-part":
        if name == "tls":
            yield case(None, "sizes promised: who and what are assumed", window(name))
        elif attempt:
            yield case(None, "between the hosts of a joined hop", window(name))
        elif unread:
            yield case(None, "a shallow view while the feed lives", window(name), feed=True)
        else:
            yield case(None, "connecting, nobody named yet: who is assumed", window(name, **_quiet(kind)))
            yield case(None, "an amount that the wire only estimates", window(name, completeness={"estimated": True}))
    elif unread:
        yield never("who or what is not read, so not all six are checked")
    else:
        yield case(None, "all six checked, and hold", window(name))
        yield case(None, "up to the limit's last one", window(name, amount=1_000))


def _quiet(kind: Protocol) -> dict[str, Any]:  # Any: fields of a flow
    """What a window says that reads nothing of the plant's: the beginning of a connection, or all that can be seen of one."""
    return {"operation": "connect", "objects": [], kind.unit: 0, "account": None} if kind.unit else {}


def _blind(name: str, kind: Protocol, case: Any, never: Any) -> Iterator[Case | Impossible]:  # Any: what ``_cell`` makes of a cell
    if name == "unread":
        yield case("low", "decoded was promised", window(name))
    elif name == "tls":
        yield case("low", "a gap: how much is unknown", window(name, completeness={"state": "lossy", "lost_bytes": 10}))
    elif kind.operation == "attempt":
        yield never("there is nothing to be read")
    else:
        hidden: dict[str, Any] = {
            "operation": "transfer",
            "depth": "sizes",
            "objects": [],
            kind.unit: 0,
            "account": None,
        }  # Any: fields of a flow
        yield case("low", "encrypted where decoded was promised", window(name, completeness={"state": "encrypted"}, **hidden))
        yield case("low", "a gap: how much is unknown", window(name, completeness={"state": "lossy", "lost_bytes": 10}))
        yield case("low", "a statement nobody could read", window(name, object="unknown"))


def said_of(case: Case) -> tuple[str, str | None]:
    """Verdict and severity that the judge gives to the case's last window."""
    judge = VerdictDetector(architecture(), at=case.at)
    if case.feed:
        judge.observe(Heartbeat(event_id="h", plant="labelled", agent="tap-log", time=NOON))
    judgement = [one for flow in case.windows for one in judge.observe(flow)][-1]
    return judgement.verdict, judgement.severity


def judged() -> list[tuple[Case, tuple[str, str | None]]]:
    """Every case with what is said of it."""
    return [(case, said_of(case)) for case in cases() if isinstance(case, Case)]


def is_right(case: Case, said: tuple[str, str | None]) -> bool:
    """Whether what is said is what the label says."""
    return said == (case.verdict, case.severity)


def table(results: list[tuple[Case, tuple[str, str | None]]]) -> str:
    """Verdicts by protocols: how many windows are judged as labelled, of how many; a dash where there can be none."""
    lines = ["| | " + " | ".join(PROTOCOLS) + " |", "| --- |" + " ---: |" * len(PROTOCOLS)]
    for verdict in ROW:
        cells = []
        for name in PROTOCOLS:
            right = [is_right(case, said) for case, said in results if (case.verdict, case.protocol) == (verdict, name)]
            cells.append(f"{sum(right)} / {len(right)}" if right else "-")
        lines.append(f"| {verdict} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the table and whatever is not as labelled."""
    results = judged()
    print(table(results))
    missed = [(case, said) for case, said in results if not is_right(case, said)]
    for case, (verdict, severity) in missed:
        print(f"{case.protocol}: {case.clause}: {case.verdict} {case.severity}, judged {verdict} {severity}", file=sys.stderr)
    print(f"\n{len(results) - len(missed)} of {len(results)} windows as labelled")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

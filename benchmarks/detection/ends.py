"""Who the simulated plant's pairs are: the declaration they are judged by, and their minutes as the events that agents send.

Zones, assets, accounts, classes and hops are as in a small plant: cells with OPC UA servers, brokers and databases, users, an
analytics zone with a model, a lake off site. Each hop is limited to ``looseness`` times the largest hour and the largest day that
its pair ever has without incidents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from benchmarks.detection.plant import BEGIN, KINDS, TIMEZONE, Incident, Part, Run, plant
from benchmarks.detection.scenes import LAKE_NAME, NOTEBOOK
from hopwatch.declared.load import loads
from hopwatch.declared.model import Architecture
from hopwatch.events import Completeness, Endpoint, Event, Flow, Heartbeat, Loss, Name, ObjectSet, Protection, time_text

BEGIN_S: Final = int(BEGIN.timestamp())
AGENTS: Final = ("t", "t-cell", "t-egress")
BEAT_S: Final = 50
"""Second of every minute at which an agent says that it lives: time is moved on by the minute, and a silence of 45 s is one."""

LATE_BEAT_S: Final = 20
"""The last one before a restart that takes 40 s."""

PLACE: Final = {kind.name: place for place, kind in enumerate(KINDS)}
CELL: Final = ("collect-tags-1", "collect-tags-2")
MQTT: Final = ("publish-uns", "ml-features")
LAKE: Final = "lake-upload"
HISTORY_ROWS: Final = 400_000
DEAD_HOP: Final = "old-notebook"


@dataclass(frozen=True, slots=True)
class Shape:
    """How a declaration differs from one that is right: looser limits, a hop that is missing, one that nobody uses."""

    looseness: float = 1.5
    missing: str = ""
    dead: bool = False

    @property
    def title(self) -> str:
        """As the report calls it."""
        what = f"limits at {self.looseness} x the true peak"
        if self.missing:
            return f"{what}, and the hop {self.missing} is missing"
        return f"{what}, and a hop nobody uses any more covers the notebook" if self.dead else what


SHAPES: Final = {
    "1.2": Shape(1.2), "1.5": Shape(1.5), "3": Shape(3.0), "5": Shape(5.0),
    "missing": Shape(missing="planner"), "dead": Shape(dead=True),
}  # fmt: skip


def server(name: str) -> tuple[str, int]:
    """Where a pair's server listens."""
    place = PLACE[name]
    if name in CELL:
        return f"10.10.0.{place + 1}", 4840
    if name == LAKE:
        return "203.0.113.5", 443
    return f"10.1.0.{place + 1}", 8883 if name in MQTT else 5432


def client(name: str) -> str:
    """The host that a pair's client runs on; the lake is fed by the host that extracts."""
    place = PLACE["extract-quality" if name == LAKE else name]
    return f"10.4.0.{place + 1}" if name == "ml-features" else f"10.2.0.{place + 1}"


def shown(name: str) -> frozenset[str]:
    """Both ends of a pair as findings name them."""
    place = PLACE[name]
    return frozenset({f"s{place}", "c8" if name == LAKE else f"c{place}"})


def about(incident: Incident) -> frozenset[str]:
    """The ends that an alert may name and be about the incident."""
    return incident.ends or frozenset().union(*(shown(name) for name in incident.pairs if name in PLACE))


# The declaration


@cache
def _peaks(seed: int, days: int) -> dict[str, tuple[int, int]]:
    """By pair the largest hour and the largest day without incidents."""
    quiet = plant(seed, days, incidents=False)
    return {
        name: (
            int(np.convolve(amount, np.ones(61), "valid").max()),
            int(max(amount[quiet.wall.day == one].sum() for one in set(quiet.wall.day.tolist()))),
        )
        for name, amount in quiet.bytes.items()
    }


def declaration(run: Run, shape: Shape) -> Architecture:
    """The plant file of a run."""
    peaks = _peaks(run.seed, run.days)
    hops, assets, accounts, data = [], [], [], []
    for place, kind in enumerate(KINDS):
        name = kind.name
        hour, day = (max(1, int(shape.looseness * peak)) for peak in peaks[name])
        address, port = server(name)
        zone = "cell" if name in CELL else "lake" if name == LAKE else "plant"
        sort = "opcua" if name in CELL else "mqtt" if name in MQTT else "object-store" if name == LAKE else "postgresql"
        sort = "mes" if name == "mes-works" else sort
        at = LAKE_NAME if name == LAKE else address
        assets.append(f'  s{place}: {{zone: {zone}, kind: {sort}, at: "{at}:{port}"}}')
        if name != LAKE:
            users = "analytics" if name == "ml-features" else "users"
            which = ", kind: ml" if name == "ml-features" else ", kind: client"
            standby = ", standby: [10.2.1.5]" if name == "dashboards" else ""
            assets.append(f"  c{place}: {{zone: {users}{which}, at: {client(name)}{standby}}}")
        names = 'nodes: ["ns=2;s=Line/*"]' if name in CELL else 'topics: ["north/#"]' if name in MQTT else f"tables: [{', '.join(_TABLES)}]"
        if name != LAKE:
            data.append(f"  d{place}: {{class: production, in: [s{place}], {names}}}")
        who = "person" if name in ("analyst", "planner") else "vendor" if name == "vendor" else "service"
        login = "certificate" if name in (*CELL, *MQTT, LAKE) else "scram-sha-256"
        ends = "c8" if name == LAKE else f"c{place}"
        until = ", expires: 2027-01-01" if name == "vendor" else ""
        accounts.append(f"  a{place}: {{kind: {who}, owner: o{place}, from: [{ends}], auth: {login}{until}}}")
        if name == shape.missing:
            continue
        ends = f"from: c8, to: s{place}, via: out" if name == LAKE else f"from: s{place}, to: c{place}, via: {_conduit(name)}"
        what = "d8" if name == LAKE else f"d{place}, history" if name == "reporting" else f"d{place}"
        hops.append(
            f"  {name}: {{who: a{place}, {ends}, may: [{_MAY.get(name, 'select')}], what: [{what}], "
            f"limit: [{hour} B / 1h, {day} B / 1d], keep: 1d, why: simulated{_REST.get(name, '')}}}"
        )
    if shape.dead:
        assets.append(f"  notebook: {{zone: analytics, kind: notebook, at: {NOTEBOOK}}}")
        accounts.append("  svc_nb: {kind: service, owner: lab, from: [notebook], auth: scram-sha-256}")
        hops.append(
            f"  {DEAD_HOP}: {{who: svc_nb, from: s5, to: notebook, via: down, may: [select], what: [d5], limit: 100 MiB / 1d,"
            " keep: 1d, why: a trial of last year}"
        )
    exceptions = list(_exceptions(run, peaks, shape.looseness))
    return loads(
        "\n".join(
            [
                "plant: simulated", "version: 1", "owner: bench", "approved: {by: bench}", "review_by: 2027-01-01",
                f"timezone: {TIMEZONE.key}", "classes:",
                "  production: {sensitivity: confidential, transit: tls1.2, keep_max: 1y, off_site: approved}",
                "  process_ip: {sensitivity: ip-sensitive, transit: tls1.2, keep_max: 1y}",
                "  operator: {sensitivity: pii, transit: tls1.2, keep_max: 1y}",
                "zones:", "  cell: {level: 2, nets: [10.10.0.0/16]}", "  plant: {level: 3, nets: [10.1.0.0/16]}",
                "  users: {level: 3.5, nets: [10.2.0.0/16]}", "  analytics: {level: 4, nets: [10.4.0.0/16]}",
                "  lake: {level: 5, off_site: true, country: DE, operator: CloudCo, names: [\"*.lake.example-cloud.eu\"],"
                " nets: [203.0.113.0/29], terms: {ref: VND-1, until: 2027-01-01}}",
                "assets:", *assets, "data:", *data,
                f"  history: {{class: production, in: [s12], tables: [history], rows: {HISTORY_ROWS}}}",
                "  advice: {class: production, in: [c3, s2], topics: [\"advice/#\"]}",
                "  recipes: {class: process_ip, in: [s0, s1, s3, s5, s13, s16], tables: [\"recipe_*\"], topics: [\"recipe/#\"],"
                " nodes: [\"ns=2;s=Recipe/*\"]}",
                "  operators: {class: operator, in: [s8], columns: [\"*.operator_name\"]}",
                "  decoy: {class: process_ip, in: [s5], tables: [recipe_master_2019], decoy: true}",
                "accounts:", *accounts,
                "conduits:", "  cells: {from: [cell], to: [users], agent: t-cell, sees: decoded, keylog: keys}",
                "  down: {from: [plant], to: [users, analytics], agent: t, sees: decoded, keylog: keys}",
                "  up: {from: [users, analytics], to: [plant], agent: t, sees: decoded, keylog: keys}",
                "  out: {from: [users], to: [lake], agent: t-egress, sees: sizes}",
                "hops:", *hops,
                "  advice: {who: a3, from: c3, to: s2, via: up, may: [publish], what: [advice], limit: 10 MiB / 1d, keep: 1d,"
                " why: advisory, validated: VAL-7}",
                "calendar:", "  - {what: month end, when: last day 18:00-24:00, hops: [mes-works], limit: 3x, ticket: STD-2}",
                *(["exceptions:", *exceptions] if exceptions else []),
            ]
        )
    )  # fmt: skip


_TABLES: Final = ("t", "lot", "plan", *(f"t{place}" for place in range(12)))
_MAY: Final = {name: "subscribe" for name in (*CELL, *MQTT)} | {LAKE: "transfer", "backup": "select, copy"}
_PILOT: Final = "approved: {by: bench, ticket: CHG-8, date: 2026-02-10, until: 2026-04-04}"
_REST: Final = {
    "extract-quality": ', when: daily 01:15-03:45, without: ["*.operator_name"]',
    LAKE: ', when: daily 02:45-05:00, without: ["*.operator_name"],'
    " approved: {by: bench, ticket: CHG-3, date: 2026-01-01, until: 2026-12-31}",
    "pilot": f", tags: [pilot], {_PILOT}",
}


def _conduit(name: str) -> str:
    return "cells" if name in CELL else "down"


def _exceptions(run: Run, peaks: dict[str, tuple[int, int]], looseness: float) -> Iterator[str]:
    """What was planned under a ticket: a line for every day of it."""
    for incident in run.incidents:
        if not incident.ticket:
            continue
        first, last = (_day_of(minute) for minute in (incident.first_minute, incident.last_minute))
        hour, day = (int(3 * looseness * peak) for peak in peaks[incident.ticket])
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            on = datetime.fromordinal(ordinal).date()
            yield (
                f"  {incident.ticket}-{on}: {{hop: {incident.ticket}, limit: [{hour} B / 1h, {day} B / 1d], when: {on} 00:00-24:00,"
                " ticket: CHG-77, by: bench}"
            )


def _day_of(minute: int) -> datetime:
    return datetime.fromtimestamp(BEGIN_S + minute * 60, TIMEZONE)


# The events


_TLS: Final = Protection(transport="tls1.3")
_PROTECTION: Final = {
    name: Protection(transport="opcua-signandencrypt", policy="Basic256Sha256", authentication="certificate")
    if name in CELL
    else Protection(transport="tls1.3", authentication="certificate")
    if name in MQTT
    else _TLS
    if name == LAKE
    else Protection(transport="tls1.3", authentication="scram-sha-256")
    for name in PLACE
}
_ENCRYPTED: Final = Completeness(state="encrypted")


def _fields(name: str) -> dict[str, Any]:  # Any: fields of a flow
    """What every window of a pair says."""
    address, port = server(name)
    lake = name == LAKE
    there, here = Endpoint(address, port, [Name(LAKE_NAME, "dns")] if lake else []), Endpoint(client(name), 50_000)
    digest = blake2b(name.encode(), digest_size=16).hexdigest()
    return {
        "plant": "simulated", "agent": "t-cell" if name in CELL else "t-egress" if lake else "t", "connection": digest, "flow_id": digest,
        "source": here if lake else there, "destination": there if lake else here, "opened_by": "source" if lake else "destination",
        "protocol": "opcua" if name in CELL else "mqtt" if name in MQTT else "tls" if lake else "postgresql",
        "account": None if lake else f"a{PLACE[name]}",
        "operation": "transfer" if lake else "subscribe" if name in (*CELL, *MQTT) else "select",
        "depth": "sizes" if lake else "decoded", "protection": _PROTECTION[name], "packets": 1,
    }  # fmt: skip


_UNIT: Final = {name: "values" if name in CELL else "messages" if name in MQTT else "rows" for name in PLACE}
_OBJECT: Final = {name: "ns=2;s=Line/Tags" if name in CELL else "north/line1" if name in MQTT else "t" for name in PLACE}


def events(run: Run) -> Iterator[tuple[int, Event]]:
    """The run as agents tell it, in the order of time, with the minute."""
    names = run.pairs
    table = np.stack([run.bytes[name] for name in names])
    beside: dict[int, list[tuple[Part, int, int]]] = {}
    for number, part in enumerate(part for incident in run.incidents for part in incident.parts):
        for step, amount in enumerate(part.amounts.tolist()):
            if amount > 0:
                beside.setdefault(part.first_minute + step, []).append((part, number, int(amount)))
    makers = [_Maker(name) for name in names]
    others: dict[int, _Maker] = {}
    for minute in range(table.shape[1]):
        at_s = BEGIN_S + minute * 60
        start, end = time_text(at_s * 10**9), time_text((at_s + 60) * 10**9)
        for agent, first, last in run.lossy:
            if first <= minute <= last:
                yield minute, _loss(run, agent, minute, table[:2, minute].sum())
        for place in np.flatnonzero(table[:, minute]).tolist():
            yield minute, makers[place].window(start, end, int(table[place, minute]))
        for part, number, amount in beside.get(minute, ()):
            maker = others.get(number)
            if maker is None:
                maker = others[number] = _Maker(part.like, part, number)
            yield minute, maker.window(start, end, amount)
        for agent in AGENTS:
            if not any(who == agent and first <= minute <= last for who, first, last in run.silent):
                yield minute, _beat(agent, (at_s + (LATE_BEAT_S if (agent, minute) in run.restarted else BEAT_S)) * 10**9)


class _Maker:
    """Makes the windows of a pair, or of what resembles it."""

    def __init__(self, name: str, part: Part | None = None, number: int = 0) -> None:
        self._fields = _fields(name)
        self._unit, self._per_row = _UNIT[name], KINDS[PLACE[name]].bytes_per_row
        self._objects = [_OBJECT[name]]
        self._columns: list[str] = ["lot"] if name == "extract-quality" else []
        self._rows: int | None = None
        self._sequence = 0
        if part is not None:
            self._says(part, number)
        self._unread = self._fields["operation"] == "transfer"
        self._flow = self._fields["flow_id"]
        if self._unread and self._fields["protocol"] == "tls":
            self._fields["completeness"] = _ENCRYPTED

    def _says(self, part: Part, number: int) -> None:
        said = dict(part.said)
        self._columns = list(said.pop("columns", self._columns))
        self._rows = part.rows_a_minute
        if part.objects:
            self._objects = list(part.objects)
        if "way" in said:
            source, destination = (_end(one) for one in said.pop("way"))
            said |= {"source": source, "destination": destination}
        if "lake" in said:
            said["destination"] = Endpoint(said.pop("lake"), 443, [Name(LAKE_NAME, "dns")])
        if "protection" in said:
            said["protection"] = Protection(**said["protection"])
        digest = blake2b(f"{number}|{part.pair}|{part.first_minute}".encode(), digest_size=16).hexdigest()
        # What shares account, ends and operation with the pair is still a connection of its own.
        self._fields |= said | {"connection": digest, "flow_id": digest}

    def window(self, start: str, end: str, amount: int) -> Flow:
        """The next minute's."""
        number, self._sequence = self._sequence, self._sequence + 1
        event_id = f"{self._flow}{number}"
        if self._unread:
            return Flow(event_id=event_id, sequence=number, start=start, end=end, bytes=amount, **self._fields)
        many = max(1, amount // self._per_row) if self._rows is None else self._rows
        names, unit = self._objects, self._unit
        parts = len(names)
        each: dict[str, Any] = {unit: max(1, many // parts)}  # Any: one of the counts, by its name
        if parts == 1:
            each = {unit: many}
        sets = [ObjectSet([name], self._columns, bytes=amount // parts, **each) for name in names]
        whole = {unit: each[unit] * parts}
        return Flow(event_id=event_id, sequence=number, start=start, end=end, objects=sets, bytes=amount, **whole, **self._fields)


def _end(said: str) -> Endpoint:
    side, _, name = said.partition(" of ")
    if side == "server":
        return Endpoint(*server(name))
    return Endpoint(client(name) if side == "client" else said, 443 if side not in ("client", "server") and "." in said[:4] else 50_000)


def _beat(agent: str, at_ns: int) -> Heartbeat:
    return Heartbeat.model_construct(event_id=f"{agent}{at_ns}", plant="simulated", agent=agent, time=time_text(at_ns))


def _loss(run: Run, agent: str, minute: int, seen: float) -> Loss:
    at_ns = (BEGIN_S + minute * 60 + 30) * 10**9
    return Loss(
        event_id=f"loss{minute}", plant="simulated", agent=agent, stage="kernel", start=time_text(at_ns), end=time_text(at_ns + 10**9),
        packets=int(seen / 30_000) + 1, bytes=int(seen / 30) + 1, why="ring full",
    )  # fmt: skip

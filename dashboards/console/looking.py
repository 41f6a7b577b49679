"""The pages that only look: the map and what is behind a band or a place, the declaration, coverage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.responses import Response

from dashboards.console import drawing
from dashboards.console.library import Declared, Stretch, stretch
from dashboards.console.picture import NOWHERE, STATES, Band, Picture, build
from dashboards.console.visit import Visit
from hopwatch.declared import draw, explain, table
from hopwatch.declared.model import Architecture
from hopwatch.declared.shadow import overshadowed
from hopwatch.events import time_ns
from hopwatch.store import DEPTHS_SUMMED_MAX, Depth, Query, Reader

BANDS_LISTED: Final = 200
FLOWS_OPENED: Final = 200
"""Windows that a band's details are made of: the newest."""
FLOWS_LISTED: Final = 40
LOSSES_LISTED: Final = 100
SILENT_S: Final = 60
"""An agent beats every ten seconds; after six missing beats it is said to be silent (docs/agent.md)."""

_UNREAD: Final = ("blind", "sizes")


@dataclass(frozen=True, slots=True)
class Seen:
    """The picture of a stretch of time, and its drawing."""

    when: Stretch
    picture: Picture
    svg: str


async def seen(visit: Visit) -> tuple[Declared, Seen]:
    """What the map of this visit shows."""
    declared = visit.console.declarations.fresh(visit.plant)
    query = visit.query()

    def ask(reader: Reader) -> Seen:
        when = stretch(reader, visit.plant, visit.span, visit.console.wall_ns())
        picture = build(declared.architecture, declared.index, reader.movements(visit.plant, when.since, when.until))
        return Seen(when, picture, drawing.svg(picture, declared.architecture, query))

    return declared, await visit.console.library.ask(ask, ("map", visit.plant, visit.span, query, declared.stamp))


async def show_map(visit: Visit) -> Response:
    """The map."""
    declared, now = await seen(visit)
    return visit.page(
        "map.html", title="Map", declared=declared, when=now.when, picture=now.picture, svg=now.svg, states=STATES, listed_max=BANDS_LISTED,
        said=drawing.said,
    )  # fmt: skip


@dataclass(slots=True)
class Opened:
    """What the newest windows of a band say beyond their sums."""

    flows: list[dict[str, Any]]  # Any: JSON values.
    objects: list[tuple[str, Counter[str]]] = field(default_factory=list)
    protections: Counter[str] = field(default_factory=Counter)
    agents: Counter[str] = field(default_factory=Counter)
    applications: Counter[str] = field(default_factory=Counter)


def opened(flows: Sequence[dict[str, Any]]) -> Opened:  # Any: JSON values.
    """What is in the windows: objects with their amounts, how they were protected, who saw them how deep."""
    found = Opened(list(flows))
    told: dict[tuple[str, str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for flow in flows:
        for entry in flow.get("objects", ()):
            counted = told[flow["connection"], ", ".join(entry["names"]), flow["operation"]]
            for unit in ("rows", "values", "messages", "bytes"):
                counted[unit, f"{flow['agent']}/{flow.get('seen_by')}"] += entry.get(unit, 0)
        said = flow.get("protection", {})
        login = f", {said['authentication']}" if said.get("authentication") else ""
        transport = said.get("transport") or "none"
        found.protections[("cleartext" if transport == "none" else str(transport)) + login] += 1
        found.agents[f"{flow['agent']}: {flow['depth']}"] += 1
        if flow.get("application"):
            found.applications[str(flow["application"])] += 1
    objects: dict[str, Counter[str]] = defaultdict(Counter)
    for (_, name, _), counted in told.items():
        for unit in ("rows", "values", "messages", "bytes"):
            # Of what several views saw of a connection the most that one counted.
            objects[name][unit] += max(amount for (one, _), amount in counted.items() if one == unit)
    found.objects = sorted(objects.items(), key=lambda item: -item[1]["bytes"])
    return found


async def show_band(visit: Visit) -> Response:
    """One band: accounts, operations, objects, amounts, protection, and the hop it is held against."""
    declared, now = await seen(visit)
    key = visit.request.path_params["key"]
    band = next((band for band in now.picture.bands if band.key == key), None)
    if band is None:
        return visit.refused(404, "Nothing of this kind moves between these two in the time that is shown.")
    ends = {(one.source, one.destination): None for one in band.movements}
    kinds = {(one.hop, one.verdict): None for one in band.movements}
    flows: list[dict[str, Any]] = []  # Any: JSON values.
    if ends:
        flows = await visit.console.library.ask(
            lambda reader: reader.between(visit.plant, now.when.since, now.when.until, list(ends), list(kinds), FLOWS_OPENED),
            ("band", visit.plant, visit.span, key),
        )
    hop = declared.architecture.hops.get(band.hop or "")
    return visit.page(
        "band.html", title=f"{band.title}: {band.source} to {band.destination}", declared=declared, when=now.when, band=band, hop=hop,
        explained=_explained(declared.architecture, band.hop), opened=opened(flows), listed_max=FLOWS_LISTED, groups=_groups(band),
    )  # fmt: skip


def _explained(architecture: Architecture, hop: str | None) -> list[str]:
    return explain.explain_hop(architecture, hop).splitlines() if hop in architecture.hops and hop is not None else []


@dataclass(slots=True)
class Group:
    """What one account did by one protocol and operation."""

    account: str | None
    protocol: str | None
    operation: str | None
    verdict: str | None
    windows: int = 0
    rows: int = 0
    bytes: int = 0
    last: str = ""


def _groups(band: Band) -> list[Group]:
    groups: dict[tuple[str | None, ...], Group] = {}
    for one in band.movements:
        key = (one.account, one.protocol, one.operation, one.verdict)
        group = groups.setdefault(key, Group(*key))
        group.windows += one.windows
        group.rows += one.rows
        group.bytes += one.bytes
        group.last = max(group.last, one.last)
    return sorted(groups.values(), key=lambda group: -group.bytes)


async def show_place(visit: Visit) -> Response:
    """One place: what it is declared as, and every band at it."""
    declared, now = await seen(visit)
    key = visit.request.path_params["key"]
    place = next((place for place in now.picture.places.values() if place.key == key), None)
    if place is None:
        return visit.refused(404, "No such place in the time that is shown.")
    bands = [band for band in now.picture.bands if place.name in (band.source, band.destination)]
    accounts: dict[str, tuple[int, str]] = {}
    for band in bands:
        for one in band.movements:
            if one.account is not None:
                count, last = accounts.get(one.account, (0, ""))
                accounts[one.account] = count + one.bytes, max(last, one.last)
    return visit.page(
        "place.html", title=place.label, declared=declared, when=now.when, place=place, bands=bands, nowhere=NOWHERE,
        asset=declared.architecture.assets.get(place.name), zone=declared.architecture.zones.get(place.zone),
        accounts=sorted(accounts.items(), key=lambda item: -item[1][0]),
    )  # fmt: skip


# The declaration


async def show_declaration(visit: Visit) -> Response:
    """Hops as a table, the drawing, and what is wrong with the file itself."""
    declared, now = await seen(visit)
    architecture = declared.architecture
    used: dict[str, tuple[int, int, str]] = {}
    for band in now.picture.bands:
        if band.hop is not None and band.windows:
            windows, moved, last = used.get(band.hop, (0, 0, ""))
            used[band.hop] = windows + band.windows, moved + band.bytes, max(last, band.last)
    rows = table.rows(architecture)
    # What no hop says anything about needs no column.
    said = [place for place in range(len(table.COLUMNS)) if place == 0 or any(row[place] for row in rows)]
    findings = await visit.console.library.ask(
        lambda reader: [one for verdict in _HYGIENE for one in reader.findings(Query(plant=visit.plant, verdict=verdict))],
        ("hygiene", visit.plant),
    )
    return visit.page(
        "declaration.html", title="Declaration", declared=declared, when=now.when, heading=table.heading(architecture),
        approval=architecture.declaration.approval, columns=[table.COLUMNS[place] for place in said],
        used=used, rows=[[row[place] for place in said] for row in rows],
        problems=architecture.problems, shadows=list(overshadowed(architecture)), findings=findings,
        unseen=[name for name in architecture.hops if name not in used],
    )  # fmt: skip


_HYGIENE: Final = ("unseen", "broad", "overshadowed", "unwatched", "drifting", "expired")


async def show_drawing(visit: Visit) -> Response:
    """The declaration's own drawing; its style is known by its hash, so that nothing else in it would be obeyed (CSP 3, 8.3)."""
    declared = visit.console.declarations.fresh(visit.plant)
    policy = f"default-src 'none'; style-src '{draw.STYLE_HASH}'; frame-ancestors 'none'"
    return visit.answer(draw.svg(declared.architecture).encode(), "image/svg+xml", headers={"Content-Security-Policy": policy})


# Coverage


@dataclass(slots=True)
class Covered:
    """How well one conduit, or what goes through none, was read."""

    name: str
    promised: str
    agent: str
    windows: int = 0
    bytes: int = 0
    blind: int = 0
    unread_bytes: int = 0
    lossy: int = 0
    depths: Counter[str] = field(default_factory=Counter)
    agents: Counter[str] = field(default_factory=Counter)

    @property
    def blind_share(self) -> float:
        """The share of windows that could not be read as deep as promised."""
        return self.blind / self.windows if self.windows else 0.0


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent's last heartbeat, and how long ago it was."""

    beat: dict[str, Any]  # Any: JSON values.
    silent_s: float

    @property
    def silent(self) -> bool:
        """Whether it has missed six beats."""
        return self.silent_s > SILENT_S


async def show_coverage(visit: Visit) -> Response:
    """How much of the plant is seen, how deep, and what is known to be missing."""
    declared = visit.console.declarations.fresh(visit.plant)
    now_ns = visit.console.wall_ns()

    def ask(reader: Reader) -> tuple[Stretch, list[Depth], list[dict[str, Any]], list[dict[str, Any]]]:  # Any: JSON values.
        when = stretch(reader, visit.plant, visit.span, now_ns)
        losses = reader.losses(Query(plant=visit.plant, since=when.since, limit=LOSSES_LISTED))
        return when, reader.depths(visit.plant, when.since, when.until), reader.heartbeats(visit.plant, when.since), losses

    when, depths, beats, losses = await visit.console.library.ask(ask, ("coverage", visit.plant, visit.span))
    conduits = covered(declared, depths)
    agents = [Agent(beat, (now_ns - time_ns(beat["time"])) / 1e9) for beat in beats]
    known = {beat["agent"] for beat in beats}
    unheard = sorted({one.agent for one in declared.architecture.conduits.values()} - known) if beats else []
    total = Covered("all", "", "")
    for one in conduits:
        total.windows += one.windows
        total.bytes += one.bytes
        total.blind += one.blind
        total.unread_bytes += one.unread_bytes
        total.lossy += one.lossy
    lost: Counter[str] = Counter()
    for loss in losses:
        for unit in ("packets", "bytes", "events"):
            lost[unit] += loss.get(unit, 0)
    return visit.page(
        "coverage.html", title="Coverage", declared=declared, when=when, conduits=conduits, total=total, agents=agents, losses=losses,
        lost=lost, unheard=unheard, losses_max=LOSSES_LISTED, capped=total.windows >= DEPTHS_SUMMED_MAX,
    )  # fmt: skip


def covered(declared: Declared, depths: Sequence[Depth]) -> list[Covered]:
    """The conduits in file order, then what moved inside zones, then what moved where there is no conduit."""
    architecture, index = declared.architecture, declared.index
    rows = {name: Covered(name, conduit.sees, conduit.agent) for name, conduit in architecture.conduits.items()}
    doors: dict[tuple[str, str], str] = {}
    for name, conduit in architecture.conduits.items():
        for here in conduit.from_:
            for there in conduit.to:
                doors.setdefault((here, there), name)
                doors.setdefault((there, here), name)
    for one in depths:
        hop = architecture.hops.get(one.hop or "")
        zones = index.zone(one.source), index.zone(one.destination)
        if hop is not None and hop.via is not None:
            name = hop.via
        elif zones[0] is not None and zones[0] == zones[1]:
            name = f"inside {zones[0]}"
        else:
            name = doors.get((zones[0] or "", zones[1] or ""), "through no conduit")
        row = rows.setdefault(name, Covered(name, "", ""))
        row.windows += one.windows
        row.bytes += one.bytes
        row.blind += one.windows if one.verdict == "blind" else 0
        row.unread_bytes += one.bytes if one.depth in _UNREAD else 0
        row.lossy += one.windows if one.state != "complete" else 0
        row.depths[one.depth] += one.windows
        row.agents[one.agent] += one.windows
    return list(rows.values())

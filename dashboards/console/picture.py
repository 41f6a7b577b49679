"""What the map shows: places and the bands between them, made of the declaration and of what the store says has moved.

A band is a hop, or what moves between two places without one; what differs from a hop is a band of its own beside it. So the
declared and the undeclared never share a line, and a line's width is its own. Data's direction is the hop's: what goes the other way
over the same connection (requests, acknowledgements) is counted with the band as what came back.

Colour is for what is not as it should be (ANSI/ISA-101.01, 5.2: a calm picture in which the abnormal stands out).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from hopwatch.declared.match import End, Index
from hopwatch.declared.model import Architecture, Hop
from hopwatch.events import SEVERITIES, Name
from hopwatch.store import GROUPS_MAX, WINDOWS_SUMMED_MAX, Movement

State = Literal["violation", "blind", "unjudged", "declared", "unseen"]
STATES: Final[tuple[State, ...]] = ("violation", "blind", "unjudged", "declared", "unseen")
"""The worst first."""

PLACES_OF_ZONE_MAX: Final = 24
"""Places drawn in one zone; the quietest of the others stand together as one."""

BANDS_MAX: Final = 400
"""Bands drawn; the least of what is declared is counted and not drawn."""

NOWHERE: Final = ""
"""The zone of what lies in none."""

_APPROVED: Final = ("declared", "declared-in-part")


@dataclass(slots=True)
class Place:
    """An asset, an address nobody declared, a zone's hosts where a hop names the zone, or the quiet rest of a zone."""

    name: str
    zone: str
    kind: Literal["asset", "host", "zone", "rest"]
    about: str = ""
    worst: State = "unseen"
    bytes: int = 0
    holds: list[str] = field(default_factory=list)
    """What stands together in it."""

    @property
    def key(self) -> str:
        """Its name in an address of the console."""
        return _key("place", self.zone, self.name)

    @property
    def label(self) -> str:
        """What is written on it."""
        if self.kind == "rest":
            return f"{len(self.holds)} more"
        return f"hosts of {self.zone}" if self.kind == "zone" else self.name


@dataclass(slots=True)
class Band:
    """Movements of one kind between two places."""

    source: str
    destination: str
    hop: str | None
    state: State
    verdicts: Counter[str] = field(default_factory=Counter)
    severity: str | None = None
    windows: int = 0
    rows: int = 0
    bytes: int = 0
    back_bytes: int = 0
    first: str = ""
    last: str = ""
    movements: list[Movement] = field(default_factory=list)
    off_site: bool = False

    @property
    def key(self) -> str:
        """Its name in an address of the console: the same as long as it is the same band."""
        return _key("band", self.source, self.destination, self.hop or "", self.state)

    @property
    def findings(self) -> list[str]:
        """The findings behind it."""
        return list(dict.fromkeys(one.finding_id for one in self.movements if one.finding_id is not None))

    @property
    def accounts(self) -> list[str]:
        """Who moved it."""
        return list(dict.fromkeys(one.account for one in self.movements if one.account is not None))

    @property
    def title(self) -> str:
        """What it is called."""
        if self.state == "violation":
            return " + ".join(name for name, _ in self.verdicts.most_common(2)) or "violation"
        return self.hop or next(iter(self.verdicts), "unjudged")


@dataclass(slots=True)
class Picture:
    """Everything of one map; zones in the order of their levels, within a level as in the file."""

    zones: dict[str, list[Place]]
    bands: list[Band]
    services: int = 0
    """Windows of infrastructure traffic inside its servers, users and cap: counted, not drawn."""
    left_out: int = 0
    """Bands beyond BANDS_MAX."""
    capped: bool = False
    """More windows lie in this time than were looked at: what is shown are the newest."""

    @property
    def places(self) -> dict[str, Place]:
        """By name."""
        return {place.name: place for places in self.zones.values() for place in places}

    def count(self, state: State) -> int:
        """Bands of this state."""
        return sum(band.state == state for band in self.bands)


def build(architecture: Architecture, index: Index, movements: Iterable[Movement]) -> Picture:
    """The picture of what moved under this declaration; what a hop allows and nothing used is in it as unseen."""
    bands: dict[tuple[str, str, str | None, State], Band] = {}
    strangers: dict[str, str] = {}
    services = windows = groups = 0

    def placed(end: End, hop_ends: Sequence[str]) -> str:
        """The name of the place: for a hop its own end, so that seen and unseen are the same band."""
        for name in hop_ends:
            if name in (end.asset, end.host):
                return name
        for name in hop_ends:
            if name == end.zone and name in architecture.zones:
                return name
        if end.shown not in architecture.assets:
            strangers.setdefault(end.shown, end.zone or NOWHERE)
        return end.shown

    for one in movements:
        windows += one.windows
        groups += 1
        if one.verdict == "service":
            services += one.windows
            continue
        hop = architecture.hops.get(one.hop or "")
        state = _state(one)
        swapped = _swapped(architecture, one)
        shown = (one.shown_destination, one.shown_source) if swapped else (one.shown_source, one.shown_destination)
        source, destination = _end(index, one.source, shown[0]), _end(index, one.destination, shown[1])
        forward = not swapped
        if hop is not None and one.hop is not None:
            source, destination = _of_hop(architecture, hop, source), _of_hop(architecture, hop, destination)
            if state == "declared":
                forward = index.runs_forward(one.hop, source, destination)
        if not forward:
            source, destination = destination, source
        ends = placed(source, hop.from_ if hop else ()), placed(destination, hop.to if hop else ())
        key = (*ends, one.hop if hop is not None else None, state)
        band = bands.get(key)
        if band is None:
            band = bands[key] = Band(*key, off_site=hop is not None and architecture.off_site(hop))
        _add(band, one, forward=forward)
    _unseen(architecture, bands)
    picture = _folded(architecture, list(bands.values()), strangers, services)
    picture.capped = windows >= WINDOWS_SUMMED_MAX or groups >= GROUPS_MAX
    return picture


def _swapped(architecture: Architecture, one: Movement) -> bool:
    """Whether the finding's data goes the other way: the movement is what came back over its connection."""

    def is_(shown: str | None, address: str) -> bool:
        asset = architecture.assets.get(shown or "")
        return shown == address or (asset is not None and any(place.host == address for place in asset.endpoints))

    with_it = is_(one.shown_source, one.source) or is_(one.shown_destination, one.destination)
    against = is_(one.shown_source, one.destination) or is_(one.shown_destination, one.source)
    return against and not with_it


def _state(one: Movement) -> State:
    if one.verdict is None:
        return "unjudged"
    if one.verdict == "blind":
        return "blind"
    return "declared" if one.verdict in _APPROVED else "violation"


def _end(index: Index, address: str, shown: str | None) -> End:
    """What the declaration knows about an end; a finding may know its name."""
    assets = index.architecture.assets
    if shown in assets:
        return End(address, 0, assets[shown].zone, shown, shown)
    return index.end(address, 0, [Name(name=shown, by="dns")] if shown is not None and shown != address else ())


def _of_hop(architecture: Architecture, hop: Hop, end: End) -> End:
    """The end as the hop names it: several assets may answer at one address."""
    if end.host in (*hop.from_, *hop.to):
        return end
    for name in (*hop.from_, *hop.to):
        asset = architecture.assets.get(name)
        if asset is not None and any(place.host == end.address for place in asset.endpoints):
            return End(end.address, 0, asset.zone, name, name)
    return end


def _add(band: Band, one: Movement, *, forward: bool) -> None:
    band.windows += one.windows
    if forward:
        band.rows += one.rows
        band.bytes += one.bytes
    else:
        band.back_bytes += one.bytes
    band.first = min(band.first or one.first, one.first)
    band.last = max(band.last, one.last)
    band.movements.append(one)
    if one.verdict is not None:
        band.verdicts[one.verdict] += one.windows
    if one.severity in SEVERITIES and (band.severity is None or SEVERITIES.index(one.severity) > SEVERITIES.index(band.severity)):
        band.severity = one.severity


def _unseen(architecture: Architecture, bands: dict[tuple[str, str, str | None, State], Band]) -> None:
    """A band for each pair of ends of a hop over which nothing went."""
    seen = {(source, destination, hop) for source, destination, hop, _ in bands}
    for name, hop in architecture.hops.items():
        for source in hop.from_:
            for destination in hop.to:
                if (source, destination, name) not in seen:
                    bands[source, destination, name, "unseen"] = Band(
                        source, destination, name, "unseen", off_site=architecture.off_site(hop)
                    )


def _folded(architecture: Architecture, bands: list[Band], strangers: Mapping[str, str], services: int) -> Picture:
    """The picture within its bounds: quiet places stand together, the least bands are counted."""
    worst: dict[str, State] = {}
    moved: Counter[str] = Counter()
    for band in bands:
        for end in (band.source, band.destination):
            worst[end] = min(worst.get(end, "unseen"), band.state, key=STATES.index)
            moved[end] += band.bytes + band.back_bytes
    used = {end for band in bands for end in (band.source, band.destination)}
    levels = sorted(architecture.zones, key=lambda name: architecture.zones[name].level)
    zones: dict[str, list[Place]] = {}
    stands_in: dict[str, str] = {}
    for zone in (*levels, NOWHERE):
        places = [Place(name, zone, "asset", asset.kind) for name, asset in architecture.assets.items() if asset.zone == zone]
        if zone in used:
            places.append(Place(zone, zone, "zone"))
        places += [Place(name, zone, "host") for name, of in strangers.items() if of == zone and name in used]
        for place in places:
            place.worst, place.bytes = worst.get(place.name, "unseen"), moved[place.name]
        if len(places) > PLACES_OF_ZONE_MAX:
            # The order of the file stays whoever is folded: a place does not wander while somebody looks at it.
            loudest = sorted(places, key=lambda place: (STATES.index(place.worst), -place.bytes))
            quiet = {place.name for place in loudest[PLACES_OF_ZONE_MAX - 1 :]}
            rest = Place(f"rest of {zone}", zone, "rest", holds=[place.name for place in places if place.name in quiet])
            rest.worst = min((worst.get(name, "unseen") for name in quiet), key=STATES.index)
            rest.bytes = sum(moved[name] for name in quiet)
            stands_in |= dict.fromkeys(quiet, rest.name)
            places = [*(place for place in places if place.name not in quiet), rest]
        if places or zone != NOWHERE:
            zones[zone] = places
    kept = _united(bands, stands_in)
    kept.sort(key=lambda band: (STATES.index(band.state), -band.bytes))
    return Picture(zones, kept[:BANDS_MAX], services, max(len(kept) - BANDS_MAX, 0))


def _united(bands: Sequence[Band], stands_in: Mapping[str, str]) -> list[Band]:
    """The bands between the places that are drawn; those between the same two of one kind become one."""
    if not stands_in:
        return list(bands)
    united: dict[tuple[str, str, str | None, State], Band] = {}
    for band in bands:
        ends = stands_in.get(band.source, band.source), stands_in.get(band.destination, band.destination)
        if ends == (band.source, band.destination):
            united[*ends, band.hop, band.state] = band
            continue
        key = (*ends, None, band.state)
        whole = united.setdefault(key, Band(*key, off_site=band.off_site))
        for one in band.movements:
            _add(whole, one, forward=True)
    return list(united.values())


def _key(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=8).hexdigest()

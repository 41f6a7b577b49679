"""The map as SVG: a column for each level, zones as boxes in it, a band for each movement, as wide as the logarithm of its bytes.

Nothing is measured and nothing is left to chance: the same picture gives the same bytes, and a place stands where the declaration's
order puts it, so that what moves on the screen is the plant and not the drawing. A band that passes a level gets a lane of its own
between that level's zones: it never runs behind a box as if it ended there.

Every band and place is a link, so the keyboard reaches what the mouse reaches (WCAG 2.2, 2.1.1), and says in its name what its colour
says (1.4.1). Style is a matter of classes: the page's Content-Security-Policy allows no style in the page.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from html import escape
from math import log2
from typing import Final

from dashboards.console.picture import NOWHERE, Band, Picture, Place
from hopwatch.declared.draw import zone_title
from hopwatch.declared.model import Architecture
from hopwatch.show import clean, grouped, size

_MARGIN: Final = 16
_COLUMN, _GAP = 148, 124
_HEAD, _PAD = 26, 10
_PLACE, _BETWEEN = 40, 9
_PORT_GAP, _NAMED_GAP, _LANE_GAP = 5, 13, 12
_ARROW: Final = 9
_WIDTH_MIN, _WIDTH_MAX = 2.0, 18.0
_LETTERS: Final = 18  # of a place's name that fit; the whole name is in its title
_NAMED_MAX: Final = 60  # bands that bear their names; of more, names would hide what they name

_SAID: Final = {
    "violation": "violation",
    "blind": "blind: seen and unreadable",
    "unjudged": "not judged",
    "declared": "declared",
    "unseen": "declared, not seen",
}


@dataclass(slots=True)
class _Box:
    """A place on the sheet."""

    place: Place
    column: int
    y: float = 0.0
    height: float = _PLACE
    left: list[_Port] = field(default_factory=list)
    right: list[_Port] = field(default_factory=list)


@dataclass(slots=True)
class _Port:
    """Where a band meets a place; ``width`` is how much of its side it takes."""

    width: float
    towards: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class _Zone:
    """A zone's box, or the lanes between two of them."""

    name: str
    boxes: list[_Box]
    y: float = 0.0
    height: float = 0.0


@dataclass(slots=True)
class _Lane:
    """A band's way through a level at which it does not stop."""

    width: float
    wish: float
    y: float = 0.0


@dataclass(slots=True)
class _Way:
    """A band on the sheet."""

    band: Band
    width: float
    source: _Box
    destination: _Box
    out: _Port
    into: _Port
    lanes: dict[int, _Lane] = field(default_factory=dict)


def width(count_bytes: int) -> float:
    """How wide a band is drawn: 2 px at nothing, 1 px more for each doubling above 16 KiB, 18 px at 1 GiB and above."""
    return min(_WIDTH_MAX, _WIDTH_MIN + max(0.0, log2(max(count_bytes, 1) / 2**14)))


def svg(picture: Picture, architecture: Architecture, query: str = "") -> str:
    """The map; ``query`` is what its links keep of the page's own address."""
    columns = _columns(picture, architecture)
    boxes = {box.place.name: box for zones in columns for zone in zones for box in zone.boxes}
    ways = [_way(band, boxes) for band in picture.bands if band.source in boxes and band.destination in boxes]
    named = len(ways) <= _NAMED_MAX
    gap = _NAMED_GAP if named else _PORT_GAP
    for box in boxes.values():
        box.height = max(_PLACE, _side(box.left, gap), _side(box.right, gap))
    bottom = _stacked(columns, {})
    lanes: dict[tuple[int, int], list[_Lane]] = defaultdict(list)
    for way in ways:
        _lanes(way, columns, lanes)
    if lanes:
        bottom = _stacked(columns, lanes)
    _ports(ways, boxes, gap)
    sheet_width = 2 * _MARGIN + len(columns) * _COLUMN + (len(columns) - 1) * _GAP + (_GAP if _loops(ways, len(columns) - 1) else 0)
    sheet_height = bottom + _MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="map" viewBox="0 0 {sheet_width} {sheet_height:.0f}" width="{sheet_width}" '
        f'height="{sheet_height:.0f}" role="group" aria-label="Map of data movement">',
        '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="7" height="7" class="hatch-ground"/><rect width="3" height="7" class="hatch-line"/></pattern></defs>',
    ]
    for zones in columns:
        out += [_zone(zone, architecture, place) for place in [columns.index(zones)] for zone in zones]
    # The worst is drawn last, over the others, and the tab key meets it in that order too: what is drawn first is met first.
    out += [_path(way, query) for way in sorted(ways, key=lambda way: way.band.state == "violation")]
    out += [_box(box, query) for box in boxes.values()]
    if named:
        out += [_name(way) for way in ways]
    out.append("</svg>")
    return "\n".join(out)


# Where things stand


def _columns(picture: Picture, architecture: Architecture) -> list[list[_Zone]]:
    """Zones by level, lowest first; what lies in no zone is a column of its own at the end."""
    levels = sorted({architecture.zones[name].level for name in picture.zones if name != NOWHERE})
    columns: list[list[_Zone]] = [[] for _ in levels]
    for name, places in picture.zones.items():
        if name == NOWHERE:
            columns.append([_Zone(name, [_Box(place, len(columns)) for place in places])])
        else:
            column = levels.index(architecture.zones[name].level)
            columns[column].append(_Zone(name, [_Box(place, column) for place in places]))
    return columns


def _way(band: Band, boxes: dict[str, _Box]) -> _Way:
    source, destination = boxes[band.source], boxes[band.destination]
    wide = width(band.bytes + band.back_bytes) if band.windows else 1.5
    out, into = _Port(wide), _Port(wide)
    # Within a level bands leave and reach the right side; elsewhere the side that faces the other end.
    (source.right if destination.column >= source.column else source.left).append(out)
    (destination.right if source.column >= destination.column else destination.left).append(into)
    return _Way(band, wide, source, destination, out, into)


def _side(ports: list[_Port], gap: float) -> float:
    return sum(port.width + gap for port in ports) + gap


def _stacked(columns: list[list[_Zone]], lanes: dict[tuple[int, int], list[_Lane]]) -> float:
    """Stack every column; returns where the longest one ends. The lanes ``(column, n)`` lie before its zone ``n``."""
    bottom = 0.0
    for number, zones in enumerate(columns):
        y = float(_MARGIN)
        for place in range(len(zones) + 1):
            for lane in sorted(lanes.get((number, place), ()), key=lambda lane: lane.wish):
                lane.y = y + lane.width / 2
                y += lane.width + _LANE_GAP
            if place < len(zones):
                zone = zones[place]
                zone.y = y
                y += _HEAD
                for box in zone.boxes:
                    box.y = y
                    y += box.height + _BETWEEN
                y += _PAD - _BETWEEN if zone.boxes else 0
                zone.height = y - zone.y
                y += 2 * _PAD
        bottom = max(bottom, y)
    return bottom


def _lanes(way: _Way, columns: list[list[_Zone]], lanes: dict[tuple[int, int], list[_Lane]]) -> None:
    """Find a lane for each level passed, where the straight line wishes it or as near as the zones leave room."""
    first, last = way.source.column, way.destination.column
    start, end = way.source.y + way.source.height / 2, way.destination.y + way.destination.height / 2
    step = 1 if last > first else -1
    for column in range(first + step, last, step):
        wish = start + (end - start) * (column - first) / (last - first)
        edges = [zone.y for zone in columns[column]]
        edges.append(columns[column][-1].y + columns[column][-1].height if columns[column] else float(_MARGIN))
        slot = min(range(len(edges)), key=lambda place: abs(edges[place] - wish))
        lane = _Lane(way.width, wish)
        lanes[column, slot].append(lane)
        way.lanes[column] = lane


def _ports(ways: list[_Way], boxes: dict[str, _Box], gap: float) -> None:
    """Ports in the order of where their bands go, so that bands of one place do not cross at its side."""
    for way in ways:
        same = way.source.column == way.destination.column
        after = list(way.lanes.values())
        way.out.towards = after[0].y if after else way.destination.y + (-1e4 if same and way.destination.y < way.source.y else 0)
        way.into.towards = after[-1].y if after else way.source.y + (1e4 if same and way.source.y > way.destination.y else 0)
    for box in boxes.values():
        for side in (box.left, box.right):
            y = box.y + (box.height - _side(side, gap)) / 2 + gap
            for port in sorted(side, key=lambda port: port.towards):
                port.y = y + port.width / 2
                y += port.width + gap


def _left(column: int) -> int:
    return _MARGIN + column * (_COLUMN + _GAP)


def _loops(ways: list[_Way], column: int) -> bool:
    return any(way.source.column == way.destination.column == column for way in ways)


# How they are drawn


def _zone(zone: _Zone, architecture: Architecture, column: int) -> str:
    said = "in no declared zone" if zone.name == NOWHERE else zone_title(zone.name, architecture.zones[zone.name])
    outside = " map-outside" if zone.name == NOWHERE or architecture.zones[zone.name].off_site else ""
    x = _left(column)
    empty = "" if zone.boxes else f'<text x="{x + 12}" y="{zone.y + _HEAD + 4:.1f}" class="map-quiet">no asset</text>'
    height = zone.height if zone.boxes else _HEAD + 14
    return (
        f'<rect x="{x}" y="{zone.y:.1f}" width="{_COLUMN}" height="{height:.1f}" rx="5" class="map-zone{outside}"/>'
        f'<text x="{x + 10}" y="{zone.y + 17:.1f}" class="map-zone-name"><title>{escape(said)}</title>'
        f"{escape(_short(said, 22))}</text>{empty}"
    )


def _box(box: _Box, query: str) -> str:
    place = box.place
    x = _left(box.column) + 8
    wide = _COLUMN - 16
    middle = box.y + box.height / 2
    moved = size(place.bytes) if place.bytes else "nothing moved"
    about = f"{place.about} · {moved}" if place.about else moved
    said = f"{clean(place.label)}: {_SAID[place.worst]}, {moved}"
    return (
        f'<a href="/map/place/{place.key}{query}" class="place place-{place.kind} is-{place.worst}" data-open="" '
        f'aria-label="{escape(said)}">'
        f"<title>{escape(clean(', '.join(place.holds)) or clean(place.name))}</title>"
        f'<rect x="{x}" y="{box.y:.1f}" width="{wide}" height="{box.height:.1f}" rx="3" class="map-place"/>'
        f'<text x="{x + 10}" y="{middle - 2:.1f}" class="map-label">{escape(_short(clean(place.label), _LETTERS))}</text>'
        f'<text x="{x + 10}" y="{middle + 12:.1f}" class="map-quiet">{escape(_short(clean(about), 22))}</text></a>'
    )


def _path(way: _Way, query: str) -> str:
    band = way.band
    forward = way.destination.column >= way.source.column
    same = way.destination.column == way.source.column
    start = _left(way.source.column) + (_COLUMN - 8 if forward else 8)
    from_right = way.source.column >= way.destination.column
    edge = _left(way.destination.column) + (_COLUMN - 8 if from_right else 8)
    end = edge + (_ARROW if from_right else -_ARROW)
    if same:
        bulge = 46 + min(abs(way.into.y - way.out.y) / 6, 50)
        run = f"M{start} {way.out.y:.1f}C{start + bulge:.0f} {way.out.y:.1f} {end + bulge:.0f} {way.into.y:.1f} {end} {way.into.y:.1f}"
    else:
        run = f"M{start} {way.out.y:.1f}"
        x, y = float(start), way.out.y
        for column, lane in way.lanes.items():
            enter = _left(column) + (0 if forward else _COLUMN)
            leave = _left(column) + (_COLUMN if forward else 0)
            run += _curve(x, y, enter, lane.y) + f"H{leave}"
            x, y = float(leave), lane.y
        run += _curve(x, y, end, way.into.y)
    half = way.width / 2 + 2.5
    tip = f"M{end} {way.into.y - half:.1f}L{edge} {way.into.y:.1f}L{end} {way.into.y + half:.1f}z"
    return (
        f'<a href="/map/band/{band.key}{query}" class="band is-{band.state}" data-open="" aria-label="{escape(said(band))}">'
        f"<title>{escape(said(band))}</title>"
        f'<path d="{run}" class="map-reach" stroke-width="{max(way.width + 8, 14):.1f}"/>'
        f'<path d="{run}" class="map-band" stroke-width="{way.width:.1f}"/><path d="{tip}" class="map-tip"/></a>'
    )


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (to_x - x) / 2
    return f"C{x + half:.1f} {y:.1f} {to_x - half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _name(way: _Way) -> str:
    """The band's name where it leaves, above its line."""
    forward = way.destination.column >= way.source.column
    x = _left(way.source.column) + (_COLUMN - 3 if forward else 3)
    anchor = "start" if forward else "end"
    y = way.out.y - way.width / 2 - 2
    return (
        f'<text x="{x}" y="{y:.1f}" text-anchor="{anchor}" class="map-name is-{way.band.state}" aria-hidden="true">'
        f"{escape(_short(clean(way.band.title), 19))}</text>"
    )


def said(band: Band) -> str:
    """The band in one line, for whoever does not see it and whoever points at it."""
    who = f", {', '.join(clean(name) for name in band.accounts[:3])}" if band.accounts else ""
    amount = f"{size(band.bytes)} in {grouped(band.windows)} windows" if band.windows else "nothing moved"
    severity = f" ({band.severity})" if band.severity and band.state == "violation" else ""
    return f"{clean(band.title)}{severity}: {clean(band.source)} to {clean(band.destination)}, {_SAID[band.state]}, {amount}{who}"


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"

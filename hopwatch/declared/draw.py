"""The declared architecture as a picture: zones by level, assets in them, a line for each hop.

``mermaid`` is for a page that renders it; ``svg`` needs nothing but a browser. Both are drawn in file order without any
measuring or chance, so the same declaration gives the same bytes and a diff of two drawings means something.

In the SVG every asset has a row of its own and every hop a lane of its own to the right of them all: a line leaves its source to
the right, runs up or down its lane and comes back to its destination. So no line ever crosses a box or a word, however many hops
there are, and one that fans out or in is one lane.
"""

from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from html import escape

from hopwatch.declared.model import Architecture, Hop, Zone
from hopwatch.declared.table import heading

_MARGIN, _HEAD, _ROW, _PORT, _LANE, _LINE = 24, 30, 30, 14, 26, 22
_LETTER = 7.4  # of 13 px in any usual sans-serif, on the wide side: a box must not be too small for its name
_STYLE = (
    "text{font:13px sans-serif;fill:#1a202c}.b{font-weight:bold}.t{font-size:16px;font-weight:bold}.n{font-size:11px}"
    ".f{fill:#4a5568;font-style:italic}.zone{fill:#f4f6f8;stroke:#8793a0}.off{fill:#fdf3e4;stroke:#b7791f;stroke-dasharray:6 4}"
    ".asset{fill:#fff;stroke:#4a5568}.any{fill:none;stroke:#8793a0;stroke-dasharray:3 3}.page{fill:#fff}.mark{fill:#fff}"
    ".hop{fill:none;stroke-width:2}.halo{fill:none;stroke:#fff;stroke-width:6}"
    # A reader of the drawing may sit in a dark room.
    "@media(prefers-color-scheme:dark){text{fill:#dfe4ea}.f{fill:#a8b3c0}.zone{fill:#1d2228;stroke:#5d6874}.off{fill:#2a241a}"
    ".asset{fill:#262c33;stroke:#8793a0}.page{fill:#14171a}.mark{fill:#14171a}.halo{stroke:#14171a}.hop{filter:brightness(1.6)}}"
)
STYLE_HASH = "sha256-" + b64encode(sha256(_STYLE.encode()).digest()).decode()
"""What a Content-Security-Policy calls the drawing's style (CSP 3, 8.3)."""

_COLOURS = ("#2563a8", "#2f855a", "#b7791f", "#9b2c2c", "#6b46c1", "#2c7a7b", "#975a16", "#4a5568")


def mermaid(architecture: Architecture) -> str:
    """A Mermaid flowchart; off-site zones and hops are marked."""
    out = [f"%% {heading(architecture)}", "flowchart TB"]
    for number, (name, zone) in enumerate(architecture.zones.items()):
        where = f", off site {zone.country}" if zone.off_site else ""
        out.append(f'  subgraph z{number}["{_quoted(f"{name} (level {zone.level}{where})")}"]')
        members = [asset for asset, said in architecture.assets.items() if said.zone == name]
        out.extend(f'    {_id(architecture, asset)}["{_quoted(asset)}"]' for asset in members)
        out.append("  end")
    for name, hop in architecture.hops.items():
        arrow = "==>" if architecture.off_site(hop) else "-->"
        for source in hop.from_:
            out.extend(
                f'  {_id(architecture, source)} {arrow}|"{_quoted(_label(name, hop))}"| {_id(architecture, destination)}'
                for destination in hop.to
            )
    return "\n".join(out) + "\n"


@dataclass(slots=True)
class _Row:
    """An asset, or a zone as a whole, and the heights at which lines leave or reach it."""

    label: str
    top: int
    ports: int = 0
    taken: int = 0

    @property
    def height(self) -> int:
        return max(_ROW, _PORT * (self.ports + 1))

    def port(self) -> int:
        """The next free height, from the top."""
        self.taken += 1
        return self.top + self.height * self.taken // (self.ports + 1)


def svg(architecture: Architecture) -> str:
    """A drawing by level, the cells at the bottom and what is off site at the top."""
    ports = Counter(end for hop in architecture.hops.values() for end in (*hop.from_, *hop.to))
    names = [*architecture.assets, *(zone_title(name, zone) for name, zone in architecture.zones.items())]
    box_width = max(180, round(max(map(len, names), default=0) * _LETTER) + 28)
    rows: dict[str, _Row] = {}
    shapes: list[str] = []
    top = _MARGIN + 2 * _LINE
    zones = sorted(architecture.zones.items(), key=lambda item: item[1].level, reverse=True)
    for name, zone in zones:
        start = top
        top += _HEAD
        inside = [(asset, asset) for asset, said in architecture.assets.items() if said.zone == name]
        if ports[name] or not inside:
            inside.append((name, "any host" if ports[name] else "no asset"))
        boxes: list[str] = []
        for end, label in inside:
            row = rows[end] = _Row(label, top, ports[end])
            boxes.append(_box(row, box_width, is_asset=end in architecture.assets))
            top += row.height + 8
        shapes.append(
            f'<rect x="{_MARGIN}" y="{start}" width="{box_width + 24}" height="{top - start + 4}" rx="6" '
            f'class="{"off" if zone.off_site else "zone"}"/>'
            f'<text x="{_MARGIN + 12}" y="{start + 20}" class="b">{escape(zone_title(name, zone))}</text>'
        )
        shapes.extend(boxes)
        top += 4 + 16
    left = _MARGIN + 12 + box_width
    lanes = left + 12 + _LANE
    drawn = [_lane(rows, hop, left, lanes + _LANE * number, number, name) for number, (name, hop) in enumerate(architecture.hops.items())]
    # Numbers lie over every line, also over those of later hops.
    lines = [line for line, _ in drawn] + [mark for _, mark in drawn]
    top += _LINE
    legend: list[str] = []
    longest = 0
    for number, (name, hop) in enumerate(architecture.hops.items()):
        words = _sentence(architecture, hop)
        longest = max(longest, len(f"{name}  {words}"))
        legend.append(
            f'{_number(_MARGIN + 9, top - 4, number)}<text x="{_MARGIN + 26}" y="{top}"><tspan class="b">{escape(name)}</tspan>'
            f'<tspan dx="8">{escape(words)}</tspan></text>'
        )
        top += _LINE
    title = escape(heading(architecture))
    width = max(lanes + _LANE * len(architecture.hops), round(max(longest + 4, len(title)) * _LETTER) + 26) + _MARGIN
    height = top + _MARGIN
    markers = "".join(
        f'<marker id="a{i}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="9" markerHeight="9" '
        'markerUnits="userSpaceOnUse" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        for i, colour in enumerate(_COLOURS)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{title}</title><defs>{markers}</defs>"
        f"<style>{_STYLE}</style>"
        f'<rect width="100%" height="100%" class="page"/><text x="{_MARGIN}" y="{_MARGIN + 12}" class="t">{title}</text>'
        + "\n".join(["", *shapes, *lines, *legend])
        + "\n</svg>\n"
    )


def zone_title(name: str, zone: Zone) -> str:
    """What is written over a zone."""
    where = f", off site{f' ({zone.country})' if zone.country else ''}" if zone.off_site else ""
    return f"{name} · level {zone.level}{where}"


def _box(row: _Row, width: int, *, is_asset: bool) -> str:
    # A zone as an end is no asset: its row is drawn as a place where any host may be.
    return (
        f'<rect x="{_MARGIN + 12}" y="{row.top}" width="{width}" height="{row.height}" rx="4" class="{"asset" if is_asset else "any"}"/>'
        f'<text x="{_MARGIN + 24}" y="{row.top + row.height // 2 + 5}"{"" if is_asset else " class=" + chr(34) + "f" + chr(34)}>'
        f"{escape(row.label)}</text>"
    )


def _lane(rows: dict[str, _Row], hop: Hop, left: int, lane: int, number: int, name: str) -> tuple[str, str]:
    """The hop's lane, with a line from each source and to each destination, and its number.

    The halo shows which of two crossing lines goes on.
    """
    sources = [rows[end].port() for end in hop.from_]
    destinations = [rows[end].port() for end in hop.to]
    first, last = min(sources + destinations), max(sources + destinations)
    colour = _COLOURS[number % len(_COLOURS)]
    run = f"M{lane} {first}V{last}" + "".join(f"M{left} {y}H{lane}" for y in sources)
    back = "".join(f"M{lane} {y}H{left}" for y in destinations)
    arrow = f'stroke="{colour}" marker-end="url(#a{number % len(_COLOURS)})"'
    heads = "".join(f'<path class="hop" d="M{lane} {y}H{left + 1}" {arrow}/>' for y in destinations)
    dots = "".join(f'<circle cx="{left}" cy="{y}" r="3.5" fill="{colour}"/>' for y in sources)
    return (
        f'<g><title>{escape(_label(name, hop))}</title><path class="halo" d="{run}{back}"/>'
        f'<path class="hop" d="{run}" stroke="{colour}"/>{heads}{dots}</g>',
        _number(lane, (first + last) // 2, number),
    )


def _number(x: int, y: int, number: int) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    return (
        f'<circle cx="{x}" cy="{y}" r="9" class="mark" stroke="{colour}" stroke-width="1.5"/>'
        f'<text x="{x}" y="{y + 4}" text-anchor="middle" class="n">{number + 1}</text>'
    )


def _label(name: str, hop: Hop) -> str:
    return f"{name}: {hop.who}, {', '.join(map(str, hop.limit))}"


def _sentence(architecture: Architecture, hop: Hop) -> str:
    off_site = " · OFF SITE" if architecture.off_site(hop) else ""
    via = f" via {hop.via}" if hop.via else ""
    what = f"{', '.join(hop.what)} ({', '.join(architecture.hop_classes(hop))})"
    return (
        f"{hop.who}: {', '.join(hop.from_)} → {', '.join(hop.to)}{via} · {', '.join(hop.may)} {what} · {', '.join(map(str, hop.limit))}"
        f"{f' · {hop.when}' if hop.when else ''}{off_site}"
    )


def _id(architecture: Architecture, end: str) -> str:
    """A Mermaid id that no name can break: a letter and the place in the file."""
    return f"a{list(architecture.assets).index(end)}" if end in architecture.assets else f"z{list(architecture.zones).index(end)}"


def _quoted(text: str) -> str:
    # Mermaid writes character references with # instead of &.
    return escape(text.replace("#", ""), quote=True).replace("&", "#")

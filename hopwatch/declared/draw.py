"""The declared architecture as a picture: zones by level, assets in them, a line for each hop.

``mermaid`` is for a page that renders it; ``svg`` needs nothing but a browser. Both are drawn in file order without any
measuring or chance, so the same declaration gives the same bytes and a diff of two drawings means something.
"""

from html import escape

from hopwatch.declared.model import Architecture, Hop
from hopwatch.declared.table import heading

_ASSET_W, _ASSET_H, _GAP, _MARGIN, _HEAD = 150, 36, 60, 24, 28
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


def svg(architecture: Architecture) -> str:
    """A drawing by level, the cells at the bottom and what is off site at the top."""
    levels = sorted({zone.level for zone in architecture.zones.values()}, reverse=True)
    places: dict[str, tuple[int, int]] = {}  # centre of each asset and zone
    boxes: list[str] = []
    width, top = 0, _MARGIN + 24
    for level in levels:
        left = _MARGIN
        for name, zone in architecture.zones.items():
            if zone.level != level:
                continue
            members = [asset for asset, said in architecture.assets.items() if said.zone == name]
            span = max(len(members), 1) * (_ASSET_W + 16) + 16
            dash = ' stroke-dasharray="6 4"' if zone.off_site else ""
            country = f", {zone.country}" if zone.country else ""
            boxes.append(
                f'<rect x="{left}" y="{top}" width="{span}" height="{_HEAD + _ASSET_H + 16}" rx="6" fill="#f4f6f8" stroke="#8793a0"{dash}/>'
                f'<text x="{left + 10}" y="{top + 18}" class="zone">{escape(f"{name} · level {level}{country}")}</text>'
            )
            places[name] = (left + span // 2, top + (_HEAD + _ASSET_H + 16) // 2)
            for column, asset in enumerate(members):
                x, y = left + 16 + column * (_ASSET_W + 16), top + _HEAD
                boxes.append(
                    f'<rect x="{x}" y="{y}" width="{_ASSET_W}" height="{_ASSET_H}" rx="4" fill="#fff" stroke="#4a5568"/>'
                    f'<text x="{x + _ASSET_W // 2}" y="{y + 22}" text-anchor="middle">{escape(asset)}</text>'
                )
                places[asset] = (x + _ASSET_W // 2, y + _ASSET_H // 2)
            left += span + _GAP
        width = max(width, left - _GAP + _MARGIN)
        top += _HEAD + _ASSET_H + 16 + _GAP
    lines: list[str] = []
    legend: list[str] = []
    for number, (name, hop) in enumerate(architecture.hops.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        for source in hop.from_:
            lines.extend(_line(places[source], places[destination], colour, number, name, hop) for destination in hop.to)
        y = top + 18 * number
        legend.append(f'<text x="{_MARGIN}" y="{y}" fill="{colour}">{number + 1} {escape(_sentence(architecture, name, hop))}</text>')
    height = top + 18 * len(legend) + _MARGIN
    width = max(width, 900)
    markers = "".join(
        f'<marker id="a{i}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        for i, colour in enumerate(_COLOURS)
    )
    title = escape(heading(architecture))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{title}</title><defs>{markers}</defs>"
        "<style>text{font:13px sans-serif}.zone{font-weight:bold}.hop{fill:none;stroke-width:2}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{_MARGIN}" y="{_MARGIN}" class="zone">{title}</text>'
        + "\n".join(["", *boxes, *lines, *legend])
        + "\n</svg>\n"
    )


def _line(start: tuple[int, int], end: tuple[int, int], colour: str, number: int, name: str, hop: Hop) -> str:
    # Each hop bends by its own amount, so that two between the same places do not hide one another.
    (x1, y1), (x2, y2) = start, end
    half = _ASSET_H // 2
    if y1 == y2:
        bend = half + 14 + 4 * (number % 6)
        y1, y2 = y1 + half, y2 + half
        middle = ((x1 + x2) // 2, y1 + bend)
    else:
        up = 1 if y2 > y1 else -1
        shift = 10 * (number % 5 - 2)
        x1, x2, y1, y2 = x1 + shift, x2 + shift, y1 + half * up, y2 - half * up
        middle = ((x1 + x2) // 2 + 3 * shift, (y1 + y2) // 2)
    label = f'<text x="{middle[0] + 4}" y="{middle[1]}" fill="{colour}">{number + 1}</text>'
    head = f"url(#a{number % len(_COLOURS)})"
    return (
        f'<path class="hop" d="M{x1} {y1}Q{middle[0]} {middle[1]} {x2} {y2}" stroke="{colour}" marker-end="{head}">'
        f"<title>{escape(_label(name, hop))}</title></path>{label}"
    )


def _label(name: str, hop: Hop) -> str:
    return f"{name}: {hop.who}, {', '.join(map(str, hop.limit))}"


def _sentence(architecture: Architecture, name: str, hop: Hop) -> str:
    off_site = ", OFF SITE" if architecture.off_site(hop) else ""
    return f"{_label(name, hop)}; {', '.join(hop.what)} ({', '.join(architecture.hop_classes(hop))}){off_site}"


def _id(architecture: Architecture, end: str) -> str:
    """A Mermaid id that no name can break: a letter and the place in the file."""
    return f"a{list(architecture.assets).index(end)}" if end in architecture.assets else f"z{list(architecture.zones).index(end)}"


def _quoted(text: str) -> str:
    # Mermaid writes character references with # instead of &.
    return escape(text.replace("#", ""), quote=True).replace("&", "#")

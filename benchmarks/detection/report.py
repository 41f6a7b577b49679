"""What the second level's figures say: as Markdown for the repository, as one HTML page with plots drawn as SVG for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from statistics import median
from typing import Any, Final

from benchmarks.detection.ends import SHAPES
from benchmarks.detection.plant import KINDS, LEARNING_DAYS, MIB

Row = dict[str, Any]  # Any: the fields of a Score, as JSON
Figures = dict[str, Any]  # Any: what level2 keeps as JSON

_WIDTH, _HEIGHT, _EDGE = 640, 320, 60
_COLOURS: Final = ("#1b6ca8", "#c0392b", "#27834a", "#8e44ad", "#b9770e", "#5d6d7e", "#117a65", "#922b5b", "#34495e", "#7d6608", "#a04000")


def _rates(row: Row) -> tuple[float, float, float]:
    """Recall, alerts a plant-day, false alerts a plant-day."""
    alerts = row["true"] + row["benign"] + row["false"]
    days = max(1.0, row["plant_days"])
    return row["found"] / max(1, row["incidents"]), alerts / days, row["false"] / days


def _columns(row: Row) -> list[str]:
    recall, alerts_a_day, false_a_day = _rates(row)
    alerts = max(1, row["true"] + row["benign"] + row["false"])
    gone = "-"
    if row["gone"]:
        gone = f"{median(row['gone']):.0%}: {median(row['gone_bytes']) / MIB:.1f} MiB, {median(row['gone_rows']):,.0f} rows"
    return [
        f"{recall:.3f}", f"{alerts_a_day:.2f}", f"{false_a_day:.2f}",
        f"{row['true'] / alerts:.2f} / {row['benign'] / alerts:.2f} / {row['false'] / alerts:.2f}",
        f"{row['causes_right'] / max(1, row['true']):.2f}", f"{row['first_causes_right'] / max(1, row['found']):.2f}", gone,
    ]  # fmt: skip


HEAD: Final = (
    "", "recall", "alerts a day", "false a day", "true / benign trigger / false", "cause right", "first cause right",
    "gone before the alert, median",
)  # fmt: skip


def markdown(figures: Figures) -> str:
    """The tables."""
    lines = ["# Detection judged on a simulated plant", "", *_told(figures), ""]
    for shape, rows in figures["results"].items():
        lines += [f"## {SHAPES[shape].title[0].upper()}{SHAPES[shape].title[1:]} ({_seeds(figures['seeds'][shape])})", ""]
        lines += _table(HEAD, [[name, *_columns(row)] for name, row in rows.items()])
        lines += ["", *_kinds(rows), ""]
        falsely = sorted(rows["hopwatch"]["falsely"].items(), key=lambda one: -one[1])
        lines += ["False alerts of hopwatch by cause: " + (", ".join(f"{cause} {many}" for cause, many in falsely) or "none") + ".", ""]
        missed = rows["hopwatch"]["missed"]
        lines += [
            "Missed: " + ("; ".join(missed[:40]) or "nothing") + (f" and {len(missed) - 40} more" if len(missed) > 40 else "") + ".",
            "",
        ]
    return "\n".join(lines).rstrip()


def _told(figures: Figures) -> list[str]:
    return [
        f"Written by `make bench-detection`; what is measured and how is in [benchmark](../benchmark.md). {figures['days']} days a seed,",
        f"{LEARNING_DAYS} of them learnt only; {len(KINDS)} pairs of ends. Baselines may alert 5 times a day; their thresholds are chosen",
        "on seeds 9000 to 9003, the detectors were developed on 101 to 105, and neither is reported.",
    ]


def _seeds(seeds: Sequence[int]) -> str:
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    which = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}: {which}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1), *("| " + " | ".join(row) + " |" for row in rows),
    ]  # fmt: skip


def _kinds(rows: dict[str, Row]) -> list[str]:
    names = [name for name in ("hopwatch", "declared only", "statistics only", "hour-of-day MAD", "SPOT alone") if name in rows]
    made = []
    for kind, (scenario, found, of, gone) in sorted(rows["hopwatch"]["by_kind"].items(), key=lambda one: (_number(one[1][0]), one[0])):
        others = [f"{rows[name]['by_kind'].get(kind, [0, 0])[1]}" for name in names[1:]]
        made.append([f"{scenario} {kind}", f"{found} / {of}", *others, f"{median(gone):.0%}" if gone else "-"])
    for kind, (alerted, of) in sorted(rows["hopwatch"]["twins"].items()):
        others = [f"{rows[name]['twins'].get(kind, [0, 0])[0]}" for name in names[1:]]
        made.append([f"twin: {kind}", f"{alerted} / {of}", *others, "-"])
    return _table(("incident", *names, "gone, median"), made)


def _number(scenario: str) -> int:
    return int(scenario.removeprefix("S") or 0)


# HTML


def html(figures: Figures) -> str:
    """One page without scripts and without anything loaded from elsewhere."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Detection judged on a simulated plant</title>',
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1c2833}",
        "table{border-collapse:collapse;margin:1rem 0;font-size:13px}td,th{border-bottom:1px solid #d5d8dc;padding:.25rem .6rem;",
        "text-align:right}td:first-child,th:first-child{text-align:left}svg{margin:1rem 0;max-width:100%}",
        "@media(prefers-color-scheme:dark){body{background:#17202a;color:#eaecee}svg text{fill:#eaecee}}</style>",
        "<h1>Detection judged on a simulated plant</h1>",
        f"<p>{escape(' '.join(_told(figures)))}</p>",
    ]
    if len(figures["results"]) > 1:
        parts.append(_by_shape(figures["results"]))
    for shape, rows in figures["results"].items():
        parts += [
            f"<h2>{escape(SHAPES[shape].title)} ({_seeds(figures['seeds'][shape])})</h2>",
            _scatter(rows), _gone(rows),
            _html_table(_table(HEAD, [[name, *_columns(row)] for name, row in rows.items()])),
            _html_table(_kinds(rows)),
        ]  # fmt: skip
    return "\n".join(parts) + "</html>"


def _html_table(lines: list[str]) -> str:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
    made = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in cells[0]) + "</tr>"]
    made += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells[1:]]
    return f"<table>{''.join(made)}</table>"


def _axes(title: str, across: str, up: str, most: float) -> list[str]:
    """A frame with its words; across goes from 0 to ``most``, up from 0 to 1."""
    bottom, right = _HEIGHT - _EDGE, _WIDTH - _EDGE
    made = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{escape(title)}" font-size="11">',
        f'<text x="{_EDGE}" y="20" font-size="13">{escape(title)}</text>',
        f'<path d="M{_EDGE} 30V{bottom}H{right}" fill="none" stroke="#85929e"/>',
        f'<text x="{right}" y="{_HEIGHT - 20}" text-anchor="end">{escape(across)}</text>',
        f'<text x="14" y="{bottom}" transform="rotate(-90 14 {bottom})">{escape(up)}</text>',
    ]
    for step in range(5):
        share = step / 4
        x, y = _x(share * most, most), _y(share)
        made.append(f'<text x="{x:.0f}" y="{bottom + 15}" text-anchor="middle">{share * most:.3g}</text>')
        made.append(f'<text x="{_EDGE - 6}" y="{y + 4:.0f}" text-anchor="end">{share:.2f}</text>')
        made.append(f'<path d="M{_EDGE} {y:.0f}H{right}" stroke="#85929e" stroke-opacity=".25"/>')
    return made


def _x(value: float, most: float) -> float:
    return _EDGE + (_WIDTH - 2 * _EDGE) * min(1.0, value / most)


def _y(share: float) -> float:
    return _HEIGHT - _EDGE - (_HEIGHT - _EDGE - 30) * min(1.0, max(0.0, share))


def _scatter(rows: dict[str, Row]) -> str:
    """Recall over false alerts: up and to the left is good."""
    most = max(1.0, *(_rates(row)[2] for row in rows.values())) * 1.1
    made = _axes("found, and how often nothing was the matter", "false alerts a plant-day", "recall", most)
    for place, (name, row) in enumerate(rows.items()):
        recall, _, false_a_day = _rates(row)
        x, y, colour = _x(false_a_day, most), _y(recall), _COLOURS[place % len(_COLOURS)]
        left = x > 0.7 * _WIDTH
        made.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        made.append(
            f'<text x="{x + (-9 if left else 9):.1f}" y="{y + 4:.1f}" text-anchor="{"end" if left else "start"}">{escape(name)}</text>'
        )
    return "".join(made) + "</svg>"


def _gone(rows: dict[str, Row]) -> str:
    """For each row the share of all incidents that move anything of which at most so much was gone before the alert."""
    made = _axes("gone before the alert", "share of the incident's bytes gone", "share of incidents", 1.0)
    place = 0
    for number, (name, row) in enumerate(rows.items()):
        if not row["gone"]:
            continue
        of = sum(kind[2] for kind in rows["hopwatch"]["by_kind"].values() if kind[3])
        points = " ".join(f"L{_x(gone, 1.0):.1f} {_y(at / max(1, of)):.1f}" for at, gone in enumerate(sorted(row["gone"]), 1))
        colour = _COLOURS[number % len(_COLOURS)]
        made.append(f'<path d="M{_x(0, 1):.1f} {_y(0):.1f} {points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        made.append(f'<text x="{_WIDTH - _EDGE - 120}" y="{_y(0.62) + 13 * place:.0f}" fill="{colour}">{escape(name)}</text>')
        place += 1
    return "".join(made) + "</svg>"


def _by_shape(results: dict[str, dict[str, Row]]) -> str:
    """Recall of the product and of its halves by declaration."""
    made = _axes("recall by how loose the declaration is", "", "recall", 1.0)
    width = (_WIDTH - 2 * _EDGE) / len(results)
    for place, (shape, rows) in enumerate(results.items()):
        for number, name in enumerate(("hopwatch", "declared only", "statistics only")):
            recall = _rates(rows[name])[0]
            x = _EDGE + place * width + (0.1 + 0.27 * number) * width
            made.append(
                f'<rect x="{x:.1f}" y="{_y(recall):.1f}" width="{0.25 * width:.1f}" height="{_y(0) - _y(recall):.1f}"'
                f' fill="{_COLOURS[number]}"><title>{escape(f"{shape}: {name} {recall:.3f}")}</title></rect>'
            )
        made.append(f'<text x="{_EDGE + (place + 0.5) * width:.0f}" y="{_HEIGHT - _EDGE + 30}" text-anchor="middle">{escape(shape)}</text>')
    for number, name in enumerate(("hopwatch", "declared only", "statistics only")):
        made.append(f'<text x="{_WIDTH - 170}" y="{14 + 13 * number}" fill="{_COLOURS[number]}">{name}</text>')
    return "".join(made) + "</svg>"

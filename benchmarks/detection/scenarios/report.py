"""The report of a run: a table in Markdown, and a page with a picture of what was gone before each alert."""

from collections.abc import Sequence
from html import escape

from benchmarks.detection.scenarios.play import Answer, Outcome, Side
from hopwatch.events import time_ns
from hopwatch.show import size

CAUSE_SHOWN = 110
STYLE = (
    "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{border-bottom:1px solid #ccc;padding:4px 8px;text-align:left;vertical-align:top}"
)
WIDTH, HEIGHT, LEFT = 640, 22, 56
HEAD = ("scenario", "attack", "alerted as", "cause line", "how soon", "gone before the alert", "twin", "twin's outcome")


def markdown(outcomes: Sequence[Outcome], seed: int) -> str:
    """The whole report as Markdown."""
    lines = [
        "# Scenarios, live",
        "",
        f"`make scenarios SEED={seed}`: real servers and clients in network namespaces, recorded at the tap, placed on the story's time",
        "and read by `hopwatch watch -r`. An alert is a finding of medium or above. *Gone* is what the story had moved when",
        "the window that alerted was over, that window included.",
        "",
        summary(outcomes),
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{' --- |' * len(HEAD)}",
    ]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows(outcomes)]
    if misses := [(outcome.scenario.name, miss) for outcome in outcomes for miss in outcome.misses]:
        lines += ["", "Not as expected:", "", *(f"- {name}: {miss}" for name, miss in misses)]
    return "\n".join(lines) + "\n"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Both goals in a sentence."""
    found, loud = sum(outcome.found for outcome in outcomes), sum(not outcome.silent for outcome in outcomes)
    return f"**{found} of {len(outcomes)} attacks alerted with the right cause, {loud} of {len(outcomes)} twins alerted.**"


def rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row for every cause that was expected."""
    table = []
    for outcome in outcomes:
        scenario = outcome.scenario
        first = True
        for said in [_said(answer) for answer in outcome.answers] or [["missed", "-", "-", "-"]]:
            ends = [scenario.name, f"{scenario.title}: {scenario.attacked}"] if first else ["", ""]
            table.append([*ends, *said, *([scenario.benign, _of_twin(outcome)] if first else ["", ""])])
            first = False
    return table


def _said(answer: Answer) -> list[str]:
    cause = answer.alert.cause
    shown = cause if len(cause) <= CAUSE_SHOWN else f"{cause[:CAUSE_SHOWN]} ..."
    gone = [f"{count:,} {name}" for name, count in answer.gone.items() if count and name not in ("bytes", "messages")]
    windows = f"{answer.gone_windows} window{'' if answer.gone_windows == 1 else 's'}"
    return [
        f"{answer.alert.severity} {answer.alert.verdict}",
        shown,
        _soon(answer.soon_s),
        ", ".join([*gone, size(answer.gone["bytes"]), windows]),
    ]


def _soon(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} days"
    if seconds >= 2 * 3_600:
        return f"{seconds / 3_600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.1f} s"


def _of_twin(outcome: Outcome) -> str:
    alerts = outcome.twin.alerts()
    loud = outcome.twin.unexplained()
    if loud:
        return f"alerted: {loud[0].severity} {loud[0].verdict}"
    if alerts:
        return f"benign trigger, ticket shown: {alerts[0].cause}"
    quiet = sorted({f"{finding['verdict']} ({finding['severity']})" for finding in outcome.twin.findings})
    return f"silent{', kept: ' + ', '.join(quiet) if quiet else ''}"


def html(outcomes: Sequence[Outcome], seed: int) -> str:
    """The same as one page, with a line for every attack: when data moved, and when the alert came."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows(outcomes))
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    misses = "".join(f"<li>{escape(outcome.scenario.name)}: {escape(miss)}</li>" for outcome in outcomes for miss in outcome.misses)
    wrong = f"<h2>Not as expected</h2><ul>{misses}</ul>" if misses else ""
    return "".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Scenarios, live</title><style>{STYLE}</style>',
            f"<h1>Scenarios, live</h1><p>make scenarios SEED={seed}</p><p>{escape(summary(outcomes)).replace('**', '')}</p>",
            "<p>A line for each attack, from its first packet to its last: blue is what had left, of all that left; red are the first ",
            f"alerts that name its causes.</p>{picture(outcomes)}<table><tr>{head}</tr>{body}</table>{wrong}</html>\n",
        ]
    )


def picture(outcomes: Sequence[Outcome]) -> str:
    """An SVG: per attack the share of its bytes that had left, window by window, and the alerts as marks."""
    tall = HEIGHT * len(outcomes) + 10
    drawn = [f'<svg width="{WIDTH + LEFT + 20}" height="{tall}" role="img" font-size="12">']
    for place, outcome in enumerate(outcomes):
        low = HEIGHT * (place + 1)
        drawn.append(f'<text x="0" y="{low - 3}">{outcome.scenario.name}</text>')
        points = " ".join(f"{LEFT + x * WIDTH:.1f},{low - y * (HEIGHT - 6):.1f}" for x, y in _course(outcome.attack))
        drawn.append(f'<polyline fill="none" stroke="#3465a4" points="{points}"/>')
        first_ns, last_ns = _ends(outcome.attack)
        for answer in outcome.answers:
            x = LEFT + WIDTH * min(1.0, max(0.0, (answer.alert.at_ns - first_ns) / max(1, last_ns - first_ns)))
            drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low - HEIGHT + 4}" y2="{low}" stroke="#cc0000" stroke-width="2"/>')
    return "".join([*drawn, "</svg>"])


def _ends(side: Side) -> tuple[int, int]:
    return min(part.first_ns for part in side.tape.parts), max(part.last_ns for part in side.tape.parts)


def _course(side: Side) -> list[tuple[float, float]]:
    """Time and bytes gone, both as shares of the whole."""
    first_ns, last_ns = _ends(side)
    windows = side.windows()
    total = sum(flow["bytes"] for flow in windows) or 1
    points, gone = [(0.0, 0.0)], 0
    for flow in windows:
        x = (time_ns(flow["end"]) - first_ns) / max(1, last_ns - first_ns)
        points.append((x, gone / total))
        gone += flow["bytes"]
        points.append((x, gone / total))
    return points

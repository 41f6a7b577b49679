"""The views of a run: JSON lines for programs, plain lines for files and pipes, a live screen for people."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import BinaryIO, TextIO, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hopwatch.events import Event, Finding, Loss, Summary, dump
from hopwatch.show import amounts, clean, endpoint, finding_line, flow_line, grouped, loss_line, size, summary_line, violation
from hopwatch.watch import Judgement, ViewClosed, findings_of

FLOWS_REMEMBERED_MAX = 10_000
FLOWS_SHOWN_MAX = 12
FINDINGS_SHOWN_MAX = 6
REFRESH_S = 0.25

LINES_MAX = 64
"""Lines that are written at a time, at the most; what an event costs must not be a call of the system."""

_COLOURS = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "blue"}
T = TypeVar("T")

_QUIET = frozenset({"declared", "declared-in-part", "service"})


class JsonView:
    """Events as JSON lines, and nothing else."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lines: list[bytes] = []

    def said(self, line: bytes, event: Event) -> None:
        """The line as it came; a heartbeat belongs to the bus, not to this stream."""
        if event.kind != "heartbeat":
            self._write(line)

    def judged(self, judgement: Judgement) -> None:
        """Its finding, if it raised one."""
        if judgement.finding is None and not judgement.notices:
            return
        for finding in findings_of(judgement):
            self.found(finding)

    def found(self, finding: Finding) -> None:
        """The finding."""
        self._write(dump(finding))

    def progress(self, counters: Mapping[str, int]) -> None:
        """Hand on what is written, so that a reader of a live stream waits for no buffer."""
        self._hand_on()
        _flush(self._out)

    def close(self, summary: Summary) -> None:
        """The summary is the last line."""
        self._write(dump(summary))
        self.progress({})

    def _write(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) >= LINES_MAX:
            self._hand_on()

    def _hand_on(self) -> None:
        lines, self._lines = [*self._lines, b""], []
        try:
            self._out.write(b"\n".join(lines))
        except BrokenPipeError as error:
            raise ViewClosed from error


class PlainView:
    """One line for a flow when it begins and when its verdict changes; a new finding in full; losses as they come."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._verdicts: OrderedDict[str, str] = OrderedDict()
        self._findings: OrderedDict[str, Finding] = OrderedDict()

    def said(self, line: bytes, event: Event) -> None:
        """A loss is a line; a flow waits for its verdict."""
        if isinstance(event, Loss):
            self._print(loss_line(event.model_dump()))

    def judged(self, judgement: Judgement) -> None:
        """A line if there is something new to say."""
        flow, verdict = judgement.flow, judgement.verdict
        if self._verdicts.get(flow.flow_id) != verdict:
            _remember(self._verdicts, flow.flow_id, verdict)
            self._print(flow_line(flow.model_dump(), verdict))
        for finding in findings_of(judgement):
            self.found(finding)

    def found(self, finding: Finding) -> None:
        """In full, the first time."""
        if finding.finding_id not in self._findings:
            self._print(violation(finding.model_dump()))
        _remember(self._findings, finding.finding_id, finding)

    def progress(self, counters: Mapping[str, int]) -> None:
        """Plain lines show no progress."""
        _flush(self._out)

    def close(self, summary: Summary) -> None:
        """Every finding as it stands at the end, then the summary."""
        for finding in self._findings.values():
            self._print(finding_line(finding.model_dump()))
        self._print(summary_line(summary.model_dump()))
        self.progress({})

    def _print(self, text: str) -> None:
        try:
            self._out.write(text + "\n")
        except BrokenPipeError as error:
            raise ViewClosed from error


class LiveView:
    """A screen: rates and progress, verdicts, the flows that moved last, findings; new findings scroll by in full."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._flows: OrderedDict[str, Judgement] = OrderedDict()
        self._verdicts: Counter[str] = Counter()
        self._findings: OrderedDict[str, Finding] = OrderedDict()
        self._losses: deque[Loss] = deque(maxlen=3)
        self._lost: Counter[str] = Counter()
        self._counters: Mapping[str, int] = {}
        self._before: tuple[float, int, int] = (time.monotonic(), 0, 0)
        self._rates = (0.0, 0.0)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def said(self, line: bytes, event: Event) -> None:
        """Count losses."""
        if isinstance(event, Loss):
            self._losses.append(event)
            self._lost["packets"] += event.packets
            self._lost["bytes"] += event.bytes

    def judged(self, judgement: Judgement) -> None:
        """Count it; the first sight of a finding is printed above the screen."""
        self._verdicts[judgement.verdict] += 1
        _remember(self._flows, judgement.flow.flow_id, judgement)
        for finding in findings_of(judgement):
            self.found(finding)

    def found(self, finding: Finding) -> None:
        """The first sight of it is printed above the screen."""
        if finding.finding_id not in self._findings:
            self._console.print(Text(violation(finding.model_dump()), style=_COLOURS[finding.severity]))
        _remember(self._findings, finding.finding_id, finding)

    def progress(self, counters: Mapping[str, int]) -> None:
        """Draw, at most every REFRESH_S seconds."""
        now = time.monotonic()
        then, packets, count_bytes = self._before
        if now - then < REFRESH_S:
            return
        self._counters = counters
        here = (now, counters.get("packets", 0), counters.get("bytes", 0))
        self._rates = ((here[1] - packets) / (now - then), (here[2] - count_bytes) / (now - then))
        self._before = here
        self._live.update(self._screen(), refresh=True)

    def close(self, summary: Summary) -> None:
        """Leave the findings and the summary on the terminal."""
        self._live.stop()
        for finding in self._findings.values():
            self._console.print(Text(finding_line(finding.model_dump()), style=_COLOURS[finding.severity]))
        self._console.print(Text(summary_line(summary.model_dump())))

    def _screen(self) -> Group:
        packets, rate_bytes = self._rates
        count = grouped(self._counters.get("packets", 0))
        head = Text(f"{self._title}   {packets:,.0f} packets/s   {size(rate_bytes)}/s   {count} packets")
        parts: list[Text | Table | ProgressBar] = [head]
        total = self._counters.get("bytes_total", 0)
        if total:
            read = min(self._counters.get("bytes_read", 0), total)
            parts.append(Text(f"{100 * read / total:.0f} % of {size(total)}"))
            parts.append(ProgressBar(total=total, completed=read, width=40))
        verdicts = Text("  ".join(f"{verdict} {grouped(count)}" for verdict, count in self._verdicts.most_common()))
        parts.append(verdicts)
        if self._lost:
            parts.append(Text(f"lost {grouped(self._lost['packets'])} packets, {size(self._lost['bytes'])}", style="yellow"))
            parts += [Text(loss_line(loss.model_dump()), style="yellow") for loss in self._losses]
        table = Table("verdict", "source", "destination", "account", "operation", "so far", box=None, pad_edge=False)
        for judgement in list(self._flows.values())[: -FLOWS_SHOWN_MAX - 1 : -1]:
            flow, verdict = judgement.flow.model_dump(), str(judgement.event["verdict"])
            colour = "green" if verdict in _QUIET else _COLOURS.get(str(judgement.event["severity"]), "")
            cells = (endpoint(flow["source"]), endpoint(flow["destination"]), clean(flow["account"] or "-"), flow["operation"])
            table.add_row(Text(verdict, style=colour), *(Text(cell) for cell in (*cells, amounts(flow["totals"]))))
        parts.append(table)
        for finding in list(self._findings.values())[: -FINDINGS_SHOWN_MAX - 1 : -1]:
            parts.append(Text(finding_line(finding.model_dump()), style=_COLOURS[finding.severity]))
        return Group(*parts)


def _flush(out: BinaryIO | TextIO) -> None:
    try:
        out.flush()
    except BrokenPipeError as error:
        raise ViewClosed from error


def _remember(known: OrderedDict[str, T], key: str, value: T) -> None:
    """Keep the value as the latest; the oldest goes when FLOWS_REMEMBERED_MAX is reached."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > FLOWS_REMEMBERED_MAX:
        known.popitem(last=False)

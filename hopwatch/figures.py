"""What judging says to Prometheus: windows by verdict, what moved by class and zone, losses, agents, findings, and how the run goes.

What is judged is tallied first and becomes figures when it is kept: a step that a database lost is done again, and counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from detectors.judgement import Judgement
from hopwatch.events import Event, Finding, Heartbeat, Loss, Summary
from hopwatch.metrics import Figures, Metric
from hopwatch.watch import Judgement as Judged
from hopwatch.watch import View, findings_of

NO_CLASS: Final = "~none"
"""In place of a class where nothing classed moved."""

OUTSIDE: Final = "~outside"
"""In place of a zone for an address in none."""

FINDINGS_MAX: Final = 100_000
"""Findings whose having been counted is remembered; at the bound all are forgotten, and what is said again counts again."""

_JUDGES: Final = ("watch", "detect")
_SCALE: Final = ("detect", "store")
_ALL: Final = ("watch", "detect", "store")

JUDGING: Final = (
    Metric("hopwatch_windows_total", "counter", "Windows judged.", ("plant", "verdict"), _JUDGES),
    Metric("hopwatch_windows_seen_total", "counter", "Windows judged, by how deep they were read.", ("plant", "depth"), _JUDGES),
    Metric("hopwatch_unread_connections_total", "counter", "Connections a tap could not read, when they ended.", ("plant",), _JUDGES),
    Metric("hopwatch_unnamed_connections_total", "counter", "Those of them whose account no record told.", ("plant",), _JUDGES),
    Metric(
        "hopwatch_moved_rows_total", "counter", "Rows that moved, by their highest class and where to.", ("plant", "class", "zone"), _JUDGES
    ),
    Metric("hopwatch_moved_values_total", "counter", "Values that moved, likewise.", ("plant", "class", "zone"), _JUDGES),
    Metric("hopwatch_moved_messages_total", "counter", "Messages that moved, likewise.", ("plant", "class", "zone"), _JUDGES),
    Metric("hopwatch_moved_bytes_total", "counter", "Bytes that moved, likewise.", ("plant", "class", "zone"), _JUDGES),
    Metric("hopwatch_findings_total", "counter", "Findings this process said first.", ("plant", "verdict", "severity"), _JUDGES),
    Metric("hopwatch_lost_packets_total", "counter", "Packets that were not seen.", ("plant", "agent", "stage"), _JUDGES),
    Metric("hopwatch_lost_bytes_total", "counter", "Bytes that were not seen.", ("plant", "agent", "stage"), _JUDGES),
    Metric("hopwatch_lost_events_total", "counter", "Events that were made and lost.", ("plant", "agent", "stage"), _JUDGES),
    Metric("hopwatch_heartbeat_timestamp_seconds", "gauge", "When the agent was last heard.", ("plant", "agent"), _JUDGES),
    Metric("hopwatch_heartbeat_clock_offset_seconds", "gauge", "The agent's clock, as it says itself.", ("plant", "agent"), _JUDGES),
    Metric("hopwatch_heartbeat_clock_synchronised", "gauge", "1 while something keeps the agent's clock.", ("plant", "agent"), _JUDGES),
    Metric("hopwatch_heartbeat_spool_events", "gauge", "Events that wait at the agent.", ("plant", "agent"), _JUDGES),
    Metric("hopwatch_judged_until_timestamp_seconds", "gauge", "The latest start of a window judged.", ("plant",), _JUDGES),
)

RUNNING: Final = (
    Metric("hopwatch_events_read_total", "counter", "Events read.", programs=_ALL),
    Metric("hopwatch_events_rejected_total", "counter", "Messages that are no event; they are among the rejected ones.", programs=_SCALE),
    Metric("hopwatch_events_missed_total", "counter", "Messages that the bus had deleted before they were read.", programs=_SCALE),
    Metric("hopwatch_step_seconds", "histogram", "What reading, judging and keeping one batch takes.", programs=_ALL),
    Metric("hopwatch_write_seconds", "histogram", "What one transaction takes.", programs=_SCALE),
    Metric("hopwatch_lag_events", "gauge", "Messages of a topic that are not read yet.", ("topic",), _SCALE),
    Metric("hopwatch_queue_events", "gauge", "Events read whose keeping is not confirmed yet.", programs=_ALL),
    Metric("hopwatch_partitions", "gauge", "Partitions this process works on.", programs=_SCALE),
    Metric("hopwatch_database_up", "gauge", "1 while the database answers.", programs=_SCALE),
    Metric("hopwatch_database_away_total", "counter", "How often the database did not answer.", programs=_SCALE),
)

_CONSUMED: Final = {
    "hopwatch_events_read_total": "events",
    "hopwatch_events_rejected_total": "rejected",
    "hopwatch_events_missed_total": "missed",
    "hopwatch_database_away_total": "away",
}
"""The counters, by the name a consumer of topics keeps them under."""

WATCHING: Final = (
    *JUDGING,
    *(metric for metric in RUNNING if "watch" in metric.programs),
    Metric("hopwatch_forgotten_total", "counter", "What the bounds of the judge's tables pushed out.", ("table",), ("watch",)),
)

DETECTING: Final = (
    *JUDGING,
    *RUNNING,
    Metric("hopwatch_detect_undeclared_events_total", "counter", "Events of plants nobody declared, not judged.", ("plant",), ("detect",)),
    Metric("hopwatch_detect_published_findings_total", "counter", "Findings the bus has taken.", programs=("detect",)),
    Metric("hopwatch_detect_unpublished_findings", "gauge", "Batches of findings that the bus has not taken whole.", programs=("detect",)),
    Metric("hopwatch_detect_fenced_total", "counter", "Partitions that another detector took over.", programs=("detect",)),
)

STORING: Final = (
    *RUNNING,
    Metric("hopwatch_store_new_events_total", "counter", "Events that were not kept before.", programs=("store",)),
)


class Tally:
    """What was judged and heard since it was last taken; ``highest`` says which of a plant's classes is the highest."""

    def __init__(self, highest: Callable[[str, Sequence[str]], str | None]) -> None:
        self._highest = highest
        self._moved: dict[tuple[str, str, tuple[str, ...], str | None, str], list[int]] = {}
        self._lost: dict[tuple[str, str, str], list[int]] = {}
        self._heard: dict[tuple[str, str], tuple[float, Heartbeat]] = {}
        self._found: dict[str, tuple[str, str, str]] = {}
        self._until_ns: dict[str, int] = {}
        self._unread: dict[str, list[int]] = {}

    def judged(self, judgement: Judgement) -> None:
        """One window; amounts that another view of its connection counted are not counted again."""
        flow, said, new = judgement.flow, judgement.outcome, judgement.net
        key = (flow.plant, said.verdict, said.classes, said.destination.zone, flow.depth)
        cell = self._moved.get(key)
        if cell is None:
            cell = self._moved[key] = [0, 0, 0, 0, 0]
        cell[0] += 1
        if new:
            cell[1] += new.get("rows", 0)
            cell[2] += new.get("values", 0)
            cell[3] += new.get("messages", 0)
            cell[4] += new.get("bytes", 0)
        if flow.final and flow.operation == "transfer" and flow.seen_by == "tap":
            unread = self._unread.setdefault(flow.plant, [0, 0])
            unread[0] += 1
            unread[1] += said.who is None
        if judgement.start_ns > self._until_ns.get(flow.plant, 0):
            self._until_ns[flow.plant] = judgement.start_ns

    def found(self, findings: Iterable[Finding]) -> None:
        """What was found, by whatever way."""
        for finding in findings:
            self._found[finding.finding_id] = (finding.plant, finding.verdict, finding.severity)

    def heard(self, event: Loss | Heartbeat, at_s: float) -> None:
        """A loss, or a heartbeat that came at this time."""
        if isinstance(event, Heartbeat):
            self._heard[event.plant, event.agent] = (at_s, event)
            return
        cell = self._lost.setdefault((event.plant, event.agent, event.stage), [0, 0, 0])
        for place, amount in enumerate((event.packets, event.bytes, event.events)):
            cell[place] += amount

    def clear(self) -> None:
        """Begin anew."""
        for table in (self._moved, self._lost, self._heard, self._found, self._until_ns, self._unread):
            table.clear()

    def into(self, figures: JudgingFigures) -> None:
        """What was tallied is kept: it becomes figures."""
        for (plant, verdict, classes, zone, depth), (windows, *amounts) in self._moved.items():
            figures.add("hopwatch_windows_total", windows, plant, verdict)
            figures.add("hopwatch_windows_seen_total", windows, plant, depth)
            where = (plant, self._highest(plant, classes) or NO_CLASS, OUTSIDE if zone is None else zone)
            for name, amount in zip(("rows", "values", "messages", "bytes"), amounts, strict=True):
                if amount:
                    figures.add(f"hopwatch_moved_{name}_total", amount, *where)
        for plant, (unread, unnamed) in self._unread.items():
            figures.add("hopwatch_unread_connections_total", unread, plant)
            figures.add("hopwatch_unnamed_connections_total", unnamed, plant)
        for who, lost in self._lost.items():
            for name, amount in zip(("packets", "bytes", "events"), lost, strict=True):
                figures.add(f"hopwatch_lost_{name}_total", amount, *who)
        for heard_of, (at_s, beat) in self._heard.items():
            figures.put("hopwatch_heartbeat_timestamp_seconds", at_s, *heard_of)
            if beat.clock is not None:
                figures.put("hopwatch_heartbeat_clock_offset_seconds", beat.clock.offset_s, *heard_of)
                figures.put("hopwatch_heartbeat_clock_synchronised", float(beat.clock.synchronised), *heard_of)
            # A heartbeat leaves out what is zero.
            if isinstance(waiting := beat.counters.get("spool_waiting", 0), int):
                figures.put("hopwatch_heartbeat_spool_events", waiting, *heard_of)
        for identity, labels in self._found.items():
            figures.found(identity, labels)
        for plant, until_ns in self._until_ns.items():
            figures.put("hopwatch_judged_until_timestamp_seconds", until_ns / 1e9, plant)
        self.clear()


class RunningFigures(Figures):
    """Figures of whoever reads the bus."""

    def follow(self, counters: Mapping[str, int], away: Callable[[], bool], own: Mapping[str, str]) -> None:
        """Tell what every consumer of topics counts, and whether its database is away; ``own`` names the counters of one program.

        A figure that is asked for reads what one step of the interpreter reads.
        """
        for name, counter in (_CONSUMED | dict(own)).items():
            self.ask(name, partial(counters.__getitem__, counter))
        self.ask("hopwatch_database_up", lambda: float(not away()))

    def lags(self, behind: Iterable[tuple[str, int]]) -> None:
        """How far behind the end the reader is, by topic, a partition at a time."""
        by_topic: dict[str, int] = {}
        for topic, left in behind:
            by_topic[topic] = by_topic.get(topic, 0) + left
        for topic, left in by_topic.items():
            self.put("hopwatch_lag_events", left, topic)


class JudgingFigures(RunningFigures):
    """Figures of whoever judges."""

    def __init__(self, metrics: Iterable[Metric], sensor: Callable[[], Mapping[str, int]] | None = None) -> None:
        super().__init__(metrics, sensor)
        self._known: set[str] = set()

    def found(self, identity: str, labels: tuple[str, str, str]) -> None:
        """A finding; once, however often it is said."""
        if identity not in self._known:
            if len(self._known) >= FINDINGS_MAX:
                self._known.clear()
            self._known.add(identity)
            self.add("hopwatch_findings_total", 1, *labels)


class Metered:
    """A view that counts what it is shown, and shows it on; ``queue`` says how many events wait to be judged."""

    def __init__(self, view: View, tally: Tally, clock: Callable[[], float], wall: Callable[[], float], queue: Callable[[], int]) -> None:
        self._view, self._tally, self._clock, self._wall, self._queue = view, tally, clock, wall, queue
        self._counted: dict[str, int] = {}
        self.figures = JudgingFigures(WATCHING, lambda: self._counted)

    def batches(self, batches: Iterable[list[bytes]], counters: Callable[[], Mapping[str, int]]) -> Iterator[list[bytes]]:
        """The batches, with how long each took until the next was asked for; the sensor answers only between two reads."""
        for batch in batches:
            self._counted = dict(counters())
            self.figures.add("hopwatch_events_read_total", len(batch))
            started_s = self._clock()
            yield batch
            if batch:
                self.figures.took("hopwatch_step_seconds", self._clock() - started_s)
            self._tally.into(self.figures)
            self.figures.put("hopwatch_queue_events", self._queue())

    def said(self, line: bytes, event: Event) -> None:
        """An event came off the log."""
        if isinstance(event, Loss | Heartbeat):
            self._tally.heard(event, self._wall())
        self._view.said(line, event)

    def judged(self, judgement: Judged) -> None:
        """A window was judged; one that an earlier run judged is not counted again."""
        if isinstance(judgement, Judgement):
            self._tally.judged(judgement)
            self._tally.found(findings_of(judgement))
        self._view.judged(judgement)

    def found(self, finding: Finding) -> None:
        """Something was found that is about no window."""
        self._tally.found((finding,))
        self._view.found(finding)

    def progress(self, counters: Mapping[str, int]) -> None:
        """Time has passed."""
        self._view.progress(counters)

    def close(self, summary: Summary) -> None:
        """The run has ended."""
        self._tally.into(self.figures)
        self._view.close(summary)

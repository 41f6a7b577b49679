"""One process that watches: sensor, log, judge, store and view, put in a row and kept from losing anything.

Events pass through the log before they are judged and are committed after they are stored, so what an interrupted run had
read is judged by the next one. When the store has no room the run ends, and the log keeps what could not be stored; when the
log has no room either, the events go straight to the judge. Either way there is one clear line at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from hopwatch.bus import Log, LogError, LogFull
from hopwatch.events import Event, EventError, Finding, Flow, Heartbeat, Loss, Lost, Summary, parse
from hopwatch.store import JudgedFlow, Store, StoreError

CONSUMER = "engine"
"""The name under which the engine commits to the log."""

DRAIN_EVENTS_MAX = 4_096
FINDINGS_COUNTED_MAX = 100_000


class Judgement(Protocol):
    """What is said about one flow window."""

    @property
    def flow(self) -> Flow: ...
    @property
    def finding(self) -> Finding | None: ...
    @property
    def event(self) -> dict[str, Any]:  # Any: JSON values.
        """Verdict, severity, hop, checked, differences as JSON values."""
        ...


class Judge(Protocol):
    """What the run needs of the engine: events in, judgements out."""

    def judge(self, events: Sequence[Event]) -> Iterable[Judgement]:
        """Judge the events in their order; flows may be answered later, when packet time has passed them."""
        ...

    def finish(self) -> Iterable[Judgement]:
        """Judge what still waits; the stream has ended."""
        ...


class View(Protocol):
    """Where a run is shown; it never raises for what it shows."""

    def said(self, line: bytes, event: Event) -> None:
        """An event came off the log."""

    def judged(self, judgement: Judgement) -> None:
        """A window was judged."""

    def progress(self, counters: Mapping[str, int]) -> None:
        """Time has passed; the sensor has counted so far."""

    def close(self, summary: Summary) -> None:
        """The run has ended."""


class ViewClosed(Exception):
    """Nobody reads the view any more (a closed pipe): the run ends, and what was read is stored."""


@dataclass
class Outcome:
    """How a run ended: its summary, and one line for each thing that went wrong."""

    summary: Summary
    errors: list[str] = field(default_factory=list)


class Run:
    """One run; ``stop`` may be called from a signal handler."""

    def __init__(self, log: Log, judge: Judge, store: Store | None, view: View) -> None:
        self._log, self._judge, self._store, self._view = log, judge, store, view
        self._stopping = False
        self._findings: dict[str, str] = {}
        self._lost: Counter[str] = Counter()
        self._windows = 0
        self._unread, self._why = 0, ""
        self._errors: list[str] = []
        self._storing = True
        self._offset = log.committed(CONSUMER)

    def stop(self) -> None:
        """Ask the run to end: what was read is still judged and stored."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self._stopping

    def run(
        self,
        batches: Iterator[list[bytes]],
        counters: Callable[[], Mapping[str, int]],
        clock: Callable[[], float],
        expected: tuple[type[Exception], ...] = (),
    ) -> Outcome:
        """Judge everything in ``batches``; an ``expected`` exception of the source is a line of the outcome."""
        started = clock()
        self._drain()  # What an interrupted run left behind comes first.
        try:
            for batch in batches:
                self._take(batch)
                self._shown(lambda: self._view.progress(counters()))
        except expected as error:
            self._errors.append(str(error))
        self._keep(self._judge.finish(), [], [])
        if self._unread:
            self._errors.append(f"{self._unread} events could not be understood and were not judged: {self._why}")
        counted = counters()
        summary = Summary(
            packets=counted.get("packets", 0),
            bytes=counted.get("bytes", 0),
            windows=self._windows,
            findings=dict(Counter(self._findings.values())),
            lost=Lost(packets=self._lost["packets"], bytes=self._lost["bytes"]),
            seconds=round(clock() - started, 3),
        )
        self._shown(lambda: self._view.close(summary))
        return Outcome(summary, self._errors)

    def _take(self, batch: list[bytes]) -> None:
        if not batch:
            return
        try:
            self._append(batch)
        except LogError as error:
            # Not in the log, but in our hands: judged and stored all the same, then the run ends.
            self._fail(str(error))
            self._pass_on(batch)
            return
        self._drain()

    def _append(self, batch: list[bytes]) -> None:
        try:
            self._log.append(batch)
        except LogFull:
            # What was judged has left the log by now, so half of the batch may fit where the whole did not.
            self._drain()
            if len(batch) < 2:
                raise
            self._append(batch[: len(batch) // 2])
            self._drain()
            try:
                self._append(batch[len(batch) // 2 :])
            except LogError as error:
                self._fail(str(error))
                self._pass_on(batch[len(batch) // 2 :])

    def _drain(self) -> None:
        """Judge and store what the log holds, then commit it."""
        while self._storing and (records := self._log.read(self._offset, DRAIN_EVENTS_MAX)):
            self._pass_on([line for _, line in records])
            if self._storing:
                self._offset = records[-1][0] + 1
                try:
                    self._log.commit(CONSUMER, self._offset)
                except LogError as error:
                    self._fail(str(error))

    def _pass_on(self, lines: list[bytes]) -> None:
        events: list[Event] = []
        for line in lines:
            try:
                event = parse(line)
            except EventError as error:
                self._unread += 1
                self._why = str(error)
                continue
            events.append(event)
            if isinstance(event, Loss):
                self._lost["packets"] += event.packets
                self._lost["bytes"] += event.bytes
            self._shown(partial(self._view.said, line, event))
        self._keep(
            self._judge.judge(events),
            [event for event in events if isinstance(event, Loss)],
            [event for event in events if isinstance(event, Heartbeat)],
        )

    def _keep(self, judgements: Iterable[Judgement], losses: list[Loss], heartbeats: list[Heartbeat]) -> None:
        judged = list(judgements)
        self._windows += len(judged)
        # A finding accumulates: of several in one batch the last says all, and merging each would cost the store most of its time.
        findings = {judgement.finding.finding_id: judgement.finding for judgement in judged if judgement.finding is not None}
        for finding in findings.values():
            if len(self._findings) < FINDINGS_COUNTED_MAX or finding.finding_id in self._findings:
                self._findings[finding.finding_id] = finding.verdict
        if self._store is not None and self._storing:
            try:
                self._store.add(
                    flows=[stored(judgement) for judgement in judged],
                    findings=[finding.model_dump() for finding in findings.values()],
                    losses=[loss.model_dump() for loss in losses],
                    heartbeats=[beat.model_dump() for beat in heartbeats],
                )
            except StoreError as error:
                self._storing = False
                self._fail(f"{error}; what could not be stored stays in the log and is judged by the next run")
        for judgement in judged:
            self._shown(partial(self._view.judged, judgement))

    def _shown(self, show: Callable[[], None]) -> None:
        try:
            show()
        except ViewClosed:
            self.stop()

    def _fail(self, line: str) -> None:
        if line not in self._errors:
            self._errors.append(line)
        self.stop()


def stored(judgement: Judgement) -> JudgedFlow:
    """The judgement as the store keeps it."""
    said = judgement.event
    return JudgedFlow(
        event=judgement.flow.model_dump(),
        verdict=said["verdict"],
        severity=said["severity"],
        hop=said["hop"],
        finding_id=said["finding_id"],
        checked=said["checked"],
        differences=tuple(said["differences"]),
    )

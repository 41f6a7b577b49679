"""One process that watches: sensor, log, judge, store and view, put in a row and kept from losing anything.

Events pass through the log before they are judged, and leave it when the store has them and what the judge remembers of them.
An interrupted run is taken up at the last state kept: what the log still holds is judged once more by the memory of then, with the
same outcome and the same ids, so no amount is lost or counted twice. When the store has no room the run ends, and the log keeps
what could not be stored; when the log has no room, the events go straight to the judge and the run ends. What neither can take is
judged and shown, and lost to the next run: it is counted, and one ``loss`` of stage ``collector`` says so before the summary.

A window that was judged by an earlier run is not judged again: what was said of it then is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol

from hopwatch.bus import Log, LogError, LogFull
from hopwatch.events import Event, EventError, Finding, Flow, Heartbeat, Loss, Lost, Summary, dump, time_ns
from hopwatch.lines import reader
from hopwatch.store import JudgedFlow, Store, StoreError

CONSUMER = "engine"
"""The name under which the engine commits to the log."""

DRAIN_EVENTS_MAX = 4_096

STATE_S = 5.0
"""How often the judge's state is kept; as much work is done once more after the end of the process."""

STATE_SHARE_MAX = 0.05
"""The share of a run's time that keeping states may take: a plant's state can be tens of megabytes."""

FINDINGS_COUNTED_MAX = 100_000

_LEFT = "what could not be stored stays in the log and is judged by the next run"


class Judgement(Protocol):
    """What is said about one flow window."""

    @property
    def flow(self) -> Flow: ...
    @property
    def finding(self) -> Finding | None: ...
    @property
    def verdict(self) -> str: ...
    @property
    def net(self) -> Mapping[str, int]:
        """What it adds to what all views of its connection have counted, by unit."""
        ...

    @property
    def notices(self) -> Sequence[Finding]:
        """What the window brought to light that is not about the window."""
        ...

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

    def found(self) -> Sequence[Finding]:
        """What was found since the last call that is about no window: a silence, an end, what many windows add up to."""
        ...

    def snapshot(self, offset: int) -> bytes:
        """Everything remembered, with the offset of the event to judge next."""
        ...

    def restore(self, snapshot: bytes) -> int:
        """Go on where the snapshot was taken; returns its offset."""
        ...

    def forgotten(self) -> Mapping[str, int]:
        """What the bounds of its tables have pushed out so far, by table."""
        ...


class View(Protocol):
    """Where a run is shown; it never raises for what it shows."""

    def said(self, line: bytes, event: Event) -> None:
        """An event came off the log."""

    def judged(self, judgement: Judgement) -> None:
        """A window was judged."""

    def found(self, finding: Finding) -> None:
        """Something was found that is about no window."""

    def progress(self, counters: Mapping[str, int]) -> None:
        """Time has passed; the sensor has counted so far."""

    def close(self, summary: Summary) -> None:
        """The run has ended."""


class ViewClosed(Exception):
    """Nobody reads the view any more (a closed pipe): the run ends, and what was read is stored."""


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier run said of a window."""

    flow: Flow
    event: dict[str, Any]  # Any: JSON values.
    finding: Finding | None
    notices: tuple[Finding, ...] = ()
    net: Mapping[str, int] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The verdict it was given then."""
        return str(self.event["verdict"])


@dataclass(slots=True)
class Unkept:
    """What of one agent was kept nowhere: from when to when, how much, and its hash so far."""

    start: str
    end: str
    events: int = 0
    digest: Any = field(default_factory=lambda: blake2b(digest_size=16))  # Any: hashlib names the type of its objects privately.

    def add(self, event_id: str, first: str, last: str) -> None:
        """One event more."""
        self.start = min(self.start, first, key=time_ns)
        self.end = max(self.end, last, key=time_ns)
        self.events += 1
        self.digest.update(event_id.encode())

    def loss(self, plant: str, agent: str) -> Loss:
        """The loss that says so."""
        return Loss(
            event_id=self.digest.hexdigest(), plant=plant, agent=agent, stage="collector", start=self.start, end=self.end,
            events=self.events, why="room in neither the log nor the store",
        )  # fmt: skip


@dataclass
class Outcome:
    """How a run ended: its summary, one line for each thing that went wrong, and one for each input that broke off."""

    summary: Summary
    errors: list[str] = field(default_factory=list)
    broken_off: list[str] = field(default_factory=list)


class Run:
    """One run; ``stop`` may be called from a signal handler. The judge's state rests in the store under ``state_name``."""

    def __init__(self, log: Log, judge: Judge, store: Store | None, view: View, state_name: str = CONSUMER) -> None:
        self._log, self._judge, self._store, self._view = log, judge, store, view
        self._read = reader()
        self._stopping = False
        self._findings: dict[str, str] = {}
        self._uncounted = 0
        self._lost: Counter[str] = Counter()
        self._windows = 0
        self._unread, self._why = 0, ""
        self._errors: list[str] = []
        self._storing = True
        self._unkept: dict[tuple[str, str], Unkept] = {}
        self._state_name = state_name
        self._clock: Callable[[], float] = lambda: 0.0
        self._offset = log.committed(CONSUMER)
        if store is not None and (kept := store.state(state_name)) is not None:
            offset = judge.restore(kept)
            # Beyond the end it is an offset of another log, which is gone.
            self._offset = max(self._offset, offset if offset <= log.end() else 0)
        self._settled = self._offset
        self._settle_at_s = 0.0

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
        damaged: Callable[[Exception], bool] = lambda _: False,
    ) -> Outcome:
        """Judge everything in ``batches``; an ``expected`` exception of the source is a line of the outcome.

        ``damaged`` says of such an exception that it is something found in the input, which was read up to there.
        """
        started = clock()
        self._clock = clock
        self._settle_at_s = started + STATE_S
        broken_off: list[str] = []
        self._drain()  # What an interrupted run left behind comes first.
        try:
            for batch in batches:
                self._take(batch)
                self._shown(lambda: self._view.progress(counters()))
        except expected as error:
            (broken_off if damaged(error) else self._errors).append(str(error))
        self._keep(self._judge.finish(), [], [])
        self._settle(at_once=True)
        self._say_unkept()
        if self._store is None and (unjudged := self._log.end() - self._offset):
            self._lost["events"] += unjudged
            self._errors.append(f"events of a log that ends with this run, neither judged nor kept: {unjudged}")
        if self._unread:
            self._errors.append(f"{self._unread} events could not be understood and were not judged: {self._why}")
        counted = counters()
        summary = Summary(
            packets=counted.get("packets", 0),
            bytes=counted.get("bytes", 0),
            copies=counted.get("copies", 0),
            one_sided_share=round(counted.get("one_sided", 0) / max(1, counted.get("conversing", 0)), 4),
            windows=self._windows,
            findings=dict(Counter(self._findings.values())),
            lost=Lost.model_validate({"packets": 0, "bytes": 0} | self._lost),
            seconds=round(clock() - started, 3),
            **self._forgotten(),
        )
        self._shown(lambda: self._view.close(summary))
        return Outcome(summary, self._errors, broken_off)

    def _forgotten(self) -> dict[str, Any]:  # Any: a field that readers of a summary need not know
        every = dict(self._judge.forgotten()) | {"findings_counted": self._uncounted}
        counted = {name: count for name, count in every.items() if count}
        return {"forgotten": counted} if counted else {}

    def _take(self, batch: list[bytes]) -> None:
        if not batch:
            return
        try:
            self._append(batch)
        except LogError as error:
            # Not in the log, but in our hands: judged and stored all the same, then the run ends.
            self._fail(str(error))
            self._pass_on(batch, in_log=False)
            return
        self._drain()

    def _append(self, batch: list[bytes]) -> None:
        try:
            self._log.append(batch)
        except LogFull:
            # What was judged can leave the log, and half of the batch may fit where the whole does not.
            self._drain()
            self._settle(at_once=True)
            if len(batch) < 2:
                raise
            self._append(batch[: len(batch) // 2])
            self._drain()
            try:
                self._append(batch[len(batch) // 2 :])
            except LogError as error:
                self._fail(str(error))
                self._pass_on(batch[len(batch) // 2 :], in_log=False)

    def _drain(self) -> None:
        """Judge and store what the log holds."""
        while self._storing:
            try:
                records = self._log.read(self._offset, DRAIN_EVENTS_MAX)
            except LogError as error:
                self._fail(str(error))
                return
            if not records:
                return
            self._pass_on([line for _, line in records], in_log=True)
            if self._storing:
                self._offset = records[-1][0] + 1
                self._settle()

    def _left(self) -> str:
        """What becomes of what could not be stored, where the log has something of it."""
        return f"; {_LEFT}" if self._log.end() > self._settled else ""

    def _settle(self, *, at_once: bool = False) -> None:
        """Keep what the judge remembers, then let the log forget what is in it; in this order, or a kill between them loses."""
        now_s = self._clock()
        if not self._storing or not (at_once or self._store is None or now_s >= self._settle_at_s):
            return
        try:
            if self._store is not None:
                self._store.keep_state(self._state_name, self._judge.snapshot(self._offset))
            if self._offset != self._settled:
                self._log.commit(CONSUMER, self._offset)
                self._settled = self._offset
        except StoreError as error:
            self._storing = False
            self._fail(f"{error}{self._left()}")
        except LogError as error:
            self._fail(str(error))
        done_s = self._clock()
        self._settle_at_s = done_s + max(STATE_S, (done_s - now_s) / STATE_SHARE_MAX)

    def _pass_on(self, lines: list[bytes], *, in_log: bool) -> None:
        events: list[Event] = []
        for line in lines:
            try:
                event = self._read(line)
            except EventError as error:
                self._unread += 1
                self._why = str(error)
                continue
            events.append(event)
            if event.kind == "loss":
                self._lost["packets"] += event.packets
                self._lost["bytes"] += event.bytes
            try:
                self._view.said(line, event)
            except ViewClosed:
                self.stop()
        judged = list(self._judge.judge(events))
        self._keep(
            judged,
            [event for event in events if isinstance(event, Loss)],
            [event for event in events if isinstance(event, Heartbeat)],
            self._known(events, judged),
            in_log=in_log,
        )
        if self._store is not None and not self._storing and not in_log:
            self._lose(events)

    def _lose(self, events: Sequence[Event]) -> None:
        """Count what neither the log nor the store has."""
        for event in events:
            if isinstance(event, Flow | Loss | Heartbeat):
                first, last = (event.time, event.time) if isinstance(event, Heartbeat) else (event.start, event.end)
                self._unkept.setdefault((event.plant, event.agent), Unkept(first, last)).add(event.event_id, first, last)

    def _say_unkept(self) -> None:
        """What was lost after it was seen: a loss for each agent, and one line."""
        for (plant, agent), unkept in self._unkept.items():
            loss = unkept.loss(plant, agent)
            self._lost["events"] += loss.events
            self._shown(partial(self._view.said, dump(loss), loss))
        if self._unkept:
            self._errors.append(f"events that found room in neither the log nor the store, judged but not kept: {self._lost['events']}")

    def _known(self, events: Sequence[Event], judged: Sequence[Judgement]) -> list[Known]:
        """What earlier runs said of the flows that the judge has nothing to say about."""
        if self._store is None:
            return []
        answered = {judgement.flow.event_id for judgement in judged}
        silent = {event.event_id: event for event in events if isinstance(event, Flow) and event.event_id not in answered}
        if not silent:
            return []
        try:
            said = self._store.judged(list(silent))
        except StoreError as error:
            self._fail(str(error))
            return []
        known: list[Known] = []
        for identity, flow in silent.items():
            if identity in said:
                judgement, finding = said[identity]
                known.append(Known(flow, judgement, None if finding is None else Finding.model_validate(finding)))
        return known

    def _keep(
        self,
        judgements: Iterable[Judgement],
        losses: list[Loss],
        heartbeats: list[Heartbeat],
        known: Sequence[Known] = (),
        *,
        in_log: bool = True,
    ) -> None:
        judged = list(judgements)
        self._windows += len(judged) + len(known)
        # A finding accumulates: of several in one batch the last says all, and merging each would cost the store most of its time.
        raising = (judgement for judgement in judged if judgement.finding is not None or judgement.notices)
        findings = {finding.finding_id: finding for judgement in raising for finding in findings_of(judgement)}
        about_none = {finding.finding_id: finding for finding in self._judge.found()}
        findings |= about_none
        for finding in (*findings.values(), *(one.finding for one in known if one.finding is not None)):
            if len(self._findings) < FINDINGS_COUNTED_MAX or finding.finding_id in self._findings:
                self._findings[finding.finding_id] = finding.verdict
            else:
                self._uncounted += 1
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
                self._fail(f"{error}{self._left()}" if in_log else str(error))
        for judgement in (*known, *judged):
            try:
                self._view.judged(judgement)
            except ViewClosed:
                self.stop()
        for finding in about_none.values():
            self._shown(partial(self._view.found, finding))

    def _shown(self, show: Callable[[], None]) -> None:
        try:
            show()
        except ViewClosed:
            self.stop()

    def _fail(self, line: str) -> None:
        if line not in self._errors:
            self._errors.append(line)
        self.stop()


def findings_of(judgement: Judgement) -> list[Finding]:
    """Every finding a judgement speaks of: what it brought to light, then the window's own."""
    return [*judgement.notices, *([] if judgement.finding is None else [judgement.finding])]


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
        declaration=said["declaration"],
        rows=judgement.net.get("rows"),
        bytes=judgement.net.get("bytes"),
    )

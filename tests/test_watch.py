"""A run between a log, a judge and a store that fail: what is kept, what is said, and that both are true."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from hopwatch.bus import LogError, LogFull
from hopwatch.events import Event, Finding, Flow, Heartbeat, Loss, Summary, dump, time_text
from hopwatch.store import StoreFull
from hopwatch.watch import Judgement, Outcome, Run


def flow(number: int, agent: str = "tap") -> Flow:
    at = (1_000_000 + number) * 10**9
    return Flow.model_validate(
        {
            "event_id": f"e{number}", "plant": "north", "agent": agent, "connection": "c", "flow_id": "f", "sequence": number,
            "start": time_text(at), "end": time_text(at + 10**9), "source": {"address": "10.0.0.1"}, "operation": "select",
            "destination": {"address": "10.0.0.2"}, "depth": "decoded", "bytes": 10,
        }
    )  # fmt: skip


class MemoryLog:
    """A log with room for ``room`` events; it is on the disk, so the next run may read it."""

    def __init__(self, room: int = 1_000) -> None:
        self.room, self.lines, self.first, self.done = room, [], 0, 0  # type: tuple[int, list[bytes], int, int]

    def append(self, events: list[bytes]) -> int:
        if len(self.lines) + len(events) > self.room:
            raise LogFull("log: no room")
        self.lines += events
        return self.end()

    def read(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        start = max(offset, self.first)
        return [(start + n, line) for n, line in enumerate(self.lines[start - self.first :][:limit])]

    def commit(self, consumer: str, offset: int) -> None:
        self.lines, self.first, self.done = self.lines[offset - self.first :], offset, offset

    def committed(self, consumer: str) -> int:
        return self.done

    def end(self) -> int:
        return self.first + len(self.lines)

    def close(self) -> None:
        pass


class FullStore:
    """A store that has room for so many batches."""

    def __init__(self, batches: int) -> None:
        self.batches, self.kept = batches, []  # type: tuple[int, list[str]]

    def add(self, *, flows: Iterable[Any] = (), findings: Any = (), losses: Iterable[Any] = (), heartbeats: Iterable[Any] = ()) -> int:
        if self.batches <= 0:
            raise StoreFull("store: no room")
        self.batches -= 1
        self.kept += [one.event["event_id"] for one in flows] + [one["event_id"] for one in (*losses, *heartbeats)]
        return 0

    def keep_state(self, name: str, state: bytes) -> None:
        if self.batches <= 0:
            raise StoreFull("store: no room")

    def state(self, name: str) -> None:
        return None

    def judged(self, event_ids: Sequence[str]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Said:
    flow: Flow
    finding: None = None
    notices: tuple[()] = ()
    net: Mapping[str, int] = field(default_factory=dict)

    @property
    def event(self) -> dict[str, Any]:
        return {
            "verdict": "declared",
            "severity": None,
            "hop": None,
            "finding_id": None,
            "checked": {},
            "differences": [],
            "declaration": {},
        }


@dataclass
class Judge:
    bounds: dict[str, int] = field(default_factory=dict)

    def judge(self, events: Sequence[Event]) -> list[Said]:
        return [Said(event) for event in events if isinstance(event, Flow)]

    def finish(self) -> list[Said]:
        return []

    def found(self) -> list[Finding]:
        return []

    def snapshot(self, offset: int) -> bytes:
        return b""

    def restore(self, snapshot: bytes) -> int:
        return 0

    def forgotten(self) -> Mapping[str, int]:
        return self.bounds


@dataclass
class View:
    events: list[Event] = field(default_factory=list)
    judgements: list[str] = field(default_factory=list)
    summary: Summary | None = None

    def said(self, line: bytes, event: Event) -> None:
        self.events.append(event)

    def judged(self, judgement: Judgement) -> None:
        self.judgements.append(judgement.flow.event_id)

    def found(self, finding: Finding) -> None:
        raise AssertionError("the judge found nothing")

    def progress(self, counters: Mapping[str, int]) -> None:
        pass

    def close(self, summary: Summary) -> None:
        self.summary = summary


def run(log: Any, store: Any, batches: list[list[Event]], judge: Judge | None = None) -> tuple[Outcome, View]:
    view = View()
    running = Run(log, judge or Judge(), store, view)

    def source() -> Iterator[list[bytes]]:
        for batch in batches:
            if running.stopping():
                return
            yield [dump(event) for event in batch]

    return running.run(source(), dict, lambda: 0.0), view


def ids(first: int, behind: int) -> list[str]:
    return [f"e{n}" for n in range(first, behind)]


def test_what_neither_log_nor_store_takes_is_counted_said_and_a_loss() -> None:
    beat = Heartbeat(event_id="h", plant="north", agent="other", time=time_text(9 * 10**14))
    log, store = MemoryLog(room=4), FullStore(batches=1)
    outcome, view = run(log, store, [[flow(0), flow(1)], [flow(n) for n in range(2, 8)] + [beat]])
    # The first batch was stored and judged; the log has it until the state of the judge is kept, and had room for two events more.
    assert store.kept == ids(0, 2)
    assert log.lines == [dump(flow(n)) for n in range(4)]
    assert view.judgements == ids(0, 2) + ids(4, 8)
    losses = [event for event in view.events if isinstance(event, Loss)]
    assert [(one.agent, one.stage, one.events, one.start, one.end) for one in losses] == [
        ("tap", "collector", 4, flow(4).start, flow(7).end), ("other", "collector", 1, beat.time, beat.time),
    ]  # fmt: skip
    assert outcome.errors == [
        "store: no room; what could not be stored stays in the log and is judged by the next run",
        "log: no room",
        "events that found room in neither the log nor the store, judged but not kept: 5",
    ]
    assert outcome.summary.model_dump()["lost"] == {"packets": 0, "bytes": 0, "events": 5}
    assert view.summary == outcome.summary


def test_a_store_that_fails_on_a_batch_the_log_refused_promises_nothing() -> None:
    outcome, view = run(MemoryLog(room=0), FullStore(batches=0), [[flow(0)]])
    assert outcome.errors == [
        "store: no room",
        "log: no room",
        "events that found room in neither the log nor the store, judged but not kept: 1",
    ]
    assert view.judgements == ["e0"]


def test_a_log_without_room_loses_nothing_while_the_store_has_some() -> None:
    log, store = MemoryLog(room=0), FullStore(batches=100)
    outcome, view = run(log, store, [[flow(0), flow(1)]])
    assert (store.kept, view.judgements, outcome.errors) == (ids(0, 2), ids(0, 2), ["log: no room"])
    assert outcome.summary.model_dump()["lost"] == {"packets": 0, "bytes": 0}


def test_a_store_without_room_loses_nothing_while_the_log_has_some() -> None:
    log = MemoryLog()
    outcome, _ = run(log, FullStore(batches=0), [[flow(0), flow(1)]])
    assert outcome.errors == ["store: no room; what could not be stored stays in the log and is judged by the next run"]
    assert log.lines == [dump(flow(0)), dump(flow(1))]
    assert "events" not in outcome.summary.model_dump()["lost"]


def test_without_a_store_every_window_is_judged_and_shown_and_nothing_is_called_lost() -> None:
    outcome, view = run(MemoryLog(room=1), None, [[flow(0), flow(1), flow(2)]])
    assert (view.judgements, outcome.errors) == (ids(0, 3), [])
    outcome, view = run(MemoryLog(room=0), None, [[flow(0), flow(1)], [flow(2)]])
    assert (view.judgements, outcome.errors, outcome.summary.windows) == (ids(0, 2), ["log: no room"], 2)


class Unreadable(MemoryLog):
    def read(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        if self.lines:
            raise LogError("log: cannot be read")
        return []


@pytest.mark.parametrize("store", [None, FullStore(batches=100)])
def test_a_log_that_cannot_be_read_is_said_and_without_a_store_its_events_are_lost(store: FullStore | None) -> None:
    outcome, view = run(Unreadable(), store, [[flow(0), flow(1)]])
    assert view.judgements == []
    if store is None:
        # The log without a store ends with the run.
        assert outcome.errors == ["log: cannot be read", "events of a log that ends with this run, neither judged nor kept: 2"]
        assert outcome.summary.model_dump()["lost"]["events"] == 2
    else:
        assert outcome.errors == ["log: cannot be read"]


def test_what_the_bounds_of_the_judge_pushed_out_stands_in_the_summary() -> None:
    outcome, _ = run(MemoryLog(), None, [[flow(0)]], Judge({"connections": 3, "flows": 0}))
    assert outcome.summary.model_dump()["forgotten"] == {"connections": 3}
    outcome, _ = run(MemoryLog(), None, [[flow(0)]])
    assert "forgotten" not in outcome.summary.model_dump()

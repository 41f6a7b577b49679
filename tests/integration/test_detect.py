"""Detectors on a real broker and a real database: whatever ends, every window is judged once, and the findings are those of one run."""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from detectors.clock import BEATS_NS_MIN
from detectors.verdict import VerdictDetector
from examples.broker import Cluster
from examples.database import Database
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Publisher, Reader, Subscriber
from hopwatch.declared.edition import edition_of
from hopwatch.declared.load import loads
from hopwatch.detect import KINDS, Detecting
from hopwatch.editions import Edition, Editions, edition_name
from hopwatch.engine import Judge
from hopwatch.events import Event, Finding, Flow, Heartbeat, Loss, dump, parse, time_text
from hopwatch.scale import verdict_detectors
from hopwatch.store import StoreFull
from hopwatch.store.postgresql import Hiding, StoreRefused
from hopwatch.store.progress import Kept, Progress, Step
from hopwatch.watch import findings_of
from tests.bus.real import make_topics
from tests.declared.repository import Plant, repository

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "examples" / "plant-north.yaml").read_text(encoding="utf-8")
PARTITIONS = 4
PLANTS = ("north", "east", "south", "west", "isle", "moor")
START_NS = 1_775_527_200 * 10**9
WAIT_S = 60.0
KEY = secrets.token_bytes(32)


def text_of(plant: str) -> str:
    return TEXT.replace("plant: north", f"plant: {plant}")


def edition(plant: str) -> Edition:
    return Edition(loads(text_of(plant)), edition_name(plant, None))


def event_id(*said: object) -> str:
    from hashlib import blake2b

    return blake2b("/".join(map(str, said)).encode(), digest_size=16).hexdigest()


def window(plant: str, n: int, agent: str = "tap-idmz", **said: Any) -> Flow:
    """Of ten windows eight are declared, one is a stranger's and one spends too much."""
    stranger, connection = n % 10 == 3, n % 25
    start_ns = START_NS + n * 50_000_000
    rows = 30_000 if n % 10 == 7 else 100
    flow_id = event_id(plant, agent, connection, stranger)
    part = {"names": ["quality.inspection"], "columns": ["lot", "result"], "rows": rows, "bytes": 9_000}
    return Flow.model_validate(
        {
            "event_id": event_id(flow_id, n), "plant": plant, "agent": agent, "connection": event_id(plant, connection, stranger),
            "flow_id": flow_id, "sequence": n // 25, "start": time_text(start_ns), "end": time_text(start_ns + 40_000_000),
            "source": {"address": "10.20.1.21", "port": 5432},
            "destination": {"address": f"10.40.9.{n % 7}" if stranger else "10.30.0.20", "port": 50_002},
            "opened_by": "destination", "protocol": "postgresql", "account": "svc_report" if stranger else "svc_mw",
            "application": "quality-extract/2.1", "operation": "select", "objects": [part], "rows": rows, "bytes": 9_000, "packets": 4,
            "depth": "decoded", "protection": {"transport": "tls1.3", "authentication": "scram-sha-256"},
        }
        | said
    )  # fmt: skip


def embedded(plant: str, events: list[Event]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What one embedded run finds, and what it has counted."""
    of = edition(plant)
    detector = VerdictDetector(of.architecture, edition=of.name)
    judge: Judge[Any] = Judge([detector])
    found = {finding.finding_id: finding for one in judge.judge(events) for finding in findings_of(one)}
    return {name: said(finding) for name, finding in found.items()}, detector.state()


def said(finding: Finding) -> dict[str, Any]:
    return finding.model_dump(exclude={"event_id"})


class Cloud:
    """Topics of one test, what is published to them, and detectors of its own."""

    def __init__(self, broker: Cluster, prefix: str, postgres: str) -> None:
        self.connection = Connection(bootstrap_servers=broker.bootstrap, topic_prefix=prefix)
        self.prefix, self.postgres = prefix, postgres
        self.lines: list[str] = []
        self.publisher: Publisher[int] = Publisher(self.connection, speaker="agents/test")
        make_topics(broker, prefix, partitions=PARTITIONS)

    def publish(self, events: list[Event]) -> None:
        for event in events:
            self.send(event)
        assert self.publisher.flush(WAIT_S)

    def send(self, event: Event, more: bytes = b"") -> None:
        assert isinstance(event, Flow | Loss | Heartbeat)
        line = dump(event)
        if more:
            line = b"%s,%s}" % (line[:-1], more)
        while not self.publisher.send(event.kind, event.plant, event.event_id, line, 0):
            self.publisher.poll(0.1)

    def declare(self, plant: Plant, text: str, *, signed: bool = True) -> None:
        """Commit the file, approved or not, and put it on the topic as `declared apply` does."""
        author = ("--author", "A. Ruiz <a.ruiz@example.com>", "--allow-empty")
        plant.commit(text, *author, by="h.keller" if signed else "a.ruiz", key="keller" if signed else None)
        said, _ = edition_of(plant.path, time_text(time.time_ns()), approvers=plant.approvers)
        assert said.signed == signed
        assert self.publisher.send("declared", said.plant, said.event_id, dump(said), 0)
        assert self.publisher.flush(WAIT_S)

    @contextmanager
    def detector(
        self, *plants: str, editions: Editions | None = None, postgres: str | None = None, keep_s: float = 0.1
    ) -> Iterator[Detecting]:
        hiding = Hiding(KEY)
        editions = editions or Editions(of={plant: edition(plant) for plant in plants})
        made = Detecting(
            partial(Subscriber, self.connection, group=f"{self.prefix}detect", kinds=KINDS),
            Publisher(self.connection, speaker="detect"),
            Progress(self.postgres, "detect", KEY, hiding),
            partial(verdict_detectors, None),
            editions,
            hiding,
            declared=None if plants else Reader(self.connection, "declared"),
            prefix=self.prefix,
            clock=time.monotonic,
            wall_ns=time.time_ns,
            say=self.lines.append,
            keep_s=keep_s,
        )
        made.read_declarations()
        try:
            yield made
        finally:
            made.close()

    def read(self, kind: str, count: int = 0, wait_s: float = WAIT_S) -> list[dict[str, Any]]:
        """Everything in a topic, waiting until there is at least ``count``."""
        reader, found = Reader(self.connection, kind), []
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and not (reader.caught_up and len(found) >= count):
            found += reader.poll(0.2)
        reader.close()
        return [{"value": one.value, "headers": one.headers(), "key": one.key} for one in found]

    def findings(self) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """The latest word of each finding in the topic, and the ids of all words."""
        words = [parse(one["value"]) for one in self.read("finding")]
        latest = {word.finding_id: word for word in words if isinstance(word, Finding)}
        return {name: said(word) for name, word in latest.items()}, [word.event_id for word in words if isinstance(word, Finding)]

    def offsets(self) -> dict[int, int]:
        with psycopg.connect(self.postgres) as db:
            if db.execute("SELECT to_regclass('detector_partitions')").fetchone() == (None,):
                return {}
            rows = db.execute("SELECT number, position FROM detector_partitions").fetchall()
        return {number: sum(position.get("offsets", {}).values()) for number, position in rows}

    def judged(self, count: int) -> bool:
        return sum(self.offsets().values()) >= count

    def sharded(self, agent: str, shards: int, events: list[Event]) -> None:
        """Publish as an agent of a plant that is split."""
        publisher: Publisher[int] = Publisher(self.connection, speaker=f"agents/{agent}", shards=shards)
        for event in events:
            assert isinstance(event, Flow | Loss | Heartbeat)
            assert publisher.send(event.kind, event.plant, event.event_id, dump(event), 0)
        assert publisher.flush(WAIT_S)
        publisher.close()


@pytest.fixture
def cloud(broker: Cluster, prefix: str, postgres: str) -> Cloud:
    return Cloud(broker, prefix, postgres)


def drive(*detectors: Detecting, until: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not until():
        assert time.monotonic() < deadline, [dict(one.counters) for one in detectors]
        for one in detectors:
            one.step()


def past(moment_s: float) -> bool:
    return time.monotonic() >= moment_s


def expected(events: list[Event]) -> dict[str, dict[str, Any]]:
    plants = {event.plant for event in events if isinstance(event, Flow | Loss)}
    found: dict[str, dict[str, Any]] = {}
    for plant in plants:
        found |= embedded(plant, [event for event in events if isinstance(event, Flow | Loss) and event.plant == plant])[0]
    return found


def test_findings_are_those_of_an_embedded_run(cloud: Cloud) -> None:
    events: list[Event] = [window(plant, n) for n in range(300) for plant in PLANTS]
    cloud.publish(events)
    with cloud.detector(*PLANTS) as one:
        drive(one, until=lambda: cloud.judged(len(events)))
        assert one.assigned() == list(range(PARTITIONS))
    found, words = cloud.findings()
    assert found == expected(events)
    assert len(set(words)) == len(words)


def test_a_detector_dropped_at_any_moment_is_taken_up_without_a_trace(cloud: Cloud) -> None:
    events: list[Event] = [window(plant, n) for n in range(400) for plant in PLANTS[:3]]
    cloud.publish(events[:600])
    for steps in (3, 9, 15, 30):
        with cloud.detector(*PLANTS) as one:
            for _ in range(steps):
                one.step()
            # What is not kept is forgotten here, as by kill -9; the group hears of the end, to spare the test its patience.
            one._shares.clear()
        if steps == 9:
            cloud.publish(events[600:])
    with cloud.detector(*PLANTS) as one:
        drive(one, until=lambda: cloud.judged(len(events)))
    assert cloud.findings()[0] == expected(events)


def test_a_stale_owner_can_write_nothing(cloud: Cloud) -> None:
    events: list[Event] = [window(plant, n) for n in range(100) for plant in PLANTS[:2]]
    cloud.publish(events)
    with cloud.detector(*PLANTS, keep_s=WAIT_S) as stale:
        drive(stale, until=lambda: stale.counters["events"] == len(events))
        assert sum(cloud.offsets().values()) == 0
        # Another takes the partitions while this one believes they are its own, as after a long stop.
        progress = Progress(cloud.postgres, "detect", KEY, Hiding(KEY))
        for number in range(PARTITIONS):
            progress.claim(number, "another")
        progress.close()
        worked_on = {number for number, share in stale._shares.items() if share.events}
        assert worked_on
        stale._keep(list(stale._shares.values()))
        assert not worked_on & set(stale.assigned())
        assert stale.counters["fenced"] == len(worked_on)
    assert sum(cloud.offsets().values()) == 0
    assert cloud.read("finding") == []
    with cloud.detector(*PLANTS) as one:
        drive(one, until=lambda: cloud.judged(len(events)))
    assert cloud.findings()[0] == expected(events)


def test_a_database_that_goes_away_pauses_reading_and_nothing_is_lost(cloud: Cloud, server: Database) -> None:
    events: list[Event] = [window(plant, n) for n in range(200) for plant in PLANTS[:3]]
    cloud.publish(events[:300])
    with cloud.detector(*PLANTS) as one:
        drive(one, until=lambda: cloud.judged(100))
        server.kill()
        try:
            cloud.publish(events[300:])
            drive(one, until=lambda: one.counters["away"] >= 2)
            assert one.assigned() == []
        finally:
            server.start()
        drive(one, until=lambda: cloud.judged(len(events)))
    # What had gone out when the database went, and was not struck from the outbox, goes out once more with its id.
    assert cloud.findings()[0] == expected(events)
    assert any("database is away" in line for line in cloud.lines)
    assert "the database is back" in cloud.lines


def test_a_full_disk_is_waited_for_and_a_finding_that_cannot_be_listed_stops_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = [window("north", n) for n in range(60)]
    cloud.publish(events)
    keep, troubles = Progress.keep, [StoreFull("postgresql: no room"), StoreRefused("postgresql: DataError")]

    def troubled(progress: Progress, steps: Sequence[Step], said: Collection[int] = ()) -> Kept:
        if steps and troubles:
            raise troubles.pop(0)
        return keep(progress, steps, said)

    monkeypatch.setattr(Progress, "keep", troubled)
    with cloud.detector("north") as one:
        drive(one, until=lambda: cloud.judged(len(events)))
        assert one.counters["away"] == 1
        assert one.counters["unsearchable"] > 0
    assert troubles == []
    assert cloud.findings()[0] == expected(events)


@pytest.mark.parametrize("by", ["a full disk", "another owner"])
def test_what_is_judged_while_a_step_is_written_is_forgotten_with_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    events: list[Event] = [window(plant, n) for n in range(100) for plant in PLANTS[:2]]
    keep, began, go = Progress.keep, threading.Event(), threading.Event()

    def held(progress: Progress, steps: Sequence[Step], said: Collection[int] = ()) -> Kept:
        if steps and not began.is_set():
            began.set()
            assert go.wait(WAIT_S)
            if by == "a full disk":
                raise StoreFull("postgresql: no room")
        return keep(progress, steps, said)

    monkeypatch.setattr(Progress, "keep", held)
    cloud.publish(events[:60])
    with cloud.detector(*PLANTS) as one:
        drive(one, until=began.is_set)
        cloud.publish(events[60:])
        drive(one, until=lambda: one.counters["events"] == len(events))
        assert sum(cloud.offsets().values()) == 0
        if by == "another owner":
            progress = Progress(cloud.postgres, "detect", KEY, Hiding(KEY))
            for number in range(PARTITIONS):
                progress.claim(number, "another")
            progress.close()
        go.set()
        drive(one, until=lambda: one.counters["away" if by == "a full disk" else "fenced"] > 0)
        assert sum(cloud.offsets().values()) == 0
    with cloud.detector(*PLANTS) as one:
        drive(one, until=lambda: cloud.judged(len(events)))
    assert cloud.findings()[0] == expected(events)


def test_a_bad_message_goes_to_the_rejected_with_its_reason_and_stops_nothing(cloud: Cloud) -> None:
    events: list[Event] = [window("north", n) for n in range(50)]
    cloud.publish(events[:25])
    bad = {
        "json": b"{",
        "sequence": dump(window("north", 1)).replace(b'"sequence":0', b'"sequence":-1'),
        "key is not the plant's": dump(window("east", 1)),
        "topic of another kind": dump(Loss(event_id="l", plant="north", agent="a", stage="kernel", start=time_text(0), end=time_text(1))),
    }
    for n, line in enumerate(bad.values()):
        assert cloud.publisher.send("flow", "north", f"bad{n}", line, n)
    cloud.publish(events[25:])
    with cloud.detector(*PLANTS) as one:
        drive(one, until=lambda: cloud.judged(len(events) + len(bad)))
        assert one.counters["rejected"] == len(bad)
    rejected = cloud.read("rejected", len(bad))
    assert {message["value"] for message in rejected} == set(bad.values())
    reasons = {message["value"]: message["headers"]["ce_reason"].decode().casefold() for message in rejected}
    assert all(said in reasons[line] for said, line in bad.items()), reasons
    assert cloud.findings()[0] == expected(events)


def test_while_the_rejected_do_not_arrive_no_more_is_read_than_a_step_and_the_group_keeps_its_member(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One broker cannot keep one topic from taking anything and serve the others.
    monkeypatch.setattr("hopwatch.detect.KEEP_EVENTS_MAX", 100)
    monkeypatch.setattr("hopwatch.detect.POLL_EVENTS", 20)
    reject = Publisher.reject
    monkeypatch.setattr(Publisher, "reject", lambda *_: False)
    events: list[Event] = [window(plant, n) for n in range(150) for plant in PLANTS[:2]]
    assert cloud.publisher.send("flow", "north", "bad", b"{", 0)
    cloud.publish(events)
    with cloud.detector(*PLANTS) as one:
        drive(one, until=lambda: one.counters["rejected"] == 1 and one.counters["events"] >= 100)
        drive(one, until=partial(past, time.monotonic() + 2))
        assert (one.counters["events"] < 120, cloud.judged(1), one.assigned()) == (True, False, list(range(PARTITIONS)))
        monkeypatch.setattr(Publisher, "reject", reject)
        drive(one, until=lambda: cloud.judged(len(events) + 1))
    assert [message["value"] for message in cloud.read("rejected", 1)] == [b"{"]
    assert cloud.findings()[0] == expected(events)


def test_events_of_a_plant_that_nobody_declared_are_counted_and_said(cloud: Cloud) -> None:
    cloud.publish([window(plant, n) for n in range(30) for plant in ("north", "atlantis")])
    with cloud.detector("north") as one:
        drive(one, until=lambda: cloud.judged(60))
        assert one.undeclared() == {"atlantis": 30}
    assert any("atlantis 30" in line for line in cloud.lines)


def test_a_loss_on_its_own_topic_counts_where_its_agent_said_it(cloud: Cloud) -> None:
    events: list[Event] = []
    for n in range(200):
        events.append(window("north", n))
        if n % 9 == 0:
            at = time_text(START_NS + n * 50_000_000)
            span = {"start": at, "end": time_text(START_NS + (n + 3) * 50_000_000)}
            events.append(Loss(event_id=f"l{n}", plant="north", agent="tap-idmz", stage="capture", events=2, **span))
    # The agent's own order, in which a loss comes before some of the windows it covers and after others.
    for n, event in enumerate(events):
        cloud.send(event, b'"agent_sequence":%d,"spool":"ab12"' % n)
    assert cloud.publisher.flush(WAIT_S)
    with cloud.detector("north") as one:
        drive(one, until=lambda: cloud.judged(len(events)))
    found = cloud.findings()[0]
    assert found == expected(events)
    assert found != expected(sorted(events, key=lambda event: event.kind)), "the order must matter here"


def test_two_taps_of_one_connection_spend_what_one_does(cloud: Cloud) -> None:
    one_tap: list[Event] = [window("north", n) for n in range(200)]
    other_tap: list[Event] = [window("north", n, agent="tap-egress") for n in range(200)]
    cloud.publish([event for pair in zip(one_tap, other_tap, strict=True) for event in pair])
    with cloud.detector("north") as detecting:
        drive(detecting, until=lambda: cloud.judged(400))
        budgets = budgets_of(detecting)
    assert budgets == embedded("north", one_tap)[1]["budgets"]
    assert any(budgets.values())
    limits = {name: finding["differences"] for name, finding in cloud.findings()[0].items() if finding["verdict"] == "over-limit"}
    assert limits == {name: one["differences"] for name, one in expected(one_tap).items() if one["verdict"] == "over-limit"}
    assert limits


def test_a_declaration_from_the_topic_takes_force_while_it_runs_and_keeps_what_was_spent(cloud: Cloud, tmp_path: Path) -> None:
    plant = repository(tmp_path)
    events: list[Event] = [window("north", n) for n in range(60)]
    cloud.declare(plant, TEXT)
    cloud.publish(events[:30])
    editions = Editions(approvers=plant.approvers)
    with cloud.detector(editions=editions) as one:
        drive(one, until=lambda: cloud.judged(30))
        before = budgets_of(one)
        cloud.declare(plant, of_version(15))
        drive(one, until=lambda: editions.of["north"].architecture.version == 15)
        assert budgets_of(one) == before
        # Nobody but its author approved this one, and that one is older.
        cloud.declare(plant, of_version(16), signed=False)
        cloud.declare(plant, TEXT)
        drive(one, until=lambda: sum("refused" in line for line in cloud.lines) == 2)
        cloud.publish(events[30:])
        drive(one, until=lambda: cloud.judged(60))
        spent = budgets_of(one)
    assert spent == embedded("north", events)[1]["budgets"]
    words = [json.loads(message["value"])["declaration"] for message in cloud.read("finding")]
    commits = dict(zip((14, 15), plant.git("log", "--reverse", "--format=%h").split(), strict=False))
    assert {word["version"]: word["commit"] for word in words} == commits
    assert all(word["signed"] for word in words)


def test_what_was_kept_under_one_declaration_is_taken_up_under_another(cloud: Cloud) -> None:
    events: list[Event] = [window("north", n) for n in range(100)]
    cloud.publish(events[:50])
    with cloud.detector("north") as one:
        drive(one, until=lambda: cloud.judged(50))
    cloud.publish(events[50:])
    another = Edition(loads(of_version(15)), edition_name("another", None))
    with cloud.detector("north", editions=Editions(of={"north": another})) as one:
        drive(one, until=lambda: cloud.judged(100))
        assert budgets_of(one) == embedded("north", events)[1]["budgets"]
    with cloud.detector("north", editions=Editions(of={"north": another})) as one:
        drive(one, until=lambda: bool(one.assigned()))
        assert budgets_of(one) == embedded("north", events)[1]["budgets"]


def around_noon(plant: str, edge_ns: int, skew_s: int) -> Edition:
    """The plant's declaration, with an extraction that is right at ``edge_ns`` and wrong by a clock that is off by ``skew_s``.

    Its hours end at the next full minute (a clock ahead is past it), or began at the last one (a clock behind is not there yet).
    """
    minute_s = (edge_ns // 10**9 + (15 + 59 if skew_s > 0 else -15)) // 60 * 60
    # Wherever it is noon, so that no hours cross midnight.
    away = 12 - time.gmtime(minute_s).tm_hour
    edge = time.strftime("%H:%M", time.gmtime(minute_s + away * 3_600))
    hours = f"08:00-{edge}" if skew_s > 0 else f"{edge}-17:00"
    text = text_of(plant)
    for old, new in (
        ("    when: daily 01:30-03:00\n", f"    when: daily {hours}\n"),
        ("timezone: Europe/Berlin", f"timezone: Etc/GMT{-away:+d}"),
        ("review_by: 2026-09-02", "review_by: 2099-09-02"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return Edition(loads(text), edition_name(plant, None))


@pytest.mark.parametrize("every_s", [0.5, pytest.param(10.0, marks=pytest.mark.long)])
def test_clocks_ninety_seconds_off_are_said_within_six_heartbeats_and_raise_nothing_else(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, every_s: float
) -> None:
    """Six heartbeats are a minute; where they come sooner than every ten seconds, what must lie between them is as much shorter."""
    monkeypatch.setattr("detectors.clock.BEATS_NS_MIN", int(BEATS_NS_MIN * every_s / 10))
    off = {"north": 90, "east": -90, "south": 0}
    now_ns = time.time_ns()
    editions = Editions(of={plant: around_noon(plant, now_ns, skew_s or 90) for plant, skew_s in off.items()})
    with cloud.detector(*off, editions=editions) as one:
        for n in range(6):
            for plant, skew_s in off.items():
                at = time_text(time.time_ns() + skew_s * 10**9)
                cloud.send(Heartbeat(event_id=f"{plant}{n}", plant=plant, agent="tap-idmz", time=at))
            cloud.publisher.flush(WAIT_S)
            drive(one, until=partial(past, time.monotonic() + every_s))
        drive(one, until=lambda: cloud.judged(18))
        for plant, skew_s in off.items():
            for n in range(3):
                at_ns = now_ns + skew_s * 10**9 + n
                cloud.send(window(plant, n, start=time_text(at_ns), end=time_text(at_ns + 10**6)))
        assert cloud.publisher.flush(WAIT_S)
        drive(one, until=lambda: cloud.judged(27))
    found, _ = cloud.findings()
    assert {(one["plant"], one["verdict"]) for one in found.values()} == {("north", "clock"), ("east", "clock")}
    observed = {one["plant"]: one["differences"][0]["observed"] for one in found.values()}
    assert "s ahead of" in observed["north"] and "s behind" in observed["east"]
    # By a clock that nobody puts right, each of these windows lies outside its hours.
    for plant, skew_s in off.items():
        at_ns = now_ns + skew_s * 10**9
        judge: Judge[Any] = Judge(verdict_detectors(None, editions.of[plant].architecture, ""))
        (said,) = judge.judge([window(plant, 0, start=time_text(at_ns), end=time_text(at_ns + 10**6))])
        assert said.verdict == ("outside-window" if skew_s else "declared")


def test_time_passes_for_a_live_plant_of_which_nothing_comes_and_not_for_an_old_capture(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hopwatch.detect.IDLE_S", 0.2)
    now_ns = time.time_ns()
    live = {"start": time_text(now_ns - 10**9), "end": time_text(now_ns)}
    cloud.publish([window("north", 0, **live), window("east", 0)])
    with cloud.detector("north", "east") as one:
        drive(one, until=lambda: cloud.judged(2))
        engines = {name: plant.engine for share in one._shares.values() for name, plant in share.plants.items()}
        old_ns = engines["east"].now_ns
        drive(one, until=lambda: engines["north"].now_ns > now_ns + 10**9)
        assert engines["east"].now_ns == old_ns


def of_version(version: int) -> str:
    newer = TEXT.replace("version: 14", f"version: {version}")
    assert newer != TEXT
    return newer


def budgets_of(detecting: Detecting) -> Any:
    (plant,) = [share.plants["north"] for share in detecting._shares.values() if "north" in share.plants]
    return next(one.state()["budgets"] for one in plant.engine.detectors if one.name == "verdict")


class Process:
    """`hopwatch detect` as a process of its own, which this test may end at any moment."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self._cloud, self._folder = cloud, folder
        self.key, self.declaration = folder / "key", folder / "plant.yaml"
        if not self.key.exists():
            self.key.write_text(KEY.hex() + "\n")
            self.key.chmod(0o600)
            self.declaration.write_text(TEXT)
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "hopwatch.cli", "detect", "--brokers", self._cloud.connection.bootstrap_servers,
                   "--key", str(self.key), "-d", str(self.declaration), "--group", f"{self._cloud.prefix}detect",
                   "--no-questions"]  # fmt: skip  # as the embedded run it is compared with
        more = {"HOPWATCH_POSTGRES": self._cloud.postgres, "HOPWATCH_KAFKA_TOPIC_PREFIX": self._cloud.prefix, "PYTHONPATH": str(ROOT)}
        with (self._folder / "detect.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=os.environ | more, stderr=log, stdout=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(WAIT_S)


def test_rolling_restarts_under_load_say_no_finding_twice(cloud: Cloud, tmp_path: Path) -> None:
    events: list[Event] = [window("north", n) for n in range(1_200)]
    detectors = [Process(cloud, tmp_path), Process(cloud, tmp_path)]
    ends = [detectors[0].stop, detectors[1].stop, detectors[0].kill, detectors[1].stop]

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + 2 * WAIT_S
        while not cloud.judged(count):
            assert time.monotonic() < deadline, (tmp_path / "detect.log").read_text()
            time.sleep(0.05)

    try:
        for n, end in enumerate(ends):
            cloud.publish(events[n * 240 : n * 240 + 120])
            wait_for(n * 240 + 60)
            cloud.publish(events[n * 240 + 120 : n * 240 + 240])
            # Now something is read, judged, kept and on its way, all at once.
            end()
            detectors[n % 2].start()
        cloud.publish(events[len(ends) * 240 :])
        wait_for(len(events))
    finally:
        codes = [one.stop() for one in detectors]
    # One that had only just started ends as any process does.
    assert set(codes) <= {0, -signal.SIGTERM}
    found, _ = cloud.findings()
    assert found == expected(events)
    words = {(word["finding_id"], word["windows"]): word["event_id"] for word in map(as_json, cloud.read("finding"))}
    assert all(words[word["finding_id"], word["windows"]] == word["event_id"] for word in map(as_json, cloud.read("finding")))
    with psycopg.connect(cloud.postgres) as db:
        rows = db.execute("SELECT event FROM findings").fetchall()
    assert {row["finding_id"]: row["windows"] for row in (json.loads(text) for (text,) in rows)} == {
        name: finding["windows"] for name, finding in found.items()
    }


def as_json(message: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(message["value"])
    return made


def test_logins_without_a_port_name_the_connections_of_their_address_in_a_plant_in_shards(cloud: Cloud) -> None:
    def unread(n: int, host: str) -> Flow:
        ends = {"source": {"address": host, "port": 50_000 + n}, "destination": {"address": "10.20.1.21", "port": 5432}}
        said = {"opened_by": "source", "account": None, "application": None, "operation": "transfer", "objects": [], "rows": 0}
        flow_id = event_id("unread", host, n)
        return window(
            "north", n, agent="tap-idmz", **ends, **said, depth="sizes", completeness={"state": "encrypted"}, sequence=0,
            flow_id=flow_id, event_id=event_id(flow_id), connection=event_id(host, n), start=time_text(START_NS + 10**9), protocol="tls",
        )  # fmt: skip

    def login(host: str, account: str) -> Flow:
        ends = {"source": {"address": host, "port": 0}, "destination": {"address": "10.20.1.21", "port": 5432}}
        said = {"opened_by": "source", "account": account, "operation": "connect", "objects": [], "rows": 0, "bytes": 0}
        flow_id = event_id("login", host, account)
        return window(
            "north", 0, agent="dc-log", **ends, **said, depth="server-log", seen_by="server-log", sequence=0,
            flow_id=flow_id, event_id=event_id(flow_id), connection=event_id(host, account, 0), start=time_text(START_NS),
        )  # fmt: skip

    hosts = {f"10.40.9.{number}": f"analyst-{number}" for number in range(8)}
    # A feed and a tap, each a process of its own; the logins are told first, as a domain controller grants a ticket before its use.
    cloud.sharded("dc-log", 5, [login(host, account) for host, account in hosts.items()])
    cloud.sharded("tap-idmz", 5, [unread(n, host) for n in range(3) for host in hosts])
    expected = {account: (host, 4) for host, account in hosts.items()}

    def named() -> dict[str | None, tuple[str, int]]:
        return {one["who"]: (one["client"], one["windows"]) for one in cloud.findings()[0].values()}

    with cloud.detector("north") as one, cloud.detector("north") as other:
        drive(one, other, until=lambda: cloud.judged(32))
        # What was kept reaches the bus a little later.
        drive(one, other, until=lambda: len(said := named()) >= 8 and (said == expected or None in said))
    assert named() == expected
    keys = {message["key"] for message in cloud.read("flow", 32)}
    assert len(keys) > 1 and all(key.startswith(b"north/") for key in keys)

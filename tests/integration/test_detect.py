"""Detectors on a real broker and a real database: whatever ends, every window is judged once, and the findings are those of one run."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from detectors.verdict import VerdictDetector
from examples.broker import Cluster
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Publisher, Reader, Subscriber
from hopwatch.declared.load import loads
from hopwatch.detect import KINDS, Detecting, Edition, Editions, edition_name
from hopwatch.engine import Judge
from hopwatch.events import Event, Finding, Flow, Loss, dump, parse, time_text
from hopwatch.scale import verdict_detectors
from hopwatch.store.postgresql import Hiding
from hopwatch.store.progress import Progress
from hopwatch.watch import findings_of
from tests.bus.real import make_topics

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
        self._publisher: Publisher[int] = Publisher(self.connection, speaker="agents/test")
        make_topics(broker, prefix, partitions=PARTITIONS)

    def publish(self, events: list[Event], numbered: str | None = None) -> None:
        for n, event in enumerate(events):
            line = dump(event)
            if numbered is not None:
                line = b'%s,"agent_sequence":%d,"spool":"%s"}' % (line[:-1], n, numbered.encode())
            assert isinstance(event, Flow | Loss)
            while not self._publisher.send(event.kind, event.plant, event.event_id, line, n):
                self._publisher.poll(0.1)
        assert self._publisher.flush(WAIT_S)

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
            rows = db.execute("SELECT number, position FROM detector_partitions").fetchall()
        return {number: sum(position.get("offsets", {}).values()) for number, position in rows}

    def judged(self, count: int) -> bool:
        return sum(self.offsets().values()) >= count


@pytest.fixture
def cloud(broker: Cluster, prefix: str, postgres: str) -> Cloud:
    return Cloud(broker, prefix, postgres)


def drive(*detectors: Detecting, until: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not until():
        assert time.monotonic() < deadline, [dict(one.counters) for one in detectors]
        for one in detectors:
            one.step()


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

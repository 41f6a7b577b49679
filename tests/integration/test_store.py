"""`hopwatch store` on a real broker and a real database: every event once, whatever goes away, and bad ones with their reason."""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest

from examples.broker import Cluster
from examples.database import Database
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Publisher, Subscriber
from hopwatch.bus.topics import topic_name
from hopwatch.editions import Editions
from hopwatch.events import Heartbeat, dump
from hopwatch.store import StoreFull
from hopwatch.store.postgresql import Hiding, PostgresStore, Said
from hopwatch.storing import KINDS, Keeping, Storing
from tests.bus.real import clear, held, make_topics
from tests.store.test_store_postgresql import finding, flow

PARTITIONS = 2
WAIT_S = 60.0
KEY = secrets.token_bytes(32)


class Cloud:
    def __init__(self, broker: Cluster, prefix: str, postgres: str) -> None:
        self.broker, self.prefix, self.postgres = broker, prefix, postgres
        self.connection: Connection = clear(broker, prefix)
        self.lines: list[str] = []
        make_topics(broker, prefix, partitions=PARTITIONS)
        self.publisher: Publisher[int] = Publisher(self.connection, speaker="agents/test")

    def publish(self, first: int, behind: int) -> None:
        for n in range(first, behind):
            one = flow(n, plant=f"plant{n % 5}")
            while not self.publisher.send("flow", one.event["plant"], one.event["event_id"], one.line, n):
                self.publisher.poll(0.1)
        assert self.publisher.flush(WAIT_S)

    @contextmanager
    def storing(self) -> Iterator[Storing]:
        hiding = Hiding(KEY)
        made = Storing(
            partial(Subscriber, self.connection, group=f"{self.prefix}store", kinds=KINDS),
            Publisher(self.connection, speaker="store"),
            PostgresStore(self.postgres, hiding),
            hiding,
            declared=None,
            editions=Editions(),
            keeping=Keeping({}),
            clock=time.monotonic,
            say=self.lines.append,
            consumer=f"{self.prefix}store",
        )
        try:
            yield made
        finally:
            made.close()

    def count(self, table: str = "flows") -> int:
        with psycopg.connect(self.postgres) as db:
            row = db.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def cloud(broker: Cluster, prefix: str, postgres: str) -> Cloud:
    return Cloud(broker, prefix, postgres)


def drive(storing: Storing, until: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not until():
        assert time.monotonic() < deadline, dict(storing.counters)
        storing.step()


def test_every_event_is_kept_once_however_often_it_was_sent_and_read(cloud: Cloud) -> None:
    cloud.publish(0, 500)
    cloud.publish(250, 750)
    with cloud.storing() as storing:
        drive(storing, lambda: storing.counters["events"] >= 600)
        storing._offsets.clear()  # What is in hand is lost here, as by kill -9.
        storing._batch.clear()
    with cloud.storing() as storing:
        drive(storing, lambda: cloud.count() == 750)
    with cloud.storing() as storing:
        for _ in range(30):
            storing.step()
        assert storing.counters["new"] == 0
    assert cloud.count() == 750


def test_a_bad_message_goes_to_the_rejected_with_its_reason_and_stops_nothing(cloud: Cloud) -> None:
    cloud.publish(0, 20)
    good = flow(20).event
    bad = {
        "no JSON": b"{",
        "source.address": json.dumps(good | {"source": {}}).encode(),
        "start": json.dumps(good | {"start": "2026-13-01T00:00:00Z"}).encode(),
        "NumericValueOutOfRange": json.dumps(good | {"sequence": 2**70}).encode(),
        "kind": dump(Heartbeat(event_id="h", plant="north", agent="a", time="2026-04-07T10:00:00Z")),
    }
    for n, line in enumerate(bad.values()):
        cloud.publisher.send("flow", "plant1", f"bad{n}", line, n)
    cloud.publish(21, 40)
    with cloud.storing() as storing:
        drive(storing, lambda: cloud.count() == 39)
        drive(storing, lambda: storing.counters["rejected"] == len(bad) and storing.counters["batches"] > 0)
    rejected = held(cloud.broker, topic_name("rejected", cloud.prefix))
    assert {value for _, value, _ in rejected} == set(bad.values())
    reasons = {value: headers["ce_reason"].decode() for _, value, headers in rejected}
    assert all(said in reasons[line] for said, line in bad.items()), reasons


def test_while_the_rejected_do_not_arrive_little_more_is_read_and_then_all_of_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    # One broker cannot keep one topic from taking anything and serve the others.
    monkeypatch.setattr("hopwatch.storing.BATCH_EVENTS", 50)
    monkeypatch.setattr("hopwatch.storing.SAY_AGAIN_S", 0.5)
    reject = Publisher.reject
    monkeypatch.setattr(Publisher, "reject", lambda *_: False)
    cloud.publisher.send("flow", "plant1", "bad", b"{", 0)
    with cloud.storing() as storing:
        drive(storing, lambda: storing.counters["rejected"] == 1)
        cloud.publish(0, 400)
        end_s = time.monotonic() + 2
        drive(storing, lambda: time.monotonic() >= end_s)
        assert (storing.counters["events"] < 150, cloud.count()) == (True, 0)
        assert any("1 bad messages do not arrive" in line for line in cloud.lines)
        monkeypatch.setattr(Publisher, "reject", reject)
        drive(storing, lambda: cloud.count() == 400)
    assert [value for _, value, _ in held(cloud.broker, topic_name("rejected", cloud.prefix))] == [b"{"]


def test_a_database_that_goes_away_pauses_reading_and_nothing_is_lost(cloud: Cloud, server: Database) -> None:
    cloud.publish(0, 300)
    with cloud.storing() as storing:
        drive(storing, lambda: storing.counters["new"] >= 100)
        server.kill()
        try:
            cloud.publish(300, 900)
            drive(storing, lambda: storing.counters["away"] >= 2)
        finally:
            server.start()
        drive(storing, lambda: cloud.count() == 900)
    assert any("away" in line for line in cloud.lines)
    assert cloud.lines[-1] == "the database is back"


def test_a_full_disk_is_waited_for_and_nothing_is_lost(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.publish(0, 200)
    add, troubles = PostgresStore.add, [StoreFull("postgresql: could not extend file"), StoreFull("postgresql: could not extend file")]

    def troubled(store: PostgresStore, events: Sequence[Said]) -> int:
        if troubles:
            raise troubles.pop()
        return add(store, events)

    monkeypatch.setattr(PostgresStore, "add", troubled)
    with cloud.storing() as storing:
        drive(storing, lambda: cloud.count() == 200)
        assert storing.counters["away"] == 2 and storing.counters["rejected"] == 0
    assert any("could not extend file" in line for line in cloud.lines)


def test_findings_are_kept_with_their_latest_word(cloud: Cloud) -> None:
    for windows in (1, 3, 2):
        one = finding(windows, f"2026-04-07T10:00:0{windows}Z")
        cloud.publisher.send("finding", "north", one.event["event_id"], one.line, windows)
    assert cloud.publisher.flush(WAIT_S)
    with cloud.storing() as storing:
        drive(storing, lambda: cloud.count("finding_events") == 3)
    with psycopg.connect(cloud.postgres) as db:
        ((event,),) = db.execute("SELECT event FROM findings").fetchall()
    assert json.loads(event)["windows"] == 3


def test_how_long_is_kept_is_said_by_name() -> None:
    days = {"flows": 30, "judgements": 30, "outcomes": 30, "findings": 730, "finding_events": 730}
    assert Keeping.parse("flows=30, persons=7,findings=730") == Keeping(days, 7)
    for wrong in ("flow=3", "flows", "flows=0", "flows=x"):
        with pytest.raises(ValueError, match="NAME=DAYS"):
            Keeping.parse(wrong)

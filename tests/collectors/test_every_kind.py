"""What every kind of feed owes: a health signal, a bound on what it holds, and bad records that are counted and end nothing.

A kind that is new fails here until it has a case.
"""

import json
import re
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.clock import ClockState
from agent.health import Health
from collectors import dialled, netflow, tail
from collectors.asked import Asked
from collectors.feed import Feed, Told
from collectors.mqtt_broker import CONTROL
from collectors.netflow import Netflow
from collectors.postgresql_activity import PostgresqlActivity
from hopwatch.events import Flow, Loss, parse
from hopwatch.feeds import KINDS, kind
from tests.collectors import test_mqtt_broker as mqtt
from tests.collectors import test_opcua_server as opcua
from tests.collectors import test_postgresql_activity as activity
from tests.collectors.growing import FILES, Growing, Ledger

PAGES = Path(__file__).parents[2] / "docs" / "collectors"
SECRET = "hunter2"
BEGAN_S = 1_775_558_528.0
"""2026-04-07T10:42:08Z"""


class Case(ABC):
    """A feed of a kind, and what it was given."""

    feed: Feed

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.given: Ledger = Counter()
        self.lines: list[bytes] = []

    @abstractmethod
    def bad_among_good(self) -> None:
        """It reads good records with one bad one between them."""

    @abstractmethod
    def burst(self) -> bool:
        """It reads more than it may hold; whether it did not hold more."""

    @abstractmethod
    def told(self) -> Ledger:
        """What it told of what it was given."""

    def flows(self) -> list[Flow]:
        return [event for event in map(parse, self.lines) if isinstance(event, Flow)]

    def count(self, name: str) -> int:
        return self.feed.counters().get(f"{self.feed.KIND.replace('-', '_')}_{name}", 0)  # type: ignore[attr-defined]  # every kind has it


class InFiles(Case):
    """Any kind that reads files: they are the queue."""

    def __init__(self, source: type[Growing], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch)
        self.now_s = BEGAN_S
        self.source = source(folder, self.clock)
        self.given = self.source.ledger

    def clock(self) -> float:
        self.now_s += 0.001
        return self.now_s

    def open(self) -> Iterable[list[bytes]]:
        told = Told.of(self.source.told, "agent")
        self.feed = kind(told).of(told, "north", self.folder / "place")
        return self.feed.batches(lambda: False, follow=False)

    def bad_among_good(self) -> None:
        self.source.step()
        self.source.bad()
        self.source.step()
        self.source.end()
        self.lines = [line for batch in self.open() for line in batch]
        assert re.search(r" at byte \d+$", self.feed.example)

    def burst(self) -> bool:
        self.monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 2_048)
        for _ in range(60):
            self.source.step()
        self.source.end()
        waits = []
        for batch in self.open():
            self.lines += batch
            waits.append(self.count("behind_bytes"))
        return waits[0] > 2_048 and self.count("behind_bytes") == 0 and len(waits) > 5

    def told(self) -> Ledger:
        return self.source.measure(json.loads(line) for line in self.lines if line.startswith(b'{"kind":"flow"'))


class FlowRecords(Case):
    """Datagrams: the kernel holds them, and what it drops is missed by its number."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch)
        self.sequence = 0

    def open(self) -> None:
        self.feed: Netflow = Netflow.of(Told.of("netflow:s=127.0.0.1:0?from=127.0.0.1", "a"), "north", self.folder / "place", self.clock)
        self.exporter = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def clock(self) -> int:
        return int(BEGAN_S) * 10**9

    def send(self, connections: int) -> None:
        """NetFlow 5, one connection a datagram, both ways."""
        for _ in range(connections):
            ends = [(10_000 + self.sequence, 9_100), (9_100, 10_000 + self.sequence)]
            hosts = [socket.inet_aton("10.30.0.20"), socket.inet_aton("10.20.1.30")]
            records = b"".join(
                struct.pack("!4s4s4sHHIIIIHHBBBBHHBBH", *way, bytes(4), 0, 0, 1, 140, 0, 1, *ports, 0, 0x1B, 6, 0, 0, 0, 0, 0, 0)
                for way, ports in zip((hosts, hosts[::-1]), ends, strict=True)
            )
            header = struct.pack("!HHIIIIBBH", 5, 2, 2, int(BEGAN_S), 0, 2 * self.sequence, 0, 0, 0)
            self.exporter.sendto(header + records, ("127.0.0.1", self.feed.port))
            self.sequence += 1
            self.given["transfer bytes"] += 100

    def read(self) -> int:
        """Until nothing is there; the most of one batch."""
        batches = self.feed.batches(lambda: False, follow=True, sleep=lambda seconds: None)
        most = 0
        while batch := next(batches):
            self.lines += batch
            most = max(most, len(batch))
        self.exporter.close()
        return most

    def bad_among_good(self) -> None:
        self.open()
        self.send(2)
        self.exporter.sendto(b"\0\5" + SECRET.encode() * 9, ("127.0.0.1", self.feed.port))
        self.send(2)
        self.read()
        assert "127.0.0.1: a datagram of 65 bytes" in self.feed.example

    def burst(self) -> bool:
        self.monkeypatch.setattr(netflow, "DATAGRAMS_MAX", 5)
        self.open()
        self.send(23)
        return self.read() == 5

    def told(self) -> Ledger:
        return Counter({"transfer bytes": sum(flow.bytes for flow in self.flows())})


class Heard(Case):
    """A server that is dialled: the queue between the network's thread and the reader, at which the thread waits."""

    def wait(self, put: Callable[[], None], read: Callable[[], Sequence[bytes]]) -> bool:
        """Whether ``put`` had to wait, and went on when it was read."""
        heard = self.feed._heard  # type: ignore[attr-defined]  # of those that dial
        writer = threading.Thread(target=put, daemon=True)
        writer.start()
        while writer.is_alive() and not heard.waits_total:
            writer.join(0.01)
        waited = writer.is_alive() and self.count("waits") > 0
        while writer.is_alive() or not heard.empty:
            self.lines += read()
            writer.join(0.001)
        self.lines += read()
        return waited

    def small(self) -> None:
        self.monkeypatch.setattr(dialled, "HEARD_MAX", 3)
        self.monkeypatch.setattr(dialled, "WAIT_S", 0.001)


class Metered(Heard):
    def open(self) -> None:
        self.broker = mqtt.Broker(self.folder)
        self.feed = self.broker.feed

    def message(self, number: int) -> None:
        self.feed._hear(f"line/{number}", SECRET.encode(), False)  # type: ignore[attr-defined]  # as its thread does
        self.given["subscribe messages"] += 1

    def bad_among_good(self) -> None:
        self.open()
        self.lines += self.broker.says(*self.broker.in_(mqtt.BEGIN))
        self.message(1)
        self.feed._hear(f"{CONTROL}/response", b"{" + SECRET.encode(), False)  # type: ignore[attr-defined]  # as above
        self.message(2)
        self.lines += self.broker.says()
        assert self.feed.example == "10.10.5.3:1883: a listing of 8 bytes"

    def burst(self) -> bool:
        self.small()
        self.open()
        self.lines += self.broker.says(*self.broker.in_(mqtt.BEGIN))
        return self.wait(lambda: [self.message(number) for number in range(20)] and None, self.broker.says)

    def told(self) -> Ledger:
        parts = [part for flow in self.flows() for part in flow.objects if part.names[0].startswith("line/")]
        return Counter({"subscribe messages": sum(part.messages for part in parts)})


class Diagnosed(Heard):
    def open(self) -> None:
        self.server = opcua.Server(self.folder)
        self.feed = self.server.feed
        self.batches = self.server.batches()

    def answers(self, number: int, **more: Any) -> None:
        sessions = {} if more else {"a": opcua.session(values=10 * number)}
        self.feed._heard.put(opcua.answer(5 * number, sessions, **more))  # type: ignore[attr-defined]  # as its thread does
        self.given["subscribe values"] = 10 * number

    def bad_among_good(self) -> None:
        self.open()
        self.answers(0)
        self.answers(1)
        self.answers(2, unread=["a"])
        self.answers(3)
        for _ in range(5):
            self.lines += next(self.batches)
        assert self.feed.example == "10.10.1.10:4840: session a"

    def burst(self) -> bool:
        self.small()
        self.open()
        return self.wait(lambda: [self.answers(number) for number in range(20)] and None, lambda: next(self.batches))

    def told(self) -> Ledger:
        return Counter({"subscribe values": sum(flow.values for flow in self.flows())})


class Looked(Case):
    """A server that is asked: only the newest answer is held, and it has all that was in those before."""

    def feed_of(self, asks: Any) -> PostgresqlActivity:  # Any: what is asked
        told = Told.of("postgresql-activity:db=10.20.1.21:5432=mes?user=hopwatch", "agent")
        activity = PostgresqlActivity.of(told, "north", self.folder / "place", lambda: 0)
        activity._asks = asks
        return activity

    def bad_among_good(self) -> None:
        looks = [activity.look(n, activity.session(7), counts=[activity.count(n, 10 * n)]) for n in range(3)]
        looks[1]["sessions"].insert(0, [None, SECRET])
        looks[1]["counts"].insert(0, [SECRET])
        self.feed = self.feed_of(activity.Looks(*looks))
        self.lines = activity.everything(self.feed)
        self.given["select rows"] = 20
        assert self.feed.example == "a row of pg_stat_statements"

    def burst(self) -> bool:
        asked, more = [0], threading.Event()

        def ask() -> activity.Json:
            number = asked[0]
            if number:
                more.wait()
            asked[0] += 1
            if asked[0] > 20:
                raise ConnectionError
            return activity.look(number, activity.session(7), counts=[activity.count(number, 10 * number)])

        asks = Asked(ask, 0.0)
        self.feed = self.feed_of(asks)
        turns = self.feed.batches(lambda: False, follow=True, sleep=lambda seconds: None)
        self.lines += next(turns)
        more.set()
        thread = asks._thread
        assert thread is not None
        while not asks.failed_total:
            thread.join(0.01)
        self.lines += next(turns)
        self.given["select rows"] = 190
        nothing = next(turns)
        asks.stop()
        return nothing == [] and self.count("polls_failed") == 1 and "ConnectionError" in self.feed.example

    def told(self) -> Ledger:
        return Counter({"select rows": sum(flow.rows for flow in self.flows() if flow.operation == "select")})


CASES: dict[str, Callable[[Path, pytest.MonkeyPatch], Case]] = {one.kind: partial(InFiles, one) for one in FILES} | {
    "netflow": FlowRecords,
    "mqtt-broker": Metered,
    "opcua-server": Diagnosed,
    "postgresql-activity": Looked,
}


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    assert request.param in CASES, f"a kind without a case: {request.param}"
    return CASES[request.param](tmp_path, monkeypatch)


every_kind = pytest.mark.parametrize("case", KINDS, indirect=True)


@every_kind
def test_a_bad_record_is_counted_with_an_example_and_the_good_ones_are_told(case: Case) -> None:
    case.bad_among_good()
    assert sum(case.given.values()) > 0
    assert case.told() == case.given
    assert case.count("unreadable") == case.feed.unreadable >= 1
    assert SECRET not in case.feed.example + b"".join(case.lines).decode() + (case.folder / "place").read_text()


@every_kind
def test_a_burst_is_told_whole_and_never_held_whole(case: Case) -> None:
    assert case.burst()
    assert case.told() == case.given
    assert [event for event in map(parse, case.lines) if isinstance(event, Loss)] == []


@every_kind
def test_a_heartbeat_of_it_has_its_counters_under_its_own_name(case: Case, request: pytest.FixtureRequest) -> None:
    case.bad_among_good()
    beat = parse(Health("north", "feed", "1", ClockState()).heartbeat(int(BEGAN_S) * 10**9, case.feed.counters()))
    name = request.node.callspec.params["case"].replace("-", "_")
    counters = beat.counters  # type: ignore[union-attr]  # it is a heartbeat
    assert counters[f"{name}_unreadable"] >= 1
    assert [counter for counter in counters if not counter.startswith(f"{name}_")] == []
    # It has just heard its source.
    assert case.feed.lives


@pytest.mark.parametrize("name", ["mqtt-broker", "opcua-server", "netflow"])
def test_what_has_not_heard_its_source_gives_no_sign_of_life(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name](tmp_path, monkeypatch)
    case.open()  # type: ignore[attr-defined]  # of these
    assert not case.feed.lives


@pytest.mark.parametrize("name", KINDS)
def test_the_page_of_every_kind_says_its_least_privilege_and_its_health(name: str) -> None:
    table = (PAGES / "README.md").read_text()
    row = next((line for line in table.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]), "")
    pages = re.findall(r"\]\((\w[\w-]*\.md)\)", row)
    assert pages, f"{name} is not in the table"
    page = next(text for text in ((PAGES / one).read_text() for one in pages) if f"{name}:" in text)
    assert re.search(r"[Ll]east privilege", page)
    assert "## Health" in page

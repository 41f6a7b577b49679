"""From the spool to a broker that answers late, refuses, or is exchanged: nothing leaves the spool before it has arrived."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.pump import RETRY_S_MIN, Pump, addressed
from agent.spool import Spool
from collectors import packets
from tests.agent.windows import stream
from tests.collectors.frames import DAY


@dataclass(frozen=True)
class Failed:
    token: int
    reason: str
    lasting: bool


@dataclass
class Reports:
    acknowledged: list[int] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)


@dataclass
class Broker:
    """Takes at most ``room`` events at a time, and answers as the test says."""

    room: int = 100
    trouble: str | None = None
    sent: list[int] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    next: Reports = field(default_factory=Reports)
    closed: bool = False

    def send(self, kind: str, plant: str, event_id: str, line: bytes, token: int) -> bool:
        assert (kind, plant) == ("flow", "north") and f'"agent_sequence":{token},'.encode() in line
        if len(self.open) >= self.room:
            return False
        self.sent.append(token)
        self.open.append(token)
        return True

    def acknowledge(self, *tokens: int) -> None:
        self.next.acknowledged += tokens

    def fail(self, token: int, *, lasting: bool = False) -> None:
        self.next.failed.append(Failed(token, "not leader", lasting))

    def poll(self, timeout_s: float = 0.0) -> Reports:
        said, self.next = self.next, Reports()
        answered = {*said.acknowledged, *(failure.token for failure in said.failed)}
        self.open = [token for token in self.open if token not in answered]
        return said

    def stalled(self) -> list[object]:
        return []

    def counters(self) -> dict[str, int]:
        return {"in_flight": len(self.open)}

    def close(self, timeout_s: float = 10.0) -> Reports:
        self.closed = True
        return self.poll()


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def spool() -> Iterator[Spool]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        spool = Spool(Path(folder) / "spool", size_bytes_max=64 << 20)
        spool.append(stream(range(10), 1))
        yield spool
        spool.close()


def test_the_spool_forgets_only_what_everything_before_has_arrived_too(spool: Spool) -> None:
    broker = Broker()
    pump = Pump(spool, lambda: broker, Clock())
    pump.step(0)
    assert broker.sent == list(range(10))
    broker.acknowledge(1, 2, 5)
    pump.step(0)
    assert spool.waiting() == 10
    broker.acknowledge(0)
    pump.step(0)
    assert spool.waiting() == 7
    broker.acknowledge(3, 4, 6, 7, 8, 9)
    pump.step(0)
    assert spool.waiting() == 0 and pump.published_total == 10


def test_an_event_is_addressed_the_same_with_and_without_parsing_it() -> None:
    sensor = packets.sensor('line "3" \\ Süd', "tap")
    events = [line for batch in packets.from_files(sensor, [str(DAY)]) for line in batch]
    plain = [line for batch in packets.from_files(packets.sensor("süd", "tap"), [str(DAY)]) for line in batch]
    for line in [*events, *plain, b'{"kind":"loss","event_id":"0","plant":"north"}']:
        said = json.loads(line)
        assert addressed(line) == (said["kind"], said["event_id"], said["plant"])
    assert len(plain) == len(events) > 30


def test_no_more_is_sent_than_the_publisher_takes(spool: Spool) -> None:
    broker = Broker(room=4)
    pump = Pump(spool, lambda: broker, Clock())
    pump.step(0)
    pump.step(0)
    assert broker.sent == [0, 1, 2, 3]
    broker.acknowledge(0, 1)
    pump.step(0)
    pump.step(0)
    assert broker.sent == [0, 1, 2, 3, 4, 5]


def test_what_was_refused_is_sent_again_with_everything_behind_it_after_a_pause(spool: Spool) -> None:
    broker, clock = Broker(), Clock()
    pump = Pump(spool, lambda: broker, clock)
    pump.step(0)
    broker.fail(3)
    broker.acknowledge(0, 1, 2, 4)
    pump.step(0)
    # Of the rest nothing is known yet, so nothing is sent, however long it takes.
    clock.now_s += 10 * RETRY_S_MIN
    pump.step(0)
    assert len(broker.sent) == 10 and pump.trouble == "not leader"
    broker.acknowledge(*range(5, 10))
    pump.step(0)
    pump.step(0)
    assert len(broker.sent) == 10 and spool.waiting() == 7
    clock.now_s += RETRY_S_MIN
    pump.step(0)
    assert broker.sent[10:] == list(range(3, 10)) and pump.repeated_total == 7
    broker.acknowledge(*range(3, 10))
    pump.step(0)
    assert spool.waiting() == 0 and pump.trouble is None


def test_an_event_refused_for_good_is_a_loss_and_the_rest_goes_on(spool: Spool) -> None:
    broker = Broker()
    pump = Pump(spool, lambda: broker, Clock())
    pump.step(0)
    broker.fail(0, lasting=True)
    broker.acknowledge(*range(1, 10))
    pump.step(0)
    assert pump.refused_total == 1 and spool.waiting() == 1
    ((_, loss),) = spool.take(10, 1 << 20)
    assert b'"stage":"spool"' in loss and b"not leader" in loss


def test_other_settings_send_everything_again_that_was_not_acknowledged(spool: Spool) -> None:
    first, second = Broker(), Broker()
    pump = Pump(spool, lambda: first, Clock())
    pump.step(0)
    first.acknowledge(0, 1)
    pump.renew(lambda: second)
    pump.step(0)
    assert first.closed and second.sent == list(range(2, 10))


def test_what_comes_while_the_broker_is_away_waits_and_follows(spool: Spool) -> None:
    broker = Broker(room=0)
    pump = Pump(spool, lambda: broker, Clock())
    for second in range(10, 200):
        spool.append(stream(range(second, second + 1), 1))
        pump.step(0)
    broker.room = 1000
    pump.step(0)
    pump.step(0)
    assert broker.sent == list(range(200))


def test_the_end_publishes_what_came_last_while_the_broker_answers(spool: Spool) -> None:
    class Answering(Broker):
        def poll(self, timeout_s: float = 0.0) -> Reports:
            self.acknowledge(*self.open)
            return super().poll(timeout_s)

    for trouble, waiting in (("no broker", 10), (None, 0)):
        # Stopped before its first step: everything is left to the end.
        broker = Answering(room=0 if trouble else 100, trouble=trouble)
        pump = Pump(spool, lambda broker=broker: broker, Clock())  # type: ignore[misc]  # mypy cannot name the lambda's type.
        pump.trouble = trouble
        pump._stopping.set()
        pump.start()
        pump.stop()
        assert spool.waiting() == waiting and broker.closed == (trouble is None)

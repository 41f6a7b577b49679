"""`hopwatch agent` and a real broker: at least once on the topics, exactly once after what is repeated is left out, whatever is killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from collectors import packets
from examples.broker import Cluster
from hopwatch.bus.numbers import Numbers
from hopwatch.bus.topics import TOGETHER, topic_name
from tests.collectors import frames

Event = dict[str, Any]  # Any: JSON values.
TIMES = 40
END_S = 60.0


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty plant days after one another: some fifteen hundred windows."""
    day = frames.read()
    span_ns = day[-1].time_ns - day[0].time_ns + 10**9
    days = (frame.later(number * span_ns) for number in range(TIMES) for frame in day)
    return frames.write(tmp_path_factory.mktemp("capture") / "days.pcap", days)


@pytest.fixture(scope="module")
def own(capture: Path) -> dict[str, Event]:
    """The sensor's own events of the capture, by id."""
    sensor = packets.sensor("north", "tap-idmz")
    return {event["event_id"]: event for batch in packets.from_files(sensor, [str(capture)]) for event in map(json.loads, batch)}


@pytest.fixture
def topics(broker: Cluster, prefix: str) -> str:
    """The topics an agent writes to, made; their prefix."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    made = admin.create_topics([NewTopic(topic_name(kind, prefix), 3, 1) for kind in TOGETHER])
    for future in made.values():
        future.result(10)
    return prefix


def command(broker: Cluster, prefix: str, spool: Path, capture: Path, *flags: str) -> tuple[list[str], dict[str, str]]:
    said = [sys.executable, "-m", "hopwatch.cli", "agent", "-r", str(capture), "--brokers", broker.bootstrap]
    said += ["--plant", "north", "--agent", "tap-idmz", "--spool", str(spool), *flags]
    return said, os.environ | {"HOPWATCH_KAFKA_TOPIC_PREFIX": prefix}


@contextlib.contextmanager
def started(broker: Cluster, prefix: str, spool: Path, capture: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running agent, ended with the context."""
    said, environment = command(broker, prefix, spool, capture, *flags)
    process = subprocess.Popen(said, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ran(broker: Cluster, prefix: str, spool: Path, capture: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    said, environment = command(broker, prefix, spool, capture, *flags)
    return subprocess.run(said, env=environment, capture_output=True, text=True, timeout=END_S, check=False)


def arrived(broker: Cluster, prefix: str) -> list[Event]:
    """Everything on the agent's topics, repetitions too, in the order of each."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": f"{prefix}test", "enable.auto.commit": False})
    events: list[Event] = []
    try:
        for kind in TOGETHER:
            topic = topic_name(kind, prefix)
            parts = [TopicPartition(topic, number, 0) for number in range(3)]
            ends = {part.partition: consumer.get_watermark_offsets(part, timeout=10)[1] for part in parts}
            consumer.assign([part for part in parts if ends[part.partition]])
            left = {number for number, end in ends.items() if end}
            deadline = time.monotonic() + END_S
            while left and time.monotonic() < deadline:
                for message in consumer.consume(500, 1.0):
                    assert message.error() is None
                    events.append(json.loads(message.value()))
                    if message.offset() + 1 >= ends[message.partition()]:
                        left.discard(message.partition())
            assert not left
    finally:
        consumer.close()
    return events


def once(events: list[Event]) -> dict[str, Event]:
    """The flows and losses by id, as the sensor said them."""
    own = ("agent_sequence", "spool")
    return {
        event["event_id"]: {name: value for name, value in event.items() if name not in own}
        for event in events
        if event["kind"] != "heartbeat"
    }


def holes(events: list[Event]) -> dict[str, list[list[int]]]:
    numbers = Numbers()
    for event in events:
        numbers.take(event)
    assert numbers.unnumbered_total == 0
    return numbers.holes()


def awaited(true: Any, seconds: float = 30.0) -> None:  # Any: a function that is asked until it says yes.
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def test_the_topics_hold_what_the_sensor_saw(broker: Cluster, topics: str, capture: Path, own: dict[str, Event], tmp_path: Path) -> None:
    run = ran(broker, topics, tmp_path / "spool", capture)
    assert (run.returncode, run.stderr) == (0, "")
    events = arrived(broker, topics)
    assert once(events) == own
    assert holes(events) == {}
    # Read again, the spool has had them all.
    assert ran(broker, topics, tmp_path / "spool", capture).returncode == 0
    assert len([event for event in arrived(broker, topics) if event["kind"] == "flow"]) == len(own)


def test_an_agent_killed_again_and_again_loses_nothing(
    broker: Cluster, topics: str, capture: Path, own: dict[str, Event], tmp_path: Path
) -> None:
    for kill in range(3):
        with started(broker, topics, tmp_path / "spool", capture) as agent:
            # At another point of its way each time; the last ones while the broker hangs.
            if kill:
                broker.pause()
            awaited((tmp_path / "spool").exists)
            time.sleep(0.6 + 0.3 * kill)
            agent.send_signal(signal.SIGKILL)
            agent.wait()
            if kill:
                broker.resume()
    assert ran(broker, topics, tmp_path / "spool", capture).returncode == 0
    events = arrived(broker, topics)
    assert once(events) == own
    assert holes(events) == {}


def test_a_broker_that_is_away_gets_everything_when_it_is_back(
    broker: Cluster, topics: str, capture: Path, own: dict[str, Event], tmp_path: Path
) -> None:
    broker.kill()
    try:
        with started(broker, topics, tmp_path / "spool", capture) as agent:
            with pytest.raises(subprocess.TimeoutExpired):
                agent.wait(4)
            broker.start()
            assert agent.wait(END_S) == 0
    finally:
        if not broker.serves():
            broker.start()
    events = arrived(broker, topics)
    assert once(events) == own
    assert holes(events) == {}

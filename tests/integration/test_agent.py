"""`hopwatch agent` and a real broker: at least once on the topics, exactly once after what is repeated is left out, whatever is killed."""

import base64
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from collectors import packets
from examples.broker import Cluster
from hopwatch.bus.numbers import Numbers
from hopwatch.bus.topics import TOGETHER, topic_name
from hopwatch.cli import main
from tests.agent.windows import sums, window
from tests.collectors import frames

Event = dict[str, Any]  # Any: JSON values.
TIMES = 20
END_S = 60.0


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty plant days after one another: seven hundred windows."""
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
            ends = {part.partition: end_of(consumer, part) for part in parts}
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


def end_of(consumer: Consumer, part: TopicPartition) -> int:
    """The offset behind its last event; a broker that has just begun leads its partitions one after the other."""
    deadline = time.monotonic() + END_S
    while True:
        try:
            return int(consumer.get_watermark_offsets(part, timeout=10)[1])
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


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


def test_a_slow_broker_costs_neither_events_nor_memory(
    broker: Cluster, topics: str, capture: Path, own: dict[str, Event], tmp_path: Path
) -> None:
    """It answers for a tenth of the time only."""
    with started(broker, topics, tmp_path / "spool", capture) as agent:
        deadline = time.monotonic() + END_S
        try:
            while agent.poll() is None and time.monotonic() < deadline:
                broker.pause()
                time.sleep(0.45)
                broker.resume()
                time.sleep(0.05)
        finally:
            broker.resume()
        assert agent.wait(END_S) == 0
    events = arrived(broker, topics)
    assert once(events) == own
    assert holes(events) == {}


def test_segments_over_a_one_way_line_bring_the_same_events(
    broker: Cluster, topics: str, capture: Path, own: dict[str, Event], tmp_path: Path
) -> None:
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "key")], check=True, capture_output=True)
    public = subprocess.run(
        ["openssl", "pkey", "-in", str(tmp_path / "key"), "-pubout", "-outform", "DER"], check=True, capture_output=True
    )
    (tmp_path / "signers").write_text(f"tap-idmz ed25519 {base64.b64encode(public.stdout[-32:]).decode()}\n")
    run = ran(broker, topics, tmp_path / "spool", capture, "--export", str(tmp_path / "line"), "--signing-key", str(tmp_path / "key"))
    assert (run.returncode, run.stderr) == (0, "")

    def brought(*flags: str) -> subprocess.CompletedProcess[str]:
        said = [sys.executable, "-m", "hopwatch.cli", "import", str(tmp_path / "line"), "--brokers", broker.bootstrap]
        environment = os.environ | {"HOPWATCH_KAFKA_TOPIC_PREFIX": topics}
        return subprocess.run([*said, "--signers", str(tmp_path / "signers"), *flags], env=environment, capture_output=True, text=True,
                              timeout=END_S, check=False)  # fmt: skip

    first = brought()
    assert first.returncode == 0 and f"with {len(own)} events published" in first.stdout
    events = arrived(broker, topics)
    assert once(events) == own
    assert holes(events) == {}
    assert brought().stdout.startswith("0 segments")
    assert len(arrived(broker, topics)) == len(events)


def test_a_live_agent_tells_systemd_prometheus_and_the_topic_how_it_is(broker: Cluster, topics: str, tmp_path: Path) -> None:
    config = tmp_path / "hopwatch.toml"
    # Nobody listens there; what is right comes with the second reload.
    config.write_text(f'[kafka]\nbootstrap_servers = "127.0.0.1:1"\ntopic_prefix = "{topics}"\n')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    # With the one right that its unit file gives it.
    said = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw"]
    said += [sys.executable, "-m", "hopwatch.cli", "agent", "-i", "lo", "--bpf", "udp port 9", "--plant", "north", "--agent", "tap-idmz"]
    said += ["--config", str(config), "--spool", str(tmp_path / "spool"), "--metrics", f"127.0.0.1:{port}"]
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    environment.pop("WATCHDOG_PID", None)

    def heard(line: str) -> None:
        while line not in manager.recv(4096).decode().splitlines():
            pass

    process = subprocess.Popen(said, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        heard("READY=1")
        heard("WATCHDOG=1")
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        assert "hopwatch_agent_spool_limit_bytes 1.073741824e+09" in page and "hopwatch_agent_events_published_total" in page
        # A configuration that is wrong changes nothing; one that is right is used.
        config.write_text('[kafka]\nbootstrap = "x"\n')
        process.send_signal(signal.SIGHUP)
        heard("READY=1")
        config.write_text(f'spool_bytes_max = 900000\n[kafka]\nbootstrap_servers = "{broker.bootstrap}"\ntopic_prefix = "{topics}"\n')
        process.send_signal(signal.SIGHUP)
        heard("READY=1")
        process.send_signal(signal.SIGTERM)
        heard("STOPPING=1")
        _, errors = process.communicate(timeout=END_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        manager.close()
    assert process.returncode == 0
    assert "what was read before holds" in errors and "unknown key bootstrap" in errors
    assert "needs a restart: spool_bytes_max" in errors
    assert "wait to be published" not in errors
    events = arrived(broker, topics)
    beats = [event for event in events if event["kind"] == "heartbeat"]
    assert beats and beats[0]["clock"].keys() >= {"offset_s", "error_s", "synchronised", "stepped_s"}
    assert holes(events) == {}


class Line:
    """A live sensor that shows ``batches``, one a read, then nothing until ``seconds`` have passed; the broker hangs until then."""

    def __init__(self, broker: Cluster, batches: list[list[bytes]], seconds: float) -> None:
        self._broker, self._batches, self._seconds = broker, iter(batches), seconds
        self._until = 0.0

    def open_live(self, interfaces: list[str], *, bpf: str | None = None, snaplen: int = 0) -> None: ...

    def read(self, packets_max: int = 0, timeout_ms: int = 0) -> tuple[list[bytes], bool]:
        if (batch := next(self._batches, None)) is not None:
            return batch, False
        if not self._until:
            self._broker.resume()
            self._until = time.monotonic() + self._seconds
        time.sleep(0.1)
        return [], time.monotonic() >= self._until

    def finish(self, events_max: int = 0) -> list[bytes]:
        return []

    def counters(self) -> dict[str, int]:
        return {}

    def stop(self) -> None: ...


def test_an_outage_longer_than_the_spool_costs_counted_windows_and_no_memory(
    broker: Cluster, topics: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four hours of windows, eight times what the spool holds, come in seconds: windows are merged, strangers' dropped, no login is;
    every count is kept or in a loss."""
    said = [window(100_000 + flow, 0, at_s=flow * 1.2) for flow in range(3_000)]
    said += [window(flow % 40, flow // 40, at_s=3_600 + flow * 1.8) for flow in range(6_000)]
    said[::225] = [window(200_000 + number, 0, "connect", at_s=number * 360) for number in range(40)]
    # A flow is broken where a login stands in its place; it is the same flow behind it.
    monkeypatch.setenv("HOPWATCH_KAFKA_TOPIC_PREFIX", topics)
    flags = ["agent", "-i", "tap", "--brokers", broker.bootstrap, "--plant", "north", "--agent", "tap-idmz"]
    flags += ["--spool", str(tmp_path / "spool"), "--spool-bytes-max", str(1 << 20)]
    broker.pause()
    try:
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        used_s = time.process_time()
        line = Line(broker, [said[at : at + 100] for at in range(0, len(said), 100)], 5.0)
        assert main(flags, sensors=lambda *names, **how: line) == 0
        used_s = time.process_time() - used_s
        grown_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb
    finally:
        broker.resume()
    assert (tmp_path / "spool").stat().st_size <= 1 << 20
    events = arrived(broker, topics)
    lost = [event for event in events if event["kind"] == "loss"]
    kept, total = sums(events), sums([json.loads(line) for line in said])
    assert sum(loss["bytes"] for loss in lost) == total["bytes"] + total["bytes_back"] - kept["bytes"] - kept["bytes_back"]
    assert sum(loss["packets"] for loss in lost) == total["packets"] - kept["packets"]
    assert 1 <= len(lost) <= 8
    assert any("merged" in event for event in events)
    assert len({event["event_id"] for event in events if event.get("operation") == "connect"}) == 40
    # All of the four hours are accounted for: what is left, and what was lost, reaches from their beginning to their end.
    assert min(event["start"] for event in events if "start" in event) == json.loads(said[0])["start"]
    # A heartbeat among what was lost is of today, and the windows are not.
    assert max(event["end"] for event in events if "end" in event) >= json.loads(said[-1])["end"]
    assert holes(events) == {}
    assert grown_mb < 60 and used_s < 20, (grown_mb, used_s)

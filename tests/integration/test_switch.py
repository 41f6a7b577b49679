"""A switch's flow records, as softflowd makes them of the recorded day: what the tap saw of it, within the headers; and its verdict."""

import gzip
import json
import socket
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.netflow import NetflowDataflowsetV9, NetflowHeader, netflowv9_defragment

from collectors.feed import Told
from collectors.netflow import Netflow
from detectors.verdict import VerdictDetector
from examples.plant.watched import Watch, hopwatch
from hopwatch.declared.load import loads
from hopwatch.events import Flow, Loss, parse, time_ns
from hopwatch_wire import Sensor

ROOT = Path(__file__).parents[2]
CAPTURE, DECLARATION = ROOT / "examples/plant-day.pcap.gz", ROOT / "examples/plant-demo.yaml"
READY_S = 5.0
OPTIONS_BYTES_MAX = 40
"""Of TCP, in each packet (RFC 9293, 3.1): what the least header leaves in an estimate."""

Ends = frozenset[tuple[str, int]]


@dataclass
class Exported:
    """What a version said of the day."""

    datagrams: list[bytes]
    flows: list[Flow]
    losses: list[Loss]
    counters: dict[str, int]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("day") / "day.pcap"
    path.write_bytes(gzip.decompress(CAPTURE.read_bytes()))
    return path


@pytest.fixture(scope="module")
def tapped() -> tuple[dict[Ends, dict[str, Any]], list[Flow]]:
    """The tap's conversations, and its flows."""
    sensor = Sensor("demo", "tap-demo", conversations=True)
    sensor.open_file(str(CAPTURE))
    lines, ended = [], False
    while not ended:
        more, ended = sensor.read()
        lines += more
    lines += sensor.finish()
    conversations = {}
    for line in sensor.conversations():
        one = json.loads(line)
        conversations[frozenset({(one["a"], one["a_port"]), (one["b"], one["b_port"])})] = one
    return conversations, [event for event in map(parse, lines) if isinstance(event, Flow)]


@pytest.fixture(scope="module")
def seen(tapped: tuple[dict[Ends, dict[str, Any]], list[Flow]]) -> tuple[dict[Ends, dict[str, Any]], dict[Ends, str]]:
    """The tap's conversations, and what its flows call their connections."""
    return tapped[0], {ends(flow): flow.connection for flow in tapped[1]}


def ends(flow: Flow) -> Ends:
    return frozenset((one.address or "", one.port or 0) for one in (flow.source, flow.destination))


def softflowd(day: Path, port: int, version: int) -> None:
    # In its folder: softflowd 1.1.0 hangs on longer paths.
    subprocess.run(
        ["softflowd", "-r", day.name, "-n", f"127.0.0.1:{port}", "-v", str(version), "-d", "-p", "pid", "-c", "control"],
        check=True,
        capture_output=True,
        cwd=day.parent,
        timeout=READY_S,
    )


@pytest.fixture(scope="module", params=[5, 9, 10])
def exported(request: pytest.FixtureRequest, day: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return listened(day, tmp_path_factory.mktemp("place") / "place", request.param)


def listened(day: Path, place: Path, version: int) -> Exported:
    feed = Netflow.of(Told.of("netflow:switch-1=127.0.0.1:0?from=127.0.0.1", "a"), "demo", place)
    datagrams: list[bytes] = []
    hear = feed.heard
    feed.heard = lambda data, sender: (datagrams.append(data), hear(data, sender))[1]  # type: ignore[method-assign, func-returns-value]  # overheard
    softflowd(day, feed.port, version)
    events = [parse(line) for batch in feed.batches(lambda: True, follow=True) for line in batch]
    flows = [event for event in events if isinstance(event, Flow)]
    return Exported(datagrams, flows, [event for event in events if isinstance(event, Loss)], feed.counters())


def test_every_connection_is_the_taps_and_its_bytes_are_within_the_headers(
    exported: Exported, seen: tuple[dict[Ends, dict[str, Any]], dict[Ends, str]]
) -> None:
    conversations, connections = seen
    told = {ends(flow): flow for flow in exported.flows}
    assert len(told) == len(exported.flows) == len(conversations) > 15
    for who, one in conversations.items():
        flow = told[who]
        opener = (one["a"], one["a_port"]) if one["opened_by"] == "a" else (one["b"], one["b_port"])
        ahead = "ab" if (flow.source.address, flow.source.port) == (one["a"], one["a_port"]) else "ba"
        if one["opened_by"]:
            assert (flow.source.address, flow.source.port) == opener
        for side, octets in ((ahead, flow.bytes), (ahead[::-1], flow.bytes_back)):
            carried = one[f"payload_bytes_{side}"]
            assert carried <= octets <= carried + OPTIONS_BYTES_MAX * one[f"packets_{side}"], (who, side)
        assert (flow.completeness.estimated, flow.seen_by) == (True, "switch")
    common = connections.keys() & told.keys()
    assert len(common) > 15
    assert {told[one].connection for one in common} == {connections[one] for one in common}


def test_nothing_is_said_to_be_lost_of_what_came_whole(exported: Exported) -> None:
    assert (exported.losses, exported.counters["netflow_malformed"], exported.counters["netflow_templates_missing"]) == ([], 0, 0)
    assert "netflow_one_sided" not in exported.counters


def test_beside_a_tap_that_lost_nothing_the_switchs_records_add_nothing_whichever_comes_first(
    exported: Exported, tapped: tuple[dict[Ends, dict[str, Any]], list[Flow]]
) -> None:
    both = {flow.connection for flow in tapped[1]} & {flow.connection for flow in exported.flows}
    tap, switch = ([flow for flow in flows if flow.connection in both] for flows in (tapped[1], exported.flows))
    carried, guessed = (sum(flow.bytes + flow.bytes_back for flow in flows) for flows in (tap, switch))
    assert guessed > carried > 500_000
    architecture = loads(DECLARATION.read_text(encoding="utf-8"))
    for order in (tap + switch, switch + tap, sorted(tap + switch, key=lambda flow: time_ns(flow.start))):
        watching = VerdictDetector(architecture)
        judged = [watching.observe(flow)[0] for flow in order]
        assert sum(one.net["bytes"] + one.net["back"] for one in judged) == carried


@pytest.mark.parametrize("version", [5, 9])  # scapy 2.8.0 fails on softflowd's templates of IPFIX: AttributeError
def test_scapy_reads_the_same_records(day: Path, tmp_path: Path, version: int) -> None:
    exported = listened(day, tmp_path / "place", version)
    packets = netflowv9_defragment([NetflowHeader(data) for data in exported.datagrams], verb=0)  # type: ignore[no-untyped-call]  # scapy's
    read = Counter[tuple[str, int, str, int]]()
    for packet in packets:
        if packet.version == 5:
            record = packet.payload.payload
            while record.name.startswith("Netflow Record"):
                read[record.src, record.srcport, record.dst, record.dstport] += 1
                record = record.payload
            continue
        layer = packet.getlayer(NetflowDataflowsetV9)
        while layer is not None:
            for record in layer.records:
                if hasattr(record, "IPV4_SRC_ADDR"):
                    read[record.IPV4_SRC_ADDR, int(record.L4_SRC_PORT), record.IPV4_DST_ADDR, int(record.L4_DST_PORT)] += 1
            layer = layer.payload.getlayer(NetflowDataflowsetV9)
    ours = Counter[tuple[str, int, str, int]]()
    for flow in exported.flows:
        a, b = ((one.address or "", one.port or 0) for one in (flow.source, flow.destination))
        ours[*a, *b] += 1
        ours[*b, *a] += 1
    assert read == ours
    assert exported.counters["netflow_records"] == sum(read.values())


def test_the_destination_of_a_conduit_that_says_sizes_is_judged_by_the_switchs_records_alone(day: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def listens() -> bool:
        return f":{port:04X} " in Path("/proc/net/udp").read_text()

    def export() -> None:
        deadline = time.monotonic() + READY_S
        while not listens() and time.monotonic() < deadline:
            time.sleep(0.05)
        softflowd(day, port, 9)

    switch = threading.Thread(target=export)
    switch.start()
    source = f"netflow:tap-demo=127.0.0.1:{port}?from=127.0.0.1"
    flags = ["-d", str(DECLARATION), "--store", "none", "--json", "--feed", source, "--feeds-state", str(tmp_path / "place")]
    watch = Watch(subprocess.Popen(hopwatch("watch", *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    reading = threading.Thread(target=watch.read_output, daemon=True)
    reading.start()
    switch.join(2 * READY_S)
    deadline = time.monotonic() + READY_S
    # 148,000 bytes and more left for an address that nobody declared: the day's own tap says 145,000 of payload.
    while not (left := bytes_left(watch)) and time.monotonic() < deadline:
        time.sleep(0.05)
    watch.stop()
    reading.join(READY_S)
    assert left > 140_000, watch.lines


def bytes_left(watch: Watch) -> int:
    """The most that went where nobody declared anything."""
    findings = [event for _, event in watch.findings().values() if event["verdict"] == "undeclared-destination"]
    return max((event["observed"]["bytes"] for event in findings), default=0)

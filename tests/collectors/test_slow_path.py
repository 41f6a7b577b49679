"""Decoders in Python beside the packet path: what they read is exact, and what they do wrong costs only what they read."""

import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from collectors import packets
from collectors.slow import SHIPPED, Messages, NotThisProtocol
from collectors.slow.path import Feeder, Worker, slowed
from hopwatch import cli, events
from hopwatch_wire import Sensor

DATA = Path(__file__).parents[1] / "data" / "slow"
PLANT = Path(__file__).parents[2] / "benchmarks" / "detection" / "scenarios" / "plant.yaml"
SCENARIOS = ("modbus-pymodbus", "modbus-libmodbus", "iec104-c104")
PLUGINS = "tests.collectors.slow_plugins"
SECOND_NS = 1_000_000_000


def read(path: Path, plugins: Iterable[str]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    sensor = slowed(packets.sensor("north", "tap-1"), list(plugins))
    found = [json.loads(line) for batch in packets.from_files(sensor, [str(path)]) for line in batch]
    return found, sensor.counters()


def flows(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in found if event["kind"] == "flow"]


def why(found: Iterable[dict[str, Any]]) -> list[str]:
    return [event["why"].split(": ", 1)[1] for event in found if event["kind"] == "loss"]


def moved(found: Iterable[dict[str, Any]]) -> int:
    return sum(flow["bytes"] + flow["bytes_back"] for flow in flows(found))


def frame(
    port: int, from_client: bool, flags: int, sequence: int, acknowledged: int, payload: bytes = b"", server_port: int = 4000
) -> bytes:
    ends = [(b"\x0a\x00\x00\x01", port), (b"\x0a\x00\x00\x02", server_port)]
    (source, source_port), (destination, destination_port) = ends if from_client else ends[::-1]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0x4000, 64, 6, 0) + source + destination
    tcp = struct.pack(">HHIIBBHHH", source_port, destination_port, sequence, acknowledged, 0x50, flags, 0xFFFF, 0, 0)
    return b"\x02" * 12 + b"\x08\x00" + ip + tcp + payload


def capture(path: Path, said: dict[int, list[bytes]], server_port: int = 4000) -> Path:
    """A capture of connections, each its client's port and what its client says, one word of each after the other."""
    frames = []
    for port in said:
        for from_client, flags, sequence, acknowledged in ((True, 2, 99, 0), (False, 18, 499, 100), (True, 16, 100, 500)):
            frames.append(frame(port, from_client, flags, sequence, acknowledged, b"", server_port))
    place = dict.fromkeys(said, 100)
    for at in range(max(map(len, said.values()))):
        for port, words in said.items():
            if at < len(words):
                frames.append(frame(port, True, 24, place[port], 500, words[at], server_port))
                place[port] += len(words[at])
    records = b"".join(struct.pack("<IIII", 1_775_558_528, at, len(one), len(one)) + one for at, one in enumerate(frames))
    path.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + records)
    return path


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_messages_and_values_are_those_of_the_clients_own_ledger(scenario: str) -> None:
    ledger = json.loads((DATA / f"{scenario}.json").read_text())["ledger"]
    found, counters = read(DATA / f"{scenario}.pcap", [scenario.partition("-")[0]])
    messages, values = Counter[str](), Counter[str]()
    for flow in flows(found):
        events.parse(json.dumps(flow).encode())
        assert (flow["depth"], flow["protocol"], flow["seen_by"]) == ("decoded", scenario.partition("-")[0], "tap")
        messages[flow["operation"]] += flow["messages"]
        values[flow["operation"]] += flow["values"]
    assert {name: [messages[name], values[name]] for name in messages if name != "connect"} == ledger
    assert (counters["slow_degraded"], counters["slow_taken_back"], why(found)) == (0, 0, [])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_bytes_of_a_plugins_flows_are_the_stream_bytes(scenario: str) -> None:
    path = DATA / f"{scenario}.pcap"
    found, _ = read(path, [scenario.partition("-")[0]])
    assert moved(found) == moved(read(path, [])[0])
    server = [flow for flow in flows(found) if flow["operation"] == "read"]
    assert all(flow["source"]["address"] == "10.10.1.11" for flow in server)


def test_addresses_are_object_names() -> None:
    found, _ = read(DATA / "modbus-pymodbus.pcap", ["modbus"])
    names = {(flow["operation"], *part["names"]) for flow in flows(found) for part in flow["objects"]}
    assert {("read", "unit/1/coil/0-9"), ("read", "unit/1/holding/100-119"), ("read", "unit/1/input/5-129")} <= names
    assert {("write", "unit/1/holding/200-211"), ("write", "unit/1/coil/8-16"), ("write", "unit/1/coil/3")} <= names
    assert {("write", "unit/1/holding/20-21"), ("read", "unit/1/holding/10-13")} <= names
    found, _ = read(DATA / "iec104-c104.pcap", ["iec104"])
    names = {(flow["operation"], *part["names"]) for flow in flows(found) for part in flow["objects"]}
    assert {("write", "ca/47/ioa/100"), ("write", "ca/47/ioa/110"), ("subscribe", "ca/47/ioa/11")} <= names
    assert {("read", "ca/47/ioa/11-16"), ("read", "ca/47/ioa/30-32"), ("read", "ca/47")} <= names


def test_the_same_packets_give_the_same_events_however_they_are_read() -> None:
    path = str(DATA / "modbus-pymodbus.pcap")
    once, _ = read(Path(path), ["modbus"])
    sensor = slowed(packets.sensor("north", "tap-1"), ["modbus"])
    sensor.open_file(path)
    again, done = [], False
    while not done:
        lines, done = sensor.read(1, 0)
        again += [json.loads(line) for line in lines]
    while lines := sensor.finish():
        again += [json.loads(line) for line in lines]
    assert again == once
    ids = [event["event_id"] for event in once]
    assert len(set(ids)) == len(ids)


def test_a_plugin_is_asked_on_the_port_that_is_named_and_no_other() -> None:
    found, counters = read(DATA / "modbus-pymodbus.pcap", ["modbus@1502+udp/502"])
    assert ({flow["depth"] for flow in flows(found)}, counters["slow_handed"]) == ({"sizes"}, 0)


def test_what_a_built_in_decoder_reads_is_its_own(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", {50_000: [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]})
    found, counters = read(path, [f"{PLUGINS}:Echo"])
    assert ({flow["protocol"] for flow in flows(found)}, counters["slow_handed"]) == ({"http"}, 0)


WORDS = [b"\x00one", b"\x00two", b"!\x00three", b"\x00four"]


def test_an_exception_costs_the_connection_and_no_byte(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", {50_000: WORDS, 50_001: [b"\x00fine"] * 4})
    found, counters = read(path, [f"{PLUGINS}:Raises"])
    calls, rest = ([flow for flow in flows(found) if flow["operation"] == name] for name in ("call", "transfer"))
    assert sum(flow["messages"] for flow in calls) == 2 + 4
    assert [(flow["depth"], flow["bytes"]) for flow in rest] == [("sizes", len(b"!\x00three\x00four"))]
    assert moved(found) == sum(map(len, WORDS)) + 20
    assert why(found) == ["failed: ValueError; counted as bytes from here"]
    assert "secret" not in json.dumps(found)
    assert (counters["slow_failed"], counters["slow_degraded"]) == (1, 1)


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("NoList", "failed: TypeError"),
        ("NoObservation", "failed: AttributeError"),
        ("NoOperation", 'ValueError: operation "steal", expected one of connect'),
        ("NoSide", "ValueError: side \"left\", expected 'client' or 'server'"),
        ("Negative", "said a count that is none"),
        ("NoNumber", "said a count that is none"),
        ("Huge", "said a count that is none"),
        ("NotItsBytes", "claimed 1048576 bytes of 4"),
        ("TooManyNames", "ValueError: 300 names, expected at most 256"),
        ("Greedy", "failed: MemoryError"),
        ("Dies", "it ended"),
    ],
)
def test_nonsense_is_counted_as_bytes_and_told(tmp_path: Path, plugin: str, said: str) -> None:
    path = capture(tmp_path / "a.pcap", {50_000: [b"!\x00ab", b"more"]})
    found, counters = read(path, [f"{PLUGINS}:{plugin}"])
    assert [(flow["operation"], flow["depth"], flow["bytes"]) for flow in flows(found)] == [("transfer", "sizes", 8)]
    (reason,) = why(found)
    assert reason.startswith(said)
    assert counters["slow_degraded"] == 1


def test_bytes_that_are_not_its_protocol_are_no_failure(tmp_path: Path) -> None:
    found, counters = read(capture(tmp_path / "a.pcap", {50_000: WORDS}), [f"{PLUGINS}:Refuses"])
    assert {(flow["operation"], flow["depth"], flow["completeness"]["state"]) for flow in flows(found)} == {
        ("transfer", "sizes", "complete")
    }
    assert (why(found), counters["slow_failed"], counters["slow_degraded"]) == ([], 0, 0)


def test_what_a_plugin_prints_stands_among_no_answers(tmp_path: Path) -> None:
    found, _ = read(capture(tmp_path / "a.pcap", {50_000: WORDS}), [f"{PLUGINS}:Prints"])
    assert ({flow["operation"] for flow in flows(found)}, why(found)) == ({"call"}, [])


def test_a_plugin_that_claims_nothing_is_found_out(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", {50_000: [b"\x00" * 1400] * 800})
    found, counters = read(path, [f"{PLUGINS}:Hoards"])
    assert why(found) == ["too many bytes were left unclaimed; counted as bytes from here"]
    assert (moved(found), counters["slow_degraded"]) == (1400 * 800, 1)


@pytest.mark.parametrize("plugin", ["Hangs", "Endless"])
def test_a_plugin_that_does_not_answer_is_killed_and_costs_what_it_reads(tmp_path: Path, plugin: str) -> None:
    path = capture(tmp_path / "a.pcap", {50_000: [b"!\x00ab"] * 3, 50_001: [b"\x00fine"] * 3})
    sensor = Sensor("north", "tap-1")
    slow = sensor.slow_path([("echo", "tcp", 4000)])
    worker = Worker(f"{PLUGINS}:{plugin}", answer_s_max=0.3)
    worker.start()
    feeder = Feeder(slow, {"echo": worker}, live=False)
    sensor.open_file(str(path))
    while not sensor.read()[1]:
        pass
    while sensor.finish():
        pass
    while feeder.turn():
        pass
    found = [json.loads(line) for line in slow.events()]
    assert {flow["operation"] for flow in flows(found)} == {"transfer"}
    assert (moved(found), worker.killed_total) == (12 + 15, 1)
    assert len(why(found)) == 2
    # It rests now: its process is gone, and nobody waits for it.
    assert worker.ask([(9, "data", "client", b"x")]) == [["rests, as it did not answer", 0.0]]


def test_of_a_second_that_is_used_up_the_greediest_connection_is_given_up() -> None:
    class Slow:
        killed_total = 0

        def ask(self, items: list[tuple[int, str, str | None, bytes | int]]) -> list[Any]:
            return [[[], 0.2 if number == 1 else 0.001] for number, *_ in items]

    class Waiting:
        def __init__(self) -> None:
            self.said: list[Any] = []

        def take(self, timeout_ms: int = 0) -> list[Any]:
            return [(1, "p", "data", "client", b"a", 0), (2, "p", "data", "client", b"b", 0), None]

        def answer(self, answers: list[Any]) -> None:
            self.said.append(answers)

        def forsake(self, plugin: str, why: str) -> None:
            raise AssertionError

        def events(self) -> list[bytes]:
            return []

        def counters(self) -> dict[str, int]:
            return {}

    time_s = [10.0]
    waiting, worker = Waiting(), Slow()
    feeder = Feeder(waiting, {"p": worker}, live=True, clock=lambda: time_s[0])  # type: ignore[dict-item]  # It asks as a Worker does.
    feeder.turn()
    feeder.turn()
    time_s[0] += 1
    feeder.turn()
    over = "took more than 0.25 s of a second"
    assert waiting.said == [[[], [], None], [over, [], None], [over, [], None]]
    assert feeder.over_budget_total == 1


def test_a_file_waits_for_its_decoders(tmp_path: Path) -> None:
    words = [b"\x00" * 1400] * 13_000
    sensor = Sensor("north", "tap-1")
    slow = sensor.slow_path([("echo", "tcp", 4000)])
    sensor.open_file(str(capture(tmp_path / "a.pcap", {50_000: words})))
    most, done = 0, False
    while not done:
        _, done = sensor.read(65_536, 0)
        most = max(most, slow.counters()["slow_waiting_bytes"])
        while items := slow.take():
            said = [len(item[4]) if item is not None and item[4] is not None else 0 for item in items]
            slow.answer([[("call", "client", ["x"], 0, 0, 1, size, 0)] if size else None for size in said])
    while sensor.finish():
        pass
    while items := slow.take():
        slow.answer([None] * len(items))
    assert 8 << 20 <= most < 9 << 20
    assert moved(json.loads(line) for line in slow.events()) == 1400 * len(words)
    assert slow.counters()["slow_taken_back"] == 0


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        (["profinet"], "plug-in 'profinet': expected one of modbus, iec104, s7comm, enip, or package.module:Class"),
        (["no.such:Class"], "plug-in no.such:Class: cannot be loaded"),
        (["modbus@sctp/502"], "plug-in modbus@sctp/502: 'sctp/502', expected a port like 1502 or udp/1502"),
        ([f"{PLUGINS}:Echo", f"{PLUGINS}:Raises"], "there is one with the name echo already"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_said_in_one_line(plugins: list[str], message: str) -> None:
    with pytest.raises(packets.CaptureError, match="plug-in") as error:
        slowed(packets.sensor("north", "tap-1"), plugins)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_plugin_whose_process_cannot_be_started_again_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    worker = Worker(f"{PLUGINS}:Echo")
    monkeypatch.setattr(subprocess, "Popen", full)
    assert worker.ask([(1, "data", "client", b"x")] * 2) == [["cannot be loaded", 0.0]] * 2
    with pytest.raises(packets.CaptureError, match="cannot be started: Too many open files"):
        worker.start()


def test_a_gap_passes_over_the_message_that_it_hit_and_reads_the_next() -> None:
    def size(head: bytes) -> int | None:
        if head[:1] != b"m":
            raise NotThisProtocol("x")
        return None if len(head) < 2 else head[1]

    messages = Messages()
    assert messages.cut(b"m\x04ab" + b"m\x08", size) == [b"m\x04ab"]
    messages.gap(4)
    assert messages.cut(b"yz" + b"m\x03c", size) == [b"m\x03c"]
    # Nobody knows where the next one begins: the first piece that looks like one.
    messages.gap(100)
    assert messages.cut(b"zzz", size) == []
    assert messages.cut(b"m\x03d", size) == [b"m\x03d"]
    with pytest.raises(NotThisProtocol):
        messages.cut(b"zzz", size)


def test_an_undeclared_write_from_the_zone_of_models_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    def findings(*plugins: str) -> list[dict[str, Any]]:
        chosen = [word for plugin in plugins for word in ("--plugin", plugin)]
        for scenario in SCENARIOS:
            cli.main(["watch", "-r", str(DATA / f"{scenario}.pcap"), "-d", str(PLANT), "--store", "none", "--json", *chosen])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [line for line in lines if line["kind"] == "finding" and line["verdict"] == "write-back"]

    assert findings() == []
    found = findings("modbus", "iec104")
    assert {(one["severity"], one["source"], one["destination"]) for one in found} == {("critical", "10.40.9.77", "10.10.1.11")}
    assert len(found) == len(SCENARIOS)
    seen = [difference["observed"] for one in found for difference in one["differences"]]
    assert any("unit/1/" in text for text in seen) and any("ca/47/ioa/" in text for text in seen), seen


def s7(kind: int, function: int, *items: bytes, data: bytes = b"") -> bytes:
    """A job (1) or its answer (3) of S7comm in a data TPDU of COTP."""
    parameter = bytes([function, len(items)]) + b"".join(items) if function in (4, 5) else bytes([function]) + bytes(7)
    if kind == 3 and function in (4, 5):
        parameter = parameter[:2]
    error = b"\x00\x00" if kind == 3 else b""
    body = struct.pack(">BBHHHH", 0x32, kind, 0, 7, len(parameter), len(data)) + error + parameter + data
    return struct.pack(">BBH", 3, 0, 7 + len(body)) + b"\x02\xf0\x80" + body


def cip(service: int, path: bytes = b"\x20\x6b\x24\x01", data: bytes = b"") -> bytes:
    """A request of CIP as the one unconnected message of a SendRRData."""
    message = bytes([service, len(path) // 2]) + path + data
    items = struct.pack("<IHHHHHH", 0, 5, 2, 0, 0, 0xB2, len(message)) + message
    return struct.pack("<HHII8sI", 0x6F, len(items), 1, 0, b"12345678", 0) + items


S7_ITEM = bytes.fromhex("120a10020004000184000000")
SPOKEN = {
    "s7comm": (102, [
        s7(1, 0xF0), *[s7(1, 4, S7_ITEM, S7_ITEM)] * 3, s7(1, 5, S7_ITEM, data=bytes.fromhex("0004002000000001")), s7(1, 0x29), s7(1, 0x1D),
    ]),
    "enip": (44818, [
        *[cip(0x4C, data=b"\x01\x00")] * 4, *[cip(0x4D, data=b"\xc4\x00\x01\x00\x07\x00\x00\x00")] * 2, cip(0x0E), cip(0x05),
    ]),
}  # fmt: skip
TSHARKS = {
    "s7comm": ("s7comm.param.func", {"0xf0": "", "0x04": "service/read-var", "0x05": "service/write-var", "0x29": "service/plc-stop",
                                     "0x1d": "service/start-upload"}),
    "enip": ("cip.service", {"0x4c": "cip/read-tag", "0x4d": "cip/write-tag", "0x0e": "cip/get-attribute-single", "0x05": "cip/reset"}),
}  # fmt: skip


@pytest.mark.parametrize("plugin", ["s7comm", "enip"])
def test_services_are_counted_as_tshark_names_them(tmp_path: Path, plugin: str) -> None:
    port, words = SPOKEN[plugin]
    path = capture(tmp_path / "a.pcap", {50_000: words}, server_port=port)
    field, names = TSHARKS[plugin]
    told = subprocess.run(["tshark", "-r", path, "-T", "fields", "-e", field], capture_output=True, text=True, check=True).stdout
    theirs = Counter(names[f"0x{int(value, 0):02x}"] for line in told.split() for value in line.split(","))
    found, _ = read(path, [plugin])
    ours: Counter[str] = Counter()
    for flow in flows(found):
        for part in flow["objects"]:
            ours["".join(part["names"])] += part["messages"]
        assert flow["protocol"] == plugin and flow["depth"] == "decoded"
    assert sum(theirs.values()) == len(words)
    # What sets a connection up is of no service.
    theirs.pop("", None)
    assert ours == theirs
    assert moved(found) == sum(map(len, words)) and not why(found)


def test_implicit_messages_of_ethernet_ip_are_datagrams_of_their_connection(tmp_path: Path) -> None:
    def io(from_scanner: bool, number: int, data: bytes) -> bytes:
        ends = [b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"]
        items = struct.pack("<HHHIIHH", 2, 0x8002, 8, 0x00A1B2C3, number, 0xB1, len(data) + 2) + struct.pack("<H", number) + data
        udp = struct.pack(">HHHH", 2222, 2222, 8 + len(items), 0) + items
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0) + b"".join(ends if from_scanner else ends[::-1])
        return b"\x02" * 12 + b"\x08\x00" + ip + udp

    frames = [io(at % 3 != 0, at, b"\x01" * (4 if at % 3 else 20)) for at in range(30)]
    records = b"".join(struct.pack("<IIII", 1_775_558_528, at, len(one), len(one)) + one for at, one in enumerate(frames))
    path = tmp_path / "io.pcap"
    path.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + records)
    found, _ = read(path, ["enip"])
    told = {flow["source"]["address"]: flow for flow in flows(found)}
    assert {flow["protocol"] for flow in told.values()} == {"enip"} and len(flows(found)) == 2
    assert {name: (flow["operation"], flow["messages"], flow["bytes"]) for name, flow in told.items()} == {
        "10.0.0.1": ("publish", 20, 20 * 24),
        "10.0.0.2": ("publish", 10, 10 * 40),
    }
    assert {name for flow in told.values() for part in flow["objects"] for name in part["names"]} == {"cip/io"}
    assert moved(found) == 20 * 24 + 10 * 40 and not why(found)


def test_the_shipped_decoders_say_their_names() -> None:
    for name, spec in SHIPPED.items():
        worker = Worker(spec)
        assert worker.start()["name"] == name
        worker.kill()


def test_the_page_for_writers_has_an_example_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    assert len(example.splitlines()) <= 36
    (tmp_path / "gauge.py").write_text(example)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    words = [b"\x00\x05get 7", b"\x00\x08set 7", b" 42\x00\x05get", b" 7\x00\x07set 9 1"]
    path = capture(tmp_path / "a.pcap", {50_000: words})
    found, _ = read(path, ["gauge:Gauge@4000"])
    told = Counter[tuple[str, str]]()
    for flow in flows(found):
        for part in flow["objects"]:
            told[flow["operation"], *part["names"]] += part["messages"]
    assert told == {("read", "gauge/7"): 2, ("write", "gauge/7"): 1, ("write", "gauge/9"): 1}
    assert why(found) == []

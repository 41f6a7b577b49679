"""Decoders in Python on a live interface: what they do wrong costs nothing else, and what models write to a cell is found."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.utils import PcapReader

from examples.plant.network import Host, Network, network
from examples.plant.watched import Json, stored_flows, watching

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data/slow"
PLANT = ROOT / "benchmarks/detection/scenarios/plant.yaml"
ADDRESSES = {"model": "10.40.9.77", "cell": "10.10.1.11"}
PLUGINS = "tests.collectors.slow_plugins"
REQUESTS, BODY_BYTES = 400, 1_000
WAIT_S, SETTLE_S = 20.0, 2.0


@dataclass
class Told:
    """A live run: what was said, what is stored, and what the clients counted."""

    lines: list[Json]
    flows: list[Json]
    http: Counter[str]
    said: Counter[int]
    """Bytes that clients and servers of other connections sent, by the server's port."""
    ports: dict[str, int] = field(default_factory=dict)

    def of(self, name: str) -> list[Json]:
        port = self.ports[name]
        return [flow for flow in self.flows if port in (flow["source"]["port"], flow["destination"]["port"])]


def exactly(connection: socket.socket, size: int) -> None:
    while size:
        got = connection.recv(min(size, 65_536))
        assert got, "the other side ended"
        size -= len(got)


@contextmanager
def connected(place: Network, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of one connection, the client's first."""
    server: Host = place.hosts["cell"]
    listener = server.call(lambda: socket.create_server((server.address, port)))
    with listener:
        client = place.hosts["model"].call(lambda: socket.create_connection((server.address, port), timeout=WAIT_S))
        accepted, _ = listener.accept()
        accepted.settimeout(WAIT_S)
        with client, accepted:
            yield client, accepted


def played(place: Network, port: int, capture: str, said: Counter[int]) -> None:
    """What real stacks said to each other once, as it was, over a connection of now."""
    with PcapReader(str(DATA / f"{capture}.pcap")) as packets:
        segments = [packet for packet in packets if packet.haslayer(TCP)]
    opener = segments[0][TCP].sport
    seen: set[tuple[int, int]] = set()
    with connected(place, port) as (client, server):
        for packet in segments:
            body, key = bytes(packet[TCP].payload)[: packet[IP].len - 20 - 4 * packet[TCP].dataofs], (packet[TCP].sport, packet[TCP].seq)
            if {packet[TCP].sport, packet[TCP].dport} & {opener} and body and key not in seen:
                seen.add(key)
                here, there = (client, server) if packet[TCP].sport == opener else (server, client)
                here.sendall(body)
                exactly(there, len(body))
                said[port] += len(body)


def asked(place: Network, port: int, ledger: Counter[str]) -> None:
    """Requests and answers of HTTP, each counted to the byte."""
    body = b"x" * BODY_BYTES
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with connected(place, port) as (client, server):
        for number in range(REQUESTS):
            request = b"GET /lots/%d HTTP/1.1\r\nHost: cell\r\n\r\n" % number
            client.sendall(request)
            exactly(server, len(request))
            server.sendall(answer)
            exactly(client, len(answer))
            ledger.update(messages=1, up=len(request), down=len(answer))
            time.sleep(0.02)


def spoken(place: Network, port: int, word: bytes, said: Counter[int]) -> None:
    """A client that says the word until the others are done."""
    with connected(place, port) as (client, server):
        for _ in range(120):
            client.sendall(word)
            exactly(server, len(word))
            said[port] += len(word)
            time.sleep(0.06)


@pytest.fixture(scope="module")
def told(namespaces: bool, tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("live")
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="model") as place:
        text = PLANT.read_text(encoding="utf-8")
        for name, address in ADDRESSES.items():
            text = text.replace(address, place.hosts[name].address)
        declaration = folder / "plant.yaml"
        declaration.write_text(text, encoding="utf-8")
        ports = {
            name: place.port(port) for name, port in {"modbus": 502, "iec104": 2404, "http": 80, "sleeps": 4001, "fails": 4002}.items()
        }
        chosen = [f"modbus@{ports['modbus']}", f"iec104@{ports['iec104']}"]
        chosen += [f"{PLUGINS}:Sleeps@{ports['sleeps']}", f"{PLUGINS}:Fails@{ports['fails']}"]
        http, said = Counter[str](), Counter[int]()
        with watching(place, declaration, folder / "store.db", *(word for one in chosen for word in ("--plugin", one))) as watch:
            work = [
                lambda: asked(place, ports["http"], http),
                lambda: spoken(place, ports["sleeps"], b"!gone", said),
                lambda: spoken(place, ports["fails"], b"!wrong", said),
                lambda: (played(place, ports["modbus"], "modbus-pymodbus", said), played(place, ports["iec104"], "iec104-c104", said)),
            ]
            errors: list[BaseException] = []

            def run(one: object) -> None:
                try:
                    one()  # type: ignore[operator]  # a piece of work
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=run, args=(one,)) for one in work]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(3 * WAIT_S)
            assert not errors, errors
            time.sleep(SETTLE_S)
            watch.stop()
        assert not [line for line in watch.errors if "UNSIGNED" not in line], watch.errors
        return Told([event for _, event in watch.lines], stored_flows(folder / "store.db"), http, said, ports)


def test_beside_a_decoder_that_sleeps_for_ever_and_one_that_raises_other_traffic_is_counted_exactly(told: Told) -> None:
    flows = told.of("http")
    assert told.http["messages"] == REQUESTS
    assert sum(flow["messages"] for flow in flows) == REQUESTS
    down, up = ([flow for flow in flows if flow["source"]["port"] == port] for port in (told.ports["http"], None))
    assert not up
    forth = sum(flow["bytes"] for flow in down) + sum(flow["bytes_back"] for flow in flows if flow not in down)
    back = sum(flow["bytes_back"] for flow in down) + sum(flow["bytes"] for flow in flows if flow not in down)
    assert (forth, back) == (told.http["down"], told.http["up"])
    assert not [event for event in told.lines if event["kind"] == "loss" and event["stage"] in ("kernel", "capture")]


def test_the_sleeping_one_is_killed_and_every_byte_of_both_is_counted(told: Told) -> None:
    why = Counter(event["why"] for event in told.lines if event["kind"] == "loss")
    for name in ("sleeps", "fails"):
        flows = told.of(name)
        assert sum(flow["bytes"] + flow["bytes_back"] for flow in flows) == told.said[told.ports[name]]
        assert {flow["depth"] for flow in flows if flow["bytes"]} == {"sizes"}
    assert any("sleeps" in line and "not answer" in line for line in why), why
    assert any("fails" in line for line in why), why
    assert "a secret" not in json.dumps(told.lines)


def test_what_a_model_writes_to_a_cell_is_found_while_it_happens(told: Told) -> None:
    found = [event for event in told.lines if event["kind"] == "finding" and event["verdict"] == "write-back"]
    written = {name for event in found for name in event["observed"]["objects"]}
    assert {"unit/1/holding/100", "ca/47/ioa/100"} <= written
    assert {event["severity"] for event in found} == {"critical"}
    for name, capture in (("modbus", "modbus-pymodbus"), ("iec104", "iec104-c104")):
        ledger = json.loads((DATA / f"{capture}.json").read_text())["ledger"]
        values: Counter[str] = Counter()
        for flow in told.of(name):
            values[flow["operation"]] += flow["values"]
        assert values["write"] == ledger["write"][1] > 0
        assert sum(flow["bytes"] + flow["bytes_back"] for flow in told.of(name)) == told.said[told.ports[name]]

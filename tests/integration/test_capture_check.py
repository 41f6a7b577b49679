"""`hopwatch capture check` on a real interface: the kernel's own offloads, and tags that it takes off on the way."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.plant.network import Host, loopback_capture_works, namespaces_work, offload_off
from examples.plant.watched import hopwatch
from tests.collectors.frames import Frame, read

Json = dict[str, Any]  # Any: JSON values.
SECONDS = "3"
PORT = 5433
SENT_BYTES = 400_000
PAUSE_S = 0.05
PATIENCE_S = 30.0
PACE_S = 0.0002


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _checked(at: Host, interface: str, *more: str) -> Json:
    command = at.command(hopwatch("capture", "check", "-i", interface, "--seconds", SECONDS, "--json", *more))
    finished = subprocess.run(command, capture_output=True, check=False, timeout=60)
    report: Json = json.loads(finished.stdout)
    assert finished.returncode == (0 if report["good"] else 1), finished.stderr
    return report


@contextlib.contextmanager
def _traffic(server: Host, client: Host, address: str) -> Iterator[None]:
    """Connections that each carry some hundred kilobytes, until the block ends."""
    over = threading.Event()
    listening = server.call(lambda: socket.create_server((address, PORT)))

    def receive() -> None:
        with listening:
            while not over.is_set():
                accepted, _ = listening.accept()
                with accepted:
                    while accepted.recv(1 << 16):
                        pass
                    accepted.sendall(b"done")

    def send() -> None:
        while not over.wait(PAUSE_S):
            with client.call(lambda: socket.create_connection((address, PORT))) as connection:
                connection.sendall(bytes(SENT_BYTES))
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4)

    receiving, sending = threading.Thread(target=receive), threading.Thread(target=send)
    receiving.start()
    sending.start()
    try:
        yield
    finally:
        over.set()
        sending.join()
        # Wakes a receiver that still waits; one that has seen the end already listens no more.
        with contextlib.suppress(ConnectionRefusedError), client.call(lambda: socket.create_connection((address, PORT))):
            pass
        receiving.join()


@contextlib.contextmanager
def _replay(host: Host, checked: Host, frames: list[Frame]) -> Iterator[None]:
    """The frames on the cable, once `capture check` listens at its other end."""

    def send() -> None:
        until = time.monotonic() + PATIENCE_S
        while not checked.call(_is_listened_to) and time.monotonic() < until:
            time.sleep(PAUSE_S)
        host.call(replay)

    def replay() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as cable:
            cable.bind(("cable", 0))
            for frame in frames:
                cable.send(frame.data)
                time.sleep(PACE_S)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        sending.join()


def _is_listened_to() -> bool:
    """Whether a packet socket is open in the namespace of this thread (packet(7))."""
    return len(Path("/proc/thread-self/net/packet").read_text().splitlines()) > 1


def from_server(frame: Frame) -> bool:
    return frame.ends is not None and frame.ends[0][4:] < frame.ends[1][4:]


@pytest.fixture
def pair() -> Iterator[tuple[Host, Host]]:
    """Two hosts on one cable, with offloads as the kernel sets them."""
    hosts = tuple(Host(name, f"10.98.0.{n}", f"hopwatch-check-{name}-{os.getpid()}") for n, name in ((1, "a"), (2, "b")))
    first, second = hosts
    assert first.namespace and second.namespace
    try:
        for host in hosts:
            _ip("netns", "add", str(host.namespace))
        _ip("link", "add", "cable", "netns", first.namespace, "type", "veth", "peer", "name", "cable", "netns", second.namespace)
        for host in hosts:
            within = ("-n", str(host.namespace))
            _ip(*within, "addr", "add", f"{host.address}/24", "dev", "cable")
            _ip(*within, "link", "set", "cable", "up")
        yield first, second
    finally:
        for host in hosts:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", str(host.namespace))


def test_segments_that_the_kernel_joins_are_offload_and_without_offload_all_is_good(request: pytest.FixtureRequest) -> None:
    if not namespaces_work():
        # Only `lo` is there, where segments are as long as the receiver takes: nothing to name.
        assert loopback_capture_works()
        here = Host("here", "127.0.0.1", None)
        with _traffic(here, here, "127.0.0.1"):
            assert _checked(here, "lo", "--bpf", f"port {PORT}")["faults"] == []
        return
    server, client = request.getfixturevalue("pair")
    with _traffic(server, client, server.address):
        report = _checked(server, "cable")
        assert [fault["fault"] for fault in report["faults"]] == ["offload"]
        for host in (server, client):
            host.call(lambda: offload_off("cable"))
        report = _checked(server, "cable")
        assert report["faults"] == []
        assert report["counters"]["packets"] > 100
    with _replay(client, server, [frame.tagged(120) for frame in read() if frame.ends]):
        report = _checked(server, "cable")
        assert report["faults"] == []
        assert [context["vlans"] for context in report["measured"]["contexts"] if context["conversing"]] == [[120]]
    with _replay(client, server, [frame.tagged(120) for frame in read() if frame.ends and not from_server(frame)]):
        report = _checked(server, "cable")
        assert [(fault["fault"], fault["context"]) for fault in report["faults"]] == [("one-sided", "vlan:120")]

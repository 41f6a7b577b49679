"""Real tunnels and real fragments on a live bridge: what the sensor counts is what the sockets moved.

Where namespaces are refused, or the kernel has no such device, that is printed and what is there is tested.
"""

import json
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from examples.plant.network import Host, Network, namespaces_work, network
from hopwatch_wire import Sensor

LEFT, RIGHT = "10.99.0.1", "10.99.0.2"
PORT = 5201
SENT_BYTES, ANSWERED_BYTES = 300_000, 120_000
DATAGRAM_BYTES = 20_000
WAIT_S = 10.0

# Device, the addresses inside, the context of what goes through.
TUNNELS = {
    "vxlan": ("type vxlan id 7 local {local} remote {remote} dstport 4789 dev {device}", "192.168.71", "vni:7"),
    "gretap": ("type gretap key 9 local {local} remote {remote}", "192.168.72", "gre:9"),
    "ipip": ("type ipip local {local} remote {remote}", "192.168.73", None),
}


def ip(host: Host, arguments: str) -> bool:
    done = subprocess.run(host.command(["ip", *arguments.split()]), capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"ip {arguments}: {done.stderr.strip()}")
    return done.returncode == 0


def tunnel(plant: Network, name: str) -> bool:
    """A device on both hosts, whose packets travel in fragments if it takes larger ones than the bridge. False: not in this kernel."""
    kind, inside, _ = TUNNELS[name]
    for last, (host, other) in enumerate((("left", "right"), ("right", "left")), start=1):
        here, there = plant.hosts[host], plant.hosts[other]
        shown = subprocess.run(here.command(["ip", "-o", "addr", "show", "to", here.address]), capture_output=True, text=True, check=True)
        device = shown.stdout.split()[1]
        made = ip(here, f"link add {name}0 " + kind.format(local=here.address, remote=there.address, device=device))
        if not made or not ip(here, f"link set {name}0 up") or not ip(here, f"addr add {inside}.{last}/24 dev {name}0"):
            return False
        ip(here, f"link set {name}0 mtu 4000")
    return True


def exchange(plant: Network, address: str) -> None:
    """One TCP connection from left to right, counted bytes both ways."""
    listener = plant.hosts["right"].call(lambda: socket.create_server((address, PORT)))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            left = SENT_BYTES
            while left > 0:
                left -= len(connection.recv(65_536))
            connection.sendall(b"\xfd" * ANSWERED_BYTES)

    server = threading.Thread(target=serve)
    server.start()

    def ask() -> None:
        with socket.create_connection((address, PORT), timeout=WAIT_S) as connection:
            connection.sendall(b"\xfe" * SENT_BYTES)
            left = ANSWERED_BYTES
            while left > 0:
                left -= len(connection.recv(65_536))

    plant.hosts["left"].call(ask)
    server.join()
    listener.close()


def datagrams(plant: Network) -> None:
    receiver = plant.hosts["right"].call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with receiver:
        receiver.bind((RIGHT, PORT))
        receiver.settimeout(WAIT_S)

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(3):
                    sender.sendto(b"\xfe" * DATAGRAM_BYTES, (RIGHT, PORT))

        plant.hosts["left"].call(send)
        for _ in range(3):
            assert len(receiver.recv(65_535)) == DATAGRAM_BYTES


class Watching:
    """A sensor that reads until what is awaited was seen, or nothing more comes."""

    def __init__(self, plant: Network, *more: str) -> None:
        self.sensor = Sensor("north", "tap-1")
        plant.tap.call(lambda: self.sensor.open_live([plant.interface, *more]))
        self.events: list[dict[str, Any]] = []

    def read(self, seen: Callable[[], bool], *, ends: bool = True) -> None:
        until = time.monotonic() + WAIT_S
        while not seen() and time.monotonic() < until:
            batch, _ = self.sensor.read(timeout_ms=50)
            self.events += map(json.loads, batch)
        if not ends:
            return
        self.sensor.stop()
        self.events += map(json.loads, self.sensor.finish())

    def losses(self) -> list[tuple[str, str]]:
        return [(event["stage"], event["why"]) for event in self.events if event["kind"] == "loss"]

    def bytes_by_context(self) -> Counter[tuple[str, str | None, int]]:
        """Bytes by transport, context and the port they came from (0 for any but the server's)."""
        moved: Counter[tuple[str, str | None, int]] = Counter()
        for flow in (event for event in self.events if event["kind"] == "flow"):
            ends = [flow[end]["port"] if flow[end]["port"] == PORT else 0 for end in ("source", "destination")]
            if PORT in ends:
                moved[flow["transport"], flow["context"], ends[0]] += flow["bytes"]
                moved[flow["transport"], flow["context"], ends[1]] += flow["bytes_back"]
        return moved


def test_through_real_tunnels_and_in_fragments_every_byte_is_counted_once() -> None:
    if not namespaces_work():
        print("network namespaces are refused here: tunnels are shown from files alone (tests/collectors/test_tunnels.py)")
        return
    with network({"left": LEFT, "right": RIGHT}, namespaces=True, kernel_chooses="left") as plant:
        there = [name for name in TUNNELS if tunnel(plant, name)]
        print(f"tunnels of this kernel: {', '.join(there) or 'none'}")
        watching = Watching(plant)
        datagrams(plant)
        expected = Counter({("udp", None, 0): 3 * DATAGRAM_BYTES, ("udp", None, PORT): 0})
        for name in there:
            _, inside, context = TUNNELS[name]
            exchange(plant, f"{inside}.2")
            expected["tcp", context, 0] += SENT_BYTES
            expected["tcp", context, PORT] += ANSWERED_BYTES
        counters = watching.sensor.counters
        watching.read(
            lambda: counters()["fragments_reassembled"] >= 3 and counters()["packets"] > 0 and watching.bytes_by_context() == expected
        )
        assert watching.bytes_by_context() == expected
        assert counters()["fragments_incomplete"] == 0 < counters()["fragments_reassembled"]
        assert watching.losses() == []


def test_an_interface_that_is_removed_is_a_loss_and_the_other_is_read_on() -> None:
    if not namespaces_work():
        print("network namespaces are refused here: no interface can be removed")
        return
    with network({"left": LEFT, "right": RIGHT}, namespaces=True, kernel_chooses="left") as plant:
        assert ip(plant.tap, "link add second type veth peer name other")
        assert ip(plant.tap, "link set second up")
        assert ip(plant.tap, "link set other up")
        watching = Watching(plant, "second")
        assert ip(plant.tap, "link del second")
        watching.read(lambda: bool(watching.losses()), ends=False)
        datagrams(plant)
        expected = Counter({("udp", None, 0): 3 * DATAGRAM_BYTES, ("udp", None, PORT): 0})
        watching.read(lambda: watching.sensor.counters()["fragments_reassembled"] == 3)
        assert watching.bytes_by_context() == expected
        assert watching.losses()[0] == ("capture", "second: the interface went down")

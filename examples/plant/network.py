"""Hosts with the plant's own addresses, and one interface that sees all their traffic.

Each host is a network namespace joined by a veth pair to one bridge in a namespace of its own, the tap: what a mirror port
of the plant's switch would show. The kernel's segmentation and checksum offload are switched off inside, so that what is
captured is what would be on a wire: segments of at most one MTU, checksums right.

Where namespaces are refused (an ordinary container), the hosts are addresses of 127.0.0.0/8 and the tap is `lo`.
"""

import contextlib
import ctypes
import fcntl
import itertools
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
# ethtool(8) commands: receive and transmit checksums, scatter-gather, TCP segmentation, generic segmentation and receive offload.
OFFLOADS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
NAMESPACES = Path("/run/netns")
BRIDGE = "tap0"
KERNEL_CHOICE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the plant; ``namespace`` is None where it is only an address of this machine."""

    name: str
    address: str
    namespace: str | None

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread whose sockets (and whose threads' sockets) are this host's; its result or exception."""
        results: list[T] = []
        errors: list[BaseException] = []

        def body() -> None:
            try:
                if self.namespace is not None:
                    _enter(self.namespace)
                results.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=body, name=f"plant-{self.name}", daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def command(self, argv: Sequence[str]) -> list[str]:
        """``argv`` as a command that runs on this host."""
        return list(argv) if self.namespace is None else ["ip", "netns", "exec", self.namespace, *argv]

    def local_address(self) -> tuple[str, int] | None:
        """What a client socket must bind to so that its packets carry this host's address; None where they do by themselves."""
        return (self.address, 0) if self.namespace is None else None


@dataclass(frozen=True, slots=True)
class Network:
    """The plant's hosts by name, and where to listen."""

    hosts: Mapping[str, Host]
    interface: str
    tap: Host

    @property
    def namespaces(self) -> bool:
        return self.tap.namespace is not None

    def port(self, wanted: int) -> int:
        """The port a server listens on: the usual one in a namespace of its own, a free one on a machine shared with others."""
        if self.namespaces:
            return wanted
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])


def namespaces_work() -> bool:
    """Whether this process may make network namespaces and veth pairs (root with CAP_SYS_ADMIN and CAP_NET_ADMIN)."""
    if os.geteuid() != 0:
        return False
    name = f"hw{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    try:
        _ip("-n", name, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
        _ip("-n", name, "link", "add", "probe2", "type", "bridge")
    except subprocess.CalledProcessError:
        return False
    finally:
        _ip("netns", "del", name)
    return True


def loopback_capture_works() -> bool:
    """Whether this process may open a packet socket on `lo` (CAP_NET_RAW)."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError:
        return False
    return True


_numbers = itertools.count()


@contextlib.contextmanager
def network(addresses: Mapping[str, str], *, namespaces: bool, kernel_chooses: str) -> Iterator[Network]:
    """The hosts of ``addresses`` (name to IPv4 address), reachable from one another until the context ends.

    On the loopback the host ``kernel_chooses`` is 127.0.0.1, the address of clients that bind to none.
    """
    if not namespaces:
        hosts = {name: Host(name, loopback(address), None) for name, address in addresses.items()}
        hosts[kernel_chooses] = Host(kernel_chooses, KERNEL_CHOICE, None)
        yield Network(hosts, "lo", Host("tap", "127.0.0.1", None))
        return
    _remove_orphans()
    # One process may hold several plants at a time.
    prefix = f"hw{os.getpid()}-{next(_numbers)}-"
    tap = Host("tap", "", f"{prefix}tap")
    hosts = {name: Host(name, address, f"{prefix}{name}") for name, address in addresses.items()}
    try:
        _make_tap(str(tap.namespace))
        for number, host in enumerate(hosts.values()):
            _make_host(host, number, str(tap.namespace))
        yield Network(hosts, BRIDGE, tap)
    finally:
        for name in (*(host.namespace for host in hosts.values()), tap.namespace):
            if (NAMESPACES / str(name)).exists():
                _ip("netns", "del", str(name))


def loopback(address: str) -> str:
    """The address of 127.0.0.0/8 that stands for a plant address: 10.20.1.21 is 127.20.1.21, 203.0.113.10 is 127.203.113.10."""
    first, second, third, fourth = address.split(".")
    return f"127.{second}.{third}.{fourth}" if first == "10" else f"127.{first}.{third}.{fourth}"


def _make_tap(namespace: str) -> None:
    _ip("netns", "add", namespace)
    _settle(namespace)
    # No ageing and no snooping: every frame reaches the bridge's own interface once, as on a mirror port.
    _ip("-n", namespace, "link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
    _ip("-n", namespace, "link", "set", BRIDGE, "promisc", "on", "up")


def _make_host(host: Host, number: int, tap: str) -> None:
    namespace = str(host.namespace)
    _ip("netns", "add", namespace)
    _settle(namespace)
    port = f"port{number}"
    _ip("-n", namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", tap)
    _ip("-n", tap, "link", "set", port, "master", BRIDGE, "up")
    _ip("-n", namespace, "addr", "add", f"{host.address}/32", "dev", "eth0")
    _ip("-n", namespace, "link", "set", "lo", "up")
    _ip("-n", namespace, "link", "set", "eth0", "up")
    _ip("-n", namespace, "route", "add", "default", "dev", "eth0")
    host.call(lambda: offload_off("eth0"))
    Host("tap", "", tap).call(lambda: offload_off(port))


def _settle(namespace: str) -> None:
    """No IPv6 chatter, and servers that are not root may listen on 443 and 53 (in this namespace only)."""

    def write() -> None:
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0", encoding="ascii")
        for kind in ("all", "default"):
            switch = Path(f"/proc/sys/net/ipv6/conf/{kind}/disable_ipv6")
            if switch.exists():
                switch.write_text("1", encoding="ascii")

    with contextlib.suppress(OSError):  # A read-only /proc/sys costs root servers and some IPv6 frames, nothing that is compared.
        Host("", "", namespace).call(write)


def offload_off(interface: str) -> None:
    """What `ethtool -K` does for every offload: packets are then as on a wire."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as control:
        for command in OFFLOADS:
            value = bytearray(struct.pack("II", command, 0))
            pinned = (ctypes.c_char * len(value)).from_buffer(value)
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(pinned))
            with contextlib.suppress(OSError):  # Not every kernel has every switch.
                fcntl.ioctl(control, SIOCETHTOOL, request)


def _enter(namespace: str) -> None:
    """Move the calling thread (threads it starts follow) into ``namespace``: setns(2), which os has from Python 3.12 only."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (NAMESPACES / namespace).open("rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns {namespace}: {os.strerror(number)}")


def _remove_orphans() -> None:
    """Namespaces of an earlier run that was killed: their process no longer exists."""
    if not NAMESPACES.is_dir():
        return
    for path in NAMESPACES.glob("hw*-*"):
        number = path.name[2:].split("-")[0]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            _ip("netns", "del", path.name)


def _ip(*arguments: str) -> None:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    subprocess.run(["ip", *arguments], check=True, capture_output=True, env=environment)

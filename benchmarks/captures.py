"""Captures made of captures, and the ledger that belongs to each.

Everything here reads pcap, Ethernet, IPv4 and TCP by itself: what a capture holds must not be told by what is measured.
"""

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct("<IHHiIII")
RECORD = struct.Struct("<IIII")
NANO = 0xA1B23C4D
SERVER_PORTS = (5432, 1883, 4840)
CLIENT_PORT_MIN, CLIENT_PORTS = 10_000, 55_000
PORT_STEP = 997
PAUSE_NS = 1_000_000_000
# Packets of the many flows are this far apart: a million in a second.
BETWEEN_NS = 1_000
SYN, FIN = 0x02, 0x01


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the clients counted, by protocol and operation, and the stream bytes that TCP counted."""

    counted: dict[str, dict[str, int]]
    bytes: int

    def times(self, count: int) -> "Ledger":
        return Ledger({name: {unit: n * count for unit, n in units.items()} for name, units in self.counted.items()}, self.bytes * count)

    def save(self, capture: Path) -> None:
        """Beside the capture it belongs to."""
        said = json.dumps({"counted": self.counted, "bytes": self.bytes}, indent=1)
        capture.with_suffix(".json").write_text(said, encoding="utf-8")

    @classmethod
    def load(cls, capture: Path) -> "Ledger":
        said = json.loads(capture.with_suffix(".json").read_text(encoding="utf-8"))
        return cls(said["counted"], said["bytes"])


@dataclass(frozen=True, slots=True)
class Packet:
    """One TCP packet's places in the file, and what of it is changed in a copy."""

    at: int
    size: int
    time_ns: int
    ip: int
    tcp: int
    client_end: int  # 0: the client is the source, 1: the destination
    flags: int
    payload: int

    @property
    def record(self) -> slice:
        return slice(self.at, self.at + RECORD.size + self.size)


def packets_of(data: bytes | bytearray) -> Iterator[Packet]:
    """Every TCP packet of a pcap with nanoseconds and Ethernet, as written by `tcpdump --time-stamp-precision=nano`."""
    if HEADER.unpack_from(data)[0] != NANO:
        raise ValueError("expected a pcap of this machine's byte order, with nanoseconds")
    at = HEADER.size
    while at < len(data):
        seconds, nanos, size, _ = RECORD.unpack_from(data, at)
        ip = at + RECORD.size + 14
        if data[ip + 9] != 6 or data[ip - 2 : ip] != b"\x08\x00":
            raise ValueError("expected IPv4 and TCP only")
        tcp = ip + (data[ip] & 15) * 4
        payload = int.from_bytes(data[ip + 2 : ip + 4], "big") - (tcp - ip) - (data[tcp + 12] >> 4) * 4
        source = int.from_bytes(data[tcp : tcp + 2], "big")
        yield Packet(at, size, seconds * 10**9 + nanos, ip, tcp, int(source in SERVER_PORTS), data[tcp + 13], payload)
        at += RECORD.size + size


def stream_bytes(path: Path) -> int:
    """Bytes of all streams, both ways, by TCP's own count: from the SYN's sequence number to the end (RFC 9293, 3.4)."""
    data = path.read_bytes()
    first: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    for packet in packets_of(data):
        end = data[packet.ip + 12 : packet.ip + 20] + data[packet.tcp : packet.tcp + 4]
        sequence = int.from_bytes(data[packet.tcp + 4 : packet.tcp + 8], "big")
        if packet.flags & SYN:
            first[end] = sequence + 1
        if end not in first:
            raise ValueError("a connection began before the recording")
        # Long streams wrap: the distance is what counts, and it only grows.
        reached = (sequence + packet.payload - first[end]) & 0xFFFFFFFF
        before = last.get(end, 0)
        step = (reached - before) & 0xFFFFFFFF
        # What acknowledges a FIN stands one past the end.
        if step < 1 << 31 and packet.payload:
            last[end] = before + step
    return sum(last.values())


def repeated(base: Path, target: Path, times: int) -> int:
    """``base`` ``times`` times, each copy later and from other client ports; returns the packets."""
    original = base.read_bytes()
    packets = list(packets_of(original))
    first_ns, last_ns = packets[0].time_ns, max(packet.time_ns for packet in packets)
    span_ns = last_ns - first_ns + PAUSE_NS
    used: set[tuple[bytes, int]] = set()
    with target.open("wb") as out:
        out.write(original[: HEADER.size])
        for number in range(times):
            copy = bytearray(original)
            ends = _shift(copy, packets, number * PORT_STEP, number * span_ns)
            if used & ends:
                raise ValueError("two copies use the same client port")
            used |= ends
            out.write(memoryview(copy)[HEADER.size :])
    return len(packets) * times


def _shift(copy: bytearray, packets: list[Packet], ports: int, later_ns: int) -> set[tuple[bytes, int]]:
    ends: set[tuple[bytes, int]] = set()
    stamp, port_at = struct.Struct("<II").pack_into, struct.Struct(">H")
    for packet in packets:
        stamp(copy, packet.at, *divmod(packet.time_ns + later_ns, 10**9))
        place = packet.tcp + 2 * packet.client_end
        port = port_at.unpack_from(copy, place)[0]
        moved = CLIENT_PORT_MIN + (port - CLIENT_PORT_MIN + ports) % CLIENT_PORTS
        if packet.flags & SYN:
            ends.add((bytes(copy[packet.ip + 12 + 4 * packet.client_end : packet.ip + 16 + 4 * packet.client_end]), moved))
        if moved != port:
            port_at.pack_into(copy, place, moved)
            _mend(copy, packet.tcp + 16, port, moved)
    return ends


def _mend(copy: bytearray, at: int, old: int, new: int) -> None:
    """A checksum after one 16-bit word changed (RFC 1624, equation 3)."""
    total = (~int.from_bytes(copy[at : at + 2], "big") & 0xFFFF) + (~old & 0xFFFF) + new
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    copy[at : at + 2] = (~total & 0xFFFF).to_bytes(2, "big")


def many_flows(visit: Path, target: Path, flows: int, at_once: int, seed: int) -> int:
    """``flows`` copies of one connection, each of a client of its own, ``at_once`` of them open at any time, their packets in
    random order; returns the packets."""
    original = visit.read_bytes()
    packets = list(packets_of(original))
    templates = [bytes(original[packet.record]) for packet in packets]
    chance = random.Random(seed)
    place = bytearray(flows)
    open_flows = list(range(min(at_once, flows)))
    waiting = iter(range(len(open_flows), flows))
    time_ns = packets[0].time_ns
    with target.open("wb") as out:
        out.write(original[: HEADER.size])
        while open_flows:
            slot = int(chance.random() * len(open_flows))
            flow = open_flows[slot]
            number = place[flow]
            place[flow] += 1
            packet = packets[number]
            copy = bytearray(templates[number])
            time_ns += BETWEEN_NS
            struct.pack_into("<II", copy, 0, *divmod(time_ns, 10**9))
            address = packet.ip - packet.at + 12 + 4 * packet.client_end
            # 10.64.0.0/10 holds four million clients; both halves change, in IP's header and in TCP's pseudo-header.
            for at, new in ((address, 0x0A40 + (flow >> 16)), (address + 2, flow & 0xFFFF)):
                old = int.from_bytes(copy[at : at + 2], "big")
                copy[at : at + 2] = new.to_bytes(2, "big")
                _mend(copy, packet.ip - packet.at + 10, old, new)
                _mend(copy, packet.tcp - packet.at + 16, old, new)
            out.write(copy)
            if place[flow] == len(packets):
                following = next(waiting, None)
                if following is None:
                    open_flows[slot] = open_flows[-1]
                    open_flows.pop()
                else:
                    open_flows[slot] = following
    return flows * len(packets)


def last_connection(path: Path) -> None:
    """Leave only the connection that was opened last."""
    original = path.read_bytes()
    packets = list(packets_of(original))
    ports = [original[packet.tcp + 2 * packet.client_end :][:2] for packet in packets]
    last = next(port for packet, port in zip(reversed(packets), reversed(ports), strict=True) if packet.flags & SYN)
    path.write_bytes(original[: HEADER.size] + b"".join(original[p.record] for p, port in zip(packets, ports, strict=True) if port == last))


def slice_of(path: Path, target: Path, packets: int) -> int:
    """The first packets of a capture; how many there were."""
    with path.open("rb") as source, target.open("wb") as out:
        out.write(source.read(HEADER.size))
        for number in range(packets):
            head = source.read(RECORD.size)
            if len(head) < RECORD.size:
                return number
            out.write(head + source.read(RECORD.unpack(head)[2]))
    return packets

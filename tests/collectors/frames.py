"""A recorded day changed as a bad mirror port changes it: frames as bytes, Ethernet and IPv4, checksums left as they are."""

import gzip
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

DAY = Path(__file__).parents[2] / "examples" / "plant-day.pcap.gz"
TCP, UDP = 6, 17
MAC_BYTES = 12


@dataclass(frozen=True)
class Frame:
    """One frame of a capture; ``wire_bytes`` is its length before it was cut."""

    time_ns: int
    data: bytes
    wire_bytes: int

    @property
    def ip(self) -> bytes | None:
        """The IPv4 packet of an untagged frame."""
        return self.data[14:] if self.data[12:14] == b"\x08\x00" else None

    @property
    def protocol(self) -> int | None:
        return self.ip[9] if self.ip else None

    @property
    def ends(self) -> tuple[bytes, bytes] | None:
        """Address and port of source and destination, of TCP and UDP."""
        if self.ip is None or self.protocol not in (TCP, UDP):
            return None
        at = (self.ip[0] & 15) * 4
        return self.ip[12:16] + self.ip[at : at + 2], self.ip[16:20] + self.ip[at + 2 : at + 4]

    def with_data(self, data: bytes) -> "Frame":
        return replace(self, data=data, wire_bytes=len(data))

    def tagged(self, vlan: int) -> "Frame":
        return self.with_data(self.data[:MAC_BYTES] + struct.pack(">HH", 0x8100, vlan) + self.data[MAC_BYTES:])

    def routed(self) -> "Frame":
        """Behind a router: one hop less, other MAC addresses."""
        if self.ip is None:
            return self
        data = bytearray(self.data)
        data[5] ^= 0x55
        data[11] ^= 0x55
        data[14 + 8] -= 1
        return self.with_data(bytes(data))

    def later(self, by_ns: int) -> "Frame":
        return replace(self, time_ns=self.time_ns + by_ns)


@dataclass(frozen=True)
class Segment:
    """A TCP segment of an untagged frame."""

    start: int
    sequence: int
    acknowledgement: int
    flags: int
    payload: bytes


def segment(frame: Frame) -> Segment | None:
    if frame.ip is None or frame.protocol != TCP:
        return None
    ip = frame.ip
    at = (ip[0] & 15) * 4
    sequence, acknowledgement, offset, flags = struct.unpack_from(">IIBB", ip, at + 4)
    start = at + (offset >> 4) * 4
    return Segment(14 + start, sequence, acknowledgement, flags, ip[start : struct.unpack_from(">H", ip, 2)[0]])


def read(path: Path = DAY) -> list[Frame]:
    """The frames of a pcap file with nanoseconds in this machine's order."""
    raw = gzip.decompress(path.read_bytes())
    assert raw[:4] == struct.pack("<I", 0xA1B23C4D)
    frames, at = [], 24
    while at < len(raw):
        seconds, nanoseconds, captured, wire_bytes = struct.unpack_from("<IIII", raw, at)
        frames.append(Frame(seconds * 10**9 + nanoseconds, raw[at + 16 : at + 16 + captured], wire_bytes))
        at += 16 + captured
    return frames


def write(path: Path, frames: Iterable[Frame]) -> Path:
    """A pcap file of the frames, in the order given."""
    parts = [struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)]
    for frame in frames:
        parts.append(struct.pack("<IIII", *divmod(frame.time_ns, 10**9), len(frame.data), frame.wire_bytes) + frame.data)
    path.write_bytes(b"".join(parts))
    return path


def mirrored(frames: Iterable[Frame], again: Callable[[Frame], Frame], delay_ns: int = 30_000) -> list[Frame]:
    """Every IPv4 frame twice; the second time ``delay_ns`` later, and as ``again`` makes it."""
    twice = [copy for frame in frames for copy in ((frame, again(frame).later(delay_ns)) if frame.ip else (frame,))]
    return sorted(twice, key=lambda frame: frame.time_ns)


def joined(frames: Iterable[Frame], segment_bytes_max: int = 60_000) -> Iterator[Frame]:
    """What a network card or `lo` makes of it: consecutive segments of one direction are one, and no checksum is right."""
    waiting: Frame | None = None
    for frame in frames:
        if waiting is not None:
            first, second = segment(waiting), segment(frame)
            if (
                first is not None
                and second is not None
                and waiting.ends == frame.ends
                and first.payload
                and second.payload
                and not (first.flags | second.flags) & 0x07
                and (first.sequence + len(first.payload)) % 2**32 == second.sequence
                and len(first.payload) + len(second.payload) <= segment_bytes_max
            ):
                data = bytearray(frame.data[: second.start] + first.payload + second.payload)
                struct.pack_into(">I", data, 14 + (data[14] & 15) * 4 + 4, first.sequence)
                struct.pack_into(">H", data, 16, len(data) - 14)
                waiting = frame.with_data(bytes(data))
                continue
            yield waiting
        waiting = frame
    if waiting is not None:
        yield waiting


def on_loopback(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Joined, with no MAC addresses and the checksum that the sender's kernel leaves to a card."""
    for frame in joined(frames):
        data = bytearray(bytes(MAC_BYTES) + frame.data[MAC_BYTES:])
        if frame.ip is not None and frame.protocol in (TCP, UDP):
            at = 14 + (frame.ip[0] & 15) * 4 + (16 if frame.protocol == TCP else 6)
            data[at : at + 2] = b"\x12\x34"
        yield frame.with_data(bytes(data))

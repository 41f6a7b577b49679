"""Recordings played at other times: a story of days from packets of seconds.

Real servers and clients are recorded once, briefly (`examples.plant.record`); each recording is then placed on a tape, as often
as the story has it, at the time the story says, and stretched if it shall take longer. Nothing but the time of a packet changes,
so what is on the tape is what was on the wire. `hopwatch watch -r` reads the tape as any capture.
"""

import gzip
import heapq
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from examples.plant.record import HEADER

RECORD: Final = struct.Struct("<IIII")
"""Seconds, nanoseconds, bytes kept, bytes on the wire (draft-ietf-opsawg-pcap, 5)."""

SECOND_NS: Final = 10**9

Packet = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Played:
    """``capture`` with its first packet at ``at_ns``, every pause ``stretch`` times as long.

    With ``spread`` it is the pauses between the beginnings of connections that are so many times as long; each runs as recorded.
    """

    capture: Path
    at_ns: int
    stretch: float = 1.0
    spread: float | None = None


def play(tape: Iterable[Played], path: Path) -> None:
    """Write everything on the tape to ``path``, in the order of time."""
    with path.open("wb") as out:
        out.write(HEADER)
        for at_ns, frame in heapq.merge(*map(_placed, tape), key=lambda packet: packet[0]):
            seconds, nanoseconds = divmod(at_ns, SECOND_NS)
            out.write(RECORD.pack(seconds, nanoseconds, len(frame), len(frame)))
            out.write(frame)


def length_ns(capture: Path) -> int:
    """From the first packet of a recording to its last; 0 if it has none."""
    times = [at_ns for at_ns, _ in packets(capture)]
    return times[-1] - times[0] if times else 0


def packets(capture: Path) -> Iterator[Packet]:
    """What the recorder wrote, in the order of time.

    Raises:
        ValueError: not a capture of `examples.plant.record`.
    """
    yield from _read(capture)


# A story of a day plays some recordings thousands of times.
@lru_cache(maxsize=64)
def _read(capture: Path) -> list[Packet]:
    with gzip.open(capture, "rb") as read:
        if read.read(len(HEADER)) != HEADER:
            raise ValueError(f"{capture}: expected a capture that examples.plant.record wrote")
        found: list[Packet] = []
        while len(head := read.read(RECORD.size)) == RECORD.size:
            seconds, nanoseconds, kept, _ = RECORD.unpack(head)
            found.append((seconds * SECOND_NS + nanoseconds, read.read(kept)))
    # The kernel's stamps of two veth ends may pass one another by microseconds.
    return sorted(found, key=lambda packet: packet[0])


def _placed(played: Played) -> Iterator[Packet]:
    found = packets(played.capture)
    if played.spread is not None:
        found = iter(_spread(list(found), played.spread))
    first_ns: int | None = None
    for at_ns, frame in found:
        first_ns = at_ns if first_ns is None else first_ns
        yield played.at_ns + int((at_ns - first_ns) * played.stretch), frame


def _spread(found: list[Packet], times: float) -> list[Packet]:
    """Every connection begins ``times`` as late after the first packet."""
    begins: dict[frozenset[bytes], int] = {}
    first_ns = found[0][0] if found else 0
    moved = []
    for at_ns, frame in found:
        begin_ns = begins.setdefault(_ends(frame), at_ns)
        moved.append((at_ns + int((begin_ns - first_ns) * (times - 1)), frame))
    return sorted(moved, key=lambda packet: packet[0])


def _ends(frame: bytes) -> frozenset[bytes]:
    """Both ends of an Ethernet frame's TCP or UDP over IPv4 (RFC 791, 3.1; RFC 9293, 3.1); of any other the frame itself."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00" or frame[23] not in (6, 17):
        return frozenset((frame,))
    ports = 14 + (frame[14] & 0x0F) * 4
    return frozenset((frame[26:30] + frame[ports : ports + 2], frame[30:34] + frame[ports + 2 : ports + 4]))

"""What a sensor says of a recorded conversation: its bytes as TCP segments between two ends of our choice."""

import json
import struct
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from hopwatch.events import Flow, parse, time_ns
from hopwatch_wire import Sensor

DATA = Path(__file__).parents[1] / "data"
SEGMENT_BYTES = 1_400
SYN, ACK, FIN = 0x02, 0x10, 0x01

Place = tuple[str, int]
Script = Iterable[tuple[str, bytes]]


def recording(name: str, protocol: str = "postgresql") -> list[tuple[str, bytes]]:
    """Who said what, of a recording."""
    said = json.loads((DATA / protocol / f"{name}.json").read_text(encoding="utf-8"))
    return [(side, bytes.fromhex(data)) for side, data in said["script"]]


def spoken(script: Script, client: Place, server: Place, at: str, folder: Path) -> list[Flow]:
    """The windows of the conversation, ten milliseconds from one segment to the next."""
    ends, sequences = {"client": client, "server": server}, {"client": 1, "server": 1}
    pieces = [("client", SYN, b""), ("server", SYN | ACK, b""), ("client", ACK, b"")]
    for side, data in script:
        pieces += [(side, ACK, data[start : start + SEGMENT_BYTES]) for start in range(0, len(data), SEGMENT_BYTES)]
    pieces += [("client", FIN | ACK, b""), ("server", FIN | ACK, b""), ("client", ACK, b"")]
    frames = [struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)]
    for number, (side, flags, data) in enumerate(pieces):
        other = "server" if side == "client" else "client"
        acknowledged = sequences[other] if flags & ACK else 0
        tcp = struct.pack(">HHIIBBHHH", ends[side][1], ends[other][1], sequences[side], acknowledged, 5 << 4, flags, 65_535, 0, 0)
        addresses = b"".join(ip_address(ends[one][0]).packed for one in (side, other))
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), number & 0xFFFF, 0, 64, 6, 0) + addresses
        frame = bytes(12) + b"\x08\x00" + ip + tcp + data
        frames.append(struct.pack("<IIII", *divmod(time_ns(at) + number * 10**7, 10**9), len(frame), len(frame)) + frame)
        sequences[side] = (sequences[side] + len(data) + (1 if flags & (SYN | FIN) else 0)) & 0xFFFFFFFF
    file = folder / "spoken.pcap"
    file.write_bytes(b"".join(frames))
    sensor, lines, done = Sensor("north", "tap-idmz"), [], False
    sensor.open_file(str(file))
    while not done:
        some, done = sensor.read(10_000)
        lines += some
    events = [parse(line) for line in (*lines, *sensor.finish())]
    return [event for event in events if isinstance(event, Flow)]

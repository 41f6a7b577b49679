"""Instructions of the packet path alone for a connection made here, and what it counted there.

callgrind counts the same on a loaded machine. Of two lengths of the same connection the difference is told, so that start-up is no part
of it; `counted` asks the sensor what moved, to be held against the ledger of who made the connection.
"""

import json
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from hopwatch_wire import Sensor

REPLAY = Path(__file__).parent.parent / "wire" / "target" / "release" / "examples" / "replay"
SEGMENT_BYTES = 1448
ACK, SYN = 0x10, 0x02
CLIENT, SERVER = bytes([10, 10, 1, 10]), bytes([10, 30, 0, 10])
LINES = 10_000


def capture(path: Path, pieces: Iterable[tuple[bool, bytes]], server_port: int) -> int:
    """One connection as a capture file, a millisecond between segments; the packets. A piece is what a side (the client if true) says."""
    sequences, packets = {True: 1000, False: 500}, 0
    now_us = 1_775_000_000_000_000
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101))

        def frame(by_client: bool, number: int, acknowledged: int, flags: int, payload: bytes = b"") -> None:
            nonlocal packets
            packets += 1
            ends = (CLIENT, 50_000), (SERVER, server_port)
            (source, source_port), (destination, port) = ends if by_client else ends[::-1]
            tcp = struct.pack("!HHIIBBHHH", source_port, port, number, acknowledged, 0x50, flags, 0xFFFF, 0, 0) + payload
            packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + source + destination + tcp
            file.write(struct.pack("<IIII", now_us // 1_000_000, now_us % 1_000_000, len(packet), len(packet)) + packet)

        frame(True, sequences[True] - 1, 0, SYN)
        frame(False, sequences[False] - 1, sequences[True], SYN | ACK)
        for by_client, data in pieces:
            for start in range(0, len(data), SEGMENT_BYTES):
                piece = data[start : start + SEGMENT_BYTES]
                now_us += 1000
                frame(by_client, sequences[by_client], sequences[not by_client], ACK, piece)
                sequences[by_client] = (sequences[by_client] + len(piece)) % 2**32
    return packets


def instructions(path: Path) -> int:
    """Of the packet path alone, over one capture."""
    with tempfile.NamedTemporaryFile() as out:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", str(REPLAY), str(path)]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", finished.stderr)
    if found is None:
        raise SystemExit(f"callgrind said nothing: {finished.stderr[-300:]}")
    return int(found[1])


def each(path: Path, make: Callable[[Path, int], object], times: int) -> float:
    """Instructions for one of `times` repetitions, start-up taken off by a tenth of them; the larger capture is left at `path`."""
    counts = []
    for number in (times // 10, times):
        make(path, number)
        counts.append(instructions(path))
    return (counts[1] - counts[0]) / (times - times // 10)


def counted(path: Path) -> Counter[str]:
    """Rows by operation, and values, that the sensor counts in a capture."""
    sensor, lines, done = Sensor("bench", "tap"), [], False
    sensor.open_file(str(path))
    while not done:
        some, done = sensor.read(LINES)
        lines += some
    sums: Counter[str] = Counter()
    for event in map(json.loads, (*lines, *sensor.finish())):
        if event["kind"] == "flow":
            sums[event["operation"]] += event["rows"]
            sums["values"] += event["values"]
    return +sums

"""What a payload costs whose values are counted, beside the same bytes on a topic that nobody reads.

    cargo build --release --example replay --manifest-path wire/Cargo.toml
    python -m benchmarks.payloads [MESSAGES]

One connection for each row: a CONNECT, then QoS 0 PUBLISH packets of one kind, as many to a segment as fit. Instructions (callgrind) are
those of MESSAGES less those of a tenth of it, so that start-up is no part of them; a loaded machine measures nothing else twice the same.
"""

import random
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from examples.plant import pubsub
from examples.plant.sparkplug import EdgeNode, Table

REPLAY = Path(__file__).parent.parent / "wire" / "target" / "release" / "examples" / "replay"
SEGMENT_BYTES = 1448
MESSAGES = 20_000
FLAGS_ACK, FLAGS_SYN, FLAGS_SYN_ACK = 0x10, 0x02, 0x12
CONNECT = bytes.fromhex("101000044d5154540402003c0004") + b"edge"

Said = tuple[str, bytes, int]


def kinds() -> dict[str, Sequence[Said]]:
    """Topic, payload and values of some messages of each kind, said in turns."""
    node, random_ = EdgeNode("north", "press-1"), random.Random(7)
    tags = {f"Line1/Press/Tag{number:03}": float(number) for number in range(100)}
    birth = node.birth(tags)
    topic = node.topic("DDATA", "robot")
    same = [(topic, *node.data(dict(list(tags.items())[:10])))] * 20
    several = [(topic, *node.data({name: 1.0 for name in random_.sample(list(tags), 10)})) for _ in range(20)]
    one = [(topic, *node.data({"Line1/Press/Tag007": 2.0}))] * 20
    rows = Table(["a", "b", "c", "d"], [["text", 1.0, 2.0, 3.0]] * 25)
    fields = {f"Field{number:02}": {"Value": float(number), "SourceTimestamp": "2026-04-07T00:00:00Z"} for number in range(10)}
    json_topic, uadp_topic = pubsub.topic("json", "data", "press-1", "fast"), pubsub.topic("uadp", "data", "press-1", "fast", "state")
    born = (node.topic("DBIRTH", "robot"), *birth)
    return {
        "Sparkplug, one metric": [born, *one],
        "Sparkplug, ten metrics": [born, *same],
        "Sparkplug, ten metrics, twenty selections": [born, *several],
        "Sparkplug, a table of 100 cells": [(topic, *node.payload({"Scrap": rows}))] * 20,
        "PubSub JSON, ten fields": [(json_topic, *pubsub.json_message([fields]))] * 20,
        "PubSub UADP, 30 fields": [(uadp_topic, *pubsub.uadp_message([[1.0] * 30]))] * 20,
    }


def stream(said: Sequence[Said], messages: int) -> Iterator[bytes]:
    """CONNECT, and so many messages; what stands first is said once."""
    yield CONNECT
    first, *rest = said
    for number in range(messages):
        topic, payload, _ = first if number == 0 else rest[number % len(rest)]
        body = struct.pack("!H", len(topic)) + topic.encode() + payload
        length = b""
        left = len(body)
        while left > 0x7F:
            length += bytes([left & 0x7F | 0x80])
            left >>= 7
        yield b"\x30" + length + bytes([left]) + body


def capture(path: Path, said: Sequence[Said], messages: int) -> None:
    """The connection as a capture file, a millisecond between segments."""
    whole = b"".join(stream(said, messages))
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101))
        sequence, now_us = 1000, 1_775_000_000_000_000
        ends = (bytes([10, 10, 1, 10]), 50_000), (bytes([10, 30, 0, 10]), 1883)

        def frame(forward: bool, number: int, acknowledged: int, flags: int, payload: bytes = b"") -> None:
            (source, source_port), (destination, port) = ends if forward else ends[::-1]
            tcp = struct.pack("!HHIIBBHHH", source_port, port, number, acknowledged, 0x50, flags, 0xFFFF, 0, 0) + payload
            packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + source + destination + tcp
            file.write(struct.pack("<IIII", now_us // 1_000_000, now_us % 1_000_000, len(packet), len(packet)) + packet)

        frame(True, sequence - 1, 0, FLAGS_SYN)
        frame(False, 499, sequence, FLAGS_SYN_ACK)
        for start in range(0, len(whole), SEGMENT_BYTES):
            piece = whole[start : start + SEGMENT_BYTES]
            now_us += 1000
            frame(True, sequence, 500, FLAGS_ACK, piece)
            sequence = (sequence + len(piece)) % 2**32


def instructions(path: Path) -> int:
    """Of the packet path alone, over one capture."""
    with tempfile.NamedTemporaryFile() as out:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", str(REPLAY), str(path)]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", finished.stderr)
    if found is None:
        raise SystemExit(f"callgrind said nothing: {finished.stderr[-300:]}")
    return int(found[1])


def per_message(folder: Path, said: Sequence[Said], messages: int) -> float:
    counts = []
    for number in (messages // 10, messages):
        path = folder / f"{number}.pcap"
        capture(path, said, number)
        counts.append(instructions(path))
    return (counts[1] - counts[0]) / (messages - messages // 10)


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    print("| a message of | bytes | values | instructions | with its payload passed over | a value |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        for kind, said in kinds().items():
            _, payload, values = said[-1]
            read = per_message(Path(name), said, messages)
            plain = per_message(Path(name), [(f"x{topic}"[: len(topic)], one, 0) for topic, one, _ in said], messages)
            row = f"| {kind} | {len(payload)} | {values} | {read:,.0f} | {plain:,.0f} | {(read - plain) / values:,.0f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()

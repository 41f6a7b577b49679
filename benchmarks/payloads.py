"""What a payload costs whose values are counted, beside the same bytes on a topic that nobody reads.

    cargo build --release --example replay --manifest-path wire/Cargo.toml
    python -m benchmarks.payloads [MESSAGES]

One connection for each row: a CONNECT, then QoS 0 PUBLISH packets of one kind, as many to a segment as fit. Instructions (callgrind) are
those of MESSAGES less those of a tenth of it, so that start-up is no part of them; a loaded machine measures nothing else twice the same.
"""

import random
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.instructions import capture, each
from examples.plant import pubsub
from examples.plant.sparkplug import EdgeNode, Table

MESSAGES = 20_000
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


def per_message(folder: Path, said: Sequence[Said], messages: int) -> float:
    def write(path: Path, number: int) -> None:
        # Segments are full: how many messages one has is part of what a message costs.
        capture(path, [(True, b"".join(stream(said, number)))], 1883)

    return each(folder / "messages.pcap", write, messages)


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

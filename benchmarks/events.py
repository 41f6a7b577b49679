"""What the sensor makes of captures, as one line a capture: equal before and after a change that is about speed only.

Run: ``python -m benchmarks.events CAPTURE|FOLDER... > before``; events, conversations and counters all enter the digest,
and every capture is read twice, for `watch` and for `inspect`, whose decoders take different ways.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from hopwatch_wire import Sensor

PACKETS_AT_ONCE = 10_000


def main() -> None:
    """Print a digest for every capture, files in the order of their names."""
    for path in _captures(sys.argv[1:]):
        print(_digest(path, conversations=False), _digest(path, conversations=True), path)


def _captures(arguments: list[str]) -> Iterator[Path]:
    for argument in map(Path, arguments):
        files = sorted(argument.rglob("*")) if argument.is_dir() else [argument]
        yield from (file for file in files if file.is_file() and file.suffix in (".pcap", ".pcapng", ".cap", ".gz"))


def _digest(path: Path, *, conversations: bool) -> str:
    sensor, digest, lines = Sensor("plant", "agent", conversations=conversations), hashlib.md5(usedforsecurity=False), 0

    def take(events: list[bytes]) -> None:
        nonlocal lines
        lines += len(events)
        for event in events:
            digest.update(event + b"\n")

    try:
        sensor.open_file(str(path))
        done = False
        while not done:
            events, done = sensor.read(PACKETS_AT_ONCE)
            take(events)
    except (OSError, ValueError) as error:
        digest.update(str(error).encode())
    take(sensor.finish())
    take(sensor.conversations())
    # How many copies could have been missed follows from where a random seed puts packets.
    counters = {name: count for name, count in sensor.counters().items() if name != "copies_unwatched"}
    digest.update(repr(sorted(counters.items())).encode())
    return f"{digest.hexdigest()} {lines}"


if __name__ == "__main__":
    main()

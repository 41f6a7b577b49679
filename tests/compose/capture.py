"""The recorded day moved to days before it, and its frames for an interface."""

import gzip
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from examples.broker import ROOT
from tests.compose.engine import Engine

DAY = ROOT / "examples" / "plant-day.pcap.gz"
DAY_S = 86_400
RECORD = struct.Struct("<IIII")  # pcap-savefile(5): seconds, nanoseconds, captured, length.
HEADER_BYTES = 24


def records(day: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Seconds, nanoseconds and frame of each packet."""
    at = HEADER_BYTES
    while at < len(day):
        seconds, nanoseconds, captured, length = RECORD.unpack_from(day, at)
        assert captured == length, "the demo's capture is whole"
        yield seconds, nanoseconds, day[at + RECORD.size : at + RECORD.size + captured]
        at += RECORD.size + captured


def write_days(folder: Path, number: int) -> list[Path]:
    """The same work on so many days that end with the one before the recording: none of them is in the future, as a wrong clock's is."""
    day = gzip.decompress(DAY.read_bytes())
    made = []
    for day_number in range(1, number + 1):
        path = folder / f"day-{day_number}.pcap"
        with path.open("wb") as file:
            file.write(day[:HEADER_BYTES])
            for seconds, nanoseconds, frame in records(day):
                file.write(RECORD.pack(seconds - (number + 1 - day_number) * DAY_S, nanoseconds, len(frame), len(frame)) + frame)
        path.chmod(0o444)
        made.append(path)
    return made


def send(engine: Engine, interface: str, rate_s: float) -> int:
    """Put the day's frames on an interface of the engine's network; how many there were."""
    day = gzip.decompress(DAY.read_bytes())
    frames = [frame for _, _, frame in records(day)]
    with _socket(engine, interface) as out:
        for number, frame in enumerate(frames):
            out.send(frame)
            if number % 20 == 0:
                time.sleep(20 / rate_s)
    return len(frames)


def _socket(engine: Engine, interface: str) -> socket.socket:
    """A packet socket of that network: a thread visits it, and what it opened there stays there."""
    import ctypes
    import os
    import threading

    made: list[socket.socket] = []

    def visit() -> None:
        descriptor = os.open(f"/proc/{engine.process.pid}/ns/net", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        one.bind((interface, 0))
        made.append(one)

    thread = threading.Thread(target=visit)
    thread.start()
    thread.join()
    (one,) = made
    return one

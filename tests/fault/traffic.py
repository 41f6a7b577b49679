"""The traffic of a fault run: the recorded plant day, played onto a wire in rounds, every round with connections of its own."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from examples.plant.network import Host
from tests.collectors import frames
from tests.collectors.frames import Frame

SERVERS = frozenset((443, 1883, 4840, 5432))
CLIENT_PORT = 10_000
ROUND_S = 2.0
QUIET_S = 3.0
"""Between two rounds: long enough for every window of the last one to end and to be spooled."""


def connections(day: list[Frame]) -> Iterator[tuple[Frame, int, int]]:
    """The TCP frames, each with its connection's number and the place of its client's port."""
    known: dict[tuple[bytes, bytes], int] = {}
    for frame in day:
        if frame.protocol != frames.TCP or frame.ends is None or frame.ip is None:
            continue
        source, destination = frame.ends
        place = 14 + (frame.ip[0] & 15) * 4
        to_server = struct.unpack(">H", destination[4:])[0] in SERVERS
        pair = (source, destination) if to_server else (destination, source)
        yield frame, known.setdefault(pair, len(known)), place if to_server else place + 2


@dataclass(slots=True)
class Traffic:
    """Plays rounds onto ``interface`` of ``host`` until ``stop``; ``quiet`` is free between two rounds."""

    host: Host
    interface: str
    days: int
    """Plant days at a time in one round."""

    quiet: threading.Lock = field(default_factory=threading.Lock)
    ended_s: float = 0.0
    rounds: int = 0
    error: BaseException | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End with the round that is under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            day = list(connections(frames.read()))
            width = max(number for _, number, _ in day) + 1
            wire = self.host.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            wire.bind((self.interface, 0))
            with wire:
                while not self._stopping.is_set():
                    with self.quiet:
                        self._round(wire, day, width)
                        self.rounds += 1
                        self.ended_s = time.monotonic()
                    self._stopping.wait(QUIET_S)
        except BaseException as error:
            self.error = error

    def _round(self, wire: socket.socket, day: list[tuple[Frame, int, int]], width: int) -> None:
        begun = time.monotonic()
        for at, (frame, number, place) in enumerate(day):
            due = begun + ROUND_S * at / len(day)
            while (left := due - time.monotonic()) > 0:
                time.sleep(left)
            for copy in range(self.days):
                port = CLIENT_PORT + (self.rounds * self.days + copy) * width + number
                data = bytearray(frame.data)
                # No host reads it and no sensor is told to check it: the checksum may stay.
                struct.pack_into(">H", data, place, port)
                wire.send(data)

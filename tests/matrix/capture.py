"""What passes the tap while one client works, what the sensor makes of it, and the same conversation cut elsewhere.

A recording is a pcap and the client's ledger. Replayed with every cut it is the same bytes in the same order in other
segments, many conversations in one capture, each from a client address of its own.
"""

import gzip
import json
import socket
import struct
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collectors import packets
from examples.plant.network import Network
from examples.plant.record import ETH_P_ALL, HEADER, PACKET_OUTGOING, SO_RCVBUFFORCE, SO_TIMESTAMPNS

Frame = tuple[int, bytes]
Json = dict[str, Any]
# What a recording's clock may not say: all begin at this instant.
EPOCH_NS = 1_775_000_000_000_000_000
EMPTY_POLLS = 3
QUIET_S_MAX = 10.0
SOL_PACKET, PACKET_STATISTICS = 263, 6
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


class Tap:
    """Every frame of the network's interface, cell by cell."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.frames: list[Frame] = []
        # Polls that found the socket empty, and frames that the kernel had no room for.
        self.empty_polls = self.dropped = 0
        self.ready, self.stopping = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=lambda: network.tap.call(self._listen), daemon=True)
        self.thread.start()
        if not self.ready.wait(10):
            raise OSError(f"no packet socket on {network.interface}")

    def _listen(self) -> None:
        server = socket.inet_aton(self.network.hosts["server"].address)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap:
            tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
            tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            tap.bind((self.network.interface, 0))
            tap.settimeout(0.04)
            self.ready.set()
            while not self.stopping.is_set():
                try:
                    frame, ancillary, _, sender = tap.recvmsg(262_144, 256)
                except TimeoutError:
                    self.dropped += struct.unpack("II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
                    self.empty_polls += 1
                    continue
                # On lo every frame passes twice, and what else this machine says to itself.
                if (self.network.interface == "lo" and sender[2] == PACKET_OUTGOING) or server not in (frame[26:30], frame[30:34]):
                    continue
                stamps = [data for level, kind, data in ancillary if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS]
                seconds, nanoseconds = struct.unpack_from("qq", stamps[0]) if stamps else divmod(time.time_ns(), 1_000_000_000)
                self.frames.append((seconds * 1_000_000_000 + nanoseconds, frame))

    def take(self) -> list[Frame]:
        """What came since the last call, once the socket was found empty several times in a row.

        Asking the listener, not the clock: on a busy machine it may be late by more than any pause.
        """
        deadline, count, since = time.monotonic() + QUIET_S_MAX, -1, 0
        while time.monotonic() < deadline:
            if len(self.frames) != count:
                count, since = len(self.frames), self.empty_polls
            elif self.empty_polls - since >= EMPTY_POLLS:
                break
            time.sleep(0.01)
        if self.dropped:
            raise OSError(f"{self.dropped} frames did not fit the packet socket")
        taken, self.frames = self.frames, []
        return taken

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(5)


def write(path: Path, frames: Iterable[Frame]) -> None:
    """A pcap with nanoseconds; compressed if the name says so."""
    opened = gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) if path.suffix == ".gz" else path.open("wb")
    with opened as out:
        out.write(HEADER)
        for moment, frame in frames:
            out.write(struct.pack("<IIII", *divmod(moment, 1_000_000_000), len(frame), len(frame)) + frame)


def load(path: Path) -> list[Frame]:
    """The frames of a pcap that `write` made."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    frames, at = [], len(HEADER)
    while at < len(data):
        seconds, nanoseconds, size, _ = struct.unpack_from("<IIII", data, at)
        frames.append((seconds * 1_000_000_000 + nanoseconds, data[at + 16 : at + 16 + size]))
        at += 16 + size
    return frames


def flows_of(frames: Sequence[Frame]) -> list[Json]:
    """The flow events the sensor makes of the frames; a loss event is an error of the recording."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        path = Path(folder) / "cell.pcap"
        write(path, frames)
        sensor = packets.sensor("matrix", "matrix")
        events = [json.loads(event) for batch in packets.from_files(sensor, [str(path)]) for event in batch]
    lost = [event for event in events if event["kind"] == "loss"]
    if lost:
        raise AssertionError(f"the recording has a gap: {lost[0]}")
    return [event for event in events if event["kind"] == "flow"]


# -- conversations ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Conversation:
    """One TCP connection: who said what, in order; True is the client."""

    client: tuple[str, int]
    server: tuple[str, int]
    said: list[tuple[bool, bytes]] = field(default_factory=list)


def conversations(frames: Sequence[Frame]) -> list[tuple[Conversation, bool, bytes]]:
    """Every new stream byte of the frames in order, as (conversation, from the client, bytes).

    Only what a tap of one bridge can show is undone (a retransmission); a hole is an error of the recording.
    """
    held: dict[tuple[Any, Any], Conversation] = {}
    following: dict[tuple[Any, Any], int] = {}
    pieces: list[tuple[Conversation, bool, bytes]] = []
    for _, frame in frames:
        segment = _segment(frame)
        if segment is None:
            continue
        source, destination, sequence, flags, payload = segment
        ends = (source, destination)
        if flags & SYN:
            if not flags & ACK:
                held[ends] = held[(destination, source)] = Conversation(source, destination)
            following[ends] = (sequence + 1) & 0xFFFFFFFF
            continue
        if not payload or ends not in held or ends not in following:
            continue
        old = (following[ends] - sequence) & 0xFFFFFFFF
        if old >= 1 << 31:
            raise AssertionError("the recording has a hole or frames out of order")
        if old < len(payload):
            conversation = held[ends]
            piece = (conversation, source == conversation.client, payload[old:])
            conversation.said.append(piece[1:])
            pieces.append(piece)
            following[ends] = (sequence + len(payload)) & 0xFFFFFFFF
    return pieces


def of_ports(frames: Sequence[Frame], ports: Collection[int]) -> list[Frame]:
    """The TCP segments to or from one of a server's ports: a server's own connections to the one behind it are another's."""
    segments = ((frame, _segment(frame[1])) for frame in frames)
    return [frame for frame, segment in segments if segment and (segment[0][1] in ports or segment[1][1] in ports)]


def _segment(frame: bytes) -> tuple[tuple[str, int], tuple[str, int], int, int, bytes] | None:
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    header = 14 + (frame[14] & 15) * 4
    end = 14 + struct.unpack_from("!H", frame, 16)[0]
    ports = struct.unpack_from("!HH", frame, header)
    sequence = struct.unpack_from("!I", frame, header + 4)[0]
    offset, flags = frame[header + 12] >> 4, frame[header + 13]
    source = (socket.inet_ntoa(frame[26:30]), ports[0])
    destination = (socket.inet_ntoa(frame[30:34]), ports[1])
    return source, destination, sequence, flags, frame[header + offset * 4 : end]


class Maker:
    """Frames of conversations that never were: each replay from a client address of its own."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.replays = 0

    def add(self, pieces: Iterable[tuple[Conversation, bool, bytes]]) -> str:
        """One replay with these segments; returns its client address."""
        self.replays += 1
        client = socket.inet_aton(address := f"10.{100 + (self.replays >> 16)}.{self.replays >> 8 & 255}.{self.replays & 255}")
        sequences: dict[tuple[int, bool], int] = {}
        ends: dict[int, Conversation] = {}
        for conversation, from_client, data in pieces:
            key = id(conversation)
            if key not in ends:
                ends[key] = conversation
                sequences[key, True], sequences[key, False] = 1001, 2001
                self._frame(client, conversation, True, SYN, 1000, 0, b"")
                self._frame(client, conversation, False, SYN | ACK, 2000, 1001, b"")
            self._frame(client, conversation, from_client, PSH | ACK, sequences[key, from_client], sequences[key, not from_client], data)
            sequences[key, from_client] += len(data)
        for key, conversation in ends.items():
            self._frame(client, conversation, True, FIN | ACK, sequences[key, True], sequences[key, False], b"")
            self._frame(client, conversation, False, FIN | ACK, sequences[key, False], sequences[key, True] + 1, b"")
        return address

    def _frame(self, client: bytes, of: Conversation, from_client: bool, flags: int, sequence: int, ack: int, data: bytes) -> None:
        server = socket.inet_aton("10.99.0.2")
        ends = (client, server) if from_client else (server, client)
        ports = (of.client[1], of.server[1]) if from_client else (of.server[1], of.client[1])
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0, *ends)
        tcp = struct.pack("!HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x50, flags, 65535, 0, 0)
        self.frames.append((EPOCH_NS + len(self.frames) * 1000, b"\2\0\0\0\0\2\2\0\0\0\0\1\x08\0" + ip + tcp + data))


STRIDE = 64
SINGLE_CUTS_BYTES_MAX = 2 << 20
BYTEWISE_BYTES_MAX = 20_000


def every_cut(frames: Sequence[Frame]) -> tuple[list[Frame], list[str]]:
    """The recording again and again, so that it is cut at every place of both streams; frames, and each replay's client.

    The first replay is the recording as it is. Every place is an end of a segment in one of `STRIDE` replays that cut every
    `STRIDE` bytes; a short recording is also sent byte by byte; and of a still shorter one every place of the client's stream
    is the only cut of a replay.
    """
    pieces = conversations(frames)
    total = sum(len(data) for _, _, data in pieces)
    maker = Maker()
    clients = [maker.add(pieces), *(maker.add(_chunks(pieces, STRIDE, phase)) for phase in range(STRIDE))]
    if total <= BYTEWISE_BYTES_MAX:
        clients.append(maker.add(_chunks(pieces, 1, 0)))
    requests = sum(len(data) for _, from_client, data in pieces if from_client)
    if requests * (total + 60 * len(pieces)) <= SINGLE_CUTS_BYTES_MAX:
        for number, (_, from_client, data) in enumerate(pieces):
            if from_client:
                clients += [maker.add(_cut_once(pieces, number, place)) for place in range(1, len(data))]
    return maker.frames, clients


def _chunks(pieces: Sequence[tuple[Conversation, bool, bytes]], size: int, phase: int) -> Iterator[tuple[Conversation, bool, bytes]]:
    sent: dict[tuple[int, bool], int] = defaultdict(int)
    for conversation, from_client, data in pieces:
        at = 0
        while at < len(data):
            here = sent[id(conversation), from_client]
            take = size - (here + phase) % size
            yield conversation, from_client, data[at : at + take]
            sent[id(conversation), from_client] += len(data[at : at + take])
            at += take


def _cut_once(pieces: Sequence[tuple[Conversation, bool, bytes]], number: int, place: int) -> Iterator[tuple[Conversation, bool, bytes]]:
    conversation, from_client, data = pieces[number]
    yield from pieces[:number]
    yield conversation, from_client, data[:place]
    yield conversation, from_client, data[place:]
    yield from pieces[number + 1 :]

"""What the clients themselves know they moved, connection by connection: the truth the store's sums must equal.

Rows are counted as the driver hands them over, publishes as they are acknowledged or arrive, values as they are received.
Bytes are the kernel's own: TCP_INFO of the client's socket, read after the peer has acknowledged everything.
"""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

# struct tcp_info of linux/tcp.h.
STATE, UNACKED, BYTES_ACKED, BYTES_RECEIVED, NOTSENT = 0, 24, 120, 128, 144
TCP_ESTABLISHED, TCP_CLOSE_WAIT = 1, 8
PATIENCE_S = 5.0


@dataclass(slots=True)
class Entry:
    """One connection of one client, counted by the client."""

    account: str
    protocol: str
    client: tuple[str, int] = ("", 0)
    server: tuple[str, int] = ("", 0)
    rows: int = 0
    messages: int = 0
    values: int = 0
    sent: int = 0
    received: int = 0


@dataclass(slots=True)
class Ledger:
    """Every connection of the day."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> Entry:
        self.entries.append(entry)
        return entry

    def per_account(self) -> dict[str, dict[str, int]]:
        sums: dict[str, dict[str, int]] = {}
        for entry in self.entries:
            total = sums.setdefault(entry.account, dict.fromkeys(("rows", "messages", "values", "bytes"), 0))
            total["rows"] += entry.rows
            total["messages"] += entry.messages
            total["values"] += entry.values
            total["bytes"] += entry.sent + entry.received
        return sums

    def as_json(self) -> list[dict[str, Any]]:  # Any: what json writes.
        return [asdict(entry) for entry in self.entries]

    @classmethod
    def from_json(cls, entries: list[dict[str, Any]]) -> "Ledger":
        loaded = [Entry(**{**entry, "client": tuple(entry["client"]), "server": tuple(entry["server"])}) for entry in entries]
        return cls(loaded)

    def __str__(self) -> str:
        return json.dumps(self.as_json(), indent=1)


@contextlib.contextmanager
def metered(entry: Entry, connection: socket.socket | int) -> Iterator[None]:
    """Fill ``entry``'s addresses and bytes from ``connection`` once the body, which must close it, has ended.

    A duplicate of the descriptor keeps the kernel's socket alive past the library's close, so that its last message (a
    Terminate, a DISCONNECT) is in the count; the FIN that follows is not stream data.
    """
    number = connection if isinstance(connection, int) else connection.fileno()
    with contextlib.closing(socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM)) as kept:
        entry.client, entry.server = kept.getsockname()[:2], kept.getpeername()[:2]
        try:
            yield
        finally:
            entry.sent, entry.received = settled_bytes(kept)


def settled_bytes(connection: socket.socket) -> tuple[int, int]:
    """Stream bytes sent and received, once the peer has acknowledged the last of them and has had a moment to answer."""
    deadline = time.monotonic() + PATIENCE_S
    last: tuple[int, ...] = ()
    while True:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        acked, received = struct.unpack_from("QQ", info, BYTES_ACKED)
        unacked, notsent = struct.unpack_from("I", info, UNACKED)[0], struct.unpack_from("I", info, NOTSENT)[0]
        state = info[STATE]
        now = (acked, received, unacked, notsent, state)
        if (unacked == 0 and notsent == 0 and now == last) or time.monotonic() > deadline:
            # The kernel counts the SYN an opener sent as one acknowledged byte and the peer's FIN as one received (RFC 9293, 3.4).
            return acked - 1, received - (state != TCP_ESTABLISHED)
        last = now
        time.sleep(0.05)

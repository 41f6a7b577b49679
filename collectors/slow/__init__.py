"""Slow-path decoders: protocols with little traffic, read by Python classes from the bytes of a stream.

A decoder is a class with a ``name``, the ports it asks for and two methods; one object reads one connection. What it is given are
the bytes that each side sent, in order and each once, as the packets brought them: a message may come in pieces, several may
come together. What it returns are ``Observation``s, which become windows like those of any decoder (docs/plugins.md).

It runs in a process of its own (``collectors.slow.worker``). What it raises, or how long it takes, costs the connections that it
reads, never a packet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol

Side = Literal["client", "server"]

SHIPPED: Final = {
    "modbus": "collectors.slow.modbus:Modbus",
    "iec104": "collectors.slow.iec104:Iec104",
    "s7comm": "collectors.slow.s7comm:S7comm",
    "enip": "collectors.slow.enip:Enip",
}
"""The decoders that come with hopwatch, by the name under which ``--plugins`` knows them."""


class NotThisProtocol(Exception):
    """The bytes are not, or no longer, the decoder's protocol. The message never holds payload."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was moved or asked for (docs/events.md).

    ``data_from``: the side that the data comes from: of a read the server, of a write the client.
    ``client_bytes``, ``server_bytes``: stream bytes that belong to it, each byte of a connection to one observation at most.
    """

    operation: str
    data_from: Side
    names: tuple[str, ...] = ()
    rows: int = 0
    values: int = 0
    messages: int = 0
    client_bytes: int = 0
    server_bytes: int = 0


class Decoder(Protocol):
    """Reads one connection. State lies in the object; what it holds should be bounded."""

    name: ClassVar[str]
    """The protocol's, as events tell it."""
    tcp_ports: ClassVar[tuple[int, ...]]
    udp_ports: ClassVar[tuple[int, ...]]

    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        """The next bytes of a side: of TCP any piece of the stream, of UDP one datagram.

        Raises:
            NotThisProtocol: from here on the connection is counted as bytes.
        """
        ...

    def gap(self, sender: Side, length: int) -> Iterable[Observation]:
        """So many bytes of a side were lost here."""
        ...


MESSAGE_BYTES_MAX: Final = 1 << 16
"""Bytes that ``Messages`` holds of a side."""

HEAD_BYTES: Final = 64


class Messages:
    """Cuts one side's stream into messages; for protocols whose header says how long a message is.

    Behind a gap the rest of the message that was begun is passed over; where nobody knows its end, what comes next is read from
    the first piece on that begins like a message.
    """

    def __init__(self) -> None:
        self._held = b""
        self._size: int | None = None
        self._passed = 0
        self._lost = False

    def cut(self, data: bytes, size: Size) -> list[bytes]:
        """The messages that are whole now; ``size(head)``: how long the one is that begins there.

        Raises:
            NotThisProtocol: a message is longer than ``MESSAGE_BYTES_MAX``, or no message begins where one should.
        """
        passed = min(self._passed, len(data))
        self._passed -= passed
        held = self._held + data[passed:]
        if self._lost and held:
            try:
                self._lost = size(held[:HEAD_BYTES]) is None
            except NotThisProtocol:
                self._held = b""
                return []
        found, at = [], 0
        self._size = None
        while at < len(held):
            length = size(held[at : at + HEAD_BYTES])
            if length is None:
                break
            if length <= 0 or length > MESSAGE_BYTES_MAX:
                raise NotThisProtocol(f"length {length}, expected 1 to {MESSAGE_BYTES_MAX}")
            if at + length > len(held):
                self._size = length
                break
            found.append(held[at : at + length])
            at += length
        self._held = held[at:]
        return found

    def gap(self, length: int) -> None:
        """So many bytes were lost here."""
        known = self._passed or (self._size or 0) - len(self._held)
        self._passed = max(0, known - length)
        self._lost = self._lost or length > known
        self._held, self._size = b"", None


class Size(Protocol):
    """How long the message is that begins with ``head``, at most ``HEAD_BYTES`` of it; None asks for more."""

    def __call__(self, head: bytes) -> int | None: ...

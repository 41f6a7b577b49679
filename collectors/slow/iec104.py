"""IEC 60870-5-104: telecontrol over TCP; the server is the controlled station (IEC 60870-5-104:2006, 5; -5-101:2003, 7).

Commands and parameters (types 45 to 64, 103, 105, 107, 110 to 113) are writes, told with their activation; the station's mirror of
it and its end are that write's bytes back. A command that is only selected writes no value. Measurements are what the station
gives: ``subscribe`` where it does so by itself (causes 1 to 4), ``read`` where it was asked. Objects are ``ca/1/ioa/400-410``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Final

from scapy.contrib.scada.iec104 import IEC104_APDU

from collectors.slow import Messages, NotThisProtocol, Observation, Side
from collectors.slow.names import ranges

START: Final = 0x68
OF_ITSELF: Final = frozenset({1, 2, 3, 4})
"""Causes of what a station gives unasked: cyclic, background, spontaneous, initialised."""

ACTIVATION: Final = 6
COMMANDS: Final = frozenset(range(45, 70))
PARAMETERS: Final = frozenset(range(110, 114))
CLOCK, RESET = 103, 105
WRITES: Final = COMMANDS | PARAMETERS | {CLOCK}
ASKS: Final = frozenset({100, 101, 102})
TESTS: Final = frozenset({104, 106, 107})
FILES: Final = frozenset(range(120, 128))
SEGMENT: Final = 125


def _size(head: bytes) -> int | None:
    if len(head) < 2:
        return None if head[:1] in (b"", bytes([START])) else _no(head)
    return 2 + head[1] if head[0] == START and 4 <= head[1] <= 253 else _no(head)


def _no(head: bytes) -> int:
    raise NotThisProtocol(f"byte {head[0]}, expected {START} and a length of 4 to 253")


class Iec104:
    """One connection of a controlling station to a controlled one."""

    name: ClassVar[str] = "iec104"
    tcp_ports: ClassVar[tuple[int, ...]] = (2404,)
    udp_ports: ClassVar[tuple[int, ...]] = ()

    def __init__(self) -> None:
        self._sides: dict[Side, Messages] = {"client": Messages(), "server": Messages()}

    def data(self, sender: Side, data: bytes) -> Iterator[Observation]:
        """APDUs of either station."""
        for message in self._sides[sender].cut(data, _size):
            yield self._apdu(sender, message)

    def gap(self, sender: Side, length: int) -> Iterator[Observation]:
        """Something was lost."""
        self._sides[sender].gap(length)
        return iter(())

    def _apdu(self, sender: Side, message: bytes) -> Observation:
        client, server = (len(message), 0) if sender == "client" else (0, len(message))
        of = partial(Observation, client_bytes=client, server_bytes=server)
        if message[2] & 1 or len(message) < 12:
            # S and U formats: acknowledgements, STARTDT, TESTFR.
            return of("connect", "client")
        # Types beyond those that scapy knows are no reason to read less of the header.
        kind, cause = message[6], message[8] & 0x3F
        station = f"ca/{int.from_bytes(message[10:12], 'little')}"
        objects = _objects(message)
        names = ranges(f"{station}/ioa", objects) if objects else (station,)
        if kind == RESET:
            return of("call", "client", (f"{station}/reset",), messages=1)
        if kind in WRITES:
            asks = sender == "client" and cause == ACTIVATION
            values = _executed(message, len(objects)) if asks else 0
            return of("write", "client", names, values=values, messages=1)
        if kind in FILES:
            giver: Side = sender if kind == SEGMENT else "server"
            return of("get" if giver == "server" else "put", giver, names, messages=1)
        if kind in ASKS:
            return of("read", "server", (station,) if kind != 102 else names, messages=1)
        if kind in TESTS:
            return of("connect", "client")
        if sender == "client":
            return of("call", "client", (f"{station}/type/{kind}",), messages=1)
        given = "subscribe" if cause in OF_ITSELF else "read"
        return of(given, "server", names, values=message[7] & 0x7F, messages=1)


def _dissected(message: bytes) -> list[Any]:  # Any: scapy has no types
    try:
        return list(getattr(IEC104_APDU(message), "io", []) or [])
    except Exception:  # What scapy raises of a message that it cannot read, it does not say.
        return []


def _objects(message: bytes) -> list[int]:
    """The addresses of information objects (-5-101:2003, 7.2.2.1): in a sequence those that follow the first."""
    count, first = message[7] & 0x7F, int.from_bytes(message[12:15], "little")
    if len(message) < 15 or count == 0:
        return []
    if message[7] & 0x80:
        return list(range(first, first + count))
    if count == 1:
        return [first]
    found = [getattr(io, "information_object_address", None) for io in _dissected(message)]
    return [address for address in found if address is not None] or [first]


def _executed(message: bytes, count: int) -> int:
    """Values that an activation sets: none where it only selects (S/E, -5-101:2003, 7.2.6.26 and 7.2.6.39)."""
    selects = [getattr(io, "s_or_e", 0) or getattr(io, "action", 0) for io in _dissected(message)]
    return count - sum(1 for one in selects if one)

"""Modbus/TCP: an MBAP header and a function with its addresses (MODBUS Application Protocol 1.1b3; Messaging on TCP/IP 1.0b).

A write is told with its request, as many values as it carries, whatever the device says to it: also a tap that sees one direction
knows what was asked for. A read's values are those of the answer. Objects are ``unit/1/holding/100-109``, with the addresses of the
protocol, which count from 0. What an address holds no standard says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from scapy.contrib.modbus import ModbusADURequest, ModbusADUResponse

from collectors.slow import Messages, NotThisProtocol, Observation, Side
from collectors.slow.names import span

REQUESTS_MAX: Final = 256
"""Requests whose answer is awaited; of more, the oldest is forgotten and its answer names no address."""

PDU_BYTES_MAX: Final = 254
"""What stands behind the length: a unit and a PDU (Messaging on TCP/IP 1.0b, 3.1.3)."""


@dataclass(frozen=True, slots=True)
class _Function:
    operation: Literal["read", "write", "browse", "call"]
    table: str
    first: str = ""
    """The request's field that holds the first address."""
    count: str = ""
    """That which holds how many; without one it is a single one."""


_FUNCTIONS: Final = {
    1: _Function("read", "coil", "startAddr", "quantity"),
    2: _Function("read", "discrete", "startAddr", "quantity"),
    3: _Function("read", "holding", "startAddr", "quantity"),
    4: _Function("read", "input", "startAddr", "quantity"),
    5: _Function("write", "coil", "outputAddr"),
    6: _Function("write", "holding", "registerAddr"),
    7: _Function("read", "status"),
    8: _Function("call", "diagnostics"),
    11: _Function("read", "events"),
    12: _Function("read", "events"),
    15: _Function("write", "coil", "startAddr", "quantityOutput"),
    16: _Function("write", "holding", "startAddr", "quantityRegisters"),
    17: _Function("browse", "identity"),
    20: _Function("read", "file"),
    21: _Function("write", "file"),
    22: _Function("write", "holding", "refAddr"),
    23: _Function("write", "holding", "writeStartingAddr", "writeQuantityRegisters"),
    24: _Function("read", "fifo", "FIFOPointerAddr"),
    43: _Function("browse", "identity"),
}
_BITS: Final = frozenset({1, 2})
_WORDS: Final = frozenset({3, 4, 23})
_READ_WRITE: Final = 23


def _size(head: bytes) -> int | None:
    if len(head) < 6:
        return None
    protocol, length = int.from_bytes(head[2:4], "big"), int.from_bytes(head[4:6], "big")
    if protocol != 0 or not 2 <= length <= PDU_BYTES_MAX:
        raise NotThisProtocol(f"protocol {protocol}, length {length}, expected 0 and 2 to {PDU_BYTES_MAX}")
    return 6 + length


class Modbus:
    """One connection of a client to a server, or gateway, of several units."""

    name: ClassVar[str] = "modbus"
    tcp_ports: ClassVar[tuple[int, ...]] = (502,)
    udp_ports: ClassVar[tuple[int, ...]] = ()

    def __init__(self) -> None:
        self._sides: dict[Side, Messages] = {"client": Messages(), "server": Messages()}
        self._asked: dict[tuple[int, int], tuple[str, int]] = {}

    def data(self, sender: Side, data: bytes) -> Iterator[Observation]:
        """Requests of the client, answers of the server."""
        for message in self._sides[sender].cut(data, _size):
            yield from self._request(message) if sender == "client" else self._answer(message)

    def gap(self, sender: Side, length: int) -> Iterator[Observation]:
        """What was lost may have been a request."""
        self._sides[sender].gap(length)
        return iter(())

    def _request(self, message: bytes) -> Iterator[Observation]:
        packet: Any = ModbusADURequest(message)  # scapy has no types
        body, code = packet.payload, message[7]
        function = _FUNCTIONS.get(code, _Function("call", f"function-{code}"))
        name, count = self._named(packet.unitId, function, body)
        read = name
        if code == _READ_WRITE:
            table = _Function("read", "holding", "readStartingAddr", "readQuantityRegisters")
            read, _ = self._named(packet.unitId, table, body)
        if len(self._asked) >= REQUESTS_MAX:
            del self._asked[next(iter(self._asked))]
        self._asked[packet.transId, packet.unitId] = (read, count)
        data_from: Side = "client" if function.operation in ("write", "call") else "server"
        values = count if function.operation == "write" else 0
        yield Observation(function.operation, data_from, (name,), values=values, messages=1, client_bytes=len(message))

    def _named(self, unit: int, function: _Function, body: Any) -> tuple[str, int]:
        table = f"unit/{unit}/{function.table}"
        first = getattr(body, function.first, None) if function.first else None
        if first is None:
            return table, 1
        count = getattr(body, function.count, None) if function.count else 1
        return span(table, first, count or 1), count or 1

    def _answer(self, message: bytes) -> Iterator[Observation]:
        packet: Any = ModbusADUResponse(message)  # scapy has no types
        code = message[7] & 0x7F
        function = _FUNCTIONS.get(code, _Function("call", f"function-{code}"))
        name, count = self._asked.pop((packet.transId, packet.unitId), (f"unit/{packet.unitId}/{function.table}", 0))
        refused = message[7] & 0x80 != 0
        operation, data_from, values = function.operation, "client", 0
        if operation in ("read", "browse") or code == _READ_WRITE:
            operation, data_from = "read" if code == _READ_WRITE else operation, "server"
            values = 0 if refused or operation == "browse" else _values(code, message, count)
        side: Side = "server" if data_from == "server" else "client"
        yield Observation(operation, side, (name,), values=values, messages=1, server_bytes=len(message))


def _values(code: int, message: bytes, count: int) -> int:
    """How many an answer brings: of bits as many as were asked for, as the last byte may have room for more."""
    size = message[8] if len(message) > 8 else 0
    if code in _BITS:
        return min(count, 8 * size) if count else 8 * size
    if code in _WORDS:
        return size // 2
    if code == 24:
        return int.from_bytes(message[10:12], "big")
    return 1

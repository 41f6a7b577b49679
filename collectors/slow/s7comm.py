"""S7comm and S7comm-plus of Siemens controllers, counted by service: TPKT (RFC 1006), COTP (ISO 8073), and the job behind it.

Siemens publishes neither; what is read here is the job's function alone, as every open reader has it. How many items a read or a
write holds stands beside it; their addresses are not read. Of S7comm-plus only what it says in clear counts by its function.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from collectors.slow import Messages, NotThisProtocol, Observation, Side

JOB, ACKNOWLEDGEMENT, DATA, USERDATA = 1, 2, 3, 7
FUNCTIONS: Final = {
    0x00: ("call", "cpu-service"),
    0x04: ("read", "read-var"),
    0x05: ("write", "write-var"),
    0x1A: ("put", "request-download"),
    0x1B: ("put", "download-block"),
    0x1C: ("put", "download-ended"),
    0x1D: ("get", "start-upload"),
    0x1E: ("get", "upload"),
    0x1F: ("get", "end-upload"),
    0x28: ("call", "pi-service"),
    0x29: ("call", "plc-stop"),
    0xF0: ("connect", ""),
}
GROUPS: Final = {
    1: ("call", "programmer"),
    2: ("subscribe", "cyclic-data"),
    3: ("browse", "block-functions"),
    4: ("browse", "cpu-functions"),
    5: ("connect", ""),
    6: ("call", "pbc"),
    7: ("call", "time"),
    15: ("call", "nc-programming"),
}
PLUS: Final = {
    0x04BB: ("browse", "explore"),
    0x04CA: ("connect", ""),
    0x04D4: ("connect", ""),
    0x04F2: ("write", "set-variable"),
    0x04FC: ("read", "get-variable"),
    0x0524: ("call", "add-link"),
    0x0542: ("write", "set-multi-variables"),
    0x054C: ("read", "get-multi-variables"),
    0x0556: ("call", "begin-sequence"),
    0x0560: ("call", "end-sequence"),
    0x056B: ("call", "invoke"),
    0x0586: ("read", "get-variables-by-address"),
}
PLUS_DIGEST: Final = 3
"""The version whose messages begin with a digest."""


def _size(head: bytes) -> int | None:
    if head[:1] != b"\x03" or head[1:2] not in (b"", b"\x00"):
        raise NotThisProtocol(f"byte {head[0]}, expected TPKT version 3")
    return None if len(head) < 4 else int.from_bytes(head[2:4], "big")


class S7comm:
    """One connection of a programmer, a panel or another controller to a controller."""

    name: ClassVar[str] = "s7comm"
    tcp_ports: ClassVar[tuple[int, ...]] = (102,)
    udp_ports: ClassVar[tuple[int, ...]] = ()

    def __init__(self) -> None:
        self._sides: dict[Side, Messages] = {"client": Messages(), "server": Messages()}
        self._last: dict[Side, tuple[str, str]] = {}
        self._goes_on = {"client": False, "server": False}

    def data(self, sender: Side, data: bytes) -> Iterator[Observation]:
        """TPKTs of either side."""
        for message in self._sides[sender].cut(data, _size):
            yield self._tpkt(sender, message)

    def gap(self, sender: Side, length: int) -> Iterator[Observation]:
        """Something was lost."""
        self._sides[sender].gap(length)
        self._goes_on[sender] = False
        return iter(())

    def _tpkt(self, sender: Side, message: bytes) -> Observation:
        if len(message) < 7 or message[5] & 0xF0 in (0xE0, 0xD0, 0x80, 0xC0):
            return _observed("connect", "", sender, 0, 1, message)
        body = message[5 + message[4] :]
        if self._goes_on[sender] and sender in self._last:
            # A further part of one that COTP has cut (ISO 8073, 13.7: EOT).
            operation, service = self._last[sender]
            found = _observed(operation, service, sender, 0, 0, message)
        else:
            operation, service, values = _plus(body) if body[:1] == b"\x72" else _job(body)
            self._last[sender] = operation, service
            found = _observed(operation, service, sender, values, 1, message)
        self._goes_on[sender] = message[6] & 0x80 == 0
        return found


def _observed(operation: str, service: str, sender: Side, values: int, messages: int, message: bytes) -> Observation:
    data_from: Side = "server" if operation in ("read", "get", "browse", "subscribe") else "client"
    names = (f"service/{service}",) if service else ()
    client, server = (len(message), 0) if sender == "client" else (0, len(message))
    of_giver = values if sender == data_from else 0
    return Observation(operation, data_from, names, values=of_giver, messages=messages, client_bytes=client, server_bytes=server)


def _job(body: bytes) -> tuple[str, str, int]:
    """Operation, service, and items of a read or a write."""
    if len(body) < 10 or body[0] != 0x32:
        return "call", "unknown", 0
    kind = body[1]
    header = 12 if kind in (ACKNOWLEDGEMENT, DATA) else 10
    parameter = body[header : header + int.from_bytes(body[6:8], "big")]
    if kind == USERDATA and len(parameter) > 5:
        return *GROUPS.get(parameter[5] & 0x0F, ("call", f"userdata-{parameter[5] & 0x0F}")), 0
    if not parameter:
        return "connect", "", 0
    operation, service = FUNCTIONS.get(parameter[0], ("call", f"function-{parameter[0]}"))
    items = parameter[1] if parameter[0] in (4, 5) and len(parameter) > 1 else 0
    return operation, service, items


def _plus(body: bytes) -> tuple[str, str, int]:
    at = 4 + (1 + body[4] if len(body) > 4 and body[1] == PLUS_DIGEST else 0)
    if len(body) < at + 5 or body[at] not in (0x31, 0x32):
        return ("subscribe", "notification", 0) if body[at : at + 1] == b"\x33" else ("connect", "", 0)
    function = int.from_bytes(body[at + 3 : at + 5], "big")
    return *PLUS.get(function, ("call", f"plus-{function:04x}")), 0

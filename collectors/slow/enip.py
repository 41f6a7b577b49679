"""EtherNet/IP, counted by service of CIP (ODVA, The CIP Networks Library, volumes 1 and 2).

Of each encapsulated message the service is read, through Unconnected Send and Multiple Service Packet; tags and attributes are not.
Implicit messages (UDP port 2222; volume 2, 2-6.4) say which connection they are of and not what they hold: each datagram is a message of
``cip/io`` that its sender gives. What they are was agreed when the connection was opened (Forward Open).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from scapy.contrib.enipTCP import ENIPTCP

from collectors.slow import Messages, NotThisProtocol, Observation, Side

HEADER_BYTES: Final = 24
COMMANDS: Final = frozenset({0x00, 0x01, 0x04, 0x63, 0x64, 0x65, 0x66, 0x6F, 0x70, 0x72, 0x73})
LISTS: Final = {0x01: "list-targets", 0x04: "list-services", 0x63: "list-identity", 0x64: "list-interfaces"}
RR_DATA, UNIT_DATA = 0x6F, 0x70
UNCONNECTED, CONNECTED = 0xB2, 0xB1
SEQUENCED: Final = 0x8002
IMPLICIT_PORT: Final = 2222
SERVICES: Final = {
    0x01: ("read", "get-attributes-all"),
    0x02: ("write", "set-attributes-all"),
    0x03: ("read", "get-attribute-list"),
    0x04: ("write", "set-attribute-list"),
    0x05: ("call", "reset"),
    0x06: ("call", "start"),
    0x07: ("call", "stop"),
    0x08: ("call", "create"),
    0x09: ("call", "delete"),
    0x0E: ("read", "get-attribute-single"),
    0x10: ("write", "set-attribute-single"),
    0x4B: ("call", "execute-pccc"),
    0x4C: ("read", "read-tag"),
    0x4D: ("write", "write-tag"),
    0x4E: ("write", "read-modify-write-tag"),
    0x52: ("read", "read-tag-fragmented"),
    0x53: ("write", "write-tag-fragmented"),
    0x54: ("connect", ""),
    0x55: ("browse", "get-instance-attribute-list"),
    0x5B: ("connect", ""),
}
MULTIPLE, UNCONNECTED_SEND, FORWARD_CLOSE = 0x0A, 0x52, 0x4E
CONNECTION_MANAGER: Final = b"\x20\x06\x24\x01"
SERVICES_MAX: Final = 64
"""Services of one Multiple Service Packet that are told one by one."""


def _size(head: bytes) -> int | None:
    command = int.from_bytes(head[:2], "little")
    if len(head) >= 2 and command not in COMMANDS:
        raise NotThisProtocol(f"command {command}, expected one of the encapsulation's")
    return None if len(head) < 4 else HEADER_BYTES + int.from_bytes(head[2:4], "little")


class Enip:
    """One session, or datagrams of discovery."""

    name: ClassVar[str] = "enip"
    tcp_ports: ClassVar[tuple[int, ...]] = (44818,)
    udp_ports: ClassVar[tuple[int, ...]] = (44818, IMPLICIT_PORT)

    def __init__(self) -> None:
        self._sides: dict[Side, Messages] = {"client": Messages(), "server": Messages()}
        self._implicit: bool | None = None

    def data(self, sender: Side, data: bytes) -> Iterator[Observation]:
        """Encapsulated messages of either side, or one implicit message."""
        if self._implicit is None:
            self._implicit = _is_implicit(data)
        if self._implicit:
            if not _is_implicit(data):
                raise NotThisProtocol("no sequenced address, expected an implicit message")
            sizes = {f"{sender}_bytes": len(data)}
            yield Observation("publish", sender, ("cip/io",), messages=1, **sizes)
            return
        for message in self._sides[sender].cut(data, _size):
            yield from _message(sender, message)

    def gap(self, sender: Side, length: int) -> Iterator[Observation]:
        """Something was lost."""
        self._sides[sender].gap(length)
        return iter(())


def _is_implicit(data: bytes) -> bool:
    """Whether the items are an address with a sequence number and connected data; no encapsulated message begins like that."""
    count, kind, length = (int.from_bytes(data[at : at + 2], "little") for at in (0, 2, 4))
    return count in (2, 3) and (kind, length) == (SEQUENCED, 8) and int.from_bytes(data[14:16], "little") == CONNECTED


def _message(sender: Side, message: bytes) -> Iterator[Observation]:
    command = ENIPTCP(message[:HEADER_BYTES]).commandId
    size = len(message)
    if command in LISTS:
        yield _observed("browse", LISTS[command], sender, size)
        return
    services = list(_services(_cip(message[HEADER_BYTES:]))) if command in (RR_DATA, UNIT_DATA) else []
    if not services:
        yield _observed("connect", "", sender, size)
    for at, (operation, service) in enumerate(services):
        # The message's bytes are the first service's.
        yield _observed(operation, service, sender, size if at == 0 else 0)


def _observed(operation: str, service: str, sender: Side, size: int) -> Observation:
    data_from: Side = "server" if operation in ("read", "browse") else "client"
    client, server = (size, 0) if sender == "client" else (0, size)
    names = (f"cip/{service}",) if service else ()
    return Observation(operation, data_from, names, messages=1, client_bytes=client, server_bytes=server)


def _cip(body: bytes) -> bytes:
    """The item of the common packet format that holds a message (volume 2, 2-6)."""
    at = 8
    for _ in range(int.from_bytes(body[6:8], "little")):
        if at >= len(body):
            break
        kind, length = int.from_bytes(body[at : at + 2], "little"), int.from_bytes(body[at + 2 : at + 4], "little")
        if kind in (UNCONNECTED, CONNECTED):
            # A connected one begins with its number.
            return body[at + 4 + (2 if kind == CONNECTED else 0) : at + 4 + length]
        at += 4 + length
    return b""


def _services(cip: bytes, depth: int = 0) -> Iterator[tuple[str, str]]:
    if len(cip) < 2:
        return
    service, is_answer = cip[0] & 0x7F, cip[0] & 0x80 != 0
    path_end = 2 + 2 * cip[1]
    to_manager = not is_answer and cip[2:path_end] == CONNECTION_MANAGER
    if service == UNCONNECTED_SEND and to_manager and depth == 0:
        inner: Any = cip[path_end + 4 :][: int.from_bytes(cip[path_end + 2 : path_end + 4], "little")]
        yield from _services(inner, depth + 1)
    elif service == MULTIPLE and depth <= 1:
        body = cip[4 + 2 * cip[3] :] if is_answer and len(cip) > 3 else cip[path_end:]
        count = int.from_bytes(body[:2], "little")
        offsets = [int.from_bytes(body[2 + 2 * at : 4 + 2 * at], "little") for at in range(min(count, SERVICES_MAX))]
        for offset in offsets:
            yield from _services(body[offset:], depth + 2)
    elif service == FORWARD_CLOSE and to_manager:
        yield "connect", ""
    else:
        yield SERVICES.get(service, ("call", f"service-{service}"))

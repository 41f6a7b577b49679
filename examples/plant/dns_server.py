"""The plant's resolver: answers A queries for the names it was given, NXDOMAIN for all others (RFC 1035, 4.1).

python -m examples.plant.dns_server ADDRESS PORT NAME=ADDRESS...
"""

import socket
import struct
import sys

TTL_S = 300
TYPE_A, CLASS_IN = 1, 1


def answer(query: bytes, names: dict[str, str]) -> bytes | None:
    if len(query) < 12:
        return None
    labels, position = [], 12
    while position < len(query) and query[position]:
        size = query[position]
        labels.append(query[position + 1 : position + 1 + size].decode("ascii", "replace"))
        position += 1 + size
    question = query[12 : position + 5]
    if len(question) < 5:
        return None
    address = names.get(".".join(labels).lower())
    known = address is not None and question[-4:] == struct.pack("!HH", TYPE_A, CLASS_IN)
    # QR, RD and RA set; RCODE 3 is NXDOMAIN.
    header = query[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, int(known), 0, 0)
    if not known:
        return header + question
    return header + question + b"\xc0\x0c" + struct.pack("!HHIH", TYPE_A, CLASS_IN, TTL_S, 4) + socket.inet_aton(str(address))


def main(address: str, port: str, *records: str) -> None:
    names = dict(record.split("=", 1) for record in records)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, int(port)))
        while True:
            query, client = server.recvfrom(4096)
            reply = answer(query, names)
            if reply is not None:
                server.sendto(reply, client)


if __name__ == "__main__":
    main(*sys.argv[1:])

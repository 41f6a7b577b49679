"""What a packet and a row of MySQL, SQL Server and Oracle cost, counts against a ledger.

    cargo build --release --example replay --manifest-path wire/Cargo.toml
    python -m benchmarks.databases [TIMES]

One connection for each line of the table: a recorded login, then the same exchange TIMES times. Exchanges are bytes made here by the
specification, or recorded ones (tests/data) whose client counted its rows. The sensor must count exactly TIMES as many.
"""

import json
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.instructions import capture, counted, each

RECORDED = Path(__file__).parent.parent / "tests" / "data"
PORTS = {"mysql": 3306, "tds": 1433, "tns": 1521}
TIMES = 2_000
ROWS = 1_000

Pieces = Sequence[tuple[bool, bytes]]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What stands first on a connection, what is repeated (by its number), and what one repetition moves."""

    protocol: str
    login: Pieces
    repeated: Callable[[int], Pieces]
    rows: dict[str, int]

    def write(self, path: Path, times: int) -> int:
        pieces = [*self.login, *(piece for number in range(times) for piece in self.repeated(number))]
        return capture(path, pieces, PORTS[self.protocol])


def recorded(protocol: str, name: str) -> tuple[Pieces, dict[str, int]]:
    """A conversation, and the rows that its client counted."""
    said = json.loads((RECORDED / protocol / f"{name}.json").read_text(encoding="utf-8"))
    return [(side == "client", bytes.fromhex(data)) for side, data in said["script"]], said["ledger"]


def again(protocol: str, name: str, start: int, end: int) -> Exchange:
    """A recording whose pieces from `start` to `end`, in which all its rows are, are repeated."""
    pieces, ledger = recorded(protocol, name)
    return Exchange(protocol, pieces[:start], lambda _: pieces[start:end], ledger)


def mysql(rows: int, *, new: bool = False) -> Exchange:
    """COM_QUERY with so many rows of a number and a text (MySQL, "Text Resultset"); `new`: each text is another one."""
    pieces, _ = recorded("mysql", "plain-select")

    def column(name: str, kind: int) -> bytes:
        texts = ("def", "mes", "lots", "lots", name, name)
        return b"".join(bytes([len(text)]) + text.encode() for text in texts) + struct.pack("<BHIBHBH", 12, 33, 80, kind, 0, 0, 0)

    def row(number: int) -> bytes:
        return b"".join(bytes([len(text)]) + text.encode() for text in (str(number), f"part {number}"))

    end = b"\xfe\x00\x00\x02\x00"
    bodies = [b"\x02", column("id", 3), column("part", 253), end, *map(row, range(rows)), end]
    answer = b"".join(len(body).to_bytes(3, "little") + bytes([number & 0xFF]) + body for number, body in enumerate(bodies, 1))

    def repeated(number: int) -> Pieces:
        query = f"\x03SELECT id, part FROM lots WHERE id > {number if new else 0}".encode()
        return [(True, len(query).to_bytes(3, "little") + b"\x00" + query), (False, answer)]

    return Exchange("mysql", pieces[:5], repeated, {"select": rows})


def tds(rows: int, *, new: bool = False) -> Exchange:
    """A SQLBatch with so many rows of a number and a text (MS-TDS 2.2.6.7, 2.2.7), in packets of 4,096 bytes."""
    pieces, _ = recorded("tds", "plain")

    def wide(text: str) -> bytes:
        return text.encode("utf-16-le")

    def message(kind: int, body: bytes) -> bytes:
        parts = [body[start : start + 4088] for start in range(0, len(body), 4088)]
        ends = [0] * (len(parts) - 1) + [1]
        packets = zip(parts, ends, range(1, len(parts) + 1), strict=True)
        return b"".join(struct.pack(">BBHHBB", kind, last, 8 + len(part), 51, number & 0xFF, 0) + part for part, last, number in packets)

    shape = b"\x81\x02\x00" + b"".join(
        struct.pack("<IH", 0, 9) + kind + bytes([len(name)]) + wide(name)
        for name, kind in (("id", b"\x26\x04"), ("part", b"\xe7\x78\x00" + bytes.fromhex("0904d00034")))
    )

    def row(number: int) -> bytes:
        text = wide(f"part {number}")
        return b"\xd1\x04" + struct.pack("<iH", number, len(text)) + text

    headers = bytes.fromhex("16000000120000000200000000000000000001000000")
    answer = message(4, shape + b"".join(map(row, range(rows))) + b"\xfd" + struct.pack("<HHQ", 0x10, 0xC1, rows))

    def repeated(number: int) -> Pieces:
        text = f"SELECT id, part FROM dbo.lots WHERE id > {number if new else 0}"
        return [(True, message(1, headers + wide(text))), (False, answer)]

    return Exchange("tds", pieces[:4], repeated, {"select": rows})


def exchanges() -> dict[str, Exchange]:
    return {
        "MySQL, a statement, one row": mysql(1),
        "MySQL, the same, each text another one": mysql(1, new=True),
        "MySQL, prepared statements and cursors (recorded)": again("mysql", "prepared", 3, -1),
        "MySQL, 1,000 rows": mysql(ROWS),
        "SQL Server, a batch, one row": tds(1),
        "SQL Server, the same, each text another one": tds(1, new=True),
        "SQL Server, sp_prepexec, sp_execute, cursors (recorded)": again("tds", "prepared", 4, 24),
        "SQL Server, 1,000 rows": tds(ROWS),
        "Oracle, INSERT, UPDATE, DELETE, arrays (recorded)": again("tns", "changes", 12, 28),
        "Oracle, queries and fetches (recorded)": again("tns", "queries", 10, 28),
    }


def line(name: str, exchange: Exchange, times: int) -> str:
    """One line of the table; the counts must be the ledger's."""
    if sum(exchange.rows.values()) >= ROWS:
        times //= 10
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "connection.pcap"
        cost = each(path, exchange.write, times)
        found, ledger = counted(path), Counter({what: rows * times for what, rows in exchange.rows.items()})
        if found != ledger:
            raise SystemExit(f"{name}: the ledger has {dict(ledger)}, the sensor {dict(found)}")
        packets = exchange.write(path, 1) - exchange.write(path, 0)
    size = sum(len(data) for _, data in exchange.repeated(0))
    rows = sum(exchange.rows.values())
    return f"| {name} | {packets} | {size:,} | {rows:,} | {cost:,.0f} | {cost / packets:,.0f} | {cost / rows:,.0f} |"


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else TIMES
    print("| an exchange | packets | bytes | rows | instructions | a packet | a row |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, exchange in exchanges().items():
        print(line(name, exchange, times), flush=True)


if __name__ == "__main__":
    main()

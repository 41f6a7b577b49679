"""Records what clients of SQL Server say to a server made here, and what the clients count of its answers.

usage: record.py OUT_DIR     (needs python-tds, and freebcp and tsql of FreeTDS)

No SQL Server runs here. The server below answers by the specification (MS-TDS 2.2.6 and 2.2.7, MC-SMP) what each scenario has it answer; it
listens on 127.0.0.1 only. The clients are others' work: they write logins, calls, parameters, bulk rows and MARS by their own reading of the
specification, and they read the answers by it, so a row that was written wrongly is not counted in the ledger. A file is
`{"scenario", "provenance", "script": [[side, hex], …], "ledger": {operation: rows}, "secrets": […]}`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytds
from pytds import tds_base, tds_types

SECRET = "synthetic-pw-71"
TOLD = "not-told"

BATCH, RPC, ANSWER, ATTENTION, BULK, LOGIN, PRELOGIN = 1, 3, 4, 6, 7, 16, 18
COLLATION = bytes.fromhex("0904d00034")


def wide(text: str) -> bytes:
    return text.encode("utf-16-le")


def short(text: str) -> bytes:
    return bytes([len(text)]) + wide(text)


def long(text: str) -> bytes:
    return struct.pack("<H", len(text)) + wide(text)


# ---- tokens of the server ---------------------------------------------------------------------------------------------------


def done(
    command: int = 0, rows: int | None = None, more: bool = False, kind: int = 0xFD, status: int = 0, wide_count: bool = True
) -> bytes:
    status |= (0x10 if rows is not None else 0) | more
    return bytes([kind]) + struct.pack("<HH", status, command) + struct.pack("<Q" if wide_count else "<I", rows or 0)


def done_in_proc(command: int, rows: int | None) -> bytes:
    return done(command, rows, more=True, kind=0xFF)


def done_proc(more: bool = False) -> bytes:
    return struct.pack("<Bi", 0x79, 0) + done(0xE0, more=more, kind=0xFE, status=0x80 if more else 0)


def error(number: int, text: str, severity: int = 14) -> bytes:
    body = struct.pack("<iBB", number, 1, severity) + long(text) + short("made") + short("") + struct.pack("<I", 1)
    return b"\xaa" + struct.pack("<H", len(body)) + body


def changed(kind: int, new: str, old: str = "") -> bytes:
    body = bytes([kind]) + short(new) + short(old)
    return b"\xe3" + struct.pack("<H", len(body)) + body


def handle(number: int, place: int = 0) -> bytes:
    return (
        b"\xac" + struct.pack("<H", place) + short("@h") + b"\x01" + struct.pack("<IH", 0, 0) + b"\x26\x04\x04" + struct.pack("<i", number)
    )


Column = tuple[str, bytes]
INT: bytes = b"\x26\x04"
NVARCHAR: bytes = b"\xe7" + struct.pack("<H", 120) + COLLATION


def columns(*of: Column, wide_type: bool = True) -> bytes:
    out = b"\x81" + struct.pack("<H", len(of))
    for name, kind in of:
        out += struct.pack("<I" if wide_type else "<H", 0) + struct.pack("<H", 9) + kind + short(name)
    return out


def integer(value: int | None) -> bytes:
    return b"\x00" if value is None else b"\x04" + struct.pack("<i", value)


def nvarchar(value: str | None) -> bytes:
    return b"\xff\xff" if value is None else struct.pack("<H", 2 * len(value)) + wide(value)


def plp(value: bytes | None, *cuts: int, known: bool = True) -> bytes:
    if value is None:
        return b"\xff" * 8
    out = struct.pack("<Q", len(value) if known else 0xFFFFFFFFFFFFFFFE)
    for start, end in itertools.pairwise((0, *cuts, len(value))):
        out += struct.pack("<I", end - start) + value[start:end] if end > start else b""
    return out + b"\0\0\0\0"


def row(*values: bytes) -> bytes:
    return b"\xd1" + b"".join(values)


def sparse_row(*values: bytes | None) -> bytes:
    bits = bytearray((len(values) + 7) // 8)
    for place, value in enumerate(values):
        if value is None:
            bits[place // 8] |= 1 << place % 8
    return b"\xd2" + bytes(bits) + b"".join(value for value in values if value is not None)


def parts(count: int, first: int = 1, wide_type: bool = True) -> bytes:
    out = columns(("id", INT), ("part", NVARCHAR), wide_type=wide_type)
    return out + b"".join(row(integer(n), nvarchar(f"part {n}")) for n in range(first, first + count))


EVERY: list[tuple[str, bytes, list[bytes]]] = [
    ("bit1", b"\x32", [b"\x01"]),
    ("tiny", b"\x30", [b"\x07"]),
    ("small", b"\x34", [struct.pack("<h", 7)]),
    ("int4", b"\x38", [struct.pack("<i", 7)]),
    ("big", b"\x7f", [struct.pack("<q", 7)]),
    ("real4", b"\x3b", [struct.pack("<f", 7)]),
    ("float8", b"\x3e", [struct.pack("<d", 7)]),
    ("money8", b"\x3c", [bytes(8)]),
    ("money4", b"\x7a", [bytes(4)]),
    ("date8", b"\x3d", [bytes(8)]),
    ("date4", b"\x3a", [bytes(4)]),
    ("intn", b"\x26\x08", [b"\x08" + struct.pack("<q", -1), b"\x00"]),
    ("bitn", b"\x68\x01", [b"\x01\x01", b"\x00"]),
    ("floatn", b"\x6d\x08", [b"\x08" + bytes(8), b"\x00"]),
    ("moneyn", b"\x6e\x08", [b"\x08" + bytes(8), b"\x04" + bytes(4), b"\x00"]),
    ("datetimen", b"\x6f\x08", [b"\x08" + bytes(8), b"\x00"]),
    ("guid", b"\x24\x10", [b"\x10" + bytes(range(16)), b"\x00"]),
    ("decimaln", b"\x6a\x09\x12\x02", [b"\x09\x01" + struct.pack("<Q", 12345), b"\x00"]),
    ("numericn", b"\x6c\x05\x09\x02", [b"\x05\x01" + struct.pack("<I", 12345), b"\x00"]),
    ("daten", b"\x28", [b"\x03\x01\x00\x00", b"\x00"]),
    ("timen", b"\x29\x07", [b"\x05" + bytes(5), b"\x00"]),
    ("datetime2", b"\x2a\x07", [b"\x08" + bytes(5) + b"\x01\0\0", b"\x00"]),
    ("datetimeoffset", b"\x2b\x07", [b"\x0a" + bytes(5) + b"\x01\0\0\0\0", b"\x00"]),
    ("varbinary", b"\xa5" + struct.pack("<H", 20), [struct.pack("<H", 3) + b"abc", b"\0\0", b"\xff\xff"]),
    ("binary", b"\xad" + struct.pack("<H", 4), [struct.pack("<H", 4) + b"abcd", b"\xff\xff"]),
    ("varchar", b"\xa7" + struct.pack("<H", 20) + COLLATION, [struct.pack("<H", 3) + b"abc", b"\xff\xff"]),
    ("char", b"\xaf" + struct.pack("<H", 4) + COLLATION, [struct.pack("<H", 4) + b"abcd", b"\xff\xff"]),
    ("nvarchar", NVARCHAR, [nvarchar("naïve"), nvarchar(""), nvarchar(None)]),
    ("nchar", b"\xef" + struct.pack("<H", 8) + COLLATION, [nvarchar("abcd"), nvarchar(None)]),
    (
        "nvarchar_max",
        b"\xe7\xff\xff" + COLLATION,
        [plp(wide("a long text, in chunks"), 8, 20), plp(wide("unknown length"), 4, known=False), plp(b""), plp(None)],
    ),
    ("varchar_max", b"\xa7\xff\xff" + COLLATION, [plp(b"x" * 3000, 1000, 1001), plp(None)]),
    ("varbinary_max", b"\xa5\xff\xff", [plp(bytes(5000), 4096), plp(b"", known=False), plp(None)]),
    ("xml", b"\xf1\x00", [plp(wide("<a/>")), plp(None)]),
    ("xml_of", b"\xf1\x01" + short("mes") + short("dbo") + long("orders"), [plp(wide("<a/>")), plp(None)]),
    (
        "text",
        b"\x23" + struct.pack("<I", 0x7FFFFFFF) + COLLATION + b"\x03" + long("mes") + long("dbo") + long("t"),
        [b"\x10" + bytes(24) + struct.pack("<I", 5) + b"texts", b"\x00"],
    ),
    (
        "ntext",
        b"\x63" + struct.pack("<I", 0x7FFFFFFF) + COLLATION + b"\x01" + long("t"),
        [b"\x10" + bytes(24) + struct.pack("<I", 8) + wide("text"), b"\x00"],
    ),
    ("image", b"\x22" + struct.pack("<I", 0x7FFFFFFF) + b"\x01" + long("t"), [b"\x10" + bytes(24) + struct.pack("<I", 2) + b"ab", b"\x00"]),
    (
        "variant",
        b"\x62" + struct.pack("<I", 8009),
        [
            struct.pack("<I", 6) + b"\x38\x00" + struct.pack("<i", 7),
            struct.pack("<I", 9 + 6) + b"\xe7\x07" + COLLATION + struct.pack("<H", 60) + wide("abc"),
            struct.pack("<I", 0),
        ],
    ),
    (
        "udt",
        b"\xf0\xff\xff" + short("mes") + short("sys") + short("geometry") + long("Microsoft.SqlServer.Types.SqlGeometry"),
        [plp(bytes(22)), plp(None)],
    ),
]


def every_type() -> tuple[bytes, int]:
    """A table with a column of each type, and rows in which each value of each stands once."""
    out, count = columns(*((name, kind) for name, kind, _ in EVERY)), max(len(values) for _, _, values in EVERY)
    for at in range(count):
        out += row(*(values[at % len(values)] for _, _, values in EVERY))
    nullable = {name for name, _, values in EVERY if len(values) > 1}
    for every in (2, 3, 1):
        out += sparse_row(*(None if name in nullable and at % every == 0 else values[0] for at, (name, _, values) in enumerate(EVERY)))
    return out, count + 3


# ---- the server -------------------------------------------------------------------------------------------------------------

Answer = Callable[[int, bytes], "bytes | None"]


class Server:
    """Answers each message with what ``answer`` says, and writes down who said what."""

    def __init__(self, answer: Answer, *, mars: bool = False, packet_bytes: int = 4096, version: int = 0x74000004) -> None:
        self.answer, self.mars, self.packet_bytes, self.version = answer, mars, packet_bytes, version
        self.connections: list[list[tuple[str, str]]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                client, _ = self.listener.accept()
                said: list[tuple[str, str]] = []
                self.connections.append(said)
                threading.Thread(target=self.serve, args=(client, said), daemon=True).start()

    def serve(self, client: socket.socket, said: list[tuple[str, str]]) -> None:
        with contextlib.suppress(OSError, EOFError):
            buffer, sessions, messages = b"", dict[int, list[int]](), dict[int, tuple[int, bytes]]()
            while True:
                data = client.recv(65536)
                if not data:
                    return
                said.append(("client", data.hex()))
                buffer += data
                while buffer:
                    if buffer[0] == 0x53:
                        if len(buffer) < 16 or len(buffer) < struct.unpack_from("<I", buffer, 4)[0]:
                            break
                        flags, session, length = struct.unpack_from("<BHI", buffer, 1)
                        packet, buffer = buffer[16:length], buffer[length:]
                        state = sessions.setdefault(session, [0, 4])
                        state[1] += flags == 8
                        if flags == 4:
                            self.send(client, said, struct.pack("<BBHIII", 0x53, 4, session, 16, state[0], state[1]))
                    else:
                        if len(buffer) < 8 or len(buffer) < struct.unpack_from(">H", buffer, 2)[0]:
                            break
                        session, length = -1, struct.unpack_from(">H", buffer, 2)[0]
                        packet, buffer = buffer[:length], buffer[length:]
                    if not packet:
                        continue
                    kind, body = messages.get(session, (packet[0], b""))
                    messages[session] = (kind, body + packet[8:])
                    if packet[1] & 1:
                        kind, body = messages.pop(session)
                        answer = self.told(kind, body)
                        if answer is None:
                            continue
                        for piece in self.packets(answer):
                            head = b""
                            if session >= 0:
                                sessions[session][0] += 1
                                head = struct.pack("<BBHIII", 0x53, 8, session, 16 + len(piece), *sessions[session])
                            self.send(client, said, head + piece)

    def send(self, client: socket.socket, said: list[tuple[str, str]], data: bytes) -> None:
        # Written down before it is passed on: so an answer never stands behind what follows it.
        said.append(("server", data.hex()))
        client.sendall(data)

    def packets(self, answer: bytes) -> Iterable[bytes]:
        size = self.packet_bytes - 8
        for number, start in enumerate(range(0, max(len(answer), 1), size), 1):
            piece = answer[start : start + size]
            yield struct.pack(">BBHHBB", ANSWER, start + size >= len(answer), len(piece) + 8, 51, number % 256, 0) + piece

    def told(self, kind: int, body: bytes) -> bytes | None:
        if kind == PRELOGIN:
            options = [(0, bytes.fromhex("100003e80000")), (1, b"\x02"), (2, b"\x00"), (3, b""), (4, bytes([self.mars]))]
            place, head, tail = 5 * len(options) + 1, b"", b""
            for option, value in options:
                head += struct.pack(">BHH", option, place + len(tail), len(value))
                tail += value
            return head + b"\xff" + tail
        if kind == LOGIN:
            refused = self.answer(kind, body)
            if refused is not None:
                return refused
            name = "Microsoft SQL Server"
            body = b"\x01" + struct.pack(">I", self.version) + short(name) + bytes([16, 0, 3, 232])
            acknowledged = b"\xad" + struct.pack("<H", len(body)) + body
            size = changed(4, str(self.packet_bytes), "4096")
            collation = b"\xe3\x08\x00\x07\x05" + COLLATION + b"\x00"
            return changed(1, "MES", "master") + collation + acknowledged + size + done(wide_count=self.version >= 0x72000000)
        # What asks to end a request is told that it has ended.
        return done(status=0x20) if kind == ATTENTION else self.answer(kind, body)


def text_of(body: bytes) -> str:
    """A batch's text behind its headers, if it has any."""
    length = struct.unpack_from("<I", body)[0]
    return body[length if length == 22 else 0 :].decode("utf-16-le")


# ---- the scenarios ----------------------------------------------------------------------------------------------------------

Ledger = dict[str, int]


def connect(port: int, **options: Any) -> pytds.Connection:
    given = {
        "user": "reader",
        "password": SECRET,
        "database": "MES",
        "appname": "report",
        "autocommit": True,
        "disable_connect_retry": True,
    }
    return pytds.connect("127.0.0.1", port=port, **{**given, **options})


def by_text(answers: dict[str, bytes]) -> Answer:
    """An answer for each text that a batch or a call holds."""

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == LOGIN:
            return None
        for text, tokens in answers.items():
            if wide(text) in body:
                return tokens
        return done()

    return answer


def asked(port: int, *texts: tuple[str, Any], **options: Any) -> list[int]:
    """Rows that each text returned or changed."""
    counts = []
    with connect(port, **options) as connection, connection.cursor() as cursor:
        for text, values in texts:
            cursor.execute(text, values)
            counts.append(len(cursor.fetchall()) if cursor.description else cursor.rowcount)
    return counts


def plain(run: Callable[[Answer], Server]) -> Ledger:
    server = run(
        by_text({"genealogy": parts(25) + done(0xC1, 25), "@@VERSION": columns(("", NVARCHAR)) + row(nvarchar("x")) + done(0xC1, 1)})
    )
    counts = asked(
        server.port,
        (f"SELECT id, part FROM dbo.genealogy WHERE id <= 25 AND part <> '{TOLD}'", None),
        ("SELECT @@VERSION", None),
        ("USE mes", None),
    )
    return {"select": counts[0] + counts[1]}


def old(run: Callable[..., Server]) -> Ledger:
    """TDS 7.1: no headers, short counts."""
    tokens = parts(9, wide_type=False) + done(0xC1, 9, wide_count=False)
    inserted = done(0xC3, 2, wide_count=False)
    other = done(wide_count=False)

    def answer(kind: int, body: bytes) -> bytes | None:
        found = tokens if wide("genealogy") in body else inserted if wide("INSERT") in body else other
        return None if kind == LOGIN else found

    server = run(answer, version=0x71000001)
    counts = asked(
        server.port,
        ("SELECT id, part FROM genealogy", None),
        ("INSERT INTO lots VALUES (1), (2)", None),
        tds_version=tds_base.TDS71,
    )
    return {"select": counts[0], "insert": counts[1]}


def types(run: Callable[[Answer], Server]) -> Ledger:
    tokens, count = every_type()
    server = run(by_text({"everything": tokens + done(0xC1, count)}))
    return {"select": sum(asked(server.port, ("SELECT * FROM dbo.everything", None)))}


def large(run: Callable[..., Server]) -> Ledger:
    server = run(by_text({"genealogy": parts(700) + done(0xC1, 700), "orders": parts(3) + done(0xC1, 3)}), packet_bytes=512)
    return {"select": sum(asked(server.port, ("SELECT id, part FROM dbo.genealogy", None), ("SELECT id, part FROM dbo.orders", None)))}


def parameters(run: Callable[[Answer], Server]) -> Ledger:
    answers = {
        "genealogy": parts(4) + done_in_proc(0xC1, 4) + done_proc(),
        "UPDATE": done_in_proc(0xC5, 3) + done_proc(),
        "INSERT": done_in_proc(0xC3, 1) + done_proc(),
        "DELETE": done_in_proc(0xC4, 2) + done_proc(),
    }
    server = run(by_text(answers))
    counts = asked(
        server.port,
        ("SELECT id, part FROM dbo.genealogy WHERE part = %s OR id < %s", (TOLD, 5)),
        ("UPDATE dbo.orders SET quantity = %s WHERE id = %s", (5, 7)),
        ("INSERT INTO dbo.lots (note) VALUES (%s)", (TOLD * 500,)),
        ("DELETE FROM dbo.lots WHERE id = %s", (12345678901,)),
    )
    return {"select": counts[0], "update": counts[1], "insert": counts[2], "delete": counts[3]}


def changes(run: Callable[[Answer], Server]) -> Ledger:
    both = done(0xC3, 2, more=True) + parts(3) + done(0xC1, 3, more=True) + done(0xC5, 4)
    server = run(by_text({"SET NOCOUNT": done(0xB9, more=True) + both, "MERGE": done(0x117, 6), "TRUNCATE": done(0xD8)}))
    with connect(server.port) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SET NOCOUNT OFF INSERT INTO dbo.lots VALUES (1), (2) SELECT id, part FROM dbo.genealogy UPDATE dbo.orders SET n = 1"
        )
        counts: list[int] = []
        while True:
            counts.append(len(cursor.fetchall()) if cursor.description else cursor.rowcount)
            if not cursor.nextset():
                break
        cursor.execute("MERGE dbo.orders AS t USING dbo.lots AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET n = s.n;")
        merged = cursor.rowcount
        cursor.execute("TRUNCATE TABLE dbo.lots")
    # Of what comes behind the last result, python-tds does not tell the count.
    inserted, returned = [count for count in counts if count >= 0]
    return {"insert": inserted, "select": returned, "update": 4 + merged}


def procedures(run: Callable[[Answer], Server]) -> Ledger:
    two = (
        parts(2)
        + done_in_proc(0xC1, 2)
        + columns(("n", INT))
        + row(integer(5))
        + done_in_proc(0xC1, 1)
        + done_in_proc(0xC3, 9)
        + done_proc()
    )
    server = run(by_text({"report": two, "load": done_proc()}))
    rows = 0
    with connect(server.port) as connection, connection.cursor() as cursor:
        cursor.callproc("dbo.report", (5, TOLD))
        while True:
            rows += len(cursor.fetchall()) if cursor.description else 0
            if not cursor.nextset():
                break
        kind = tds_types.TableType(
            "dbo", "list", [tds_base.Column("id", tds_types.IntType()), tds_base.Column("w", tds_types.NVarCharType(20))]
        )
        table = pytds.TableValuedParam("dbo.list", rows=[(1, "a"), (2, TOLD), (3, None)], columns=kind.columns)
        cursor.callproc("dbo.load", [table])
        cursor.execute("EXEC dbo.report 5")
        while True:
            rows += len(cursor.fetchall()) if cursor.description else 0
            if not cursor.nextset():
                break
    return {"select": rows, "call": 3}


def prepared(run: Callable[[Answer], Server]) -> Ledger:
    """sp_prepare, sp_execute twice, sp_unprepare; a cursor, fetched twice."""
    numbers = iter(range(100))

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == LOGIN:
            return None
        at = next(numbers)
        return [
            handle(7) + done_proc(),
            parts(5) + done_in_proc(0xC1, 5) + done_proc(),
            parts(6) + done_in_proc(0xC1, 6) + done_proc(),
            columns(("id", INT), ("part", NVARCHAR)) + done_in_proc(0xC1, 0) + handle(180150003) + done_proc(),
            parts(10) + done_in_proc(0xC1, 10) + done_proc(),
            parts(3, 11) + done_in_proc(0xC1, 3) + done_proc(),
            done_proc(),
            done_in_proc(0xC5, 1) + handle(8) + done_proc(),
            done_in_proc(0xC5, 2) + done_proc(),
            done_proc(),
        ][at]

    server = run(answer)
    rows = 0
    with connect(server.port) as connection, connection.cursor() as cursor:
        session = cursor._session

        def call(number: int, name: str, *values: Any) -> int:
            made = [session.make_param("", value) for value in values]
            session.submit_rpc(tds_base.InternalProc(number, name), made)
            session.begin_response()
            session.process_rpc()
            fetched = len(cursor.fetchall()) if cursor.description and session.res_info else 0
            session.complete_rpc()
            return fetched

        text = "SELECT id, part FROM dbo.genealogy WHERE id <= @n"
        call(tds_base.TDS_SP_PREPARE, "sp_prepare", 0, "@n int", text, 1)
        rows += call(tds_base.TDS_SP_EXECUTE, "sp_execute", 7, 5)
        rows += call(tds_base.TDS_SP_EXECUTE, "sp_execute", 7, 6)
        call(tds_base.TDS_SP_CURSOROPEN, "sp_cursoropen", 0, "SELECT id, part FROM dbo.orders", 1, 1, 0)
        rows += call(tds_base.TDS_SP_CURSORFETCH, "sp_cursorfetch", 180150003, 2, 0, 10)
        rows += call(tds_base.TDS_SP_CURSORFETCH, "sp_cursorfetch", 180150003, 2, 0, 10)
        call(tds_base.TDS_SP_CURSORCLOSE, "sp_cursorclose", 180150003)
        call(tds_base.TDS_SP_PREPEXEC, "sp_prepexec", 0, "@n int", "UPDATE dbo.lots SET n = @n", 4)
        call(tds_base.TDS_SP_EXECUTE, "sp_execute", 8, 4)
        call(tds_base.TDS_SP_UNPREPARE, "sp_unprepare", 7)
    return {"select": rows, "update": 3}


def bulk(run: Callable[[Answer], Server]) -> Ledger:
    def answer(kind: int, body: bytes) -> bytes | None:
        return None if kind == LOGIN else done(0xF0, 40) if kind == BULK else done()

    server = run(answer)
    kinds = [
        tds_base.Column("id", tds_types.IntType()),
        tds_base.Column("note", tds_types.NVarCharType(60)),
        tds_base.Column("doc", tds_types.NVarCharMaxType()),
    ]
    with connect(server.port, blocksize=512) as connection, connection.cursor() as cursor:
        cursor.copy_to(
            table_or_view="lots", schema="dbo", columns=kinds, data=[(n, TOLD, "x" * n * 9 if n % 3 else None) for n in range(40)]
        )
    return {"copy": 40}


def bulk_fails(run: Callable[[Answer], Server]) -> Ledger:
    def answer(kind: int, body: bytes) -> bytes | None:
        return None if kind == LOGIN else error(2627, "duplicate key") + done(0xF0, status=2) if kind == BULK else done()

    server = run(answer)
    with connect(server.port) as connection, connection.cursor() as cursor, contextlib.suppress(pytds.DatabaseError):
        cursor.copy_to(table_or_view="lots", columns=[tds_base.Column("id", tds_types.IntType())], data=[(n,) for n in range(5)])
    return {}


def errors(run: Callable[[Answer], Server]) -> Ledger:
    server = run(
        by_text(
            {
                "hidden": error(229, "The SELECT permission was denied on the object 'hidden'") + done(0xC1, status=2),
                "lots": error(2627, "duplicate key") + done(0xC3, 0, status=2),
                "genealogy": parts(2) + error(8134, "divide by zero", 16) + done(0xC1, 2, status=2),
            }
        )
    )
    rows = 0
    with connect(server.port) as connection, connection.cursor() as cursor:
        for text in ("SELECT word FROM dbo.hidden", "INSERT INTO dbo.lots VALUES (1)", "SELECT id, part FROM dbo.genealogy"):
            try:
                cursor.execute(text)
                while cursor.fetchone():
                    rows += 1
            except pytds.DatabaseError:
                pass
    return {"select": rows}


def login_fails(run: Callable[[Answer], Server]) -> Ledger:
    refused = error(18456, "Login failed for user 'reader'.") + done(status=2)
    server = run(lambda kind, body: refused if kind == LOGIN else done())
    with contextlib.suppress(pytds.Error):
        connect(server.port, password="wrong-word")
    return {}


def roles(run: Callable[[Answer], Server]) -> Ledger:
    server = run(by_text({"genealogy": parts(2) + done(0xC1, 2)}))
    texts = ("EXECUTE AS USER = 'auditor'", "SELECT id, part FROM dbo.genealogy", "REVERT", "SELECT id, part FROM dbo.genealogy")
    accounts = (f"CREATE LOGIN joe WITH PASSWORD = '{TOLD}'", "ALTER ROLE db_owner ADD MEMBER joe", "GRANT SELECT ON dbo.orders TO joe")
    return {"select": sum(count for count in asked(server.port, *((text, None) for text in texts + accounts)) if count > 0)}


def mars(run: Callable[..., Server]) -> Ledger:
    answers = {"genealogy": parts(60) + done(0xC1, 60), "orders": parts(7) + done(0xC1, 7), "lots": done(0xC3, 1)}
    server = run(by_text(answers), mars=True, packet_bytes=512)
    with connect(server.port, use_mars=True) as connection:
        one, two = connection.cursor(), connection.cursor()
        one.execute("SELECT id, part FROM dbo.genealogy")
        rows = len(one.fetchmany(3))
        two.execute("SELECT id, part FROM dbo.orders")
        rows += len(one.fetchmany(9)) + len(two.fetchall()) + len(one.fetchall())
        two.execute("INSERT INTO dbo.lots VALUES (1)")
        inserted = two.rowcount
        two.close()
    return {"select": rows, "insert": inserted}


def freetds(run: Callable[[Answer], Server]) -> Ledger:
    """FreeTDS: its shell, and rows in bulk by its bcp."""

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == LOGIN:
            return None
        if kind == BULK:
            return done(0xF0, 3)
        text = text_of(body) if kind == BATCH else ""
        shape = columns(("id", INT), ("note", NVARCHAR))
        if "fmtonly" in text.lower():
            return shape + done(0xC1, 0)
        return parts(12) + done(0xC1, 12) if "genealogy" in text else done()

    server = run(answer)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "rows").write_text("1\tone\n2\ttwo\n3\tthree\n")
        (path / "freetds.conf").write_text(f"[made]\nhost = 127.0.0.1\nport = {server.port}\ntds version = 7.4\nencryption = off\n")
        environment = {"FREETDSCONF": str(path / "freetds.conf"), "PATH": "/usr/bin:/bin", "HOME": folder}
        copy = ["freebcp", "MES.dbo.lots", "in", str(path / "rows"), "-S", "made", "-U", "reader", "-P", SECRET, "-c"]
        ran = subprocess.run(copy, env=environment, capture_output=True, text=True, check=False, timeout=20)
        copied = int(next((line.split()[0] for line in ran.stdout.splitlines() if "rows copied" in line), "0"))
    if not copied:
        raise SystemExit(f"freebcp: {ran.stdout} {ran.stderr}")
    return {"copy": copied}


def freetds_shell(run: Callable[[Answer], Server]) -> Ledger:
    server = run(by_text({"genealogy": parts(12) + done(0xC1, 12)}))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "freetds.conf").write_text(f"[made]\nhost = 127.0.0.1\nport = {server.port}\ntds version = 7.3\nencryption = off\n")
        environment = {"FREETDSCONF": str(path / "freetds.conf"), "PATH": "/usr/bin:/bin", "HOME": folder}
        shell = ["tsql", "-S", "made", "-U", "reader", "-P", SECRET, "-o", "fhq"]
        text = "SELECT id, part FROM dbo.genealogy\nGO\n"
        ran = subprocess.run(shell, input=text, env=environment, capture_output=True, text=True, check=False, timeout=20)
    return {"select": sum("part " in line for line in ran.stdout.splitlines())}


SCENARIOS: dict[str, Callable[..., Ledger]] = {
    "plain": plain,
    "old": old,
    "types": types,
    "large": large,
    "parameters": parameters,
    "changes": changes,
    "procedures": procedures,
    "prepared": prepared,
    "bulk": bulk,
    "bulk-fails": bulk_fails,
    "errors": errors,
    "login-fails": login_fails,
    "roles": roles,
    "mars": mars,
    "freetds-bulk": freetds,
    "freetds-shell": freetds_shell,
}


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    version = subprocess.run(["tsql", "-C"], capture_output=True, text=True, check=False).stdout
    free = next((line.split(":")[1].strip() for line in version.splitlines() if "Version:" in line), "?")
    for name, scenario in SCENARIOS.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        servers: list[Server] = []

        def run(answer: Answer, servers: list[Server] = servers, **options: Any) -> Server:
            servers.append(Server(answer, **options))
            return servers[-1]

        ledger = scenario(run)
        script = max((said for server in servers for said in server.connections), key=len)
        client = f"FreeTDS {free}" if name.startswith("freetds") else f"python-tds {importlib.metadata.version('python-tds')}"
        text = json.dumps(
            {
                "scenario": name,
                "provenance": f"{client}, a server made by record.py",
                "ledger": ledger,
                "secrets": [SECRET, "wrong-word", TOLD],
            },
            indent=1,
        )
        pieces = ",\n".join("  " + json.dumps(piece) for piece in script)
        (out / f"{name}.json").write_text(text.removesuffix("\n}") + f',\n "script": [\n{pieces}\n ]\n}}\n')
        print(name, ledger, sum(len(data) // 2 for _, data in script), "bytes")


if __name__ == "__main__":
    main()

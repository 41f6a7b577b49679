"""Records conversations of a real client, python-oracledb in its thin mode, with the stand-in of a server (server.py).

usage: record.py OUT_DIR     (needs oracledb and cryptography)

All of it is made up here: accounts, passwords and rows; both ends are on 127.0.0.1. Every scenario runs through a proxy that
writes down who said which bytes, in order. A file is
`{"scenario", "provenance", "script": [[side, hex], …], "ledger": {operation: rows}, "secrets": […]}`; the ledger is the client's
own count. What the client says is as real as it can be; what the server says is what that client accepts, byte by byte.
"""

import contextlib
import json
import pathlib
import socket
import sys
import threading
from collections.abc import Callable

import oracledb
from server import CLOB, CURSOR, DATE, LONG, NUMBER, RAW, ROWID, VARCHAR, Column, Result, Server

SECRET = "synthetic-pw-71"
At = tuple[str, int]
ID, PART, STATION = Column("ID", NUMBER, 22), Column("PART", VARCHAR), Column("STATION", VARCHAR)
MADE = b"\x78\x7e\x0b\x16\x07\x01\x01"
GENEALOGY = [(n, f"part {n}", f"station {n % 3}") for n in range(1, 111)]
KINDS = [
    Column("ID", NUMBER, 22), Column("PLACE", ROWID, 18), Column("MADE", DATE, 7), Column("SEAL", RAW, 20), Column("WORDS", LONG, 0),
    Column("NOTHING", VARCHAR, 0), Column("NOTE", VARCHAR, 4000),
]  # fmt: skip

QUERY = "select id, part, station from mes.genealogy"
ALL = "select * from mes.genealogy where station = 'synthetic-station'"
SORTS = "select * from mes.sorts"
INSERT = "insert into mes.lots (id, note) values (:1, :2)"
UPDATE = "update mes.orders set quantity = 7 where id < 100"
DELETE = "delete from mes.lots"
DENIED = "select word from mes.hidden"
MISSING = "select word from mes.nowhere"
NOTES = "select id, note from mes.notes"
NESTED = "select id, cursor(select part from mes.parts) from mes.orders"
BLOCK = "begin mes.close_lot(7); end;"
WORDS = "synthetic-row-value " * 60
LARGE = "select id from mes.genealogy where part in (" + ", ".join(f"'synthetic-{n}'" for n in range(700)) + ")"

ANSWERS = {
    QUERY: Result([ID, PART, STATION], GENEALOGY),
    ALL: Result([ID, PART, STATION], [(n, "same", "same") for n in range(1, 31)], repeats=True),
    SORTS: Result(
        KINDS,
        [
            (0, "r", MADE, b"\x01\x02", WORDS, None, WORDS),
            (1000001, None, None, None, None, None, "x"),
            (12, "r", MADE, b"", "w", None, None),
        ],
    ),
    INSERT: Result(changed=3),
    UPDATE: Result(changed=42),
    DELETE: Result(changed=7),
    DENIED: Result(error=1031, breaks=True),
    MISSING: Result(error=942),
    NOTES: Result([ID, Column("NOTE", CLOB, 4000)], [(1, "a"), (2, "b"), (3, None)]),
    NESTED: Result([ID, Column("PARTS", CURSOR, 4)], [(1, Result([PART], [("p",), ("q",)])), (2, Result([PART], [("r",)]))]),
    BLOCK: Result(changed=1),
    LARGE: Result([ID], [(1,), (2,)]),
}


class Proxy:
    """Passes bytes on and writes them down, in the order in which they came."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.said: list[tuple[str, bytes]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.pumps: list[threading.Thread] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.server_port))
            self.pumps = [
                threading.Thread(target=self.pump, args=("client", client, server), daemon=True),
                threading.Thread(target=self.pump, args=("server", server, client), daemon=True),
            ]
            for pump in self.pumps:
                pump.start()

    def pump(self, side: str, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                self.said.append((side, piece))
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.listener.close()
        for pump in self.pumps:
            pump.join(5)


def connected(at: At, password: str = SECRET, **more: object) -> oracledb.Connection:
    return oracledb.connect(
        user="svc_mes", password=password, host=at[0], port=at[1], service_name="mes", program="loader", osuser="opc",
        machine="edge", disable_oob=True, **more,
    )  # fmt: skip


def queries(at: At) -> dict[str, int]:
    with connected(at) as connection, connection.cursor() as cursor:
        rows = len(cursor.execute(QUERY).fetchall())
        rows += len(cursor.execute(ALL).fetchall())
        # What is asked for ahead crosses the wire too: five, behind the two that an execution brings.
        cursor.arraysize = 5
        rows += len(cursor.execute(QUERY).fetchmany(7))
        rows += len(cursor.execute(SORTS).fetchall())
    return {"select": rows}


def changes(at: At) -> dict[str, int]:
    with connected(at) as connection, connection.cursor() as cursor:
        cursor.executemany(INSERT, [(n, "synthetic-row-value") for n in range(3)])
        inserted = cursor.rowcount
        cursor.executemany(INSERT, [(n, "synthetic-row-value") for n in range(3)])
        inserted += cursor.rowcount
        cursor.execute(UPDATE)
        updated = cursor.rowcount
        cursor.execute(DELETE)
        deleted = cursor.rowcount
        connection.commit()
        cursor.execute(BLOCK)
        connection.rollback()
        connection.ping()
    return {"insert": inserted, "update": updated, "delete": deleted}


def errors(at: At) -> dict[str, int]:
    with connected(at) as connection, connection.cursor() as cursor:
        for text in (DENIED, MISSING):
            with contextlib.suppress(oracledb.DatabaseError):
                cursor.execute(text)
        return {"select": len(cursor.execute(ALL).fetchall())}


def claims(at: At) -> dict[str, int]:
    with connected(at) as connection, connection.cursor() as cursor:
        connection.client_identifier = "h.keller"
        connection.module = "loading"
        return {"select": len(cursor.execute(ALL).fetchall())}


def lobs(at: At) -> dict[str, int]:
    with connected(at) as connection, connection.cursor() as cursor:
        rows = cursor.execute(NOTES).fetchall()
        for _, note in rows[:1]:
            note.read()
        rows += cursor.execute(NOTES).fetchall()
    return {"select": len(rows)}


def nested(at: At) -> dict[str, int]:
    with connected(at) as connection, connection.cursor() as cursor:
        rows = 0
        for _, parts in cursor.execute(NESTED):
            rows += 1 + len(parts.fetchall())
    return {"select": rows}


def large(at: At) -> dict[str, int]:
    with connected(at) as connection, connection.cursor() as cursor:
        return {"select": len(cursor.execute(LARGE).fetchall())}


def fails(at: At) -> dict[str, int]:
    with contextlib.suppress(oracledb.DatabaseError):
        connected(at, password="wrong-" + SECRET)
    return {}


SCENARIOS: dict[str, tuple[Callable[[At], dict[str, int]], dict[str, object]]] = {
    "queries": (queries, {}),
    "queries-12-1": (queries, {"fields": 7, "version": 315}),
    "queries-12-2": (queries, {"fields": 8, "version": 316}),
    "queries-21": (queries, {"fields": 16}),
    "queries-23": (queries, {"fields": 24, "version": 319}),
    "small-unit": (queries, {"unit": 512}),
    "changes": (changes, {"resend": True}),
    "changes-23": (changes, {"fields": 24, "version": 319}),
    "errors": (errors, {}),
    "claims": (claims, {}),
    "lobs": (lobs, {}),
    "nested": (nested, {}),
    "large": (large, {}),
    "login-fails": (fails, {}),
    "refused": (fails, {"refuse": 12514}),
}


def recorded(name: str) -> dict[str, object]:
    act, settings = SCENARIOS[name]
    server = Server(ANSWERS, SECRET, **settings)
    proxy = Proxy(server.port)
    ledger = act(("127.0.0.1", proxy.port))
    proxy.close()
    server.close()
    if server.failures:
        raise server.failures[0]
    return told(name, proxy.said, ledger)


def redirected() -> dict[str, object]:
    """A listener that sends the client on to another server, which it then reaches."""
    real = Server(ANSWERS, SECRET)
    listener = Server(ANSWERS, SECRET, redirect=f"(ADDRESS=(PROTOCOL=tcp)(HOST=127.0.0.1)(PORT={real.port}))")
    proxy = Proxy(listener.port)
    with connected(("127.0.0.1", proxy.port)) as connection, connection.cursor() as cursor:
        assert len(cursor.execute(ALL).fetchall()) == 30
    proxy.close()
    for server in (real, listener):
        server.close()
        if server.failures:
            raise server.failures[0]
    return told("redirected", proxy.said, {})


def told(name: str, said: list[tuple[str, bytes]], ledger: dict[str, int]) -> dict[str, object]:
    script: list[list[str]] = []
    for side, piece in said:
        script.append([side, piece.hex()])
    return {
        "scenario": name,
        "provenance": f"python-oracledb {oracledb.__version__} (thin) and tests/data/tns/server.py on loopback, all made up",
        "ledger": ledger,
        "secrets": [SECRET, "synthetic-row-value", "synthetic-station", "synthetic-1"],
        "script": script,
    }


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name in [*SCENARIOS, "redirected"]:
        print(name, flush=True)
        recording = redirected() if name == "redirected" else recorded(name)
        lines = ",\n".join(json.dumps(piece) for piece in recording.pop("script"))
        head = json.dumps(recording, indent=1)[:-2]
        (out / f"{name}.json").write_text(f'{head},\n "script": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()

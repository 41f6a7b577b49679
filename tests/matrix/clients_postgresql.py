"""PostgreSQL's clients of the table in Python and from Debian: psycopg, asyncpg, and PostgreSQL's own programs.

A verb is a function of the server that says what its client counted: rows that the driver handed over or the command's
own answer named, statements executed, bytes of files written.
"""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
from psycopg import pq

from examples.plant import servers as plant
from examples.plant.clients import rows_of_copy
from tests.matrix.ledger import Moved
from tests.matrix.servers import ACCOUNT, PLACEHOLDER, Server

Ledger = list[Moved]
Verb = Callable[[Server], Ledger]
GENEALOGY = "select id, part, station from mes.genealogy"
COPY_FORMATS = {"text": "(format text)", "CSV": "(format csv, header)", "binary": "(format binary)"}


def _moved(operation: str, rows: int | None = None, messages: int | None = None, payload_bytes: int | None = None) -> Moved:
    return Moved(ACCOUNT, operation, rows=rows, messages=messages, payload_bytes=payload_bytes)


# -- psycopg ----------------------------------------------------------------------------------------------------------


def connect(server: Server, **options: Any) -> "psycopg.Connection[tuple[Any, ...]]":
    return psycopg.connect(
        host=server.address, port=server.port, dbname="plant", user=ACCOUNT, password=PLACEHOLDER, sslmode="disable",
        gssencmode="disable", autocommit=True, **options,
    )  # fmt: skip


def simple_select(server: Server) -> Ledger:
    with connect(server) as connection:
        return [_moved("select", len(connection.execute(GENEALOGY).fetchall()), 1)]


def extended_select(server: Server) -> Ledger:
    with connect(server) as connection:
        return [_moved("select", len(connection.execute(f"{GENEALOGY} where id > %s", (600,)).fetchall()), 1)]


def prepared_select(server: Server) -> Ledger:
    with connect(server) as connection:
        rows = [connection.execute(f"{GENEALOGY} where id < %s", (n,), prepare=True).fetchall() for n in range(30)]
    return [_moved("select", sum(map(len, rows)), 30)]


def cursor_select(server: Server) -> Ledger:
    count = 0
    with connect(server) as connection, connection.transaction(), connection.cursor("walk") as cursor:
        cursor.execute(GENEALOGY)
        while rows := cursor.fetchmany(130):
            count += len(rows)
    return [_moved("select", count)]


def pipelined(server: Server) -> Ledger:
    with connect(server) as connection, connection.pipeline():
        written = [connection.execute("insert into mes.orders values (%s, 1)", (n,)) for n in range(12)]
        read = [connection.execute(f"{GENEALOGY} where id < %s", (n,)) for n in range(12)]
        rows = sum(len(cursor.fetchall()) for cursor in read)
    return [_moved("insert", sum(cursor.rowcount for cursor in written), 12), _moved("select", rows, 12)]


def copy_out(options: str) -> Verb:
    def run(server: Server) -> Ledger:
        statement = f"copy mes.genealogy to stdout {options}"
        with connect(server) as connection, connection.cursor() as cursor, cursor.copy(statement) as copy:
            received = b"".join(bytes(block) for block in copy)
        return [_moved("copy", rows_of_copy(received, statement), 1)]

    return run


def copy_in(options: str) -> Verb:
    def run(server: Server) -> Ledger:
        with connect(server) as connection, connection.cursor() as cursor:
            with cursor.copy(f"copy mes.orders from stdin {options}") as copy:
                if "binary" in options:
                    copy.set_types(["int4", "int4"])
                if "csv" in options:
                    copy.write("id,quantity\n" + "".join(f"{n},1\n" for n in range(300)))
                else:
                    for n in range(300):
                        copy.write_row((n, 1))
            return [_moved("copy", cursor.rowcount, 1)]

    return run


def changes(server: Server) -> Ledger:
    """INSERT, UPDATE and DELETE, with RETURNING and without."""
    with connect(server) as connection:
        inserted = connection.execute("insert into mes.orders select n, -7 from generate_series(1, 50) n").rowcount
        updated = connection.execute("update mes.orders set quantity = -8 where quantity = %s and id <= 20", (-7,)).rowcount
        returned = connection.execute("insert into mes.orders values (%s, -8), (%s, -8) returning id", (51, 52)).fetchall()
        deleted = connection.execute("delete from mes.orders where quantity in (-7, -8)").rowcount
    return [
        _moved("insert", inserted + len(returned), 2),
        _moved("update", updated, 1),
        _moved("delete", deleted, 1),
        _moved("select", len(returned)),
    ]


def merge(server: Server) -> Ledger:
    with connect(server) as connection:
        merged = connection.execute(
            "merge into mes.orders o using (select n from generate_series(1, 25) n) s on o.id = -s.n "
            "when matched then delete when not matched then insert values (-s.n, -9)"
        ).rowcount
    return [_moved("update", merged, 1)]


def function_call(server: Server) -> Ledger:
    with connect(server) as connection:
        rows = connection.execute("select * from mes.stations(%s, %s)", (1, 60)).fetchall()
        # What a procedure gives back is a row, and counts as those of RETURNING do.
        rows += connection.execute("call mes.recount(%s)", (1,)).fetchall()
    return [_moved("select", len(rows)), _moved("call", messages=1)]


def administration(server: Server) -> Ledger:
    name = f"contractor_{server.port}"
    statements = [
        f"create role {name} login password '{PLACEHOLDER}'",
        f"alter role {name} password '{PLACEHOLDER}'",
        f"grant select on mes.genealogy to {name}",
        f"revoke select on mes.genealogy from {name}",
        f"drop role {name}",
    ]
    with connect(server) as connection:
        for statement in statements:
            connection.execute(statement)
    return [_moved("admin", messages=len(statements))]


def large(server: Server) -> Ledger:
    with connect(server) as connection:
        return [_moved("select", len(connection.execute(server.facts["large"]).fetchall()), 1)]


def logical_replication(server: Server) -> Ledger:
    """The stream of a publication through pgoutput: one Insert, Update or Delete message a changed row (PostgreSQL, 55.5)."""
    end = make_changes(server)
    options = f"host={server.address} port={server.port} dbname=plant user={ACCOUNT} password={PLACEHOLDER}"
    connection = pq.PGconn.connect(f"{options} replication=database sslmode=disable gssencmode=disable".encode())
    rows = 0
    try:
        begun = connection.exec_(b"START_REPLICATION SLOT pgoutput_1 LOGICAL 0/0 (proto_version '1', publication_names 'changes')")
        assert begun.status == pq.ExecStatus.COPY_BOTH, connection.get_error_message()
        reached = 0
        while reached < end:
            _, message = connection.get_copy_data(0)
            data = bytes(message or b"")
            # XLogData: start, end, time; then the message. A keep-alive tells how far the stream is.
            rows += data[:1] == b"w" and data[25:26] in (b"I", b"U", b"D")
            reached = int.from_bytes(data[1:9] if data[:1] == b"k" else data[9:17], "big")
    finally:
        connection.finish()
    return [_moved("replicate", rows)]


def make_changes(server: Server) -> int:
    """Some changed rows, made where no tap sees it; the position of the log after them."""
    with server.facts["administrator"]("plant") as connection:
        connection.execute("insert into mes.work select n, 'line ' || n % 3 from generate_series(1, 40) n")
        connection.execute("update mes.work set line = 'line 9' where id <= 15")
        connection.execute("delete from mes.work")
        connection.execute("create table if not exists mes.unpublished (id int)")
        connection.execute("insert into mes.unpublished values (1)")
        row = connection.execute("select pg_current_wal_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])


PSYCOPG: dict[str, Verb] = {
    "simple select": simple_select,
    "extended select": extended_select,
    "prepared": prepared_select,
    "cursor": cursor_select,
    "pipelined": pipelined,
    **{f"COPY out, {name}": copy_out(options) for name, options in COPY_FORMATS.items()},
    **{f"COPY in, {name}": copy_in(options) for name, options in COPY_FORMATS.items()},
    "insert, update, delete": changes,
    "merge": merge,
    "function call": function_call,
    "account administration": administration,
    "logical replication": logical_replication,
    "result of 10 MB": large,
}


# -- asyncpg ----------------------------------------------------------------------------------------------------------


def _asyncpg(work: Callable[[Any, Server], Awaitable[Ledger]]) -> Verb:
    def run(server: Server) -> Ledger:
        async def body() -> Ledger:
            connection = await asyncpg.connect(
                host=server.address, port=server.port, database="plant", user=ACCOUNT, password=PLACEHOLDER, ssl=False
            )
            try:
                return await work(connection, server)
            finally:
                await connection.close()

        return asyncio.run(body())

    return run


async def _extended(connection: Any, server: Server) -> Ledger:
    return [_moved("select", len(await connection.fetch(f"{GENEALOGY} where id > $1", 600)), 1)]


async def _prepared(connection: Any, server: Server) -> Ledger:
    statement = await connection.prepare(f"{GENEALOGY} where id < $1")
    rows = [await statement.fetch(n) for n in range(30)]
    return [_moved("select", sum(map(len, rows)), 30)]


async def _partial(connection: Any, server: Server) -> Ledger:
    count = 0
    async with connection.transaction():
        async for _ in connection.cursor(GENEALOGY, prefetch=130):
            count += 1
    return [_moved("select", count)]


async def _many(connection: Any, server: Server) -> Ledger:
    """executemany: all Binds and Executes before one Sync."""
    await connection.executemany("insert into mes.orders values ($1, $2)", [(n, 3) for n in range(80)])
    return [_moved("insert", 80)]


def _asyncpg_copy_out(options: dict[str, Any]) -> Callable[[Any, Server], Awaitable[Ledger]]:
    async def work(connection: Any, server: Server) -> Ledger:
        received = bytearray()

        async def keep(data: bytes) -> None:
            received.extend(data)

        await connection.copy_from_query(GENEALOGY, output=keep, **options)
        return [_moved("copy", rows_of_copy(bytes(received), str(options)), 1)]

    return work


def _asyncpg_copy_in(options: dict[str, Any]) -> Callable[[Any, Server], Awaitable[Ledger]]:
    async def work(connection: Any, server: Server) -> Ledger:
        separator = "," if options["format"] == "csv" else "\t"
        lines = "".join(f"{n}{separator}2\n" for n in range(300))

        async def source() -> Any:
            yield (("id,quantity\n" if options.get("header") else "") + lines).encode()

        tag = await connection.copy_to_table("orders", schema_name="mes", source=source(), **options)
        return [_moved("copy", int(tag.split()[1]), 1)]

    return work


async def _asyncpg_records(connection: Any, server: Server) -> Ledger:
    tag = await connection.copy_records_to_table("orders", schema_name="mes", records=[(n, 2) for n in range(300)])
    return [_moved("copy", int(tag.split()[1]), 1)]


async def _asyncpg_changes(connection: Any, server: Server) -> Ledger:
    def told(tag: str) -> int:
        return int(tag.rsplit(maxsplit=1)[-1])

    inserted = told(await connection.execute("insert into mes.orders select n, -17 from generate_series(1, 50) n"))
    updated = told(await connection.execute("update mes.orders set quantity = -18 where quantity = $1", -17))
    returned = await connection.fetch("delete from mes.orders where quantity = -18 and id <= $1 returning id", 20)
    deleted = told(await connection.execute("delete from mes.orders where quantity = -18"))
    return [
        _moved("insert", inserted, 1),
        _moved("update", updated, 1),
        _moved("delete", deleted + len(returned), 2),
        _moved("select", len(returned)),
    ]


async def _asyncpg_function(connection: Any, server: Server) -> Ledger:
    rows = await connection.fetch("select * from mes.stations($1, $2)", 1, 60)
    rows += await connection.fetch("call mes.recount($1)", 1)
    return [_moved("select", len(rows)), _moved("call", messages=1)]


async def _asyncpg_large(connection: Any, server: Server) -> Ledger:
    return [_moved("select", len(await connection.fetch(server.facts["large"])), 1)]


ASYNCPG: dict[str, Verb] = {
    "extended select": _asyncpg(_extended),
    "prepared": _asyncpg(_prepared),
    "partial Execute": _asyncpg(_partial),
    "pipelined": _asyncpg(_many),
    "COPY out, text": _asyncpg(_asyncpg_copy_out({"format": "text"})),
    "COPY out, CSV": _asyncpg(_asyncpg_copy_out({"format": "csv", "header": True})),
    "COPY out, binary": _asyncpg(_asyncpg_copy_out({"format": "binary"})),
    "COPY in, text": _asyncpg(_asyncpg_copy_in({"format": "text"})),
    "COPY in, CSV": _asyncpg(_asyncpg_copy_in({"format": "csv", "header": True})),
    "COPY in, binary": _asyncpg(_asyncpg_records),
    "insert, update, delete": _asyncpg(_asyncpg_changes),
    "function call": _asyncpg(_asyncpg_function),
    "result of 10 MB": _asyncpg(_asyncpg_large),
}


# -- PostgreSQL's programs --------------------------------------------------------------------------------------------


def program(server: Server, name: str, *arguments: str, stdin: str | None = None, database: str | None = "plant") -> bytes:
    """Run one of them as the account; its standard output."""
    path = plant.postgresql_program(name)
    if path is None:
        raise plant.PlantError(f"{name} is not installed")
    environment = {
        "PATH": os.environ["PATH"], "PGHOST": server.address, "PGPORT": str(server.port), "PGUSER": ACCOUNT, "PGPASSWORD": PLACEHOLDER,
        "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PGAPPNAME": name, **({"PGDATABASE": database} if database else {}),
    }  # fmt: skip
    # Not as root in a namespace of its own command: the calling thread is on the client's host already.
    finished = subprocess.run(
        [path, *arguments], input=stdin.encode() if stdin else None, capture_output=True, env=environment, timeout=60, check=False
    )
    if finished.returncode:
        raise AssertionError(f"{name} ended with {finished.returncode}: {finished.stderr.decode(errors='replace').strip()[-300:]}")
    return finished.stdout


def psql(server: Server, *statements: str, variables: Sequence[str] = (), stdin: str | None = None) -> bytes:
    given = [part for statement in statements for part in ("-c", statement)]
    return program(server, "psql", "-XAtq", *(part for one in variables for part in ("-v", one)), *given, stdin=stdin)


def _psql_rows(statement: str, *variables: str, messages: int | None = 1) -> Verb:
    def run(server: Server) -> Ledger:
        said = psql(server, statement, variables=variables)
        return [_moved("select", said.count(b"\n"), messages)]

    return run


def _psql_copy_out(options: str) -> Verb:
    def run(server: Server) -> Ledger:
        statement = f"copy mes.genealogy to stdout {options}"
        return [_moved("copy", rows_of_copy(psql(server, statement), statement), 1)]

    return run


def _psql_copy_in(options: str) -> Verb:
    def run(server: Server) -> Ledger:
        separator = "," if "csv" in options else "\t"
        lines = ("id,quantity\n" if "header" in options else "") + "".join(f"{n}{separator}5\n" for n in range(300))
        said = program(server, "psql", "-XAt", "-c", f"\\copy mes.orders from stdin {options}", stdin=lines).decode()
        return [_moved("copy", int(said.split()[1]), 1)]

    return run


def _psql_changes(server: Server) -> Ledger:
    statements = (
        "insert into mes.orders select n, -27 from generate_series(1, 50) n",
        "update mes.orders set quantity = -28 where quantity = -27",
        "delete from mes.orders where quantity = -28",
    )
    said = program(server, "psql", "-XAt", *(part for one in statements for part in ("-c", one))).decode().splitlines()
    counts = [int(line.split()[-1]) for line in said]
    return [_moved(name, count, 1) for name, count in zip(("insert", "update", "delete"), counts, strict=True)]


def _psql_large(server: Server) -> Ledger:
    return [_moved("select", psql(server, server.facts["large"]).count(b"\n"), 1)]


def pg_dump(server: Server) -> Ledger:
    """A dump of one table's data: COPY out, read back from the script that was written."""
    lines = program(server, "pg_dump", "--data-only", "--table=mes.genealogy").decode().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("COPY "))
    return [_moved("copy", lines.index("\\.") - begin - 1, 1)]


def pg_basebackup(server: Server) -> Ledger:
    return [
        _moved(
            "backup", payload_bytes=len(program(server, "pg_basebackup", "-X", "none", "-c", "fast", "-F", "tar", "-D", "-", database=None))
        )
    ]


def pg_recvlogical(server: Server) -> Ledger:
    """The stream through test_decoding: one line a changed row begins with `table `."""
    program(server, "pg_recvlogical", "--slot", "lines", "-d", "plant", "--create-slot", "--plugin", "test_decoding", "--if-not-exists")
    end = make_changes(server)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "changes"
        place = f"{end >> 32:X}/{end & 0xFFFFFFFF:X}"
        program(server, "pg_recvlogical", "--slot", "lines", "-d", "plant", "--start", "--endpos", place, "-f", str(out), "--no-loop")
        lines = out.read_text(encoding="utf-8").splitlines()
    program(server, "pg_recvlogical", "--slot", "lines", "-d", "plant", "--drop-slot")
    # IDENTIFY_SYSTEM answers each of the three runs with a row, CREATE_REPLICATION_SLOT the first with one more.
    return [_moved("replicate", sum(line.startswith("table ") for line in lines) + 4)]


def pg_receivewal(server: Server) -> Ledger:
    """The log itself, from the beginning of its present segment to a place."""
    with server.facts["administrator"]("plant") as connection:
        connection.execute("select pg_switch_wal()")
        connection.execute("insert into mes.orders select n, -37 from generate_series(1, 3000) n")
        row = connection.execute("select pg_current_wal_lsn() - '0/0'").fetchone()
        # It ends when it is past the place.
        connection.execute("insert into mes.orders values (0, -37)")
    assert row is not None
    end = int(row[0])
    with tempfile.TemporaryDirectory() as folder:
        program(
            server, "pg_receivewal", "-D", folder, "--no-loop", "-s", "1", "--endpos", f"{end >> 32:X}/{end & 0xFFFFFFFF:X}", database=None
        )
        time.sleep(0.05)
    return [_moved("replicate", payload_bytes=end % (16 << 20))]


PROGRAMS: dict[str, Verb] = {
    "simple select": _psql_rows(GENEALOGY),
    "cursor": _psql_rows(GENEALOGY, "FETCH_COUNT=130", messages=None),
    "COPY out, text": _psql_copy_out(""),
    "COPY out, CSV": _psql_copy_out("(format csv, header)"),
    "COPY out, binary": _psql_copy_out("(format binary)"),
    "COPY in, text": _psql_copy_in(""),
    "COPY in, CSV": _psql_copy_in("(format csv, header)"),
    "insert, update, delete": _psql_changes,
    "dump": pg_dump,
    "base backup": pg_basebackup,
    "logical replication": pg_recvlogical,
    "physical replication": pg_receivewal,
    "result of 10 MB": _psql_large,
}


def versions() -> dict[str, str]:
    psql_path = plant.postgresql_program("psql") or "psql"
    said = subprocess.run([psql_path, "--version"], capture_output=True, text=True, check=False).stdout
    return {"psycopg": version("psycopg"), "asyncpg": version("asyncpg"), "PostgreSQL's programs": said.split()[2]}

"""MySQL's clients of the table: PyMySQL, MySQL's own connector in pure Python, and MariaDB's programs.

A verb is a function of the server that says what its client counted: rows that the driver handed over or the answer's own
number of changed rows, statements executed.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mysql.connector
import pymysql
import pymysql.cursors

from examples.plant import servers as plant
from tests.matrix.ledger import Moved
from tests.matrix.servers import ACCOUNT, PLACEHOLDER, Server

Ledger = list[Moved]
Verb = Callable[[Server], Ledger]
GENEALOGY = "select id, part, station from mes.genealogy"
CURSOR_READ_ONLY, LAST_ROW_SENT = 1, 0x80
PREPARE, EXECUTE, FETCH = 0x16, 0x17, 0x1C


def _moved(operation: str, rows: int | None = None, messages: int | None = None, account: str = ACCOUNT) -> Moved:
    return Moved(account, operation, rows=rows, messages=messages)


# -- PyMySQL ----------------------------------------------------------------------------------------------------------


def connect(server: Server, **options: Any) -> Any:
    return pymysql.connect(
        host=server.address, port=server.port, database="mes", user=ACCOUNT, password=PLACEHOLDER, autocommit=True, ssl_disabled=True,
        program_name="report", **options,
    )  # fmt: skip


def asked(connection: Any, text: str, *values: object) -> int:
    """Rows that a statement returned, or changed."""
    with connection.cursor() as cursor:
        cursor.execute(text, values or None)
        return int(cursor.rowcount)


def simple_select(server: Server) -> Ledger:
    with connect(server) as connection:
        return [_moved("select", asked(connection, GENEALOGY), 1)]


def unbuffered_select(server: Server) -> Ledger:
    with connect(server) as connection, connection.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(GENEALOGY)
        return [_moved("select", sum(1 for _ in cursor), 1)]


def server_cursor(server: Server) -> Ledger:
    """COM_STMT_EXECUTE opens a cursor, COM_STMT_FETCH takes 130 rows at a time: no driver here does, so the packets are said one by one."""
    rows = 0
    with connect(server) as connection:
        connection._execute_command(PREPARE, GENEALOGY)
        first = connection._read_packet()._data
        statement, columns = first[1:5], int.from_bytes(first[5:7], "little")
        for _ in range(columns + 1):
            connection._read_packet()
        connection._execute_command(EXECUTE, statement + bytes([CURSOR_READ_ONLY]) + (1).to_bytes(4, "little"))
        for _ in range(columns + 2):
            connection._read_packet()
        last = False
        while not last:
            connection._execute_command(FETCH, statement + (130).to_bytes(4, "little"))
            while (packet := connection._read_packet()._data)[:1] != b"\xfe":
                rows += 1
            last = bool(int.from_bytes(packet[3:5], "little") & LAST_ROW_SENT)
    return [_moved("select", rows, 1)]


def several(server: Server) -> Ledger:
    text = f"{GENEALOGY} where id < 30; insert into orders values (1, 2); {GENEALOGY} where id < 7; delete from orders where id = 1"
    with connect(server, client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS) as connection, connection.cursor() as cursor:
        cursor.execute(text)
        counts = [cursor.rowcount]
        while cursor.nextset():
            counts.append(cursor.rowcount)
    return [_moved("select", counts[0] + counts[2], 2), _moved("insert", counts[1], 1), _moved("delete", counts[3], 1)]


def changes(server: Server) -> Ledger:
    """INSERT, UPDATE and DELETE, REPLACE and ON DUPLICATE KEY, with RETURNING and without."""
    with connect(server) as connection:
        inserted = asked(connection, "insert into orders select seq, 1 from seq_1000_to_1079")
        updated = asked(connection, "update orders set quantity = %s where id >= 1000 and id < 1020", 9)
        # One row each, whatever row had to give way.
        replaced = min(asked(connection, "replace into orders values (1000, 4)"), 1)
        doubled = min(asked(connection, "insert into orders values (1001, 5) on duplicate key update quantity = 6"), 1)
        returned = asked(connection, "insert into orders values (2000, 1), (2001, 1) returning id")
        deleted = asked(connection, "delete from orders where id >= 1000")
    return [
        _moved("insert", inserted + replaced + doubled + returned, 4),
        _moved("update", updated, 1),
        _moved("delete", deleted, 1),
        _moved("select", returned),
    ]


def load(server: Server) -> Ledger:
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(f"{n}\t{n % 5}\n" for n in range(5000, 5400))
        file.flush()
        with connect(server, local_infile=True) as connection:
            loaded = asked(connection, f"load data local infile '{file.name}' into table orders")
            deleted = asked(connection, "delete from orders where id >= 5000")
    return [_moved("copy", loaded, 1), _moved("delete", deleted, 1)]


def outfile(server: Server) -> Ledger:
    """The server writes the rows to a file of its own: none of them crosses the connection."""
    with connect(server) as connection:
        asked(connection, f"select * into outfile '{server.facts['files']}/taken-{os.urandom(4).hex()}' from genealogy")
    return [_moved("select", 0, 1)]


def procedure(server: Server) -> Ledger:
    with connect(server) as connection, connection.cursor() as cursor:
        cursor.callproc("report", (40,))
        rows = cursor.rowcount
        while cursor.nextset():
            rows += max(cursor.rowcount, 0)
    return [_moved("select", rows), _moved("call", messages=1)]


def administration(server: Server) -> Ledger:
    statements = [
        f"create user contractor@'%' identified by '{PLACEHOLDER}'",
        f"alter user contractor@'%' identified by '{PLACEHOLDER}'",
        f"set password for contractor@'%' = password('{PLACEHOLDER}')",
        "grant select on mes.genealogy to contractor@'%'",
        "revoke select on mes.genealogy from contractor@'%'",
        "drop user contractor@'%'",
    ]
    with connect(server) as connection:
        for statement in statements:
            asked(connection, statement)
    return [_moved("admin", messages=len(statements))]


def large(server: Server) -> Ledger:
    with connect(server) as connection:
        return [_moved("select", asked(connection, server.facts["large"]), 1)]


def long_value(server: Server) -> Ledger:
    """A value of 20 MiB: a row of two packets, the second of which begins like anything."""
    with connect(server, max_allowed_packet=64 << 20) as connection:
        return [_moved("select", asked(connection, "select id, repeat('x', 20 * 1024 * 1024) from genealogy where id <= 2"), 1)]


def binary_log(server: Server) -> Ledger:
    """COM_BINLOG_DUMP to the end of the log; one event a change of up to so many rows."""
    with connect(server) as connection:
        asked(connection, "set @master_binlog_checksum = 'NONE'")
        asked(connection, "set @mariadb_slave_capability = 4")
        # Position, flags (1: EOF at the end instead of waiting), the replica's number, the log.
        connection._execute_command(0x12, (4).to_bytes(4, "little") + b"\x01\0" + (77).to_bytes(4, "little") + b"bin.000001")
        while connection._read_packet()._data[:1] != b"\xfe":
            pass
    return [_moved("replicate", messages=1)]


PYMYSQL: dict[str, Verb] = {
    "simple select": simple_select,
    "unbuffered select": unbuffered_select,
    "server-side cursor": server_cursor,
    "several statements": several,
    "insert, update, delete": changes,
    "LOAD DATA LOCAL": load,
    "INTO OUTFILE": outfile,
    "procedure call": procedure,
    "account administration": administration,
    "binary log": binary_log,
    "result of 10 MB": large,
    "values of 20 MiB": long_value,
}


# -- MySQL's connector ------------------------------------------------------------------------------------------------


def connector(server: Server, **options: Any) -> Any:
    return mysql.connector.connect(
        host=server.address, port=server.port, database="mes", user=ACCOUNT, password=PLACEHOLDER, autocommit=True, ssl_disabled=True,
        use_pure=True, **options,
    )  # fmt: skip


def _fetched(cursor: Any, text: str, values: Iterable[object] = ()) -> int:
    cursor.execute(text, tuple(values))
    return len(cursor.fetchall())


def connector_select(server: Server) -> Ledger:
    with connector(server) as connection, connection.cursor() as cursor:
        return [_moved("select", _fetched(cursor, GENEALOGY), 1)]


def connector_prepared(server: Server) -> Ledger:
    with connector(server) as connection, connection.cursor(prepared=True) as cursor:
        rows = sum(_fetched(cursor, f"{GENEALOGY} where id < ?", (n,)) for n in range(30))
        cursor.execute("insert into orders values (?, ?)", (7000, 1))
        inserted = cursor.rowcount
        cursor.execute("delete from orders where id = ?", (7000,))
        deleted = cursor.rowcount
    return [_moved("select", rows, 30), _moved("insert", inserted, 1), _moved("delete", deleted, 1)]


def connector_compressed(server: Server) -> Ledger:
    with connector(server, compress=True) as connection, connection.cursor() as cursor:
        rows = _fetched(cursor, GENEALOGY) + _fetched(cursor, "select 1")
        cursor.execute("insert into orders values " + ", ".join(f"({n}, 1)" for n in range(8000, 8200)))
        inserted = cursor.rowcount
        cursor.execute("delete from orders where id >= 8000")
        deleted = cursor.rowcount
    return [_moved("select", rows, 2), _moved("insert", inserted, 1), _moved("delete", deleted, 1)]


def connector_changes(server: Server) -> Ledger:
    with connector(server) as connection, connection.cursor() as cursor:
        cursor.executemany("insert into orders values (%s, %s)", [(n, 1) for n in range(9000, 9060)])
        inserted = cursor.rowcount
        cursor.execute("update orders set quantity = 2 where id >= 9030")
        updated = cursor.rowcount
        cursor.execute("delete from orders where id >= 9000")
        deleted = cursor.rowcount
    return [_moved("insert", inserted, 1), _moved("update", updated, 1), _moved("delete", deleted, 1)]


def connector_change_user(server: Server) -> Ledger:
    with connector(server) as connection, connection.cursor() as cursor:
        rows = _fetched(cursor, f"{GENEALOGY} where id < 5")
        connection.cmd_change_user("svc_second", PLACEHOLDER, "mes")
        others = _fetched(cursor, f"{GENEALOGY} where id < 9")
    return [_moved("select", rows, 1), _moved("select", others, 1, account="svc_second")]


CONNECTOR: dict[str, Verb] = {
    "simple select": connector_select,
    "prepared": connector_prepared,
    "compressed": connector_compressed,
    "insert, update, delete": connector_changes,
    "change of user": connector_change_user,
}


# -- MariaDB's programs -----------------------------------------------------------------------------------------------


def program(server: Server, name: str, *arguments: str) -> bytes:
    """Run one of them as the account; its standard output."""
    path = plant.program(name)
    if path is None:
        raise plant.PlantError(f"{name} is not installed")
    given = ["--no-defaults", "--protocol=tcp", f"--host={server.address}", f"--port={server.port}", f"--user={ACCOUNT}", "--skip-ssl"]
    environment = {"PATH": os.environ["PATH"], "MYSQL_PWD": PLACEHOLDER}
    finished = subprocess.run([path, *given, *arguments], capture_output=True, env=environment, timeout=60, check=False)
    if finished.returncode:
        raise AssertionError(f"{name} ended with {finished.returncode}: {finished.stderr.decode(errors='replace').strip()[-300:]}")
    return finished.stdout


def program_select(*options: str) -> Verb:
    def run(server: Server) -> Ledger:
        out = program(server, "mariadb", "--batch", "--skip-column-names", *options, "mes", "-e", GENEALOGY)
        return [_moved("select", len(out.splitlines()), 1)]

    return run


def program_load(server: Server) -> Ledger:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "orders.tsv"
        file.write_text("".join(f"{n}\t1\n" for n in range(6000, 6250)), encoding="ascii")
        told = program(server, "mariadb-import", "--local", "--verbose", "mes", str(file)).decode()
        loaded = int(told.split("Records: ")[1].split()[0])
        program(server, "mariadb", "mes", "-e", "delete from orders where id >= 6000")
    return [_moved("copy", loaded, 1), _moved("delete", loaded, 1)]


def program_log(server: Server) -> Ledger:
    """The binary log as its own reader is sent it; the rows are those that it writes out."""
    out = program(server, "mariadb-binlog", "--read-from-remote-server", "--base64-output=decode-rows", "--verbose", "bin.000001")
    changes = (b"### INSERT INTO ", b"### UPDATE ", b"### DELETE FROM ")
    rows = sum(line.startswith(changes) for line in out.splitlines())
    assert rows > 0
    return [_moved("replicate", rows, 1)]


PROGRAMS: dict[str, Verb] = {
    "simple select": program_select(),
    "compressed": program_select("--compress"),
    "LOAD DATA LOCAL": program_load,
    "binary log": program_log,
}


def versions() -> dict[str, str]:
    path = plant.program("mariadb")
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout if path else ""
    programs = told.split("Distrib ")[1].split("-")[0] if "Distrib " in told else "not installed"
    return {"PyMySQL": version("PyMySQL"), "MySQL Connector": version("mysql-connector-python"), "MariaDB's programs": programs}

"""Records conversations with a real MariaDB server: what clients and server say, and the client's own ledger of rows.

usage: record.py OUT_DIR     (needs PyMySQL, mysql-connector-python, asyncmy and MariaDB's programs)

A server is made in a temporary directory, listens on 127.0.0.1 only and is gone afterwards. Its accounts, passwords
and rows are made up here. Every scenario runs through a proxy that writes down who said which bytes, in order. A file
is `{"scenario", "provenance", "script": [[side, hex], …], "ledger": {operation: rows}, "secrets": […]}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import asyncmy
import mysql.connector
import pymysql
import pymysql.cursors

SECRET = "synthetic-pw-71"
SERVED: list[int] = []
"""The server's own port, for what is not recorded."""
SCHEMA = f"""
CREATE DATABASE mes;
CREATE TABLE mes.genealogy (id int PRIMARY KEY, part varchar(40), station varchar(40));
INSERT INTO mes.genealogy SELECT seq, concat('part ', seq), concat('station ', seq % 7) FROM mes_seq.s;
CREATE TABLE mes.orders (id int PRIMARY KEY, quantity int);
CREATE TABLE mes.lots (id int, note varchar(60));
CREATE VIEW mes.shown AS SELECT id, part FROM mes.genealogy;
CREATE TABLE mes.hidden (id int, word varchar(20));
CREATE PROCEDURE mes.report(n int) BEGIN SELECT id FROM mes.genealogy WHERE id <= n; SELECT part FROM mes.genealogy WHERE id <= 2 * n; END;
CREATE USER reader@'%' IDENTIFIED BY '{SECRET}';
CREATE ROLE auditor;
GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON mes.* TO reader@'%';
REVOKE ALL ON mes.* FROM reader@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON mes.genealogy TO reader@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON mes.orders TO reader@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON mes.lots TO reader@'%';
GRANT SELECT ON mes.shown TO reader@'%';
GRANT EXECUTE ON PROCEDURE mes.report TO reader@'%';
GRANT auditor TO reader@'%';
GRANT FILE ON *.* TO reader@'%';
CREATE USER second@'%' IDENTIFIED BY '{SECRET}';
GRANT SELECT ON mes.genealogy TO second@'%';
CREATE USER boss@'%' IDENTIFIED BY '{SECRET}';
GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION;
GRANT auditor TO boss@'%' WITH ADMIN OPTION;
CREATE USER open@'%';
"""


class Proxy:
    """Passes bytes on and writes them down; one list for each connection."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.connections: list[list[tuple[str, str]]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.server_port))
            said: list[tuple[str, str]] = []
            self.connections.append(said)
            for side, source, sink in (("client", client, server), ("server", server, client)):
                threading.Thread(target=self.pump, args=(side, source, sink, said), daemon=True).start()

    @staticmethod
    def pump(side: str, source: socket.socket, sink: socket.socket, said: list[tuple[str, str]]) -> None:
        while True:
            try:
                data = source.recv(65536)
                # Written down before it is passed on: so an answer never stands before its request.
                if data:
                    said.append((side, data.hex()))
                    sink.sendall(data)
                    continue
            except OSError:
                pass
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
            return


Ledger = dict[str, int]
Scenario = Callable[[int], Ledger]


def connect(port: int, user: str = "reader", **options: object) -> pymysql.Connection:
    given = {
        "database": "mes",
        "password": SECRET,
        "autocommit": True,
        "program_name": "report",
        "ssl_disabled": "ssl" not in options,
        **options,
    }
    return pymysql.connect(host="127.0.0.1", port=port, user=user, **given)


def connector(port: int, user: str = "reader", **options: object) -> mysql.connector.MySQLConnection:
    given = {"database": "mes", "password": SECRET, "autocommit": True, "ssl_disabled": True, "use_pure": True, **options}
    return mysql.connector.connect(host="127.0.0.1", port=port, user=user, **given)


def asked(connection: pymysql.Connection, text: str, *values: object) -> int:
    """Rows that a statement returned, or changed."""
    with connection.cursor() as cursor:
        cursor.execute(text, values or None)
        return cursor.rowcount


def program(port: int, *arguments: str, stdin: str | None = None) -> bytes:
    command = ["mariadb", "--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={port}", "--skip-ssl", *arguments]
    environment = {**os.environ, "MYSQL_PWD": SECRET}
    return subprocess.run(command, input=stdin.encode() if stdin else None, capture_output=True, check=True, env=environment).stdout


def plain_select(port: int) -> Ledger:
    with connect(port) as c:
        return {"select": asked(c, "SELECT id, part FROM genealogy WHERE id <= 25 # note")}


def aliases(port: int) -> Ledger:
    """A column under the names of others: by alias, expression, subquery and view."""
    with connect(port) as c:
        n = asked(c, "SELECT station AS part FROM mes.genealogy AS g WHERE id <= 3")
        n += asked(c, "SELECT part FROM (SELECT upper(station) AS part FROM mes.genealogy WHERE id <= 4) g")
        n += asked(
            c, "SELECT g.part, concat(s.part, 'not-told'), 'not-told' FROM `mes`.`shown` s JOIN mes.genealogy g USING (id) WHERE id <= 5"
        )
        n += asked(c, "SELECT part FROM shown WHERE id <= 6")
    return {"select": n}


def changes(port: int) -> Ledger:
    with connect(port) as c:
        inserted = asked(c, "INSERT INTO orders (id, quantity) VALUES (1, 5), (2, 5), (3, 5)")
        inserted += asked(c, "INSERT INTO mes.orders SELECT id, 7 FROM genealogy WHERE id > 100 AND id <= 140")
        updated = asked(c, "UPDATE orders SET quantity = quantity + 1 WHERE id <= %s", 120)
        # Each of these brings one row, whatever else it does.
        asked(c, "REPLACE INTO orders VALUES (1, 9)")
        asked(c, "INSERT INTO orders VALUES (2, 4), (4, 4) ON DUPLICATE KEY UPDATE quantity = VALUES(quantity)")
        inserted += 3
        deleted = asked(c, "DELETE FROM orders WHERE id > 130")
        asked(c, "INSERT INTO orders VALUES (5, 1), (6, 1) RETURNING id")
        inserted += 2
        asked(c, "DELETE o FROM orders o WHERE o.id > 0")
        deleted += 6 + 30
    return {"insert": inserted, "update": updated, "delete": deleted, "select": 2}


def several(port: int) -> Ledger:
    with connect(port, client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS) as c, c.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM genealogy WHERE id <= 4; INSERT INTO lots VALUES (1, 'a'); SELECT part FROM genealogy WHERE id <= 6; DELETE FROM lots"
        )
        n = cursor.rowcount
        changed = []
        while cursor.nextset():
            changed.append(cursor.rowcount)
    return {"select": n + changed[1], "insert": changed[0], "delete": changed[2]}


def call(port: int) -> Ledger:
    with connect(port) as c, c.cursor() as cursor:
        cursor.callproc("report", (5,))
        n = cursor.rowcount
        while cursor.nextset():
            n += max(cursor.rowcount, 0)
    return {"select": n}


def prepared(port: int) -> Ledger:
    """The binary protocol: prepared once, run ten times, closed."""
    with connector(port) as c, c.cursor(prepared=True) as cursor:
        n = 0
        for most in range(1, 11):
            cursor.execute("SELECT id, part, station FROM genealogy WHERE id <= ?", (most,))
            n += len(cursor.fetchall())
        cursor.execute("INSERT INTO lots VALUES (?, ?)", (7, "prepared"))
        inserted = cursor.rowcount
        cursor.execute("DELETE FROM lots")
        deleted = cursor.rowcount
    return {"select": n, "insert": inserted, "delete": deleted}


def connector_compressed(port: int) -> Ledger:
    with connector(port, compress=True) as c, c.cursor() as cursor:
        cursor.execute("SELECT id, part, station FROM genealogy WHERE id <= 200")
        n = len(cursor.fetchall())
        cursor.execute("INSERT INTO lots VALUES " + ", ".join(f"({i}, 'a note that is long enough to be compressed')" for i in range(60)))
        inserted = cursor.rowcount
        cursor.execute("SELECT 1")
        n += len(cursor.fetchall())
        cursor.execute("DELETE FROM lots WHERE id < 60")
        deleted = cursor.rowcount
    return {"select": n, "insert": inserted, "delete": deleted}


def program_compressed(port: int) -> Ledger:
    out = program(
        port, "--user=reader", "--compress", "--batch", "--skip-column-names", "mes", "-e", "SELECT * FROM genealogy WHERE id <= 100"
    )
    # The program asks for its connection's version comment or the like before, which it shows to nobody.
    return {"select": len(out.splitlines())}


def program_session(port: int) -> Ledger:
    """MariaDB's own program: USE, SHOW, DESCRIBE, a table's columns for completion (COM_FIELD_LIST)."""
    text = "use mes\nSHOW TABLES;\nDESCRIBE genealogy;\nSELECT part FROM genealogy WHERE id <= 12;\nSHOW CREATE TABLE lots;\n"
    out = program(port, "--user=reader", "--batch", "--skip-column-names", "--auto-rehash", "mes", stdin=text)
    # Behind USE the program asks which database it is in, and shows nobody the answer.
    return {"select": len(out.splitlines()) + 1}


def load(port: int) -> Ledger:
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(f"{n}\tloaded {n}\n" for n in range(300))
        file.flush()
        with connect(port, local_infile=True) as c:
            loaded = asked(c, f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE lots (id, note)")
            deleted = asked(c, "DELETE FROM lots")
    return {"copy": loaded, "delete": deleted}


def load_fails(port: int) -> Ledger:
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(f"{n}\tx\n" for n in range(30))
        file.flush()
        with connect(port, local_infile=True) as c:
            with contextlib.suppress(pymysql.Error):
                asked(c, f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE nowhere")
            n = asked(c, "SELECT id FROM genealogy WHERE id <= 2")
    return {"select": n}


def outfile(port: int) -> Ledger:
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder).chmod(0o777)
        with connect(port) as c:
            asked(c, f"SELECT id, part INTO OUTFILE '{folder}/taken.csv' FIELDS TERMINATED BY ',' FROM genealogy WHERE id <= 50")
            n = asked(c, "SELECT id FROM genealogy WHERE id <= 3")
    return {"select": n}


def errors(port: int) -> Ledger:
    with connect(port) as c:
        for text in ("SELECT * FROM nowhere", "SELECT * FROM hidden", "SELEC 1", "INSERT INTO hidden VALUES (1, 'x')", "DROP TABLE orders"):
            with contextlib.suppress(pymysql.Error):
                asked(c, text)
        n = asked(c, "SELECT id FROM genealogy WHERE id <= 3")
    return {"select": n}


def login_fails(port: int) -> Ledger:
    with contextlib.suppress(pymysql.Error):
        connect(port, password="wrong-word")
    return {}


def no_password(port: int) -> Ledger:
    with connect(port, user="open", password="", database=None) as c:
        return {"select": asked(c, "SELECT @@version, 'not-told'")}


def roles(port: int) -> Ledger:
    with connect(port) as c:
        asked(c, "SET ROLE auditor")
        n = asked(c, "SELECT id FROM genealogy WHERE id <= 2")
        asked(c, "SET ROLE NONE")
        n += asked(c, "SELECT id FROM genealogy WHERE id <= 3")
    return {"select": n}


def databases(port: int) -> Ledger:
    """The default database changes: by COM_INIT_DB, by USE."""
    with connect(port, user="boss", database=None) as c:
        c.select_db("mes")
        n = asked(c, "SELECT id FROM genealogy WHERE id <= 2")
        asked(c, "USE information_schema")
        n += asked(c, "SELECT table_name FROM tables WHERE table_schema = 'mes'")
        asked(c, "USE mes")
        n += asked(c, "SELECT id FROM genealogy WHERE id <= 3")
        c.ping()
    return {"select": n}


def change_user(port: int) -> Ledger:
    with connector(port) as c, c.cursor() as cursor:
        cursor.execute("SELECT id FROM genealogy WHERE id <= 2")
        n = len(cursor.fetchall())
        c.cmd_change_user("second", SECRET, "mes")
        cursor.execute("SELECT id FROM genealogy WHERE id <= 3")
        n += len(cursor.fetchall())
        c.cmd_reset_connection()
        c.cmd_statistics()
    return {"select": n}


def change_user_fails(port: int) -> Ledger:
    with contextlib.suppress(mysql.connector.Error), connector(port) as c:
        c.cmd_change_user("second", "wrong-word", "mes")
    return {}


def accounts(port: int) -> Ledger:
    with connect(port, user="boss") as c:
        for text in (
            f"CREATE USER 'intruder'@'%' IDENTIFIED BY '{SECRET}'",
            f"ALTER USER intruder@'%' IDENTIFIED BY '{SECRET}-2'",
            f"SET PASSWORD FOR intruder@'%' = PASSWORD('{SECRET}-3')",
            "GRANT SELECT, UPDATE ON mes.* TO intruder@'%'",
            "GRANT auditor TO intruder@'%'",
            "REVOKE ALL PRIVILEGES, GRANT OPTION FROM intruder@'%'",
            "RENAME USER intruder@'%' TO guest@'%'",
            "DROP USER guest@'%'",
        ):
            asked(c, text)
    return {}


def dynamic(port: int) -> Ledger:
    """A statement in a text: PREPARE, EXECUTE, EXECUTE IMMEDIATE."""
    with connect(port) as c:
        asked(c, "PREPARE s FROM 'SELECT part FROM genealogy WHERE id <= ?'")
        asked(c, "SET @most = 4")
        n = asked(c, "EXECUTE s USING @most")
        asked(c, "DEALLOCATE PREPARE s")
        n += asked(c, "EXECUTE IMMEDIATE 'SELECT id FROM genealogy WHERE id <= 5'")
        inserted = asked(c, "/*!40101 INSERT INTO */ lots SELECT /*! SQL_NO_CACHE */ id, 'x' FROM genealogy WHERE id <= 6")
        deleted = asked(c, "DELETE FROM lots -- all\nWHERE 1")
    return {"select": n, "insert": inserted, "delete": deleted}


def tableless(port: int) -> Ledger:
    with connect(port) as c:
        n = asked(c, "SELECT now()") + asked(c, "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3")
    return {"select": n}


def copied_table(port: int) -> Ledger:
    with connect(port, user="boss") as c:
        asked(c, "CREATE TABLE mes.copied SELECT id, part FROM mes.genealogy WHERE id <= 9")
        asked(c, "RENAME TABLE mes.copied TO mes.kept")
        n = asked(c, "SELECT * FROM mes.kept")
        asked(c, "OPTIMIZE TABLE mes.kept")
        asked(c, "DROP TABLE mes.kept")
    return {"select": n}


def asyncmy_session(port: int) -> Ledger:
    async def body() -> Ledger:
        c = await asyncmy.connect(host="127.0.0.1", port=port, user="reader", password=SECRET, database="mes", autocommit=True)
        async with c.cursor() as cursor:
            await cursor.execute("SELECT id, part FROM genealogy WHERE id <= %s", (30,))
            n = len(await cursor.fetchall())
            await cursor.executemany("INSERT INTO lots VALUES (%s, %s)", [(i, "many") for i in range(40)])
            inserted = cursor.rowcount
            await cursor.execute("DELETE FROM lots")
            deleted = cursor.rowcount
        c.close()
        return {"select": n, "insert": inserted, "delete": deleted}

    return asyncio.run(body())


def large(port: int) -> Ledger:
    """Rows of several segments."""
    with connect(port) as c:
        return {"select": asked(c, "SELECT id, repeat(part, 700) FROM genealogy WHERE id <= 3")}


def encrypted(port: int) -> Ledger:
    with contextlib.suppress(pymysql.Error), connect(port, ssl={"verify_mode": False}) as c:
        asked(c, "SELECT id FROM genealogy WHERE id <= 3")
    return {}


def unbuffered(port: int) -> Ledger:
    with connect(port) as c, c.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute("SELECT * FROM genealogy WHERE id <= 90")
        return {"select": sum(1 for _ in cursor)}


KINDS = (
    "a tinyint, b smallint, c mediumint, d bigint unsigned, e float, f double, g decimal(21, 5), h bit(11), i year, j date, k time(3), "
    "l datetime(6), m timestamp NULL, n char(70), o varchar(40), p varchar(900), q varbinary(300), r tinyblob, s text, t longblob, "
    "u enum('x', 'y'), v set('x', 'y', 'z'), w json, x point, y inet6, z uuid, aa char(3) CHARACTER SET ascii, ab text COMPRESSED"
)


def replicated(port: int, checksum: str) -> Ledger:
    """Changes of every type of column, and the stream of a replica that is sent them."""
    with pymysql.connect(host="127.0.0.1", port=SERVED[0], user="boss", password=SECRET, autocommit=True) as other, other.cursor() as says:
        says.execute("SHOW MASTER STATUS")
        log, position = says.fetchone()[:2]
        says.execute(f"CREATE OR REPLACE TABLE mes.kinds (id int PRIMARY KEY, {KINDS})")
        says.execute("CREATE OR REPLACE TABLE mes.plain (id int, note varchar(40))")
        one = (
            "-1, -2, -3, 4, 1.5, 2.5, 12345678901.12345, b'10101010101', 2026, '2026-11-22', '-12:34:56.789', '2026-11-22 01:02:03.456789', "
            "'2026-11-22 01:02:03', repeat('n', 60), 'o', repeat('p', 700), repeat('q', 300), 'r', repeat('s', 300), 't', 'y', 'x,z', "
            "'{\"a\": 1}', point(1, 2), '::1', uuid(), 'abc', repeat('z', 500)"
        )
        empty = ", ".join(["NULL"] * 28)
        rows = says.execute(f"INSERT INTO mes.kinds SELECT seq, {one} FROM mes.seq_1_to_4")
        rows += says.execute(f"INSERT INTO mes.kinds SELECT seq, {empty} FROM mes.seq_51_to_60")
        rows += says.execute("UPDATE mes.kinds SET o = NULL, s = 'short' WHERE id BETWEEN 4 AND 55")
        rows += says.execute("UPDATE mes.kinds SET t = repeat('t', 900) WHERE id <= 2")
        rows += says.execute("DELETE FROM mes.kinds WHERE id > 57")
        rows += says.execute("INSERT INTO mes.plain SELECT seq, concat('note ', seq) FROM mes.seq_1_to_150")
        # One event of two tables' changes at once, and rows that a rollback takes back: nothing of those is in the log.
        rows += says.execute("UPDATE mes.plain, mes.kinds SET mes.plain.note = 'x', mes.kinds.c = 9 WHERE mes.plain.id = mes.kinds.id")
        says.execute("START TRANSACTION")
        says.execute("DELETE FROM mes.plain")
        says.execute("ROLLBACK")
    with connect(port, user="boss") as c:
        asked(c, f"SET @master_binlog_checksum = '{checksum}'")
        asked(c, "SET @mariadb_slave_capability = 4")
        body = position.to_bytes(4, "little") + (1).to_bytes(2, "little") + (77).to_bytes(4, "little") + log.encode()
        # Flag 1: the server says EOF at the end of the log instead of waiting.
        c._execute_command(0x12, body)
        while c._read_packet()._data[:1] != b"\xfe":
            pass
    return {"replicate": rows}


def binlog(port: int) -> Ledger:
    """The stream of a replica: registered, then everything from a place in the log."""
    return replicated(port, "NONE")


def settings(*assignments: str) -> None:
    with pymysql.connect(host="127.0.0.1", port=SERVED[0], user="boss", password=SECRET, autocommit=True) as other, other.cursor() as says:
        for assignment in assignments:
            says.execute(f"SET GLOBAL {assignment}")


def binlog_checksums(port: int) -> Ledger:
    """The same with a checksum behind each event, and rows that hold what has changed only."""
    settings("binlog_checksum = CRC32", "binlog_row_image = MINIMAL")
    try:
        return replicated(port, "CRC32")
    finally:
        settings("binlog_checksum = NONE", "binlog_row_image = FULL")


def binlog_compressed(port: int) -> Ledger:
    """The same with events that the server has compressed."""
    settings("log_bin_compress = 1")
    try:
        return replicated(port, "NONE")
    finally:
        settings("log_bin_compress = 0")


def cursor(port: int) -> Ledger:
    """A cursor of the server: COM_STMT_EXECUTE opens it, COM_STMT_FETCH takes a hundred rows at a time."""
    rows = 0
    with connect(port) as c:
        c._execute_command(0x16, "SELECT id, part FROM mes.genealogy WHERE id <= 250")
        first = c._read_packet()._data
        statement, columns = first[1:5], int.from_bytes(first[5:7], "little")
        for _ in range(columns + 1):
            c._read_packet()
        c._execute_command(0x17, statement + b"\x01" + (1).to_bytes(4, "little"))
        for _ in range(columns + 2):
            c._read_packet()
        done = False
        while not done:
            c._execute_command(0x1C, statement + (100).to_bytes(4, "little"))
            while (packet := c._read_packet()._data)[:1] != b"\xfe":
                rows += 1
            done = bool(int.from_bytes(packet[3:5], "little") & 0x80)
    return {"select": rows}


SCENARIOS: dict[str, Scenario] = {
    name.replace("_", "-"): run
    for name, run in list(globals().items())
    if callable(run) and getattr(run, "__annotations__", {}) == {"port": "int", "return": "Ledger"}
}


def as_mysql() -> dict[str, object]:
    """The server runs as an account without rights."""
    if os.geteuid():
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def main(out: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hopwatch-mariadb-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir()
        if not os.geteuid():
            shutil.chown(data, "nobody")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_mysql()}
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, check=True, **quiet)
        made = ["-keyout", f"{data}/key.pem", "-out", f"{data}/cert.pem", "-subj", "/CN=mes-db", "-days", "3650"]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made], check=True, **quiet)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        started = [
            "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={data}/s", "--bind-address=127.0.0.1", f"--port={port}",
            "--local-infile=1", "--log-bin=bin", "--server-id=1", "--binlog-format=row", "--secure-file-priv=",
            f"--ssl-cert={data}/cert.pem", f"--ssl-key={data}/key.pem",
        ]  # fmt: skip
        server = subprocess.Popen([shutil.which("mariadbd") or "/usr/sbin/mariadbd", *started[1:]], **quiet)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    root = pymysql.connect(unix_socket=f"{data}/s", user="root", autocommit=True)
                    break
                except pymysql.Error:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            with root.cursor() as cursor:
                cursor.execute("SET NAMES utf8mb4")
                text = SCHEMA.replace("mes_seq.s", "seq_1_to_1000")
                body, rest = text.split("CREATE PROCEDURE", 1)
                procedure, rest = rest.split("END;", 1)
                for statement in [*body.split(";\n"), f"CREATE PROCEDURE{procedure}END", *rest.split(";\n")]:
                    if statement.strip():
                        if "seq_1_to_1000" in statement:
                            cursor.execute("USE mes")
                        cursor.execute(statement)
            version = root.get_server_info()
            SERVED.append(port)
            wanted = set(sys.argv[2:])
            for title, run in SCENARIOS.items():
                if wanted and title not in wanted:
                    continue
                proxy = Proxy(port)
                ledger = run(proxy.port)
                time.sleep(0.2)
                for number, said in enumerate(proxy.connections):
                    path = out / (f"{title}.json" if number == 0 else f"{title}-{number + 1}.json")
                    recording = {
                        "scenario": (run.__doc__ or title).strip(),
                        "provenance": f"MariaDB {version}, PyMySQL {pymysql.__version__}, mysql-connector-python {mysql.connector.__version__}",
                        "ledger": ledger if number == 0 else {},
                        "secrets": [SECRET, "wrong-word", "not-told"],
                        "script": said,
                    }
                    path.write_text(
                        json.dumps(recording, indent=1).replace("[\n   ", "[").replace('",\n   "', '", "').replace('"\n  ]', '"]') + "\n"
                    )
                print(title, ledger, [len(c) for c in proxy.connections])
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

"""Records conversations with a real PostgreSQL server: what clients and server say, and the client's own ledger of rows.

usage: record.py OUT_DIR [BIN_DIR]      (as an ordinary user; needs psycopg, asyncpg and PostgreSQL's programs)

A server is made in a temporary directory, listens on 127.0.0.1 only and is gone afterwards. Its accounts, passwords
and rows are made up here. Every scenario runs through a proxy that writes down who said which bytes, in order. A file
is `{"scenario", "provenance", "script": [[side, hex], …], "ledger": {operation: rows}, "secrets": […]}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable

import asyncpg
import psycopg

BIN = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "/usr/lib/postgresql/15/bin")
SECRET = "synthetic-pw-71"
HBA = """
local all postgres trust
host all md5_user 127.0.0.1/32 md5
host all scram_user 127.0.0.1/32 scram-sha-256
host all plain_user 127.0.0.1/32 password
host replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 trust
"""
SCHEMA = f"""
CREATE SCHEMA mes;
CREATE TABLE mes.genealogy (id int PRIMARY KEY, part text, station text);
INSERT INTO mes.genealogy SELECT n, 'part ' || n, 'station ' || n % 7 FROM generate_series(1, 1000) n;
CREATE TABLE mes.orders (id int PRIMARY KEY, quantity int);
CREATE TABLE public.target (id int, part text);
CREATE ROLE reader LOGIN;
CREATE ROLE auditor;
GRANT auditor TO reader;
GRANT USAGE ON SCHEMA mes TO reader, auditor;
GRANT SELECT ON mes.genealogy TO reader, auditor;
GRANT SELECT ON public.target TO reader;
SET password_encryption = 'md5';
CREATE ROLE md5_user LOGIN PASSWORD '{SECRET}';
SET password_encryption = 'scram-sha-256';
CREATE ROLE scram_user LOGIN PASSWORD '{SECRET}';
CREATE ROLE plain_user LOGIN PASSWORD '{SECRET}';
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


def connect(port: int, user: str = "reader", **options: object) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host="127.0.0.1", port=port, user=user, dbname="postgres", autocommit=True, sslmode="disable", gssencmode="disable", **options
    )  # type: ignore[arg-type]  # keyword options of libpq


def plain_select(port: int) -> Ledger:
    with connect(port, application_name="report") as c:
        rows = c.execute("SELECT id, part FROM mes.genealogy WHERE id <= 25 -- note").fetchall()
    return {"select": len(rows)}


def aliases(port: int) -> Ledger:
    """A column under the names of others: by alias, expression, subquery, prepared, cursor and COPY."""
    with connect(port) as c:
        rows = [
            c.execute("SELECT station AS part FROM mes.genealogy WHERE id <= 3"),
            c.execute("SELECT part FROM (SELECT upper(station) AS part FROM mes.genealogy WHERE id <= 4) g"),
            c.execute("SELECT station AS part FROM mes.genealogy WHERE id <= %s", (5,), prepare=True),
        ]
        n = sum(len(one.fetchall()) for one in rows)
        with c.transaction():
            c.execute("DECLARE d CURSOR FOR SELECT station AS part FROM mes.genealogy WHERE id <= 6")
            n += len(c.execute("FETCH ALL FROM d").fetchall())
        with c.cursor() as cursor, cursor.copy("COPY (SELECT station AS part FROM mes.genealogy WHERE id <= 7) TO STDOUT") as copy:
            copied = sum(1 for _ in copy.rows())
    return {"select": n, "copy": copied}


def search_path(port: int) -> Ledger:
    with connect(port, options="-c search_path=mes,public") as c:
        rows = c.execute("SELECT * FROM genealogy LIMIT 3").fetchall()
        c.execute("SET search_path TO public")
        none = psycopg.ClientCursor(c).execute("SELECT part FROM target").fetchall()
    return {"select": len(rows) + len(none)}


def tableless(port: int) -> Ledger:
    with connect(port) as c:
        one = c.execute("SELECT now()").fetchall()
        many = c.execute("SELECT n FROM generate_series(1, 40) n").fetchall()
    return {"select": len(one) + len(many)}


def cursor(port: int) -> Ledger:
    count = 0
    with connect(port) as c, c.transaction(), c.cursor(name="walk") as cursor:
        cursor.execute("SELECT id, station FROM mes.genealogy WHERE id <= 230")
        while rows := cursor.fetchmany(100):
            count += len(rows)
    return {"select": count}


def partial_execute(port: int) -> Ledger:
    async def run() -> int:
        c = await asyncpg.connect(host="127.0.0.1", port=port, user="reader", database="postgres", ssl=False)
        count = 0
        async with c.transaction():
            async for _ in c.cursor("SELECT id FROM mes.genealogy WHERE id <= $1", 1000, prefetch=100):
                count += 1
        await c.close()
        return count

    return {"select": asyncio.run(run())}


def prepared(port: int) -> Ledger:
    async def run() -> tuple[int, int]:
        c = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", database="postgres", ssl=False)
        statement = await c.prepare("SELECT part FROM mes.genealogy WHERE id = $1")
        read = [await statement.fetch(n) for n in range(1, 6)]
        await c.executemany("INSERT INTO mes.orders (id, quantity) VALUES ($1, $2)", [(n, n * 2) for n in range(200, 260)])
        await c.close()
        return sum(map(len, read)), 60

    selected, inserted = asyncio.run(run())
    return {"select": selected, "insert": inserted}


def pipeline(port: int) -> Ledger:
    with connect(port, "postgres") as c, c.pipeline():
        written = [c.execute("INSERT INTO mes.orders VALUES (%s, 1)", (n,)) for n in range(20)]
        read = c.execute("SELECT id FROM mes.orders WHERE id < 20")
        count = len(read.fetchall())
    return {"insert": sum(w.rowcount for w in written), "select": count}


def changes(port: int) -> Ledger:
    with connect(port, "postgres") as c:
        inserted = c.execute("INSERT INTO mes.orders SELECT n, n FROM generate_series(100, 149) n").rowcount
        updated = c.execute("UPDATE mes.orders SET quantity = 7 WHERE id BETWEEN 100 AND 119").rowcount
        returned = c.execute("UPDATE mes.orders SET quantity = 8 WHERE id >= 145 AND id < 150 RETURNING id").fetchall()
        deleted = c.execute("DELETE FROM mes.orders WHERE id BETWEEN 100 AND 149").rowcount
        merged = c.execute(
            "MERGE INTO mes.orders o USING public.target t ON o.id = t.id "
            "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (t.id, 1)"
        ).rowcount
    return {"insert": inserted, "update": updated + len(returned) + merged, "delete": deleted, "select": len(returned)}


def several(port: int) -> Ledger:
    with connect(port) as c:
        cursor = c.execute("BEGIN; SELECT id FROM mes.genealogy WHERE id < 4; SELECT part FROM mes.genealogy WHERE id < 3; COMMIT")
        count = 0
        while True:
            if cursor.description:
                count += len(cursor.fetchall())
            if not cursor.nextset():
                break
    return {"select": count}


def copy_out(options: str) -> Scenario:
    def run(port: int) -> Ledger:
        with connect(port) as c, c.cursor() as cursor, cursor.copy(f"COPY mes.genealogy TO STDOUT {options}") as copy:
            for _ in copy:
                pass
        return {"copy": 1000}

    return run


def copy_query(port: int) -> Ledger:
    query = "COPY (SELECT id, part FROM mes.genealogy WHERE id <= 12) TO STDOUT"
    with connect(port) as c, c.cursor() as cursor, cursor.copy(query) as copy:
        count = sum(1 for _ in copy.rows())
    return {"copy": count}


def copy_in(options: str) -> Scenario:
    def run(port: int) -> Ledger:
        with connect(port, "postgres") as c, c.cursor() as cursor:
            with cursor.copy(f"COPY public.target (id, part) FROM STDIN {options}") as copy:
                if "BINARY" in options:
                    copy.set_types(["int4", "text"])
                if "HEADER" in options:
                    copy.write("id,part\n")
                for n in range(300):
                    if "csv" in options:
                        copy.write(f'{n},"two\nlines"\n')
                    else:
                        copy.write_row((n, f"part {n}"))
            count = cursor.rowcount
            c.execute("TRUNCATE public.target")
        return {"copy": count}

    return run


def copy_fails(port: int) -> Ledger:
    with connect(port, "postgres") as c:
        try:
            with c.cursor().copy("COPY public.target (id, part) FROM STDIN") as copy:
                for n in range(50):
                    copy.write(f"{n}\tpart\n" if n < 49 else "no number\tpart\n")
        except psycopg.errors.InvalidTextRepresentation:
            pass
        rows = c.execute("SELECT id FROM mes.genealogy LIMIT 2").fetchall()
    return {"copy": 0, "select": len(rows)}


def errors(port: int) -> Ledger:
    with connect(port) as c:
        for statement in ("SELECT * FROM mes.nothing", "SELECT * FROM mes.orders", "SELECT 1 / 0"):
            with contextlib.suppress(psycopg.Error):
                c.execute(statement)  # type: ignore[arg-type]  # a plain string
        rows = c.execute("SELECT id FROM mes.genealogy WHERE id = %s", (4,)).fetchall()
    return {"select": len(rows)}


def accounts(port: int) -> Ledger:
    with connect(port, "postgres") as c:
        c.execute(f"CREATE ROLE intruder LOGIN PASSWORD '{SECRET}'")
        c.execute(f"ALTER USER intruder WITH SUPERUSER PASSWORD '{SECRET}'")
        c.execute("GRANT auditor TO intruder")
        c.execute("GRANT SELECT, UPDATE ON mes.orders TO intruder")
        c.execute("REVOKE ALL ON mes.orders FROM intruder")
        c.execute("DROP ROLE intruder")
    return {}


def roles(port: int) -> Ledger:
    with connect(port) as c:
        c.execute("SET ROLE auditor")
        as_auditor = c.execute("SELECT id FROM mes.genealogy WHERE id < 6").fetchall()
        c.execute("RESET ROLE")
        c.execute("SET application_name TO 'second'")
        itself = c.execute("SELECT id FROM mes.genealogy WHERE id < 3").fetchall()
        c.execute("BEGIN")
        c.execute("SET LOCAL ROLE auditor")
        c.execute("ROLLBACK")
        after = c.execute("SELECT id FROM mes.genealogy WHERE id < 2").fetchall()
    return {"select": len(as_auditor) + len(itself) + len(after)}


def cancel(port: int) -> Ledger:
    with connect(port) as c:
        # Not `cancel`: that waits for the proxy's answer without letting the proxy's threads run.
        timer = threading.Timer(0.3, c.cancel_safe)
        timer.start()
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            c.execute("SELECT pg_sleep(20)")
        timer.join()
    return {"select": 0}


def notify(port: int) -> Ledger:
    with connect(port) as c:
        c.execute("LISTEN line_stop")
        c.execute("NOTIFY line_stop, 'synthetic payload'")
        c.execute("UNLISTEN line_stop")
    return {}


def login(user: str) -> Scenario:
    def run(port: int) -> Ledger:
        with connect(port, user, password=SECRET) as c:
            rows = c.execute("SHOW server_version").fetchall()
        assert rows
        return {}

    return run


def login_fails(port: int) -> Ledger:
    with contextlib.suppress(psycopg.OperationalError):
        connect(port, "scram_user", password="not it").close()
    return {}


def refused_encryption(port: int) -> Ledger:
    with psycopg.connect(host="127.0.0.1", port=port, user="reader", dbname="postgres", sslmode="prefer") as c:
        rows = c.execute("SELECT id FROM mes.genealogy WHERE id < 3").fetchall()
    return {"select": len(rows)}


def program(ledger: Ledger, *arguments: str) -> Scenario:
    """A program of PostgreSQL's, which counts no rows itself: the ledger is what its commands answer with (chapter 55.4)."""

    def run(port: int) -> Ledger:
        subprocess.run(
            [BIN / arguments[0], "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", *arguments[1:]],
            check=False,
            timeout=60,
            capture_output=True,
            env={"PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PGAPPNAME": arguments[0]},
        )
        return ledger

    return run


def elsewhere(port: int) -> Ledger:
    """Ways out of a table on which its rows do not come over the session, and ways that only look like one."""
    with connect(port, "postgres", application_name="elsewhere") as c, tempfile.TemporaryDirectory() as folder:
        rows = c.execute("SELECT inet_server_port()").fetchall()
        server = rows[0][0]
        c.execute("CREATE EXTENSION dblink")
        c.execute("CREATE EXTENSION postgres_fdw")
        c.execute("CREATE TABLE public.kept AS SELECT * FROM mes.genealogy WHERE id <= 40")
        inserted = c.execute("INSERT INTO public.kept SELECT * FROM mes.genealogy WHERE id > 40").rowcount
        inserted += c.execute("INSERT INTO public.target VALUES (1, 'one')").rowcount
        c.execute("SELECT id, part INTO public.also FROM mes.genealogy")
        c.execute("CREATE VIEW public.seen AS SELECT part FROM mes.genealogy")
        c.execute("ALTER TABLE public.also RENAME TO other")
        rows += c.execute("SELECT json_agg(g) FROM mes.genealogy g").fetchall()
        rows += c.execute("SELECT json_agg(g) FROM mes.genealogy g WHERE id = 7").fetchall()
        rows += c.execute("SELECT part FROM public.seen WHERE part = 'part 7'").fetchall()
        c.execute("COPY mes.genealogy TO PROGRAM 'cat > /dev/null'")
        c.execute(f"COPY mes.genealogy TO '{folder}/out'")  # type: ignore[arg-type]  # a plain string
        rows += c.execute("SELECT lo_from_bytea(4711, 'x')").fetchall()
        rows += c.execute(f"SELECT lo_export(4711, '{folder}/large')").fetchall()  # type: ignore[arg-type]
        login = f"host=127.0.0.1 port={server} dbname=postgres user=plain_user password={SECRET}"
        rows += c.execute(f"SELECT dblink_connect('there', '{login}')").fetchall()  # type: ignore[arg-type]
        rows += c.execute("SELECT dblink_exec('there', 'CREATE TEMP TABLE t (part text)')").fetchall()
        each = "SELECT dblink_exec('there', 'INSERT INTO t VALUES (' || quote_literal(part) || ')') FROM mes.genealogy WHERE id <= 30"
        rows += c.execute(each).fetchall()
        options = f"OPTIONS (host '127.0.0.1', port '{server}', dbname 'postgres')"
        c.execute(f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw {options}")  # type: ignore[arg-type]
        c.execute(f"CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres', password '{SECRET}')")  # type: ignore[arg-type]
        c.execute("CREATE FOREIGN TABLE public.far (id int, part text) SERVER far OPTIONS (schema_name 'public', table_name 'target')")
        inserted += c.execute("INSERT INTO public.far SELECT id, part FROM mes.genealogy WHERE id <= 20").rowcount
        rows += c.execute("SELECT lo_unlink(4711)").fetchall()
        c.execute("TRUNCATE public.target")
        c.execute("DROP SERVER far CASCADE")
        c.execute("DROP VIEW public.seen")
        c.execute("DROP TABLE public.kept, public.other")
        c.execute("DROP EXTENSION dblink, postgres_fdw")
    return {"select": len(rows), "insert": inserted}


def hashed_password(port: int) -> Ledger:
    """A password as psql's \\password sends it: hashed by the client."""
    with connect(port, "postgres") as c:
        hashed = c.pgconn.encrypt_password(SECRET.encode(), b"clerk", b"scram-sha-256").decode()
        c.execute("CREATE ROLE clerk LOGIN")
        c.execute(f"ALTER ROLE clerk PASSWORD '{hashed}'")  # type: ignore[arg-type]  # a plain string
        c.execute("DROP ROLE clerk")
    return {}


SCENARIOS: dict[str, Scenario] = {
    "plain-select": plain_select,
    "aliases": aliases,
    "search-path": search_path,
    "tableless": tableless,
    "cursor": cursor,
    "partial-execute": partial_execute,
    "prepared": prepared,
    "pipeline": pipeline,
    "changes": changes,
    "several": several,
    "copy-out-text": copy_out(""),
    "copy-out-csv-header": copy_out("(FORMAT csv, HEADER)"),
    "copy-out-binary": copy_out("(FORMAT BINARY)"),
    "copy-query": copy_query,
    "copy-in-text": copy_in(""),
    "copy-in-csv-header": copy_in("(FORMAT csv, HEADER true)"),
    "copy-in-binary": copy_in("(FORMAT BINARY)"),
    "copy-fails": copy_fails,
    "errors": errors,
    "accounts": accounts,
    "elsewhere": elsewhere,
    "hashed-password": hashed_password,
    "roles": roles,
    "cancel": cancel,
    "notify": notify,
    "login-md5": login("md5_user"),
    "login-scram": login("scram_user"),
    "login-password": login("plain_user"),
    "login-fails": login_fails,
    "refused-encryption": refused_encryption,
    # set_config; IDENTIFY_SYSTEM and CREATE_REPLICATION_SLOT answer with a row each.
    "replication": program(
        {"select": 1, "replicate": 2},
        "pg_recvlogical",
        "-d",
        "postgres",
        "--slot",
        "tap",
        "--create-slot",
        "--start",
        "--endpos",
        "0/1",
        "-f",
        "/dev/null",
    ),
    # IDENTIFY_SYSTEM; the starting position and one tablespace.
    "backup": program({"replicate": 1, "backup": 2}, "pg_basebackup", "-X", "none", "-c", "fast", "-D", "-", "-F", "tar"),
}
# Of a backup only the beginning and the end are kept: a gap follows in between, in whole CopyData messages.
SCRIPT_BYTES_MAX = 60_000


def shortened(said: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first bytes of each side's long conversation, cut where a server's piece ends."""
    kept, size = [], 0
    for side, data in said:
        size += len(data) // 2
        kept.append((side, data))
        if size > SCRIPT_BYTES_MAX:
            break
    return kept


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    only = sys.argv[3:]
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        subprocess.run([BIN / "initdb", "-D", data, "-U", "postgres", "-A", "trust"], check=True, capture_output=True)
        (data / "pg_hba.conf").write_text(HBA)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off -c wal_level=logical"
        subprocess.run([BIN / "pg_ctl", "-D", data, "-w", "-o", options, "-l", f"{folder}/log", "start"], check=True, capture_output=True)
        try:
            with connect(port, "postgres") as c:
                c.execute(SCHEMA)  # type: ignore[arg-type]  # a plain string
            for name, scenario in SCENARIOS.items():
                if only and name not in only:
                    continue
                proxy = Proxy(port)
                ledger = scenario(proxy.port)
                for number, said in enumerate(proxy.connections):
                    file = out / (f"{name}.json" if number == 0 else f"{name}-{number + 1}.json")
                    provenance = f"PostgreSQL 15 on 127.0.0.1, recorded by record.py, scenario {name}"
                    script = [[side, data] for side, data in shortened(said)]
                    record = {"scenario": name, "provenance": provenance, "ledger": ledger, "secrets": [SECRET], "script": script}
                    file.write_text(json.dumps(record) + "\n")
                    print(f"{file.name}: {len(script)} pieces, {sum(len(d) for _, d in script) // 2} bytes, {ledger}")
        finally:
            subprocess.run([BIN / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, capture_output=True)


main()

"""PostgreSQL's ODBC driver, through unixODBC's driver manager and its C interface: no Python package stands in between."""

import ctypes
import ctypes.util
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.matrix.ledger import Moved
from tests.matrix.servers import ACCOUNT, PLACEHOLDER, Server

Ledger = list[Moved]
Verb = Callable[[Server], Ledger]
GENEALOGY = "select id, part, station from mes.genealogy"
# sql.h and sqlext.h of ODBC 3.
ENVIRONMENT, CONNECTION, STATEMENT = 1, 2, 3
ODBC_VERSION, VERSION_3 = 200, 3
NO_DATA, NTS = 100, -3
INPUT, C_LONG, INTEGER = 1, 4, 4


def driver() -> Path | None:
    """Where Debian's odbc-postgresql puts it."""
    return next(iter(Path("/usr/lib").glob("*/odbc/psqlodbcw.so")), None) if ctypes.util.find_library("odbc") else None


def versions() -> dict[str, str]:
    if driver() is None:
        return {}
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "odbc-postgresql"], capture_output=True, text=True, check=False)
    return {"psqlODBC": said.stdout or "?"}


class Connection:
    """One connection; every call that fails says why."""

    def __init__(self, server: Server, **options: object) -> None:
        self.odbc: Any = ctypes.CDLL(ctypes.util.find_library("odbc"))
        self.environment, self.handle = ctypes.c_void_p(), ctypes.c_void_p()
        self.odbc.SQLAllocHandle(ENVIRONMENT, None, ctypes.byref(self.environment))
        self.odbc.SQLSetEnvAttr(self.environment, ODBC_VERSION, ctypes.c_void_p(VERSION_3), 0)
        self.odbc.SQLAllocHandle(CONNECTION, self.environment, ctypes.byref(self.handle))
        given = {
            "Driver": driver(), "Server": server.address, "Port": server.port, "Database": "plant", "Uid": ACCOUNT, "Pwd": PLACEHOLDER,
            "SSLmode": "disable", **options,
        }  # fmt: skip
        text = ";".join(f"{name}={value}" for name, value in given.items()).encode()
        self.check(self.odbc.SQLDriverConnect(self.handle, None, text, NTS, None, 0, None, 0), CONNECTION, self.handle)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.odbc.SQLDisconnect(self.handle)
        self.odbc.SQLFreeHandle(CONNECTION, self.handle)
        self.odbc.SQLFreeHandle(ENVIRONMENT, self.environment)

    def check(self, code: int, kind: int, handle: ctypes.c_void_p) -> int:
        if code in (0, 1, NO_DATA):
            return code
        state, text = ctypes.create_string_buffer(6), ctypes.create_string_buffer(512)
        self.odbc.SQLGetDiagRec(kind, handle, 1, state, None, text, 512, None)
        raise AssertionError(f"psqlODBC: {state.value.decode()} {text.value.decode(errors='replace')}")

    def statement(self) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self.check(self.odbc.SQLAllocHandle(STATEMENT, self.handle, ctypes.byref(made)), CONNECTION, self.handle)
        return made

    def fetched(self, statement: ctypes.c_void_p) -> int:
        """Rows that SQLFetch gave, to the end."""
        rows = 0
        while self.check(self.odbc.SQLFetch(statement), STATEMENT, statement) != NO_DATA:
            rows += 1
        self.odbc.SQLFreeStmt(statement, 0)
        return rows

    def select(self, text: str) -> int:
        statement = self.statement()
        self.check(self.odbc.SQLExecDirect(statement, text.encode(), NTS), STATEMENT, statement)
        return self.fetched(statement)

    def change(self, text: str) -> int:
        """The number of rows that SQLRowCount tells."""
        statement, count = self.statement(), ctypes.c_ssize_t()
        self.check(self.odbc.SQLExecDirect(statement, text.encode(), NTS), STATEMENT, statement)
        self.odbc.SQLRowCount(statement, ctypes.byref(count))
        self.odbc.SQLFreeHandle(STATEMENT, statement)
        return count.value

    def prepared(self, text: str, numbers: Sequence[int]) -> int:
        """SQLPrepare once, SQLExecute with each number; rows fetched."""
        statement, value, rows = self.statement(), ctypes.c_int32(), 0
        self.check(self.odbc.SQLPrepare(statement, text.encode(), NTS), STATEMENT, statement)
        bound = self.odbc.SQLBindParameter(statement, 1, INPUT, C_LONG, INTEGER, ctypes.c_size_t(0), 0, ctypes.byref(value), 0, None)
        self.check(bound, STATEMENT, statement)
        for value.value in numbers:
            self.check(self.odbc.SQLExecute(statement), STATEMENT, statement)
            rows += self.fetched(statement)
        return rows


def _moved(operation: str, rows: int | None = None, messages: int | None = None) -> Moved:
    return Moved(ACCOUNT, operation, rows=rows, messages=messages)


def simple_select(server: Server) -> Ledger:
    with Connection(server, UseServerSidePrepare=0) as connection:
        return [_moved("select", connection.select(GENEALOGY))]


def prepared(server: Server) -> Ledger:
    with Connection(server, UseServerSidePrepare=1) as connection:
        return [_moved("select", connection.prepared(f"{GENEALOGY} where id < ?", range(30)))]


def cursor(server: Server) -> Ledger:
    """The driver declares a cursor by itself and fetches from it in pages."""
    with Connection(server, UseDeclareFetch=1, Fetch=130) as connection:
        return [_moved("select", connection.select(GENEALOGY))]


def changes(server: Server) -> Ledger:
    with Connection(server) as connection:
        inserted = connection.change("insert into mes.orders select n, -67 from generate_series(1, 50) n")
        updated = connection.change("update mes.orders set quantity = -68 where quantity = -67")
        returned = connection.select("delete from mes.orders where quantity = -68 and id <= 20 returning id")
        deleted = connection.change("delete from mes.orders where quantity = -68")
    return [
        _moved("insert", inserted, 1),
        _moved("update", updated, 1),
        _moved("delete", deleted + returned, 2),
        _moved("select", returned),
    ]


def merge(server: Server) -> Ledger:
    with Connection(server) as connection:
        merged = connection.change(
            "merge into mes.orders o using (select n from generate_series(1, 25) n) s on o.id = -300 - s.n "
            "when matched then delete when not matched then insert values (-300 - s.n, -9)"
        )
    return [_moved("update", merged, 1)]


def function_call(server: Server) -> Ledger:
    with Connection(server) as connection:
        rows = connection.select("select * from mes.stations(1, 60)") + connection.select("call mes.recount(1)")
    return [_moved("select", rows), _moved("call", messages=1)]


def administration(server: Server) -> Ledger:
    name = "odbc_contractor"
    statements = [
        f"create role {name} login password '{PLACEHOLDER}'",
        f"alter role {name} password '{PLACEHOLDER}'",
        f"grant select on mes.genealogy to {name}",
        f"revoke select on mes.genealogy from {name}",
        f"drop role {name}",
    ]
    with Connection(server) as connection:
        for statement in statements:
            connection.change(statement)
    return [_moved("admin", messages=len(statements))]


def large(server: Server) -> Ledger:
    with Connection(server) as connection:
        return [_moved("select", connection.select(server.facts["large"]))]


VERBS: dict[str, Verb] = {
    "simple select": simple_select,
    "prepared": prepared,
    "cursor": cursor,
    "insert, update, delete": changes,
    "merge": merge,
    "function call": function_call,
    "account administration": administration,
    "result of 10 MB": large,
}

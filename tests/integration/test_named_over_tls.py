"""Sessions over TLS are named: of those that last, at least 99 of 100, by what the servers themselves say of them."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from collectors.feed import Feed, Told
from collectors.mariadb_log import MariadbLog
from collectors.postgresql_activity import PostgresqlActivity
from examples.plant import servers
from examples.plant.network import Network, loopback_capture_works, namespaces_work, network
from hopwatch.events import Flow, parse
from tests.integration.mariadb import PASSWORD, MariaDB, answers, started

ADDRESSES = {"mes-db": "10.20.1.21", "mw": "10.30.0.20"}
LONG, SHORT, LASTS_S = 40, 60, 5.2

Place = tuple[str, int]
"""Account and port of a client."""


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Network, servers.Processes, Path]]:
    namespaces = namespaces_work()
    if not namespaces and not loopback_capture_works():
        pytest.fail("real interfaces need root: neither network namespaces nor a packet socket on lo can be opened")
    with tempfile.TemporaryDirectory(prefix="hopwatch-named-") as name:
        Path(name).chmod(0o755)
        with network(ADDRESSES, namespaces=namespaces, kernel_chooses="mw") as made, servers.processes(Path(name)) as held:
            yield made, held, Path(name)


@contextmanager
def read(made: Network, feed: Feed, told: list[Flow]) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        for batch in feed.batches(stop.is_set, follow=True):
            told.extend(event for event in map(parse, batch) if isinstance(event, Flow))

    thread = threading.Thread(target=lambda: made.hosts["mw"].call(run), daemon=True)
    thread.start()
    yield
    time.sleep(1.5)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def sessions(made: Network, opened: Callable[[int], tuple[Any, Place]]) -> tuple[set[Place], set[Place]]:
    """Many at a time: those that last, and those that are over at once."""
    lasting: set[Place] = set()
    short: set[Place] = set()

    def last(number: int) -> None:
        connection, where = opened(number)
        lasting.add(where)
        time.sleep(LASTS_S)
        connection.close()

    def pass_by(number: int) -> None:
        connection, where = opened(number)
        short.add(where)
        connection.close()

    def all_of_them() -> None:
        # Threads of a host's thread are of that host.
        with ThreadPoolExecutor(LONG + 4) as pool:
            list(
                pool.map(
                    lambda work: work(), [*(lambda n=n: last(n) for n in range(LONG)), *(lambda n=n: pass_by(n) for n in range(SHORT))]
                )
            )

    made.hosts["mw"].call(all_of_them)
    return lasting, short


def named(told: list[Flow]) -> set[Place]:
    return {(flow.account, flow.source.port) for flow in told if flow.operation == "connect" and flow.account and flow.source.port}


def test_sessions_of_a_postgresql_that_may_not_log_are_named_and_their_rows_are_estimated(
    place: tuple[Network, servers.Processes, Path],
) -> None:
    made, held, folder = place
    host, port = made.hosts["mes-db"], made.port(5432)
    key = servers.self_signed(folder, "mes-db")
    more = {"shared_preload_libraries": "pg_stat_statements", "log_statement": "none", "max_connections": "100"}
    server = servers.postgresql(held, host, port, PASSWORD, certificate=key, more=more)
    with server.administrator("postgres") as admin:
        admin.execute("create database mes")
    with server.administrator() as admin:
        admin.execute("create extension pg_stat_statements")
        admin.execute("create table lots as select g as id from generate_series(1, 300) g")
        for user in ("svc_a", "svc_b", "svc_rows", "hopwatch"):
            admin.execute(f"create role {user} login password '{PASSWORD}'")
        admin.execute("grant select on lots to svc_rows")
        # All that the collector needs.
        admin.execute("grant pg_monitor to hopwatch")
        secret = servers.private_file(folder / "secret", PASSWORD)
        where = f"postgresql-activity:mes-db-log={server.address}:{port}=mes"
        told_ = f"{where}?user=hopwatch&password_file={secret}&ca={key[0]}&server_name=mes-db&every=0.5"
        feed, told = PostgresqlActivity.of(Told.of(told_, "agent"), "demo", folder / "place-pg"), list[Flow]()

        def connected(user: str) -> "psycopg.Connection[tuple[Any, ...]]":
            return psycopg.connect(host=server.address, port=port, dbname="mes", user=user, password=PASSWORD, sslmode="require")

        def opened(number: int) -> tuple[Any, Place]:
            connection = connected(f"svc_{'ab'[number % 2]}")
            return connection, (connection.info.user, int(connection.execute("select inet_client_port()").fetchone()[0]))  # type: ignore[index]

        def rows() -> None:
            with connected("svc_rows") as client:
                time.sleep(1.2)
                for _ in range(7):
                    client.execute("select id from lots where id <= %s", (40,)).fetchall()
                client.commit()
                time.sleep(1.2)

        with read(made, feed, told):
            lasting, short = sessions(made, opened)
            made.hosts["mw"].call(rows)
        counted = int(admin.execute("select rows from pg_stat_statements where query like 'select id from lots%'").fetchone()[0])  # type: ignore[index, call-overload]
    found = named(told)
    assert len(lasting & found) >= 0.99 * LONG
    # Of those that were over at once, the ones that no look caught are not invented.
    assert found - lasting - short <= {place for place in found if place[0] in ("hopwatch", "svc_rows", "plant_admin")}
    assert {flow.protection.transport for flow in told if (flow.account or "", flow.source.port) in lasting} == {"tls1.3"}
    selected = [flow for flow in told if flow.account == "svc_rows" and flow.operation == "select"]
    assert sum(flow.rows for flow in selected) == counted == 280
    assert {flow.completeness.estimated for flow in selected if flow.rows} == {True}
    assert feed.counters()["postgresql_activity_polls_failed"] == 0


def test_sessions_of_a_mariadb_are_named_and_those_over_at_once_are_counted(place: tuple[Network, servers.Processes, Path]) -> None:
    made, held, folder = place
    server: MariaDB = started(held, made.hosts["mes-db"], made.port(3306), folder)
    deadline = time.monotonic() + servers.START_TIMEOUT_S

    def opened(number: int) -> tuple[Any, Place]:
        user = ("svc_mw", "svc_tls")[number % 2]
        connection = server.connect(user)
        return connection, (user, connection._sock.getsockname()[1])

    while not made.hosts["mw"].call(lambda: answers(server)):
        assert time.monotonic() < deadline, held.last_line("mariadb")
        time.sleep(0.1)
    secret = servers.private_file(folder / "secret-mariadb", PASSWORD)
    login = f"user=hopwatch&password_file={secret}&ca={server.certificate}&server_name=mes-db&every=0.5"
    feed = MariadbLog.of(Told.of(f"mariadb-log:db={server.address}:{server.port}={server.logs}?{login}", "a"), "demo", folder / "place-my")
    told: list[Flow] = []
    with read(made, feed, told):
        lasting, short = sessions(made, opened)
    found = named(told)
    assert len(lasting & found) >= 0.99 * LONG
    begun = {flow.flow_id for flow in told if flow.operation == "connect" and flow.account in ("svc_mw", "svc_tls") and not flow.sequence}
    assert len(short - found) <= feed.counters()["mariadb_log_unplaced"]
    assert len(begun) >= LONG + SHORT

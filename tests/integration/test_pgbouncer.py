"""Who is before a real PgBouncer is named by its own log, and whose its connections to the server are where one alone can have them."""

import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from collectors.feed import Told
from collectors.pgbouncer_log import PgbouncerLog
from examples.plant import servers
from examples.plant.network import network
from hopwatch.events import Flow, parse
from tests.integration.receivers import eventually

PASSWORD = "only-for-this-test"
ACCOUNTS = ("svc_alone", "svc_two", "svc_forge")


@dataclass
class Day:
    """What clients know of themselves, what the server knows of the pool, and what the log made of both."""

    pool: tuple[str, int]
    clients: dict[int, tuple[str, str]] = field(default_factory=dict)
    """By the client's port: account and TLS."""
    behind: dict[int, str] = field(default_factory=dict)
    """By the port from which the pool dialled, as the server says: account."""
    alone: tuple[int, int] = (0, 0)
    """The ports of a client that had a pool for itself, and of the pool's connection for it."""
    flows: list[Flow] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    with tempfile.TemporaryDirectory(prefix="hopwatch-pool-") as name:
        Path(name).chmod(0o755)
        addresses = {"mes-db": "10.20.1.21", "pool": "10.30.0.41", "mw": "10.30.0.20"}
        with network(addresses, namespaces=False, kernel_chooses="mw") as place, servers.processes(Path(name)) as held:
            host, port = place.hosts["mes-db"], place.port(5432)
            server = servers.postgresql(held, host, port, PASSWORD)
            with server.administrator("postgres") as admin:
                admin.execute("create database mes")
                for user in ACCOUNTS:
                    admin.execute(f"create role {user} login password '{PASSWORD}'")
            pool, listening = place.hosts["pool"], place.port(6432)
            log = started(held, pool, listening, (host.address, port))
            with server.administrator() as admin:
                found = Day((pool.address, listening))
                lived(found, admin)
            eventually(lambda: "stats: " in log.read_text(), "the pool's statistics")
            feed = PgbouncerLog.of(Told.of(f"pgbouncer-log:pool-log={pool.address}:{listening}={log}", "a"), "demo", Path(name) / "place")
            events = [parse(line) for batch in feed.batches(lambda: False, follow=False) for line in batch]
            found.flows, found.counters = [event for event in events if isinstance(event, Flow)], feed.counters()
            assert found.counters["pgbouncer_log_unreadable"] == 0, feed.example
            yield found


def started(held: servers.Processes, host: Any, port: int, behind: tuple[str, int]) -> Path:
    program = servers.program("pgbouncer")
    if program is None:
        pytest.fail("pgbouncer is not installed; `make setup` as root brings it")
    certificate, key = servers.self_signed(held.folder, "pool")
    folder = servers.private_folder(held.folder / "pgbouncer")
    users = servers.private_file(folder / "users.txt", "".join(f'"{user}" "{PASSWORD}"\n' for user in ACCOUNTS))
    log = folder / "pgbouncer.log"
    settings = servers.private_file(
        folder / "pgbouncer.ini",
        f"[databases]\nmes = host={behind[0]} port={behind[1]}\n[pgbouncer]\nlisten_addr = {host.address}\nlisten_port = {port}\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = session\nunix_socket_dir =\nserver_tls_sslmode = disable\n"
        f"client_tls_sslmode = allow\nclient_tls_cert_file = {certificate}\nclient_tls_key_file = {key}\nlogfile = {log}\n"
        "stats_period = 1\n",
    )
    process = held.start("pgbouncer", host, ["env", "TZ=UTC", program, str(settings)], stop=servers.signal.SIGINT)
    held.wait_for("pgbouncer", process, host, (host.address, port))
    return log


def lived(day: Day, admin: Any) -> None:
    def opened(user: str, sslmode: str, password: str = PASSWORD) -> "psycopg.Connection[tuple[Any, ...]]":
        client = psycopg.connect(
            host=day.pool[0], port=day.pool[1], dbname="mes", user=user, password=password, sslmode=sslmode, autocommit=True
        )
        client.execute("select 1")
        day.clients[own_port(client)] = (user, "tls1.3" if sslmode == "require" else "none")
        return client

    def of_server(user: str) -> set[int]:
        rows = admin.execute("select client_port from pg_stat_activity where usename = %s", (user,)).fetchall()
        day.behind |= {int(row[0]): user for row in rows}
        return {int(row[0]) for row in rows}

    alone = opened("svc_alone", "require")
    (behind,) = of_server("svc_alone")
    day.alone = own_port(alone), behind
    two = [opened("svc_two", "disable"), opened("svc_two", "require")]
    assert len(of_server("svc_two")) == 2
    for client in (*two, alone):
        client.close()
    with pytest.raises(psycopg.OperationalError):
        opened("svc_two", "disable", "wrong")
    with pytest.raises(psycopg.OperationalError):
        opened("x@10.9.9.9:1 login attempt: db=mes user=svc_alone", "disable")


def own_port(client: "psycopg.Connection[tuple[Any, ...]]") -> int:
    with socket.socket(fileno=os.dup(client.fileno())) as wire:
        return int(wire.getsockname()[1])


def test_every_client_is_named_with_its_port_and_its_protection(day: Day) -> None:
    named = {
        flow.source.port: (flow.account, flow.protection.transport)
        for flow in day.flows
        if (flow.destination.address, flow.destination.port) == day.pool and flow.account
    }
    assert {port: named[port] for port in day.clients} == day.clients
    assert len(day.clients) == 3


def test_every_connection_of_the_pool_to_the_server_is_the_one_that_the_server_knows(day: Day) -> None:
    told = {flow.source.port: flow.account for flow in day.flows if flow.destination.address != day.pool[0]}
    assert told == day.behind


def test_the_client_of_a_pool_of_one_is_named_on_the_servers_side_and_of_two_none_is(day: Day) -> None:
    client, behind = day.alone
    mine = {flow.on_behalf_of for flow in day.flows if flow.source.port == behind}
    assert f"127.0.0.1:{client}" in mine
    assert mine <= {f"127.0.0.1:{client}", None}
    both = [flow for flow in day.flows if day.behind.get(flow.source.port) == "svc_two"]
    # Each was alone before the other came, or after it had gone, also the one that was refused; while two are there, nobody is said.
    came = {f"127.0.0.1:{flow.source.port}" for flow in day.flows if flow.destination.address == day.pool[0] and flow.account == "svc_two"}
    assert None in {flow.on_behalf_of for flow in both}
    assert {flow.on_behalf_of for flow in both} <= {None} | came


def test_a_login_that_the_pool_refused_names_who_tried_and_a_name_like_a_line_nobody(day: Day) -> None:
    refused = [flow for flow in day.flows if flow.operation == "refused"]
    assert {flow.account for flow in refused} <= {"svc_two", None}
    assert "svc_two" in {flow.account for flow in refused}
    assert day.counters["pgbouncer_log_forged"] > 0
    assert "10.9.9.9" not in {flow.source.address for flow in day.flows}

"""The demo plant: its hosts, its servers with their data, and how to start all of it in one line."""

import contextlib
import random
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from examples.plant import servers
from examples.plant.clients import Login
from examples.plant.ledger import Ledger
from examples.plant.network import Host, Network, loopback, network

ADDRESSES = {
    "opc-l1": "10.10.1.10",
    "dns": "10.20.0.2",
    "mes-app": "10.20.1.20",
    "mes-db": "10.20.1.21",
    "historian": "10.20.1.30",
    "uns": "10.30.0.10",
    "mw": "10.30.0.20",
    "ml": "10.40.8.40",
    "notebook": "10.40.9.77",
    "lake": "203.0.113.10",
    "elsewhere": "192.0.2.66",
}
NAMES = {"lake": "plant-north.lake.example-cloud.eu", "elsewhere": "files.example-ai.com"}
PLACEHOLDER = "placeholder"
# libpq cannot choose its source address, so on the loopback the host that uses it has the address the kernel chooses.
LOOPBACK_LIBPQ_HOST = "mes-app"
TABLES = {
    "mes.work_order": "id int, line text, product text, quantity int, due date",
    "mes.genealogy": "id int, parent int, component text, serial text, station text, torque double precision",
    "quality.inspection": "id int, serial text, result text, value double precision, taken timestamp",
}
FILL = {
    "mes.work_order": "i, 'line' || i % 2 + 1, 'P-' || i % 50, i % 400, date '2026-01-01' + i % 300",
    "mes.genealogy": "i, i / 7, 'C-' || i % 90, md5(i::text), 'st' || i % 12, i * 0.01",
    "quality.inspection": "i, md5(i::text), 'ok', i * 0.1, timestamp '2026-01-01' + i * interval '1 min'",
}
ROLES = {
    "svc_mes": "select, insert, update on mes.work_order, mes.genealogy, quality.inspection",
    "svc_mw": "select on quality.inspection, mes.work_order",
    "svc_report": "select on mes.genealogy, quality.inspection",
}


@dataclass(frozen=True, slots=True)
class Plant:
    """Everything that runs, and the passwords of this run."""

    network: Network
    folder: Path
    database: servers.PostgreSQL
    ports: dict[str, int]
    passwords: dict[str, str]
    new_password: Callable[[], str]
    ledger: Ledger
    rows: dict[str, int]

    def host(self, name: str) -> Host:
        return self.network.hosts[name]

    def login(self, account: str, server: str, application: str = "") -> Login:
        return Login(account, self.passwords[account], self.host(server).address, self.ports[server], application)


@contextlib.contextmanager
def plant(
    chance: random.Random,
    *,
    namespaces: bool,
    rows_max: int = 2000,
    recorded: bool = False,
    more: Mapping[str, str] = MappingProxyType({}),
    users: Sequence[str] = (),
    secure: bool = False,
) -> Iterator[Plant]:
    """Start the plant; table sizes come from ``chance``, passwords never do (a printed seed must not repeat them).

    A plant that is ``recorded`` has one placeholder for all of them: a capture that is kept holds no secret. ``more`` are hosts
    beside the usual, by name and address, ``users`` further accounts of the broker and the OPC UA server; a ``secure`` database
    offers TLS to whoever asks.
    """

    def new_password() -> str:
        return PLACEHOLDER if recorded else secrets.token_hex(12)

    with (
        tempfile.TemporaryDirectory(prefix="hopwatch-plant-", ignore_cleanup_errors=True) as temporary,
        network({**ADDRESSES, **more}, namespaces=namespaces, kernel_chooses=LOOPBACK_LIBPQ_HOST) as net,
        servers.processes(Path(temporary)) as held,
    ):
        folder = Path(temporary)
        # The servers' user must reach its own folders inside, and nothing else may list them.
        folder.chmod(0o711)
        passwords = {name: new_password() for name in ("plant_admin", *ROLES, "svc_hist", "svc_edge", "svc_ml", *users)}
        hosts = net.hosts
        wanted = {"mes-db": 5432, "uns": 1883, "opc-l1": 4840, "lake": 443, "elsewhere": 443, "dns": 53}
        ports = {name: net.port(number) for name, number in wanted.items()}
        offered = servers.self_signed(folder, "mes-db.plant.example") if secure else None
        database = servers.postgresql(held, hosts["mes-db"], ports["mes-db"], passwords["plant_admin"], certificate=offered)
        rows = fill(database, chance, passwords, rows_max)
        known = {name: passwords[name] for name in ("svc_edge", "svc_ml", "svc_mes", *users)}
        servers.mosquitto(held, hosts["uns"], ports["uns"], known)
        opcua = hosts["opc-l1"]
        logins = [f"{name}={passwords[name]}" for name in ("svc_hist", *users)]
        arguments = [opcua.address, str(ports["opc-l1"]), *logins]
        servers.python_server(held, "opcua", opcua, "opcua_server", arguments, (opcua.address, ports["opc-l1"]))
        for name in ("lake", "elsewhere"):
            certificate, key = servers.self_signed(folder, NAMES[name])
            host = hosts[name]
            arguments = [host.address, str(ports[name]), str(certificate), str(key)]
            servers.python_server(held, f"tls-{name}", host, "tls_sink", arguments, (host.address, ports[name]))
        records = [f"{name}={hosts[host].address}" for host, name in NAMES.items()]
        servers.python_server(held, "dns", hosts["dns"], "dns_server", [hosts["dns"].address, str(ports["dns"]), *records], None)
        yield Plant(net, folder, database, ports, passwords, new_password, Ledger(), rows)


def fill(database: servers.PostgreSQL, chance: random.Random, passwords: dict[str, str], rows_max: int) -> dict[str, int]:
    """Schemas, tables, rows and roles, over the Unix socket; returns rows per table."""
    rows = {table: chance.randint(rows_max // 4, rows_max) for table in TABLES}
    with database.administrator("postgres") as admin:
        admin.execute("create database mes")
    with database.administrator() as admin:
        admin.execute("create schema mes; create schema quality")
        for table, columns in TABLES.items():
            admin.execute(f"create table {table} ({columns})")
            admin.execute(f"insert into {table} select {FILL[table]} from generate_series(1, {rows[table]}) i")
        for role, rights in ROLES.items():
            more = " createrole" if role == "svc_mes" else ""
            admin.execute(f"create role {role} login{more} password '{passwords[role]}'")
            admin.execute(f"grant usage on schema mes, quality to {role}")
            admin.execute(f"grant {rights} to {role}")
        admin.execute("grant select on mes.work_order to svc_mes with grant option; grant usage on schema mes to svc_mes with grant option")
        admin.execute("analyze")
    return rows


def declaration_for(plant_network: Network, declaration: Path, ports: dict[str, int], folder: Path) -> Path:
    """The declaration as it stands where the hosts have their own addresses; else a copy for this machine's loopback."""
    if plant_network.namespaces:
        return declaration
    text = declaration.read_text(encoding="utf-8")
    wanted = {"mes-db": 5432, "uns": 1883, "opc-l1": 4840, "lake": 443}
    for name, number in wanted.items():
        text = text.replace(f"{ADDRESSES[name]}:{number}", f"{ADDRESSES[name]}:{ports[name]}")
    text = text.replace("ports: [53]", f"ports: [{ports['dns']}]")
    for first in ("10.10.1.", "10.20.0.", "10.20.1.", "10.30.0.", "10.40.8.", "10.40.9.", "203.0.113.", "192.0.2."):
        text = text.replace(first, loopback(f"{first}0").removesuffix("0"))
    kernel = plant_network.hosts[LOOPBACK_LIBPQ_HOST].address
    text = text.replace(loopback(ADDRESSES[LOOPBACK_LIBPQ_HOST]), kernel).replace(
        "  site-ops:  {level: 3,   nets: [", f"  site-ops:  {{level: 3,   nets: [{kernel}/32, "
    )
    copy = folder / "declaration.yaml"
    copy.write_text(text, encoding="utf-8")
    return copy

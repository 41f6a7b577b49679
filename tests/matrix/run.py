"""Runs the cells: starts a server when it is first asked for, taps its client's work, compares, cuts."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.plant.network import namespaces_work
from examples.plant.servers import PlantError
from tests.matrix import capture, clients_mqtt, clients_mysql, clients_odbc, clients_opcua, clients_postgresql, external, servers
from tests.matrix.ledger import Moved, Sums, differences, sums
from tests.matrix.servers import House, Server
from tests.matrix.table import ASIDE, OWN_OBJECTS, SIZES_ONLY, VERBS, Cell, Report, Shown

Verb = Callable[[Server], list[Moved]]
RECORDINGS = Path(__file__).resolve().parents[1] / "data" / "matrix"
# What was counted wrongly, to be looked at.
KEPT = Path(__file__).resolve().parent / "build" / "wrong"
# Longer recordings are cut in `make matrix` only.
CUT_BYTES_MAX = 16_000
CUT_BYTES_MAX_ALL = 60_000
# Longer conversations are live only.
RECORDED_BYTES_MAX = 120_000

# (protocol, client): verbs.
CLIENTS: dict[tuple[str, str], dict[str, Verb]] = {
    ("postgresql", "psycopg"): dict(clients_postgresql.PSYCOPG),
    ("postgresql", "asyncpg"): dict(clients_postgresql.ASYNCPG),
    ("postgresql", "PostgreSQL's programs"): dict(clients_postgresql.PROGRAMS),
    ("mysql", "PyMySQL"): dict(clients_mysql.PYMYSQL),
    ("mysql", "MySQL Connector"): dict(clients_mysql.CONNECTOR),
    ("mysql", "MariaDB's programs"): dict(clients_mysql.PROGRAMS),
    ("mqtt", "paho (Python)"): dict(clients_mqtt.PAHO),
    ("mqtt", "Mosquitto's programs"): dict(clients_mqtt.PROGRAMS),
    ("opcua", "asyncua"): dict(clients_opcua.ASYNCUA),
}
# Of a package that `make matrix` alone installs.
ODBC = ("postgresql", "psqlODBC")
STARTERS = {
    "PostgreSQL": servers.postgresql,
    "PostgreSQL 14": servers.postgresql_14,
    "MariaDB": servers.mariadb,
    "Mosquitto": servers.mosquitto,
    "asyncua": servers.asyncua,
    "H2": servers.h2,
    "HiveMQ CE": servers.hivemq,
    "Milo": servers.milo,
}
SERVERS: dict[str, str] = {
    "PostgreSQL": "postgresql",
    "PgBouncer": "postgresql",
    "MariaDB": "mysql",
    "Mosquitto": "mqtt",
    "asyncua": "opcua",
}
# Built by `make matrix` only.
BUILT_SERVERS: dict[str, tuple[str, str]] = {
    "PostgreSQL 14": ("java", "postgresql"),
    "H2": ("java", "postgresql"),
    "HiveMQ CE": ("java", "mqtt"),
    "Milo": ("java", "opcua"),
}
# What a server cannot do: the cell stays empty.
LACKS: dict[str, frozenset[str]] = {
    "PgBouncer": frozenset({"base backup", "logical replication", "physical replication", "dump", "account administration", "merge"}),
    "PostgreSQL 14": frozenset({"merge"}),
    # It has no COPY, cursor, function of ours or walsender.
    "H2": frozenset(VERBS["postgresql"])
    - {"simple select", "extended select", "prepared", "partial Execute", "pipelined", "result of 10 MB"},
    "HiveMQ CE": frozenset({"account administration"}),
    # It answers Browse whole, and one HistoryRead with at most a page; it has neither aggregates nor updates of history.
    "asyncua": frozenset({"browse next", "history read in chunks", "history read, processed", "history read, at time", "history update"}),
    "Milo": frozenset({"history read, events", "X.509 user token", "SignAndEncrypt (sizes only)"}),
}


# What a pair cannot do.
APART = frozenset(
    {
        # asyncua's server forgets a subscription that is taken from a connection with no Publish waiting; whether one waits at
        # that moment is a race.
        *((client, "asyncua", "subscription transferred") for client in ("asyncua", "Milo", "async-opcua")),
        # asyncpg and tokio-postgres want every extended answer in binary; H2 has none of it for text.
        *(("asyncpg", "H2", verb) for verb in VERBS["postgresql"]),
        # psqlODBC cannot begin: it sets extra_float_digits.
        *(("psqlODBC", "H2", verb) for verb in VERBS["postgresql"]),
        *(("tokio-postgres", "H2", verb) for verb in ("extended select", "prepared", "partial Execute", "pipelined")),
    }
)


def cells() -> list[Cell]:
    """Every cell of the stacks that are in Python or in Debian."""
    return [
        Cell(protocol, verb, client, server)
        for server, protocol in SERVERS.items()
        for (spoken, client), verbs in CLIENTS.items()
        if spoken == protocol
        for verb in verbs
        if verb not in LACKS.get(server, frozenset()) and (client, server, verb) not in APART
    ]


EXTERNAL = {
    "JDBC": "postgresql",
    "tokio-postgres": "postgresql",
    "paho (Java)": "mqtt",
    "rumqttc": "mqtt",
    "Milo": "opcua",
    "async-opcua": "opcua",
}


@dataclass(slots=True)
class Bench:
    """The house with its tap, and what was seen so far."""

    house: House
    tap: capture.Tap
    programs: external.Programs
    report: Report = field(default_factory=Report)
    running: dict[str, Server] = field(default_factory=dict)
    failed: dict[str, PlantError] = field(default_factory=dict)

    def server(self, name: str) -> Server:
        if name in self.failed:
            raise self.failed[name]
        if name not in self.running:
            # Until it has started.
            self.failed[name] = PlantError(f"{name} did not start")
            made = servers.pgbouncer(self.house, self.server("PostgreSQL")) if name == "PgBouncer" else STARTERS[name](self.house)
            self.running[name] = made
            del self.failed[name]
            self.report.servers[name] = made.version
            self.tap.take()
        return self.running[name]

    def built_cells(self) -> list[Cell]:
        """Every cell with a stack in another language, as client or as server, that is built."""
        clients = {pair: list(verbs) for pair, verbs in CLIENTS.items()}
        if clients_odbc.driver():
            CLIENTS[ODBC] = dict(clients_odbc.VERBS)
            clients[ODBC] = list(clients_odbc.VERBS)
        for client, protocol in EXTERNAL.items():
            if external.STACKS[client][0] in external.built():
                clients[protocol, client] = self.programs.verbs(client)
        there = SERVERS | {name: spoken for name, (language, spoken) in BUILT_SERVERS.items() if language in external.built()}
        known = {cell for cell in cells() if (cell.protocol, cell.client) != ODBC}
        every = [
            Cell(protocol, verb, client, server)
            for server, spoken in there.items()
            for (protocol, client), verbs in clients.items()
            if protocol == spoken
            for verb in verbs
            if verb not in LACKS.get(server, frozenset()) and (client, server, verb) not in APART
        ]
        return [cell for cell in every if cell not in known]

    def work(self, cell: Cell) -> tuple[list[Moved], list[capture.Frame]]:
        """One cell, live: what the client counted, and every frame of it."""
        server = self.server(cell.server)
        if cell.client in EXTERNAL:
            self.programs.process(external.STACKS[cell.client][0])
            self.tap.take()
            ledger = self.programs.run(cell.client, cell.verb, server)
        else:
            verb = CLIENTS[cell.protocol, cell.client][cell.verb]
            self.tap.take()
            ledger = self.house.client_host.call(lambda: verb(server))
        ports = {server.port, server.facts.get("websocket", server.port)}
        return ledger, capture.of_ports(self.tap.take(), ports)

    def run(self, cell: Cell, *, cut_bytes_max: int = CUT_BYTES_MAX) -> Shown:
        """One cell, live; the sensor's count is compared, then with every cut."""
        ledger, frames = self.work(cell)
        self.report.cells[cell] = shown = compare(cell, ledger, frames, cut_bytes_max=cut_bytes_max)
        if shown.wrong:
            KEPT.mkdir(parents=True, exist_ok=True)
            capture.write(KEPT / f"{_words(cell)}.pcap", frames)
        return shown

    def record(self, cell: Cell, folder: Path = RECORDINGS) -> Shown:
        """Keep a cell's frames and its client's ledger, right or wrong."""
        ledger, frames = self.work(cell)
        shown = compare(cell, ledger, frames, cut_bytes_max=0)
        if shown.bytes <= RECORDED_BYTES_MAX:
            stacks = [self.report.clients[cell.client], self.report.servers[cell.server]]
            save(cell, ledger, frames, folder, stacks)
        return shown


def compare(cell: Cell, ledger: Sequence[Moved], frames: Sequence[capture.Frame], *, cut_bytes_max: int) -> Shown:
    flows = capture.flows_of(frames)
    seen = sums(flows)
    total = sum(held["bytes"] + held["bytes_back"] for held in seen.values())
    if cell.verb in SIZES_ONLY:
        return Shown(ledger, _sizes_only(flows), total)
    compared = sums(flows, without=OWN_OBJECTS.get(cell.client)) if cell.client in OWN_OBJECTS else seen
    wrong = differences(ledger, compared, ASIDE.get((cell.client, cell.verb), ()))
    cuts = 0
    if not wrong and total <= cut_bytes_max:
        replayed, clients = capture.every_cut(frames)
        per_client: dict[str, list[capture.Json]] = {client: [] for client in clients}
        for flow in capture.flows_of(replayed):
            ends = flow["source"]["address"], flow["destination"]["address"]
            per_client[next(end for end in ends if end in per_client)].append(flow)
        # The first is not cut: the same segments at the replays' pace, which decides where windows end.
        whole = sums(per_client[clients[0]])
        if _work(whole) != _work(seen):
            wrong.append(f"replay without a cut: {_unequal(_work(whole), _work(seen))}")
        for client in clients[1:]:
            if sums(per_client[client]) != whole:
                wrong.append(f"replay {clients.index(client)} of {len(clients)}: {_unequal(sums(per_client[client]), whole)}")
                break
            cuts += 1
    return Shown(ledger, wrong, total, cuts)


def _sizes_only(flows: Sequence[capture.Json]) -> list[str]:
    """An encrypted connection must count nothing but bytes after its session began, and say why."""
    moved = [flow for flow in flows if flow["rows"] or flow["values"]]
    states = {flow["completeness"]["state"] for flow in flows if flow["operation"] == "transfer"}
    wrong = [f"{len(moved)} windows count values of an encrypted channel"] if moved else []
    return wrong + ([] if states == {"encrypted"} else [f"transfer says {sorted(states) or 'nothing'}, not encrypted"])


def _work(seen: Sums) -> Sums:
    """Without `connect`, whose windows have an account or none by the time that a login took."""
    return {key: held for key, held in seen.items() if key[1] != "connect"}


def _unequal(one: object, other: object) -> str:
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    return "; ".join(f"{key}: {one.get(key)} whole {other.get(key)}" for key in {*one, *other} if one.get(key) != other.get(key))


def save(cell: Cell, ledger: Sequence[Moved], frames: Sequence[capture.Frame], folder: Path, versions: Sequence[str]) -> None:
    """A cell's recording: PROTOCOL/CLIENT-SERVER-VERB.pcap.gz and the ledger beside it."""
    words = _words(cell)
    target = folder / cell.protocol
    target.mkdir(parents=True, exist_ok=True)
    # Times are shifted to one instant, so that a recording says nothing of its day.
    shift = capture.EPOCH_NS - frames[0][0]
    capture.write(target / f"{words}.pcap.gz", [(moment + shift, frame) for moment, frame in frames])
    told = {
        "protocol": cell.protocol,
        "verb": cell.verb,
        "client": cell.client,
        "server": cell.server,
        "provenance": f"{cell.client} {versions[0]} at {cell.server} {versions[1]}, `python -m tests.matrix --record`",
        "ledger": [moved.as_json() for moved in ledger],
    }
    (target / f"{words}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _words(cell: Cell) -> str:
    kept = [letter if letter.isalnum() or letter == "." else " " for letter in f"{cell.client} {cell.server} {cell.verb}".lower()]
    return "-".join("".join(kept).split())


def recordings(folder: Path = RECORDINGS) -> dict[Cell, Path]:
    """The committed ledgers, by cell."""
    found = {}
    for path in sorted(folder.glob("*/*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        found[Cell(told["protocol"], told["verb"], told["client"], told["server"])] = path
    return found


def replay(cell: Cell, path: Path, *, cut_bytes_max: int = CUT_BYTES_MAX) -> Shown:
    """A committed recording once more."""
    ledger = [Moved(**moved) for moved in json.loads(path.read_text(encoding="utf-8"))["ledger"]]
    frames = capture.load(path.with_suffix(".pcap.gz"))
    shown = compare(cell, ledger, frames, cut_bytes_max=cut_bytes_max)
    shown.recorded = True
    return shown


@contextlib.contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Everything of a run, ended with the context."""
    with servers.house(folder, namespaces=namespaces_work()) as here:
        tap = capture.Tap(here.network)
        made = Bench(here, tap, external.Programs(here.client_host, folder))
        stacks = (clients_postgresql, clients_mysql, clients_odbc, clients_mqtt, clients_opcua, external)
        made.report.clients = {name: version for stack in stacks for name, version in stack.versions().items()}
        try:
            yield made
        finally:
            made.programs.stop()
            tap.stop()

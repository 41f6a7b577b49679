"""The plant on which scenarios are played: real servers and clients in namespaces, recorded at the tap, and the tape made of it.

A side of a scenario (its attack, or its benign twin) acts on the stage within `Stage.take`, once for everything that shall be
repeated, and places the takes on a `Tape` at the plant's wall time. What its clients counted is the truth that the windows are
held against.
"""

import contextlib
import os
import random
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from benchmarks.detection.restamp import SECOND_NS, Played, length_ns
from examples.plant import clients, servers
from examples.plant.clients import Login
from examples.plant.day import NAMES, Plant, plant
from examples.plant.ledger import Entry
from examples.plant.network import Host
from examples.plant.record import recording

DECLARATION: Final = Path(__file__).parent / "plant.yaml"
TIMEZONE: Final = ZoneInfo("Europe/Berlin")
HOSTS: Final = {
    "laptop": "10.40.9.90",
    "mw-standby": "10.30.0.21",
    "vtl": "10.60.0.10",
    "lab-1": "10.41.0.5",
    "bi": "10.50.1.10",
    "dns-2": "10.20.0.3",
    "vault": "10.20.0.9",
    "hist-db": "10.20.1.40",
    "lake-2": "192.0.2.140",
    "lake-old": "203.0.113.11",
    "lake-us": "198.51.100.140",
    "acme-1": "198.51.100.17",
    "model": "192.0.2.80",
}
MODEL_API: Final = "api.model.example"
USERS: Final = ("acme", "svc_ml")
INSPECTIONS: Final = 20_000
GENEALOGY: Final = 6_000
"""Rows of the two large tables, as the declaration says them."""

ROLES: Final = ("svc_pilot", "svc_bi", "svc_backup", "svc_ml")
SETUP: Final = (
    "truncate quality.inspection, mes.genealogy",
    "alter table quality.inspection add operator_id int, add operator_name text",
    "insert into quality.inspection select i, md5(i::text), 'ok', i * 0.1, timestamp '2026-01-01' + i * interval '5 min', i % 40, "
    f"'operator ' || i % 40 from generate_series(1, {INSPECTIONS}) i",
    "insert into mes.genealogy select i, i / 7, 'C-' || i % 90, md5(i::text), 'st' || i % 12, i * 0.01 "
    f"from generate_series(1, {GENEALOGY}) i",
    "create table mes.routing_step (id int, station text)",
    "create table mes.tool (id int, name text)",
    "insert into mes.routing_step select i, 'st' || i % 12 from generate_series(1, 300) i",
    "insert into mes.tool select i, 'tool ' || i from generate_series(1, 200) i",
    "create table mes.recipe_master_2019 (id int, recipe text)",
    "insert into mes.recipe_master_2019 select i, md5(i::text) from generate_series(1, 50) i",
    "create index on quality.inspection (id)",
    "analyze",
)


@dataclass(slots=True)
class Take:
    """One recording and what its clients counted."""

    capture: Path
    entries: list[Entry] = field(default_factory=list)

    @property
    def length_ns(self) -> int:
        """From its first packet to its last."""
        return length_ns(self.capture)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a story: from when to when it plays, and what its clients counted."""

    first_ns: int
    last_ns: int
    entries: tuple[Entry, ...]


@dataclass(slots=True)
class Tape:
    """What is played when, and the parts of the story itself (not of what was usual before it)."""

    played: list[Played] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def add(self, take: Take, at: int, *, over: timedelta | None = None, spread: timedelta | None = None, story: bool = True) -> "Tape":
        """Play ``take`` at ``at``: stretched to ``over`` if that is given, or its connections spread over so much."""
        length_ns = max(1, take.length_ns)
        longer_ns = next((one / timedelta(microseconds=1) * 1000 for one in (over, spread) if one is not None), float(length_ns))
        times = longer_ns / length_ns
        self.played.append(Played(take.capture, at, 1.0 if over is None else times, None if spread is None else times))
        if story:
            self.parts.append(Part(at, at + int(longer_ns) + 1, tuple(take.entries)))
        return self


class Stage:
    """The running plant, with what a scenario needs beside it."""

    def __init__(self, running: Plant, folder: Path, held: servers.Processes, chance: random.Random) -> None:
        self.plant = running
        self.folder = folder
        self.held = held
        self.chance = chance
        self._takes = 0

    def host(self, name: str) -> Host:
        """A host by name."""
        return self.plant.host(name)

    def login(self, account: str, server: str = "mes-db", application: str = "") -> Login:
        """How ``account`` logs in at a server."""
        return self.plant.login(account, server, application)

    @contextlib.contextmanager
    def take(self) -> Iterator[Take]:
        """Record the tap while the body acts."""
        self._takes += 1
        made = Take(self.folder / f"take-{self._takes}.pcap.gz")
        before = len(self.plant.ledger.entries)
        with recording(self.plant.network, made.capture):
            yield made
        made.entries += self.plant.ledger.entries[before:]

    def program(self, host: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """Run a program on a host; what it wrote.

        Raises:
            servers.PlantError: it failed; the message is its last line.
        """
        given = {**os.environ, **(environment or {})}
        finished = subprocess.run(self.host(host).command(argv), capture_output=True, text=True, env=given, check=False, timeout=60)
        if finished.returncode != 0:
            raise servers.PlantError(f"{argv[0]} on {host} ended with {finished.returncode}: {finished.stderr.strip()[-200:]}")
        return finished.stdout

    @contextlib.contextmanager
    def resolver(self, name: str, host: str) -> Iterator[tuple[str, int]]:
        """The plant's second resolver while the body acts, which says that ``name`` is ``host``; where it answers."""
        here = self.host("dns-2")
        record = f"{name}={self.host(host).address}"
        process = self.held.start(
            "dns-2", here, [sys.executable, "-m", "examples.plant.dns_server", here.address, "53", record],
            unprivileged=servers.nobody_may_run_python(),
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 10
            while ":0035 " not in here.call(lambda: Path("/proc/thread-self/net/udp").read_text(encoding="ascii")):
                if time.monotonic() > deadline:
                    raise servers.PlantError("the second resolver does not listen")
                time.sleep(0.05)
            yield here.address, 53
        finally:
            process.terminate()
            process.wait()

    @contextlib.contextmanager
    def serving(self, name: str, port: int, argv: Sequence[str]) -> Iterator[None]:
        """A server of ``argv`` on a host's port while the body acts."""
        host, title = self.host(name), f"{name}-{port}"
        process = self.held.start(title, host, argv, unprivileged=servers.nobody_may_run_python())
        try:
            self.held.wait_for(title, process, host, (host.address, port))
            yield
        finally:
            process.terminate()
            process.wait()

    def upload(self, host: str, name: str, size: int, *, to: str, account: str, context: ssl.SSLContext | None = None) -> Entry:
        """Resolve ``name``, which is ``to``, and PUT ``size`` bytes there over TLS."""
        here, bound = self.host(host), self.host(host).local_address()
        with self.resolver(name, to) as resolver:
            address = here.call(lambda: clients.resolve(here, resolver, name))
        return here.call(lambda: clients.tls_upload(self.plant.ledger, account, bound, address, 443, name, size, context))

    def psql(self, host: str, account: str, statement: str, *more: str) -> str:
        """Run one statement with psql on a host; its unaligned rows."""
        login = self.login(account)
        address = ["-h", login.address, "-p", str(login.port), "-U", account, "-d", "mes"]
        return self.program(host, ["psql", "-X", "-q", "-A", "-t", *address, *more, "-c", statement], self.libpq(account))

    def libpq(self, account: str) -> dict[str, str]:
        """The environment in which a program of PostgreSQL's logs in as ``account``."""
        return {"PGPASSWORD": self.plant.passwords[account], "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}


@contextlib.contextmanager
def stage(seed: int) -> Iterator[Stage]:
    """Raise the plant; every amount of its scenarios follows from ``seed``, no password does."""
    chance = random.Random(seed)
    with (
        plant(chance, namespaces=True, rows_max=400, more=HOSTS, users=USERS, secure=True) as running,
        tempfile.TemporaryDirectory(prefix="hopwatch-stage-", ignore_cleanup_errors=True) as temporary,
        servers.processes(Path(temporary)) as held,
    ):
        folder = Path(temporary)
        folder.chmod(0o711)
        with running.database.administrator() as admin:
            for statement in SETUP:
                admin.execute(statement)
            for role in ROLES:
                running.passwords.setdefault(role, running.new_password())
                admin.execute(f"create role {role} login password '{running.passwords[role]}'")
                admin.execute(f"grant usage on schema mes, quality to {role}; grant select on all tables in schema mes, quality to {role}")
            admin.execute("grant select on all tables in schema mes, quality to svc_report; grant usage on schema mes to svc_mw")
            admin.execute("grant insert on mes.work_order to svc_ml")
        built = Stage(running, folder, held, chance)
        _serve(built, "model", MODEL_API)
        for name in ("lake-2", "lake-us"):
            _serve(built, name, NAMES["lake"])
        _serve(built, "lake-old", NAMES["lake"], "1.0")
        yield built


def _serve(built: Stage, name: str, certified: str, *more: str) -> None:
    """A TLS server that takes uploads, as the lake's."""
    host = built.host(name)
    folder = built.folder / name
    folder.mkdir(mode=0o711)
    certificate, key = servers.self_signed(folder, certified)
    arguments = [host.address, "443", str(certificate), str(key), *more]
    servers.python_server(built.held, f"tls-{name}", host, "tls_sink", arguments, (host.address, 443))


def plant_time(text: str) -> int:
    """Nanoseconds of ``2026-04-07 12:33``, which the plant's clocks show."""
    return int(datetime.fromisoformat(text).replace(tzinfo=TIMEZONE).timestamp()) * SECOND_NS

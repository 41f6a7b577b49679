"""What a fault run is made of: a wire, two agents behind a network that can be cut, brokers, two detectors, a store, a database.

    wire (rounds of the plant day) ──▶ agent "east", agent "west" ──✂──▶ Kafka ──▶ detector 1, detector 2, store ──▶ PostgreSQL

Agents and brokers live in network namespaces of their own; detectors reach the database through its Unix socket.
"""

import base64
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from examples.broker import ROOT, Cluster, kafka
from examples.database import Database, database
from examples.plant.network import Host, Network, network
from examples.plant.record import recording
from examples.plant.servers import tied
from hopwatch.bus.topics import TOGETHER, topic_name
from hopwatch.declared.sign import sign, signature_path
from tests.bus.real import admin
from tests.fault.traffic import Traffic

PLANTS = ("east", "west")
DETECTORS = (1, 2)
PARTITIONS = 4
WIRE, FAR_END, TAP = "wire0", "wire1", "mirror"
READY_S = 60.0
DRAINED_S = 300.0
APPROVER = "h.keller"
DECLARATION = ROOT / "examples" / "plant-demo.yaml"


class FaultError(Exception):
    """The run could not be carried out; the message quotes who failed."""


@dataclass(slots=True)
class Program:
    """One of ours, started again and again; its standard error is kept."""

    name: str
    host: Host
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        assert not self.runs
        command = self.host.command([*tied(), sys.executable, "-m", "hopwatch.cli", *self.arguments])
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOPWATCH_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment)
        self.starts += 1

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """`kill -9`, of a process that must be running: what had ended by itself would be another failure."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise FaultError(f"{self.name} had ended by itself with {self.process.returncode}: {self.said()}")
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 60.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)

    def said(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-8:]) or "no word"


@dataclass(slots=True)
class House:
    """Everything of one run, and what can be done to it."""

    folder: Path
    network: Network
    cluster: Cluster
    database: Database
    traffic: Traffic
    agents: Mapping[str, Program]
    detectors: Mapping[int, Program]
    store: Program
    dice: random.Random
    recorder: contextlib.ExitStack
    events: list[str] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        self.events.append(f"{time.monotonic() - self.began_s:6.1f} s  {what}")
        print(self.events[-1], file=sys.stderr, flush=True)

    @property
    def capture(self) -> Path:
        return self.folder / "wire.pcap.gz"

    def declaration(self, plant: str) -> Path:
        return self.folder / f"{plant}.yaml"

    @property
    def approvers(self) -> Path:
        return self.folder / "approvers"

    def spool(self, plant: str) -> Path:
        return self.folder / f"{plant}.spool"

    @property
    def postgres(self) -> str:
        return _by_socket(self.database, "fault")

    def start_agent(self, plant: str) -> None:
        """Start it and wait until it listens: what passes before is nobody's."""
        before = self._packet_sockets()
        agent = self.agents[plant]
        agent.start()
        self._until(lambda: self._packet_sockets() > before, f"the agent of {plant} listens", agent)
        time.sleep(0.3)  # The socket is bound to its interface and mapped just after it is made.

    def all_run(self) -> None:
        """Nothing of ours ends by itself, whatever happens around it."""
        for program in (*self.agents.values(), *self.detectors.values(), self.store):
            if not program.runs:
                raise FaultError(f"{program.name} ended by itself: {program.said()}")

    def waiting(self, plant: str) -> int:
        """Events in the spool that the broker has not acknowledged."""
        with contextlib.closing(sqlite3.connect(f"file:{self.spool(plant)}?mode=ro", uri=True, timeout=10)) as db:
            (end,) = db.execute("SELECT next FROM ends").fetchone()
            row = db.execute("SELECT position FROM consumers WHERE name = 'broker'").fetchone()
        return int(end) - int(row[0] or 0)

    # Faults

    def kill_broker(self) -> None:
        number = self.dice.choice(list(self.cluster.nodes))
        self.say(f"broker {number} is killed")
        self.cluster.kill(number)
        time.sleep(self.dice.uniform(1.0, 3.0))
        self.cluster.start(number)
        self.say(f"broker {number} serves again")

    def pause_broker(self) -> None:
        number = self.dice.choice(list(self.cluster.nodes))
        self.say(f"broker {number} hangs")
        self.cluster.pause(number)
        time.sleep(self.dice.uniform(2.0, 5.0))
        self.cluster.resume(number)
        self.say(f"broker {number} goes on")

    def kill_detector(self) -> None:
        """A detector, and now and then the store with it."""
        killed = [self.detectors[self.dice.choice(DETECTORS)], *([self.store] if self.dice.random() < 0.5 else [])]
        self.say(f"{' and '.join(program.name for program in killed)} killed")
        for program in killed:
            program.kill()
        time.sleep(self.dice.uniform(0.0, 3.0))
        for program in killed:
            program.start()

    def kill_database(self) -> None:
        self.say("the database is killed")
        self.database.kill()
        time.sleep(self.dice.uniform(1.0, 3.0))
        self.database.start()
        self.say("the database takes logins again")

    def cut_network(self) -> None:
        self.say("the network between agents and brokers is cut")
        with self.cut():
            time.sleep(self.dice.uniform(3.0, 6.0))
        self.say("the network is whole again")

    def kill_agent(self) -> None:
        """Killed with events in its spool that no broker has, between two rounds: nobody can be asked for packets that passed while
        it was dead, so none pass."""
        plant = self.dice.choice(PLANTS)
        self.say("the network is cut")
        with contextlib.ExitStack() as broken:
            broken.enter_context(self.cut())
            rounds = self.traffic.rounds
            self._until(lambda: self.traffic.rounds > rounds, "a round ends behind the cut")
            with self._settled():
                waiting = self.waiting(plant)
                self.agents[plant].kill()
                self.say(f"the agent of {plant} is killed; {waiting} events wait in its spool")
                if not waiting:
                    raise FaultError("nothing waited in the spool: the cut cut nothing")
                if self.dice.random() < 0.5:
                    broken.close()
                self.start_agent(plant)
        self.say(f"the agent of {plant} listens again, the network is whole")

    @contextlib.contextmanager
    def _settled(self) -> Iterator[None]:
        """No round is played while the body runs, and every window of the last one is spooled."""
        with self.traffic.quiet:
            size = -1
            while (now := sum(self.spooled(plant) for plant in PLANTS)) != size or time.monotonic() < self.traffic.ended_s + 3.0:
                size = now
                time.sleep(1.5)
            yield

    def spooled(self, plant: str) -> int:
        """Events the spool ever held."""
        with contextlib.closing(sqlite3.connect(f"file:{self.spool(plant)}?mode=ro", uri=True, timeout=10)) as db:
            return int(db.execute("SELECT next FROM ends").fetchone()[0])

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Every frame of the agents' host vanishes; no interface goes down."""
        port = "port0"  # The first of the network's hosts.
        self._ip("link", "set", port, "nomaster")
        try:
            yield
        finally:
            self._ip("link", "set", port, "master", self.network.interface)

    # The end

    def drain(self) -> None:
        """Wait until every event is acknowledged, judged and said."""
        self.traffic.stop()
        time.sleep(4.0)
        self.recorder.close()
        self._until(lambda: not any(self.waiting(plant) for plant in PLANTS), "the spools are empty", *self.agents.values())
        for plant, agent in self.agents.items():
            code = agent.stop()
            if code != 0:
                raise FaultError(f"the agent of {plant} ended with {code}: {agent.said()}")
        ends = self._ends()
        self._until(lambda: self._judged(ends), "everything is judged", *self.detectors.values())
        self._until(lambda: self._stored(ends), "everything is stored", self.store)
        for program in (*self.detectors.values(), self.store):
            code = program.stop()
            if code != 0:
                raise FaultError(f"{program.name} ended with {code}: {program.said()}")

    def _ends(self) -> dict[tuple[str, int], int]:
        def ask() -> dict[tuple[str, int], int]:
            from confluent_kafka import TopicPartition
            from confluent_kafka.admin import OffsetSpec

            client = admin(self.cluster)
            wanted = {TopicPartition(topic_name(kind), number): OffsetSpec.latest() for kind in TOGETHER for number in range(PARTITIONS)}
            return {(one.topic, one.partition): said.result(30).offset for one, said in client.list_offsets(wanted).items()}

        return self.cluster.host.call(ask)

    def _judged(self, ends: Mapping[tuple[str, int], int]) -> bool:
        with psycopg.connect(self.postgres) as db:
            rows = db.execute("SELECT number, position FROM detector_partitions").fetchall()
            waiting = db.execute("SELECT count(*) FROM detector_outbox").fetchone()
        done = {(topic, number): offset for number, position in rows for topic, offset in position.get("offsets", {}).items()}
        return waiting == (0,) and all(done.get(place, 0) >= end for place, end in ends.items())

    def _stored(self, ends: Mapping[tuple[str, int], int]) -> bool:
        with psycopg.connect(self.postgres) as db:
            done = {
                (topic, number): offset for topic, number, offset in db.execute("SELECT topic, number, next FROM store_offsets").fetchall()
            }
        return all(done.get(place, 0) >= end for place, end in ends.items())

    def _until(self, condition: Callable[[], bool], what: str, *concerned: Program) -> None:
        deadline = time.monotonic() + DRAINED_S
        while not condition():
            for program in concerned:
                if not program.runs:
                    raise FaultError(f"{program.name} ended while waiting until {what}: {program.said()}")
            if self.traffic.error is not None:
                raise self.traffic.error
            if time.monotonic() > deadline:
                raise FaultError(f"not within {DRAINED_S:.0f} s: {what}\n" + "\n".join(f"{one.name}: {one.said()}" for one in concerned))
            time.sleep(0.2)

    def _packet_sockets(self) -> int:
        host = self.network.hosts["agents"]
        return len(host.call(lambda: Path("/proc/thread-self/net/packet").read_text(encoding="ascii")).splitlines())

    def _ip(self, *arguments: str) -> None:
        _ip("-n", str(self.network.tap.namespace), *arguments)


@contextlib.contextmanager
def house(seed: int, *, brokers: int, days: int) -> Iterator[House]:
    """Everything running, the declarations applied, no traffic yet."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hopwatch-fault-")))
        folder.chmod(0o755)  # The database's unprivileged user has to reach its own.
        addresses = {"agents": "10.98.0.1", "centre": "10.98.0.2"}
        made = stack.enter_context(network(addresses, namespaces=True, kernel_chooses="agents"))
        agents_host, centre = made.hosts["agents"], made.hosts["centre"]
        _ip(
            "-n", str(made.tap.namespace), "link", "add", FAR_END, "type", "veth", "peer", "name", WIRE, "netns", str(agents_host.namespace)
        )
        _ip("-n", str(made.tap.namespace), "link", "set", FAR_END, "up")
        _ip("-n", str(agents_host.namespace), "link", "set", WIRE, "up")
        cluster = stack.enter_context(kafka(folder / "kafka", brokers=brokers, host=centre))
        server = stack.enter_context(database(folder / "postgresql"))
        server.uri("fault")
        _run(centre, "topics", "create", "--bootstrap-servers", cluster.bootstrap, "--partitions", str(PARTITIONS))
        detectors = {number: _detector(number, folder, cluster, server) for number in DETECTORS}
        agents = {plant: _agent(plant, folder, cluster, agents_host) for plant in PLANTS}
        store = Program("store", centre, ["store", *_shared(folder, cluster, server)], folder / "store.log")
        traffic = Traffic(made.tap, FAR_END, days)
        held = House(
            folder,
            made,
            cluster,
            server,
            traffic,
            agents,
            detectors,
            store,
            random.Random(seed),
            stack.enter_context(contextlib.ExitStack()),
        )
        stack.callback(_end, [*agents.values(), *detectors.values(), store])
        _declare(held)
        # It also has the kernel stamp every packet once, when it comes in: recorder and agents see one time.
        held.recorder.enter_context(recording(Network({}, WIRE, agents_host), held.capture))
        for program in (*detectors.values(), store):
            program.start()
        for plant in PLANTS:
            held.start_agent(plant)
        yield held


def _detector(number: int, folder: Path, cluster: Cluster, server: Database) -> Program:
    return Program(
        f"detector {number}",
        cluster.host,
        ["detect", *_shared(folder, cluster, server), "--no-questions"],
        folder / f"detector-{number}.log",
    )


def _shared(folder: Path, cluster: Cluster, server: Database) -> list[str]:
    """What detectors and store are told alike."""
    said = ["--brokers", cluster.bootstrap, "--postgres", _by_socket(server, "fault")]
    return [*said, "--key", str(folder / "key"), "--approvers", str(folder / "approvers")]


def _agent(plant: str, folder: Path, cluster: Cluster, host: Host) -> Program:
    said = ["agent", "-i", WIRE, "--tap", TAP, "--plant", plant, "--agent", f"tap-{plant}", "--brokers", cluster.bootstrap]
    return Program(f"agent {plant}", host, [*said, "--spool", str(folder / f"{plant}.spool")], folder / f"agent-{plant}.log")


def _declare(held: House) -> None:
    """The demo's declaration for each plant, signed by an approver, applied."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    held.approvers.write_text(f"{APPROVER} ed25519 {base64.b64encode(public).decode()}\n")
    for plant in PLANTS:
        path = held.declaration(plant)
        path.write_text(DECLARATION.read_text("utf-8").replace("\nplant: demo\n", f"\nplant: {plant}\n"), "utf-8")
        signature_path(path).write_bytes(sign(path.read_bytes(), private))
        there = ["--bootstrap-servers", held.cluster.bootstrap, "--approvers", str(held.approvers), "--allow-dirty"]
        _run(held.cluster.host, "declared", "apply", str(path), *there)


def _run(host: Host, *arguments: str) -> None:
    """A command of ours that ends by itself."""
    command = host.command([sys.executable, "-m", "hopwatch.cli", *arguments])
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise FaultError(f"hopwatch {' '.join(arguments[:2])} ended with {done.returncode}: {done.stderr.strip()}")


def _by_socket(server: Database, name: str) -> str:
    parts = urlsplit(server.uri(name)) if server.process is not None and server.process.poll() is None else None
    assert parts is not None and parts.port is not None
    return f"postgresql://{parts.username}:{parts.password}@/{name}?host={server.folder}&port={parts.port}"


def _end(programs: list[Program]) -> None:
    for program in programs:
        if program.runs:
            assert program.process is not None
            program.process.kill()
            program.process.wait()


def _ip(*arguments: str) -> None:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise FaultError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

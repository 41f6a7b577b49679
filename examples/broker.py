"""Apache Kafka itself, for tests and benchmarks: one broker or three in KRaft mode, from a temporary folder.

The jars are those of ``scripts/kafka/pom.xml``, which `make setup` fetches into ``build/kafka``. Every broker listens four times:
in the clear for whoever tests something else, with SASL/SCRAM over TLS, with client certificates, and for the quorum.
The authorizer is on: who comes in the clear may do everything, ``admin`` too, every other account only what an ACL allows.

    with kafka(folder) as cluster:
        Publisher(cluster.bootstrap)
        cluster.kill(1)
        cluster.start(1)
"""

import base64
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.authority import Authority, Certificate
from examples.plant.network import Host
from examples.plant.servers import PlantError, tied

ROOT = Path(__file__).resolve().parents[1]
JARS = ROOT / "build" / "kafka"
CLASSES = JARS / "classes.jsa"
"""The broker's classes as the Java machine has them when it has read them; `python -m examples.broker` writes it, `make setup` calls that.

A broker starts with a third less work; a machine that cannot use the file (another version of Java) reads the jars as ever.
"""

LOGGING = ROOT / "scripts" / "kafka" / "log4j2.properties"
HERE = Host("broker", "127.0.0.1", None)
ADMIN = "admin"

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
HEAP_MB = 384
# Below the ports the kernel gives to clients, so that a broker that was killed finds its own free again.
PORTS = range(20_000, 32_000)
LISTENERS = ("clear", "scram", "mtls", "quorum")
QUOTED_LINES = 15

STARTED = b"Kafka Server started"


class BrokerError(PlantError):
    """A broker is missing, did not start or did not stop; the message quotes its log."""


@dataclass(slots=True)
class Node:
    """One broker of the cluster: its folder, its ports by listener, and its process while it runs."""

    number: int
    folder: Path
    ports: Mapping[str, int]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    def said(self, lines: int = QUOTED_LINES) -> str:
        """The end of its log, with the errors of all of it."""
        try:
            written = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return "no log"
        errors = [line for line in written[:-lines] if " ERROR " in line or " FATAL " in line]
        return "\n".join([*errors[-lines:], *written[-lines:]])


@dataclass(slots=True)
class Cluster:
    """Brokers that this process started; ``nodes`` are numbered from 1."""

    folder: Path
    host: Host
    nodes: Mapping[int, Node]
    authority: Authority
    passwords: Mapping[str, str] = field(repr=False)
    """Of the SCRAM accounts, ``admin`` among them."""

    java: Sequence[str]

    @property
    def bootstrap(self) -> str:
        """Every broker's address in the clear; no account."""
        return self.at("clear")

    @property
    def bootstrap_scram(self) -> str:
        """Every broker's address with SASL_SSL, SCRAM-SHA-512."""
        return self.at("scram")

    @property
    def bootstrap_mtls(self) -> str:
        """Every broker's address with SSL and a certificate of the client; its CN is the account."""
        return self.at("mtls")

    def at(self, listener: str) -> str:
        return ",".join(f"{self.host.address}:{node.ports[listener]}" for node in self.nodes.values())

    def certificate(self, name: str) -> Certificate:
        """A client's certificate."""
        return self.authority.issue(name)

    def start(self, *numbers: int) -> None:
        """Start these brokers (all, if none is named) on their own data, and wait until they serve."""
        chosen = self._chosen(numbers)
        before = {node.number: node.log.stat().st_size if node.log.exists() else 0 for node in chosen}
        for node in chosen:
            assert node.process is None or node.process.poll() is not None, f"broker {node.number} runs"
            command = self.host.command([*tied(), *self.java, "kafka.Kafka", str(node.folder / "server.properties")])
            with node.log.open("ab") as log:
                node.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=node.folder, env=_environment(), start_new_session=True
                )
        deadline = time.monotonic() + START_TIMEOUT_S
        for node in chosen:
            self._wait_for(node, before[node.number], deadline)

    def kill(self, *numbers: int) -> None:
        """End them without a word, as `kill -9` and a power cut of the process do."""
        for node in self._chosen(numbers):
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait()

    def stop(self, *numbers: int) -> None:
        """Ask them to end, which hands over what they lead, and wait."""
        running = [node for node in self._chosen(numbers) if node.process is not None and node.process.poll() is None]
        for node in running:
            assert node.process is not None
            node.process.terminate()
        for node in running:
            assert node.process is not None
            try:
                node.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired as error:
                raise BrokerError(f"broker {node.number} does not end\n{node.said()}") from error

    def restart(self, *numbers: int) -> None:
        """Stop and start on the same data."""
        self.stop(*numbers)
        self.start(*numbers)

    def pause(self, *numbers: int) -> None:
        """Let them hang: connections stay open and nothing answers (SIGSTOP)."""
        self._signal(numbers, signal.SIGSTOP)

    def resume(self, *numbers: int) -> None:
        """Let paused ones go on."""
        self._signal(numbers, signal.SIGCONT)

    def serves(self) -> bool:
        """Whether every broker's process lives and takes connections."""
        return all(node.process is not None and node.process.poll() is None and self._answers(node) for node in self.nodes.values())

    def said(self) -> str:
        """The ends of the brokers' logs, to be shown beside a failure."""
        return "\n".join(f"-- broker {node.number}: {node.log}\n{node.said()}" for node in self.nodes.values())

    def close(self) -> None:
        """End every broker; nobody needs their data any more."""
        self.kill()

    def _chosen(self, numbers: Sequence[int]) -> list[Node]:
        return [self.nodes[number] for number in numbers or self.nodes]

    def _signal(self, numbers: Sequence[int], which: signal.Signals) -> None:
        for node in self._chosen(numbers):
            assert node.process is not None, f"broker {node.number} does not run"
            node.process.send_signal(which)

    def _wait_for(self, node: Node, size: int, deadline: float) -> None:
        assert node.process is not None
        while time.monotonic() < deadline:
            if node.process.poll() is not None:
                raise BrokerError(f"broker {node.number} ended with {node.process.returncode} while starting\n{node.said()}")
            with node.log.open("rb") as log:
                log.seek(size)
                if STARTED in log.read() and self._answers(node):
                    return
            time.sleep(0.05)
        raise BrokerError(f"broker {node.number} does not serve after {START_TIMEOUT_S:.0f} s\n{node.said()}")

    def _answers(self, node: Node) -> bool:
        def connects() -> bool:
            try:
                socket.create_connection((self.host.address, node.ports["clear"]), 1).close()
            except OSError:
                return False
            return True

        return self.host.call(connects)


@contextlib.contextmanager
def kafka(
    folder: Path,
    *,
    brokers: int = 1,
    accounts: Sequence[str] = (),
    host: Host = HERE,
    heap_mb: int = HEAP_MB,
    fast: bool = False,
    options: Mapping[str, object] | None = None,
) -> Iterator[Cluster]:
    """A cluster in ``folder`` (empty or not there yet), serving; ended with the context.

    ``accounts`` get a SCRAM password each. ``fast`` compiles for throughput, as a benchmark wants; without it a broker starts
    sooner and takes less CPU for the first minute. ``options`` are added to every server.properties.
    """
    java = _java(heap_mb, fast)
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_ports(host, brokers * len(LISTENERS))
    nodes = {
        number: Node(number, folder / f"broker-{number}", {name: next(ports) for name in LISTENERS}) for number in range(1, brokers + 1)
    }
    passwords = {name: secrets.token_hex(16) for name in (ADMIN, *accounts)}
    cluster = Cluster(folder, host, nodes, Authority(folder), passwords, java)
    server = cluster.authority.issue("broker", host.address)
    for node in nodes.values():
        node.folder.mkdir()
        settings = _settings(cluster, node, server) | dict(options or {})
        properties = node.folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="ascii")
    try:
        _format(cluster)
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def missing() -> str | None:
    """What this machine lacks to run a broker; None if nothing."""
    if shutil.which("java") is None:
        return "java (a Java 17 runtime) is not installed"
    if not (JARS / ".whole").exists():
        return f"{JARS} holds no broker"
    return None


def _java(heap_mb: int, fast: bool) -> list[str]:
    lacking = missing()
    if lacking:
        raise BrokerError(f"{lacking}; `make setup` brings it")
    quick = [] if fast else ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    bounded = [f"-Xmx{heap_mb}m", f"-Xms{min(heap_mb, 128)}m", "-XX:MaxDirectMemorySize=256m", "-XX:+ExitOnOutOfMemoryError"]
    # By the folder's own name: the classes are of jars at one place.
    return ["java", *bounded, *quick, *shared(), f"-Dlog4j2.configurationFile={LOGGING}", "-cp", f"{JARS.resolve()}/*"]


def shared() -> list[str]:
    """What lets a Java machine take the broker's classes as they were written down."""
    return [f"-XX:SharedArchiveFile={CLASSES.resolve()}"] if CLASSES.exists() else []


def write_classes() -> None:
    """Start a broker, and write down the classes it has read when it ends."""
    CLASSES.unlink(missing_ok=True)
    written = CLASSES.with_suffix(".new")
    with (
        tempfile.TemporaryDirectory(prefix="hopwatch-classes-") as folder,
        kafka(Path(folder) / "cluster", accounts=("anyone",)) as cluster,
    ):
        cluster.stop()
        # Not before: the tool that formats the storage ends first, and would write its own.
        cluster.java = [*cluster.java[:1], f"-XX:ArchiveClassesAtExit={written}", *cluster.java[1:]]
        cluster.start()
        cluster.stop()
    written.replace(CLASSES)


def _format(cluster: Cluster) -> None:
    """Write the cluster's id and the accounts into every broker's folder; all at a time, each is a Java machine of its own."""
    identity = base64.urlsafe_b64encode(uuid.UUID(int=uuid.uuid4().int & ~(1 << 127)).bytes).decode().rstrip("=")
    # In a file, since every account of the machine reads the arguments of a process.
    arguments = cluster.folder / "format"
    arguments.touch(mode=0o600)
    lines = ["format", "--cluster-id", identity]
    for name, password in cluster.passwords.items():
        lines += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
    arguments.write_text("\n".join(lines) + "\n", encoding="ascii")
    runs = []
    for node in cluster.nodes.values():
        command = [*tied(), *cluster.java, "kafka.tools.StorageTool", f"@{arguments}", "--config", str(node.folder / "server.properties")]
        with node.log.open("ab") as log:
            runs.append(
                (node, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=node.folder, env=_environment()))
            )
    for node, run in runs:
        if run.wait(START_TIMEOUT_S) != 0:
            raise BrokerError(f"the storage of broker {node.number} cannot be formatted\n{node.said()}")
    arguments.unlink()


def _settings(cluster: Cluster, node: Node, server: Certificate) -> dict[str, object]:
    """Kafka's own defaults wherever a bound does not have to be small or a wait short."""
    address, copies = cluster.host.address, min(3, len(cluster.nodes))
    clients = [name for name in LISTENERS if name != "quorum"]
    protocols = {"clear": "PLAINTEXT", "scram": "SASL_SSL", "mtls": "SSL", "quorum": "PLAINTEXT"}
    return {
        "node.id": node.number,
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(f"{each.number}@{address}:{each.ports['quorum']}" for each in cluster.nodes.values()),
        "controller.listener.names": "QUORUM",
        "listeners": ",".join(f"{name.upper()}://{address}:{node.ports[name]}" for name in LISTENERS),
        "advertised.listeners": ",".join(f"{name.upper()}://{address}:{node.ports[name]}" for name in clients),
        "listener.security.protocol.map": ",".join(f"{name.upper()}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": "CLEAR",
        "log.dirs": node.folder / "data",
        # Who may do what.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{ADMIN}",
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "listener.name.mtls.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^.*?CN=([^,]+).*$/$1/,DEFAULT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": server.together,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": cluster.authority.certificate,
        # As many copies as there are brokers.
        "default.replication.factor": copies,
        "min.insync.replicas": 2 if copies == 3 else 1,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": 2 if copies == 3 else 1,
        "auto.create.topics.enable": "false",
        # Small machine, short waits: fifty partitions of offsets are fifty files, a broker that is gone is missed after 3 s.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": copies,
        "group.initial.rebalance.delay.ms": 0,
        "group.consumer.min.heartbeat.interval.ms": 500,
        "group.consumer.heartbeat.interval.ms": 500,
        # A member that was killed is missed soon.
        "group.consumer.min.session.timeout.ms": 6000,
        "group.consumer.session.timeout.ms": 6000,
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
    }


def free_ports(host: Host, count: int) -> Iterator[int]:
    """Ports nobody listens on, from a place that differs between processes that look at the same time."""

    def look() -> list[int]:
        found: list[int] = []
        first = secrets.randbelow(len(PORTS) - 1000)
        for port in PORTS[first:]:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind((host.address, port))
                found.append(port)
            if len(found) == count:
                return found
        raise BrokerError(f"no {count} free ports on {host.address}")

    return iter(host.call(look))


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "JAVA_HOME") if name in os.environ} | {"HOME": "/nonexistent"}


if __name__ == "__main__":
    write_classes()

"""Client stacks in other languages: one process each, one line in for a verb, one line out with what it counted."""

import json
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from examples.plant import servers as plant
from examples.plant.network import Host
from tests.matrix import clients_postgresql
from tests.matrix.ledger import Moved
from tests.matrix.servers import Server

BUILD = Path(__file__).resolve().parent / "build"
JAVA = ["java", "-cp", f"{BUILD / 'classes'}:{BUILD / 'jars'}/*"]
RUST = BUILD / "rust" / "release" / "matrix"
# Client of the table: (what runs it, its name there).
STACKS = {
    "JDBC": ("java", "jdbc"),
    "paho (Java)": ("java", "paho"),
    "Milo": ("java", "milo"),
    "tokio-postgres": ("rust", "tokio-postgres"),
    "rumqttc": ("rust", "rumqttc"),
    "async-opcua": ("rust", "async-opcua"),
}


def built() -> dict[str, list[str]]:
    """What there is to run, by language."""
    found = {}
    if (BUILD / "classes" / "Clients.class").exists():
        found["java"] = [*JAVA, "Clients"]
    if RUST.exists():
        found["rust"] = [str(RUST), "clients"]
    return found


def versions() -> dict[str, str]:
    """Of each stack that is built: from the names of its jars, and the lock of its crates."""
    found = {}
    if "java" in built():
        jars = {"JDBC": "postgresql", "paho (Java)": "org.eclipse.paho.client.mqttv3", "Milo": "milo-sdk-client"}
        for client, jar in jars.items():
            found[client] = next((BUILD / "jars").glob(f"{jar}-[0-9]*.jar")).stem.removeprefix(f"{jar}-")
    if "rust" in built():
        lock = tomllib.loads((BUILD.parent / "rust" / "Cargo.lock").read_text(encoding="utf-8"))
        crates = {package["name"]: package["version"] for package in lock["package"]}
        found |= {client: crates[client] for client in ("tokio-postgres", "rumqttc", "async-opcua")}
    return found


@dataclass(slots=True)
class Process:
    """One running program of clients."""

    process: subprocess.Popen[str]

    def ask(self, *words: str) -> str:
        source, sink = self.process.stdout, self.process.stdin
        assert source is not None
        assert sink is not None
        sink.write("\t".join(words) + "\n")
        sink.flush()
        return source.readline().rstrip("\n")


@dataclass(slots=True)
class Programs:
    """The programs, started when they are first asked."""

    host: Host
    folder: Path
    running: dict[str, Process] = field(default_factory=dict)
    logs: list[IO[str]] = field(default_factory=list)

    def process(self, language: str) -> Process:
        if language not in self.running:
            log = (self.folder / f"clients-{language}.log").open("w", encoding="utf-8")
            self.logs.append(log)
            command = self.host.command([*plant.tied(), *built()[language]])
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder)
            self.running[language] = Process(process)
        return self.running[language]

    def verbs(self, client: str) -> list[str]:
        language, stack = STACKS[client]
        return [verb for verb in self.process(language).ask("verbs", stack).split("\t") if verb]

    def run(self, client: str, verb: str, server: Server) -> list[Moved]:
        language, stack = STACKS[client]
        more: Mapping[str, object] = {name: value for name, value in server.facts.items() if isinstance(value, (str, int, Path))}
        told = [f"{name}={value}" for name, value in more.items()]
        if verb == "logical replication":
            told.append(f"end={clients_postgresql.make_changes(server)}")
        answer = self.process(language).ask(stack, verb, server.address, str(server.port), *told)
        if not answer:
            raise AssertionError(f"{language} clients ended: {self.last_lines(language)}")
        said = json.loads(answer)
        if isinstance(said, dict):
            raise AssertionError(f"{client}: {said['error']}; {self.last_lines(language)}")
        return [Moved(**moved) for moved in said]

    def last_lines(self, language: str) -> str:
        lines: Sequence[str] = (self.folder / f"clients-{language}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-12:])

    def stop(self) -> None:
        for one in self.running.values():
            assert one.process.stdin is not None
            one.process.stdin.close()
            try:
                one.process.wait(5)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        for log in self.logs:
            log.close()

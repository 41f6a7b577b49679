"""`hopwatch watch` as a subprocess, read as a program reads it, and its store compared with the clients' ledger."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.plant.ledger import Ledger
from examples.plant.network import KERNEL_CHOICE, Network

Json = dict[str, Any]  # Any: one JSON object
End = tuple[str, int]
Connection = tuple[End, End]

READY_S = 20.0
END_S = 30.0
FLOWS_MAX = 1_000_000
COUNTED = ("rows", "messages", "values", "bytes")


class WatchError(Exception):
    """`hopwatch watch` did not start or did not end as it must."""


def hopwatch(*arguments: str) -> list[str]:
    """The installed command, or the module where it is not installed."""
    command = Path(sys.executable).with_name("hopwatch")
    return [str(command), *arguments] if command.exists() else [sys.executable, "-m", "hopwatch.cli", *arguments]


@dataclass(slots=True)
class Watch:
    """A running watch: its events in order, each with the wall time at which its line was read."""

    process: subprocess.Popen[bytes]
    lines: list[tuple[float, Json]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.time(), json.loads(line)))

    def read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line.decode(errors="replace").rstrip())

    def of(self, kind: str) -> list[tuple[float, Json]]:
        return [(moment, event) for moment, event in list(self.lines) if event.get("kind") == kind]

    def findings(self) -> dict[str, tuple[float, Json]]:
        """Each finding as it stands, with the moment it was first told."""
        told: dict[str, tuple[float, Json]] = {}
        for moment, event in self.of("finding"):
            told[event["finding_id"]] = (told.get(event["finding_id"], (moment,))[0], event)
        return told

    def stop(self) -> int:
        """Ask it to end (Ctrl-C) and wait until its last line is read; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(END_S)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise WatchError(f"hopwatch watch did not end within {END_S:.0f} s of Ctrl-C") from error
        for thread in self.threads:
            thread.join(END_S)
        return code


@contextlib.contextmanager
def watching(network: Network, declaration: Path, store: Path, *more: str) -> Iterator[Watch]:
    """`hopwatch watch` on the plant's tap, ready to see the next packet; ended with the context at the latest. ``more``: flags."""
    arguments = ["watch", "-d", str(declaration), "-i", network.interface, "--store", str(store), "--json", "--alerts", *more]
    if not network.namespaces:
        # What else this machine says to itself is not the plant's.
        arguments += ["--bpf", f"not (src host {KERNEL_CHOICE} and dst host {KERNEL_CHOICE})"]
    before = _packet_sockets(network)
    process = subprocess.Popen(
        network.tap.command(hopwatch(*arguments)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    )
    watch = Watch(process)
    try:
        for target in (watch.read_output, watch.read_errors):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            watch.threads.append(thread)
        deadline = time.monotonic() + READY_S
        while _packet_sockets(network) <= before:
            if process.poll() is not None:
                for thread in watch.threads:
                    thread.join(1)
                raise WatchError(f"hopwatch watch ended with {process.returncode}: {' '.join(watch.errors[-3:]) or 'no message'}")
            if time.monotonic() > deadline:
                raise WatchError(f"hopwatch watch listens to no packets after {READY_S:.0f} s")
            time.sleep(0.05)
        time.sleep(0.3)  # The socket is bound to its interface and mapped just after it is made.
        yield watch
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def replay(captures: Sequence[Path], declaration: Path, store: Path | None, *more: str) -> tuple[Watch, int]:
    """`hopwatch watch -r`: the same path from recorded packets; the watch and its exit code. ``more`` are further flags."""
    arguments = [
        "watch",
        "-d",
        str(declaration),
        *(part for path in captures for part in ("-r", str(path))),
        "--store",
        "none" if store is None else str(store),
        "--json",
        *more,
    ]
    process = subprocess.Popen(
        hopwatch(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
    )
    watch = Watch(process)
    errors = threading.Thread(target=watch.read_errors, daemon=True)
    errors.start()
    watch.read_output()
    code = process.wait(END_S)
    errors.join(END_S)
    return watch, code


def stored_flows(store: Path) -> list[Json]:
    """Every flow window the store holds, each with its judgement."""
    arguments = hopwatch("flows", "--store", str(store), "--json", "--limit", str(FLOWS_MAX))
    finished = subprocess.run(arguments, capture_output=True, text=True, check=False, env=_environment())
    if finished.returncode not in (0, 1):
        raise WatchError(f"hopwatch flows ended with {finished.returncode}: {finished.stderr.strip()}")
    return [json.loads(line) for line in finished.stdout.splitlines()]


def connection_of(flow: Mapping[str, Any]) -> Connection:
    """The flow's connection as its client knows it: client end, server end."""
    ends: dict[str, End] = {name: (flow[name]["address"], flow[name]["port"]) for name in ("source", "destination")}
    return (ends["source"], ends["destination"]) if flow["opened_by"] == "source" else (ends["destination"], ends["source"])


def sums(flows: Sequence[Mapping[str, Any]]) -> dict[Connection, dict[str, int]]:
    """What the flows add up to, connection by connection; statements that only prepare the session are not work."""
    total: dict[Connection, dict[str, int]] = {}
    for flow in flows:
        one = total.setdefault(connection_of(flow), dict.fromkeys(COUNTED, 0))
        one["bytes"] += flow["bytes"] + flow["bytes_back"]
        if flow["operation"] != "connect":
            for name in ("rows", "messages", "values"):
                one[name] += flow[name]
    return total


def sums_per_account(flows: Sequence[Mapping[str, Any]], ledger: Ledger) -> dict[str, dict[str, int]]:
    """What the store holds of the ledger's connections, per account.

    A connection finds its account through its client's address and port: the store keeps undeclared accounts as
    pseudonyms, so their names are not there to group by.
    """
    total: dict[str, dict[str, int]] = {}
    per_connection = sums(flows)
    for entry in ledger.entries:
        one = total.setdefault(entry.account, dict.fromkeys(COUNTED, 0))
        for name, amount in per_connection.get((entry.client, entry.server), {}).items():
            one[name] += amount
    return total


def _packet_sockets(network: Network) -> int:
    return len(network.tap.call(lambda: Path("/proc/thread-self/net/packet").read_text(encoding="ascii")).splitlines()) - 1


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOPWATCH_")}

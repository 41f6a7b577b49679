"""Topic to finding: what detectors judge in a second with their memory in PostgreSQL, and how long a finding takes.

Run: ``make bench-detectors``. One real broker and one real database of its own share the machine with what is measured. Windows of
PLANTS plants that lie evenly on the partitions, each window of one of CONNECTIONS connections a plant, one in a hundred undeclared,
lie in the topic before anything is measured; then one detector reads them all, then two in another group, in turns, and a store.

**What is counted** is what is durable: the offsets that a transaction has kept. The clock starts with the first transaction after a
fifth of the windows and stops with the first after four fifths, so that interpreters have started, the group has formed, and what is
judged ahead of the transaction in flight is the same at both ends. CPU is that of the detectors' own processes between the two.

**Two to one.** Two detectors, the database and the broker cannot have more than the machine's cores, and on two of them the clock says
how the machine is full, not how detectors share work. So each turn is made again with every detector held to SHARE of a core
(``benchmarks/share.py``): then there is room for the second, and the ratio is that of detectors, database and broker at work together.

**Latency.** Windows are made before the clock starts, but for their times, and published at a steady rate, one in twenty undeclared
with an end of its own, so that each raises a finding of its own: from the window's end to the finding in its topic is the latency.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.share import shares
from examples.broker import kafka
from examples.database import Database, database
from hopwatch.bus.admin import Cluster
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Publisher, Reader
from hopwatch.bus.topics import TOPICS
from hopwatch.declared.edition import edition_of
from hopwatch.detect import KEEP_EVENTS_MAX
from hopwatch.events import dump, time_ns, time_text
from hopwatch.process import import_paths

ROOT = Path(__file__).parents[1]
DECLARATION = ROOT / "examples" / "plant-north.yaml"
PLANTS = 24
CONNECTIONS = 200
EVENTS_MIN = 10 * KEEP_EVENTS_MAX
"""Windows of a turn at least: a detector keeps them in steps, and what a turn of a few steps says is chance."""

WAIT_S = 900.0
SHARE = 0.4
"""Of a core, for each detector, where two are compared with one."""
LOOK_S = 0.02
PER_S = 20_000
"""Windows of one second of packet time."""

_FLOW = (
    b'{"kind":"flow","event_id":"%s","plant":"%s","agent":"tap-idmz","tap":"eth2","context":"vlan:120","connection":"%s","flow_id":"%s",'
    b'"sequence":%d,"final":false,"start":"%s","end":"%s",'
    b'"source":{"address":"10.20.1.21","port":5432,"names":[{"name":"mes-db.plant.example","by":"dns"}]},'
    b'"destination":{"address":"%s","port":%d,"names":[]},"opened_by":"destination","transport":"tcp","protocol":"postgresql",'
    b'"account":"%s","account_from":"startup","role":null,"on_behalf_of":null,"application":"quality-extract/2.1","operation":"select",'
    b'"statement":"c01d","objects":[{"names":["quality.inspection"],"columns":["lot","result"],"rows":2,"values":0,"messages":1,"bytes":900}],'
    b'"rows":2,"values":0,"messages":1,"bytes":900,"bytes_back":310,"packets":4,'
    b'"totals":{"rows":%d,"values":0,"messages":%d,"bytes":%d},'
    b'"protection":{"transport":"tls1.3","authentication":"scram-sha-256","certificate":null},"depth":"decoded","seen_by":"tap",'
    b'"completeness":{"state":"complete","lost_bytes":0,"joined_late":false,"one_sided":false,"estimated":false},'
    b'"agent_sequence":%d,"spool":"%s"}'
)


def main() -> int:
    options = argparse.ArgumentParser(
        prog="make bench-detectors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--events", type=int, default=300_000, help="windows a turn (default %(default)s)")
    options.add_argument("--runs", type=int, default=3, help="turns (default %(default)s)")
    options.add_argument("--rates", type=int, nargs="*", default=[1_000, 10_000], help="windows a second (default %(default)s)")
    options.add_argument("--seconds", type=float, default=20.0, help="how long each rate is held (default %(default)s)")
    options.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="results (default %(default)s)")
    given = options.parse_args()
    if given.events < EVENTS_MIN:
        options.error(f"--events: {given.events:,} are less than the {EVENTS_MIN:,} that a turn needs")
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hopwatch-detectors-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with kafka(folder / "cluster", fast=True, heap_mb=1024) as cluster, database(folder / "postgresql") as server:
            bench = Bench(Connection(bootstrap_servers=cluster.bootstrap, topic_prefix="bench."), server, folder)
            bench.prepare(given.events)
            turns: dict[str, list[dict[str, float]]] = {}
            for run in range(given.runs):
                for count, share in ((1, None), (2, None), (1, SHARE), (2, SHARE)):
                    said = bench.turn(f"{count}_{run}{'' if share is None else 'held'}", count, given.events, share)
                    if said is not None:
                        about = f"{count} detectors{'' if share is None else f', {share} core each'}"
                        turns.setdefault(about, []).append(said)
                        print(f"turn {run}, {about}: {said}", file=sys.stderr, flush=True)
            kept = [bench.store(f"store{run}", given.events) for run in range(given.runs)]
            latencies = {rate: bench.latency(f"rate{rate}", rate, given.seconds) for rate in given.rates}
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "events": given.events,
        "detectors": turns,
        "store": kept,
        "latency": latencies,
    }
    (given.folder / "detectors.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for about, each in turns.items():
        middle = {key: statistics.median(turn[key] for turn in each) for key in each[0]}
        print(f"{about}  " + "  ".join(f"{key} {value:,.1f}" for key, value in middle.items()))
    for more in ("", f", {SHARE} core each"):
        if f"2 detectors{more}" in turns:
            one, two = (statistics.median(turn["events_per_s"] for turn in turns[f"{count} detectors{more}"]) for count in (1, 2))
            print(f"two to one{more}: {two / one:.2f}")
    print("store        " + "  ".join(f"{key} {statistics.median(turn[key] for turn in kept):,.1f}" for key in kept[0]))
    for rate, latency in latencies.items():
        print(f"{rate} windows/s  " + "  ".join(f"{key} {value:,.3f}" for key, value in latency.items()))
    return 0


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own clients put a key (murmur2 of org.apache.kafka.common.utils.Utils, its sign left out)."""
    mixed = 0x9747B28C ^ len(key)
    for at in range(0, len(key) & ~3, 4):
        four = int.from_bytes(key[at : at + 4], "little") * _MIX & _32_BITS
        mixed = mixed * _MIX & _32_BITS ^ (four ^ four >> 24) * _MIX & _32_BITS
    if rest := key[len(key) & ~3 :]:
        mixed = (mixed ^ int.from_bytes(rest, "little")) * _MIX & _32_BITS
    mixed = (mixed ^ mixed >> 13) * _MIX & _32_BITS
    return ((mixed ^ mixed >> 15) & 0x7FFFFFFF) % partitions


_MIX, _32_BITS = 0x5BD1E995, 0xFFFFFFFF


def even_names() -> list[str]:
    """Names of plants of which every partition has as many as any other.

    As they come, 24 names lie 6 to 18 on the halves of twelve partitions, and two detectors would be measured by how the larger one
    does alone.
    """
    partitions = TOPICS["flow"].partitions
    room = dict.fromkeys(range(partitions), PLANTS // partitions)
    names: list[str] = []
    numbers = itertools.count()
    while any(room.values()):
        name = f"plant{next(numbers):02d}"
        where = partition_of(name.encode(), partitions)
        if room[where]:
            room[where] -= 1
            names.append(name)
    return names


def plant_name(n: int) -> str:
    return NAMES[n]


NAMES = even_names()


class Window:
    """The n-th window of all plants, made but for its times."""

    __slots__ = ("_ends", "_middle", "_starts", "event_id", "plant")

    def __init__(self, n: int, *, undeclared_in: int = 100, salt: str = "") -> None:
        plant, turn = n % PLANTS, n // PLANTS
        connection, sequence = turn % CONNECTIONS, turn // CONNECTIONS
        stranger = undeclared_in and turn % undeclared_in == undeclared_in - 1
        name = plant_name(plant)
        flow = f"{salt}{name}/{connection}/{turn if stranger else ''}"
        flow_id = blake2b(flow.encode(), digest_size=16).hexdigest().encode()
        address = f"10.{50 + len(salt) if salt else 40}.{turn // 250 % 250}.{turn % 250}" if stranger else "10.30.0.20"
        more = (sequence + 1) * 2
        self.plant, self.event_id = name, f"{blake2b(salt.encode(), digest_size=4).hexdigest()}{n:024x}"
        made = _FLOW % (
            self.event_id.encode(), name.encode(), flow_id, flow_id, 0 if stranger else sequence, b"@", b"@", address.encode(),
            50_000 + connection, b"svc_report" if stranger else b"svc_mw", more, sequence + 1, more * 450, turn,
            blake2b(f"{salt}{name}".encode(), digest_size=8).hexdigest().encode(),
        )  # fmt: skip
        self._starts, self._middle, self._ends = made.split(b"@")

    def line(self, end_ns: int) -> bytes:
        """The window, as it ends then."""
        start, end = time_text(end_ns - 900_000_000).encode(), time_text(end_ns).encode()
        return b"".join((self._starts, start, self._middle, end, self._ends))


def window(n: int) -> tuple[str, str, bytes]:
    """The n-th window as it lies in the topic: its plant, its id, its line."""
    made = Window(n)
    return made.plant, made.event_id, made.line(time_ns("2026-04-07T00:00:00Z") + n * 10**9 // PER_S)


class Bench:
    """One broker, one database, and detectors as processes of their own."""

    def __init__(self, there: Connection, server: Database, folder: Path) -> None:
        self._there, self._server, self._folder = there, server, folder
        self._sent = 0
        self._key = folder / "key"
        self._key.write_text(secrets.token_hex(32) + "\n")
        self._key.chmod(0o600)

    def prepare(self, events: int) -> None:
        """Topics, a declaration for each plant, and the windows."""
        administrator = Cluster(self._there)
        administrator.create(administrator.wanted())
        publisher: Publisher[int] = Publisher(self._there, speaker="bench")
        text = DECLARATION.read_text("utf-8")
        # At any hour, and as much as a bench moves: what is declared is to stay so.
        for old, new in (
            ("    when: daily 01:30-03:00\n", ""),
            ("limit: [200k rows / 1h, 400k rows / 1d, 300 MiB / 1d]", "limit: [4M rows / 1h, 4M rows / 1d]"),
        ):
            assert old in text, old
            text = text.replace(old, new, 1)
        for n in range(PLANTS):
            path = self._folder / f"{plant_name(n)}.yaml"
            path.write_text(text.replace("plant: north", f"plant: {plant_name(n)}"))
            said, _ = edition_of(path, time_text(time.time_ns()))
            publisher.send("declared", said.plant, said.event_id, dump(said), n)
        for n in range(events):
            plant, event_id, line = window(n)
            while not publisher.send("flow", plant, event_id, line, n):
                publisher.poll(0.05)
            if n % 500 == 0:
                publisher.poll(0)
        assert publisher.flush(WAIT_S)
        publisher.close()
        self._sent += events

    def turn(self, name: str, detectors: int, events: int, share: float | None = None) -> dict[str, float] | None:
        """So many detectors read everything that lies in the topic; None if they cannot be held to their share."""
        return self._measured(f"bench{name}", detectors, events, share, "detect", judged)

    def store(self, name: str, events: int) -> dict[str, float]:
        """One `hopwatch store` writes everything that lies in the topic to a database of its own."""
        said = self._measured(name, 1, events, None, "store", stored)
        assert said is not None
        return said

    def _measured(
        self, name: str, count: int, events: int, share: float | None, what: str, ask: Callable[[psycopg.Connection], int]
    ) -> dict[str, float] | None:
        postgres = self._server.uri(name)
        with (
            self._running(name.replace("_", "-"), postgres, count, what) as processes,
            shares([process.pid for process in processes] if share else [], share or 1.0) as held,
            psycopg.connect(postgres, autocommit=True) as db,
        ):
            if not held:
                return None

            def far() -> int:
                if any(process.poll() is not None for process in processes):
                    raise SystemExit(f"hopwatch {what} ended: {(self._folder / 'detect.log').read_text(errors='replace')[-2_000:]}")
                return ask(db)

            first = after(far, events // 5)
            began_s, used = time.monotonic(), cpu_s(processes)
            last = after(far, events * 4 // 5)
            wall_s, spent_s = time.monotonic() - began_s, cpu_s(processes) - used
        return {
            "events_per_s": (last - first) / wall_s,
            "cpu_us_per_event": spent_s / (last - first) * 1e6,
            "events_per_cpu_s": (last - first) / spent_s,
            "load": os.getloadavg()[0],
        }

    def latency(self, salt: str, rate: int, seconds: float) -> dict[str, float]:
        """Windows at a steady rate, and how long their findings take."""
        postgres = self._server.uri(salt)
        waited: list[float] = []
        stop = threading.Event()
        with self._running(salt, postgres, 1), closing(Reader(self._there, "finding")) as reader:
            with psycopg.connect(postgres, autocommit=True) as db:
                after(lambda: judged(db), self._sent - 1)

            def listen() -> None:
                while not stop.is_set():
                    for message in reader.poll(0.02):
                        arrived_ns = time.time_ns()
                        said = json.loads(message.value)
                        if said["source"] == "mes-db" and said["first_seen"] >= began:
                            waited.append((arrived_ns - time_ns(said["last_seen"])) / 1e9)

            while not reader.caught_up:
                reader.poll(0.2)
            made = [Window(n, undeclared_in=20, salt=salt) for n in range(int(rate * seconds))]
            began = time_text(time.time_ns())
            listener = threading.Thread(target=listen)
            listener.start()
            took_s = self._publish(made, rate)
            time.sleep(5.0)
            stop.set()
            listener.join()
        waited.sort()
        return {
            "sent_per_s": len(made) / took_s,
            "findings": len(waited),
            "p50_s": waited[len(waited) // 2] if waited else float("nan"),
            "p99_s": waited[int(len(waited) * 0.99)] if waited else float("nan"),
            "load": os.getloadavg()[0],
        }

    def _publish(self, made: Sequence[Window], rate: int) -> float:
        """How long it took, in seconds."""
        publisher: Publisher[int] = Publisher(self._there, speaker="bench")
        began_s, n = time.monotonic(), 0
        while n < len(made):
            end_ns, due = time.time_ns(), min(int((time.monotonic() - began_s) * rate), len(made))
            while n < due and publisher.send("flow", made[n].plant, made[n].event_id, made[n].line(end_ns), n):
                n += 1
            publisher.poll(0.005)
        took_s = time.monotonic() - began_s
        publisher.close()
        self._sent += n
        return took_s

    @contextmanager
    def _running(self, group: str, postgres: str, count: int, what: str = "detect") -> Iterator[list[subprocess.Popen[bytes]]]:
        command = [sys.executable, "-m", "hopwatch.cli", what, "--brokers", self._there.bootstrap_servers, "--key", str(self._key)]
        command += ["--group", group, "--allow-unsigned"]
        # The verdicts alone, as before there were questions; what those cost says benchmarks/questions.py.
        command += ["--no-questions"] if what == "detect" else []
        more = {"HOPWATCH_POSTGRES": postgres, "HOPWATCH_KAFKA_TOPIC_PREFIX": self._there.topic_prefix, "PYTHONPATH": import_paths()}
        with (self._folder / "detect.log").open("ab") as log:
            processes = [subprocess.Popen(command, env=os.environ | more, stderr=log, stdout=log) for _ in range(count)]
        try:
            yield processes
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(60)


def judged(db: psycopg.Connection) -> int:
    """How many messages the detectors' durable offsets have passed."""
    if db.execute("SELECT to_regclass('detector_partitions')").fetchone() == (None,):
        return 0
    rows: list[tuple[dict[str, Any]]] = db.execute("SELECT position FROM detector_partitions").fetchall()
    return sum(sum(position.get("offsets", {}).values()) for (position,) in rows)


def stored(db: psycopg.Connection) -> int:
    """How many messages the store's offsets have passed: counting rows would cost what is measured."""
    if db.execute("SELECT to_regclass('store_offsets')").fetchone() == (None,):
        return 0
    found = db.execute("SELECT coalesce(sum(next), 0) FROM store_offsets").fetchone()
    return int(found[0]) if found else 0


def after(ask: Callable[[], int], least: int) -> int:
    """Ask until the answer is more than that; it then is what it has just become."""
    deadline = time.monotonic() + WAIT_S
    while (answer := ask()) <= least:
        if time.monotonic() > deadline:
            raise SystemExit(f"after {WAIT_S:.0f} s: {answer}")
        time.sleep(LOOK_S)
    return answer


def cpu_s(processes: list[subprocess.Popen[bytes]]) -> float:
    """User and system time that the processes have used (proc(5), fields 14 and 15)."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())

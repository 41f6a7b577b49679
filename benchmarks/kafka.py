"""What events cost on their way through Kafka, on one real broker of its own. Run: ``make bench-kafka``.

Windows of a recorded plant day, each with an id of its own, are sent by the publisher alone and by the agent (its spool on this
disk, its pump, its acknowledgements); each part is a process of its own, the parts take turns, and the median is told.
Afterwards the topic is read: one event missing or twice, and the bench has failed. The broker shares the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from examples.broker import kafka
from hopwatch.bus.admin import Cluster
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Publisher, Reader

ROOT = Path(__file__).parents[1]
CAPTURE = ROOT / "examples" / "plant-day.pcap.gz"
BATCH = 256
"""Events the sensor hands over at once, about."""


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench-kafka", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=100_000, help="events a turn (default %(default)s)")
    options.add_argument("--runs", type=int, default=5, help="turns (default %(default)s)")
    options.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="results (default %(default)s)")
    for hidden in ("--part", "--bootstrap", "--prefix"):
        options.add_argument(hidden, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](Connection(bootstrap_servers=given.bootstrap, topic_prefix=given.prefix), given.events)))
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, float]]] = {part: [] for part in PARTS}
    failures: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="hopwatch-kafka-") as folder,
        kafka(Path(folder) / "cluster", fast=True, heap_mb=1024) as cluster,
    ):
        for run in range(given.runs):
            for part in PARTS:
                there = Connection(bootstrap_servers=cluster.bootstrap, topic_prefix=f"{part}{run}.")
                administrator = Cluster(there)
                administrator.create(administrator.wanted())
                results[part].append(apart(part, there, given.events))
                failures += [f"{part}, turn {run}: {wrong}" for wrong in checked(there, given.events)]
    said = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "events": given.events, "parts": results}
    (given.folder / "kafka.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    for part, turns in results.items():
        middle = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        print(f"{part:10} " + "  ".join(f"{name} {value:,.1f}" for name, value in middle.items()))
    for failure in failures:
        print(f"FAILED  {failure}")
    print("every event is in its topic once" if not failures else "the bench has failed")
    return 1 if failures else 0


def apart(part: str, there: Connection, events: int) -> dict[str, float]:
    """One part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.kafka", "--part", part, "--events", str(events)]
    command += ["--bootstrap", there.bootstrap_servers, "--prefix", there.topic_prefix]
    done = subprocess.run(command, check=False, capture_output=True, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{part}: {done.stderr.decode()[-2_000:]}")
    said: dict[str, float] = json.loads(done.stdout)
    return said


def checked(there: Connection, events: int) -> list[str]:
    """What is wrong with the topic."""
    ids: list[bytes] = []
    with closing(Reader(there, "flow")) as reader:
        while not reader.caught_up:
            ids += [message.headers()["ce_id"] for message in reader.poll(1.0)]
    wrong = []
    if len(set(ids)) != events:
        wrong.append(f"{len(set(ids))} events, expected {events}")
    if len(ids) != len(set(ids)):
        wrong.append(f"{len(ids) - len(set(ids))} events twice")
    return wrong


# The parts


def windows(count: int) -> Iterator[tuple[str, bytes, str]]:
    """So many windows as the sensor writes them, each with an id of its own: id and line."""
    from hopwatch_wire import Sensor

    sensor = Sensor("bench", "agent")
    sensor.open_file(str(CAPTURE))
    lines: list[bytes] = []
    done = False
    while not done:
        events, done = sensor.read(10_000)
        lines += events
    lines += sensor.finish()
    halves = []
    for line in lines:
        event = json.loads(line)
        if event["kind"] == "flow":
            before, behind = line.split(event["event_id"].encode(), 1)
            halves.append((before, behind))
    for number in range(count):
        before, behind = halves[number % len(halves)]
        event_id = f"{number:032x}"
        yield event_id, b"%s%s%s" % (before, event_id.encode(), behind)


def used_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measured(run: Callable[[], None], events: int, size: int) -> dict[str, float]:
    cpu, wall = used_s(), time.monotonic()
    run()
    cpu, wall = used_s() - cpu, time.monotonic() - wall
    return {
        "events_per_s": events / wall,
        "cpu_us_per_event": cpu / events * 1e6,
        "bytes_per_event": size / events,
        "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def publish(there: Connection, count: int) -> dict[str, float]:
    """The publisher alone."""
    events = list(windows(count))
    publisher: Publisher[int] = Publisher(there, speaker="agents/bench")

    def run() -> None:
        told = 0
        for number, (event_id, line) in enumerate(events):
            while not publisher.send("flow", "bench", event_id, line, number):
                told += len(publisher.poll(0.05).acknowledged)
            if number % BATCH == 0:
                told += len(publisher.poll(0).acknowledged)
        publisher.flush(60.0)
        told += len(publisher.poll(0).acknowledged)
        assert told == count, publisher.counters()

    said = measured(run, count, sum(len(line) for _, line, _ in events))
    publisher.close()
    return said


def agent(there: Connection, count: int) -> dict[str, float]:
    """The agent behind its sensor: spooled, taken from the spool, sent, acknowledged to the spool."""
    from agent.pump import Pump
    from agent.run import Agent
    from agent.spool import Spool

    events = [line for _, line, _ in windows(count)]
    with tempfile.TemporaryDirectory(prefix="hopwatch-spool-") as folder:
        spool = Spool(Path(folder) / "spool")
        pump = Pump(spool, lambda: Publisher(there, speaker="agents/bench"), time.monotonic)
        batches = (events[first : first + BATCH] for first in range(0, count, BATCH))

        def run() -> None:
            ended = Agent(spool, pump, time.monotonic, time.sleep).run(batches, (), live=False)
            assert not ended.errors and not ended.waiting, ended

        said = measured(run, count, sum(map(len, events)))
        spool.close()
    return said


PARTS = {"publisher": publish, "agent": agent}

if __name__ == "__main__":
    sys.exit(main())

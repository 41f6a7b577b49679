"""What kafka-python and confluent-kafka cost beside one another, on one real broker. Run: ``python -m benchmarks.clients``.

Each turn is a process of its own, so that processor time and memory are the client's alone; the clients take turns and the
median is told. Both are set alike: idempotent, ``acks=all``, zstd, the same linger and batch. Both are installed beside the
product, so that neither depends on what the product chose. The decision drawn from it is docs/decisions/0014.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from examples.broker import Cluster

ROOT = Path(__file__).parents[1]
CLIENTS = {"confluent-kafka": "confluent-kafka==2.16.1", "kafka-python": "kafka-python==3.0.12"}
MORE = ("zstandard==0.25.0",)

EVENT_BYTES = 2_000
LINGER_MS, BATCH_BYTES = 20, 262_144
BUFFER_BYTES_MAX = 32 << 20
"""What confluent-kafka is told to hold at most; kafka-python 3 has no such setting any more."""

PACED_EVENTS_S = 1_000
AWAY_EVENTS = 50_000
DELIVERY_TIMEOUT_MS = 15_000
Results = dict[str, dict[str, list[dict[str, float]]]]
Any_ = Any  # Any: two untyped client libraries, each imported only in the process that measures it.


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    options.add_argument("--events", type=int, default=100_000, help="events a turn (default %(default)s)")
    options.add_argument("--runs", type=int, default=5, help="turns (default %(default)s)")
    options.add_argument("--folder", type=Path, default=ROOT / "build" / "clients", help="environment and results (default %(default)s)")
    for hidden in ("--client", "--turn", "--topic", "--bootstrap"):
        options.add_argument(hidden, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.turn:
        print(json.dumps(TURNS[given.turn](DOORS[given.client](given.bootstrap), given.topic, given.events)))
        return 0
    from examples.broker import kafka  # Not in a turn: the clients' environment has nothing but the clients.

    python = install(given.folder)
    with (
        tempfile.TemporaryDirectory(prefix="hopwatch-clients-") as folder,
        kafka(Path(folder) / "cluster", fast=True, heap_mb=1024) as cluster,
    ):
        results = measured(given, [str(python), "-m", "benchmarks.clients", "--bootstrap", cluster.bootstrap], cluster)
    (given.folder / "result.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    show(results)
    return 0


def measured(given: argparse.Namespace, command: list[str], cluster: Cluster) -> Results:
    """Every turn of every client, in turns."""
    results: Results = {client: {} for client in CLIENTS}
    for run in range(given.runs):
        for client in CLIENTS:
            chosen = [*command, "--client", client, "--topic", f"bench-{client}-{run}", "--events", str(given.events)]
            turn(chosen, "create")
            for what in ("produce", "consume", "latency"):
                results[client].setdefault(what, []).append(turn(chosen, what))
    for client in CLIENTS:
        chosen = [*command, "--client", client, "--topic", f"bench-{client}-away", "--events", str(AWAY_EVENTS)]
        turn(chosen, "create")
        results[client]["away"] = [away(chosen, cluster)]
    return results


def install(folder: Path) -> Path:
    """Both clients in an environment of their own; returns its interpreter."""
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(CLIENTS.values())} beside the product, in {folder / 'venv'}")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *CLIENTS.values(), *MORE], check=True)
    return python


def turn(command: list[str], what: str) -> dict[str, float]:
    """One turn in a process of its own."""
    done = subprocess.run([*command, "--turn", what], check=False, capture_output=True, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} {what}: {done.stderr.decode()[-2000:]}")
    said: dict[str, float] = json.loads(done.stdout.decode().splitlines()[-1])
    return said


def away(command: list[str], cluster: Cluster) -> dict[str, float]:
    """The broker stops answering in the middle, without a word: what the client keeps, refuses and reports."""
    process = subprocess.Popen(
        [*command, "--turn", "away"], stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    cluster.pause()
    try:
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
    finally:
        cluster.resume()
    said: dict[str, float] = json.loads(process.stdout.readline())
    process.wait()
    return said


def show(results: Results) -> None:
    for what in ("produce", "consume", "latency", "away"):
        for client, turns in results.items():
            if what not in turns:
                continue
            middle = {key: statistics.median(one[key] for one in turns[what]) for key in turns[what][0]}
            print(f"{what:8} {client:16} " + "  ".join(f"{key} {value:,.2f}" for key, value in middle.items()))


# The two clients behind one shape


@dataclass(slots=True)
class Door:
    """What the turns need of a client."""

    create: Callable[[str], None]
    producer: Callable[[], tuple[Callable[[str, bytes, bytes, Callable[[bool], None]], None], Callable[[], None], Callable[[], None]]]
    consume: Callable[[str, int], int]
    refused: tuple[type[BaseException], ...]


def confluent(bootstrap: str) -> Door:
    kafka: Any_ = importlib.import_module("confluent_kafka")
    admin: Any_ = importlib.import_module("confluent_kafka.admin")

    def create(topic: str) -> None:
        one = admin.AdminClient({"bootstrap.servers": bootstrap})
        for future in one.create_topics([admin.NewTopic(topic, 1, 1)]).values():
            future.result()

    def producer() -> Any_:
        one = kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "zstd",
                "linger.ms": LINGER_MS,
                "batch.size": BATCH_BYTES,
                "queue.buffering.max.kbytes": BUFFER_BYTES_MAX >> 10,
                "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
                "log_level": 0,
            }
        )

        def send(topic: str, key: bytes, value: bytes, told: Callable[[bool], None]) -> None:
            one.produce(topic, value, key, on_delivery=lambda error, message: told(error is None))

        return send, lambda: one.poll(0), one.flush

    def consume(topic: str, count: int) -> int:
        one = kafka.Consumer(
            {"bootstrap.servers": bootstrap, "group.id": f"g-{topic}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
        )
        one.subscribe([topic])
        seen = octets = 0
        while seen < count:
            for message in one.consume(1_000, 1.0):
                assert message.error() is None
                seen, octets = seen + 1, octets + len(message.value())
        one.close()
        return octets

    return Door(create, producer, consume, (BufferError,))


def kafka_python(bootstrap: str) -> Door:
    kafka: Any_ = importlib.import_module("kafka")

    def create(topic: str) -> None:
        # Its own admin client is no part of what is measured; the other's door makes the topic for both.
        confluent(bootstrap).create(topic)

    def producer() -> Any_:
        one = kafka.KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            linger_ms=LINGER_MS,
            batch_size=BATCH_BYTES,
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            request_timeout_ms=DELIVERY_TIMEOUT_MS - 1_000,
            max_block_ms=5_000,
        )

        def send(topic: str, key: bytes, value: bytes, told: Callable[[bool], None]) -> None:
            future = one.send(topic, value=value, key=key)
            future.add_callback(lambda _: told(True))
            future.add_errback(lambda _: told(False))

        return send, lambda: None, one.flush

    def consume(topic: str, count: int) -> int:
        one = kafka.KafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=f"g-{topic}", auto_offset_reset="earliest", enable_auto_commit=False
        )
        seen = octets = 0
        while seen < count:
            for messages in one.poll(timeout_ms=1_000, max_records=1_000).values():
                seen, octets = seen + len(messages), octets + sum(len(message.value) for message in messages)
        one.close()
        return octets

    return Door(create, producer, consume, (importlib.import_module("kafka.errors").KafkaError,))


DOORS = {"confluent-kafka": confluent, "kafka-python": kafka_python}


# What is measured


def event(number: int) -> bytes:
    """A JSON object of about the size of a flow window with many objects; its text varies as names and counts do."""
    objects = [
        {"names": [f"mes.table_{(number * 7 + i) % 331}"], "rows": (number * 31 + i) % 9_973, "bytes": number * 17 + i} for i in range(28)
    ]
    head = {
        "kind": "flow",
        "event_id": f"{number * 2654435761 % 2**128:032x}",
        "plant": "north",
        "agent": "bench",
        "sequence": number,
        "objects": objects,
    }
    return json.dumps(head, separators=(",", ":")).encode()[:EVENT_BYTES].ljust(EVENT_BYTES)


def used_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def create(door: Door, topic: str, count: int) -> dict[str, float]:
    door.create(topic)
    return {}


def produce(door: Door, topic: str, count: int) -> dict[str, float]:
    """As fast as it goes; at most 10,000 in flight, so that both clients have the same to hold."""
    events = [event(number) for number in range(1_000)]
    send, poll, flush = door.producer()
    told = [0, 0]

    def say(good: bool) -> None:
        told[good] += 1

    send(topic, b"north", events[0], say)
    flush()
    gc.collect()
    cpu, wall = used_s(), time.monotonic()
    for number in range(count - 1):
        while number + 1 - sum(told) >= 10_000:
            poll()
            time.sleep(0.001)
        send(topic, b"north", events[number % 1_000], say)
        if number % 64 == 0:
            poll()
    flush()
    cpu, wall = used_s() - cpu, time.monotonic() - wall
    poll()
    assert told == [0, count], told
    return {"cpu_us_per_event": cpu / count * 1e6, "events_per_s": count / wall, "resident_mb": resident_mb()}


def consume(door: Door, topic: str, count: int) -> dict[str, float]:
    cpu, wall = used_s(), time.monotonic()
    octets = door.consume(topic, count)
    cpu, wall = used_s() - cpu, time.monotonic() - wall
    assert octets == count * EVENT_BYTES, octets
    return {"cpu_us_per_event": cpu / count * 1e6, "events_per_s": count / wall, "resident_mb": resident_mb()}


def latency(door: Door, topic: str, count: int) -> dict[str, float]:
    """From send to acknowledgement at an even pace; the linger is part of it."""
    seconds = 5
    events = [event(number) for number in range(1_000)]
    send, poll, flush = door.producer()
    took: list[float] = []
    send(topic, b"north", events[0], lambda good: None)
    flush()
    start = time.monotonic()
    cpu = used_s()
    for number in range(seconds * PACED_EVENTS_S):
        due = start + number / PACED_EVENTS_S
        while (left := due - time.monotonic()) > 0:
            poll()
            time.sleep(min(left, 0.001))
        sent = time.monotonic()
        send(topic, b"north", events[number % 1_000], lambda good, sent=sent: took.append(time.monotonic() - sent))  # type: ignore[misc]  # mypy infers no default in a lambda.
    flush()
    cpu = used_s() - cpu
    cuts = statistics.quantiles(took, n=100)
    return {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3, "cpu_us_per_event": cpu / len(took) * 1e6}


def silent(door: Door, topic: str, count: int) -> dict[str, float]:
    """Sends ``count`` events to a broker that has stopped answering and waits until each is refused or reported."""
    send, poll, flush = door.producer()
    told = [0, 0]

    def say(good: bool) -> None:
        told[good] += 1

    send(topic, b"north", event(0), say)
    flush()
    poll()
    before = resident_mb()
    print("ready", flush=True)
    sys.stdin.readline()
    accepted = refused = 0
    slowest = 0.0
    cpu = used_s()
    for number in range(count):
        sent = time.monotonic()
        try:
            send(topic, b"north", event(number), say)
            accepted += 1
        except door.refused:
            refused += 1
        slowest = max(slowest, time.monotonic() - sent)
        if number % 64 == 0:
            poll()
    held = resident_mb()
    while sum(told) < accepted + 1 and time.monotonic() - sent < 2 * DELIVERY_TIMEOUT_MS / 1e3:
        poll()
        time.sleep(0.01)
    reported_s = time.monotonic() - sent
    print("continue", flush=True)
    return {
        "accepted": accepted,
        "refused": refused,
        "grew_mb": held - before,
        "failures": told[False],
        "untold": accepted + 1 - sum(told),
        "reported_after_s": reported_s,
        "slowest_send_ms": slowest * 1e3,
        "cpu_s": used_s() - cpu,
    }


TURNS = {"create": create, "produce": produce, "consume": consume, "latency": latency, "away": silent}

if __name__ == "__main__":
    sys.exit(main())

"""From event to finding by the clock, in `watch` alone and with alerts beside it.

Run: ``python -m benchmarks.delay`` (``--seconds 12 --turns 5``). A stream of windows is given to `hopwatch watch` as its sensor would give
it, at a steady rate, one window in ten undeclared and of an end of its own; a window ends at the moment it is given. Every alert has two
destinations that take none: one that never answers, one that nobody listens at. Then the same after a burst: as many undeclared windows
as ``--burst`` says at once, and the steady stream behind them while the alerts of the burst are still being made. The ways take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from detectors.judgement import Judgement
from hopwatch.events import Event, Finding, Summary, dump, time_ns, time_text
from hopwatch.watch import findings_of
from tests.detectors.north import end, extract, publish

ROOT: Final = Path(__file__).parents[1]
DECLARATION: Final = ROOT / "examples" / "plant-north.yaml"
WAYS: Final = ("alone", "beside")
"""Alerts: none, or as `[alerts]` of the settings makes them."""
BATCH_MAX: Final = 4_096
STEP_S: Final = 0.005
STRANGER_IN: Final = 10
LEAD_S: Final = 3.0
"""The begin of a steady stream that is not counted: programs start beside it."""


class Stream:
    """In the place of a sensor: a burst as fast as it is taken, then windows at a steady rate."""

    def __init__(self, rate: int, seconds: float, burst: int) -> None:
        self._rate, self._seconds = rate, seconds
        self._number = 0
        began_ns = time.time_ns() - burst
        self._burst = [self._line(began_ns + number, stranger=True) for number in range(burst)]
        self._begin_s = 0.0
        self.handed_ns, self.counted_ns = 0, 0
        self._given = 0

    def _line(self, at_ns: int, *, stranger: bool) -> bytes:
        self._number += 1
        n = self._number
        at = time_text(at_ns - 900_000_000)
        if stranger:
            ends = end((f"10.{41 + n // 62_500 % 100}.{n // 250 % 250}.{n % 250}", 51_512))
            made = extract(n=0, key=f"s{n}", at=at, account=f"svc_{n % 50}", destination=ends)
        else:
            made = publish(n=n // 200, key=str(n % 200), at=at)
        return dump(made).replace(made.end.encode(), time_text(at_ns).encode())

    def open_file(self, path: str) -> None:
        """Nothing is read from a file."""

    def read(self, packets_max: int = 0, timeout_ms: int = 0) -> tuple[list[bytes], bool]:
        """What is due, and whether the time is over."""
        self.handed_ns = self.handed_ns or time.time_ns()
        if self._burst:
            lines, self._burst = self._burst[:BATCH_MAX], self._burst[BATCH_MAX:]
            return lines, False
        now_s = time.monotonic()
        if not self._begin_s:
            self._begin_s, self.counted_ns = now_s, time.time_ns() + int(LEAD_S * 1e9)
        due = int((now_s - self._begin_s) * self._rate)
        if due <= self._given:
            time.sleep(STEP_S)
            return [], False
        count, self._given = due - self._given, due
        now_ns = time.time_ns()
        # Those that should have come earlier did: what holds the reader up is delay, too.
        late = [now_ns - int((count - 1 - place) / self._rate * 1e9) for place in range(count)]
        lines = [self._line(at_ns, stranger=(due - count + place) % STRANGER_IN == 0) for place, at_ns in enumerate(late)]
        return lines, now_s - self._begin_s >= self._seconds

    def finish(self, events_max: int = 0) -> list[bytes]:
        """No window is open."""
        return []

    def counters(self) -> dict[str, int]:
        """Nothing was counted."""
        return {}

    def stop(self) -> None:
        """It ends by itself."""


class Timed:
    """In the place of a view: how long after its window's end each new finding is said."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.delays_s: list[float] = []
        self.burst_s: list[float] = []

    def said(self, line: bytes, event: Event) -> None:
        """Not looked at."""

    def judged(self, judgement: Judgement) -> None:
        """Its findings."""
        for finding in findings_of(judgement):
            self.found(finding)

    def found(self, finding: Finding) -> None:
        """A finding's first word."""
        ended_ns = time_ns(finding.last_seen)
        if finding.windows != 1:
            return
        if ended_ns < self._stream.handed_ns:
            # A burst was made before it is handed over.
            self.burst_s.append((time.time_ns() - self._stream.handed_ns) / 1e9)
        elif ended_ns >= self._stream.counted_ns:
            self.delays_s.append((time.time_ns() - ended_ns) / 1e9)

    def progress(self, counters: Any) -> None:  # Any: not looked at.
        """Not looked at."""

    def close(self, summary: Summary) -> None:
        """Not looked at."""


def work(given: argparse.Namespace) -> None:
    """One run of `watch` in this process; what it measured goes to standard output."""
    from hopwatch import watching

    stream = Stream(given.rate, given.seconds, given.burst)
    view = Timed(stream)
    watching._view = lambda as_json, title: view
    parser = argparse.ArgumentParser()
    watching.add_watch(parser)
    said = ["-d", str(DECLARATION), "-r", "stream", "--store", str(given.store), "--at", "2026-04-07", "--json"]
    if given.work == "beside":
        said += ["--config", str(given.store.with_name("hopwatch.toml"))]
    began_s, cpu_s = time.monotonic(), time.process_time()
    watching.watch(parser.parse_args(said), lambda *_, **__: stream)  # type: ignore[arg-type]  # what of a sensor is used here
    print(json.dumps({
        "burst": view.burst_s, "delays": view.delays_s, "cpu_s": time.process_time() - cpu_s,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "seconds": time.monotonic() - began_s,
    }))  # fmt: skip


def turn(way: str, given: argparse.Namespace, burst: int, addresses: tuple[str, str]) -> dict[str, Any]:  # Any: JSON values.
    """One run of a way."""
    with tempfile.TemporaryDirectory(prefix="hopwatch-delay-") as folder:
        store = Path(folder) / "plant.db"
        tables = "".join(
            f'[alerts.destinations.{name}]\nkind = "webhook"\naddress = "{to}"\n'
            for name, to in zip(("slow", "dead"), addresses, strict=True)
        )
        (Path(folder) / "hopwatch.toml").write_text(tables)
        command = [sys.executable, "-m", "benchmarks.delay", "--work", way, "--store", str(store), "--rate", str(given.rate)]
        command += ["--seconds", str(given.seconds), "--burst", str(burst)]
        worker = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, timeout=900, check=True)
        return dict(json.loads(worker.stdout.splitlines()[-1]))


def silent() -> Iterator[str]:
    """Where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        held: list[socket.socket] = []

        def take() -> None:
            while True:
                held.append(server.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def row(name: str, way: str, turns: list[dict[str, Any]], key: str) -> str:  # Any: JSON values.
    """A line of the table: all turns together, and the 99th of a hundred of each."""
    every = sorted(delay for one in turns for delay in one[key])
    cuts = statistics.quantiles(every, n=100)
    each = " ".join(f"{statistics.quantiles(one[key], n=100)[98] * 1000:.0f}" for one in turns)
    cpu = statistics.median(one["cpu_s"] for one in turns)
    return (
        f"| {name} | {way} | {len(every):,} | {cuts[49] * 1000:,.1f} | {cuts[94] * 1000:,.1f} | {cuts[98] * 1000:,.1f} |"
        f" {every[-1] * 1000:,.0f} | {each} | {cpu:.1f} |"
    )


def main() -> None:
    """Print the tables of docs/measurements/delay.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=500, help="windows a second (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long each run (default %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="runs of each way (default %(default)s)")
    parser.add_argument("--burst", type=int, default=100_000, help="undeclared windows at once (default %(default)s)")
    parser.add_argument("--burst-turns", type=int, default=2, help="runs of each way after a burst (default %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which (default all)")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given)
        return
    slow = silent()
    addresses = next(slow), "http://127.0.0.1:9/"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.rate} windows a second")
    print("| stream | alerts | findings | p50 ms | p95 ms | p99 ms | most ms | p99 of each turn, ms | CPU of watch, s |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |")
    for name, burst, count in (("steady", 0, given.turns), ("after a burst", given.burst, given.burst_turns)):
        if not count:
            continue
        turns: dict[str, list[dict[str, Any]]] = {way: [] for way in given.ways}
        for number in range(count):
            # Each way is first as often as another.
            for way in [*given.ways[number % len(given.ways) :], *given.ways[: number % len(given.ways)]]:
                turns[way].append(turn(way, given, burst, addresses))
        for way, each in turns.items():
            print(row(name, way, each, "delays"), flush=True)
        for way, each in turns.items() if burst else ():
            print(row("the burst itself", way, each, "burst"), flush=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    slow.close()


if __name__ == "__main__":
    main()

"""What a window costs between the sensor and its verdict, step by step: ``python -m benchmarks.verdict [FILE...]``.

FILE holds events as JSON lines (``hopwatch watch --json``, or what a sensor's ``read`` returns); without one, windows of the example
plant are made, one in ten of them an undeclared reader's. Every step takes its turn with the others, several times over, so that a
busy machine is busy for all of them alike; the least of the turns is shown, in microseconds of processor time a window.
"""

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path

from detectors.verdict import VerdictDetector
from hopwatch.bus.embedded import EmbeddedLog
from hopwatch.bus.memory import MemoryLog
from hopwatch.declared.load import load
from hopwatch.declared.model import Architecture
from hopwatch.engine import Engine
from hopwatch.events import Event, _judged, dump, parse, time_ns, time_text
from tests.detectors.north import architecture, collect, end, extract, mes, publish, upload

TURNS = 5
WINDOWS = 5_000
CONNECTIONS = 200
BATCH = 500
COLLECTION_OBJECTS = 500_000


class Quiet:
    """Nobody listens."""

    def say(self, outcome: object) -> None:
        """Not heard."""


def stream() -> list[bytes]:
    """Mostly declared windows of many connections, a second apart; one in ten is an undeclared reader's."""
    made = [
        extract, upload, publish, collect, mes, extract, publish, collect, mes,
        lambda **said: extract(**said | {"destination": end(("10.40.9.77", 51512)), "account": "svc_report"}),
    ]  # fmt: skip
    first_ns = time_ns("2026-04-07T00:00:00Z")
    return [
        dump(made[n % len(made)](n=n // CONNECTIONS, key=str(n % CONNECTIONS), at=time_text(first_ns + n // CONNECTIONS * 10**9)))
        for n in range(WINDOWS)
    ]


def steps(lines: list[bytes], plant: Architecture, folder: Path) -> dict[str, Callable[[], object]]:
    """Each step over all lines, from what it needs to what it makes."""
    events = [parse(line) for line in lines]
    turn = 0

    def judged(*, keeps: bool, all_events: list[Event]) -> None:
        detector = VerdictDetector(plant, keeps=keeps)
        for event in all_events:
            detector.observe(event)

    def through(log: EmbeddedLog | MemoryLog) -> None:
        for first in range(0, len(lines), BATCH):
            log.append(lines[first : first + BATCH])
            log.read(first, BATCH)
            log.commit("engine", first + BATCH)

    def disk() -> None:
        nonlocal turn
        turn += 1
        log = EmbeddedLog(folder / f"log-{turn}")
        through(log)
        log.close()

    return {
        "read": lambda: [parse(line) for line in lines],
        "read, by the models": lambda: [_judged(line) for line in lines],
        "judge": lambda: judged(keeps=True, all_events=events),
        "judge, each anew": lambda: judged(keeps=False, all_events=events),
        "log in memory": lambda: through(MemoryLog()),
        "log on disk": disk,
        "engine: read and judge": lambda: Engine([VerdictDetector(plant)], Quiet()).take(map(parse, lines)),
    }


def report(name: str, lines: list[bytes], plant: Architecture, folder: Path) -> None:
    """Print the least of several turns of every step."""
    print(f"{name}: {len(lines):,} windows, {sum(map(len, lines)) // len(lines):,} bytes each")
    take_turns(steps(lines, plant, folder), len(lines))


def take_turns(every: dict[str, Callable[[], object]], windows: int) -> None:
    """Run every step over the same windows, in turns, and print the least processor time of each."""
    best = dict.fromkeys(every, float("inf"))
    for _ in range(TURNS):
        for step, run in every.items():
            started = time.process_time()
            run()
            best[step] = min(best[step], time.process_time() - started)
    wide = max(map(len, best))
    for step, seconds in best.items():
        print(f"  {step:{wide}} {seconds / windows * 1e6:7.2f} us {windows / seconds:12,.0f}/s")


def main() -> None:
    """The files given, or the windows made, against the plant they are of."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("-d", "--declaration", type=Path, default=Path(__file__).parent / "plant.yaml")
    given = parser.parse_args()
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS)
    with tempfile.TemporaryDirectory() as folder:
        for path in given.files:
            lines = [line for line in path.read_bytes().splitlines() if line.startswith(b'{"kind":"flow"')]
            report(path.name, lines, load(given.declaration), Path(folder))
        if not given.files:
            report("plant-north", stream(), architecture(), Path(folder))


if __name__ == "__main__":
    main()

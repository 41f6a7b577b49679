"""What every question asked of a window costs beside reading it: 1,000 hops, 10,000 accounts. Run: ``python -m benchmarks.questions``.

The windows are those of a plant at work: every hop's connections say much the same each second. ``at first`` is the second in which every
connection begins and every judgement is made anew, ``the second`` is when they are seen to go on, ``then`` are the seconds after it, which
is what a detector does all day.
"""

import gc
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable

from benchmarks.match import COLLECTION_OBJECTS, Quiet, plant, windows
from benchmarks.verdict import take_turns
from detectors.moved import Look, Moved, Question
from detectors.online import Online, online
from detectors.verdict import VerdictDetector
from hopwatch.engine import Engine
from hopwatch.events import Event, parse
from hopwatch.lines import reader

HOPS = 1_000
ACCOUNTS = 10_000
SECONDS = 5
TURNS = 4


def main() -> None:
    """Print microseconds of processor time a window, whole and question by question."""
    architecture = plant(HOPS, ACCOUNTS)
    first, second, *more = [list(windows(HOPS, ACCOUNTS, each)) for each in range(SECONDS + 2)]
    then = [line for lines in more for line in lines]
    asking = online(architecture)
    moved = [asking.shown(judgement) for line in first + second for judgement in asking.verdict.observe(parse(line))]
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS)
    print(f"{len(first):,} windows a second of {HOPS:,} hops and {ACCOUNTS:,} accounts   (load average {os.getloadavg()[0]:.1f})")
    make: dict[str, Callable[[], VerdictDetector | Online]] = {
        "read and judged": lambda: VerdictDetector(architecture),
        "read, judged and asked": lambda: online(architecture),
    }
    best: dict[str, float] = {}
    for _ in range(TURNS):
        steps: dict[str, tuple[Callable[[], object], int]] = {"read alone": (lambda: [parse(line) for line in then], len(then))}
        engines: dict[str, Callable[[Iterable[Event]], object]] = {"read": deque[Event](maxlen=0).extend}
        engines |= {name: Engine([made()], Quiet()).take for name, made in make.items()}
        for name, take in engines.items():
            read = reader()
            steps[f"{name}, at first"] = (lambda take=take, read=read: take(map(read, first)), len(first))  # type: ignore[misc]
            steps[f"{name}, the second"] = (lambda take=take, read=read: take(map(read, second)), len(second))  # type: ignore[misc]
            steps[f"{name}, then"] = (lambda take=take, read=read: take(map(read, then)), len(then))  # type: ignore[misc]
        for name, (run, count) in steps.items():
            started = time.process_time()
            run()
            best[name] = min(best.get(name, float("inf")), (time.process_time() - started) / count)
    for name, each_s in best.items():
        print(f"  {name:32} {each_s * 1e6:7.2f} us {1 / each_s:12,.0f}/s")
    take_turns({f"asked: {question.name}": asked(question, moved) for question in asking.questions}, len(moved))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def asked(question: Question, windows: list[Moved]) -> Callable[[], None]:
    """The question asked of every window that it concerns, and told of every second."""
    looks: dict[int, Look | None] = {}
    for window in windows:
        if id(window.alike) not in looks:
            looks[id(window.alike)] = question.asked(window)
    asked = [(look, window) for window in windows if (look := looks[id(window.alike)]) is not None]

    def run() -> None:
        now_ns = 0
        for look, window in asked:
            look(window)
            if window.start_ns > now_ns:
                now_ns = window.start_ns
                question.advance(now_ns)

    return run


if __name__ == "__main__":
    main()

"""What every question asked of a window costs beside reading it: 1,000 hops, 10,000 accounts. Run: ``python -m benchmarks.questions``.

The windows are those of a plant at work: every hop's connection says much the same each second, and now and then a connection
is new. All steps run over the same windows in one process, several times in turns; the least processor time of each is shown.
"""

import gc
import resource
import time
from collections.abc import Callable

from benchmarks.match import Quiet, plant, windows
from detectors.online import moved_of, online
from detectors.verdict import VerdictDetector
from hopwatch.engine import Engine
from hopwatch.events import parse

HOPS = 1_000
ACCOUNTS = 10_000
SECONDS = 5
TURNS = 3
COLLECTION_OBJECTS = 500_000


def main() -> None:
    """Print microseconds of processor time a window, step by step, and what each question takes of it."""
    architecture = plant(HOPS, ACCOUNTS)
    lines = [line for second in range(SECONDS) for line in windows(HOPS, ACCOUNTS, second)]
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS)
    asking = online(architecture)
    steps: dict[str, Callable[[], object]] = {
        "read": lambda: [parse(line) for line in lines],
        "read and judged": lambda: Engine([VerdictDetector(architecture)], Quiet()).take(map(parse, lines)),
        "read, judged and asked": lambda: Engine([online(architecture)], Quiet()).take(map(parse, lines)),
    }
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(TURNS):
        for step, run in steps.items():
            started = time.process_time()
            run()
            best[step] = min(best[step], time.process_time() - started)
    print(f"{len(lines):,} windows of {HOPS:,} hops and {ACCOUNTS:,} accounts")
    for step, seconds in best.items():
        _show(step, seconds, len(lines))
    judged = [judgement for line in lines for judgement in asking.verdict.observe(parse(line))]
    every = [moved_of(judgement, asking.verdict.index) for judgement in judged]
    started = time.process_time()
    for judgement in judged:
        moved_of(judgement, asking.verdict.index)
    _show("the window as questions see it", time.process_time() - started, len(lines))
    for question in asking.questions:
        started = time.process_time()
        now_ns = 0
        for moved in every:
            question.observe(moved)
            if moved.start_ns > now_ns:
                now_ns = moved.start_ns
                question.advance(now_ns)
        _show(question.name, time.process_time() - started, len(lines))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def _show(step: str, seconds: float, many: int) -> None:
    print(f"  {step:32} {seconds / many * 1e6:7.2f} us {many / seconds:12,.0f}/s")


if __name__ == "__main__":
    main()

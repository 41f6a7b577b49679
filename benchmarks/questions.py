"""What every question asked of a window costs beside reading it: 1,000 hops, 10,000 accounts. Run: ``python -m benchmarks.questions``.

The windows are those of a plant at work: every hop's connections say much the same each second.
"""

import gc
import resource
from collections.abc import Callable

from benchmarks.match import COLLECTION_OBJECTS, Quiet, plant, windows
from benchmarks.verdict import take_turns
from detectors.moved import Moved, Question
from detectors.online import moved_of, online
from detectors.verdict import VerdictDetector
from hopwatch.engine import Engine
from hopwatch.events import parse

HOPS = 1_000
ACCOUNTS = 10_000
SECONDS = 5


def main() -> None:
    """Print microseconds of processor time a window, step by step, and what each question takes of it."""
    architecture = plant(HOPS, ACCOUNTS)
    lines = [line for second in range(SECONDS) for line in windows(HOPS, ACCOUNTS, second)]
    asking = online(architecture)
    judged = [judgement for line in lines for judgement in asking.verdict.observe(parse(line))]
    moved = [moved_of(judgement, asking.verdict.index) for judgement in judged]
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS)
    steps: dict[str, Callable[[], object]] = {
        "read": lambda: [parse(line) for line in lines],
        "read and judged": lambda: Engine([VerdictDetector(architecture)], Quiet()).take(map(parse, lines)),
        "read, judged and asked": lambda: Engine([online(architecture)], Quiet()).take(map(parse, lines)),
        "the window as questions see it": lambda: [moved_of(judgement, asking.verdict.index) for judgement in judged],
    }
    print(f"{len(lines):,} windows of {HOPS:,} hops and {ACCOUNTS:,} accounts")
    take_turns(steps | {f"asked: {question.name}": asked(question, moved) for question in asking.questions}, len(lines))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def asked(question: Question, windows: list[Moved]) -> Callable[[], None]:
    """The question asked of every window, and told of every second."""

    def run() -> None:
        now_ns = 0
        for window in windows:
            question.observe(window)
            if window.start_ns > now_ns:
                now_ns = window.start_ns
                question.advance(now_ns)

    return run


if __name__ == "__main__":
    main()

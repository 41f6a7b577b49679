"""A burst of findings and the alert book: what it becomes, what it costs, and whether detection notices.

Run: ``python -m benchmarks.alerts`` (``--findings 100000``). Two bursts: many words of few findings, as movements that go on have them,
and as many different findings, as a scan by a few accounts has them. Detection is the writing of findings into the embedded store, in
batches as ``watch`` writes them; it is timed alone and with ``hopwatch alerts run`` at work on the same file, in turns.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from alerts.book import AlertQuery, book
from hopwatch.events import time_ns, time_text
from hopwatch.store.embedded import EmbeddedStore

BEGIN_NS = time_ns("2026-04-07T10:00:00Z")
BATCH = 500
TURNS = 5
VERDICTS = ("over-limit", "undeclared-data", "dump", "bulk-extraction")


@dataclass(frozen=True, slots=True)
class Became:
    """What a burst became."""

    findings: int
    alerts: int
    folded: int
    revisions: int
    notified: int
    cpu_s: float


def words(count: int, accounts: int, different: int) -> Iterator[dict[str, Any]]:
    """``count`` words of ``different`` findings by ``accounts`` accounts, two milliseconds apart."""
    for number in range(count):
        identity, word = number % different, number // different
        at = time_text(BEGIN_NS + number * 2_000_000)
        yield {
            "kind": "finding", "event_id": f"{number:032x}", "finding_id": f"F-{identity:016x}", "verdict": VERDICTS[identity % 4],
            "severity": "high", "plant": "north", "first_seen": time_text(BEGIN_NS + identity * 2_000_000), "last_seen": at,
            "windows": word + 1, "who": f"svc_{identity % accounts}", "client": "10.40.9.77", "source": "mes-db",
            "destination": f"10.{identity >> 16 & 255}.{identity >> 8 & 255}.{identity & 255}",
            "observed": {"rows": 100 * (word + 1), "bytes": 10_000 * (word + 1), "objects": ["mes.genealogy"], "classes": ["process_ip"]},
            "differences": [{"question": "how_much", "declared": "200k rows / 1h", "observed": "1.2M rows"}],
            "evidence": [f"{number:032x}"],
        }  # fmt: skip


def written(store: EmbeddedStore, findings: list[dict[str, Any]]) -> float:
    """Write them as detection does; the seconds of processor it took."""
    began = time.process_time()
    for first in range(0, len(findings), BATCH):
        store.add(findings=findings[first : first + BATCH])
    return time.process_time() - began


def burst(folder: Path, count: int, accounts: int, different: int) -> Became:
    """A burst that is written while the book takes it in, step by step, and ten minutes after it."""
    store = EmbeddedStore(folder / "plant.db", is_clear=lambda account: True)
    the_book = book(str(folder / "plant.db"))
    now_ns, cpu_s = BEGIN_NS, 0.0

    def take_in(now_ns: int) -> None:
        nonlocal cpu_s
        began = time.process_time()
        while the_book.step(now_ns) == 1_000:
            pass
        cpu_s += time.process_time() - began

    batch: list[dict[str, Any]] = []
    for number, finding in enumerate(words(count, accounts, different), 1):
        batch.append(finding)
        if len(batch) == BATCH or number == count:
            store.add(findings=batch)
            batch.clear()
            now_ns = BEGIN_NS + number * 2_000_000
            take_in(now_ns)
    for _ in range(20):
        now_ns += 30 * 10**9
        take_in(now_ns)
    counted = the_book.counted()
    alerts = the_book.alerts(AlertQuery(limit=1_000_000))
    held = {one["finding"]["finding_id"] for one in alerts if "folded" not in one}
    held |= {finding for one in alerts if "folded" in one for finding in the_book.members(one["alert_id"], 1_000_000)}
    assert len(held) == different, f"{different - len(held)} findings are in no alert"
    made = Became(different, len(alerts), counted.get("folded", 0), counted["revisions"], counted["notified"], cpu_s)
    the_book.close()
    store.close()
    return made


def beside(folder: Path, count: int) -> tuple[float, float]:
    """Seconds of processor of writing ``count`` findings alone, and with a runner at work on the same file: medians of turns."""
    findings = list(words(count, 50, count))
    alone: list[float] = []
    together: list[float] = []
    for turn in range(TURNS):
        for watched, times in ((False, alone), (True, together)):
            path = folder / f"{turn}-{watched}.db"
            store = EmbeddedStore(path, is_clear=lambda account: True)
            runner = None
            if watched:
                # What there is to take in before makes it work all the while.
                store.add(findings=[one | {"finding_id": f"F-{number:015x}f"} for number, one in enumerate(findings)])
                command = [sys.executable, "-m", "hopwatch.cli", "alerts", "run", "--store", str(path)]
                runner = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
                assert runner.stderr is not None
                runner.stderr.readline()
            times.append(written(store, findings))
            if runner is not None:
                runner.terminate()
                runner.communicate()
            store.close()
    return median(alone), median(together)


def main() -> None:
    """Print the table of docs/alerts.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--findings", type=int, default=100_000)
    count = parser.parse_args().findings
    print(f"{count:,} findings said")
    for name, accounts, different in (("words of 400 findings of 40 accounts", 40, 400), ("different findings of 50 accounts", 50, count)):
        with tempfile.TemporaryDirectory() as folder:
            made = burst(Path(folder), count, accounts, different)
        print(f"{name}: {made.alerts:,} alerts, {made.folded:,} findings folded, {made.revisions:,} revisions, {made.notified}"
              f" notifications; {made.cpu_s:.1f} s of processor, {made.cpu_s / count * 1e6:.0f} us a finding said")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        alone, together = beside(Path(folder), min(count, 10_000))
    print(
        f"writing {min(count, 10_000):,} findings: {alone:.2f} s of processor alone, {together:.2f} s beside `alerts run` on the same file"
    )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()

"""Detection judged: which incidents in a simulated plant are found, how soon, how much was gone, and how often nothing was the matter.

``hopwatch`` in the table is the product: the verdicts and every question, fed with the events that agents send. ``declared only``
is what the verdicts alone say, ``statistics only`` what the two statistical questions say; the baselines get each pair's bytes of
every ten minutes, pairs that only an incident has included. An alert is a finding of ``medium`` or above when it is first said,
when it becomes worse, or when it comes back after a day of quiet; ``blind`` is counted and calls nobody. It is about an incident
if it names ends of it and falls into it (or into the slot, or for daily sums the day, after its end); every alert is counted,
none is adjusted. Alerts about a benign incident are benign triggers, all others false. An alert's cause is right if it is one of
those that the incident is labelled with.

    make bench-detection SEED=n        # 20 seeds from n on, 42 days; some minutes for each declaration
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any, Final

from benchmarks.detection.baselines import BASELINES, WARM_UP_SLOTS, Scorer
from benchmarks.detection.ends import BEGIN_S, SHAPES, about, declaration, events
from benchmarks.detection.plant import DAYS, LEARNING_DAYS, TIMEZONE, Incident, Run
from benchmarks.detection.report import html, markdown
from benchmarks.detection.scenes import struck
from detectors.anomaly import ALERTS_A_DAY
from detectors.judgement import Judgement
from detectors.online import online
from hopwatch.events import SEVERITIES, Finding, Flow, Heartbeat, Loss

TUNING_SEEDS: Final = range(9_000, 9_004)
"""Seeds that the baselines' thresholds are chosen on, and that no table reports."""

DEVELOPED_ON: Final = range(101, 106)
"""Seeds that the detectors were looked at with while they were written; no table reports them either."""

WITH_BASELINES: Final = "1.5"
"""The declaration that the baselines stand under: they know none, so they say the same of all."""

PROCESSES: Final = 2
SLOT_MINUTES: Final = 10
DAY_MINUTES: Final = 1_440
QUIET_MINUTES: Final = DAY_MINUTES
"""Alerts about the same ends for the same cause closer together than this are one alert, for every row of the table alike."""

STATISTICS: Final = frozenset({"volume", "slow"})
LATE_MINUTES: Final = {"over-limit": 60, "volume": SLOT_MINUTES, "slow": DAY_MINUTES, "loss": DAY_MINUTES, "score": SLOT_MINUTES}
"""How long after an incident's end an alert may still be about it: the interval it sums over; one minute for all others."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Somebody is called: in which minute, about which ends (or, for the baselines, which pair), and why."""

    minute: int
    ends: frozenset[str]
    cause: str
    pair: str = ""
    by: str = ""
    """``verdict`` or ``question``; empty for the baselines."""

    text: str = ""


@dataclass(slots=True)
class Score:
    """One row of the table."""

    plant_days: float = 0.0
    incidents: int = 0
    found: int = 0
    true: int = 0
    benign: int = 0
    false: int = 0
    causes_right: int = 0
    first_causes_right: int = 0
    gone: list[float] = field(default_factory=list)
    """Bytes gone before the first alert, as a share of the incident's; of those that move any."""

    gone_bytes: list[float] = field(default_factory=list)
    gone_rows: list[float] = field(default_factory=list)
    by_kind: dict[str, list[Any]] = field(default_factory=dict)
    """By kind: scenario, found, of how many, and the share gone before each alert."""

    twins: dict[str, list[int]] = field(default_factory=dict)
    """By kind of twin: how many were alerted, of how many."""

    falsely: dict[str, int] = field(default_factory=dict)
    """False alerts by cause."""

    missed: list[str] = field(default_factory=list)

    def add(self, run: Run, alerts: Iterable[Alert]) -> None:
        """Judge one run's alerts."""
        first_day = min(LEARNING_DAYS, run.days // 2)
        self.plant_days += run.days - first_day
        # Days are the plant's, as those of the incidents are.
        first = int((run.wall.day < first_day).sum())
        kept = [one for one in _once(alerts) if one.minute >= first]
        hits: dict[int, list[Alert]] = {}
        ends = [about(incident) for incident in run.incidents]
        for alert in kept:
            matching = [place for place, incident in enumerate(run.incidents) if _is_about(alert, incident, ends[place])]
            hostile = [place for place in matching if not run.incidents[place].benign]
            # What is about an incident is not about a twin that happens to move at the same time.
            for place in hostile or matching:
                hits.setdefault(place, []).append(alert)
            if hostile:
                self.true += 1
                self.causes_right += any(_is_right(alert, run.incidents[place]) for place in hostile)
            elif matching:
                self.benign += 1
            else:
                self.false += 1
                self.falsely[alert.cause] = self.falsely.get(alert.cause, 0) + 1
        for place, incident in enumerate(run.incidents):
            if incident.benign:
                twin = self.twins.setdefault(incident.kind, [0, 0])
                twin[0] += place in hits
                twin[1] += 1
            else:
                self._count(run, incident, hits.get(place, []))

    def _count(self, run: Run, incident: Incident, alerts: list[Alert]) -> None:
        self.incidents += 1
        kind = self.by_kind.setdefault(incident.kind, [incident.scenario, 0, 0, []])
        kind[2] += 1
        if not alerts:
            self.missed.append(
                f"seed {run.seed}, day {incident.first_minute / DAY_MINUTES:.2f}: {incident.kind} ({', '.join(incident.pairs)})"
            )
            return
        first = alerts[0]
        self.found += 1
        kind[1] += 1
        self.first_causes_right += any(_is_right(alert, incident) for alert in alerts if alert.minute == first.minute)
        if incident.bytes:
            gone = incident.gone(first.minute)
            self.gone.append(gone / incident.bytes)
            self.gone_bytes.append(gone)
            self.gone_rows.append(incident.rows_gone(first.minute))
            kind[3].append(round(gone / incident.bytes, 4))

    def merge(self, other: Score) -> None:
        """Add what another process has counted."""
        for name in ("plant_days", "incidents", "found", "true", "benign", "false", "causes_right", "first_causes_right"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("gone", "gone_bytes", "gone_rows", "missed"):
            getattr(self, name).extend(getattr(other, name))
        for kind, (scenario, found, of, gone) in other.by_kind.items():
            own = self.by_kind.setdefault(kind, [scenario, 0, 0, []])
            own[1:] = [own[1] + found, own[2] + of, own[3] + gone]
        for kind, (alerted, of) in other.twins.items():
            twin = self.twins.setdefault(kind, [0, 0])
            twin[:] = [twin[0] + alerted, twin[1] + of]
        for cause, many in other.falsely.items():
            self.falsely[cause] = self.falsely.get(cause, 0) + many


def _once(alerts: Iterable[Alert]) -> Iterator[Alert]:
    last: dict[tuple[frozenset[str], str, str], int] = {}
    for alert in sorted(alerts, key=lambda one: one.minute):
        key = alert.ends, alert.pair, alert.cause
        if alert.minute - last.get(key, -QUIET_MINUTES) >= QUIET_MINUTES:
            last[key] = alert.minute
            yield alert


def _is_about(alert: Alert, incident: Incident, ends: frozenset[str]) -> bool:
    named = alert.pair in incident.pairs if alert.pair else alert.ends <= ends
    late = LATE_MINUTES.get(alert.cause, 1)
    return named and incident.first_minute <= alert.minute <= incident.last_minute + late


def _is_right(alert: Alert, incident: Incident) -> bool:
    """Whether the alert states what was injected; a score states that an amount is unusual."""
    return (alert.cause if alert.cause != "score" else "volume") in incident.causes


# The product


def product(run: Run, shape: str) -> list[Alert]:
    """The whole product over the run's events: whom it calls, and when."""
    architecture = declaration(run, SHAPES[shape])
    detector = online(architecture)
    said = _Said()
    told = -1
    for minute, event in events(run):
        if minute > told:
            for outcome in detector.advance((BEGIN_S + minute * 60) * 10**9):
                said.hear(minute, outcome)
            told = minute
        if isinstance(event, Flow | Heartbeat):
            for outcome in detector.observe(event):
                said.hear(minute, outcome)
        elif isinstance(event, Loss):
            detector.blind(event)
    return said.alerts


class _Said:
    """What of the findings calls somebody: what is new, worse, or back after a day of quiet."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self._known: dict[str, tuple[int, int]] = {}
        """By finding: when it was last said, and how bad it is."""

    def hear(self, minute: int, outcome: Judgement | Finding) -> None:
        if isinstance(outcome, Finding):
            self._find(minute, outcome, "question")
        elif outcome.finding is not None:
            self._find(minute, outcome.finding, "verdict")

    def _find(self, minute: int, finding: Finding, by: str) -> None:
        severity = SEVERITIES.index(finding.severity)
        if finding.verdict == "blind" or severity < SEVERITIES.index("medium"):
            return
        last, worst = self._known.get(finding.finding_id, (-QUIET_MINUTES, -1))
        self._known[finding.finding_id] = minute, max(severity, worst)
        if minute - last >= QUIET_MINUTES or severity > worst:
            text = "; ".join(f"{one.question}: {one.observed}" for one in finding.differences[-2:])
            self.alerts.append(Alert(minute, frozenset({finding.source, finding.destination}), finding.verdict, by=by, text=text))


# The baselines


@lru_cache(maxsize=8_192)
def _hour(slot: int) -> int:
    at = datetime.fromtimestamp(BEGIN_S + slot * SLOT_MINUTES * 60, UTC).astimezone(TIMEZONE)
    return at.hour + (24 if at.weekday() >= 5 else 0)


def scores(run: Run, make: Callable[[], Scorer]) -> Iterator[tuple[float, Alert]]:
    """Every slot's score by one baseline, from the second week on."""
    for name, amounts in run.series().items():
        scorer = make()
        for slot, amount in enumerate(amounts.reshape(-1, SLOT_MINUTES).sum(1).tolist()):
            score = scorer.score(slot, _hour(slot), amount)
            if slot >= WARM_UP_SLOTS and score > 0:
                yield score, Alert((slot + 1) * SLOT_MINUTES, frozenset(), "score", name)


def _scored(task: tuple[str, int, int]) -> tuple[str, list[tuple[float, Alert]]]:
    name, seed, days = task
    return name, sorted(scores(struck(seed, days), BASELINES[name]), key=lambda one: -one[0])


def threshold(runs: list[list[tuple[float, Alert]]], days: int, budget_a_day: float) -> float:
    """The lowest score at which the seeds for tuning give no more alerts a day than may be."""
    most = budget_a_day * (days - min(LEARNING_DAYS, days // 2)) * len(runs)
    levels = sorted({score for scored in runs for score, _ in scored}, reverse=True)
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        alerts = sum(len(list(_once(alert for score, alert in scored if score >= levels[middle]))) for scored in runs)
        low, high = (middle + 1, high) if alerts <= most else (low, middle)
    return levels[low - 1] if low else float("inf")


def thresholds(pool: Any, days: int) -> dict[str, float]:  # Any: a pool of processes
    """Every baseline's."""
    runs: dict[str, list[list[tuple[float, Alert]]]] = {}
    for name, scored in pool.imap_unordered(_scored, [(name, seed, days) for seed in TUNING_SEEDS for name in BASELINES]):
        runs.setdefault(name, []).append(scored)
    return {name: threshold(scored, days, ALERTS_A_DAY) for name, scored in runs.items()}


# The table


def rows(task: tuple[int, str], days: int, levels: dict[str, float]) -> tuple[int, dict[str, Score]]:
    """Every row for one seed and declaration."""
    seed, shape = task
    gc.disable()  # Nothing here makes cycles, and looking for them costs a tenth of the time.
    run = struck(seed, days)
    alerts = product(run, shape)
    own = {
        "hopwatch": alerts,
        "declared only": [one for one in alerts if one.by == "verdict"],
        "statistics only": [one for one in alerts if one.cause in STATISTICS],
    }
    own |= {name: [alert for score, alert in scores(run, BASELINES[name]) if score >= level] for name, level in levels.items()}
    made: dict[str, Score] = {}
    for name, said in own.items():
        made[name] = Score()
        made[name].add(run, said)
    return seed, made


Saves = Callable[[str, list[int], dict[str, Score]], None]
"""What is done with a declaration's rows after every seed."""


def judge(seeds: list[int], days: int, shapes: list[str], saves: Saves) -> None:
    """Every row of every declaration; ``saves`` gets the rows so far, so that a run that is stopped has said something."""
    with Pool(PROCESSES, maxtasksperchild=1) as pool:
        levels: dict[str, float] = {}
        if WITH_BASELINES in shapes:
            print("choosing the baselines' thresholds", file=sys.stderr, flush=True)
            levels = thresholds(pool, days)
        for shape in shapes:
            whole: dict[str, Score] = {}
            done: list[int] = []
            work = partial(rows, days=days, levels=levels if shape == WITH_BASELINES else {})
            for seed, made in pool.imap_unordered(work, [(seed, shape) for seed in seeds]):
                done.append(seed)
                for name, score in made.items():
                    whole.setdefault(name, Score()).merge(score)
                print(f"{shape}: {len(done)} of {len(seeds)} seeds", file=sys.stderr, flush=True)
                saves(shape, sorted(done), whole)


def main(argv: list[str] | None = None) -> int:
    """Run it; the report goes to standard output, or to files: Markdown, HTML with plots, and the figures as JSON."""
    parser = argparse.ArgumentParser(prog="level2", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--seeds", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--days", type=int, default=DAYS, help=f"days of each run (default {DAYS})")
    parser.add_argument("--shapes", nargs="+", choices=tuple(SHAPES), default=["1.5", *(one for one in SHAPES if one != "1.5")],
                        help="declarations: limits as multiples of the true peak, a hop missing, a dead hop (default all)")  # fmt: skip
    parser.add_argument(
        "--save",
        type=Path,
        metavar="STEM",
        help="write STEM.md, STEM.html and STEM.json after every seed; other declarations of STEM.json stay",
    )
    chosen = parser.parse_args(argv)
    seeds = list(range(chosen.seed, chosen.seed + chosen.seeds))
    if set(seeds) & set(TUNING_SEEDS):
        parser.error(f"seeds {TUNING_SEEDS.start} to {TUNING_SEEDS.stop - 1} are for choosing thresholds")
    figures: dict[str, Any] = {"days": chosen.days, "results": {}, "seeds": {}}  # Any: JSON values
    kept = chosen.save.with_suffix(".json") if chosen.save else None
    if kept is not None and kept.exists():
        figures = json.loads(kept.read_text(encoding="utf-8"))

    def saves(shape: str, done: list[int], whole: dict[str, Score]) -> None:
        figures["results"][shape] = {name: asdict(score) for name, score in whole.items()}
        figures["seeds"][shape] = done
        if kept is not None:
            kept.write_text(json.dumps(figures) + "\n", encoding="utf-8")
            kept.with_suffix(".md").write_text(markdown(figures) + "\n", encoding="utf-8")
            kept.with_suffix(".html").write_text(html(figures) + "\n", encoding="utf-8")

    judge(seeds, chosen.days, chosen.shapes, saves)
    if kept is None:
        print(markdown(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

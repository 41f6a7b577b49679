"""Statistics judged: which incidents in a simulated plant are found, how soon, how much was gone, and how often nothing was the matter.

``hopwatch`` in the table is the product: the verdicts against a declaration as loose as stated, and the statistical detectors,
both fed with flow events. ``declared only`` is the verdicts alone, ``statistics only`` the other half; the baselines get each
pair's bytes every ten minutes. An alert finds an incident if it is about one of its pairs and falls into it (or into the slot,
or for daily sums the day, after its end); every alert is counted, none is adjusted. Alerts about a benign incident are called
benign triggers, all others false.

    make bench-detection SEED=n        # 20 seeds from n on, 42 days; some minutes for each looseness
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.detection.baselines import BASELINES, WARM_UP_SLOTS, Scorer
from benchmarks.detection.plant import BEGIN, DAYS, KINDS, LEARNING_DAYS, MIB, TIMEZONE, Incident, Run, plant
from detectors.anomaly import ALERTS_A_DAY, Anomaly
from detectors.online import Online
from detectors.verdict import VerdictDetector
from hopwatch.declared.load import loads
from hopwatch.declared.model import Architecture
from hopwatch.events import Endpoint, Finding, Flow, ObjectSet, time_ns, time_text

LOOSENESS: Final = (1.2, 1.5, 3.0, 5.0)
TUNING_SEEDS: Final = range(9_000, 9_004)
"""Seeds that thresholds are chosen on, and that no table reports."""

BEGIN_S: Final = int(BEGIN.timestamp())
SLOT_MINUTES: Final = 10
DAY_MINUTES: Final = 1_440
QUIET_MINUTES: Final = DAY_MINUTES
"""Alerts about one pair closer together than this are one alert, for every row of the table alike."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Somebody is called: in which minute, about which pair, and why."""

    minute: int
    pair: str
    cause: str
    late_minutes: int = SLOT_MINUTES
    """How long after an incident's end it may still be about it: the interval it sums over."""


@dataclass(slots=True)
class Score:
    """One row of the table."""

    plant_days: float = 0.0
    incidents: int = 0
    found: int = 0
    true: int = 0
    benign: int = 0
    false: int = 0
    gone: list[float] = field(default_factory=list)
    """Bytes gone before the first alert, as a share of the incident's."""

    gone_bytes: list[float] = field(default_factory=list)
    by_kind: dict[str, list[int]] = field(default_factory=dict)
    causes_right: int = 0

    def add(self, run: Run, alerts: Iterable[Alert]) -> None:
        """Judge one run's alerts."""
        self.plant_days += run.days - LEARNING_DAYS if run.days > LEARNING_DAYS else run.days / 2
        kept = sorted(_once(alerts), key=lambda one: one.minute)
        first_day = min(LEARNING_DAYS, run.days // 2)
        kept = [one for one in kept if one.minute >= first_day * DAY_MINUTES]
        about: dict[int, list[Alert]] = {}
        for alert in kept:
            matching = [place for place, incident in enumerate(run.incidents) if _is_about(alert, incident)]
            hostile = [place for place in matching if not run.incidents[place].benign]
            for place in matching:
                about.setdefault(place, []).append(alert)
            if hostile:
                self.true += 1
                self.causes_right += any(_is_right(alert, run.incidents[place]) for place in hostile)
            elif matching:
                self.benign += 1
            else:
                self.false += 1
        for place, incident in enumerate(run.incidents):
            if incident.benign:
                continue
            self.incidents += 1
            found = self.by_kind.setdefault(incident.kind, [0, 0])
            found[1] += 1
            if place in about:
                self.found += 1
                found[0] += 1
                gone = incident.gone(about[place][0].minute)
                self.gone.append(gone / incident.bytes)
                self.gone_bytes.append(gone)

    def row(self) -> dict[str, Any]:
        """The figures, for a table."""
        alerts = self.true + self.benign + self.false
        return {
            "recall": round(self.found / max(1, self.incidents), 3),
            "alerts_a_day": round(alerts / max(1.0, self.plant_days), 3),
            "false_a_day": round(self.false / max(1.0, self.plant_days), 3),
            "true": self.true,
            "benign_triggers": self.benign,
            "false": self.false,
            "precision": round(self.true / max(1, alerts), 3),
            "cause_right": round(self.causes_right / max(1, self.true), 3),
            "gone_share_median": round(float(np.median(self.gone)), 3) if self.gone else None,
            "gone_mib_median": round(float(np.median(self.gone_bytes)) / MIB, 1) if self.gone_bytes else None,
        }


def _once(alerts: Iterable[Alert]) -> Iterator[Alert]:
    last: dict[tuple[str, str], int] = {}
    for alert in sorted(alerts, key=lambda one: one.minute):
        if alert.minute - last.get((alert.pair, alert.cause), -QUIET_MINUTES) >= QUIET_MINUTES:
            last[alert.pair, alert.cause] = alert.minute
            yield alert


def _is_about(alert: Alert, incident: Incident) -> bool:
    return alert.pair in incident.pairs and incident.first_minute <= alert.minute <= incident.last_minute + alert.late_minutes


def _is_right(alert: Alert, incident: Incident) -> bool:
    """Whether the alert names what was injected: an amount that is too large, or the wrong hour."""
    if alert.cause == "outside-window":
        return incident.kind in ("bulk pull on a hop by day", "vendor takes more", "spread over five hops")
    return True


# The product


def declaration(run: Run, looseness: float) -> Architecture:
    """A plant whose hops are the run's pairs, each limited to ``looseness`` times the largest hour and day that the pair ever had."""
    quiet = plant(run.seed, run.days, incidents=False)
    hops, assets, accounts, data = [], [], [], []
    for place, kind in enumerate(KINDS):
        amount = quiet.bytes[kind.name]
        hour = max(1, int(looseness * np.convolve(amount, np.ones(60), "valid").max()))
        day = max(1, int(looseness * max(amount[quiet.wall.day == one].sum() for one in set(quiet.wall.day.tolist()))))
        name = kind.name
        when = ", when: daily 01:15-03:45" if name in ("extract-quality",) else ", when: daily 02:45-05:00" if name == "lake-upload" else ""
        assets += [
            f'  s{place}: {{zone: ops, kind: postgresql, at: "10.1.0.{place + 1}:5432"}}',
            f"  c{place}: {{zone: ops, kind: client, at: 10.2.0.{place + 1}}}",
        ]
        accounts.append(f"  a{place}: {{kind: service, owner: o{place}, from: [c{place}], auth: scram-sha-256}}")
        data.append(f"  d{place}: {{class: plain, in: [s{place}]}}")
        hops.append(
            f"  {name}: {{who: a{place}, from: s{place}, to: c{place}, may: [select], what: [d{place}], agent: t, sees: decoded,"
            f" limit: [{hour} B / 1h, {day} B / 1d], keep: 1d, why: simulated{when}}}"
        )
    return loads(
        "\n".join(
            [
                "plant: simulated", "version: 1", "owner: bench", "approved: {by: bench}", "review_by: 2027-01-01",
                f"timezone: {TIMEZONE.key}",
                "classes:", "  plain: {sensitivity: internal, transit: any, keep_max: 1y}", "zones:",
                "  ops: {level: 3, nets: [10.0.0.0/8]}",
                "assets:", *assets, "data:", *data, "accounts:", *accounts, "hops:", *hops,
            ]
        )
    )  # fmt: skip


def windows(run: Run) -> Iterator[tuple[int, Flow]]:
    """The run as flow events of one minute each, in the order of time, with the minute."""
    names = run.pairs
    rows = {kind.name: kind.bytes_per_row for kind in KINDS}
    table = np.stack([run.bytes[name] for name in names])
    digests = [blake2b(name.encode(), digest_size=16).hexdigest() for name in names]
    sequence = [0] * len(names)
    for minute in range(table.shape[1]):
        start = time_text((BEGIN_S + minute * 60) * 10**9)
        end = time_text((BEGIN_S + minute * 60 + 60) * 10**9)
        for place in np.flatnonzero(table[:, minute]):
            amount = int(table[place, minute])
            many = amount // rows[names[place]]
            yield minute, Flow(
                event_id=f"{digests[place]}{sequence[place]}", plant="simulated", agent="t", connection=digests[place],
                flow_id=digests[place], sequence=sequence[place], start=start, end=end,
                source=Endpoint(f"10.1.0.{place + 1}", 5432), destination=Endpoint(f"10.2.0.{place + 1}", 50_000),
                opened_by="destination", protocol="postgresql", account=f"a{place}", operation="select", depth="decoded",
                objects=[ObjectSet(["t"], rows=many, messages=1, bytes=amount)], rows=many, messages=1, bytes=amount, packets=1,
            )  # fmt: skip
            sequence[place] += 1


@dataclass(slots=True)
class Said:
    """What the product said of one run: alerts of the verdicts, and those of the statistics."""

    declared: list[Alert] = field(default_factory=list)
    statistics: list[Alert] = field(default_factory=list)


def product(run: Run, looseness: float) -> Said:
    """The whole product over the run's windows; a finding calls somebody when it is first said."""
    architecture = declaration(run, looseness)
    verdict = VerdictDetector(architecture)
    online = Online(verdict, [Anomaly(architecture, verdict.quoted)])
    said = Said()
    told = -1
    for minute, flow in windows(run):
        passed = online.advance((BEGIN_S + minute * 60) * 10**9) if minute > told else ()
        told = minute
        for outcome in (*passed, *online.observe(flow)):
            if isinstance(outcome, Finding):
                if outcome.severity != "info":
                    said.statistics.append(_statistic(outcome))
            elif outcome.finding is not None:
                said.declared.append(Alert(minute, outcome.hop or "", outcome.verdict, 1))
    return said


def _statistic(finding: Finding) -> Alert:
    """When it was said: at the end of its ten minutes, or of its last day."""
    minute = time_ns(finding.last_seen) // 10**9 // 60 - BEGIN_S // 60
    place = int(finding.source.removeprefix("s"))
    return Alert(minute, KINDS[place].name, finding.verdict, SLOT_MINUTES if finding.verdict == "volume" else DAY_MINUTES)


# The baselines


@lru_cache(maxsize=4_096)
def _hour(slot: int) -> int:
    at = datetime.fromtimestamp(BEGIN_S + slot * SLOT_MINUTES * 60, UTC).astimezone(TIMEZONE)
    return at.hour + (24 if at.weekday() >= 5 else 0)


def scores(run: Run, make: Callable[[], Scorer]) -> Iterator[tuple[float, Alert]]:
    """Every slot's score by one baseline, from the second week on."""
    for name in run.pairs:
        scorer = make()
        for slot, amount in enumerate(run.bytes[name].reshape(-1, SLOT_MINUTES).sum(1).tolist()):
            score = scorer.score(slot, _hour(slot), amount)
            if slot >= WARM_UP_SLOTS and score > 0:
                yield score, Alert((slot + 1) * SLOT_MINUTES, name, "score")


def threshold(make: Callable[[], Scorer], days: int, budget_a_day: float) -> float:
    """The lowest score at which the seeds for tuning give no more alerts a day than may be."""
    runs = [sorted(scores(plant(seed, days), make), key=lambda one: -one[0]) for seed in TUNING_SEEDS]
    most = budget_a_day * days * len(runs)
    levels = sorted({score for scored in runs for score, _ in scored}, reverse=True)
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        alerts = sum(len(list(_once(alert for score, alert in scored if score >= levels[middle]))) for scored in runs)
        low, high = (middle + 1, high) if alerts <= most else (low, middle)
    return levels[low - 1] if low else float("inf")


# The table


def table(seeds: Iterable[int], days: int, looseness: float, thresholds: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Every row of one looseness, over the seeds."""
    rows = {name: Score() for name in ("hopwatch", "declared only", "statistics only", *BASELINES)}
    for seed in seeds:
        run = plant(seed, days)
        said = product(run, looseness)
        rows["hopwatch"].add(run, [*said.declared, *said.statistics])
        rows["declared only"].add(run, said.declared)
        rows["statistics only"].add(run, said.statistics)
        for name, make in BASELINES.items():
            rows[name].add(run, [alert for score, alert in scores(run, make) if score >= thresholds[name]])
    return {name: score.row() | {"by_kind": score.by_kind} for name, score in rows.items()}


def report(results: dict[str, dict[str, dict[str, Any]]], seeds: list[int], days: int) -> str:
    """The tables as Markdown."""
    lines = [
        "# Statistics judged, on a simulated plant", "",
        f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]}), {days} days each, {LEARNING_DAYS} of them learnt only; {len(KINDS)} pairs",
        "of ends, alerts about one pair within a day counted once; baselines may alert",
        f"{ALERTS_A_DAY} times a day, on seeds that are not reported.", "",
    ]  # fmt: skip
    for looseness, rows in results.items():
        lines += [
            f"## Limits at {looseness} x the true peak", "",
            "| | recall | alerts a day | false a day | precision | benign triggers | cause right | gone before the alert, median |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]  # fmt: skip
        for name, row in rows.items():
            gone = "-" if row["gone_mib_median"] is None else f"{row['gone_mib_median']} MiB ({row['gone_share_median']:.0%})"
            lines.append(
                f"| {name} | {row['recall']:.3f} | {row['alerts_a_day']} | {row['false_a_day']} | {row['precision']:.3f} |"
                f" {row['benign_triggers']} | {row['cause_right']:.2f} | {gone} |"
            )
        lines += ["", "| incident | found by hopwatch | by the verdicts | by the statistics |", "| --- | ---: | ---: | ---: |"]
        for kind in sorted(rows["hopwatch"]["by_kind"]):
            found = [rows[name]["by_kind"].get(kind, [0, 0]) for name in ("hopwatch", "declared only", "statistics only")]
            lines.append(f"| {kind} | " + " | ".join(f"{one} / {of}" for one, of in found) + " |")
        lines.append("")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run it; the report goes to standard output, or to a file, with the figures as JSON beside it."""
    parser = argparse.ArgumentParser(prog="level2", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--seeds", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--days", type=int, default=DAYS, help=f"days of each run (default {DAYS})")
    parser.add_argument("--looseness", type=float, nargs="+", default=list(LOOSENESS), help="limits as multiples of the true peak")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the report there, and FILE.json beside it")
    chosen = parser.parse_args(argv)
    seeds = list(range(chosen.seed, chosen.seed + chosen.seeds))
    if set(seeds) & set(TUNING_SEEDS):
        parser.error(f"seeds {TUNING_SEEDS.start} to {TUNING_SEEDS.stop - 1} are for choosing thresholds")
    print("choosing the baselines' thresholds", file=sys.stderr)
    thresholds = {name: threshold(make, chosen.days, ALERTS_A_DAY) for name, make in BASELINES.items()}
    results = {}
    for looseness in chosen.looseness:
        print(f"limits at {looseness} x the peak, {len(seeds)} seeds", file=sys.stderr)
        results[str(looseness)] = table(seeds, chosen.days, looseness, thresholds)
    said = report(results, seeds, chosen.days)
    if chosen.save:
        chosen.save.write_text(said + "\n", encoding="utf-8")
        chosen.save.with_suffix(".json").write_text(json.dumps({"seeds": seeds, "days": chosen.days, "results": results}, indent=1) + "\n")
    else:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())

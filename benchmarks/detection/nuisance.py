"""The nuisance benchmark: how often somebody is called for what every plant has, and whether the evil twin of each is found.

Every case of ``nuisance_cases`` is done by real tools against real servers in network namespaces of this run, recorded at one tap,
put at the hours the case says (stretched or repeated: the report states the scale) and read by `hopwatch watch -r`
under ``nuisance.yaml``. Three runs:

- each case by itself, and once more with its evil twin, which must raise an alert that the case did not;
- everything benign together: sixteen days in which every question learns, then three plant-days in a row (a Sunday on which clocks
  go forward, with scan, patch reboot and migration; a Monday with a failover and a backfill; the last day of the month); the night
  on which they go back is only a case by itself;
- captures of other people's networks, each with what an engineer of that network would list as services.

An alert is a finding above ``info``; findings of one identity are one.

    make nuisance SEED=n
"""

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from benchmarks.detection.nuisance_cases import CASES, Case, Work, dump, extraction, infrastructure, names, ordinary
from benchmarks.detection.nuisance_plant import Plant, missing, plant
from benchmarks.detection.restamp import Played, length_ns, play
from examples.plant.servers import PlantError
from examples.plant.watched import hopwatch

HERE: Final = Path(__file__).parent
DECLARATION: Final = HERE / "nuisance.yaml"
TIMEZONE: Final = ZoneInfo("Europe/Berlin")
AT: Final = "2026-03-30"
FIRST_DAY: Final = datetime(2026, 3, 29, tzinfo=TIMEZONE)
PLANT_DAYS: Final = 3
LEARNING_DAYS: Final = 16
"""Days before the three: two weeks until a new host or place is news, one until amounts are judged."""

ORDINARY_S: Final = 600
"""How often the ordinary minute, and what repeats faster, is played in the days of learning."""

Json = dict[str, Any]  # Any: one JSON object


@dataclass(slots=True)
class Pair:
    """One case judged: what it raised by itself, and what its twin added."""

    case: Case
    windows: int
    raised: list[Json]
    added: list[Json] = field(default_factory=list)
    stretch: float = 1.0

    @property
    def found(self) -> bool:
        """The twin raised what it must, about whom it must."""
        return any(one["verdict"] in self.case.verdicts and self.case.about in json.dumps(one) for one in self.added)


def recordings(here: Plant, cases: Sequence[Case], *more: Work) -> None:
    """Do and record the work of the cases, each once."""
    works = [*more, *(work for case in cases for work in (case.benign, case.twin) if work is not None)]
    for work in dict.fromkeys(works):
        with here.recorded(work.__name__):
            work(here)


def judged(tape: Iterable[Played], folder: Path, declaration: Path = DECLARATION, at: str = AT) -> tuple[list[Json], int]:
    """What `hopwatch watch` finds on the tape, each finding as it stands at the end and when it was first ``said``, and how many windows.

    Raises:
        PlantError: it did not read the tape to its end.
    """
    capture = folder / "tape.pcap"
    play(tape, capture)
    return watched(capture, declaration, at)


def watched(capture: Path, declaration: Path, at: str) -> tuple[list[Json], int]:
    """The same of a capture."""
    argv = hopwatch("watch", "-d", str(declaration), "-r", str(capture), "--store", "none", "--json", "--at", at)
    found: dict[str, Json] = {}
    windows = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            # Windows by the hundred thousand: only what is kept is read.
            if b'"finding"' in line[:24]:
                finding = json.loads(line)
                before = found.get(finding["finding_id"])
                found[finding["finding_id"]] = finding | {"said": finding["last_seen"] if before is None else before["said"]}
            windows += b'"flow"' in line[:24]
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode not in (0, 1):
        raise PlantError(f"hopwatch watch ended with {process.returncode}: {said[-300:]}")
    return list(found.values()), windows


def alerts(findings: Iterable[Json]) -> list[Json]:
    """Those that call somebody."""
    return [one for one in findings if one["severity"] != "info"]


def at_ns(text: str) -> int:
    """Plant time as nanoseconds."""
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=TIMEZONE)).timestamp()) * 10**9


def stretch_of(here: Plant, case: Case) -> float:
    """Seconds told for a second recorded."""
    return case.lasts_s * 10**9 / max(1, length_ns(here.capture(case.benign.__name__))) if case.lasts_s else 1.0


def benign(here: Plant, case: Case) -> list[Played]:
    """The case at its hours; what repeats is played once, as every repetition is the same."""
    capture = here.capture(case.benign.__name__)
    return [Played(capture, at_ns(begin), stretch_of(here, case)) for begin in case.begins]


def judge(here: Plant, case: Case) -> Pair:
    """The case by itself, then with its twin."""
    usual = benign(here, case)
    raised, windows = judged(usual, here.folder) if usual else ([], 0)
    evil = Played(here.capture((case.twin or case.benign).__name__), at_ns(case.twin_begins), 1.0 if case.twin else stretch_of(here, case))
    both, _ = judged([*usual, evil], here.folder)
    known = {one["finding_id"] for one in raised}
    return Pair(case, windows, alerts(raised), alerts(one for one in both if one["finding_id"] not in known), stretch_of(here, case))


def days(here: Plant) -> Iterator[Played]:
    """Everything benign: days of learning, then the plant-days with every case at its hour."""
    repeating = {case.benign: case for case in CASES if case.every_s}
    daily: tuple[tuple[Work, int, int], ...] = ((dump, 70, 0), (extraction, 140, 0), (names, 0, 86_000), (infrastructure, 1, 86_000))
    placed = {(case.benign, begin[:10]) for case in CASES for begin in case.begins}
    for number in range(-LEARNING_DAYS, PLANT_DAYS):
        midnight = FIRST_DAY + timedelta(days=number)
        begin_s = int(midnight.timestamp())
        end_s = int((midnight + timedelta(days=1)).timestamp())
        for work in (ordinary, *repeating):
            case = repeating.get(work)
            every_s = case.every_s if case is not None and midnight.isoformat()[:10] == case.begins[0][:10] else ORDINARY_S
            yield from (Played(here.capture(work.__name__), at_s * 10**9) for at_s in range(begin_s, end_s, every_s))
        for work, minute, lasts_s in daily:
            if (work, midnight.isoformat()[:10]) not in placed:
                capture = here.capture(work.__name__)
                slow = lasts_s * 10**9 / max(1, length_ns(capture)) if lasts_s else 1.0
                yield Played(capture, (begin_s + minute * 60) * 10**9, slow)
    # What is of another season is only played by itself.
    last = (FIRST_DAY + timedelta(days=PLANT_DAYS)).isoformat()
    yield from (played for case in CASES if not case.every_s and max(case.begins, default="") < last for played in benign(here, case))


def by_day(findings: Iterable[Json]) -> dict[str, int]:
    """How many findings are first said on each plant-day; those of the days of learning under ``learning``."""
    counts = dict.fromkeys(["learning", *((FIRST_DAY + timedelta(days=n)).isoformat()[:10] for n in range(PLANT_DAYS))], 0)
    for one in findings:
        day = datetime.fromisoformat(one["said"]).astimezone(TIMEZONE).isoformat()[:10]
        counts[day if day in counts else "learning"] += 1
    return counts


def verdicts(findings: Iterable[Json]) -> str:
    """What they say, each once."""
    return ", ".join(sorted({f"`{one['verdict']}`" for one in findings})) or "nothing"


def shown(finding: Json) -> str:
    """One finding in a line."""
    said = "; ".join(f"{one['declared']} / {one['observed']}" for one in finding["differences"][:2])
    who = f" {finding['who']}" if finding["who"] else ""
    return f"{finding['severity']} {finding['verdict']}{who} {finding['source']} -> {finding['destination']}" + (
        f" ({said})" if said else ""
    )


# -- Other people's networks ------------------------------------------------------------------------------------------


def others(traces: Path) -> list[tuple[str, int, list[Json], list[Json]]]:
    """Of each public capture: its name, windows, alerts under what its engineer lists, and alerts of its twin (nothing listed)."""
    judged_: list[tuple[str, int, list[Json], list[Json]]] = []
    for declaration in sorted((HERE / "nuisance-others").glob("*.yaml")):
        capture = next(iter(sorted(traces.glob(f"mixed/{declaration.stem}.pcap*"))), None)
        if capture is None:
            continue
        found, windows = watched(capture, declaration, AT)
        with tempfile.TemporaryDirectory(prefix="hopwatch-nuisance-") as folder:
            text = declaration.read_text(encoding="utf-8")
            unlisted = "\n".join(line for line in text.splitlines() if "# its twin lists it not" not in line)
            twin = Path(folder) / declaration.name
            twin.write_text(unlisted + "\n", encoding="utf-8")
            missed, _ = watched(capture, twin, AT)
        known = {one["finding_id"] for one in found}
        judged_.append((declaration.stem, windows, alerts(found), alerts(one for one in missed if one["finding_id"] not in known)))
    return judged_


# -- Report -----------------------------------------------------------------------------------------------------------


def report(seed: int, pairs: Sequence[Pair], whole: Sequence[Json], windows: int, other: Sequence[Any], took_s: float) -> str:
    """The Markdown page."""
    called = alerts(whole)
    counts = by_day(called)
    plant_days = {day: count for day, count in counts.items() if day != "learning"}
    found = sum(pair.found for pair in pairs) + sum(bool(twin) for _, _, _, twin in other)
    total = sum(plant_days.values())
    lines = [
        "# Nuisance: what kills a monitor in week one",
        "",
        f"`make nuisance SEED={seed}`, {took_s:.0f} s. Real tools and servers, recorded at one tap, read by",
        "`hopwatch watch -r` under `benchmarks/detection/nuisance.yaml`. An alert is a finding above `info`.",
        "",
        f"- **{total} alerts in {PLANT_DAYS} plant-days** with everything benign in them ({total / PLANT_DAYS:.2f} a plant-day; goal 1 at "
        f"most): {', '.join(f'{day} {count}' for day, count in plant_days.items())}",
        f"- {counts['learning']} alerts in the {LEARNING_DAYS} days of learning before; {windows} windows in all",
        f"- **evil twins found: {found} of {len(pairs) + len(other)}**",
        "",
        "| case | plays | windows | alerts | evil twin | raised by the twin |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for pair in pairs:
        case = pair.case
        twin = ((case.twin or case.benign).__doc__ or "").strip()
        twin = twin if case.twin else f"the same work at {case.twin_begins[5:]}"
        plays = f"every {case.every_s} s" if case.every_s else f"1 s as {pair.stretch:.0f} s" if pair.stretch > 1.5 else "as recorded"
        said = verdicts(pair.added) if pair.found else f"**missed** {verdicts(pair.added)}"
        lines.append(f"| {case.name} | {plays} | {pair.windows} | {len(pair.raised)} | {twin} | {said} |")
    for name, seen, raised_, twins in other:
        said = verdicts(twins) if twins else "**missed**"
        lines.append(f"| `{name}` | as recorded | {seen} | {len(raised_)} | one of its places is not listed | {said} |")
    lines += ["", "What raised each alert of a benign case or day:", ""]
    raised = [(pair.case.name, one) for pair in pairs for one in pair.raised] + [(name, one) for name, _, many, _ in other for one in many]
    raised += [("all together", one) for one in called]
    lines += [f"- {name}: {shown(one)}" for name, one in raised] or ["- nothing"]
    return "\n".join([*lines, ""])


def main() -> int:
    """Run everything, print the report; 1 if a goal is missed."""
    options = argparse.ArgumentParser(prog="make nuisance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", help="cases whose name has this in it, without the days together")
    options.add_argument("--traces", type=Path, default=Path("../shared/traces"), help="public captures, by protocol")
    options.add_argument("--save", type=Path, help="where the report goes besides the screen")
    given = options.parse_args()
    began = time.monotonic()
    cases = [case for case in CASES if not given.only or given.only in case.name]
    print(f"seed {given.seed}", flush=True)
    try:
        if (lacking := missing(tool for case in cases for tool in case.needs)) is not None:
            raise PlantError(lacking)
        with plant(random.Random(given.seed)) as here:
            recordings(here, cases, *(() if given.only else (ordinary,)))
            pairs = []
            for case in cases:
                pairs.append(judge(here, case))
                print(f"{case.name}: {len(pairs[-1].raised)} alerts, twin {'found' if pairs[-1].found else 'MISSED'}", flush=True)
            whole, windows = ([], 0) if given.only else judged(days(here), here.folder)
        other = [] if given.only else others(given.traces)
    except PlantError as error:
        print(f"nuisance: {error}", file=sys.stderr)
        return 2
    text = report(given.seed, pairs, whole, windows, other, time.monotonic() - began)
    print(text)
    if given.save is not None:
        given.save.write_text(text, encoding="utf-8")
    calm = sum(by_day(alerts(whole)).values()) <= PLANT_DAYS and not any(pair.raised for pair in pairs)
    return 0 if calm and all(pair.found for pair in pairs) else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())

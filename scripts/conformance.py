"""Hold `hopwatch inspect` against tshark's view of a folder of captures (`make conformance TRACES=DIR`).

Beside every capture lies NAME.truth.json. What is compared, and how, is defined outside this repository by a script (COMPARE,
normally ../shared/conformance/compare.py); here the captures are read, the script is run, and three things are demanded:

- every group of GROUPS has 99 % of its fields equal, and each field of it (with 20 samples or more) 95 %. A difference
  counts as equal only where docs/conformance.md shows, with the bytes, that tshark is the one who is wrong;
- every difference in these groups is explained in docs/conformance.md, one by one: its tables are read here;
- on every capture the bytes of the flows of a connection are its stream bytes, both ways.

Exit status: 0 held; 1 not held; 2 the captures or the script are missing (0 with --if-there, which then says so in one line).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
EXPLAINED = ROOT / "docs" / "conformance.md"

GROUPS = ("conversations", "postgresql", "mysql", "tns", "tds", "mqtt", "opcua", "tls", "dns", "http")
SHARE_MIN = 0.99
FIELD_SHARE_MIN = 0.95
FIELD_SAMPLES_MIN = 20

HELD, NOT_HELD, MISSING = 0, 1, 2

TSHARK_IS_WRONG = "Where tshark is wrong"
"""The heading in docs/conformance.md under which differences are no fault here."""

ALL = "all"
DIFFERENCES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one conversation that is not as tshark says."""

    group: str
    capture: str
    conversation: str
    field: str
    text: str = default(default="", compare=False)


@dataclass(slots=True)
class Compared:
    """What the comparison printed."""

    groups: dict[str, tuple[int, int]] = default(default_factory=dict)
    fields: dict[tuple[str, str], tuple[int, int]] = default(default_factory=dict)
    differences: list[Difference] = default(default_factory=list)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A row of a table in docs/conformance.md."""

    group: str
    capture: str
    conversations: frozenset[str]
    fields: frozenset[str]
    tshark_is_wrong: bool

    def covers(self, one: Difference) -> bool:
        return (
            (self.group, self.capture) == (one.group, one.capture)
            and (ALL in self.conversations or one.conversation in self.conversations)
            and (ALL in self.fields or one.field in self.fields)
        )


def captures(traces: Path) -> Iterator[tuple[Path, str]]:
    """Every capture with a truth beside it, and the name of its results."""
    for truth in sorted(traces.rglob("*.truth.json")):
        named = str(json.loads(truth.read_text(encoding="utf-8"))["file"])
        capture = truth.parent / named
        if not capture.exists():
            capture = truth.with_name(truth.name.removesuffix(".truth.json") + Path(named).suffix)
        yield capture, f"{truth.parent.relative_to(traces)}/{capture.name}.jsonl"


def inspected(capture: Path) -> tuple[str, int]:
    """What `hopwatch inspect --json` prints and its status, in this process: 618 interpreters would take minutes."""
    from hopwatch.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main(["inspect", "--json", str(capture)])
    return out.getvalue(), status


def not_conserved(capture: Path) -> list[str]:
    """Ends of a conversation whose flows say other bytes than its streams had."""
    from collectors import packets

    sensor = packets.sensor("conformance", "conformance", conversations=True)
    told: Counter[tuple[str, str | None, str, int, str, int]] = Counter()
    seen: Counter[tuple[str, str | None, str, int, str, int]] = Counter()
    with contextlib.suppress(packets.CaptureError):  # A damaged capture: what was read before must still add up.
        for batch in packets.from_files(sensor, [str(capture)]):
            for event in map(json.loads, batch):
                if event["kind"] == "flow":
                    one, other = ((event[end]["address"], event[end]["port"]) for end in ("source", "destination"))
                    told[event["transport"], event["context"], *one, *other] += event["bytes"]
                    told[event["transport"], event["context"], *other, *one] += event["bytes_back"]
    for line in map(json.loads, sensor.conversations()):
        one, other = (line["a"], line["a_port"]), (line["b"], line["b_port"])
        seen[line["transport"], line["context"], *one, *other] += line["stream_bytes_ab"] - line["cut_bytes_ab"]
        seen[line["transport"], line["context"], *other, *one] += line["stream_bytes_ba"] - line["cut_bytes_ba"]
    # An end that talks to itself is two directions under one key.
    return [
        f"{capture.name}: {' '.join(map(str, key))}: flows {told[key]}, stream {seen[key]}"
        for key in sorted(told.keys() | seen.keys(), key=str)
        if told[key] != seen[key]
    ]


_GROUP = re.compile(r"(\S+) +(\d+) of +(\d+) fields equal")
_FIELD = re.compile(r" {4}(\S+) +(\d+) of +(\d+)")
_DIFFERENCE = re.compile(r" {8}(.+?) (\S+): (truth .*)")


def parsed(lines: Iterable[str]) -> Compared:
    """The comparison's report; fields that are wholly equal are not in it."""
    compared, group, name = Compared(), "", ""
    for line in lines:
        if found := _GROUP.match(line):
            group = found[1]
            compared.groups[group] = int(found[2]), int(found[3])
        elif found := _DIFFERENCE.match(line):
            compared.differences.append(Difference(group, found[1], found[2], name, found[3]))
        elif found := _FIELD.match(line):
            name = found[1]
            compared.fields[group, name] = int(found[2]), int(found[3])
    return compared


def explanations(text: str) -> list[Explanation]:
    """The rows of the tables that begin with `group | capture | conversation | fields`."""
    rows: list[Explanation] = []
    wrong = reading = False
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if line.startswith("## "):
            wrong = line[3:].startswith(TSHARK_IS_WRONG)
        if not line.startswith("|"):
            reading = False
        elif cells[:4] == ["group", "capture", "conversation", "fields"]:
            reading = True
        elif reading and not set(line) <= set("|-: "):
            names = [frozenset(part.strip("` ") for part in cell.split(",")) for cell in cells[2:4]]
            rows.append(Explanation(cells[0], cells[1], names[0], names[1], wrong))
    return rows


def judged(compared: Compared, explained: Sequence[Explanation]) -> tuple[list[str], list[str]]:
    """The table, and what does not hold."""
    wrong: Counter[tuple[str, str]] = Counter()
    used: set[int] = set()
    unexplained: dict[str, list[Difference]] = defaultdict(list)
    for one in compared.differences:
        if one.group not in GROUPS:
            continue
        found = next((index for index, row in enumerate(explained) if row.covers(one)), None)
        if found is None:
            unexplained[one.group].append(one)
            continue
        used.add(found)
        wrong[one.group, one.field] += explained[found].tshark_is_wrong
    table, faults = [], []
    for group in GROUPS:
        equal, every = compared.groups.get(group, (0, 0))
        aside = sum(count for (of, _), count in wrong.items() if of == group)
        share = (equal + aside) / every if every else 0.0
        table.append(
            f"{group:14} {equal:6} of {every:6} equal {100 * equal / max(every, 1):6.2f} %   tshark wrong {aside:4} -> {100 * share:6.2f} %"
        )
        if share < SHARE_MIN:
            faults.append(f"{group}: {100 * share:.2f} % of the fields equal, at least {100 * SHARE_MIN:.0f} % wanted")
        for (of, name), (same, samples) in compared.fields.items():
            low = same + wrong[of, name] < FIELD_SHARE_MIN * samples
            if of == group and samples >= FIELD_SAMPLES_MIN and low:
                faults.append(f"{group}: {name} is equal in {same} of {samples}, at least {100 * FIELD_SHARE_MIN:.0f} % wanted")
        faults += [
            f"not explained in docs/conformance.md: {d.group} {d.capture} {d.conversation} {d.field}: {d.text}" for d in unexplained[group]
        ]
    table += [
        f"no longer different: {row.group} {row.capture} {', '.join(sorted(row.conversations))}; take it out of docs/conformance.md"
        for index, row in enumerate(explained)
        if index not in used and row.group in GROUPS
    ]
    return table, faults


def compared_by(script: Path, traces: Path, results: Path) -> Compared:
    command: list[Any] = [sys.executable, script, traces, "--results", results, "--differences", str(DIFFERENCES_MAX)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode not in (0, 1):
        raise RuntimeError(f"{script}: exit {run.returncode}: {run.stderr.strip()[-500:]}")
    return parsed(run.stdout.splitlines())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("traces", nargs="?", type=Path, default=SHARED / "traces", metavar="TRACES")
    place = Path(os.environ.get("COMPARE") or SHARED / "conformance" / "compare.py")
    parser.add_argument("--compare", type=Path, default=place, help="the script that compares (environment: COMPARE)")
    parser.add_argument("--if-there", action="store_true", help="without captures, say so and end well")
    chosen = parser.parse_args(argv)
    for missing in (path for path in (chosen.traces, chosen.compare) if not path.exists()):
        print(f"conformance is not measured here: {missing} is missing (the recordings in tests/data are always tested)")
        return HELD if chosen.if_there else MISSING
    faults: list[str] = []
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for capture, name in captures(chosen.traces):
            result = Path(folder) / name
            result.parent.mkdir(parents=True, exist_ok=True)
            text, status = inspected(capture)
            if status not in (0, 1):
                faults.append(f"exit status {status}, whatever a capture holds 0 or 1 is wanted: {capture.name}")
            result.write_text(text, encoding="utf-8")
            faults += [f"bytes are not conserved: {text}" for text in not_conserved(capture)]
            count += 1
        compared = compared_by(chosen.compare, chosen.traces, Path(folder))
    lost = len(faults)
    table, more = judged(compared, explanations(EXPLAINED.read_text(encoding="utf-8")) if EXPLAINED.exists() else [])
    print("\n".join(table))
    print(f"conservation: {count} captures, {lost} ends with other bytes in their flows than in their streams")
    for fault in (*faults, *more):
        print(f"FAILED {fault}")
    return NOT_HELD if faults or more else HELD


if __name__ == "__main__":
    sys.exit(main())

"""One fault run and its account: what came in is what came out, and what was found is what one process finds in the same capture."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from collectors import packets
from detectors.judgement import Judgement
from examples.broker import ROOT
from hopwatch.bus.numbers import Numbers
from hopwatch.declared.load import load
from hopwatch.editions import edition_name
from hopwatch.engine import Engine, Judge
from hopwatch.events import Event, Finding, Flow, Heartbeat, Loss, parse
from hopwatch.scale import verdict_detectors
from hopwatch.store.postgresql import Hiding
from hopwatch.store.progress import Progress
from hopwatch.store.pseudonyms import key_file
from tests.bus.real import held as messages
from tests.fault.house import PARTITIONS, PLANTS, TAP, House, house

Json = dict[str, Any]  # Any: one JSON object
OWN = ("agent_sequence", "spool")
SPACING_S = (1.0, 3.0)


@dataclass(slots=True)
class Account:
    """What a run has to answer for; ``wrong`` is empty if it holds."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    packets: int = 0
    events_in: int = 0
    events_out: int = 0
    messages: int = 0
    stored: int = 0
    findings: int = 0
    finding_words: int = 0
    finding_messages: int = 0
    wrong: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        said = [
            f"seed {self.seed}: {self.rounds} rounds, {self.packets} packets; {faults}",
            f"events in {self.events_in}, out {self.events_out} (in {self.messages} messages), in the database {self.stored}",
            f"findings {self.findings}, said {self.finding_words} times (in {self.finding_messages} messages)",
            *self.timeline,
            *(f"WRONG: {one}" for one in self.wrong),
        ]
        return "\n".join(said)


def run(seed: int, duration_s: float, *, brokers: int = 1, days: int = 3) -> Account:
    """Faults in an order of ``seed``, each at least once, until ``duration_s`` have passed; then everything drains and is compared."""
    account = Account(seed)
    with house(seed, brokers=brokers, days=days) as plant:
        faults: dict[str, Callable[[], None]] = {
            "broker killed": plant.kill_broker,
            "agent killed": plant.kill_agent,
            "detector killed": plant.kill_detector,
            "database killed": plant.kill_database,
            "network cut": plant.cut_network,
            "broker hung": plant.pause_broker,
        }
        plant.began_s = time.monotonic()
        plant.traffic.start()
        try:
            while time.monotonic() < plant.began_s + duration_s or len(account.faults) < len(faults):
                for name in plant.dice.sample(list(faults), len(faults)):
                    time.sleep(plant.dice.uniform(*SPACING_S))
                    if time.monotonic() > plant.began_s + duration_s and name in account.faults:
                        continue
                    faults[name]()
                    account.faults[name] += 1
                    plant.all_run()
            plant.drain()
            account.rounds, account.timeline = plant.traffic.rounds, plant.events
            _compare(plant, account)
        except Exception as error:
            logs = [f"{program.name}: {program.said()}" for program in (*plant.agents.values(), *plant.detectors.values(), plant.store)]
            error.add_note("\n".join([f"seed {seed}", *plant.events, *logs, plant.cluster.said()]))
            raise
    return account


def _compare(plant: House, account: Account) -> None:
    flows = _messages(plant, "flow") + _messages(plant, "loss")
    beats = _messages(plant, "heartbeat")
    account.messages = len(flows)
    numbers = Numbers()
    for event in [*flows, *beats]:
        numbers.take(event)
    account.check(not any(numbers.holes().values()), f"numbers nobody answers for: {numbers.holes()}")
    words = [word for word in map(parse, _lines(plant, "finding")) if isinstance(word, Finding)]
    account.finding_messages = len(words)
    account.finding_words = len({word.event_id for word in words})
    with psycopg.connect(plant.postgres) as db:
        kept = {row[0] for row in db.execute("SELECT finding_id FROM findings").fetchall()}
        rows = db.execute("SELECT event_id, plant, event FROM flows UNION ALL SELECT event_id, plant, event FROM losses").fetchall()
        verdicts = db.execute("SELECT event_id, plant, verdict, hop, finding_id FROM judged_flows WHERE verdict IS NOT NULL").fetchall()
    account.stored = len(rows)
    account.findings = len(kept)
    for name in PLANTS:
        lines = _sensed(plant, name)
        expected = {event["event_id"]: event for event in map(json.loads, lines)}
        account.events_in += len(expected)
        account.packets = sum(event.get("packets", 0) for event in expected.values())
        arrived = {event["event_id"]: _bare(event) for event in flows if event["plant"] == name}
        account.events_out += len(arrived)
        _same(account, f"{name}: events", expected, arrived)
        stored = {event_id: _counted(json.loads(event)) for event_id, of, event in rows if of == name}
        _same(account, f"{name}: rows of the database", {key: _counted(event) for key, event in expected.items()}, stored)
        found = {word.finding_id: _word(word) for word in words if word.plant == name}
        _same(account, f"{name}: findings", _found(plant, name), found)
        account.check(found.keys() <= kept, f"{name}: findings that are on the topic and not in the database")
        judged = {event_id: tuple(said) for event_id, of, *said in verdicts if of == name}
        said, *budgets = _judged(plant, name, lines)
        _same(account, f"{name}: verdicts", said, judged)
        _same(account, f"{name}: budgets", *budgets)
    account.check(len(kept) == len({word.finding_id for word in words}), "the database holds other findings than the topic")
    account.check(account.findings > 0 and account.rounds > 1, "nothing was found: the run shows nothing")


def _same(account: Account, what: str, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    missing, more = expected.keys() - got.keys(), got.keys() - expected.keys()
    other = [key for key in expected.keys() & got.keys() if expected[key] != got[key]]
    if missing or more or other:
        example = ""
        for key in sorted(other)[:1]:
            a, b = expected[key], got[key]
            example = f"; {key}: " + (
                str({part: (a.get(part), b.get(part)) for part in a.keys() | b.keys() if a.get(part) != b.get(part)})[:900]
                if isinstance(a, dict) and isinstance(b, dict)
                else f"{str(a)[:300]} / {str(b)[:300]}"
            )
        for key in sorted(missing)[:1]:
            example += f"; missing {str(expected[key])[:300]}"
        for key in sorted(more)[:1]:
            example += f"; more {str(got[key])[:300]}"
        account.wrong.append(f"{what}: {len(missing)} missing, {len(more)} more, {len(other)} other of {len(expected)}{example}")


def _lines(plant: House, kind: str) -> list[bytes]:
    return [value for _, value, _ in plant.cluster.host.call(lambda: messages(plant.cluster, f"hopwatch.{kind}.v1"))]


def _messages(plant: House, kind: str) -> list[Json]:
    return [json.loads(line) for line in _lines(plant, kind)]


def _bare(event: Json) -> Json:
    return {name: value for name, value in event.items() if name not in OWN}


def _counted(event: Json) -> Json:
    """What the store keeps as it came; accounts of persons it does not."""
    return {
        name: event.get(name) for name in ("kind", "agent", "flow_id", "sequence", "start", "end", "rows", "messages", "values", "bytes")
    }


def _word(finding: Finding) -> Json:
    return finding.model_dump(exclude={"event_id"})


def _sensed(plant: House, name: str) -> list[bytes]:
    """The events of one sensor that was never killed, over the whole capture."""
    sensor = packets.sensor(name, f"tap-{name}", tap=TAP)
    return [line for batch in packets.from_files(sensor, [str(plant.capture)]) for line in batch]


def _found(plant: House, name: str) -> dict[str, Json]:
    """What the embedded run finds in the same capture: the last word of each finding."""
    said = ["watch", "-d", str(plant.declaration(name)), "--approvers", str(plant.approvers), "-r", str(plant.capture), "--json"]
    # As the detectors are told: questions hear of heartbeats besides, which a capture has none of.
    said += ["--store", "none", "--agent", f"tap-{name}", "--tap", TAP, "--no-questions"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HOPWATCH_")}
    done = subprocess.run([sys.executable, "-m", "hopwatch.cli", *said], capture_output=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode in (0, 1), done.stderr.decode(errors="replace")
    found = (parse(line) for line in done.stdout.splitlines() if b'"kind":"finding"' in line)
    return {finding.finding_id: _word(finding) for finding in found if isinstance(finding, Finding)}


def _judged(plant: House, name: str, lines: list[bytes]) -> tuple[Json, Json, Json]:
    """What one run in one process says of each window and remembers at its end, and what the detectors left in the database."""
    architecture = load(plant.declaration(name), approvers=plant.approvers)
    edition = edition_name(hashlib.sha256(plant.declaration(name).read_bytes()).hexdigest(), None)
    judge: Judge[Any] = Judge(verdict_detectors(None, architecture, edition))
    events: list[Event] = [event for event in map(parse, lines) if isinstance(event, Flow | Loss | Heartbeat)]
    said = {
        one.flow.event_id: (one.verdict, one.hop, one.finding and one.finding.finding_id)
        for one in judge.judge(events)
        if isinstance(one, Judgement)
    }
    key = key_file(plant.folder / "key")
    progress = Progress(plant.postgres, "hopwatch-detect", key, Hiding(key))
    left = Judge[Any](verdict_detectors(None, architecture, edition)).engine
    try:
        for number in range(PARTITIONS):
            memory = progress.claim(number, "comparison").memories.get(name)
            if memory is not None:
                left.restore(memory.snapshot)
                for changes in memory.changes:
                    left.merge(changes)
    finally:
        progress.close()
    return said, _unordered(judge.engine), _unordered(left)


def _unordered(engine: Engine) -> Json:
    """What the judge of windows remembers. Tables are kept in the order of their last use, and windows that end at one moment have
    none; what they hold is compared."""
    (state,) = (detector.state() for detector in engine.detectors if detector.name == "verdict")
    return {
        name: dict(table) if isinstance(table, list) and all(isinstance(row, list) and len(row) == 2 for row in table) else table
        for name, table in json.loads(json.dumps(state)).items()
        if name != "alive"  # Agents go on to live after the last packet; a capture does not.
    }


def main() -> int:
    """`make fault SEED=n DURATION_S=n BROKERS=n`."""
    seed = int(os.environ.get("SEED") or time.time())
    print(f"seed {seed}", file=sys.stderr, flush=True)
    account = run(seed, float(os.environ.get("DURATION_S") or 90), brokers=int(os.environ.get("BROKERS") or 1))
    print(account)
    return 1 if account.wrong else 0

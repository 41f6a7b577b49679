"""One scenario: its attack must be alerted with the right cause, its twin must be silent.

The tape goes through `hopwatch watch -r`, as anyone's capture would. An alert is a finding of ``medium`` or above; an
attack is found where one of them has the verdict and the cause line that the scenario expects. What was gone before the alert
are the story's windows up to the one that alerted, that one included.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.detection.restamp import play
from benchmarks.detection.scenarios.stage import DECLARATION, Stage, Tape
from examples.plant.watched import WatchError, replay
from hopwatch.events import time_ns

Json = dict[str, Any]  # Any: one JSON object

ALERTS: Final = ("medium", "high", "critical")
COUNTED: Final = ("rows", "values", "messages", "bytes")
TICKET: Final = re.compile(r"\bCHG-\d+")
# What a client counts exactly; a dump program reads more than it writes, and of what cannot be read there is nothing to compare.
COMPARED: Final = {"postgresql": ("rows",), "mqtt": ("messages",), "opcua": ("values",), "tls": ("bytes",), "unread": ()}


@dataclass(frozen=True, slots=True)
class Expected:
    """The finding that must be there: its verdict, and a difference with this question whose line matches ``says``.

    An ``immediate`` one must come with the first window of the part of the story that it is about.
    """

    verdict: str
    question: str
    says: str
    immediate: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """Both sides, and what the attack must be called: every line of it must be said, the first is the one that is timed."""

    name: str
    title: str
    attack: Callable[[Stage], Tape]
    twin: Callable[[Stage], Tape]
    expected: tuple[Expected, ...]
    attacked: str = ""
    """The attack in words."""

    benign: str = ""
    """The twin in words."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A finding when it was first said: its cause line, and when the window or the moment was over that showed it."""

    verdict: str
    severity: str
    cause: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The alert that names an expected cause, how long after the beginning of its part of the story, and what was gone by then."""

    alert: Alert
    soon_s: float
    gone_windows: int
    gone: dict[str, int]


@dataclass(slots=True)
class Side:
    """What was said of one side."""

    tape: Tape
    findings: list[Json]
    flows: list[Json]
    errors: list[str]

    def windows(self) -> list[Json]:
        """The story's own windows that carried data, in the order of their ends."""
        own = [flow for flow in self.flows if any(part.first_ns <= time_ns(flow["start"]) <= part.last_ns for part in self.tape.parts)]
        carried = [flow for flow in own if flow["operation"] not in ("connect", "refused", "attempt", "query")]
        return sorted(carried, key=lambda flow: time_ns(flow["end"]))

    def alerts(self) -> list[Alert]:
        """Every finding's first saying of each cause, as an alert."""
        ends = {flow["event_id"]: time_ns(flow["end"]) for flow in self.flows}
        told: dict[tuple[str, str], Alert] = {}
        for finding in self.findings:
            if finding["severity"] not in ALERTS:
                continue
            shown = finding["evidence"][-1] if finding["evidence"] else ""
            at_ns = ends.get(shown, time_ns(finding["last_seen"]))
            for one in finding["differences"] or [{"question": "", "declared": "", "observed": ""}]:
                cause = f"{one['question']}: {one['declared']} -> {one['observed']}"
                told.setdefault((finding["finding_id"], cause), Alert(finding["verdict"], finding["severity"], cause, at_ns))
        return sorted(told.values(), key=lambda alert: alert.at_ns)

    def unexplained(self) -> list[Alert]:
        """Alerts that show no ticket: what a twin must not have."""
        return [alert for alert in self.alerts() if not TICKET.search(alert.cause)]

    def differing(self) -> list[str]:
        """Where the windows hold something else than the clients counted, part by part."""
        found = []
        windows = self.windows()
        for part in self.tape.parts:
            compared = {name for entry in part.entries for name in COMPARED[entry.protocol]}
            truth, seen = dict.fromkeys(sorted(compared), 0), dict.fromkeys(sorted(compared), 0)
            for entry in part.entries:
                amounts = {"rows": entry.rows, "values": entry.values, "messages": entry.messages, "bytes": entry.sent + entry.received}
                for name in COMPARED[entry.protocol]:
                    truth[name] += amounts[name]
            protocols = {entry.protocol for entry in part.entries}
            for flow in windows:
                if part.first_ns <= time_ns(flow["start"]) <= part.last_ns and flow["protocol"] in protocols:
                    for name in COMPARED[flow["protocol"]]:
                        seen[name] += flow[name] + (flow["bytes_back"] if name == "bytes" else 0)
            if truth != seen:
                found.append(f"the clients counted {_short(truth)}, the windows {_short(seen)}")
        return found


@dataclass(slots=True)
class Outcome:
    """A played scenario, judged."""

    scenario: Scenario
    attack: Side
    twin: Side
    answers: list[Answer] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """The attack was alerted with every cause it has."""
        return len(self.answers) == len(self.scenario.expected)

    @property
    def silent(self) -> bool:
        """The twin was."""
        return not self.twin.unexplained()


def play_scenario(scenario: Scenario, stage: Stage, declaration: Path = DECLARATION) -> Outcome:
    """Both sides on the stage, both tapes through `hopwatch watch`, and what is to be said of them."""
    attack = watched(scenario.attack(stage), stage.folder / f"{scenario.name}-attack", declaration)
    twin = watched(scenario.twin(stage), stage.folder / f"{scenario.name}-twin", declaration)
    outcome = judged(scenario, attack, twin)
    said = json.dumps([[side.findings, side.flows, side.errors] for side in (attack, twin)])
    outcome.misses += [f"the secret of {name} is in an event" for name, secret in stage.plant.passwords.items() if secret in said]
    return outcome


def watched(tape: Tape, folder: Path, declaration: Path) -> Side:
    """What `hopwatch watch -r` says of a tape."""
    folder.mkdir(exist_ok=True)
    capture = folder / "tape.pcap"
    play(tape.played, capture)
    watch, code = replay([capture], declaration, None)
    capture.unlink()
    if code not in (0, 1):
        raise WatchError(f"hopwatch watch ended with {code}: {' '.join(watch.errors[-3:]) or 'no message'}")
    return Side(tape, [event for _, event in watch.of("finding")], [event for _, event in watch.of("flow")], watch.errors)


def judged(scenario: Scenario, attack: Side, twin: Side) -> Outcome:
    """Which alert names the cause, how soon it came, and what was gone until then."""
    outcome = Outcome(scenario, attack, twin)
    alerts = attack.alerts()
    for wanted in scenario.expected:
        alert = _first(alerts, wanted, min(part.first_ns for part in attack.tape.parts))
        if alert is None:
            outcome.misses.append(f"no alert {wanted.verdict} with {wanted.question}: {wanted.says}")
            continue
        # Where each part must alert at once, it is timed by itself: the one that began last before the alert is what that is about.
        began = [part.first_ns for part in attack.tape.parts if part.first_ns <= alert.at_ns]
        began_ns = max(began) if wanted.immediate else min(began)
        gone = [flow for flow in attack.windows() if time_ns(flow["start"]) >= began_ns and time_ns(flow["end"]) <= alert.at_ns]
        outcome.answers.append(
            Answer(alert, (alert.at_ns - began_ns) / 1e9, len(gone), {name: sum(flow[name] for flow in gone) for name in COUNTED})
        )
        if wanted.immediate and len(gone) > 1:
            outcome.misses.append(f"{wanted.verdict}: {len(gone)} windows gone before the alert, expected one")
    outcome.misses += [f"twin: {alert.severity} {alert.verdict}, {alert.cause}" for alert in twin.unexplained()]
    for name, side in (("attack", attack), ("twin", twin)):
        outcome.misses += [f"{name}: {said}" for said in side.differing()]
    return outcome


def _first(alerts: Sequence[Alert], wanted: Expected, began_ns: int) -> Alert | None:
    for alert in alerts:
        if alert.at_ns >= began_ns and alert.verdict == wanted.verdict:
            question, _, line = alert.cause.partition(": ")
            if question == wanted.question and re.search(wanted.says, line):
                return alert
    return None


def _short(amounts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in amounts.items() if count) or "nothing"

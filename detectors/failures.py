"""Who tries doors: refused logins and refused objects of an account, a job that is set up wrongly apart from one that probes.

Asks: is an account, or a host without one, refused more often, or on more different things, than a misconfigured job is? Sees:
``refused`` windows of every protocol (wrong password, 42501, Bad_UserAccessDenied, MQTT refusals) and the objects they name.

Blind to: refusals inside encrypted sessions without a server log. Raised wrongly by: a role whose rights were withdrawn from a
broad report.
What to do: three objects again and again is a ticket for the owner; hundreds of different ones, or many accounts from one host,
is somebody who looks for what is open: take the host off the conduit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from msgspec import to_builtins

from detectors.budget import digest
from detectors.cases import Cases
from detectors.memory import Memory
from detectors.moved import Moved, Question
from detectors.units import HOUR_NS
from hopwatch.events import Declaration, Finding, Severity

PROBED_MIN: Final = 20
"""Different objects, or accounts, refused to one host within an hour: nobody misconfigures so many."""

REPEATED_MIN: Final = 50
"""Refusals of few things within an hour: a job that goes on and on."""

PROBED_MAX: Final = 1_024
"""Different things of one host told apart; beyond it, it probes in any case."""


@dataclass(slots=True)
class Refused:
    """One host within one hour: how often, and which things (hashes of objects and accounts)."""

    since_ns: int = 0
    times: int = 0
    things: dict[str, None] = field(default_factory=dict)
    told: str = ""


class Failures(Question):
    """Refusals by client and server."""

    name: ClassVar[str] = "failures"
    by_client: ClassVar[bool] = False

    def __init__(self, quoted: Declaration) -> None:
        self._cases = Cases(quoted)
        self._refused: Memory[Refused] = Memory(Refused, to_builtins, lambda said: Refused(**said))

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """The hosts that were refused and the open findings."""
        return {"refused": self._refused, "cases": self._cases.memory}

    def concerns(self, moved: Moved) -> bool:
        """What was refused."""
        return moved.flow.operation == "refused"

    def look(self, moved: Moved) -> Sequence[Finding]:
        """A finding when an hour's refusals become many, and another when they become many different ones."""
        flow = moved.flow
        refused = self._refused.of(f"{moved.client.shown}|{moved.server.shown}")
        if moved.start_ns - refused.since_ns >= HOUR_NS:
            refused.since_ns, refused.times, refused.things, refused.told = moved.start_ns, 0, {}, ""
        refused.times += max(1, moved.messages)
        names = [name for part in flow.objects for name in part.names]
        for thing in (*names, f"account:{moved.account}"):
            if len(refused.things) < PROBED_MAX:
                refused.things[digest(thing)] = None
        kind = "probing" if len(refused.things) >= PROBED_MIN else "repeated-refusals" if refused.times >= REPEATED_MIN else ""
        if not kind or kind == refused.told:
            return ()
        refused.told = kind
        severity: Severity = "high" if kind == "probing" else "low"
        seen = f"{refused.times} refusals of {len(refused.things)} different things within an hour"
        return (
            self._cases.say(
                kind, severity, plant=flow.plant, who=moved.account, source=moved.client.shown, destination=moved.server.shown,
                first_ns=refused.since_ns, last_ns=moved.end_ns, differences=[("who", "what it may", seen)], moved=moved, hop=moved.hop,
            ),
        )  # fmt: skip

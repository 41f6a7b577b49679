"""The clock: are the times of an agent those of everybody else?

Asks: does an agent's clock run beside the broker's, which stamps every message as it comes in, or beside that of another agent that
sees the same connection? Sees: the times of heartbeats and windows, when the broker received them, what a heartbeat says of its own
clock, and when two agents saw a connection begin.

A time ahead of its reception cannot be: two such events are a clock ahead. A time behind it is a clock behind, or a message that
waited; what waits does so for ever less time as a spool empties, so heartbeats that are all late by the same amount are a clock.
The shortest delay seen is the best measure of the difference.

Blind to: differences under SKEW_S; a clock behind for the first half minute; where no broker stamps messages, an agent that shares no
connection with another.
Raised wrongly by: a link that delays everything by the same time for as long (the words leave that open); a broker whose own clock is
wrong, which shows as every agent being off by the same.
What to do: look at the agent's time source (chrony, ntpd, PTP) and at the broker's. What is known to be off is put right before
schedules are asked (``Clocks``), so that a wrong clock raises nothing but this; times in findings stay the agent's.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from detectors.units import SECOND_NS
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Difference, Event, Finding, Flow, Heartbeat, Loss, time_ns

SKEW_S: Final = 10
"""A clock is wrong from here on; schedules are told to the minute."""

AHEAD_EVENTS: Final = 2
"""Events ahead of their reception in a row: one may be a packet with a broken stamp."""

STEADY_BEATS: Final = 4
"""Heartbeats that are late alike before a clock is said to be behind: half a minute of them."""

STEADY_NS: Final = 3 * SECOND_NS
"""What is late alike differs by no more."""

BEATS_NS_MIN: Final = 20 * SECOND_NS
"""And came over no less time: what comes at once has waited."""

AGENTS_MAX: Final = 4_096
"""Agents told apart; the one heard of longest ago is forgotten."""

CONNECTIONS_MAX: Final = 8_192
"""Connections whose beginning is remembered, the latest of them."""

PAIR_CONNECTIONS: Final = 3
"""Connections on which two agents must differ alike."""

PAIRS_MAX: Final = 4_096
"""Pairs of agents told apart; the one heard of longest ago is forgotten."""

_SKEW_NS: Final = SKEW_S * SECOND_NS


class Clocks:
    """By how much agents' clocks are known to be off; what puts times right shares it with what finds out."""

    def __init__(self) -> None:
        self.ahead_ns: dict[str, int] = {}

    def right(self, agent: str, at_ns: int) -> int:
        """The time as it would be by a clock that is right."""
        return at_ns - self.ahead_ns[agent] if agent in self.ahead_ns else at_ns


@dataclass(slots=True)
class _Agent:
    """What is known of one agent's clock. A lead is how far an event's time lies before its reception; negative is late."""

    beats: list[tuple[int, int]] = field(default_factory=list)
    """Reception and lead of the last heartbeats."""

    early: int = 0
    lead_ns: int = 0
    said_ns: int = 0
    windows: int = 0
    first_seen: str = ""
    evidence: list[str] = field(default_factory=list)


class ClockDetector:
    """Holds agents' times against the broker's and one another's. ``clocks`` is told what is found."""

    name = "clock"

    def __init__(self, architecture: Architecture, clocks: Clocks | None = None) -> None:
        self._plant = architecture.plant
        said = architecture.declaration
        self._declaration = Declaration(plant=said.plant, version=said.version, commit=said.commit, signed=said.signed)
        self._clocks = clocks or Clocks()
        self._received_ns = 0
        self._agents: OrderedDict[str, _Agent] = OrderedDict()
        self._begun: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._begun_since: dict[str, None] = {}
        """The connections whose beginning is news to whoever asks for changes, in the order of the table."""

        self._pairs: OrderedDict[str, list[int]] = OrderedDict()
        self._changed = True
        self.forgotten_total = 0

    def received(self, at_ns: int) -> None:
        """The broker received what comes next at this time."""
        self._received_ns = at_ns

    def observe(self, event: Event) -> list[Finding]:
        """A finding when a clock is first seen to be off, and when it is off by SKEW_S more or less than was said."""
        if not isinstance(event, Flow | Heartbeat) or event.plant != self._plant:
            return []
        found: list[Finding] = []
        if isinstance(event, Heartbeat):
            if event.clock is not None and abs(off_s := event.clock.offset_s) >= SKEW_S:
                # Which way it is off is not agreed on among those who tell it, so nothing is put right by it.
                found += self._say(event, int(off_s * SECOND_NS), f"its own word: off by {abs(off_s):.0f} s", right=False)
            if self._received_ns:
                found += self._beat(event, time_ns(event.time))
        else:
            if self._received_ns and event.end_ns - self._received_ns >= _SKEW_NS:
                found += self._early(event, event.end_ns - self._received_ns)
            if event.sequence == 0:
                found += self._begins(event)
        return found

    def advance(self, now_ns: int) -> list[Finding]:
        """Nothing here waits for time to pass."""
        return []

    def blind(self, loss: Loss) -> None:
        """A loss says nothing of a clock: nothing is concluded from what did not come."""

    # Against the broker

    def _beat(self, beat: Heartbeat, at_ns: int) -> list[Finding]:
        lead_ns = at_ns - self._received_ns
        agent = self._of(beat.agent)
        if lead_ns >= _SKEW_NS:
            return self._early(beat, lead_ns)
        agent.early = 0
        if agent.beats and at_ns == sum(agent.beats[-1]):
            return []  # A repeated one.
        if agent.beats and at_ns < sum(agent.beats[-1]):
            # The clock was set back, or old ones come again; those come at once, and are late by more and more of one another's time.
            agent.beats = []
        agent.beats = [*agent.beats, (self._received_ns, lead_ns)][-STEADY_BEATS:]
        self._changed = True
        leads = [lead for _, lead in agent.beats]
        steady = len(leads) == STEADY_BEATS and max(leads) - min(leads) <= STEADY_NS
        if not steady or agent.beats[-1][0] - agent.beats[0][0] < BEATS_NS_MIN:
            return []
        best_ns = max(leads)
        if best_ns <= -_SKEW_NS:
            return self._say(beat, best_ns, f"{-best_ns / SECOND_NS:.0f} s behind the broker's, or all it says is that late")
        if beat.agent in self._clocks.ahead_ns or agent.said_ns:
            self._clocks.ahead_ns.pop(beat.agent, None)
            agent.said_ns = agent.lead_ns = 0
        return []

    def _early(self, event: Flow | Heartbeat, lead_ns: int) -> list[Finding]:
        agent = self._of(event.agent)
        self._changed = True
        agent.early += 1
        agent.lead_ns = max(agent.lead_ns, lead_ns) if agent.early > 1 else lead_ns
        agent.beats.clear()
        if agent.early < AHEAD_EVENTS:
            return []
        return self._say(event, agent.lead_ns, f"{agent.lead_ns / SECOND_NS:.0f} s ahead of the broker's")

    def _say(self, event: Flow | Heartbeat, ahead_ns: int, observed: str, *, right: bool = True) -> list[Finding]:
        agent = self._of(event.agent)
        if right and abs(self._clocks.ahead_ns.get(event.agent, 0) - ahead_ns) > STEADY_NS:
            self._clocks.ahead_ns[event.agent] = ahead_ns
            self._changed = True
        if agent.said_ns and abs(agent.said_ns - ahead_ns) < _SKEW_NS:
            return []
        agent.said_ns = ahead_ns
        agent.windows += 1
        agent.first_seen = agent.first_seen or _time(event)
        agent.evidence = [*agent.evidence, event.event_id][-16:]
        self._changed = True
        said = Difference(question="when", declared=f"a clock right within {SKEW_S} s", observed=observed)
        return [self._finding(event, [event.agent], said, agent)]

    # Against another agent

    def _begins(self, flow: Flow) -> list[Finding]:
        """Two agents that saw the same connection begin saw it at one time."""
        if flow.completeness.joined_late:
            return []
        key = f"{flow.connection}/{flow.operation}/{flow.source.address}"
        begun = self._begun.get(key)
        if begun is None:
            begun = self._begun[key] = {}
            # One that was forgotten stands at the end now.
            self._begun_since.pop(key, None)
        elif flow.agent in begun:
            return []
        at_ns = self._clocks.right(flow.agent, flow.start_ns)
        self._changed = True
        self._begun_since[key] = None
        found: list[Finding] = []
        for other, other_ns in begun.items():
            if abs(at_ns - other_ns) >= _SKEW_NS:
                found += self._differ(flow, other, at_ns - other_ns)
        begun[flow.agent] = at_ns
        if len(begun) > 8:
            del begun[next(iter(begun))]
        if len(self._begun) > CONNECTIONS_MAX:
            forgotten, _ = self._begun.popitem(last=False)
            self._begun_since.pop(forgotten, None)
        return found

    def _differ(self, flow: Flow, other: str, apart_ns: int) -> list[Finding]:
        first, second = sorted((flow.agent, other))
        apart_ns = apart_ns if first == other else -apart_ns
        pair = f"{first}\n{second}"
        seen = [*self._pairs.pop(pair, []), apart_ns][-PAIR_CONNECTIONS:]
        self._pairs[pair] = seen
        if len(self._pairs) > PAIRS_MAX:
            self._pairs.popitem(last=False)
            self.forgotten_total += 1
        if len(seen) < PAIR_CONNECTIONS or max(seen) - min(seen) > STEADY_NS:
            return []
        agent = self._of(pair)
        if agent.said_ns and abs(agent.said_ns - apart_ns) < _SKEW_NS:
            return []
        agent.said_ns = apart_ns
        agent.windows += 1
        agent.first_seen = agent.first_seen or flow.start
        agent.evidence = [*agent.evidence, flow.event_id][-16:]
        observed = f"{second} is {abs(apart_ns) / SECOND_NS:.0f} s {'ahead of' if apart_ns > 0 else 'behind'} {first}"
        said = Difference(question="when", declared=f"agents within {SKEW_S} s of one another", observed=observed)
        return [self._finding(flow, [first, second], said, agent)]

    # What is remembered

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything remembered."""
        return self._few() | {"begun": list(self._begun.items())}

    def _few(self) -> dict[str, Any]:  # Any: JSON values
        """Everything but the connections, of which there are many."""
        return {
            "received_ns": self._received_ns,
            "agents": [
                [name, one.beats, one.early, one.lead_ns, one.said_ns, one.windows, one.first_seen, one.evidence]
                for name, one in self._agents.items()
            ],
            "pairs": list(self._pairs.items()),
            "ahead_ns": dict(self._clocks.ahead_ns),
        }

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Go on where ``state`` was taken."""
        self._received_ns = int(state["received_ns"])
        self._agents = OrderedDict((name, _Agent([(at, lead) for at, lead in beats], *rest)) for name, beats, *rest in state["agents"])
        if "begun" in state:
            self._begun = OrderedDict((key, dict(begun)) for key, begun in state["begun"])
            self._begun_since = dict.fromkeys(self._begun)
        self._pairs = OrderedDict((pair, list(apart)) for pair, apart in state["pairs"])
        self._clocks.ahead_ns.clear()
        self._clocks.ahead_ns.update(state["ahead_ns"])

    def changes(self) -> dict[str, Any]:  # Any: JSON values
        """What changed since the last call: of the connections those that began, of the rest, which is little, everything."""
        changed, self._changed = self._changed, False
        since, self._begun_since = self._begun_since, {}
        return self._few() | {"begun_since": [(key, self._begun[key]) for key in since]} if changed else {}

    def merge(self, changes: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave, of an earlier version too, which said everything."""
        if not changes:
            return
        self.restore(changes)
        for key, begun in changes.get("begun_since", ()):
            self._begun[key] = dict(begun)
            if len(self._begun) > CONNECTIONS_MAX:
                self._begun.popitem(last=False)

    def _of(self, agent: str) -> _Agent:
        found = self._agents.setdefault(agent, _Agent())
        self._agents.move_to_end(agent)
        if len(self._agents) > AGENTS_MAX:
            forgotten, _ = self._agents.popitem(last=False)
            self._clocks.ahead_ns.pop(forgotten, None)
            self.forgotten_total += 1
        return found

    def _finding(self, event: Flow | Heartbeat, agents: Sequence[str], said: Difference, about: _Agent) -> Finding:
        identity = "F-" + blake2b("/".join((self._plant, "clock", *agents)).encode(), digest_size=8).hexdigest()
        return Finding(
            event_id=blake2b(f"{identity}/{event.event_id}".encode(), digest_size=16).hexdigest(),
            finding_id=identity,
            verdict="clock",
            severity="medium",
            plant=self._plant,
            first_seen=about.first_seen,
            last_seen=_time(event),
            windows=about.windows,
            source=agents[0],
            destination=agents[-1],
            differences=[said],
            declaration=self._declaration,
            evidence=list(about.evidence),
        )


def _time(event: Flow | Heartbeat) -> str:
    return event.end if isinstance(event, Flow) else event.time

"""What is not seen: agents that fell silent, hops without traffic, intervals that were lost, encryption that hides what was
promised.

Asks: does every conduit have a living agent, does each agent see what it should, and is each conduit read as deep as it
promises? An agent that stops is ``agent-silent`` at once; a conduit whose agent was never heard of, or not for a day, is
``unwatched``. Sees: heartbeats, losses, and the depth of every window. Explains itself by the agent or conduit, since when, and how
much.

Blind to: an agent that lives and lies; one that was never heard to beat, such as a capture that is read, is not expected to.
Raised wrongly by: a maintenance nobody announced; a hop that is used once a year.
What to do: look at the agent and its tap first; nothing else that hopwatch says of that conduit can be relied on until it is
back.

Absence is only concluded from time that was watched: an interval that a loss covers, or in which the agent was silent, says
nothing about a hop. Time is that of the events, so it stands still when every agent is silent; whoever runs the detectors moves
it on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from msgspec import to_builtins

from detectors.cases import Cases
from detectors.memory import Held, Memory
from detectors.moved import Look, Moved, Question
from detectors.units import DAY_NS, MINUTE_NS, SECOND_NS
from hopwatch.declared.model import Architecture, Hop
from hopwatch.events import Declaration, Finding, Heartbeat, Loss, time_ns

AGENT_QUIET_S: Final = 45
"""Seconds without heartbeat or window after which an agent is silent: four heartbeats and a half."""

UNWATCHED_NS: Final = DAY_NS
"""How long nothing may be heard of a conduit's agent before the conduit counts as unwatched."""

UNSEEN_DAYS: Final = 30
"""Days without use after which a hop is unseen."""

LOSS_SHARE_MAX: Final = 0.01
"""Lost bytes of an agent in a day, as a share of what it saw."""

BLIND_SHARE_MAX: Final = 0.10
"""Bytes of a conduit in a day that were seen less deep than it promises."""

BYTES_MIN: Final = 1 << 20
"""Less in a day has no share worth a finding."""

LOOK_NS: Final = MINUTE_NS
"""How often hops are looked at: what takes thirty days to show needs no second."""

AGENTS_MAX: Final = 4_096
_DEPTHS: Final = {"blind": 0, "sizes": 1, "server-log": 2, "decoded": 3}


@dataclass(slots=True)
class Life:
    """One agent: its last word, and what it saw and lost on the day of that word."""

    last_ns: int = 0
    day: int = 0
    seen_bytes: int = 0
    lost_bytes: int = 0
    lost_packets: int = 0
    told: bool = False
    beats: bool = False


@dataclass(slots=True)
class Depth:
    """One conduit on one day: its bytes, and those of them seen less deep than promised."""

    day: int = 0
    bytes: int = 0
    shallow: int = 0


@dataclass(slots=True)
class Use:
    """One hop: when it was last used, and how long it has been watched without being used."""

    last_ns: int = 0
    watched_ns: int = 0
    told: bool = False


@dataclass(slots=True)
class _Heard:
    """What is asked of windows that one agent says of one pair of zones, and of one hop."""

    silence: "Silence"
    life: Held[Life]
    use: Held[Use] | None
    depth: Held[Depth] | None
    shallow: bool
    """It was seen less deep than the conduit promises."""

    until_ns: int = 0
    """The days of agent and conduit that are under way go on until then."""

    def look(self, moved: Moved) -> Sequence[Finding]:
        """Nothing is wrong about what is seen, but it may be seen too shallow."""
        silence, agent, hop, conduit = self.silence, self.life, self.use, self.depth
        at_ns, amount = moved.start_ns, moved.bytes + moved.bytes_back
        found: Sequence[Finding] = ()
        if at_ns >= self.until_ns or agent.turn != silence.agents.turn or (conduit is not None and conduit.turn != silence.conduits.turn):
            found = silence.new_day(self, at_ns)
        life = agent.entry
        life.seen_bytes += amount
        life.told = False
        if at_ns > life.last_ns:
            life.last_ns = at_ns
        if hop is not None:
            use = hop.entry if hop.turn == silence.hops.turn else silence.hops.again(hop)
            use.watched_ns, use.told = 0, False
            if at_ns > use.last_ns:
                use.last_ns = at_ns
        if conduit is not None:
            depth = conduit.entry
            depth.bytes += amount
            if self.shallow:
                depth.shallow += amount
        return found


class Silence(Question):
    """What every agent, conduit and hop was last heard of."""

    name: ClassVar[str] = "silence"
    by_client: ClassVar[bool] = False

    def __init__(self, architecture: Architecture, quoted: Declaration) -> None:
        self._architecture = architecture
        self._cases = Cases(quoted)
        self.agents: Memory[Life] = Memory(Life, to_builtins, lambda said: Life(**said), AGENTS_MAX)
        self.conduits: Memory[Depth] = Memory(Depth, to_builtins, lambda said: Depth(**said))
        self.hops: Memory[Use] = Memory(Use, to_builtins, lambda said: Use(**said))
        self._clock: Memory[list[int]] = Memory(lambda: [0], list, list, 2)
        self._unheard: Memory[list[int]] = Memory(lambda: [0], list, list)
        """By place, when it was said last that nobody watches it."""
        watched = {line.agent for line in architecture.conduits.values()}
        inside = {f"hop {name}": hop.agent for name, hop in architecture.hops.items() if hop.agent is not None}
        self._places = {f"conduit {name}": line.agent for name, line in architecture.conduits.items()} | inside
        self._watched = sorted(watched | {hop.agent for hop in architecture.hops.values() if hop.agent is not None})
        self._zones: dict[tuple[str | None, str | None], str] = {
            (one, other): name for name, line in architecture.conduits.items() for one in line.from_ for other in line.to
        }

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """What was last heard, and the open findings."""
        return {
            "agents": self.agents,
            "conduits": self.conduits,
            "hops": self.hops,
            "unheard": self._unheard,
            "clock": self._clock,
            "cases": self._cases.memory,
        }

    def asked(self, moved: Moved) -> Look:
        """Who says it, of which hop and through which conduit."""
        zones = moved.source.zone, moved.destination.zone
        conduit = self._zones.get(zones) or self._zones.get(zones[::-1])
        use = None if moved.hop is None or moved.verdict == "expired" else self.hops.hold(moved.hop)
        depth = None if conduit is None else self.conduits.hold(conduit)
        promised = 0 if conduit is None else _DEPTHS[self._architecture.conduits[conduit].sees]
        shallow = _DEPTHS[moved.flow.depth] < promised
        return _Heard(self, self.agents.hold(moved.flow.agent), use, depth, shallow).look

    def new_day(self, heard: _Heard, at_ns: int) -> Sequence[Finding]:
        """What the days show that are over at this time."""
        agent, conduit = heard.life, heard.depth
        life = agent.entry if agent.turn == self.agents.turn else self.agents.again(agent)
        found, last_day = self._day(agent.key, life, at_ns // DAY_NS, at_ns), life.day
        if conduit is not None:
            depth = conduit.entry if conduit.turn == self.conduits.turn else self.conduits.again(conduit)
            found = [*found, *self._deep(conduit.key, depth, at_ns // DAY_NS, at_ns)]
            last_day = min(last_day, depth.day)
        heard.until_ns = (last_day + 1) * DAY_NS
        return found

    def lives(self, heartbeat: Heartbeat) -> Sequence[Finding]:
        """The agent is back, if it was silent."""
        life = self.agents.of(heartbeat.agent)
        at_ns = time_ns(heartbeat.time)
        found = self._day(heartbeat.agent, life, at_ns // DAY_NS, at_ns)
        life.beats, life.told = True, False
        life.last_ns = max(life.last_ns, at_ns)
        return found

    def blind(self, loss: Loss) -> None:
        """Count it with the agent; the day's end says whether it was much."""
        life = self.agents.of(loss.agent)
        life.lost_bytes += loss.bytes
        life.lost_packets += loss.packets

    def advance(self, now_ns: int) -> Sequence[Finding]:
        """Who has been silent for too long, and which hops are unseen although their agent watches."""
        passed_ns = self._passed_ns(now_ns)
        found = list(self._silent(now_ns))
        if passed_ns is None:
            return found
        for name, hop in self._architecture.hops.items():
            found += self._unused(name, hop, min(passed_ns, DAY_NS), now_ns)
        return [*found, *self._unwatched(now_ns)]

    def _passed_ns(self, now_ns: int) -> int | None:
        """Time since the hops were looked at; None if that is no ``LOOK_NS`` ago."""
        looked = self._clock.known("now")
        if looked is not None and now_ns - looked[0] < LOOK_NS:
            return None
        if self._clock.known("began") is None:
            self._clock.of("began")[0] = now_ns
        clock = self._clock.of("now")
        passed_ns, clock[0] = now_ns - clock[0] if clock[0] else 0, now_ns
        return passed_ns

    def _day(self, agent: str, life: Life, day: int, at_ns: int) -> Sequence[Finding]:
        """What the agent's day shows if it is over; another begins."""
        if day <= life.day:
            return ()
        found: Sequence[Finding] = ()
        lost = life.lost_bytes / max(1, life.lost_bytes + life.seen_bytes)
        if life.day and life.lost_bytes >= BYTES_MIN and lost > LOSS_SHARE_MAX:
            most, seen_lost = f"at most {LOSS_SHARE_MAX:.0%} of a day's bytes lost", f"{lost:.1%}: {life.lost_bytes} bytes"
            seen_lost += f", {life.lost_packets} packets"
            found = (self._said("loss", agent, life.day * DAY_NS, at_ns, "how_much", most, seen_lost),)
        life.day, life.seen_bytes, life.lost_bytes, life.lost_packets = day, 0, 0, 0
        return found

    def _silent(self, now_ns: int) -> Iterator[Finding]:
        for agent in self._watched:
            life = self.agents.known(agent)
            if life is None or not life.beats or life.told or now_ns - life.last_ns <= AGENT_QUIET_S * SECOND_NS:
                continue
            self.agents.of(agent).told = True
            quiet_s = (now_ns - life.last_ns) // 10**9
            yield self._said(
                "agent-silent", agent, life.last_ns, now_ns, "where", "a heartbeat every 10 s", f"none for {quiet_s} s", "high"
            )

    def _unwatched(self, now_ns: int) -> Iterator[Finding]:
        """Conduits whose agent has not been heard of, if it ever was: nothing that goes through them is seen."""
        began_ns = self._clock.of("began")[0]
        for place, agent in self._places.items():
            life = self.agents.known(agent)
            if life is not None and not life.beats:
                continue
            last_ns = began_ns if life is None else life.last_ns
            told = self._unheard.known(place)
            if now_ns - last_ns < UNWATCHED_NS or (told is not None and told[0] >= last_ns):
                continue
            self._unheard.of(place)[0] = now_ns
            heard = "never heard of" if life is None else "not heard of for a day"
            yield self._said("unwatched", place, last_ns, now_ns, "where", f"{place} is watched by {agent}", f"{agent} {heard}", "low")

    def _unused(self, name: str, hop: Hop, passed_ns: int, now_ns: int) -> Iterator[Finding]:
        """Only time in which the hop's agent lived counts as watched."""
        agent = self._architecture.conduits[hop.via].agent if hop.via is not None else hop.agent
        life = None if agent is None else self.agents.known(agent)
        if life is None or now_ns - life.last_ns > AGENT_QUIET_S * SECOND_NS:
            return
        use = self.hops.of(name)
        use.watched_ns += passed_ns
        if not use.told and use.watched_ns >= UNSEEN_DAYS * DAY_NS:
            use.told = True
            last = now_ns - use.watched_ns
            yield self._said(
                "unseen", name, last, now_ns, "how_much", f"{name}: {hop.why}", f"nothing in {UNSEEN_DAYS} watched days", "info", agent
            )

    def _deep(self, conduit: str, depth: Depth, day: int, at_ns: int) -> Sequence[Finding]:
        """What the conduit's day shows if it is over; another begins."""
        if day <= depth.day:
            return ()
        found: Sequence[Finding] = ()
        share = depth.shallow / max(1, depth.bytes)
        if depth.day and depth.shallow >= BYTES_MIN and share > BLIND_SHARE_MAX:
            declared = f"{conduit} sees {self._architecture.conduits[conduit].sees}"
            seen = f"{share:.0%} of {depth.bytes} bytes seen less deep"
            found = (self._said("shallow", conduit, depth.day * DAY_NS, at_ns, "what", declared, seen),)
        depth.day, depth.bytes, depth.shallow = day, 0, 0
        return found

    def _said(
        self,
        verdict: str,
        what: str,
        first_ns: int,
        last_ns: int,
        question: str,
        declared: str,
        seen: str,
        severity: Any = "medium",
        agent: str | None = None,
    ) -> Finding:  # Any: a literal
        return self._cases.say(
            verdict, severity, plant=self._architecture.plant, who=None, source=what, destination=what,
            first_ns=first_ns, last_ns=last_ns, differences=[(question, declared, seen)], agent=agent,
        )  # fmt: skip

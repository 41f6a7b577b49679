"""Where data went after it arrived: a leg into a host and a leg out of it, joined into the hop that nobody declared.

Asks: does what a host sends on, by time and volume, match data that it received and that this way out is not declared for?
Sees: bytes by class into every host, and bytes out of it, over any number of legs; the legs are named in the finding with how
sure the join is.

Blind to: data that rests longer than ``LOOKBACK_NS`` (``staging`` asks for hosts that gather it), that is packed to less than a
third, or that leaves by a way nobody watches. Raised wrongly by: two jobs of the same size within an hour on one host.
What to do: treat the legs as one movement; ask the owner of the account on the first of them what ran there.

What goes out on a declared hop is explained by what came in of the classes that the hop carries; only what is left over is
joined with other classes. A relay passes everything on at once, so its legs are joined within seconds, or called ambiguous if
two clients fit. Times of two agents may differ by their clocks' errors; the interval is widened by what their heartbeats say of
them.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Final

from msgspec import Struct, field, to_builtins

from detectors.cases import Cases
from detectors.judgement import QUIET, class_severity, severities_of
from detectors.memory import NO_TURN, Held, Memory
from detectors.moved import Look, Moved, Question
from detectors.units import HOUR_NS, MINUTE_NS, SECOND_NS
from hopwatch.declared.match import End, Index
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, Heartbeat, Observed, time_text

LOOKBACK_NS: Final = 2 * HOUR_NS
"""How long after a leg in a leg out is joined with it."""

RELAY_NS: Final = 5 * SECOND_NS
SLOT_NS: Final = MINUTE_NS
"""Legs are counted by the minute."""

LEGS_MAX: Final = 65_536
"""Ways into hosts remembered (host, chain and class); the one used longest ago is forgotten."""

UNCOUNTED_MAX: Final = 4_096
"""Ways whose amounts of a minute are summed apart; when there are more they are all counted."""

GROWN: Final = 1.05
"""What a host has sent is looked at again when it has become so much more, or a minute is over."""

CHAIN_MAX: Final = 8
"""Hosts a chain names; a longer one keeps its first and its last."""

BYTES_MIN: Final = 256 << 10
"""Less is joined with nothing: any two small movements have the same size."""

SMALLEST: Final = 0.3
LARGEST: Final = 1.5
"""The volume out, as a share of the volume in, within which the two may be the same data: packed, or wrapped."""

SAME: Final = 0.25
"""Volumes that differ by less than this share, within ``SOON_NS``, make a join ``high``."""

SOON_NS: Final = 15 * MINUTE_NS
UNREAD: Final = "unread data"
"""The class of what nobody could read or class."""

EXPLAINING: Final = ("declared", "declared-in-part", "blind")
"""Verdicts under which a hop explains what goes out on it."""

STAGED_SOURCES_MIN: Final = 3
"""Declared sources from which an undeclared host has gathered data before it is called a staging place."""

STAGED_BYTES_MIN: Final = 8 << 20


class Leg(Struct):
    """Bytes of one class into a host by the minute, as long as they can be joined; ``chain``: the hosts they came through, in order."""

    chain: list[str] = field(default_factory=list)
    class_: str = ""
    minutes: list[list[int]] = field(default_factory=list)
    bytes: int = 0
    """In all of the minutes."""

    def add(self, slot: int, amount: int) -> None:
        """Count bytes; minutes that are too old are let go."""
        minutes = self.minutes
        if minutes and minutes[-1][0] >= slot:
            minutes[-1][1] += amount
            self.bytes += amount
        else:
            self.bytes += _begin(minutes, slot, amount)

    def since(self, slot: int) -> int:
        """Bytes from this minute on."""
        if not self.minutes or slot <= self.minutes[0][0]:
            return self.bytes
        return sum(amount for at, amount in self.minutes if at >= slot)


class Sent(Struct):
    """What one host sent to another by the minute, when that was looked at, and the legs it goes on with."""

    minutes: list[list[int]] = field(default_factory=list)
    bytes: int = 0
    looked_slot: int = 0
    looked_bytes: int = 0
    passed: list[str] = field(default_factory=list)

    def add(self, slot: int, amount: int) -> None:
        """As for a leg."""
        minutes = self.minutes
        if minutes and minutes[-1][0] >= slot:
            minutes[-1][1] += amount
            self.bytes += amount
        else:
            self.bytes += _begin(minutes, slot, amount)

    def is_due(self, slot: int) -> bool:
        """Whether it is time to look at it again; if so, it counts as looked at."""
        due = self.bytes >= BYTES_MIN and (slot != self.looked_slot or self.bytes >= GROWN * self.looked_bytes)
        if due:
            self.looked_slot, self.looked_bytes = slot, self.bytes
        return due


class Host(Struct):
    """Where a host gathers from."""

    sources: dict[str, int] = field(default_factory=dict)
    staged: bool = False


class _Way(Struct):
    """What is asked of windows that move data from one host to another. ``here`` and ``there`` are the hosts' names.

    Legs are counted by the minute: what moves within one is summed here, and counted when another minute begins or somebody asks.
    """

    lineage: "Lineage"
    source: End
    destination: End
    here: str
    there: str
    sent: Held[Sent]
    legs: list[tuple[str, Held[Leg]]]
    """The legs that begin here, one for each class that was read, with their class."""

    gathers: bool
    """Nobody declared that it may go there."""

    is_back: bool
    """What goes this way are a window's bytes back: of what could not be read, which goes both ways."""

    turn: int = NO_TURN
    """The turn of the legs that they were all asked for in."""

    uncounted: int = 0

    def look(self, moved: Moved) -> Sequence[Finding]:
        """What went this way, joined with what came in before; then it is a leg itself."""
        lineage, at_ns, amount = self.lineage, moved.start_ns, moved.bytes_back if self.is_back else moved.bytes
        if amount <= 0:
            return ()
        if not lineage.minute_ns <= at_ns < lineage.minute_end_ns:
            lineage.begin_minute(at_ns)
        if self.gathers or not self.legs or self.here in lineage.into:
            return lineage.went(moved, self, amount)
        if self.turn != lineage.legs.turn:
            lineage.hold(self)
        if not self.uncounted:
            if len(lineage.uncounted) >= UNCOUNTED_MAX:
                lineage.count()
            lineage.uncounted.append(self)
        self.uncounted += amount
        return ()


class Lineage(Question):
    """Legs of every host, by its asset or address."""

    name: ClassVar[str] = "lineage"

    def __init__(self, architecture: Architecture, quoted: Declaration, index: Index | None = None) -> None:
        self._architecture = architecture
        self._index = index or Index(architecture)
        self._cases = Cases(quoted, severities_of(architecture))
        self._hosts: Memory[Host] = Memory(Host, to_builtins, lambda said: Host(**said))
        self.legs: Memory[Leg] = Memory(Leg, _said_leg, lambda said: Leg(*said), LEGS_MAX, self._unlink)
        self._sent: Memory[Sent] = Memory(Sent, _said_sent, lambda said: Sent(*said))
        self.into: dict[str, dict[str, None]] = {}
        """The keys of the legs into each host."""

        self.minute_ns = self.minute_end_ns = 0
        self.uncounted: list[_Way] = []
        """Ways with what moved in this minute and is counted in no leg yet."""

        self._errors: Memory[list[float]] = Memory(lambda: [0.0], list, list)
        self._hop_classes = {name: frozenset(_classes(architecture, hop.what)) for name, hop in architecture.hops.items()}

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """Legs into hosts, what went out, hosts that gather, clock errors of agents, open findings."""
        return {"legs": self.legs, "sent": self._sent, "hosts": self._hosts, "errors": self._errors, "cases": self._cases.memory}

    def lives(self, heartbeat: Heartbeat) -> Sequence[Finding]:
        """How wrong the agent's clock may be."""
        if heartbeat.clock is not None:
            self._errors.of(heartbeat.agent)[0] = abs(heartbeat.clock.offset_s) + heartbeat.clock.error_s
        return ()

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self.count()
        super().restore(state)
        self._link()

    def merge(self, changes: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        self.count()
        super().merge(changes)
        self._link()

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything remembered."""
        self.count()
        return super().state()

    def changes(self) -> dict[str, Any]:  # Any: JSON values
        """What changed since the last call."""
        self.count()
        return super().changes()

    def asked(self, moved: Moved) -> Look | None:
        """From where to where it goes; of what could not be read, both ways."""
        source, destination = moved.source, moved.destination
        if _name(source) == _name(destination):
            return None
        forth = self._way(moved, source, destination)
        if moved.flow.operation != "transfer":
            return forth.look
        back = self._way(moved, destination, source, is_back=True)
        return lambda moved: [*forth.look(moved), *back.look(moved)]

    def _way(self, moved: Moved, source: End, destination: End, *, is_back: bool = False) -> _Way:
        here, there = _name(source), _name(destination)
        legs = [(class_, self.legs.later(_key(there, class_, [here]))) for class_ in moved.classes]
        sent = self._sent.later(f"{here}|{there}")
        return _Way(self, source, destination, here, there, sent, legs, moved.verdict not in QUIET, is_back)

    def went(self, moved: Moved, way: _Way, amount: int) -> Sequence[Finding]:
        """What a window shows that may go on with what came in, or go where nobody declared."""
        found: list[Finding] = []
        sent, due, slot = None, False, moved.start_ns // SLOT_NS
        if way.here in self.into:
            # It is asked for when something came into the host that could go on.
            sent = way.sent.entry if way.sent.turn == self._sent.turn else self._sent.again(way.sent)
            sent.add(slot, amount)
            due = sent.is_due(slot)
            if due:
                self.count()
                found += self._leaves(moved, way, sent)
        # What a chain brought here goes on under its own classes; what is new begins one.
        if way.legs:
            self.hold(way)
            for _, held in way.legs:
                held.entry.add(slot, amount)
            carried = [(way.here, amount)] * len(way.legs)
        else:
            carried = self._goes_on(moved, way, sent, slot, amount, looked_at=due)
        if way.gathers:
            for origin, share in carried:
                found += self._gathers(moved, way.there, origin, share)
        return found

    # In

    def hold(self, way: _Way) -> None:
        """The legs of what was read off the window, one for each class."""
        stale = [(class_, held) for class_, held in way.legs if held.turn != self.legs.turn]
        for class_, held in stale:
            leg = self.legs.again(held)
            if not leg.chain:
                self._named(held.key, leg, way.there, [way.here], class_)
        # The last of them may have begun another turn.
        way.turn = self.legs.turn if all(held.turn == self.legs.turn for _, held in way.legs) else NO_TURN

    def count(self) -> None:
        """Count what is summed at its way in the legs that begin there."""
        for way in self.uncounted:
            for _, held in way.legs:
                held.entry.add(self.minute_ns // SLOT_NS, way.uncounted)
            way.uncounted = 0
        self.uncounted.clear()

    def begin_minute(self, at_ns: int) -> None:
        """What comes next is of the minute of this time."""
        self.count()
        self.minute_ns = at_ns - at_ns % SLOT_NS
        self.minute_end_ns = self.minute_ns + SLOT_NS

    def _goes_on(self, moved: Moved, way: _Way, sent: Sent | None, slot: int, amount: int, *, looked_at: bool) -> list[tuple[str, int]]:
        """What nobody could read is taken for what its source had received; the first host of each chain, and its bytes."""
        carried = []
        for chain, class_, share in self._unread(moved, way, sent, amount, looked_at=looked_at):
            key = _key(way.there, class_, chain)
            leg = self.legs.of(key)
            if not leg.chain:
                self._named(key, leg, way.there, chain, class_)
            leg.add(slot, share)
            carried.append((chain[0], share))
        return carried

    def _unread(self, moved: Moved, way: _Way, sent: Sent | None, amount: int, *, looked_at: bool) -> Iterator[tuple[list[str], str, int]]:
        """Chains, classes and bytes; what was sent was ``looked_at`` with this window, or fits what it fitted then."""
        here = way.here
        if sent is not None and looked_at:
            before, sent.passed = sent.passed, self._passing(moved, here, way.there, sent)
            for key in sent.passed:
                # It fits by all that was sent so far, so all of it goes on.
                yield *self._longer(key, here), sent.bytes if key not in before else amount
        elif sent is not None:
            yield from ((*self._longer(key, here), amount) for key in sent.passed if self.legs.known(key) is not None)
        if (sent is None or not sent.passed) and here in self._architecture.assets:
            # Nobody could read or class it: on a hop it is taken for what the hop carries.
            yield from (([here], class_, amount) for class_ in sorted(self._hop_classes.get(moved.hop or "", ())) or [UNREAD])

    def _named(self, key: str, leg: Leg, there: str, chain: list[str], class_: str) -> None:
        """A leg that is new says whence and what, and is found by the host it leads into."""
        leg.chain, leg.class_ = chain, class_
        self.into.setdefault(there, {})[key] = None

    def _passing(self, moved: Moved, here: str, there: str, sent: Sent) -> list[str]:
        """The legs into a host that what it sends may be."""
        since = _minute(moved.start_ns - LOOKBACK_NS)
        legs = ((key, self.legs.known(key)) for key in self.into.get(here, ()))
        return [key for key, leg in legs if leg is not None and there not in leg.chain and _fits(sent.bytes, leg.since(since))]

    def _longer(self, key: str, here: str) -> tuple[list[str], str]:
        """The chain and class of a leg into ``here`` that goes on from there."""
        leg = self.legs.known(key)
        assert leg is not None, "it was just looked at"
        first, *rest = *leg.chain, here
        return [first, *rest[-(CHAIN_MAX - 1) :]], leg.class_

    def _link(self) -> None:
        self.into = {}
        for key, _ in self.legs.items():
            self.into.setdefault(key.split("|", 1)[0], {})[key] = None

    def _unlink(self, key: str) -> None:
        there = key.split("|", 1)[0]
        keys = self.into.get(there, {})
        keys.pop(key, None)
        if not keys:
            self.into.pop(there, None)

    def _gathers(self, moved: Moved, there: str, origin: str, amount: int) -> Iterator[Finding]:
        """A host that nobody declared as their destination gathers from many sources."""
        if origin not in self._architecture.assets:
            return
        host = self._hosts.of(there)
        host.sources[origin] = host.sources.get(origin, 0) + amount
        gathered = {name: bytes_ for name, bytes_ in host.sources.items() if bytes_ >= BYTES_MIN}
        if host.staged or len(gathered) < STAGED_SOURCES_MIN or sum(gathered.values()) < STAGED_BYTES_MIN:
            return
        host.staged = True
        seen = f"{sum(gathered.values())} bytes from {', '.join(sorted(gathered))}"
        yield self._cases.say(
            "staging", "high", plant=moved.flow.plant, who=moved.account, source=there, destination=there,
            first_ns=moved.start_ns, last_ns=moved.end_ns,
            differences=[("where", "no hop to this host", seen)], moved=moved,
        )  # fmt: skip

    # Out

    def _leaves(self, moved: Moved, way: _Way, sent: Sent) -> Iterator[Finding]:
        """What went out to the destination, less what its hop explains, held against each leg in."""
        source, destination = way.source, way.destination
        relay = self._index.relay(source) is not None
        reach_ns = (RELAY_NS if relay else LOOKBACK_NS) + int(self._errors_s(moved.flow.agent) * SECOND_NS)
        since = _minute(moved.start_ns - reach_ns)
        allowed = self._hop_classes.get(moved.hop or "", frozenset()) if moved.verdict in EXPLAINING else frozenset()
        explained, came = 0, []
        for key in self.into[way.here]:
            leg = self.legs.known(key)
            bytes_ = leg.since(since) if leg is not None else 0
            if leg is None or not bytes_ or leg.chain[0] == way.there:
                continue
            if leg.class_ in allowed:
                explained += bytes_
            else:
                came.append((leg, bytes_))
        left = sent.bytes - explained
        if allowed and left <= SAME * sent.bytes:
            return
        fitting = [(leg, bytes_) for leg, bytes_ in came if _fits(left, bytes_)]
        for leg, bytes_ in fitting:
            yield self._joined(moved, leg, bytes_, source, destination, left, ambiguous=relay and len(fitting) > 1)

    def _joined(self, moved: Moved, leg: Leg, came: int, source: End, destination: End, out: int, *, ambiguous: bool) -> Finding:
        chain, class_ = leg.chain, leg.class_
        last_slot = leg.minutes[-1][0]
        soon = moved.start_ns - last_slot * SLOT_NS <= SOON_NS
        sure = "ambiguous" if ambiguous else "high" if soon and abs(out - came) <= SAME * came else "medium"
        off_site = destination.zone is None or self._architecture.zones[destination.zone].off_site
        path = [*chain, _name(source), _name(destination)]
        declared = f"{class_} from {chain[0]}: no hop to {destination.shown}"
        seen = f"{' -> '.join(path)}: {came} bytes in, {out} bytes out"
        return self._cases.say(
            "lineage",
            class_severity(self._architecture, [class_], unclassified=class_ == UNREAD, leaves=off_site),
            plant=moved.flow.plant,
            who=moved.account,
            source=chain[0],
            destination=destination.shown,
            what=class_,
            first_ns=leg.minutes[0][0] * SLOT_NS,
            last_ns=moved.end_ns,
            differences=[("where", declared, seen)],
            observed=Observed(bytes=out, classes=[] if class_ == UNREAD else [class_]),
            hop=moved.hop,
            confidence=sure,
            legs=[{"from": one, "to": other} for one, other in pairwise(path)],
            joined=f"{came} bytes until {time_text((last_slot + 1) * SLOT_NS)}",
        )

    def _errors_s(self, agent: str) -> float:
        """How far two clocks may be apart: this agent's error and the worst other's."""
        own = self._errors.known(agent)
        return (own[0] if own else 0.0) + max((error[0] for _, error in self._errors.items()), default=0.0)


def _key(there: str, class_: str, chain: Sequence[str]) -> str:
    return "|".join((there, class_, *chain))


def _name(end: End) -> str:
    return end.host or end.asset or end.name or end.address


def _fits(out: int, came: int) -> bool:
    return came >= BYTES_MIN and SMALLEST * came <= out <= LARGEST * came


def _classes(architecture: Architecture, names: Sequence[str]) -> Iterator[str]:
    return (architecture.data[name].class_ for name in names if name in architecture.data)


def _minute(instant_ns: int) -> int:
    """The first minute that is not over by more than one at this time: legs are counted by the minute."""
    return -(-(instant_ns - SLOT_NS) // SLOT_NS)


def _begin(minutes: list[list[int]], slot: int, amount: int) -> int:
    """A minute more, and those that are older than ``LOOKBACK_NS`` let go; returns by how much that changes their sum."""
    minutes.append([slot, amount])
    more = amount
    while (slot - minutes[0][0]) * SLOT_NS > LOOKBACK_NS + SLOT_NS:
        more -= minutes.pop(0)[1]
    return more


def _said_leg(leg: Leg) -> list[Any]:  # Any: JSON values
    return [list(leg.chain), leg.class_, [list(one) for one in leg.minutes], leg.bytes]


def _said_sent(sent: Sent) -> list[Any]:  # Any: JSON values
    return [[list(one) for one in sent.minutes], sent.bytes, sent.looked_slot, sent.looked_bytes, list(sent.passed)]

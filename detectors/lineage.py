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
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Final

from detectors.cases import Cases
from detectors.judgement import QUIET, class_severity
from detectors.memory import Memory
from detectors.moved import Moved, Question
from hopwatch.declared.match import End, Index
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, Heartbeat, Observed, time_text

LOOKBACK_NS: Final = 2 * 3_600 * 10**9
"""How long after a leg in a leg out is joined with it."""

RELAY_NS: Final = 5 * 10**9
SLOT_NS: Final = 60 * 10**9
"""Legs are counted by the minute."""

LEGS_MAX: Final = 512
"""Minutes and origins remembered of one host; the oldest is forgotten."""

CHAIN_MAX: Final = 8
"""Hosts a chain names; a longer one keeps its first and its last."""

BYTES_MIN: Final = 256 << 10
"""Less is joined with nothing: any two small movements have the same size."""

SMALLEST: Final = 0.3
LARGEST: Final = 1.5
"""The volume out, as a share of the volume in, within which the two may be the same data: packed, or wrapped."""

SAME: Final = 0.25
"""Volumes that differ by less than this share, within ``SOON_NS``, make a join ``high``."""

SOON_NS: Final = 15 * 60 * 10**9
UNREAD: Final = "unread data"
"""The class of what nobody could read or class."""

STAGED_SOURCES_MIN: Final = 3
"""Declared sources from which an undeclared host has gathered data before it is called a staging place."""

STAGED_BYTES_MIN: Final = 8 << 20


@dataclass(slots=True)
class Leg:
    """Bytes of one class from one origin into a host in one minute; ``chain`` are the hosts it came through, the origin first."""

    slot: int
    chain: list[str]
    class_: str
    bytes: int


@dataclass(slots=True)
class Host:
    """What came in and what went out, to whom, lately; and where it gathers from."""

    legs: list[Leg] = field(default_factory=list)
    out: dict[str, list[list[int]]] = field(default_factory=dict)
    """By destination: minute and bytes."""

    sources: dict[str, int] = field(default_factory=dict)
    staged: bool = False


class Lineage(Question):
    """Legs of every host, by its asset or address."""

    name: ClassVar[str] = "lineage"

    def __init__(self, architecture: Architecture, quoted: Declaration, index: Index | None = None) -> None:
        self._architecture = architecture
        self._index = index or Index(architecture)
        self._cases = Cases(quoted)
        self._hosts: Memory[Host] = Memory(Host, asdict, _read)
        self._errors: Memory[list[float]] = Memory(lambda: [0.0], list, list)
        self._hop_classes = {name: frozenset(_classes(architecture, hop.what)) for name, hop in architecture.hops.items()}

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """Hosts, clock errors of agents, open findings."""
        return {"hosts": self._hosts, "errors": self._errors, "cases": self._cases.memory}

    def lives(self, heartbeat: Heartbeat) -> Sequence[Finding]:
        """How wrong the agent's clock may be."""
        if heartbeat.clock is not None:
            self._errors.of(heartbeat.agent)[0] = abs(heartbeat.clock.offset_s) + heartbeat.clock.error_s
        return ()

    def observe(self, moved: Moved) -> Sequence[Finding]:
        """The window's leg out, joined with what came in before; then its leg in."""
        found: list[Finding] = []
        for source, destination, amount in _ways(moved):
            if amount <= 0 or _name(source) == _name(destination):
                continue
            joined = list(self._leaves(moved, source, destination, amount))
            found += [finding for finding, _ in joined]
            # What a chain brought here goes on under its own classes; what is new begins one.
            for chain, class_, share in self._arriving(moved, source, amount):
                found += self._arrives(moved, destination, chain, class_, share)
        return found

    # In

    def _arriving(self, moved: Moved, source: End, amount: int) -> Iterator[tuple[list[str], str, int]]:
        """Chains, classes and bytes of what the window carries: read off the window, else what its source had received."""
        if moved.classes:
            yield from (([_name(source)], class_, amount) for class_ in moved.classes)
            return
        host = self._hosts.known(_name(source))
        received: dict[tuple[str, ...], tuple[str, int]] = {}
        for leg in () if host is None else host.legs:
            if moved.start_ns - leg.slot * SLOT_NS <= LOOKBACK_NS:
                _, before = received.get(tuple(leg.chain), ("", 0))
                received[tuple(leg.chain)] = leg.class_, before + leg.bytes
        fitting = [(chain, class_) for chain, (class_, bytes_) in received.items() if _fits(amount, bytes_)]
        for chain, class_ in fitting:
            yield [*chain, _name(source)][-CHAIN_MAX:], class_, amount
        if not fitting and _name(source) in self._architecture.assets:
            # Nobody could read or class it: on a hop it is taken for what the hop carries.
            for class_ in sorted(self._hop_classes.get(moved.hop or "", frozenset())) or [UNREAD]:
                yield [_name(source)], class_, amount

    def _arrives(self, moved: Moved, destination: End, chain: list[str], class_: str, amount: int) -> Iterator[Finding]:
        host = self._hosts.of(_name(destination))
        slot = moved.start_ns // SLOT_NS
        for leg in reversed(host.legs):
            if leg.slot != slot:
                break
            if leg.chain == chain and leg.class_ == class_:
                leg.bytes += amount
                break
        else:
            host.legs.append(Leg(slot, chain, class_, amount))
            del host.legs[:-LEGS_MAX]
        if moved.verdict not in QUIET:
            yield from self._gathers(moved, destination, host, chain[0], amount)

    def _gathers(self, moved: Moved, destination: End, host: Host, origin: str, amount: int) -> Iterator[Finding]:
        """A host that nobody declared as their destination gathers from many sources."""
        if origin not in self._architecture.assets:
            return
        host.sources[origin] = host.sources.get(origin, 0) + amount
        gathered = {name: bytes_ for name, bytes_ in host.sources.items() if bytes_ >= BYTES_MIN}
        if host.staged or len(gathered) < STAGED_SOURCES_MIN or sum(gathered.values()) < STAGED_BYTES_MIN:
            return
        host.staged = True
        seen = f"{sum(gathered.values())} bytes from {', '.join(sorted(gathered))}"
        yield self._cases.say(
            "staging", "high", plant=moved.flow.plant, who=moved.account, source=_name(destination), destination=_name(destination),
            first_ns=moved.start_ns, last_ns=moved.end_ns,
            differences=[("where", "no hop to this host", seen)], moved=moved,
        )  # fmt: skip

    # Out

    def _leaves(self, moved: Moved, source: End, destination: End, amount: int) -> Iterator[tuple[Finding, list[str]]]:
        host = self._hosts.known(_name(source))
        if host is None or not host.legs:
            return
        host = self._hosts.of(_name(source))
        to = _name(destination)
        slot = moved.start_ns // SLOT_NS
        sent = host.out.setdefault(to, [])
        if sent and sent[-1][0] == slot:
            sent[-1][1] += amount
        else:
            sent.append([slot, amount])
        relay = self._index.relay(source) is not None
        reach_ns = (RELAY_NS if relay else LOOKBACK_NS) + int(self._errors_s(moved.flow.agent) * 10**9)
        sent[:] = [one for one in sent if (slot - one[0]) * SLOT_NS <= LOOKBACK_NS]
        if len(host.out) > LEGS_MAX:
            host.out.pop(next(iter(host.out)))
        out = sum(bytes_ for _, bytes_ in sent)
        if out < BYTES_MIN:
            return
        allowed = (
            self._hop_classes.get(moved.hop or "", frozenset())
            if moved.verdict in ("declared", "declared-in-part", "blind")
            else frozenset()
        )
        lately = [leg for leg in host.legs if -SLOT_NS <= moved.start_ns - leg.slot * SLOT_NS <= reach_ns + SLOT_NS]
        explained = sum(leg.bytes for leg in lately if leg.class_ in allowed)
        left = out - explained
        if allowed and left <= SAME * out:
            return
        came: dict[tuple[str, ...], list[Leg]] = {}
        for leg in lately:
            if leg.class_ not in allowed and leg.chain[0] != to:
                came.setdefault((*leg.chain, leg.class_), []).append(leg)
        fitting = {key: legs for key, legs in came.items() if _fits(left, sum(leg.bytes for leg in legs))}
        for key, legs in fitting.items():
            yield self._joined(moved, list(key[:-1]), key[-1], legs, source, destination, left, relay and len(fitting) > 1), list(key[:-1])

    def _joined(
        self, moved: Moved, chain: list[str], class_: str, legs: list[Leg], source: End, destination: End, out: int, ambiguous: bool
    ) -> Finding:
        came = sum(leg.bytes for leg in legs)
        first_ns = legs[0].slot * SLOT_NS
        soon = moved.start_ns - legs[-1].slot * SLOT_NS <= SOON_NS
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
            first_ns=first_ns,
            last_ns=moved.end_ns,
            differences=[("where", declared, seen)],
            observed=Observed(bytes=out, classes=[] if class_ == UNREAD else [class_]),
            hop=moved.hop,
            confidence=sure,
            legs=[{"from": one, "to": other} for one, other in pairwise(path)],
            joined=f"{came} bytes until {time_text((legs[-1].slot + 1) * SLOT_NS)}",
        )

    def _errors_s(self, agent: str) -> float:
        """How far two clocks may be apart: this agent's error and the worst other's."""
        own = self._errors.known(agent)
        return (own[0] if own else 0.0) + max((error[0] for _, error in self._errors.items()), default=0.0)


def _ways(moved: Moved) -> list[tuple[End, End, int]]:
    """The window's legs: of what could not be read, both ways."""
    if moved.flow.operation == "transfer":
        return [(moved.source, moved.destination, moved.bytes), (moved.destination, moved.source, moved.bytes_back)]
    return [(moved.source, moved.destination, moved.bytes)]


def _name(end: End) -> str:
    return end.host or end.asset or end.name or end.address


def _fits(out: int, came: int) -> bool:
    return came >= BYTES_MIN and SMALLEST * came <= out <= LARGEST * came


def _classes(architecture: Architecture, names: Sequence[str]) -> Iterator[str]:
    return (architecture.data[name].class_ for name in names if name in architecture.data)


def _read(said: dict[str, Any]) -> Host:  # Any: JSON values
    return Host([Leg(**leg) for leg in said["legs"]], said["out"], said["sources"], said["staged"])

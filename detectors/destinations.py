"""Where data goes off site: new places, new countries, beats of a beacon, and data carried by what is no data protocol.

Asks: does a host talk to an off-site place it never talked to, does one place answer from another country or operator, does a
connection come back as regularly as only a program does, and does DNS or a broker carry bytes out? Sees: every end off site
with its names, how each is confirmed, bytes both ways and times; country and operator where a file of the user says them, else the
country that the zone declares.

Blind to: what a content network hides behind one name; a place that was already there in the first two weeks. Raised wrongly
by: a provider that moves a declared name (the name is declared: quiet), a poller nobody declared.
What to do: ask what of the host needs that place; if it is wanted, declare zone and hop, else block it at the egress.

A beacon is a connection whose starts are apart by nearly the same time: what is judged is the mean deviation of the pauses as a
share of their mean, over at least ``BEATS_MIN`` of them (Hubballi and Goyal 2013, "FlowSummary", use the standard deviation
likewise).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, ClassVar, Final

from msgspec import to_builtins

from detectors.cases import Cases
from detectors.judgement import severities_of
from detectors.memory import Memory
from detectors.moved import Moved, Question
from detectors.offsite import OffsiteList
from detectors.units import DAY_NS
from hopwatch.declared.match import End
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, Severity

LEARNING_NS: Final = 14 * DAY_NS
PLACES_MAX: Final = 256
"""Places remembered of one host; the one talked to longest ago is forgotten."""

BEATS_MIN: Final = 12
BEATS_KEPT: Final = 32
JITTER_MAX: Final = 0.1
"""Mean deviation of the pauses, as a share of their mean, below which a connection is a beacon's."""

PAUSE_MIN_S: Final = 20
"""Faster repeats are one conversation in pieces."""

CARRIED_BYTES_MIN: Final = 5 << 20
"""Bytes a day that a host may send out through names or topics before they count as carried."""

CARRIERS: Final = frozenset({"dns", "icmp", "ntp", "mqtt"})


@dataclass(slots=True)
class Talker:
    """One host: since when it is known, its places (with ``country|operator|country of the zone``), and what carriers took out today."""

    first_ns: int = 0
    places: dict[str, str] = field(default_factory=dict)
    day: int = 0
    carried: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Beats:
    """One host and place: when connections began, seconds apart."""

    connection: str = ""
    last_ns: int = 0
    pauses_s: list[float] = field(default_factory=list)
    told: bool = False


class Destinations(Question):
    """Off-site places by host. ``located`` gives country and operator of an address, empty where nobody knows."""

    name: ClassVar[str] = "destinations"
    by_client: ClassVar[bool] = False

    def __init__(
        self,
        architecture: Architecture,
        quoted: Declaration,
        offsite: OffsiteList,
        located: Callable[[str], tuple[str, str]] = lambda address: ("", ""),
    ) -> None:
        self._architecture = architecture
        self._offsite = offsite
        self._located = located
        self._cases = Cases(quoted, severities_of(architecture))
        self._talkers: Memory[Talker] = Memory(Talker, to_builtins, lambda said: Talker(**said))
        self._beats: Memory[Beats] = Memory(Beats, to_builtins, lambda said: Beats(**said))

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """Hosts, their rhythms, and the open findings."""
        return {"talkers": self._talkers, "beats": self._beats, "cases": self._cases.memory}

    def concerns(self, moved: Moved) -> bool:
        """What has one end off site."""
        return self._is_off(moved.source) != self._is_off(moved.destination)

    def look(self, moved: Moved) -> Sequence[Finding]:
        """What the window's off-site end says."""
        for here, there, out in ((moved.source, moved.destination, moved.bytes), (moved.destination, moved.source, moved.bytes_back)):
            if self._is_off(there) and not self._is_off(here):
                return [*self._talks(moved, here, there), *self._beat(moved, here, there), *self._carries(moved, here, there, out)]
        return ()

    def _is_off(self, end: End) -> bool:
        if end.zone is None:
            return not _is_private(end.address)
        return self._architecture.zones[end.zone].off_site

    def _talks(self, moved: Moved, here: End, there: End) -> Iterator[Finding]:
        talker = self._talkers.of(here.shown)
        place, (country, operator) = _place(there), self._located(there.address)
        declared = "" if there.zone is None else self._architecture.zones[there.zone].country or ""
        talker.first_ns = talker.first_ns or moved.start_ns
        before = talker.places.pop(place, None)
        usual, usual_operator, *was_declared = (before or f"{declared}||{declared}").split("|")
        # Where nobody locates it, it is where it was, or where its zone says once that is another one.
        country = country or (usual if declared in was_declared or not was_declared else declared) or usual or declared
        usual = usual or declared
        learnt = moved.start_ns - talker.first_ns >= LEARNING_NS
        if before is None and learnt and not moved.approved:
            yield self._said(
                moved, here, there, "new-destination", f"{len(talker.places)} places in two weeks", f"{place}{self._known(there)}"
            )
        elif (usual and usual != country) or (usual_operator and operator and usual_operator != operator):
            was, seen = _shown(place, usual, usual_operator), _shown(f"{place} ({there.address})", country, operator)
            yield self._said(moved, here, there, "new-country", was, seen, "high")
        talker.places[place] = f"{country}|{operator or usual_operator}|{declared}"
        if len(talker.places) > PLACES_MAX:
            del talker.places[next(iter(talker.places))]

    def _beat(self, moved: Moved, here: End, there: End) -> Iterator[Finding]:
        beats = self._beats.of(f"{here.shown}|{_place(there)}")
        if beats.connection == moved.flow.connection:
            return
        if beats.last_ns and moved.start_ns > beats.last_ns:
            pause_s = (moved.start_ns - beats.last_ns) / 1e9
            if pause_s < PAUSE_MIN_S:
                return
            beats.pauses_s = [*beats.pauses_s, pause_s][-BEATS_KEPT:]
        beats.connection, beats.last_ns = moved.flow.connection, max(beats.last_ns, moved.start_ns)
        if beats.told or len(beats.pauses_s) < BEATS_MIN or moved.approved:
            return
        mean_s = sum(beats.pauses_s) / len(beats.pauses_s)
        jitter = sum(abs(pause_s - mean_s) for pause_s in beats.pauses_s) / len(beats.pauses_s) / mean_s
        if jitter <= JITTER_MAX:
            beats.told = True
            yield self._said(moved, here, there, "beacon", "no hop", f"a connection every {mean_s:.0f} s, give or take {jitter:.0%}")

    def _carries(self, moved: Moved, here: End, there: End, out: int) -> Iterator[Finding]:
        protocol = moved.flow.protocol or moved.flow.transport
        if protocol not in CARRIERS or moved.approved:
            return
        talker = self._talkers.of(here.shown)
        day = moved.start_ns // DAY_NS
        if day > talker.day:
            talker.day, talker.carried, talker.told = day, {}, []
        talker.carried[protocol] = talker.carried.get(protocol, 0) + out
        if talker.carried[protocol] >= CARRIED_BYTES_MIN and protocol not in talker.told:
            talker.told.append(protocol)
            seen = f"{talker.carried[protocol]} bytes out by {protocol} today"
            yield self._said(moved, here, there, "carrier", f"{protocol} carries no data", seen, "high")

    def _known(self, end: End) -> str:
        place = self._offsite.find(end.name or end.claimed or "")
        unconfirmed = "" if end.name else ", name unconfirmed" if end.claimed else ", no name"
        return (f" ({place.category}, {place.provider})" if place is not None else "") + unconfirmed

    def _said(self, moved: Moved, here: End, there: End, verdict: str, declared: str, seen: str, severity: Severity = "medium") -> Finding:
        return self._cases.say(
            verdict, severity, plant=moved.flow.plant, who=moved.account, source=here.shown, destination=_place(there),
            first_ns=moved.start_ns, last_ns=moved.end_ns, differences=[("where", declared, seen)], moved=moved, hop=moved.hop,
        )  # fmt: skip


def _shown(place: str, country: str, operator: str) -> str:
    return f"{place} in {', '.join(one for one in (country, operator) if one)}"


def _place(end: End) -> str:
    return end.asset or end.name or end.claimed or end.zone or end.address


@lru_cache(maxsize=4_096)
def _is_private(address: str) -> bool:
    try:
        return not ip_address(address).is_global
    except ValueError:
        return True

"""Is the declaration itself in order: limits far too wide or nearly spent, hops that decide nothing, ends that come near, pilots
that last.

Asks: of every declared limit, how its use compares with it; of everything that ends, how many days are left; of every hop, whether
another one allows the same. Sees: what the verdict has counted against each limit, and the declaration. Its findings are ``info`` or
``low``: they go to who owns the declaration, not to who is on call.

``drifting`` is the early warning: more than four fifths of a limit are used, and it still holds. It is said of every limit somebody
declared (of a hop, of all hops with a class to a zone or of an owner, of an account on an object or in a session), once in its
period, and of an hour's once a day; beyond the limit the verdict speaks. What a ticket loosens warns nobody.

Blind to: use that no agent saw. Raised wrongly by: a limit that is meant for a yearly event (say so in ``note``, and keep the
finding).
What to do: narrow what is broad, renew or remove what ends, remove what is overshadowed, and raise a limit on purpose before it is
spent by accident.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar, Final

from msgspec import to_builtins

from detectors.anomaly import days_of
from detectors.budget import MONTH_DAYS
from detectors.cases import Cases
from detectors.judgement import Spent
from detectors.memory import Held, Memory
from detectors.moved import Look, Moved, Question
from detectors.slow import QUARTER_S
from detectors.units import SECOND_NS
from hopwatch.declared.model import PILOT, Architecture
from hopwatch.declared.quantity import Period
from hopwatch.declared.rules import PILOT_DAYS_MAX, WARN_DAYS
from hopwatch.declared.shadow import overshadowed
from hopwatch.events import Declaration, Finding, Severity

BROAD_SHARE: Final = 0.2
DRIFTING_SHARE: Final = 0.8
BROAD_DAYS: Final = 30
"""Days whose peak must stay below ``BROAD_SHARE`` of a limit before it is called broad."""

_DECLARED: Final = ("hop:", "budget:", "account:", "session:")
_FOREVER: Final = 10**6


@dataclass(slots=True)
class Peaks:
    """One limit of one hop: the largest amount of each of the last days (day and amount), and when the first was."""

    days: list[list[int]] = field(default_factory=list)
    first_day: int = 0
    told: bool = False

    def begin(self, day: int) -> None:
        """Another day; those that are too old are let go."""
        self.first_day = self.first_day or day
        self.days = [*self.days, [day, 0]][-BROAD_DAYS:]


@dataclass(slots=True)
class _Limited:
    """What is asked of windows that are charged to the same limits: ``peaks`` has those that are hops' own."""

    hygiene: "Hygiene"
    peaks: dict[str, Held[Peaks]]
    pilot: str | None
    day: int = 0
    since_ns: int = 0
    until_ns: int = 0
    """From then until then it is that ``day``."""

    def look(self, moved: Moved) -> Sequence[Finding]:
        """What the limits it was charged to have counted now."""
        hygiene, at_ns = self.hygiene, moved.start_ns
        if not self.since_ns <= at_ns < self.until_ns:
            self.day, self.since_ns, self.until_ns = hygiene.day_at(at_ns)
        found: list[Finding] = []
        if self.pilot is not None:
            found += hygiene.lasting(self.pilot, self.day, at_ns)
        for spent in moved.spent:
            key, limit, _, used = spent
            held = self.peaks.get(key)
            if held is not None:
                peaks = held.entry if held.turn == hygiene.peaks.turn else hygiene.peaks.again(held)
                if not peaks.days or peaks.days[-1][0] != self.day:
                    peaks.begin(self.day)
                today = peaks.days[-1]
                if used > today[1]:
                    today[1] = used
            if used > DRIFTING_SHARE * limit.amount and used <= limit.amount and key.startswith(_DECLARED):
                found += hygiene.drifting(spent, self.day, moved)
        return found


class Hygiene(Question):
    """Every limit, every end of the declaration, and every hop beside the others."""

    name: ClassVar[str] = "hygiene"
    by_client: ClassVar[bool] = False

    def __init__(self, architecture: Architecture, quoted: Declaration) -> None:
        self._architecture = architecture
        self._cases = Cases(quoted)
        self.peaks: Memory[Peaks] = Memory(Peaks, to_builtins, lambda said: Peaks(**said))
        self._warned: Memory[list[int]] = Memory(lambda: [0], list, list)
        self._days: Memory[list[int]] = Memory(lambda: [0], list, list, 1)
        self._told: Memory[list[int]] = Memory(lambda: [_FOREVER], list, list)
        self._day_of = days_of(architecture.timezone)
        self._pilots = {
            name: hop.approved.date
            for name, hop in architecture.hops.items()
            if PILOT in hop.tags and hop.approved is not None and hop.approved.date is not None
        }
        self._shadows: tuple[tuple[str, str], ...] | None = None

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """Peaks and warnings of limits, what was said of ends, the day that was looked at last, and the open findings."""
        return {"peaks": self.peaks, "warned": self._warned, "days": self._days, "told": self._told, "cases": self._cases.memory}

    def asked(self, moved: Moved) -> Look | None:
        """What it is charged to, and whether its hop is a pilot."""
        pilot = moved.hop if moved.hop in self._pilots else None
        if not moved.spent and pilot is None:
            return None
        return _Limited(self, {one.key: self.peaks.hold(one.key) for one in moved.spent if one.key.startswith("hop:")}, pilot).look

    def day_at(self, at_ns: int) -> tuple[int, int, int]:
        """The plant's day at this time, and from when until when it surely is no other."""
        at_s = at_ns // SECOND_NS
        since_s = at_s - at_s % QUARTER_S
        return self._day_of(at_s), since_s * SECOND_NS, (since_s + QUARTER_S) * SECOND_NS

    def drifting(self, spent: Spent, day: int, moved: Moved) -> Iterator[Finding]:
        before = self._warned.known(spent.key)
        if before is not None and day - before[0] < (MONTH_DAYS if spent.limit.period is Period.MONTH else 1):
            return
        self._warned.of(spent.key)[0] = day
        what = spent.name.removesuffix(": ") or hop_of(spent)
        seen = f"{spent.used / spent.limit.amount:.0%} of it used: {spent.used} {spent.limit.unit}"
        # Whose hop it is, unless it is that of many.
        who = moved.who if spent.key.startswith(("account:", "session:")) else None
        share = spent.used / spent.limit.amount
        yield self._said(
            "drifting", what, moved.start_ns, "how_much", f"{what}: {spent.limit}", seen, "low", who, self._watching(spent), share
        )

    def _watching(self, spent: Spent) -> str | None:
        """The agent that sees what is charged to a hop's own limit."""
        hop = self._architecture.hops.get(hop_of(spent))
        if hop is None:
            return None
        return self._architecture.conduits[hop.via].agent if hop.via is not None else hop.agent

    def advance(self, now_ns: int) -> Sequence[Finding]:
        """Once a day: what ends soon, what is far wider than it is used, and what decides nothing."""
        day = self._day_of(now_ns // SECOND_NS)
        looked = self._days.of("looked")
        if day == looked[0]:
            return ()
        looked[0] = day
        today = date.fromordinal(day)
        return [*self._ending(today, now_ns), *self._broad(day, now_ns), *self._overshadowed(now_ns)]

    def _ending(self, today: date, now_ns: int) -> Iterator[Finding]:
        """Each stage once, and on the first day that is looked at if its own was not."""
        for what, end in _ends(self._architecture):
            left = (end - today).days
            stage = next((days for days in WARN_DAYS if 0 <= left <= days), None)
            if stage is not None and self._first(f"{what} until {end}", stage):
                yield self._said("ending", what, now_ns, "when", f"{what} until {end}", _left(left), "info")

    def _first(self, what: str, stage: int) -> bool:
        """Whether nothing so near has been said of it; from now on it has."""
        before = self._told.known(what)
        if before is not None and before[0] <= stage:
            return False
        self._told.of(what)[0] = stage
        return True

    def _broad(self, day: int, now_ns: int) -> Iterator[Finding]:
        for name, hop in self._architecture.hops.items():
            for limit in hop.limit:
                key = f"hop:{name}#{limit.unit}/{limit.period}"
                peaks = self.peaks.known(key)
                if peaks is None or peaks.told or day - peaks.first_day < BROAD_DAYS:
                    continue
                peak = max((amount for at, amount in peaks.days if day - at <= BROAD_DAYS), default=0)
                if 0 < peak < BROAD_SHARE * limit.amount:
                    self.peaks.of(key).told = True
                    seen = f"at most {peak} in {BROAD_DAYS} days, {peak / limit.amount:.0%} of it"
                    yield self._said("broad", name, now_ns, "how_much", f"{name}: {limit}", seen, "info")

    def lasting(self, name: str, day: int, now_ns: int) -> Iterator[Finding]:
        """A pilot that still moves data after its last day; one that has been closed is quiet."""
        began = self._pilots[name]
        if (date.fromordinal(day) - began).days > PILOT_DAYS_MAX and self._first(f"pilot {name}", 0):
            yield self._said("ending", name, now_ns, "when", f"pilot of at most {PILOT_DAYS_MAX} days", f"runs since {began}", "medium")

    def _overshadowed(self, now_ns: int) -> Iterator[Finding]:
        if self._shadows is None:
            self._shadows = tuple(overshadowed(self._architecture))
        for name, wider in self._shadows:
            if self._first(f"overshadowed {name}", 0):
                seen = f"{wider} allows everything that it does"
                yield self._said("overshadowed", name, now_ns, "what", f"{name}: {self._architecture.hops[name].why}", seen, "info")

    def _said(
        self,
        verdict: str,
        what: str,
        at_ns: int,
        question: str,
        declared: str,
        seen: str,
        severity: Severity,
        who: str | None = None,
        agent: str | None = None,
        ratio: float | None = None,
    ) -> Finding:
        return self._cases.say(
            verdict, severity, plant=self._architecture.plant, who=who, source=what, destination=what, what=declared,
            first_ns=at_ns, last_ns=at_ns, differences=[(question, declared, seen)], agent=agent, ratio=ratio,
        )  # fmt: skip


def hop_of(spent: Spent) -> str:
    """The hop whose own limit it is."""
    return spent.key.removeprefix("hop:").rpartition("#")[0]


def _left(days: int) -> str:
    return "ends today" if days == 0 else f"{days} day{'s' if days > 1 else ''} left"


def _ends(architecture: Architecture) -> Iterator[tuple[str, date]]:
    """Everything of the declaration that ends, and when."""
    yield f"declaration {architecture.plant} v{architecture.version}", architecture.review_by
    for name, hop in architecture.hops.items():
        if hop.approved is not None and hop.approved.until is not None:
            yield f"hop {name}", hop.approved.until
    for name, account in architecture.accounts.items():
        if account.expires is not None:
            yield f"account {name}", account.expires
    for name, zone in architecture.zones.items():
        if zone.terms is not None:
            yield f"terms {zone.terms.ref} of {name}", zone.terms.until
    for line in architecture.calendar:
        if line.until is not None:
            yield f"calendar line {line.what}", line.until

"""Is the declaration itself in order: limits far too wide or nearly spent, ends that come near, pilots that last, conduits nobody
watches.

Asks: of every hop, how its use compares with its limits; of everything that ends, how many days are left. Sees: amounts of
every judged window, and the declaration. Its findings are ``info`` or ``low``: they go to who owns the declaration, not to who
is on call.

Blind to: use that no agent saw. Raised wrongly by: a limit that is meant for a yearly event (say so in ``note``, and keep the
finding).
What to do: narrow what is broad, renew or remove what ends, and raise a limit on purpose before it is spent by accident.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, ClassVar, Final

from detectors.anomaly import days_of
from detectors.cases import Cases
from detectors.memory import Memory
from detectors.moved import Moved, Question
from hopwatch.declared.model import Architecture, Hop
from hopwatch.declared.quantity import Period
from hopwatch.events import Declaration, Finding, Severity

WARN_DAYS: Final = (30, 7, 1)
BROAD_SHARE: Final = 0.2
DRIFTING_SHARE: Final = 0.8
BROAD_DAYS: Final = 30
"""Days whose peak must stay below ``BROAD_SHARE`` of a limit before it is called broad."""

PILOT_DAYS_MAX: Final = 60


@dataclass(slots=True)
class Use:
    """One limit of one hop: the period under way, and the largest amount of each of the last days (day and amount)."""

    period: int = 0
    amount: int = 0
    peaks: list[list[int]] = field(default_factory=list)
    first_day: int = 0
    told: dict[str, int] = field(default_factory=dict)


class Hygiene(Question):
    """Every limit of every hop, and every end of the declaration."""

    name: ClassVar[str] = "hygiene"

    def __init__(self, architecture: Architecture, quoted: Declaration) -> None:
        self._architecture = architecture
        self._cases = Cases(quoted)
        self._use: Memory[Use] = Memory(Use, asdict, lambda said: Use(**said))
        self._days: Memory[list[int]] = Memory(lambda: [0], list, list, 1)
        self._day_of = days_of(architecture.timezone)

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """Uses of limits, the day that was looked at last, and the open findings."""
        return {"use": self._use, "days": self._days, "cases": self._cases.memory}

    def observe(self, moved: Moved) -> Sequence[Finding]:
        """Count the window against its hop's limits."""
        if moved.hop is None:
            return ()
        hop = self._architecture.hops[moved.hop]
        found: list[Finding] = []
        amounts = {"rows": moved.rows, "values": moved.values, "messages": moved.messages, "bytes": moved.bytes}
        day = self._day_of(moved.start_ns // 10**9)
        for limit in hop.limit:
            amount = amounts.get(limit.unit.value, 0)
            if amount <= 0:
                continue
            use = self._use.of(f"{moved.hop}|{limit}")
            period = moved.start_ns // (3600 * 10**9) if limit.period is Period.HOUR else day
            if period != use.period:
                use.period, use.amount = period, 0
            use.amount += amount
            use.first_day = use.first_day or day
            if not use.peaks or use.peaks[-1][0] != day:
                use.peaks = [*use.peaks, [day, 0]][-BROAD_DAYS:]
            use.peaks[-1][1] = max(use.peaks[-1][1], use.amount)
            if use.amount > DRIFTING_SHARE * limit.amount and use.told.get("drifting") != day:
                use.told["drifting"] = day
                seen = f"{use.amount / limit.amount:.0%} of it used"
                found.append(self._said("drifting", moved.hop, moved.start_ns, "how_much", f"{moved.hop}: {limit}", seen, "low"))
        return found

    def advance(self, now_ns: int) -> Sequence[Finding]:
        """Once a day: what ends soon, and what is far wider than it is used."""
        day = self._day_of(now_ns // 10**9)
        looked = self._days.of("looked")
        if day == looked[0]:
            return ()
        looked[0] = day
        return [*self._ending(date.fromordinal(day), now_ns), *self._broad(day, now_ns), *self._pilots(date.fromordinal(day), now_ns)]

    def _ending(self, today: date, now_ns: int) -> Iterator[Finding]:
        for what, end in _ends(self._architecture):
            left = (end - today).days
            if left in WARN_DAYS:
                yield self._said("ending", what, now_ns, "when", f"{what} until {end}", f"{left} day{'s' if left > 1 else ''} left", "info")

    def _broad(self, day: int, now_ns: int) -> Iterator[Finding]:
        for name, hop in self._architecture.hops.items():
            for limit in hop.limit:
                use = self._use.known(f"{name}|{limit}")
                if use is None or day - use.first_day < BROAD_DAYS or "broad" in use.told:
                    continue
                peak = max((amount for at, amount in use.peaks if day - at <= BROAD_DAYS), default=0)
                if 0 < peak < BROAD_SHARE * limit.amount:
                    self._use.of(f"{name}|{limit}").told["broad"] = day
                    seen = f"at most {peak} in {BROAD_DAYS} days, {peak / limit.amount:.0%} of it"
                    yield self._said("broad", name, now_ns, "how_much", f"{name}: {limit}", seen, "info")

    def _pilots(self, today: date, now_ns: int) -> Iterator[Finding]:
        for name, hop in self._architecture.hops.items():
            began = hop.approved.date if hop.approved is not None else None
            if "pilot" in hop.tags and began is not None and (today - began).days == PILOT_DAYS_MAX + 1:
                yield self._said("ending", name, now_ns, "when", f"pilot of at most {PILOT_DAYS_MAX} days", f"runs since {began}", "medium")

    def _said(self, verdict: str, what: str, at_ns: int, question: str, declared: str, seen: str, severity: Severity) -> Finding:
        return self._cases.say(
            verdict, severity, plant=self._architecture.plant, who=None, source=what, destination=what, what=declared,
            first_ns=at_ns, last_ns=at_ns, differences=[(question, declared, seen)],
        )  # fmt: skip


def _ends(architecture: Architecture) -> Iterator[tuple[str, date]]:
    """Everything of the declaration that ends, and when."""
    yield f"declaration {architecture.plant} v{architecture.version}", architecture.review_by
    for name, hop in architecture.hops.items():
        if (end := _until(hop)) is not None:
            yield f"hop {name}", end
    for name, account in architecture.accounts.items():
        if account.expires is not None:
            yield f"account {name}", account.expires
    for name, zone in architecture.zones.items():
        if zone.terms is not None:
            yield f"terms {zone.terms.ref} of {name}", zone.terms.until


def _until(hop: Hop) -> date | None:
    return hop.approved.until if hop.approved is not None else None

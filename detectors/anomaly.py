"""Amounts that nobody limited: what a pair of ends has never moved at this hour, and what it moves a little more of every day.

Asks both statistical questions (``volume``, ``slow``) of every pair of ends and every hop, and lets through no more than a
person can look at: statistics rank, and may alert only inside a budget of ``ALERTS_A_DAY``. Beyond it a finding is ``info``,
kept and counted.

What is rare of a pair is learnt, so it changes by itself. Once a day each pair's threshold is looked at; what is new, or has changed by a
factor of ``THRESHOLD_RATIO``, is logged as the finding ``threshold`` with what it was before (``info``: nobody is called).

Blind to and raised wrongly by: see the two. What to do: read the finding as "look here", never as "this is forbidden". Every
finding carries the threshold it passed, and what was usual, so that a person can judge the judge.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from detectors.cases import Cases
from detectors.memory import Held, Memory
from detectors.moved import Look, Moved, Question
from detectors.slow import QUARTER_S, Days, More, Slow
from detectors.units import SECOND_NS
from detectors.volume import RISK, SLOT_S, Pair, Rare, Volumes, threshold
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, Observed, Severity

ALERTS_A_DAY: Final = 5
"""Statistical alerts a plant's day may have; the ones beyond are ranked and kept as ``info``."""

QUIET_DAYS: Final = 7
"""A pair that was alerted is not alerted again within so many days for the same question."""


THRESHOLD_RATIO: Final = 2
"""A threshold that has become so many times what was logged last, or that part of it, is logged again."""

THRESHOLDS_A_DAY: Final = 200
"""Changes of thresholds that are logged on a day; the others are on the next one."""


class _Amounts(Struct):
    """What is asked of windows of one pair."""

    anomaly: "Anomaly"
    volume: Held[Pair]
    slow: Held[Days]
    excused: bool
    """What a ticket allows is neither rare nor usual."""

    until_ns: int = 0
    """The pair's slot and day go on until then."""

    def look(self, moved: Moved) -> Sequence[Finding]:
        """Count the window; what ended with it is told."""
        volume, slow, anomaly = self.volume, self.slow, self.anomaly
        found: Sequence[Finding] = ()
        if moved.start_ns >= self.until_ns or volume.turn != anomaly.volumes.memory.turn or slow.turn != anomaly.slow.memory.turn:
            found = anomaly.ended(self, moved.start_ns // SECOND_NS)
        pair, days, amount = volume.entry, slow.entry, moved.bytes + moved.bytes_back
        pair.bytes += amount
        days.bytes += amount
        if self.excused:
            pair.excused = days.excused = True
        return found


class Anomaly(Question):
    """Every pair of ends by hop or by its two ends; alerts by the day."""

    name: ClassVar[str] = "anomaly"

    def __init__(self, architecture: Architecture, quoted: Declaration, alerts_a_day: int = ALERTS_A_DAY) -> None:
        self._plant = architecture.plant
        self._cases = Cases(quoted)
        self._day_of = days_of(architecture.timezone)
        self.volumes = Volumes(architecture.timezone)
        self.slow = Slow(self._day_of)
        self._alerts_a_day = alerts_a_day
        self._alerts: Memory[list[int]] = Memory(lambda: [0, 0], list, list)
        self._logged_day = 0
        """The last day on which thresholds were looked at: after a restart once more, and nothing has changed."""

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """What was learnt, the days' alerts and the thresholds last logged, and the open findings."""
        return {"volumes": self.volumes.memory, "slow": self.slow.memory, "alerts": self._alerts, "cases": self._cases.memory}

    def asked(self, moved: Moved) -> Look | None:
        """How much they move, unless it is a service's; an interval that was lost in part teaches a wrong amount."""
        if not moved.complete or moved.verdict == "service":
            return None
        key = f"{moved.source.shown}|{moved.destination.shown}"
        volume, slow = self.volumes.memory.hold(key), self.slow.memory.hold(f"{key}|{moved.hop or ''}")
        return _Amounts(self, volume, slow, moved.under_ticket).look

    def ended(self, amounts: _Amounts, at_s: int) -> Sequence[Finding]:
        """What slots and days of the pair show that are over at this time."""
        rare, until_s = self.volumes.reach(amounts.volume, at_s)
        more, day_until_s = self.slow.reach(amounts.slow, at_s)
        amounts.until_ns = min(until_s, day_until_s) * SECOND_NS
        return [*self._rare(rare), *self._more(more)]

    def advance(self, now_ns: int) -> Sequence[Finding]:
        """What the slots and days that are over show."""
        now_s = now_ns // SECOND_NS
        found = [*self._rare(self.volumes.advance(now_s)), *self._more(self.slow.advance(now_s))]
        day = self._day_of(now_s)
        if day > self._logged_day:
            self._logged_day = day
            found += islice(self._thresholds(now_s), THRESHOLDS_A_DAY)
        return found

    def _thresholds(self, now_s: int) -> Iterator[Finding]:
        known = self._alerts.known
        # What was logged longest ago first, and what never was before all.
        pairs = [(key, pair, known(f"threshold|{key}")) for key, pair in self.volumes.memory.items()]
        for key, pair, told in sorted(pairs, key=lambda one: 0 if one[2] is None else one[2][0]):
            now = threshold(pair)
            if now is None or (told is not None and told[1] / THRESHOLD_RATIO < now < told[1] * THRESHOLD_RATIO):
                continue
            since_s = now_s if told is None else told[0]
            since = datetime.fromtimestamp(since_s, UTC).date()
            before = "none logged before" if told is None else f"more than {told[1]} bytes in ten minutes since {since}"
            self._alerts.of(f"threshold|{key}")[:] = now_s, now
            source, destination = key.split("|", 1)
            yield self._cases.say(
                "threshold",
                "info",
                plant=self._plant,
                who=None,
                source=source,
                destination=destination,
                first_ns=since_s * SECOND_NS,
                last_ns=now_s * SECOND_NS,
                differences=[("how_much", before, f"more than {now} bytes in ten minutes (of {RISK:.0e} of slots)")],
                observed=Observed(bytes=now),
            )

    def _rare(self, found: Sequence[Rare]) -> Iterator[Finding]:
        for rare in sorted(found, key=lambda one: one.chance):
            declared = f"about {rare.expected} bytes in ten minutes at this hour"
            seen = f"{rare.bytes} bytes; {rare.chance:.1e} of slots reach so much (threshold {RISK:.0e})"
            yield self._said(
                "volume", rare.key, rare.start_s, rare.start_s + SLOT_S, rare.bytes, declared, seen, rare.bytes / max(1, rare.expected)
            )

    def _more(self, found: Sequence[More]) -> Iterator[Finding]:
        for more in found:
            first_s = int(datetime.combine(datetime.fromordinal(more.since), datetime.min.time(), UTC).timestamp())
            declared = "as much as on these weekdays before"
            seen = f"{more.bytes} bytes more in {more.days} days, {more.ratio:.2f} x on the last"
            yield self._said("slow", more.key, first_s, first_s + more.days * 86_400, more.bytes, declared, seen, more.ratio)

    def _said(self, verdict: str, key: str, first_s: int, last_s: int, amount: int, declared: str, seen: str, ratio: float) -> Finding:
        source, destination, *hop = key.split("|", 2)
        severity, alerted = self._severity(f"{verdict}|{key}", last_s)
        return self._cases.say(
            verdict,
            severity,
            plant=self._plant,
            who=None,
            source=source,
            destination=destination,
            first_ns=first_s * SECOND_NS,
            last_ns=last_s * SECOND_NS,
            differences=[("how_much", declared, seen)],
            observed=Observed(bytes=amount),
            hop=(hop[0] or None) if hop else None,
            ratio=ratio,
            # A finding keeps its highest severity: what calls nobody must be no update of what called somebody long ago.
            what=str(alerted),
        )

    def _severity(self, key: str, at_s: int) -> tuple[Severity, int]:
        """``medium`` inside the day's budget, ``info`` beyond it; what follows an alert within ``QUIET_DAYS`` belongs to it.

        The day of the alert stands beside it, 0 where there is none.
        """
        day = self._day_of(at_s)
        said = self._alerts.of(key)
        if said[0] and day - said[0] < QUIET_DAYS:
            return "info", said[0]
        spent = self._alerts.of(f"day {day}")
        if spent[1] >= self._alerts_a_day:
            return "info", 0
        spent[0], spent[1], said[0] = day, spent[1] + 1, day
        return "medium", day


def days_of(timezone: ZoneInfo) -> Callable[[int], int]:
    """Says of a second which calendar day of the plant it lies in, as its ordinal."""

    @lru_cache(maxsize=4_096)
    def of_quarter(quarter: int) -> int:
        return datetime.fromtimestamp(quarter * QUARTER_S, UTC).astimezone(timezone).toordinal()

    last = day = -1

    def of(second: int) -> int:
        nonlocal last, day
        # Window after window asks for the same quarter.
        if second // QUARTER_S != last:
            last = second // QUARTER_S
            day = of_quarter(last)
        return day

    return of

"""Amounts that nobody limited: what a pair of ends has never moved at this hour, and what it moves a little more of every day.

Asks both statistical questions (``volume``, ``slow``) of every pair of ends and every hop, and lets through no more than a
person can look at: statistics rank, and may alert only inside a budget of ``ALERTS_A_DAY``. Beyond it a finding is ``info``,
kept and counted.

Blind to and raised wrongly by: see the two. What to do: read the finding as "look here", never as "this is forbidden". Every
finding carries the threshold it passed, and what was usual, so that a person can judge the judge.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from detectors.cases import Cases
from detectors.memory import Held, Memory
from detectors.moved import Moved, Question
from detectors.slow import Days, More, Slow
from detectors.units import SECOND_NS
from detectors.volume import RISK, SLOT_S, Pair, Rare, Volumes
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, Observed, Severity

ALERTS_A_DAY: Final = 5
"""Statistical alerts a plant's day may have; the ones beyond are ranked and kept as ``info``."""

QUIET_DAYS: Final = 7
"""A pair that was alerted is not alerted again within so many days for the same question."""


@dataclass(slots=True)
class _Note:
    """What windows of one pair share."""

    volume: Held[Pair]
    slow: Held[Days]
    excused: bool
    """What a ticket allows is neither rare nor usual."""


class Anomaly(Question):
    """Every pair of ends by hop or by its two ends; alerts by the day."""

    name: ClassVar[str] = "anomaly"

    def __init__(self, architecture: Architecture, quoted: Declaration, alerts_a_day: int = ALERTS_A_DAY) -> None:
        self._plant = architecture.plant
        self._cases = Cases(quoted)
        self._day_of = days_of(architecture.timezone)
        self._volumes = Volumes(architecture.timezone)
        self._slow = Slow(self._day_of)
        self._alerts_a_day = alerts_a_day
        self._alerts: Memory[list[int]] = Memory(lambda: [0, 0], list, list)

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """What was learnt, the days' alerts, and the open findings."""
        return {"volumes": self._volumes.memory, "slow": self._slow.memory, "alerts": self._alerts, "cases": self._cases.memory}

    def concerns(self, moved: Moved) -> bool:
        """An interval that was lost in part teaches a wrong amount."""
        return moved.complete and moved.verdict != "service"

    def look(self, moved: Moved) -> Sequence[Finding]:
        """Count the window; what ended with it is told."""
        note: _Note = moved.notes.get(self.name) or self._note(moved)
        start_s = moved.start_ns // SECOND_NS
        amount = moved.bytes + moved.bytes_back
        rare = self._volumes.add_to(note.volume, start_s, amount, excused=note.excused)
        more = self._slow.add_to(note.slow, start_s, amount, excused=note.excused)
        return [*self._rare(rare), *self._more(more)] if rare or more else ()

    def _note(self, moved: Moved) -> _Note:
        """What is the same for all windows like this one."""
        key = f"{moved.source.shown}|{moved.destination.shown}"
        volume, slow = self._volumes.memory.hold(key), self._slow.memory.hold(f"{key}|{moved.hop or ''}")
        note = moved.notes[self.name] = _Note(volume, slow, moved.under_ticket)
        return note

    def advance(self, now_ns: int) -> Sequence[Finding]:
        """What the slots and days that are over show."""
        now_s = now_ns // SECOND_NS
        return [*self._rare(self._volumes.advance(now_s)), *self._more(self._slow.advance(now_s))]

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
        # No timezone changes its offset but on a quarter of an hour.
        return datetime.fromtimestamp(quarter * 900, UTC).astimezone(timezone).toordinal()

    last = day = -1

    def of(second: int) -> int:
        nonlocal last, day
        # Window after window asks for the same quarter.
        if second // 900 != last:
            last = second // 900
            day = of_quarter(last)
        return day

    return of

"""A little more every day: the daily volume of a hop's pair of ends against the same weekdays before, summed up (CUSUM).

Asks: does a pair move more than its weekdays did, by too little for any one day to stand out? Two hops between the same ends are
two pairs, so that neither hides the other. Sees: bytes by the plant's calendar day; a day on which something moved under a ticket is
no day at all, it neither accuses nor teaches. Explains itself by the days since which it has been more, and by how much in all.

Blind to: a pair's first two weeks, and growth slower than the weekly mean follows (some per cent a week). Raised wrongly by: a
new line, a new report, month ends nobody declared: declare an exception and it is quiet.
What to do: ask what changed on the first of the days named; compare the hop's limit with the new volume.

The sum of standardised excesses over half a deviation, reset at zero, is the fastest test for a lasting shift of one deviation
at a given rate of false alarms (Page 1954, Moustakides 1986). Days are compared on a log scale, so that a third more is a third
more on any flow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import expm1, log1p
from typing import Any, Final

from msgspec import Struct, field

from detectors.memory import Held, Memory

SLACK: Final = 0.5
"""Half of the shift that is looked for, in deviations."""

DECISION: Final = 5.0
"""The sum at which it is said: some 465 days between false alarms of one pair (Hawkins and Olwell 1998, table 3.1)."""

EXCESS_MAX: Final = 2.5
"""What one day can add: one or two large days are another question (see ``volume``), three of them are this one."""

RATIO_MIN: Final = 1.2
"""However regular a flow is, less than this ratio to what was usual, over all the days named, is nothing to call anyone for."""

DEVIATION_MIN: Final = 0.05
BYTES_MIN: Final = 4 << 20
"""Less in a day ranks nothing."""

DAYS_MIN: Final = 14
"""Days before anything is said."""

FORGET: Final = 0.25
"""Weight of the newest day in its weekday's mean."""

QUARTER_S: Final = 900
"""No timezone changes its offset, and so none its day, but on a quarter of an hour."""

PAIRS_MAX: Final = 4_096
"""Pairs followed; the one that was silent longest is forgotten."""


class Days(Struct):
    """One pair: the day under way, each weekday's usual value, how far days are from it, and the sum."""

    day: int = 0
    first_day: int = 0
    bytes: int = 0
    usual: dict[int, tuple[int, float]] = field(default_factory=dict)
    deviation: float = 0.0
    deviations: int = 0
    sum: float = 0.0
    since: int | None = None
    more: int = 0
    moved: int = 0
    """All bytes of the days that ``more`` is of."""

    excused: bool = False
    """Something of the day under way moved under a ticket."""


@dataclass(frozen=True, slots=True)
class More:
    """A pair has moved ``bytes`` more than its weekdays say since ``since`` (a day's ordinal); ``days`` is how many days that is."""

    key: str
    since: int
    days: int
    bytes: int
    ratio: float


class Slow:
    """Every pair by its key; ``day_of`` says the plant's calendar day of a second as its ordinal."""

    def __init__(self, day_of: Callable[[int], int]) -> None:
        self._day_of = day_of
        self.memory: Memory[Days] = Memory(Days, _said, _read, PAIRS_MAX)
        self._oldest = 0
        """No pair's day is older."""

    def reach(self, held: Held[Days], at_s: int) -> tuple[list[More], int]:
        """What the days show that are over at this time, and until when it surely is no other day."""
        day = self._day_of(at_s)
        pair = held.entry if held.turn == self.memory.turn else self.memory.again(held)
        found: list[More] = []
        if pair.day < day:
            if not pair.day:
                pair.day = pair.first_day = day
                self._oldest = min(self._oldest, day)
            found = self._close(held.key, pair, day)
        return found, (at_s // QUARTER_S + 1) * QUARTER_S

    def advance(self, now_s: int) -> list[More]:
        """Close the days that are over."""
        day = self._day_of(now_s)
        if day <= self._oldest:
            return []
        self._oldest = day
        over = [key for key, pair in self.memory.items() if pair.day < day]
        return [more for key in over for more in self._close(key, self.memory.of(key), day)]

    def _close(self, key: str, pair: Days, day: int) -> list[More]:
        found = []
        while pair.day < day:
            more = None if pair.excused else self._judge(key, pair)
            if more is not None:
                found.append(more)
            # Of a long silence only the last week is gone through.
            pair.day = max(pair.day + 1, day - 7)
            pair.bytes, pair.excused = 0, False
        return found

    def _judge(self, key: str, pair: Days) -> More | None:
        value = log1p(pair.bytes)
        # date.toordinal: 1 is a Monday.
        weekday = (pair.day - 1) % 7
        days, mean = pair.usual.get(weekday, (0, value))
        unit = max(pair.deviation, DEVIATION_MIN)
        excess = (value - mean) / unit
        told = None
        if days and pair.day - pair.first_day >= DAYS_MIN:
            told = self._adds(key, pair, excess, max(1.0, expm1(mean)))
        if days:
            bounded = min(abs(excess), EXCESS_MAX) * unit
            pair.deviations += 1
            pair.deviation += max(1 / pair.deviations, 0.05) * (bounded - pair.deviation)
            # While a sum runs, the days teach little: what is looked for must not become usual by being looked at.
            value = mean + max(-EXCESS_MAX, min(excess, SLACK if pair.sum > 0.0 else EXCESS_MAX)) * unit
        pair.usual[weekday] = (days + 1, mean + max(1 / (days + 1), FORGET) * (value - mean))
        return told

    def _adds(self, key: str, pair: Days, excess: float, expected: float) -> More | None:
        """The sum with this day, and what it shows."""
        pair.sum = max(0.0, pair.sum + min(excess, EXCESS_MAX) - SLACK)
        if pair.sum == 0.0:
            pair.since, pair.more, pair.moved = None, 0, 0
            return None
        pair.since = pair.day if pair.since is None else pair.since
        pair.more += pair.bytes - int(expected)
        pair.moved += pair.bytes
        # The day on which it is said must be one of those that are more.
        if pair.sum <= DECISION or pair.bytes < max(BYTES_MIN, RATIO_MIN * expected):
            return None
        told = None
        if pair.moved >= RATIO_MIN * (pair.moved - pair.more):
            told = More(key, pair.since, pair.day - pair.since + 1, pair.more, pair.bytes / expected)
        # What is too little to call anyone for is a plant that grows: it becomes usual.
        pair.sum, pair.since, pair.more, pair.moved = 0.0, None, 0, 0
        return told


def _said(one: Days) -> list[Any]:  # Any: JSON values
    usual = [[weekday, *said] for weekday, said in one.usual.items()]
    return [
        one.day,
        one.first_day,
        one.bytes,
        usual,
        one.deviation,
        one.deviations,
        one.sum,
        one.since,
        one.more,
        one.moved,
        one.excused,
    ]


def _read(said: list[Any]) -> Days:  # Any: JSON values
    day, first, amount, usual, *rest = said
    return Days(day, first, amount, {int(weekday): (int(days), float(mean)) for weekday, days, mean in usual}, *rest)

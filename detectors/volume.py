"""More than ever at this hour: volume against its own past, where no limit is declared.

Asks: of every pair of ends (and every hop), does more move in ten minutes than this hour of a working day, or of a free one,
has seen? Sees: bytes of every window once, in both directions together, at its start. Explains itself by what was expected and
how rare the excess is.

Blind to: what stays within the pair's own variation (see ``slow``), the first days of a pair (``learning`` until then), and
what is spread over many pairs. Raised wrongly by: growth in one step, month ends nobody declared, a backlog after an outage.
What to do: treat it as a hint that ranks, not as a verdict; compare with the pair's hops, and declare a limit if the amount is
wanted.

What is judged is ``log(1 + bytes)`` less the usual value, in units of its mean deviation, so that a flat flow and one that
follows shifts share one tail (see ``tail``). Where an hour mostly carries something, usual is that hour's exponentially
weighted mean; where it mostly carries nothing (people, nightly batches), usual is that of the pair's own busy slots, which have
a tail of their own. A value that was called rare teaches an hour no more than the threshold of its peaks, and the tail nothing,
so that an extraction of a week does not become usual in a day, and a real change does within some weeks.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from math import expm1, log1p
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from detectors.memory import Held, Memory
from detectors.tail import Tail

SLOT_S: Final = 600
"""Seconds whose bytes are judged together."""

RISK: Final = 2e-5
"""An amount is rare if less than this share of all the pair's slots, busy or not, reaches it: once in a year of ten-minute slots."""

HOUR_RISK: Final = 0.01
"""Being busy at all is rare in an hour of which less than this share of slots was, those beside it included."""

RATIO_MIN: Final = 2.0
"""However regular a flow is, less than this ratio to what was expected is nothing to call anyone for."""

BYTES_MIN: Final = 1 << 20
"""Less than this in ten minutes ranks nothing."""

PAIRS_MAX: Final = 4_096
"""Pairs followed; the one that was silent longest is forgotten."""

HOURS: Final = 48
"""Hours of a working day, then those of a free one."""

FORGET: Final = 0.05
"""Weight of the newest value in an hour's mean: half of it is as old as two weeks of that hour's six slots."""

DEVIATION_MIN: Final = 0.05
"""A flow that never varied is given the variation of five per cent."""

SURE: Final = 6
"""Values an hour has seen before its own mean is used, else that of all hours."""

BUSY_MIN: Final = 0.5
"""The share of an hour's slots that carry something, from which on silence there is the exception."""

VALUE_MAX: Final = 43.0
"""Of a threshold, which is in logarithms of bytes: no link moves so much in ten minutes."""

LEARNING_SLOTS: Final = 7 * 86_400 // SLOT_S
"""A week is watched before anything is said of a pair: no rhythm of a plant is shorter."""


class Usual(Struct):
    """What slots of one kind usually carry, of ``log(1 + bytes)``; ``busy`` is the share of them that carry anything."""

    values: int = 0
    mean: float = 0.0
    deviation: float = 0.0
    busy: float = 0.0

    def learn(self, value: float) -> None:
        """One slot more."""
        self.values += 1
        weight = max(1 / self.values, FORGET)
        away = value - self.mean
        self.mean += weight * away
        self.deviation += weight * (abs(away) - self.deviation)
        self.busy += weight * ((value > 0.0) - self.busy)

    def state(self) -> tuple[int, float, float, float]:
        """As ``Usual(*state)`` takes it."""
        return self.values, self.mean, self.deviation, self.busy


class Pair(Struct):
    """One pair: the slot under way, its hours, its busy slots, and the tails of both."""

    slot: int = -1
    first_slot: int = -1
    bytes: int = 0
    hours: dict[int, Usual] = field(default_factory=dict)
    all_hours: Usual = field(default_factory=Usual)
    bursts: Usual = field(default_factory=Usual)
    tail: Tail = field(default_factory=Tail)
    burst_tail: Tail = field(default_factory=Tail)
    excused: bool = False
    """Something of the slot under way moved under a ticket: the slot is neither judged nor learnt."""


@dataclass(frozen=True, slots=True)
class Rare:
    """A slot that carried more than it ever should: ``chance`` is the share of slots that reach so much."""

    key: str
    start_s: int
    bytes: int
    expected: int
    chance: float

    @property
    def ratio(self) -> float:
        """How many times what was expected."""
        return self.bytes / max(1, self.expected)


def threshold(pair: Pair) -> int | None:
    """From how many bytes on ten minutes of the pair stand out, in the hour that usually carries most; None while that is learnt."""
    if pair.slot - pair.first_slot < LEARNING_SLOTS:
        return None
    regular = [hour for hour in pair.hours.values() if hour.values >= SURE and hour.busy >= BUSY_MIN]
    usual, tail = (max(regular, key=lambda hour: hour.mean), pair.tail) if regular else (pair.bursts, pair.burst_tail)
    if not tail.knows:
        return None
    share = 1.0 if regular else max(pair.all_hours.busy, RISK)
    value = usual.mean + tail.level(RISK / share) * max(usual.deviation, DEVIATION_MIN)
    least = RATIO_MIN * expm1(usual.mean) if regular else 0.0
    return int(max(BYTES_MIN, least, expm1(min(value, VALUE_MAX))))


class Volumes:
    """Every pair by its key. Slots are closed by ``reach`` and ``advance`` in the order of time; late bytes count in the slot under way."""

    def __init__(self, timezone: ZoneInfo) -> None:
        self._hour = lru_cache(maxsize=4_096)(partial(_hour, timezone=timezone))
        self.memory: Memory[Pair] = Memory(Pair, _said, _read, PAIRS_MAX)
        self._oldest = -1
        """No pair's slot is older: time passes every second, and a slot ends every ten minutes."""

    def reach(self, held: Held[Pair], at_s: int) -> tuple[list[Rare], int]:
        """What the slots show that are over at this time, and until when the next one goes on."""
        slot = at_s // SLOT_S
        pair = held.entry if held.turn == self.memory.turn else self.memory.again(held)
        found: list[Rare] = []
        if pair.slot < slot:
            if pair.slot < 0:
                pair.slot = pair.first_slot = slot
                self._oldest = min(self._oldest, slot)
            found = self._close(held.key, pair, slot)
        return found, (pair.slot + 1) * SLOT_S

    def advance(self, now_s: int) -> list[Rare]:
        """Close the slots that are over."""
        slot = now_s // SLOT_S
        if slot <= self._oldest:
            return []
        self._oldest = slot
        over = [key for key, pair in self.memory.items() if pair.slot < slot]
        return [rare for key in over for rare in self._close(key, self.memory.of(key), slot)]

    def _close(self, key: str, pair: Pair, slot: int) -> list[Rare]:
        """Judge the slot that is over, then the empty ones up to ``slot``."""
        found = []
        while pair.slot < slot:
            rare = None if pair.excused else self._judge(key, pair)
            if rare is not None:
                found.append(rare)
            # Of a long silence only the last day is gone through: it teaches nothing that a day does not.
            pair.slot = max(pair.slot + 1, slot - 86_400 // SLOT_S)
            pair.bytes, pair.excused = 0, False
        return found

    def _judge(self, key: str, pair: Pair) -> Rare | None:
        start_s = pair.slot * SLOT_S
        hour = pair.hours.setdefault(self._hour(start_s // 3600), Usual())
        here = hour if hour.values >= SURE else pair.all_hours
        value = log1p(pair.bytes)
        regular = here.busy >= BUSY_MIN
        usual, tail = (here, pair.tail) if regular else (pair.bursts, pair.burst_tail)
        rare = None
        if regular or pair.bytes:
            unit = max(usual.deviation, DEVIATION_MIN)
            away = (value - usual.mean) / unit
            # Of a pair that is mostly silent only the busy slots are in the tail.
            share = 1.0 if regular else max(pair.all_hours.busy, RISK)
            chance = share * tail.chance(away)
            hourly = 1.0 if regular else self._busy_chance(pair, start_s)
            expected = int(expm1(max(0.0, usual.mean if regular else here.mean)))
            stands_out = chance < RISK or (hourly < HOUR_RISK and away >= 0.0)
            learnt = pair.slot - pair.first_slot >= LEARNING_SLOTS
            if stands_out and learnt and pair.bytes >= max(BYTES_MIN, RATIO_MIN * expected):
                rare = Rare(key, start_s, pair.bytes, expected, min(chance, hourly))
            if chance < RISK:
                # Of the tail it is no part; the hour learns as much of it as can be without standing out.
                value = usual.mean + tail.threshold * unit
            else:
                tail.learn(away)
        if pair.bytes:
            pair.bursts.learn(value)
        hour.learn(value)
        pair.all_hours.learn(value)
        return rare

    def _busy_chance(self, pair: Pair, start_s: int) -> float:
        """The share of slots around this hour that carry anything, by Laplace's rule; a batch may begin an hour late once."""
        hour = self._hour(start_s // 3600)
        free = hour // 24 * 24
        around = [pair.hours.get(free + (hour + step) % 24, Usual()) for step in (-1, 0, 1)]
        return max((0.5 + usual.busy * usual.values) / (1 + usual.values) for usual in around)


def _said(pair: Pair) -> list[Any]:  # Any: JSON values
    usual = [one.state() for one in (pair.all_hours, pair.bursts)]
    hours = [[hour, *one.state()] for hour, one in pair.hours.items()]
    return [pair.slot, pair.first_slot, pair.bytes, hours, *usual, pair.tail.state(), pair.burst_tail.state(), pair.excused]


def _read(said: list[Any]) -> Pair:  # Any: JSON values
    slot, first, amount, hours, all_hours, bursts, tail, burst_tail, excused = said
    known = {int(hour): Usual(*one) for hour, *one in hours}
    return Pair(slot, first, amount, known, Usual(*all_hours), Usual(*bursts), Tail.of(tail), Tail.of(burst_tail), excused)


def _hour(hour: int, timezone: ZoneInfo) -> int:
    at = datetime.fromtimestamp(hour * 3600, UTC).astimezone(timezone)
    return at.hour + (24 if at.weekday() >= 5 else 0)

"""How much of a limit is spent: an hour slides in minutes, a day is the plant's calendar day, thirty days slide by such days.

``1h`` is counted in minutes of packet time: the current one and the 60 before it. The sum therefore covers at least the last
3,600 s and at most a minute more, so a limit is reported up to a minute early and never late. ``1d`` is the date that the
plant's clocks show; such a day has 23 or 25 hours twice a year. ``30d`` is that date and the 29 before it.

``session`` is what has moved since the last rest: half hours of the clock in a row, until one passes without anything. A rest of
more than an hour always ends it and one of less than half an hour never does. It is not the connection that counts, because who
takes a table in ten connections has taken it all the same.

Distinct objects are counted by hash, so that neither names nor their length decide how much memory a limit takes.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Any, Final
from zoneinfo import ZoneInfo

from detectors.memory import Marking
from detectors.units import MINUTE_NS
from hopwatch.declared.quantity import Limit, Period, Unit

BUCKETS: Final = 60
"""Whole minutes of a sliding hour, besides the current one."""

MONTH_DAYS: Final = 30
"""Days of a ``30d``, the current one among them."""

SLOTS_MAX: Final = 128
"""Minutes, days or half hours a budget remembers: the sliding hour, and as many for windows that come late; 64 hours of a session."""

OBJECTS_COUNTED_MAX: Final = 65_536
"""Distinct objects one budget tells apart; beyond it every new one counts as seen before."""

BUDGETS_MAX: Final = 65_536
"""Budgets kept (hop and limit, and host where the limit is per host); the one charged longest ago is forgotten."""

STEPS_MAX: Final = 8
"""Slots by which time may go on before a sum is taken anew."""

SESSION: Final = 0
"""The width of a session: as many slots as follow one another."""

_REST_NS: Final = 30 * MINUTE_NS
_NEVER: Final = -(1 << 63)


@dataclass(slots=True)
class Budget:
    """What one limit has counted. A slot is a minute number (``1h``), a day's ordinal (``1d``, ``30d``) or a half hour (``session``)."""

    spent: dict[int, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    touched: dict[int, int] = field(default_factory=dict)
    """How many of ``objects`` were last touched in each slot."""
    purged: bool = False
    """Whether objects were let go since the changes were asked for."""
    new: bool = field(default=False, compare=False)
    """Whether it was made since the changes were asked for."""
    noted: set[int | str] | None = field(default=None, compare=False)
    """The slots and digests touched since then."""
    turn: int = field(default=-1, compare=False)
    asked: int = field(default=_NEVER, compare=False)
    """The slot asked for last: a window asks for the minute of the one before."""
    sum: int = field(default=0, compare=False)
    _width: int = field(default=0, compare=False)
    """What lay in the slots that end at it, and how many they are."""
    _newest: int = field(default=-1, compare=False)
    last: int = field(default=_NEVER, compare=False)
    """The slot charged last: it stands at the end of ``spent``."""

    def __post_init__(self) -> None:
        self._newest = max(self.spent, default=-1)
        for at in self.objects.values():
            self.touched[at] = self.touched.get(at, 0) + 1

    def used(self, slot: int, width: int) -> int:
        """What lies in the ``width`` slots that end at ``slot``, or at the newest one that a late slot still counts in."""
        asked = self.asked
        if asked == slot:
            return self.sum
        if width == SESSION:
            total = self._in_a_row(slot)
        elif self._newest <= asked < slot <= asked + STEPS_MAX:
            # Time has gone on by a few slots, and nothing lies beyond: what leaves the period is all that changes.
            total = self.sum - sum(self.spent.get(at, 0) for at in range(asked - width + 1, slot - width + 1))
        else:
            last = max((at for at in self.spent if slot <= at < slot + width), default=slot)
            total = sum(amount for at, amount in self.spent.items() if last - width < at <= last)
        self.asked, self.sum, self._width = slot, total, width
        return total

    def _in_a_row(self, slot: int) -> int:
        """What lies in the slot and in those that follow one another before and after it."""
        total = self.spent.get(slot, 0)
        for step in (-1, 1):
            at = slot + step
            while at in self.spent:
                total += self.spent[at]
                at += step
        return total

    def charge(self, slot: int, amount: int) -> int:
        """Add to a slot; of too many the one charged longest ago is forgotten. Returns how many were.

        Not the oldest: one window from a clock that runs ahead must not push out what is being counted now.
        """
        asked = self.asked
        if slot == self.last == asked:
            # Window after window is charged to the minute of the one before.
            self.spent[slot] += amount
            self.sum += amount
            return 0
        self.spent[slot] = self.spent.pop(slot, 0) + amount
        self.last = slot
        # The slot asked for lies among those that its sum is of, whichever they end at.
        self._newest = max(self._newest, slot)
        if asked == slot:
            self.sum += amount
        else:
            self.asked = _NEVER
        if len(self.spent) <= SLOTS_MAX:
            return 0
        oldest = next(iter(self.spent))
        # What had left the period already changes no sum.
        if not 0 < self._width <= slot - oldest:
            self.asked = _NEVER
        del self.spent[oldest]
        if oldest == self._newest:
            self._newest = max(self.spent, default=-1)
        return 1

    def put(self, slot: int, amount: int) -> None:
        """The slot has counted so much, and was charged last."""
        self.spent.pop(slot, None)
        self.asked = _NEVER
        self.charge(slot, amount)

    def seen(self, slot: int, width: int, digests: Iterable[str]) -> tuple[int, int]:
        """Distinct objects of the period, and how many of ``digests`` would be new in it."""
        live = sum(count for at, count in self.touched.items() if slot - width < at)
        new = sum(1 for digest in digests if self.objects.get(digest, -1) <= slot - width)
        return live, new

    def remember(self, slot: int, width: int, digests: Iterable[str]) -> int:
        """Note the objects as touched in the slot; returns for how many there was no room."""
        refused = 0
        for digest in digests:
            before = self.objects.get(digest)
            if before is None and len(self.objects) >= OBJECTS_COUNTED_MAX:
                refused += 1
            elif before is None or before < slot:
                self._move(digest, before, slot)
        if len(self.objects) >= OBJECTS_COUNTED_MAX or len(self.touched) > SLOTS_MAX:
            # What is out of the period no longer counts, and is no loss.
            for digest in [digest for digest, at in self.objects.items() if at <= slot - width]:
                self._move(digest, self.objects.pop(digest), None)
                self.purged = True
        return refused

    def note(self, parts: Collection[int | str]) -> None:
        """These slots or digests are news to whoever asks for changes."""
        if self.noted is None:
            self.noted = set(parts)
        else:
            self.noted.update(parts)

    def touch(self, digest: str, slot: int) -> None:
        """The object was last touched in the slot."""
        self._move(digest, self.objects.get(digest), slot)

    def _move(self, digest: str, before: int | None, slot: int | None) -> None:
        """Count an object in the slot it was touched in last, or in none."""
        if before is not None:
            self.touched[before] -= 1
            if not self.touched[before]:
                del self.touched[before]
        if slot is not None:
            self.objects[digest] = slot
            self.touched[slot] = self.touched.get(slot, 0) + 1


class Claim:
    """A limit of amounts that is asked for and charged again and again, with its budget at hand."""

    __slots__ = ("budget", "key", "limit", "slot", "width")

    def __init__(self, key: str, limit: Limit) -> None:
        self.key, self.limit = key, limit
        self.budget: Budget | None = None
        self.slot = self.width = 0
        """Where its period ends that was asked for last."""


class Budgets:
    """Every budget of a plant by key; the keys name hop, exception or calendar line, limit and host."""

    def __init__(self, timezone: ZoneInfo) -> None:
        self._timezone = timezone
        self._memory: Marking[Budget] = Marking(partial(Budget, new=True), _said, _read, BUDGETS_MAX)
        self._notes = False
        self.slots_forgotten_total = 0
        self.objects_refused_total = 0

    @property
    def forgotten_total(self) -> int:
        """Budgets that the bound has pushed out."""
        return self._memory.forgotten_total

    def would_use(self, key: str, limit: Limit, start_ns: int, amount: int, objects: Iterable[str] = ()) -> int:
        """What the limit would have counted with this window; nothing changes."""
        budget = self._memory.known(key)
        if limit.unit is not Unit.OBJECTS:
            return amount if budget is None else budget.used(*self._slot(limit, start_ns)) + amount
        digests = set(map(digest, objects))
        if budget is None:
            return len(digests)
        live, new = budget.seen(*self._slot(limit, start_ns), digests)
        return live + new

    def charge(self, key: str, limit: Limit, start_ns: int, amount: int, objects: Iterable[str] = ()) -> int:
        """Count the window against the limit; returns what it has counted now."""
        slot, width = self._slot(limit, start_ns)
        budget = self._memory.touched(key)
        if limit.unit is not Unit.OBJECTS:
            return self._spend(budget, slot, width, amount)
        digests = set(map(digest, objects))
        self.objects_refused_total += budget.remember(slot, width, digests)
        if self._notes:
            budget.note(digests)
        return budget.seen(slot, width, ())[0]

    def used(self, claim: Claim, start_ns: int) -> int:
        """What the claim's limit has counted before this window; nothing changes."""
        limit = claim.limit
        if limit.period is Period.HOUR:
            slot = start_ns // MINUTE_NS
            claim.slot, claim.width = slot, BUCKETS + 1
        else:
            slot, _ = claim.slot, claim.width = self._slot(limit, start_ns)
        budget = claim.budget
        if budget is None or budget.turn != self._memory.turn:
            budget = claim.budget = self._memory.known(claim.key)
            if budget is None:
                return 0
        return budget.sum if budget.asked == slot else budget.used(slot, claim.width)

    def pay(self, claim: Claim, amount: int) -> int:
        """Count the window that was just asked for against the claim's limit; returns what it has counted now."""
        budget, slot = claim.budget, claim.slot
        if budget is None or budget.turn != self._memory.turn:
            budget = claim.budget = self._memory.touched(claim.key)
        elif slot == budget.last == budget.asked:
            # As ``_spend`` does it, window after window in the minute of the one before, which is news already.
            budget.spent[slot] += amount
            budget.sum += amount
            return budget.sum
        return self._spend(budget, slot, claim.width, amount)

    def _spend(self, budget: Budget, slot: int, width: int, amount: int) -> int:
        # Asked for before, so that the sum is at hand.
        used = budget.used(slot, width) + amount
        self.slots_forgotten_total += budget.charge(slot, amount)
        if self._notes:
            budget.note((slot,))
        return used

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything counted, as JSON values."""
        return dict(self._memory.state())

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self._memory.restore(list(state.items()))

    def changes(self) -> list[Any]:  # Any: JSON values
        """What was charged since the last call, the budget charged last at the end; the first call only begins to note it."""
        if not self._notes:
            self._notes = True
            for _, budget in self._memory.items():
                budget.new = False
        made: list[Any] = []  # Any: JSON values
        for key, budget in self._memory.changed():
            new, parts = budget.new, budget.noted or ()
            spent = [[at, amount] for at, amount in budget.spent.items() if new or at in parts]
            whole = new or budget.purged
            objects = [[name, at] for name, at in budget.objects.items() if whole or name in parts]
            made.append([key, spent, objects, new, whole])
            budget.new, budget.noted, budget.purged = False, None, False
        return made

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for key, spent, objects, new, whole in changes:
            budget = Budget() if new else self._memory.known(key) or Budget()
            for at, amount in spent:
                budget.put(int(at), int(amount))
            if whole:
                budget = Budget(budget.spent, {str(name): int(at) for name, at in objects})
            else:
                for name, at in objects:
                    budget.touch(str(name), int(at))
            self._memory.put(key, budget)

    def __len__(self) -> int:
        return len(self._memory)

    def _slot(self, limit: Limit, start_ns: int) -> tuple[int, int]:
        if limit.period is Period.HOUR:
            return start_ns // MINUTE_NS, BUCKETS + 1
        if limit.period is Period.SESSION:
            return start_ns // _REST_NS, SESSION
        return _day(start_ns // 10**9, self._timezone), 1 if limit.period is Period.DAY else MONTH_DAYS


# Every window of a second asks for the same day.
@lru_cache(maxsize=4_096)
def _day(second: int, timezone: ZoneInfo) -> int:
    return datetime.fromtimestamp(second, UTC).astimezone(timezone).toordinal()


# A window names the objects of the one before it.
@lru_cache(maxsize=16_384)
def digest(name: str) -> str:
    """What stands for an object's name where only its distinctness counts."""
    return blake2b(name.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _said(budget: Budget) -> list[Any]:  # Any: JSON values
    return [list(budget.spent.items()), list(budget.objects.items())]


def _read(said: list[Any]) -> Budget:  # Any: JSON values
    spent, objects = said
    return Budget({int(at): int(amount) for at, amount in spent}, {str(name): int(at) for name, at in objects})

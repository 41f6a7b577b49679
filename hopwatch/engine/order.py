"""The order in which an agent said its events, again, when they come out of several topics.

Flows, losses and heartbeats lie in topics of their own. Kafka keeps the order within each and says nothing of the order between them,
but it matters: a loss makes the windows it covers less certain, and only those judged after it. Every event bears the number its agent
gave it (``agent_sequence``, dense for each ``spool``), so the next one is known: what comes too early waits for what is before it.

It waits no longer than there is something to wait for: when every topic has been read beyond where it ended when the wait began, and
HOLD_S have passed for what an agent had to send once more, or the bound is reached, what is missing was lost on the way, and the next
number there is goes on. A number that came before is a repetition and passes at once; detectors know those. Events without a number
pass at once, too.
"""

from __future__ import annotations

import json
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hopwatch.events import Event

WAITING_MAX: Final = 20_000
"""Events of one partition that wait for an earlier one."""

HOLD_S: Final = 5.0
"""How long a missing number is waited for at least; a cluster that lost a broker takes so long to answer for all partitions again."""

SPOOLS_MAX: Final = 4_096
"""Spools whose next number is remembered; the one heard of longest ago is forgotten and begins anew."""

AHEAD_MAX: Final = 1_024
"""Runs of numbers known of a spool beyond the next one."""

_NUMBER: Final = b',"agent_sequence":'
_SPOOL: Final = b',"spool":"'
_TAIL_BYTES: Final = 160


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """One event with its place in its topic; ordered by its number."""

    number: int
    topic: str = field(compare=False)
    offset: int = field(compare=False)
    event: Event = field(compare=False)
    answers: tuple[tuple[int, int], ...] = field(compare=False)
    """Runs of numbers that this event stands for, its own among them."""

    since_s: float = field(compare=False)
    until: dict[str, int] = field(compare=False)
    """How far each topic must be read before the wait is over; a topic that is not in it is not known to end anywhere yet."""


@dataclass(slots=True)
class _Spool:
    next: int
    ahead: list[tuple[int, int]] = field(default_factory=list)
    """Runs beyond ``next`` that were answered for."""

    waiting: list[Waiting] = field(default_factory=list)

    def passed(self, answers: Iterable[tuple[int, int]]) -> None:
        for run in answers:
            if run[1] >= self.next:
                insort(self.ahead, run)
        while self.ahead and (self.ahead[0][0] <= self.next or len(self.ahead) > AHEAD_MAX):
            self.next = max(self.next, self.ahead.pop(0)[1] + 1)


class Order:
    """The numbers of one partition's spools; bring events with ``put``, take what may go on from what it and ``overdue`` return."""

    def __init__(self, said: Mapping[str, int] | None = None) -> None:
        """``said`` is what ``next_numbers`` gave."""
        self._spools: dict[str, _Spool] = {spool: _Spool(number) for spool, number in (said or {}).items()}
        self._waiting = 0
        self.missing_total = 0

    def is_next(self, spool_name: object, number: object) -> bool:
        """Whether a window with this number is the one its spool goes on with, as nearly every one is; it is taken as passed then."""
        spool = self._spools.get(spool_name) if isinstance(spool_name, str) else None
        if spool is None or number != spool.next or spool.ahead or spool.waiting:
            return False
        spool.next += 1
        return True

    def put(self, topic: str, offset: int, event: Event, line: bytes, ends: Mapping[str, int], now_s: float) -> Iterator[Event]:
        """What may go on now that this event is here; ``ends`` is where each topic ends as far as is known."""
        spool_name, answers = numbers(line)
        if spool_name is None:
            yield event
            return
        spool = self._spools.get(spool_name)
        if spool is None:
            if len(self._spools) >= SPOOLS_MAX:
                yield from self._forget(next(iter(self._spools)))
            spool = self._spools[spool_name] = _Spool(min(first for first, _ in answers))
        if min(first for first, _ in answers) <= spool.next:
            spool.passed(answers)
            yield event
            yield from self._follow(spool)
            return
        insort(spool.waiting, Waiting(answers[-1][1], topic, offset, event, answers, now_s, dict(ends)))
        self._waiting += 1
        if self._waiting > WAITING_MAX:
            yield from self._give_up(max(self._spools.values(), key=lambda one: len(one.waiting)))

    def overdue(self, read: Mapping[str, int], ends: Mapping[str, int], now_s: float) -> Iterator[Event]:
        """What has waited long enough, now that every topic is read up to ``read``; ``ends`` as for ``put``."""
        if not self._waiting:
            return
        for spool in list(self._spools.values()):
            while spool.waiting and self._over(spool.waiting[0], read, ends, now_s):
                yield from self._give_up(spool)

    def _over(self, one: Waiting, read: Mapping[str, int], ends: Mapping[str, int], now_s: float) -> bool:
        for topic, end in ends.items():
            one.until.setdefault(topic, end)
        return now_s - one.since_s >= HOLD_S and all(topic in one.until and at >= one.until[topic] for topic, at in read.items())

    def flush(self) -> Iterator[Event]:
        """Everything that waits, in order; nobody will bring what is missing."""
        for spool in self._spools.values():
            while spool.waiting:
                yield from self._give_up(spool)

    def held(self, topic: str) -> int | None:
        """The first offset of the topic whose event still waits."""
        return min((one.offset for spool in self._spools.values() for one in spool.waiting if one.topic == topic), default=None)

    def next_numbers(self) -> dict[str, int]:
        """The number each spool's next event is to have."""
        return {name: spool.next for name, spool in self._spools.items()}

    def __len__(self) -> int:
        return self._waiting

    def _follow(self, spool: _Spool) -> Iterator[Event]:
        """What has waited for the number that just came."""
        while spool.waiting and min(first for first, _ in spool.waiting[0].answers) <= spool.next:
            one = spool.waiting.pop(0)
            self._waiting -= 1
            spool.passed(one.answers)
            yield one.event

    def _give_up(self, spool: _Spool) -> Iterator[Event]:
        first = min(first for first, _ in spool.waiting[0].answers)
        self.missing_total += max(0, first - spool.next)
        spool.next = max(spool.next, first)
        yield from self._follow(spool)

    def _forget(self, name: str) -> Iterator[Event]:
        spool = self._spools[name]
        while spool.waiting:
            yield from self._give_up(spool)
        del self._spools[name]


def numbers(line: bytes) -> tuple[str | None, tuple[tuple[int, int], ...]]:
    """The spool an event waited in, None if it says none, and the runs of numbers it stands for, its own last."""
    place = line.rfind(_NUMBER, -_TAIL_BYTES)
    if place >= 0 and b'"agent_sequences"' not in line:
        number, spool, rest = line[place + len(_NUMBER) :].partition(_SPOOL)
        name, quote, brace = rest.partition(b'"')
        if spool and quote and brace.strip() == b"}" and number.isdigit() and len(number) < 19 and name.isalnum():
            return name.decode(), ((int(number), int(number)),)
    if b'"agent_sequence"' not in line:
        return None, ()
    said: dict[str, Any] = json.loads(line)  # Any: JSON values.
    own, where, merged = said.get("agent_sequence"), said.get("spool"), said.get("merged")
    if not isinstance(own, int) or not isinstance(where, str):
        return None, ()
    stood = merged.get("agent_sequences") if isinstance(merged, dict) else said.get("agent_sequences")
    runs = [
        (run[0], run[1])
        for run in (stood if isinstance(stood, list) else [])
        if isinstance(run, list) and len(run) == 2 and all(isinstance(end, int) and end >= 0 for end in run)
    ]
    return where, (*runs, (own, own))

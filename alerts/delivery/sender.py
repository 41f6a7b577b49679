"""A sender a destination: reads its queue in order, sends, tries again, and lets no other wait.

``Sender.step`` does one thing and says when it wants to do the next; it reads no clock and draws no randomness but those it is given,
so that an hour of an outage is simulated in a moment. ``Senders`` runs each in a thread of its own, with its own connection to the
queues: what one destination waits for, no other does, and whoever queues letters waits for none.

After a failure the same letter is tried again, ever later (a capped exponential wait, half of it random, so that many senders do not
come back at once), for as long as it takes. A letter that is refused for good is put aside, dead, and the next goes. A batch that is
refused as a whole is sent again letter by letter until the refused one is found.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from alerts.delivery import Destination, Item, Refused, Retry
from alerts.delivery.canary import canary
from alerts.outbox import Outbox, Waiting, letter
from hopwatch.events import Alert, Decision, EventError, parse, time_ns
from hopwatch.store import StoreError

POLL_S: Final = 1.0
"""How often an empty queue is looked at, if nobody says that something came."""

STANDBY_S: Final = 10.0
"""How often a sender asks whether another process still holds its destination."""

BACKOFF_S: Final = 1.0
BACKOFF_S_MAX: Final = 300.0
"""The longest wait between two attempts, unless the receiver asks for more."""

DELAY_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)
STOP_S: Final = 5.0
FAULT_S: Final = 30.0
"""How long a sender rests after a mistake of our own."""


@dataclass(slots=True)
class Delays:
    """How long letters waited until the destination had them: counts by bucket (not cumulative), their number and sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(DELAY_BUCKETS_S) + 1))
    sum_s: float = 0.0

    def take(self, delay_s: float) -> None:
        """One more letter arrived."""
        self.counts[sum(delay_s > bound for bound in DELAY_BUCKETS_S)] += 1
        self.sum_s += delay_s


class Sender:
    """The sender of one destination. One thread uses it."""

    def __init__(
        self,
        name: str,
        destination: Destination,
        outbox: Outbox,
        *,
        clock_ns: Callable[[], int],
        random: Random,
        canary_s: float | None = None,
        plant: str = "hopwatch",
    ) -> None:
        self.name, self._destination, self._outbox = name, destination, outbox
        self._clock_ns, self._random = clock_ns, random
        self._canary_s, self._plant = canary_s, plant
        self._canary_ns = clock_ns() if canary_s else 0
        self._canary: str | None = None
        self._failures = 0
        self._not_before_ns = 0
        self._one_by_one = 0
        self.delays, self.alert_delays = Delays(), Delays()
        self.trouble: str | None = None
        """What is wrong with the queues themselves."""

    def step(self) -> float:
        """Send what is due; returns the seconds until there may be more to do."""
        try:
            pause_s = self._step()
        except StoreError as error:
            # Nothing was taken away: the letter is there, and comes a second time if it had gone.
            self.trouble = str(error)
            self._failures += 1
            return self._backoff_s()
        self.trouble = None
        return pause_s

    def _step(self) -> float:
        if not self._outbox.hold(self.name):
            return STANDBY_S
        now_ns = self._clock_ns()
        self._plan_canary(now_ns)
        if now_ns < self._not_before_ns:
            return min(POLL_S, (self._not_before_ns - now_ns) / 1e9) if self._canary_s else (self._not_before_ns - now_ns) / 1e9
        waiting = self._outbox.waiting(self.name, 1 if self._one_by_one else self._destination.batch_max)
        if not waiting:
            return self._idle(now_ns)
        items, unreadable = _items(waiting)
        if not items:
            self._outbox.dead(self.name, waiting[0].place, unreadable, now_ns)
            return 0.0
        waiting = waiting[: len(items)]
        # A letter that failed once has been gathered already.
        gather_s = 0.0 if waiting[0].attempts else self._destination.wait_s(items, (now_ns - waiting[0].queued_ns) / 1e9)
        if gather_s > 0:
            return min(gather_s, POLL_S)
        self._send(waiting, items)
        return max(0.0, (self._not_before_ns - self._clock_ns()) / 1e9)

    def _send(self, waiting: list[Waiting], items: list[Item]) -> None:
        try:
            self._destination.send(items)
        except Retry as error:
            self._took(waiting, items, error.done)
            self._later(waiting[error.done].place, str(error), error.after_s)
        except Refused as error:
            self._took(waiting, items, error.done)
            self._put_aside(waiting[error.done :], str(error), whole=error.whole)
        except StoreError:
            raise  # Of the alert book, which an Alertmanager's open alerts come from: the letter is as good as ever.
        except Exception as error:
            # A mistake of ours, in a format for example: it must stop neither the letters behind this one nor the thread.
            self._put_aside(waiting, f"our own fault: {type(error).__name__} while this letter was written", whole=len(waiting) > 1)
        else:
            self._took(waiting, items, len(waiting))
            self._one_by_one = max(0, self._one_by_one - len(waiting))

    def _took(self, waiting: Sequence[Waiting], items: Sequence[Item], count: int) -> None:
        if not count:
            return
        now_ns = self._clock_ns()
        told = None
        for one, item in zip(waiting[:count], items[:count], strict=True):
            made_ns = time_ns(item.event.time)
            self.delays.take(max(0.0, (now_ns - one.queued_ns) / 1e9))
            self.alert_delays.take(max(0.0, (now_ns - made_ns) / 1e9))
            if isinstance(item.event, Alert) and item.event.canary:
                told = (item.event.event_id, max(0, now_ns - made_ns))
                self._canary = None if self._canary == item.event.event_id else self._canary
        remark, self._destination.remark = self._destination.remark, None
        self._outbox.sent(self.name, [one.place for one in waiting[:count]], now_ns, canary=told, remark=remark)
        self._failures = 0

    def _put_aside(self, waiting: Sequence[Waiting], why: str, *, whole: bool) -> None:
        if whole and len(waiting) > 1:
            self._one_by_one = len(waiting)
            return
        self._outbox.dead(self.name, waiting[0].place, why, self._clock_ns())
        if waiting[0].event_id == self._canary:
            self._canary = None
        self._one_by_one = max(0, self._one_by_one - 1)
        self._failures = 0

    def _later(self, place: int, why: str, after_s: float | None) -> None:
        now_ns = self._clock_ns()
        self._failures += 1
        pause_s = max(self._backoff_s(), after_s or 0.0)
        self._not_before_ns = now_ns + int(pause_s * 1e9)
        self._outbox.failed(self.name, place, why, now_ns, self._not_before_ns)

    def _backoff_s(self) -> float:
        longest = min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** min(self._failures - 1, 30))
        return longest * (0.5 + 0.5 * self._random.random())

    def _idle(self, now_ns: int) -> float:
        # What does not wait any more went, or was dropped at the bound.
        self._canary = None
        try:
            self._destination.idle()
        except Retry as error:
            self._later(-1, str(error), error.after_s)
            return (self._not_before_ns - now_ns) / 1e9
        if self._failures:
            # What failed between letters goes again; nothing was taken that could say so.
            self._outbox.sent(self.name, [], now_ns)
            self._failures = 0
        return POLL_S

    def _plan_canary(self, now_ns: int) -> None:
        """A canary when one is due, unless the one before still waits: it is not to fill a queue that nobody reads."""
        if self._canary_s is None or now_ns < self._canary_ns or self._canary is not None:
            return
        self._canary_ns = now_ns + int(self._canary_s * 1e9)
        event = canary(self.name, self._plant, now_ns)
        self._outbox.add([letter(self.name, event)], now_ns)
        self._canary = event.event_id

    def close(self) -> None:
        """Let go of the receiver and the queues."""
        self._destination.close()
        self._outbox.close()


def _items(waiting: Sequence[Waiting]) -> tuple[list[Item], str]:
    """The letters at the front that can be read, and why the first that cannot be."""
    items: list[Item] = []
    for one in waiting:
        try:
            event = parse(one.line)
        except EventError as error:
            return items, f"no event: {error}"
        if not isinstance(event, Alert | Decision):
            return items, f"neither alert nor decision: {event.kind}"
        items.append(Item(event, one.line))
    return items, ""


class Senders:
    """Every destination's sender, each in a thread."""

    def __init__(
        self,
        destinations: Mapping[str, Destination],
        outbox: Callable[[], Outbox],
        *,
        canary_s: Callable[[str], float | None] = lambda name: None,
        plant: str = "hopwatch",
        clock_ns: Callable[[], int] = time.time_ns,
        random: Random | None = None,
    ) -> None:
        """``outbox`` opens the queues: each thread has its own."""
        self._destinations, self._outbox = destinations, outbox
        self._canary_s, self._plant, self._clock_ns = canary_s, plant, clock_ns
        seeds = random or Random()
        self._seeds = {name: seeds.getrandbits(64) for name in destinations}
        self._ended = threading.Event()
        self._wakes = {name: threading.Event() for name in destinations}
        self._threads = [threading.Thread(target=self._run, args=(name,), name=f"deliver {name}", daemon=True) for name in destinations]
        self.running: dict[str, Sender] = {}
        self.troubles: deque[str] = deque(maxlen=len(destinations) + 1)

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Something was queued."""
        for event in self._wakes.values():
            event.set()

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """End after the letter at hand; False if a receiver keeps a thread waiting: its letter is sent again by the next run."""
        self._ended.set()
        self.wake()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, name: str) -> None:
        wake, random = self._wakes[name], Random(self._seeds[name])
        sender: Sender | None = None
        pause_s = BACKOFF_S
        while sender is None and not self._ended.is_set():
            try:
                sender = Sender(
                    name,
                    self._destinations[name],
                    self._outbox(),
                    clock_ns=self._clock_ns,
                    random=random,
                    canary_s=self._canary_s(name),
                    plant=self._plant,
                )
            except StoreError as error:
                self.troubles.append(f"{name}: {error}")
                self._ended.wait(pause_s)
                pause_s = min(2 * pause_s, BACKOFF_S_MAX)
        if sender is None:
            return
        self.running[name] = sender
        try:
            while not self._ended.is_set():
                try:
                    wait_s = sender.step()
                except Exception as error:
                    # A thread that ended would be a destination that nobody serves and nobody misses.
                    sender.trouble, wait_s = f"our own fault: {type(error).__name__}: {error}", FAULT_S
                if wait_s > 0:
                    wake.wait(wait_s)
                    wake.clear()
        finally:
            sender.close()

"""One run of an agent: what the collectors see goes to the spool, and from there to the broker.

A capture is read no faster than the spool can hold it; from interfaces everything is taken, and the spool makes room at its bound.
The end of a capture waits until the broker has everything. The end of a live run waits CLOSE_S; what is not acknowledged by then
stays in the spool, and the next run publishes it first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.pump import Pump
from agent.spool import Spool
from hopwatch.bus import LogError

FULL_SHARE: Final = 0.5
"""A capture waits while the spool is fuller than this."""

WAIT_S: Final = 0.05


@dataclass
class Ended:
    """How a run ended: how many events still wait, and one line for each thing that went wrong."""

    waiting: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Chore:
    """Something done every ``period_s`` seconds, between two batches."""

    period_s: float
    do: Callable[[], None]
    due_s: float = 0.0


class Agent:
    """Spool and pump, in a row; ``stop`` may be called from a signal handler."""

    def __init__(
        self, spool: Spool, pump: Pump, clock: Callable[[], float], sleep: Callable[[float], None], chores: Sequence[Chore] = ()
    ) -> None:
        self._spool, self._pump, self._clock, self._sleep = spool, pump, clock, sleep
        self._chores = list(chores)
        self._stopping = False

    def stop(self) -> None:
        """Ask the run to end."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether it was asked to, or cannot go on."""
        return self._stopping or self._pump.error is not None

    def run(self, batches: Iterator[list[bytes]], expected: tuple[type[Exception], ...], *, live: bool) -> Ended:
        """Spool every batch, and publish; an ``expected`` exception of the source is a line of what is returned."""
        ended = Ended()
        self._pump.start()
        try:
            for batch in batches:
                if batch:
                    self._spool.append(batch, once=not live)
                self._look_after()
                while not live and not self.stopping() and self._spool.size_bytes() > FULL_SHARE * self._spool.size_bytes_max:
                    self._wait()
        except expected as error:
            ended.errors.append(str(error))
        except LogError as error:
            ended.errors.append(str(error))
        try:
            while not live and not self.stopping() and self._spool.waiting():
                self._wait()
            self._look_after(last=True)
        except LogError as error:
            ended.errors.append(str(error))
        self._pump.stop()
        if self._pump.error is not None and self._pump.error not in ended.errors:
            ended.errors.append(self._pump.error)
        with contextlib.suppress(LogError):  # Damaged, and said so already.
            ended.waiting = self._spool.waiting()
        return ended

    def _wait(self) -> None:
        self._sleep(WAIT_S)
        self._look_after()

    def _look_after(self, *, last: bool = False) -> None:
        now_s = self._clock()
        for chore in self._chores:
            if last or now_s >= chore.due_s:
                chore.due_s = now_s + chore.period_s
                chore.do()

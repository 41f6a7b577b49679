"""The loop of a book: take in what the store has, let time pass, wake those who deliver.

It may end at any moment: what a step has not written is read again. What goes wrong is said once a minute, and tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from alerts.book import BATCH_FINDINGS, Book, Letters
from alerts.desk import About
from hopwatch.metrics import Figures, Metric
from hopwatch.store import StoreError

POLL_S: Final = 1.0
"""How often the store is looked at while nothing comes."""

AGAIN_S: Final = 2.0
SAY_AGAIN_S: Final = 60.0
TIDY_S: Final = 3_600.0
_OF: Final = ("alerts run",)
METRICS: Final = (
    Metric("hopwatch_kept_alerts", "gauge", "Alerts there are.", ("plant", "state", "severity"), _OF),
    Metric("hopwatch_alerts_counted_total", "counter", "What the alert book has counted since it was begun.", ("what",), _OF),
    Metric("hopwatch_alerts_step_seconds", "histogram", "What taking in one batch of findings takes.", (), _OF),
    Metric("hopwatch_alerts_failed_total", "counter", "Steps that could not be kept.", (), _OF),
    Metric("hopwatch_alerts_last_step_timestamp_seconds", "gauge", "When the book last took in what there was.", (), _OF),
)


class Runner:
    """Runs one book; everything happens in ``turn``, in one thread."""

    def __init__(
        self,
        book: Book,
        *,
        letters: Letters,
        about: About,
        clock_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda line: None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """``wake`` is told when something was queued."""
        self._book, self._clock_ns, self._clock, self._say, self._wake = book, clock_ns, clock, say, wake
        book.letters, book.about = letters, about
        self._said_s = -SAY_AGAIN_S
        self._tidied_s = clock()
        self._counted: dict[str, int] = {}
        self.figures = Figures(METRICS)

    def turn(self) -> float:
        """One step; returns the seconds to wait before the next, 0 if more lies there."""
        began_s = self._clock()
        try:
            count = self._book.step(self._clock_ns(), BATCH_FINDINGS)
            if began_s - self._tidied_s >= TIDY_S:
                self._tidied_s = began_s
                self._book.tidy(self._clock_ns())
            self._count(began_s)
        except StoreError as error:
            self.figures.add("hopwatch_alerts_failed_total")
            if began_s - self._said_s >= SAY_AGAIN_S:
                self._said_s = began_s
                self._say(f"alerts wait: {error}")
            return AGAIN_S
        self._wake()
        return 0.0 if count >= BATCH_FINDINGS else POLL_S

    def drain(self) -> bool:
        """Take in everything that is there now; False if something of it could not be."""
        while (pause_s := self.turn()) == 0.0:
            pass
        return pause_s != AGAIN_S

    def _count(self, began_s: float) -> None:
        figures = self.figures
        figures.took("hopwatch_alerts_step_seconds", self._clock() - began_s)
        figures.put("hopwatch_alerts_last_step_timestamp_seconds", self._clock_ns() / 1e9)
        counted = self._book.counted()
        if counted == self._counted:
            return
        for what, count in counted.items():
            figures.add("hopwatch_alerts_counted_total", count - self._counted.get(what, 0), what)
        self._counted = counted
        there: dict[tuple[str, ...], float] = {(plant, state, of): count for plant, state, of, count in self._book.counts()}
        figures.ask("hopwatch_kept_alerts", lambda: there)

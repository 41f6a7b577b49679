"""Where pages get what they show: the store, the declarations and what was made of them a moment ago.

A connection to a store belongs to one thread, so one thread reads; requests wait in a bounded queue before it. What a page needs is
made once for all who look at it: ten screens on a wall cost the store what one does.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from alerts.book import BATCH_FINDINGS, Book
from hopwatch.declared.load import load
from hopwatch.declared.match import Index
from hopwatch.declared.model import Architecture
from hopwatch.declared.problem import ArchitectureError
from hopwatch.events import time_ns, time_text
from hopwatch.store import IdUnknown, Reader, StoreError

WAITING_MAX: Final = 64
"""Questions that wait for the reading thread; more are told to come again."""

KEPT_MAX: Final = 64
"""Answers kept for a moment."""

KEPT_S: Final = 2.0

SHARE_MAX: Final = 0.1
"""The share of time that one answer may be made anew in: what took half a second is kept for five."""

STEPS_MAX: Final = 20
"""Batches of findings taken in before a page is answered; the next page takes in more."""

SPANS: Final = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "31d": 31 * 86_400}
"""How far back a page looks; a store that is older than that is not asked for more."""

SPAN: Final = "24h"

_T = TypeVar("_T")

_older: ContextVar[list[bool]] = ContextVar("_older")
"""Of a request: whether it was given an answer that is older than the store."""


def attentive() -> list[bool]:
    """From now on this request is told of answers older than the store: the list is no longer empty."""
    told: list[bool] = []
    _older.set(told)
    return told


class Busy(Exception):
    """More questions wait than there is room for."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The time a page is about; it ends with the newest window, so that a capture of last year can be looked at too."""

    span: str
    since: str
    until: str
    newest: str | None


@dataclass(slots=True)
class Declared:
    """A declaration as it was read last, and what it looked like then."""

    path: Path
    architecture: Architecture
    index: Index
    stamp: tuple[int, int]
    broken: str = ""


class Declarations:
    """The declarations that are looked at, one for each plant; a file that changes is read again."""

    def __init__(self, paths: Sequence[Path], *, at: date | None = None, approvers: Path | None = None) -> None:
        """Read them all.

        Raises:
            ArchitectureError: one is refused.
        """
        self._at, self._approvers = at, approvers
        self.of: dict[str, Declared] = {}
        for path in paths:
            one = self._read(path)
            self.of[one.architecture.plant] = one

    def _read(self, path: Path) -> Declared:
        stamp = _stamp(path)
        architecture = load(path, at=self._at, approvers=self._approvers)
        return Declared(path, architecture, Index(architecture), stamp)

    def fresh(self, plant: str) -> Declared:
        """The plant's declaration; one that no longer loads stays as it was, and says why."""
        one = self.of[plant]
        stamp = _stamp(one.path)
        if stamp != one.stamp:
            one.stamp = stamp
            try:
                again = self._read(one.path)
                if again.architecture.plant != plant:
                    one.broken = f"{one.path}: it is of plant {again.architecture.plant} now"
                else:
                    one.architecture, one.index, one.broken = again.architecture, again.index, ""
            except ArchitectureError as error:
                one.broken = str(error.problems[0])
        return one

    @property
    def stamps(self) -> tuple[tuple[int, int], ...]:
        """What the files look like now."""
        return tuple(_stamp(one.path) for one in self.of.values())

    @property
    def architectures(self) -> list[Architecture]:
        """All of them."""
        return [one.architecture for one in self.of.values()]


class Library:
    """One thread that reads the store and the alert book, and writes decisions; ``clock`` counts seconds.

    ``opened`` and ``booked`` open them in that thread. With ``now_ns`` findings are taken into the book when it is looked at, so that an
    embedded store has its alerts though nobody runs ``hopwatch alerts``; a runner beside it works on the same book in turns.
    """

    def __init__(
        self,
        opened: Callable[[], Reader],
        clock: Callable[[], float],
        booked: Callable[[], Book] | None = None,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        self._opened, self._clock, self._booked, self._now_ns = opened, clock, booked, now_ns
        self._thread = ThreadPoolExecutor(1, "console-reads")
        self._reader: Reader | None = None
        self._book: Book | None = None
        self._taken_s = float("-inf")
        self._waiting = 0
        self._kept: OrderedDict[Hashable, tuple[float, str, Any]] = OrderedDict()  # Any: whatever an answer is.
        self._moment = ""
        self._forgotten = 0
        """How often what was kept has become untrue."""

    @property
    def has_book(self) -> bool:
        """Whether there is an alert book."""
        return self._booked is not None

    async def moment(self) -> str:
        """A text that is another once the store or the alert book is; answers made at another are no longer kept for long.

        Raises:
            StoreError, Busy: as for ``ask``.
        """

        def look() -> str:
            # The book first: looking at it may take findings in.
            book = self._opened_book().moment() if self.has_book else ""
            return f"{self._read().moment()} {book}"

        self._moment = await self._answered(look, None)
        return self._moment

    async def ask(self, question: Callable[[Reader], _T], keep: Hashable = None) -> _T:
        """The store's answer; one with a name to keep it under may be a moment old.

        Raises:
            StoreError: the store cannot be read.
            Busy: too many wait.
        """
        return await self._answered(lambda: question(self._read()), keep)

    async def deal(self, question: Callable[[Book], _T], keep: Hashable = None) -> _T:
        """The alert book's answer, or what it did.

        Raises:
            StoreError, Busy: as for ``ask``.
        """
        return await self._answered(lambda: question(self._opened_book()), keep)

    async def _answered(self, question: Callable[[], _T], keep: Hashable) -> _T:
        if keep is not None and keep in self._kept:
            until_s, moment, answer = self._kept[keep]
            # What was made when the store was as it is now holds however old it is; anything else for a moment.
            if moment == self._moment or self._clock() <= until_s:
                if moment != self._moment:
                    _older.get([]).append(True)
                return cast("_T", answer)  # What is kept under a name is what its question answers.
        if self._waiting >= WAITING_MAX:
            raise Busy
        self._waiting += 1
        began_s, moment, forgotten = self._clock(), self._moment, self._forgotten
        try:
            answered: _T = await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, question)
        finally:
            self._waiting -= 1
        if keep is not None and forgotten == self._forgotten:
            now_s = self._clock()
            self._kept[keep] = (now_s + max(KEPT_S, (now_s - began_s) / SHARE_MAX), moment, answered)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return answered

    def forget(self) -> None:
        """What was kept, or is being asked, is no longer so: somebody decided something."""
        self._kept.clear()
        self._forgotten += 1

    def _guarded(self, question: Callable[[], _T]) -> _T:
        try:
            return question()
        except IdUnknown:
            raise
        except StoreError:
            # A database that was away needs a new connection.
            self._closed()
            raise

    def _read(self) -> Reader:
        if self._reader is None:
            self._reader = self._opened()
        return self._reader

    def _opened_book(self) -> Book:
        assert self._booked is not None, "there is no alert book"
        if self._book is None:
            # The store first: whoever opens it brings it to what the book reads.
            self._read()
            self._book = self._booked()
        if self._now_ns is not None and self._clock() - self._taken_s > KEPT_S:
            self._taken_s = self._clock()
            for _ in range(STEPS_MAX):
                if self._book.step(self._now_ns()) < BATCH_FINDINGS:
                    break
        return self._book

    def _closed(self) -> None:
        for one in (self._reader, self._book):
            if one is not None:
                one.close()
        self._reader = self._book = None

    def close(self) -> None:
        """Let go of the store, in the thread that holds it."""
        self._thread.submit(self._closed).result()
        self._thread.shutdown()


def stretch(reader: Reader, plant: str, span: str, now_ns: int) -> Stretch:
    """The time from ``span`` before the plant's newest window to that window; a window of the future ends at now."""
    newest = reader.newest(plant)
    end_ns = min(time_ns(newest), now_ns) + 1 if newest is not None else now_ns
    return Stretch(span, time_text(max(end_ns - SPANS[span] * 10**9, 0)), time_text(end_ns), newest)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        said = path.stat()
    except OSError:
        return 0, 0
    return said.st_mtime_ns, said.st_size

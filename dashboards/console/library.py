"""Where pages get what they show: the store, the declarations and what was made of them a moment ago.

A connection to a store belongs to one thread, so one thread reads; requests wait in a bounded queue before it. What a page needs is
made once for all who look at it: ten screens on a wall cost the store what one does.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar, cast

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

SPANS: Final = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "31d": 31 * 86_400}
"""How far back a page looks; a store that is older than that is not asked for more."""

SPAN: Final = "24h"

_T = TypeVar("_T")


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
                one.architecture, one.index, one.broken = again.architecture, again.index, ""
            except ArchitectureError as error:
                one.broken = str(error.problems[0])
        return one

    @property
    def architectures(self) -> list[Architecture]:
        """All of them."""
        return [one.architecture for one in self.of.values()]


class Library:
    """One thread that reads; ``opened`` opens the store in it, ``clock`` counts seconds."""

    def __init__(self, opened: Callable[[], Reader], clock: Callable[[], float]) -> None:
        self._opened, self._clock = opened, clock
        self._thread = ThreadPoolExecutor(1, "console-reads")
        self._reader: Reader | None = None
        self._waiting = 0
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()  # Any: whatever an answer is.

    async def ask(self, question: Callable[[Reader], _T], keep: Hashable = None) -> _T:
        """The answer; one with a name to keep it under may be a moment old.

        Raises:
            StoreError: the store cannot be read.
            Busy: too many wait.
        """
        if keep is not None and keep in self._kept:
            made_s, answer = self._kept[keep]
            if self._clock() - made_s <= KEPT_S:
                return cast("_T", answer)  # What is kept under a name is what its question answers.
        if self._waiting >= WAITING_MAX:
            raise Busy
        self._waiting += 1
        try:
            answered: _T = await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        finally:
            self._waiting -= 1
        if keep is not None:
            self._kept[keep] = (self._clock(), answered)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return answered

    def forget(self) -> None:
        """What was kept is no longer so: somebody decided something."""
        self._kept.clear()

    def _answer(self, question: Callable[[Reader], _T]) -> _T:
        if self._reader is None:
            self._reader = self._opened()
        try:
            return question(self._reader)
        except IdUnknown:
            raise
        except StoreError:
            # A database that was away needs a new connection.
            self._closed()
            raise

    def _closed(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

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

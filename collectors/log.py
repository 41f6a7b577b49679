"""Logs in files, read exactly once whatever is killed: what every log has in common, whoever writes it.

Before a piece of a log is read, it is written down which; when the events have been handed over, where they ended and what every
open session had counted. A killed collector reads the same piece once more, by the same state, and gives the same events with the
same ids (docs/decisions/0037).
"""

from __future__ import annotations

import csv
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from collectors.feed import POLL_S, FeedError, Told, windows
from collectors.tail import Cut, Found, Piece, Tail, TailError
from hopwatch.events import Loss, dump, time_text

HEAD_BYTES: Final = 4_096
"""Bytes of a file by which its format is known."""

HEAD_LINES_BYTES_MAX: Final = 1 << 16
"""Bytes of a file in which the names of its columns are looked for."""

COUNT_MAX: Final = 1 << 48
"""What one record may have moved, in bytes or rows; one that says more is no record."""

TIME_NS_MAX: Final = 1 << 62
"""The year 2116: a record from later is none."""

UNREADABLE: Final = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, csv.Error)
"""What a record that is not what it should be makes a parser raise."""


class Record(Protocol):
    """What a parser makes of one record."""

    time_ns: int


class Session(Protocol):
    """What a log keeps of a connection that is still open: its number and what its windows had counted."""

    connection: int
    told: list[Any]  # Any: as the windows gave it


E = TypeVar("E", bound=Record)


class Log(ABC, Generic[E]):
    """The files of a pattern. Counters that every log has: ``lines``, ``unreadable``, ``lost``, ``behind_bytes``, ``behind_ms``, …"""

    KIND: ClassVar[str]
    """The kind of feed, with which its counters begin: ``postgresql-log``."""

    lives = True

    TOGETHER: ClassVar[int] = 1
    """How many files are read in one turn, where one session's records are in several."""

    HEAD_LINES_BYTES: ClassVar[int] = 0
    """Bytes of a file in which its first lines say how those behind them are to be read."""

    OPTIONS: ClassVar[tuple[str, ...]] = ()
    """What it may be told beside where it is."""

    def __init__(self, told: Told, plant: str, state: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Begins where the file ``state`` says.

        Raises:
            FeedError: a part of what was told is wrong, no file is there, one is in another format, or the state is of something else.
        """
        self._told, self._state, self._now_ns = told.only(*self.OPTIONS), state, now_ns
        place, pattern = self._where()
        self._place = [plant, told.feed, *place]
        self._tail = Tail(pattern, self._cut)
        self._windows = windows(plant, told.feed)
        self._touched: dict[str, Session] = {}
        """Sessions that the piece at hand has said something of."""
        self._settled = True
        """Nothing waits for what may come later."""
        self._events: list[bytes] = []
        self._plan: list[Piece] | None = None
        self._last_ns = 0
        """The newest record's time: the log's own clock."""
        self._lost_since: int | None = None
        self._counts: dict[str, int] = {}
        self.example, self.unreadable = "", 0
        self._begin()
        self._restore()
        self._check(pattern)

    @classmethod
    def of(cls, told: Told, plant: str, state: Path, now_ns: Callable[[], int] = time.time_ns) -> Self:
        """As a ``Kind`` does.

        Raises:
            FeedError: as the log does.
        """
        return cls(told, plant, state, now_ns)

    # What a kind says of its records.

    def _where(self) -> tuple[list[Any], str]:  # Any: JSON values
        """What a state must be of to belong to this log, and the pattern of its files: ``[FEED=]PATTERN``.

        Raises:
            FeedError: something else was told.
        """
        return [], self._told.where

    @abstractmethod
    def _format(self, path: Path, head: bytes) -> None:
        """Whether a file that begins like this is one of the kind.

        Raises:
            FeedError: it is not.
        """

    @abstractmethod
    def _parsed(self, record: bytes) -> E | None:
        """A record; None if it says nothing of a client. What it raises is one of `UNREADABLE`."""

    @abstractmethod
    def _heard(self, entry: E) -> None:
        """What the record says, for the windows."""

    def _begin(self) -> None:
        """What is empty, and what was told, before a state is restored.

        Raises:
            FeedError: what was told is wrong.
        """

    def _cut(self, path: Path) -> Cut | None:
        """How the file's bytes are cut into whole records; None if its format is not known yet."""
        return cut_lines

    def _records(self, content: bytes) -> Iterator[tuple[int, bytes]]:
        """Every record and where it begins."""
        return lines(content)

    def _begins(self, found: Found) -> None:
        """What the file is called, and how it begins, says how the piece is to be read."""

    def _settle(self, *, idle: bool) -> None:
        """What has waited long enough, or, when nothing more is there, is complete by itself; says whether something still waits."""

    def _ask(self) -> None:
        """What is asked elsewhere about what the next piece says; it is part of the plan."""

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        """What the kind knows beyond the windows, as ``_resume`` takes it."""
        return {}

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        """Goes on from what was kept."""

    # What a reader of it calls.

    def counters(self) -> dict[str, int]:
        """What was read, what could not be, how far behind and how the server's clock stands; for heartbeats."""
        tail = self._tail
        more = {
            "unreadable": self.unreadable,
            "behind_bytes": tail.behind_bytes,
            "truncated": tail.truncated_total,
            "vanished": tail.vanished_total,
            "files_refused": tail.refused_total,
            "files_over": tail.files_over_total,
        }
        kind = self.KIND.replace("-", "_")
        return {f"{kind}_{name}": count for name, count in (self._counts | more).items()}

    def batches(self, stopping: Callable[[], bool], *, follow: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[list[bytes]]:
        """The events, until ``stopping``, or to the end of what is there. Whoever asks for the next batch has the one before.

        Raises:
            FeedError: a file may not be read, or the state cannot be written.
        """
        try:
            if self._plan is not None:
                yield self._read(self._plan)
                self._plan = None
            while not stopping():
                vanished = self._tail.vanished_total
                pieces = self._tail.pieces(self.TOGETHER)
                if self._tail.vanished_total > vanished:
                    self._lose()
                self._ask()
                if pieces or not self._settled:
                    self._save(pieces)
                    yield self._read(pieces)
                    continue
                if not follow:
                    break
                yield []
                sleep(POLL_S)
            self._save(None)
        except TailError as error:
            raise FeedError(str(error)) from None

    # The state.

    def _save(self, plan: list[Piece] | None) -> None:
        """What was read is handed over; ``plan`` is read next (an empty one: what waits is settled)."""
        said = self._kept() | {
            "version": 1,
            "of": self._place,
            "tail": self._tail.state(),
            "settled": self._settled,
            "last_ns": self._last_ns,
            "lost_since": self._lost_since,
            "plan": None if plan is None else [piece.state() for piece in plan],
        }
        write_state(self._state, said)

    def _restore(self) -> None:
        said = read_state(self._state, self._place)
        if said is None:
            return
        self._tail.restore(said["tail"])
        self._settled, self._last_ns, self._lost_since = said["settled"], said["last_ns"], said["lost_since"]
        if said["plan"] is not None:
            self._plan = [Piece(*piece) for piece in said["plan"]]
        self._resume(said)

    def _check(self, pattern: str) -> None:
        try:
            files = self._tail.files()
        except TailError as error:
            raise FeedError(str(error)) from None
        if not files:
            raise FeedError(f"{pattern}: no such file")
        for path in files:
            try:
                with path.open("rb") as file:
                    head = file.read(HEAD_BYTES)
            except OSError as error:
                raise FeedError(f"{path}: {error.strerror}") from None
            if head:
                self._format(path, head)

    # Reading.

    def _read(self, pieces: list[Piece]) -> list[bytes]:
        for piece in pieces:
            found = self._tail.read(piece, self.HEAD_LINES_BYTES)
            if found is None:
                self._lose()
                continue
            if piece.over:
                self._unreadable(found.path, piece.first)
                self._lose()
            else:
                self._begins(found)
                self._take(found.path, piece.first, found.content)
            self._tail.done(piece)
        self._settle(idle=not pieces)
        for session in self._touched.values():
            session.told = self._windows.told(session.connection)
        self._touched = {}
        events, self._events = self._events, []
        return [*events, *self._windows.take()]

    def _take(self, path: Path, offset: int, content: bytes) -> None:
        for at, record in self._records(content):
            try:
                entry = self._parsed(record)
                if entry is not None:
                    moment(entry.time_ns)
            except UNREADABLE:
                self._unreadable(path, offset + at)
                continue
            self._count("lines")
            if entry is None:
                continue
            if self._lost_since is not None:
                self._say_lost(entry.time_ns)
            self._last_ns = max(self._last_ns, entry.time_ns)
            self._heard(entry)
        if self._last_ns:
            # Of the server's clock only this is known: a line is no older than it looks, and not from the future.
            behind_ms = (self._now_ns() - self._last_ns) // 1_000_000
            self._counts["ahead_ms"] = max(self._counts.get("ahead_ms", 0), -behind_ms)
            self._counts["behind_ms"] = max(0, behind_ms)

    # What could not be read.

    def _count(self, name: str, count: int = 1) -> None:
        self._counts[name] = self._counts.get(name, 0) + count

    def _unreadable(self, path: Path, offset: int) -> None:
        self.unreadable += 1
        self.example = f"{path} at byte {offset}"

    def _lose(self) -> None:
        self._count("lost")
        if self._lost_since is None:
            self._lost_since = self._last_ns

    def _say_lost(self, until_ns: int) -> None:
        since_ns, self._lost_since = self._lost_since or until_ns, None
        self._events.append(loss(self._place, since_ns, until_ns))


class ServerLog(Log[E]):
    """The log of one server, whose address no line of it has: ``[FEED=]ADDRESS:PORT=PATH``, the address as clients dial it."""

    def _where(self) -> tuple[list[Any], str]:  # Any: as of a log
        address, port, pattern = self._told.server()
        return [address, port], pattern


def loss(place: list[Any], since_ns: int, until_ns: int) -> bytes:
    """The event that part of a log is gone unread; ``place``: plant, feed and what else tells the log from others."""
    print_ = " ".join(map(str, ["loss", *place, since_ns, until_ns]))
    return dump(
        Loss(
            event_id=blake2b(print_.encode(), digest_size=16).hexdigest(), plant=place[0], agent=place[1], stage="collector",
            start=time_text(since_ns), end=time_text(max(since_ns, until_ns)), events=1, why="part of a server's log was gone unread",
        )
    )  # fmt: skip


def cut_lines(content: bytes) -> int:
    """How many of the bytes are whole lines."""
    return content.rfind(b"\n") + 1


def lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Every line that is not empty, and where it begins."""
    at = 0
    while (end := content.find(b"\n", at)) >= 0:
        if end > at:
            yield at, content[at:end]
        at = end + 1


def loaded(record: bytes) -> Any:  # Any: a JSON value
    """A record in JSON; what in it is no text is replaced, since a client may choose its name so as not to be read.

    Raises:
        ValueError: no JSON.
    """
    text = record.decode("utf-8", "replace")
    said = json.loads(text)
    if "\\ud" in text or "\\uD" in text:
        # Half of a pair of UTF-16 can be written (RFC 8259, 8.2), and stands for nothing.
        said = json.loads(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"))
    return said


def counted(value: Any, most: int = COUNT_MAX) -> int:  # Any: a JSON value
    """A count that windows can hold.

    Raises:
        ValueError, TypeError, OverflowError: something else.
    """
    found = int(value)
    if not 0 <= found <= most:
        raise ValueError(f"expected 0 to {most}")
    return found


def moment(time_ns: int) -> int:
    """A time that windows can hold.

    Raises:
        ValueError: another.
    """
    if not 0 <= time_ns < TIME_NS_MAX:
        raise ValueError("expected a time between 1970 and 2116")
    return time_ns


def epoch_ns(text: str) -> int:
    """Seconds of the epoch, ``1775558528.026``.

    Raises:
        ValueError: something else.
    """
    whole, _, part = text.partition(".")
    return int(whole) * 10**9 + int(part.ljust(9, "0")[:9] or 0)


def write_state(path: Path, said: dict[str, Any]) -> None:  # Any: JSON values
    """Replaces the file at once, durably, readable by this user only.

    Raises:
        FeedError: it cannot be written.
    """
    beside = path.with_name(path.name + ".new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(json.dumps(said, separators=(",", ":")).encode())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}") from None


def read_state(path: Path, place: list[Any]) -> dict[str, Any] | None:  # Any: JSON values
    """What was written there of the log at ``place``; None if nothing was.

    Raises:
        FeedError: it is damaged, or of something else.
    """
    try:
        said: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise FeedError(f"{path}: damaged; without it the log is read from its beginning") from None
    if said.get("version") != 1 or said["of"] != place:
        raise FeedError(f"{path}: the place in the log of {said.get('of')}, expected {place}")
    return said

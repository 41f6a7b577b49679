"""How much of a table has left: rows of one object to one account, over statements, cursors, sessions, reconnects and days.

Asks: does an account take a table whole, or in one go far more of it than on any day before? Sees: the rows of every object set
once, whatever statement, cursor or page brought them. Explains itself by rows, the fraction of the table where its size is
known, and since when.

Blind to: rows taken under several accounts (see ``spending`` for owners), and reading the same rows again, which counts again:
a fraction above one says so; catalogues, and what a ticket allows. Raised wrongly by: a reload after a broken night (declare an
exception), a table that shrank.
What to do: compare with the use case's declared subset; ask whether a filter on time or line would do.

A table's size is what a feed says now (``hopwatch.sizes``), else its declaration (``rows``); without either the fraction is unknown and
only the account's own past is compared. One extraction goes on as long as no pause is longer than ``PAUSE_NS``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, ClassVar, Final

from msgspec import to_builtins

from detectors.cases import Cases
from detectors.judgement import class_severity, severities_of
from detectors.memory import Held, Memory
from detectors.moved import Look, Moved, Question
from detectors.units import DAY_NS, MINUTE_NS
from hopwatch.declared.catalogue import is_metadata
from hopwatch.declared.match import End, Index, Remembered
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, ObjectSet

READS: Final = frozenset({"select", "copy", "history-read", "read", "get", "call", "replicate", "backup"})

WHOLE_KINDS: Final = frozenset({"backup", "replica"})
"""Kinds of assets that are there to hold the whole: what an approved hop brings there may be all there is."""

PAUSE_NS: Final = 30 * MINUTE_NS
"""A longer pause ends an extraction: cursors, pages and reconnects are closer together."""

DAYS_KEPT: Final = 40
FRACTION_AT_ONCE: Final = 0.5
FRACTION_IN_ALL: Final = 0.9
"""The fraction of a table that one extraction, or all of ``DAYS_KEPT`` days, may take before it is said."""

ROWS_MIN: Final = 10_000
"""Fewer rows are no bulk, whatever was usual."""

RATIO: Final = 3.0
"""An extraction of so many times the largest of the days before is said, if there were ``DAYS_LEARNT`` of them."""

DAYS_LEARNT: Final = 10


TableRows = Callable[[str, str | None, str], int | None]
"""Rows of a plant's asset's table as somebody counted them lately; None of a table that nobody did."""


@dataclass(slots=True)
class Taken:
    """Of one object by one account: the extraction under way, and the rows of each day (day number and rows)."""

    since_ns: int = 0
    last_ns: int = 0
    rows: int = 0
    days: list[list[int]] = field(default_factory=list)
    before: int = 0
    most: int = 0
    """Rows of all days before the last, and of the largest of them."""

    told: str = ""


@dataclass(slots=True)
class _Table:
    """What is asked of windows in which one account takes these objects; usually they are one table."""

    extraction: "Extraction"
    name: str
    taken: Held[Taken]
    size: int | None
    """Rows of the table as declared."""

    metadata: bool
    day: int = -1
    until_ns: int = 0
    """The last day on which rows were taken, and its end."""

    little: float = 0.0
    """Fewer rows of that day, or of the extraction under way, are nothing to be said."""

    def look(self, moved: Moved) -> Sequence[Finding]:
        """A finding when an extraction grows beyond what is usual, or beyond a fraction of the table."""
        part = moved.flow.objects[0]
        if (moved.rows <= 0 and moved.values <= 0) or not (part.rows or part.values):
            return ()
        return self.take(moved, part, moved.rows + moved.values)

    def take(self, moved: Moved, part: ObjectSet, rows: int) -> Sequence[Finding]:
        """The same of one set of the window's objects."""
        held, extraction, at_ns = self.taken, self.extraction, moved.start_ns
        taken = held.entry if held.turn == extraction.taken.turn else extraction.taken.again(held)
        if at_ns - taken.last_ns > PAUSE_NS:
            taken.since_ns, taken.rows, taken.told = at_ns, 0, ""
        taken.rows += rows
        if moved.end_ns > taken.last_ns:
            taken.last_ns = moved.end_ns
        if at_ns >= self.until_ns or taken.days[-1][0] != self.day:
            extraction.new_day(self, taken, at_ns // DAY_NS)
        today = taken.days[-1]
        today[1] += rows
        if taken.rows < self.little and today[1] < self.little:
            return ()
        return extraction.much(moved, part, self, taken)


class Extraction(Question):
    """Rows by account, server and object."""

    name: ClassVar[str] = "extraction"
    by_client: ClassVar[bool] = False

    def __init__(self, architecture: Architecture, quoted: Declaration, index: Index | None = None, sizes: TableRows | None = None) -> None:
        self._sizes = sizes
        self._architecture = architecture
        self._index = index or Index(architecture)
        self._cases = Cases(quoted, severities_of(architecture))
        self._size = Remembered(self._declared_size)
        self.taken: Memory[Taken] = Memory(Taken, to_builtins, lambda said: Taken(**said), 65_536)

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """What was taken and the open findings."""
        return {"taken": self.taken, "cases": self._cases.memory}

    def asked(self, moved: Moved) -> Look | None:
        """How much of what is read is taken, but under a ticket, or to a place that is there to hold the whole."""
        is_for_all = moved.approved and self._is_for_all(moved.destination)
        if moved.flow.operation not in READS or is_for_all or moved.under_ticket:
            return None
        sets = {tuple(part.names): self._table(moved, part.names) for part in moved.flow.objects}
        if len(moved.flow.objects) == 1:
            (table,) = sets.values()
            return table.look
        return partial(_take_all, sets)

    def _is_for_all(self, end: End) -> bool:
        asset = end.host or end.asset
        return asset is not None and self._architecture.assets[asset].kind in WHOLE_KINDS

    def new_day(self, table: _Table, taken: Taken, day: int) -> None:
        """Another day of taking, if this is one."""
        if not taken.days or taken.days[-1][0] < day:
            taken.days = [one for one in taken.days if one[0] > day - DAYS_KEPT]
            taken.before, taken.most = sum(rows for _, rows in taken.days), max((rows for _, rows in taken.days), default=0)
            taken.days.append([day, 0])
        table.day = taken.days[-1][0]
        table.until_ns = (table.day + 1) * DAY_NS
        table.little = self._little(table.size, taken)

    def _little(self, size: int | None, taken: Taken) -> float:
        """Rows of a day, or of one extraction, below which ``_large`` says nothing."""
        if self._sizes is not None:
            # What the table has may be counted anew with any window.
            return 0.0
        unusual = max(ROWS_MIN, RATIO * taken.most) if len(taken.days) > DAYS_LEARNT else inf
        if not size:
            return unusual
        return min(unusual, max(FRACTION_AT_ONCE * size, 1), FRACTION_IN_ALL * size - taken.before if taken.before else inf)

    def much(self, moved: Moved, part: ObjectSet, table: _Table, taken: Taken) -> Sequence[Finding]:
        """What is said of an extraction that may be large."""
        size = table.size if self._sizes is None else self._fed_size(moved, part) or table.size
        kind, declared, seen = self._large(size, taken)
        # A catalogue is read again and again, and is nobody's data.
        if not kind or kind == taken.told or table.metadata:
            return ()
        taken.told = kind
        return (
            self._cases.say(
                "bulk-extraction",
                class_severity(self._architecture, moved.classes, unclassified=not moved.classes),
                plant=moved.flow.plant,
                who=moved.account,
                source=moved.source.shown,
                destination=moved.destination.shown,
                what=table.name,
                first_ns=taken.since_ns,
                last_ns=moved.end_ns,
                differences=[("how_much", declared, seen)],
                moved=moved,
                hop=moved.hop,
                taken_rows=taken.rows,
            ),
        )

    def _table(self, moved: Moved, names: Sequence[str]) -> _Table:
        """What is asked of these objects; the account may yet take nothing of them."""
        name = ", ".join(names[:4])
        taken = self.taken.later(f"{moved.server.asset or moved.server.address}|{moved.who}|{name}")
        size = self._size((moved.server.asset or moved.server.host, tuple(names)))
        return _Table(self, name, taken, size, bool(names) and all(map(is_metadata, names)))

    def _large(self, size: int | None, taken: Taken) -> tuple[str, str, str]:
        """Why what was taken is much: a word for it, what would not be, and what was seen."""
        in_all, most = taken.before + taken.days[-1][1], taken.most
        if size and taken.rows >= max(FRACTION_AT_ONCE * size, 1):
            return "whole", f"a part of {size} rows", f"{taken.rows} rows, {taken.rows / size:.0%} of the table in one go"
        if size and taken.before and in_all >= FRACTION_IN_ALL * size and most < FRACTION_AT_ONCE * size:
            return "in-all", f"a part of {size} rows", f"{in_all} rows, {in_all / size:.0%} of the table in {len(taken.days)} days"
        if len(taken.days) <= DAYS_LEARNT:
            return "", "", ""
        # A flow that never pauses is one extraction for ever: against days only what it took today counts.
        today = min(taken.rows, taken.days[-1][1])
        if today >= max(ROWS_MIN, RATIO * most):
            known = "" if size else ", fraction unknown"
            return "unusual", f"at most {most} rows a day", f"{today} rows in one go{known}"
        return "", "", ""

    def _fed_size(self, moved: Moved, part: ObjectSet) -> int | None:
        """Rows of the largest of the set's tables as they were counted lately."""
        assert self._sizes is not None, "asked where there is a feed"
        asset = moved.server.asset or moved.server.host
        counted = [self._sizes(self._architecture.plant, asset, name) for name in part.names]
        return max((rows for rows in counted if rows is not None), default=None)

    def _declared_size(self, asked: tuple[str | None, tuple[str, ...]]) -> int | None:
        """Rows of the asset's table as declared; of several tables the largest counts."""
        asset, names = asked
        entries = {entry for name in names for entry in self._index.classify(asset, name).entries}
        return max((rows for entry in entries if (rows := self._architecture.data[entry].rows) is not None), default=None)


def _take_all(tables: Mapping[tuple[str, ...], _Table], moved: Moved) -> Sequence[Finding]:
    """What a window shows of several sets."""
    new, parts = moved.rows + moved.values, moved.flow.objects
    if moved.rows <= 0 and moved.values <= 0:
        return ()
    whole = sum([part.rows + part.values for part in parts])
    found: list[Finding] = []
    for part in parts:
        # Of a window that another view has counted in part, every set counts its share.
        rows = (part.rows + part.values) * new // max(1, whole)
        if rows > 0:
            found += tables[tuple(part.names)].take(moved, part, rows)
    return found

"""What was said of each window, as rows of PostgreSQL: one small row a window, and one of each thing that was said of any, a day.

Windows alike are told the same, so a day has some hundreds of outcomes and millions of windows. An outcome's name is the hash of its
text; it lies with the day of its windows, so that both go together. The view ``judged_flows`` joins them to the flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

from hopwatch.store.postgresql import NULL, Hiding, escaped
from hopwatch.store.rows import Row, clean, sortable, text

OUTCOMES_MAX: Final = 16_384
"""Outcomes whose text and name are remembered; at the bound all are forgotten and made again."""


class Outcome(Protocol):
    """What is said of a window and of every window like it; its classes are those of what moved."""

    @property
    def verdict(self) -> str: ...
    @property
    def severity(self) -> str | None: ...
    @property
    def hop(self) -> str | None: ...
    @property
    def who(self) -> str | None: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def highest(self) -> str | None:
        """The highest of the classes."""
        ...

    @property
    def service(self) -> str | None: ...
    @property
    def places(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Zone and name of where it came from, zone and name of where it went; None for what is in no zone, or not told apart."""
        ...

    @property
    def event(self) -> dict[str, Any]:  # Any: JSON values.
        """All that is shown of it; ``differences`` may quote accounts."""
        ...


class Judged(NamedTuple):
    """One window that was judged. ``named`` are the accounts that what differs may quote; None where nothing differs.

    ``rows`` and ``bytes`` are what no other view of its connection counted.
    """

    event_id: str
    start: str
    plant: str
    outcome: Outcome
    finding_id: str | None
    named: tuple[Any, ...] | None  # Any: account, role, on_behalf_of and the objects of ``admin``, as they stand in the flow.
    rows: int
    bytes: int
    depth: str


class Told(NamedTuple):
    """What goes into the tables: lines of ``judgements`` in COPY's text format, rows of ``outcomes``, and the days of both."""

    lines: str
    outcomes: list[Row]
    days: set[str]


class Outcomes:
    """Makes the rows; remembers what it has made of an outcome."""

    def __init__(self, hiding: Hiding) -> None:
        self._hiding = hiding
        self._made: dict[int, tuple[Outcome, str, Row]] = {}

    def told(self, judged: Iterable[Judged]) -> Told:
        """What is kept of them, names of persons hidden."""
        lines: list[str] = []
        outcomes: dict[tuple[str, str], Row] = {}
        for event_id, began, plant, outcome, finding_id, named, rows, size, depth in judged:
            start = sortable(began)
            made = None if named else self._made.get(id(outcome))
            _, name, tail = made or self._make(plant, outcome, named)
            day = start[:10]
            if (name, day) not in outcomes:
                outcomes[name, day] = (name, day, *tail)
            identity = event_id if event_id.isalnum() else _escaped(event_id)
            # One text for all: a row at a time costs three times as much.
            lines.append(f"{identity}\t{start}\t{name}\t{finding_id or NULL}\t{rows}\t{size}\t{depth}\n")
        return Told("".join(lines), list(outcomes.values()), {day for _, day in outcomes})

    def _make(self, plant: str, said: Outcome, named: tuple[Any, ...] | None) -> tuple[Outcome, str, Row]:  # Any: as ``Judged``.
        shown = said.event
        if named and shown["differences"]:
            account, role, on_behalf_of, objects = named
            quoted = {"plant": plant, "account": account, "role": role, "on_behalf_of": on_behalf_of, "who": said.who, "objects": objects}
            shown["differences"] = self._hiding.rewritten(quoted | {"differences": shown["differences"]})["differences"]
        judgement = text(shown)
        who = self._hiding.rewritten({"plant": plant, "who": said.who})["who"]
        more = (said.service, who, said.highest, *said.places)
        tail = clean((plant, said.verdict, said.severity, said.hop, list(said.classes), judgement, *more))
        name = blake2b(f"{plant}\0{judgement}\0{more}".encode(errors="surrogatepass"), digest_size=10).hexdigest()
        # The outcome is held with it, so that no other can have its place in memory.
        made = (said, name, tail)
        if not named:
            if len(self._made) >= OUTCOMES_MAX:
                self._made.clear()
            self._made[id(said)] = made
        return made


def _escaped(name: str) -> str:
    """A name of any characters, as COPY reads it."""
    (kept,) = clean((name,))
    return escaped(str(kept))

"""Where events, verdicts and findings rest: one SQL schema, and the only room that makes pseudonyms.

Everything is recognised by its identity, so reading a capture twice adds nothing: a flow, loss or heartbeat by its
``event_id``, a finding by its ``finding_id`` (hash of plant, verdict, who, source, destination and hop).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Event = Mapping[str, Any]  # Any: one JSON object; readers keep fields they do not know (events.md).

ID_CHARACTERS_MIN = 8
"""The shortest prefix of an id that is looked up; findings quote ids of at least this length."""


WINDOWS_SUMMED_MAX = 200_000
"""Windows that one question about sums looks at: the newest ones, so that no question is as slow as the store is old."""

DEPTHS_SUMMED_MAX = 20_000
"""The same where each window has to be opened."""

GROUPS_MAX = 20_000
"""Groups that such a question is answered in."""

ENDS_MAX = 100
"""Pairs of addresses that windows are listed for at once."""


class StoreError(Exception):
    """The store cannot be opened, read or written; the message is one line for the person who runs it."""


class StoreFull(StoreError):
    """The store's bound or the disk is reached; nothing of the refused batch was written."""


class IdUnknown(StoreError):
    """No record, or more than one, has this id."""


@dataclass(frozen=True, slots=True)
class JudgedFlow:
    """A flow and what was said about it; ``finding_id`` is None unless the verdict raised or updated a finding.

    Judged against another ``declaration`` than before, what is said now takes the place of what was said then, which stays with it
    as ``earlier``.
    """

    event: Event
    verdict: str | None = None
    severity: str | None = None
    hop: str | None = None
    finding_id: str | None = None
    checked: Mapping[str, str] = field(default_factory=dict)
    differences: tuple[Mapping[str, str], ...] = ()
    declaration: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values.
    rows: int | None = None
    """What it adds to what all views of its connection have counted, for sums; the window's own where nobody said."""
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What to select; None selects everything. ``account`` is given in clear, ``since`` and ``until`` in RFC 3339."""

    plant: str | None = None
    verdict: str | None = None
    account: str | None = None
    address: str | None = None
    hop: str | None = None
    protocol: str | None = None
    since: str | None = None
    until: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Movement:
    """Windows between two addresses that differ in nothing but when and how much; what a finding calls the ends, where there is one."""

    source: str
    destination: str
    protocol: str | None
    account: str | None
    operation: str | None
    verdict: str | None
    severity: str | None
    hop: str | None
    finding_id: str | None
    windows: int
    rows: int
    bytes: int
    first: str
    last: str
    shown_source: str | None = None
    shown_destination: str | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """How deep windows between two addresses were read: by which agent, and how completely."""

    agent: str
    source: str
    destination: str
    hop: str | None
    verdict: str | None
    depth: str
    state: str
    windows: int
    bytes: int


class Reader(Protocol):
    """A store as people and programs read it, embedded or at scale (``hopwatch.store.reader``)."""

    def flows(self, query: Query) -> list[dict[str, Any]]:
        """Flow events, newest first, each with its judgement under ``judgement``."""
        ...

    def findings(self, query: Query) -> list[dict[str, Any]]:
        """Findings, the last updated first."""
        ...

    def losses(self, query: Query) -> list[dict[str, Any]]:
        """Losses, newest first."""
        ...

    def history(
        self, since: str | None = None, until: str | None = None, *, plant: str | None = None, kinds: Collection[str] = ("flow",)
    ) -> Iterator[dict[str, Any]]:
        """What began at or after ``since`` and before ``until``, in the order of time and in bounded memory.

        ``kinds`` are of flow, loss and heartbeat. A flow bears what was said of it under ``judgement``, None if nothing was.
        """
        ...

    def newest(self, plant: str) -> str | None:
        """When the last window of the plant began; None before the first."""
        ...

    def moment(self) -> str:
        """A text that is another once anything was written by anybody: while it is the same, every answer is. It costs next to nothing."""
        ...

    def movements(self, plant: str, since: str, until: str) -> list[Movement]:
        """What moved in the windows that began in that time, the most bytes first; of the newest WINDOWS_SUMMED_MAX of them."""
        ...

    def depths(self, plant: str, since: str, until: str) -> list[Depth]:
        """How deep those windows were read; of the newest DEPTHS_SUMMED_MAX of them."""
        ...

    def heartbeats(self, plant: str, since: str) -> list[dict[str, Any]]:
        """The last heartbeat of each agent that was heard since."""
        ...

    def between(
        self,
        plant: str,
        since: str,
        until: str,
        ends: Collection[tuple[str, str]],
        said: Collection[tuple[str | None, str | None]],
        limit: int,
    ) -> list[dict[str, Any]]:
        """The newest flows between pairs of addresses with one of these hops and verdicts, each with its judgement."""
        ...

    def find(self, id_prefix: str) -> dict[str, Any]:
        """The one finding, flow or loss whose id starts so.

        Raises:
            IdUnknown: none does, several do, or the prefix is shorter than ID_CHARACTERS_MIN.
        """
        ...

    def flows_of(self, finding_id: str, limit: int) -> list[dict[str, Any]]:
        """The flows a finding was raised from, oldest first."""
        ...

    def close(self) -> None:
        """Let go of the store; idempotent."""
        ...


class Store(Reader, Protocol):
    """Where records rest; every write is all or nothing."""

    def add(
        self,
        *,
        flows: Iterable[JudgedFlow] = (),
        findings: Iterable[Event] = (),
        losses: Iterable[Event] = (),
        heartbeats: Iterable[Event] = (),
    ) -> int:
        """Keep the records; returns how many flows, losses and heartbeats were new.

        Raises:
            StoreFull: there is no room; nothing of the batch was written.
        """
        ...

    def keep_state(self, name: str, state: bytes) -> None:
        """Keep what the judge remembers, in place of what was kept before; it is on the disk when this returns.

        Raises:
            StoreFull: there is no room; what was kept before still is.
        """
        ...

    def state(self, name: str) -> bytes | None:
        """What was kept under the name last; None if nothing was."""
        ...

    def judged(self, event_ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], dict[str, Any] | None]]:
        """What was said of those of the flows that are kept: the judgement, and the finding if it raised one."""
        ...

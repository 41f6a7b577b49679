"""One judged window as the online detectors see it, and what they have in common.

The verdict looks at a window by itself; the detectors that count over hours, sessions and hosts build on what it found out, so
that ends, accounts and classes are looked up once and amounts that two views saw are counted once.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from detectors.judgement import Spent
from detectors.memory import Memory
from hopwatch.declared.match import End
from hopwatch.events import Finding, Flow, Heartbeat, Loss


class Moved(msgspec.Struct, frozen=True, gc=False):
    """``rows`` to ``bytes_back`` are what no other view of the connection has counted yet; times are packet time, clocks put right.

    The ends say nothing of ports that nobody declared. Most windows are like one before them: the same is said of them, and they
    share everything but ids, numbers, times, amounts and the order of several object sets. Such windows share their ``notes``.
    """

    flow: Flow
    verdict: str
    hop: str | None
    account: str | None
    """As declared if it is, else as seen; None where nobody could read it."""

    declared: bool
    """Whether the account is in the file."""

    source: End
    destination: End
    client: End
    server: End
    classes: tuple[str, ...]
    notes: dict[str, Any]  # Any: each question's own
    """What questions have worked out of windows like this one, by their names: what follows from the declaration and from what such
    windows share, and entries that they hold; what is remembered lies in memories alone."""

    start_ns: int
    end_ns: int
    rows: int
    values: int
    messages: int
    bytes: int
    bytes_back: int
    complete: bool
    """Whether nothing of the window was lost."""
    spent: tuple[Spent, ...] = ()
    """The limits it was charged to, and what each has counted now."""

    def but(self, **changes: Any) -> "Moved":  # Any: fields of the window
        """The same with other fields; it is like no other window then."""
        return replace(self, **{"notes": {}} | changes)

    @property
    def under_ticket(self) -> bool:
        """An exception or a calendar line loosens its hop at that time, or lets its account work."""
        known: bool | None = self.notes.get("ticket")
        if known is None:
            # Windows like one another are charged to the same limits.
            known = self.notes["ticket"] = (self.hop is None and self.verdict in ("declared", "declared-in-part")) or any(
                one.key.startswith(("exception:", "calendar:")) for one in self.spent
            )
        return known

    @property
    def approved(self) -> bool:
        """Its hop allows it, as far as anyone could see."""
        return self.hop is not None and self.verdict in ("declared", "declared-in-part")

    @property
    def server_port(self) -> int:
        """Where the client dialled."""
        return (self.flow.source if self.server is self.source else self.flow.destination).port

    @property
    def who(self) -> str:
        """The account as a finding shows it."""
        return self.account or "unread account"


class Question(ABC):
    """A detector of judged windows. What it remembers lies in ``memories``, so that keeping it needs no further word."""

    name: ClassVar[str]

    @abstractmethod
    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """Everything remembered, by table."""

    def concerns(self, moved: Moved) -> bool:
        """Whether windows like this one can show anything, whatever is remembered: asked once for all of them."""
        return True

    def observe(self, moved: Moved) -> Sequence[Finding]:
        """What the window shows."""
        return self.look(moved) if self.concerns(moved) else ()

    def look(self, moved: Moved) -> Sequence[Finding]:
        """What a window shows that it concerns."""
        return ()

    def lives(self, heartbeat: Heartbeat) -> Sequence[Finding]:
        """An agent has said that it lives."""
        return ()

    def advance(self, now_ns: int) -> Sequence[Finding]:
        """What the passing of time shows."""
        return ()

    def blind(self, loss: Loss) -> None:  # noqa: B027  # most questions conclude nothing from an absence
        """Something was not seen: nothing may be concluded from its absence."""

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything remembered."""
        return {name: memory.state() for name, memory in self.memories().items()}

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave; a table that is new begins with nothing."""
        for name, memory in self.memories().items():
            memory.restore(state.get(name, []))

    def changes(self) -> dict[str, Any]:  # Any: JSON values
        """What changed since the last call; the first only begins to note it."""
        return {name: memory.changes() for name, memory in self.memories().items()}

    def merge(self, changes: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for name, memory in self.memories().items():
            memory.merge(changes[name])

    def forgotten(self) -> dict[str, int]:
        """What the bounds have pushed out, by table."""
        return {name: memory.forgotten_total for name, memory in self.memories().items()}

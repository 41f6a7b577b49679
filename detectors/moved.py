"""One judged window as the online detectors see it, and what they have in common.

The verdict looks at a window by itself; the detectors that count over hours, sessions and hosts build on what it found out, so
that ends, accounts and classes are looked up once and amounts that two views saw are counted once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from detectors.judgement import Spent
from detectors.memory import Memory
from hopwatch.declared.match import End
from hopwatch.events import Finding, Flow, Heartbeat, Loss


class Alike(msgspec.Struct, frozen=True, gc=False):
    """What windows share of which the very same is said."""

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


class Moved(msgspec.Struct, frozen=True, gc=False):
    """``rows`` to ``bytes_back`` are what no other view of the connection has counted yet; times are packet time, clocks put right.

    The ends say nothing of ports that nobody declared. Most windows are like one before them: they share what is ``alike``, and everything
    else but ids, numbers, times, amounts and the order of several object sets.
    """

    flow: Flow
    alike: Alike
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
        shared = {name: changes.pop(name) for name in Alike.__struct_fields__ if name in changes}
        return replace(self, alike=replace(self.alike, **shared), **changes)

    @property
    def verdict(self) -> str:
        """The first row of the table that applies."""
        return self.alike.verdict

    @property
    def hop(self) -> str | None:
        """The joined hop that it was judged by."""
        return self.alike.hop

    @property
    def account(self) -> str | None:
        """As declared if it is, else as seen; None where nobody could read it."""
        return self.alike.account

    @property
    def declared(self) -> bool:
        """Whether the account is in the file."""
        return self.alike.declared

    @property
    def source(self) -> End:
        """Where the data came from."""
        return self.alike.source

    @property
    def destination(self) -> End:
        """Where the data went."""
        return self.alike.destination

    @property
    def client(self) -> End:
        """Who dialled."""
        return self.alike.client

    @property
    def server(self) -> End:
        """Who was dialled."""
        return self.alike.server

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of what moved."""
        return self.alike.classes

    @property
    def under_ticket(self) -> bool:
        """An exception or a calendar line loosens its hop at that time, or lets its account work: so of all windows like it."""
        return (self.hop is None and self.verdict in ("declared", "declared-in-part")) or any(
            one.key.startswith(("exception:", "calendar:")) for one in self.spent
        )

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


Look = Callable[[Moved], Sequence[Finding]]
"""What is asked of a window."""


class Question(ABC):
    """A detector of judged windows. What it remembers lies in ``memories``, so that keeping it needs no further word."""

    name: ClassVar[str]
    by_client: ClassVar[bool] = True
    """Whether ``asked`` may say another thing of windows that differ in a client alone, which nothing in the declaration tells from others
    of its zone; where it says the same, it is asked once for all of them."""

    @abstractmethod
    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """Everything remembered, by table."""

    def asked(self, moved: Moved) -> Look | None:
        """What is asked of windows like this one, worked out once for all of them; None if they can show nothing, whatever is remembered.

        Most questions only say which windows concern them, and look at each by itself.
        """
        return self.look if self.concerns(moved) else None

    def concerns(self, moved: Moved) -> bool:
        """Whether windows like this one can show anything."""
        return True

    def look(self, moved: Moved) -> Sequence[Finding]:
        """What a window shows that it concerns."""
        return ()

    def observe(self, moved: Moved) -> Sequence[Finding]:
        """What the window shows."""
        look = self.asked(moved)
        return () if look is None else look(moved)

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

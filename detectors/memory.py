"""What a detector remembers of each key: bounded, counted, kept as JSON, and cheap to keep when little has changed.

Every question about accounts, hosts or pairs needs the same table: entries in the order in which they were touched, the one
touched longest ago forgotten at the bound, all of it as JSON values, and the tail of it that was touched since it was last
asked (see ``changes``).

What windows like one another touch again and again is held (``Held``), so that only the first of them in each turn of the memory
looks it up. A turn ends when the changes are asked for, when something is forgotten, and with each of ``TURNS`` parts of the bound
that is filled: what is held and used was touched in the last turn, and stands far from what is forgotten next.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final, Generic, Protocol, TypeVar

from detectors.changes import put, tail

Entry = TypeVar("Entry")

KEYS_MAX: Final = 16_384
"""Entries of a memory that names no other bound."""

TURNS: Final = 16
"""Into how many turns the entries of a full memory fall."""

NO_TURN: Final = 0
_turns = count(NO_TURN + 1)
# No two memories share a turn, so that what is held of one is nothing to another.


class Held(Generic[Entry]):
    """An entry at hand: it may be used as long as ``turn`` is its memory's; otherwise ask the memory for it ``again``."""

    __slots__ = ("entry", "key", "turn")

    def __init__(self, key: str, entry: Entry, turn: int) -> None:
        self.key, self.entry, self.turn = key, entry, turn


class Memory(Generic[Entry]):
    """Entries by key. ``made`` gives a new one; ``said`` and ``read`` turn one into JSON values and back.

    ``forgets`` is called with each key that the bound pushes out.
    """

    def __init__(
        self,
        made: Callable[[], Entry],
        said: Callable[[Entry], Any],  # Any: JSON values
        read: Callable[[Any], Entry],  # Any: JSON values
        most: int = KEYS_MAX,
        forgets: Callable[[str], object] | None = None,
    ) -> None:
        self._made, self._said, self._read, self._most, self._forgets = made, said, read, most, forgets
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        """Every entry, the one touched longest ago first; for whoever does not change them."""

        self._touched: set[str] | None = None
        self._step = max(1, most // TURNS)
        self.turn = next(_turns)
        self.forgotten_total = 0

    def of(self, key: str) -> Entry:
        """The entry of the key, a new one if there is none; it counts as touched, and may be changed."""
        entry = self.entries.get(key)
        if entry is None:
            entry = self._made()
            self.become(key, entry)
            return entry
        if self._touched is not None:
            self._touched.add(key)
        self.entries.move_to_end(key)
        return entry

    def become(self, key: str, entry: Entry) -> None:
        """The entry of a key that has none, or another one in the place of the entry that was just touched."""
        if self._touched is not None:
            self._touched.add(key)
        entries = self.entries
        before = len(entries)
        entries[key] = entry
        size = len(entries)
        if size == before:
            return
        if size % self._step == 0:
            self.turn = next(_turns)
        if size > self._most:
            oldest, _ = entries.popitem(last=False)
            self.turn = next(_turns)
            self.forgotten_total += 1
            if self._forgets is not None:
                self._forgets(oldest)

    def hold(self, key: str) -> Held[Entry]:
        """As ``of``, for whoever comes back to it."""
        # The turn of afterwards: a new entry may begin one.
        entry = self.of(key)
        return Held(key, entry, self.turn)

    def later(self, key: str) -> Held[Entry]:
        """As ``hold``, but the entry is asked for, and made if there is none, when it is first used."""
        return Held(key, self._made(), NO_TURN)

    def again(self, held: Held[Entry]) -> Entry:
        """The entry of what was held in a turn that is over."""
        held.entry = self.of(held.key)
        held.turn = self.turn
        return held.entry

    def known(self, key: str) -> Entry | None:
        """The entry of the key, not to be changed; None if there is none."""
        return self.entries.get(key)

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Every entry, the one touched longest ago first; not to be changed."""
        return iter(self.entries.items())

    def put(self, key: str, entry: Entry) -> None:
        """The entry of the key, as the one touched last; it does not count as changed."""
        put(self.entries, key, entry, self._most)
        self.turn = next(_turns)

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything, in order."""
        return [[key, self._said(entry)] for key, entry in self.entries.items()]

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self.entries.clear()
        self.entries.update((str(key), self._read(said)) for key, said in state)
        self.turn = next(_turns)

    def changes(self) -> list[Any]:  # Any: JSON values
        """The entries touched since the last call, in order; the first call only begins to note them."""
        return [[key, self._said(entry)] for key, entry in self.changed()]

    def changed(self) -> list[tuple[str, Entry]]:
        """The same entries themselves."""
        touched, self._touched = self._touched, set()
        self.turn = next(_turns)
        return tail(self.entries, touched or ())

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for key, said in changes:
            self.put(str(key), self._read(said))

    def __len__(self) -> int:
        return len(self.entries)


class Marked(Protocol):
    """An entry that says itself in which turn of its memory it was touched last."""

    turn: int


MarkedEntry = TypeVar("MarkedEntry", bound=Marked)


class Marking(Memory[MarkedEntry]):
    """A memory of such entries: whoever has one at hand may use it as long as its turn is the memory's."""

    def touched(self, key: str) -> MarkedEntry:
        """As ``of``, but once a turn it is enough."""
        entry = self.entries.get(key)
        if entry is None or entry.turn != self.turn:
            entry = self.of(key)
            # The turn of afterwards: a new entry may begin one.
            entry.turn = self.turn
        return entry

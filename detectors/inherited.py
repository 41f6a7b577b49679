"""What a table holds because another filled it: the classes that a name has beside those the declaration gives it.

``CREATE TABLE AS``, ``SELECT INTO``, ``INSERT … SELECT``, ``MERGE``, a view or a new name take data from where it is declared to where
nobody said what it is. The mark ``fills`` of an object set names the table that is filled first, and those it is filled from after it. A
later read of the filled one is a read of their classes, from copy to copy.

Remembered by server and name, without the schema where the session did not say it. It ends when the table is filled again under a
hop or ticket that approves it while the declaration classes it: then its class is what a person said. A DROP does not end it,
because the name may come back with the same rows.
"""

from collections.abc import Sequence
from typing import Final

from detectors.compare import holder
from detectors.judgement import QUIET
from detectors.memory import Memory
from detectors.moved import Moved
from hopwatch.declared.match import End, Index
from hopwatch.events import ObjectSet

COPIES_MAX: Final = 16_384
"""Names that inherit; the one filled or read longest ago is forgotten, and counts as declared."""

SCHEMAS_MAX: Final = 64
"""Schemas of one name that are told apart; of more, the classes hold in any."""

FILLS: Final = "fills"

SQL: Final = frozenset({"postgresql", "mysql", "tds", "tns"})
"""Protocols that name tables."""


def place(end: End) -> str:
    """The server that holds the names, whichever of its members serves."""
    return end.asset or end.host or end.address


class Inherited:
    """The classes that copies have of what filled them."""

    def __init__(self, index: Index) -> None:
        self._index = index
        # By server and last part of the name: for each schema, or for none said, the classes.
        self.memory: Memory[dict[str, list[str]]] = Memory(dict, dict, dict, COPIES_MAX)

    def learn(self, moved: Moved) -> Moved:
        """Remember what the window fills; the window with the classes that its objects inherit."""
        if moved.flow.protocol not in SQL or moved.flow.operation == "refused":
            return moved
        classes: set[str] = set()
        for part in moved.flow.objects:
            if FILLS in part.kinds:
                self._fill(moved, part)
            if len(self.memory):
                classes |= self.of(moved, part.names)
        return moved if classes <= set(moved.classes) else moved.but(classes=tuple(sorted({*moved.classes, *classes})))

    def of(self, moved: Moved, names: Sequence[str]) -> set[str]:
        """The classes that these names inherit."""
        found: set[str] = set()
        server = place(moved.server) + "|"
        for name in names:
            schema, _, last = name.rpartition(".")
            copy = self.memory.known(server + last)
            if copy is None:
                continue
            for other, classes in copy.items():
                # A name without a schema may be any schema's.
                if not schema or not other or schema == other:
                    found.update(classes)
        return found

    def classes(self, moved: Moved, part: ObjectSet, names: Sequence[str]) -> set[str]:
        """Everything that these names of the set hold, declared or inherited."""
        asset = holder(self._index, moved.server, moved.client)
        return {*self._index.met(asset, names, part.columns).classes, *self.of(moved, names)}

    def gained(self, moved: Moved, part: ObjectSet) -> set[str]:
        """The classes that the filled table of the set has not itself, as declared."""
        asset = holder(self._index, moved.server, moved.client)
        return self.classes(moved, part, part.names[1:]) - self._index.met(asset, part.names[:1], part.columns).classes

    def _fill(self, moved: Moved, part: ObjectSet) -> None:
        if len(part.names) < 2:
            return
        gained = self.gained(moved, part)
        schema, _, last = part.names[0].rpartition(".")
        key = f"{place(moved.server)}|{last}"
        if moved.verdict in QUIET and self._index.classify(holder(self._index, moved.server, moved.client), part.names[0]).classes:
            if self.memory.known(key):
                self.memory.of(key).pop(schema, None)
        elif gained:
            copy = self.memory.of(key)
            if schema not in copy and len(copy) >= SCHEMAS_MAX:
                schema = ""
            copy[schema] = sorted({*copy.get(schema, ()), *gained})

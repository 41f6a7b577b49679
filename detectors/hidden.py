"""Did data leave a table without rows on the session: into a file, a program, another server, a copy, or one value.

Asks: of every statement, does it move rows of a table where nobody counts rows? Sees: the marks of object sets (docs/events.md), what
copies inherit (``inherited.py``), which tables were made foreign, and the bytes of rows that stand for many. COPY to a file or a
program of the server, ``lo_export``, dblink and HTTP from SQL are said at once, whoever does it: the hop of a session says nothing
about where else data goes. Foreign servers and tables are said when they are made, and when they are filled. A copy is said where its
name lacks a class that fills it, and again where a hop that is not for that class reads it; one value where it is as large as many
rows.

Blind to: SQL built by functions or in DO bodies, second fills of one statement, and folding into values below ``VALUE_BYTES_MIN``. A
statement that failed for another reason than a missing right counts as one that ran. How many rows went to a file no message of
the session says as rows.
Raised wrongly by: an administrator's own export; an interface that answers with JSON by design (limit its hop by bytes, and it is quiet); a
summary of a classed table into an unclassed one (declare it).
What to do: ask who needs the file or the server, and have the copy declared with its class or dropped.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from msgspec import to_builtins

from detectors.cases import Cases
from detectors.inherited import FILLS, Inherited, place
from detectors.judgement import QUIET, class_severity, severities_of
from detectors.memory import Memory
from detectors.moved import Look, Moved, Question
from detectors.units import DAY_NS
from hopwatch.declared.catalogue import is_metadata
from hopwatch.declared.match import Index
from hopwatch.declared.model import Architecture
from hopwatch.declared.quantity import Unit
from hopwatch.events import SEVERITIES, Declaration, Finding, ObjectSet, Severity

ELSEWHERE: Final = {"to-file": "a file of {}", "to-program": "a program on {}", "to-server": "another server, from {}"}
"""Marks of statements that move rows elsewhere, and where that is."""

VALUE_BYTES_MIN: Final = 16 << 10
"""Bytes of a row that folds others, from which on it stands for many: no order or lot with its steps is as long."""

FOLDED_BYTES_MIN: Final = 32 << 10
"""Bytes of such rows to one account within a day that are said."""

READS: Final = frozenset({"select", "copy"})

COPIED_AT_MOST: Final[Severity] = "medium"
"""A copy has not left its server yet."""


@dataclass(slots=True)
class Folded:
    """Of one object to one account: the bytes of a day, and the rows that they came in."""

    day: int = 0
    bytes: int = 0
    rows: int = 0
    told: bool = False


class Hidden(Question):
    """Marked statements, by server and object."""

    name: ClassVar[str] = "hidden"
    by_client: ClassVar[bool] = False

    def __init__(self, architecture: Architecture, quoted: Declaration, index: Index, inherited: Inherited) -> None:
        self._architecture = architecture
        self._index = index
        self._inherited = inherited
        self._copies = inherited.memory.entries
        self._cases = Cases(quoted, severities_of(architecture))
        self._foreign: Memory[dict[str, Any]] = Memory(dict, dict, dict)
        self._folded: Memory[Folded] = Memory(Folded, to_builtins, lambda said: Folded(**said))
        self._reads: Memory[list[int]] = Memory(lambda: [-1], list, list)

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """What copies inherit, the foreign tables, what was folded, the day a copy's readers were last said, and the open findings."""
        return {
            "copies": self._inherited.memory,
            "foreign": self._foreign,
            "folded": self._folded,
            "reads": self._reads,
            "cases": self._cases.memory,
        }

    def asked(self, moved: Moved) -> Look | None:
        """What is marked; reads besides, which may be of a copy."""
        flow = moved.flow
        if flow.operation == "refused":
            return None
        if any(part.kinds for part in flow.objects):
            return self.look
        return self._of_copies if flow.operation in READS else None

    def look(self, moved: Moved) -> Sequence[Finding]:
        """A finding for each set whose mark says that more moved than its rows."""
        marked = [one for part in moved.flow.objects if part.kinds for one in self._marked(moved, part)]
        return [*marked, *self._of_copies(moved)]

    def _of_copies(self, moved: Moved) -> Sequence[Finding]:
        """A finding for each set that reads a copy."""
        if not self._copies or moved.flow.operation not in READS:
            return ()
        return [one for part in moved.flow.objects for one in self._read(moved, part)]

    def _marked(self, moved: Moved, part: ObjectSet) -> Iterator[Finding]:
        names = [name for name in part.names if not is_metadata(name)]
        for mark, where in ELSEWHERE.items():
            # A statement that names only catalogues moves nothing of the plant.
            if mark in part.kinds and (names or not part.names):
                yield self._elsewhere(moved, part, names, mark, where.format(moved.server.shown))
        if "foreign" in part.kinds:
            for name in part.names:
                self._foreign.of(f"{place(moved.server)}|{name}")
            yield self._say(
                moved, "way-out", "medium", part.names, "what", "no foreign server or table", ", ".join(part.names), "definition"
            )
        if FILLS in part.kinds and len(part.names) > 1:
            yield from self._filled(moved, part)
        if "folded" in part.kinds and names:
            yield from self._fold(moved, part, names)

    def _elsewhere(self, moved: Moved, part: ObjectSet, names: Sequence[str], mark: str, where: str) -> Finding:
        classes = self._inherited.classes(moved, part, names)
        severity = class_severity(self._architecture, classes, unclassified=bool(names) and not classes)
        seen = f"{', '.join(names[:4]) or 'what no name tells'} to {where}"
        return self._say(moved, "hidden-extraction", severity, names, "where", "rows to the client, or none", seen, mark)

    def _filled(self, moved: Moved, part: ObjectSet) -> Iterator[Finding]:
        target, sources = part.names[0], part.names[1:]
        server, schema = place(moved.server), target.rpartition(".")[0]
        if self._foreign.known(f"{server}|{target}") is not None or self._foreign.known(f"{server}|schema:{schema}") is not None:
            if moved.flow.operation != "ddl":
                yield self._elsewhere(moved, part, sources, "foreign-table", f"the foreign table {target}")
            return
        gained = self._inherited.gained(moved, part)
        if not gained or moved.verdict in QUIET:
            return
        severity = min(class_severity(self._architecture, gained), COPIED_AT_MOST, key=SEVERITIES.index)
        seen = f"{', '.join(sorted(gained))} from {', '.join(sources[:4])}"
        yield self._say(moved, "class-copy", severity, part.names, "what", f"{target}: no such class", seen, "copy")

    def _read(self, moved: Moved, part: ObjectSet) -> Iterator[Finding]:
        """A read of a copy, by a hop that is not for what it holds or by none."""
        allowed = self._index.hop_classes(moved.hop) if moved.hop is not None else frozenset()
        classes = self._inherited.of(moved, part.names) - allowed
        if not classes or FILLS in part.kinds:
            return
        day = moved.start_ns // DAY_NS
        told = self._reads.of(f"{place(moved.server)}|{moved.who}|{moved.destination.shown}|{', '.join(part.names[:4])}")
        if told[0] >= day:
            return
        told[0] = day
        severity = class_severity(self._architecture, classes, leaves=self._index.is_off_site(moved.destination.zone))
        declared = f"{moved.hop}: {', '.join(sorted(allowed)) or 'no class'}" if moved.hop else "no hop for it"
        seen = f"{', '.join(sorted(classes))} copied into {', '.join(part.names[:4])}"
        yield self._say(moved, "class-copy", severity, part.names, "what", declared, seen, f"read|{moved.destination.shown}")

    def _fold(self, moved: Moved, part: ObjectSet, names: Sequence[str]) -> Iterator[Finding]:
        # Of a window that another view has counted in part, every set counts its share.
        size = part.bytes * moved.bytes // max(1, moved.flow.bytes)
        rows = max(1, part.rows)
        if moved.flow.operation not in READS or size < VALUE_BYTES_MIN * rows:
            return
        hop = None if moved.hop is None else self._architecture.hops[moved.hop]
        if moved.approved and hop is not None and any(limit.unit is Unit.BYTES for limit in hop.limit):
            return
        day = moved.start_ns // DAY_NS
        folded = self._folded.of(f"{place(moved.server)}|{moved.who}|{', '.join(names[:4])}")
        if folded.day != day:
            folded.day, folded.bytes, folded.rows, folded.told = day, 0, 0, False
        folded.bytes += size
        folded.rows += max(0, part.rows)
        if folded.told or folded.bytes < FOLDED_BYTES_MIN:
            return
        folded.told = True
        classes = self._inherited.classes(moved, part, names)
        severity = class_severity(self._architecture, classes, unclassified=not classes)
        declared = f"rows of less than {VALUE_BYTES_MIN} bytes, or a hop limited by bytes"
        seen = f"{folded.bytes} bytes of {', '.join(names[:4])} in {folded.rows} rows that fold many"
        yield self._say(moved, "hidden-extraction", severity, names, "how_much", declared, seen, "folded")

    def _say(
        self, moved: Moved, verdict: str, severity: Severity, names: Sequence[str], question: str, declared: str, seen: str, kind: str
    ) -> Finding:
        return self._cases.say(
            verdict, severity, plant=moved.flow.plant, who=moved.account, source=moved.server.shown, destination=moved.client.shown,
            what=f"{kind}|{'|'.join(names[:8])}", first_ns=moved.start_ns, last_ns=moved.end_ns,
            differences=[(question, declared, seen)], moved=moved, hop=moved.hop,
        )  # fmt: skip


def hidden(architecture: Architecture, quoted: Declaration, index: Index) -> tuple[Inherited, Hidden]:
    """The question, and what it shares with whoever shows windows to questions."""
    inherited = Inherited(index)
    return inherited, Hidden(architecture, quoted, index, inherited)

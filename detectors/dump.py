"""Does somebody take everything: the marks that a dump, a harvest or a replica leaves on one connection.

Asks: of every connection, do its statements together look like a copy of a whole database, broker or address space? Sees: how
many objects a connection read whole, base backups and replication slots, a wildcard subscription and what it delivered, history
of many nodes.

Blind to: a dump spread over many short connections (``extraction`` and ``spending`` count those). Raised wrongly by: a
reporting job that reads twenty small tables without columns. What to do: find the job; a declared backup account in its window
is quiet.

A verdict of ``declared`` keeps it quiet: what is approved by account, object, amount and hour may look as it likes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from msgspec import to_builtins

from detectors.cases import Cases
from detectors.compare import CONTROL
from detectors.judgement import QUIET, class_severity, severities_of
from detectors.memory import Memory
from detectors.moved import Moved, Question
from hopwatch.declared.catalogue import is_metadata
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding

TABLES_MIN: Final = 8
"""Tables read whole on one connection: more than a query joins, fewer than any database worth dumping has."""

NODES_MIN: Final = 50
"""Nodes whose history, or whose values after browsing, one connection reads."""

TOPICS_MIN: Final = 30
"""Topics that one wide subscription delivered."""

OBJECTS_MAX: Final = 1_024
"""Objects of one connection told apart; beyond it the mark is long there."""

DUMPERS: Final = frozenset(
    {"pg_dump", "pg_dumpall", "pg_basebackup", "pg_receivewal", "mysqldump", "mariadb-dump", "mydumper", "xtrabackup"}
)
"""Names by which the common dump programs introduce themselves; they can lie, so the absence of one proves nothing."""


@dataclass(slots=True)
class Session:
    """One connection: what it read whole, which nodes and topics, and what was said of it."""

    whole: dict[str, None] = field(default_factory=dict)
    nodes: dict[str, None] = field(default_factory=dict)
    topics: dict[str, None] = field(default_factory=dict)
    browsed: bool = False
    wide: bool = False
    told: str = ""


class Dump(Question):
    """Every connection that reads."""

    name: ClassVar[str] = "dump"
    by_client: ClassVar[bool] = False

    def __init__(self, architecture: Architecture, quoted: Declaration) -> None:
        self._architecture = architecture
        self._cases = Cases(quoted, severities_of(architecture))
        self._sessions: Memory[Session] = Memory(Session, to_builtins, lambda said: Session(**said))

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """The connections and the open findings."""
        return {"sessions": self._sessions, "cases": self._cases.memory}

    def concerns(self, moved: Moved) -> bool:
        """What is not approved and moves something."""
        operation = moved.flow.operation
        return not (moved.verdict in QUIET or operation in CONTROL or operation == "attempt")

    def look(self, moved: Moved) -> Sequence[Finding]:
        """A finding when a connection first bears a mark."""
        flow = moved.flow
        if moved.hop is not None and all(is_metadata(name) for part in flow.objects for name in part.names):
            # Catalogues of any length copy nothing of the plant's; what an approved account does with them, its next windows show.
            return ()
        session = self._sessions.of(flow.connection)
        self._note(session, moved)
        mark = self._mark(session, moved)
        if not mark or mark == session.told:
            return ()
        session.told = mark
        return (
            self._cases.say(
                "dump", class_severity(self._architecture, moved.classes, unclassified=not moved.classes), plant=flow.plant,
                who=moved.account, source=moved.source.shown, destination=moved.destination.shown, what=mark.split(":")[0],
                first_ns=moved.start_ns, last_ns=moved.end_ns, differences=[("what", "no copy of the whole", mark)],
                moved=moved, hop=moved.hop,
            ),
        )  # fmt: skip

    def _note(self, session: Session, moved: Moved) -> None:
        flow = moved.flow
        for part in flow.objects:
            for name in part.names:
                if flow.operation == "copy" or (flow.operation == "select" and (not part.columns or "*" in part.columns)):
                    _put(session.whole, name)
                elif flow.operation in ("history-read", "read"):
                    _put(session.nodes, name)
                elif flow.operation == "subscribe":
                    session.wide |= name in ("#", "+/#", "/#")
                    if part.messages and "#" not in name and "+" not in name:
                        _put(session.topics, name)
        session.browsed |= flow.operation == "browse"

    def _mark(self, session: Session, moved: Moved) -> str:
        """What the connection looks like: a word, and what shows it."""
        flow = moved.flow
        program = (flow.application or "").split("/")[0].split(" ")[0].lower()
        if flow.operation == "backup":
            return "base backup: of the whole cluster"
        if flow.operation == "replicate" and moved.hop is None:
            return "replication: every change from now on"
        if program in DUMPERS:
            return f"dump program: {program}"
        if len(session.whole) >= TABLES_MIN:
            return f"tables whole: {TABLES_MIN} or more on one connection"
        if flow.operation == "history-read" and len(session.nodes) >= NODES_MIN:
            return f"history harvest: {NODES_MIN} or more nodes on one connection"
        if session.browsed and len(session.nodes) >= NODES_MIN:
            return f"browse and read: {NODES_MIN} or more nodes on one connection"
        if session.wide and len(session.topics) >= TOPICS_MIN:
            return f"wildcard: {TOPICS_MIN} or more topics delivered to one client"
        return ""


def _put(objects: dict[str, None], name: str) -> None:
    if len(objects) < OBJECTS_MAX:
        objects[name] = None

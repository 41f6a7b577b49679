"""Does what a model says reach the plant? Data from an AI or analytics asset towards the MES or the cells.

Asks: of every window, does data go from where models run to where production is steered, and has somebody validated that hop?
Sees: writes, calls, publishes and uploads read by a decoder or a server log, and bytes where nothing could be read.

Blind to: a person who copies a number from one screen to another, and an output that passes a host of another kind first (see
``lineage``).
A command that a broker is told (``write`` over MQTT: Sparkplug's NCMD and DCMD, an action of OPC UA PubSub) goes on to whom its
topic names, so it reaches the plant wherever the broker stands.

Raised wrongly by: a dashboard that writes its own settings into the plant's database; a declared hop without ``validated``.
What to do: find out who acts on what was written; if the hop is wanted, validate the interface and say so in the declaration.

The acknowledgements of a session that reads are no writes: what is unreadable counts only from ``BACK_BYTES_MIN`` on, and only
where more went towards the plant than came from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from detectors.cases import Cases
from detectors.judgement import severities_of
from detectors.memory import Memory
from detectors.moved import Moved, Question
from hopwatch.declared.match import End
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, Severity

MODEL_KINDS: Final = frozenset({"ml", "ai", "llm", "model", "model-repository", "inference", "notebook", "feature-store", "analytics"})
"""Kinds of assets whose output is a model's or an analyst's."""

STEERING_KINDS: Final = frozenset({"mes", "opcua", "plc", "scada", "hmi", "recipe", "scheduler"})
STEERING_LEVEL_MAX: Final = 3.0
"""Zones up to this level of the Purdue model steer or record production."""

WRITES: Final = frozenset({"insert", "update", "delete", "copy", "ddl", "admin", "call", "write", "history-write", "publish", "put"})
RELAYED: Final = frozenset({"mqtt"})
"""Protocols whose server passes on what it is told to do."""

BACK_BYTES_MIN: Final = 1 << 20


class WriteBack(Question):
    """Every window that writes towards the plant from where models run."""

    name: ClassVar[str] = "write-back"
    by_client: ClassVar[bool] = False

    def __init__(self, architecture: Architecture, quoted: Declaration) -> None:
        self._architecture = architecture
        self._cases = Cases(quoted, severities_of(architecture))
        self._model_zones = {asset.zone for asset in architecture.assets.values() if asset.kind in MODEL_KINDS}

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """The open findings."""
        return {"cases": self._cases.memory}

    def concerns(self, moved: Moved) -> bool:
        """What joins a model and the plant, or may: which way it writes say the amounts."""
        ends = moved.source, moved.destination
        if _commands(moved):
            return self._models(moved.source)
        joins = any(self._models(one) and self._steers(other) for one, other in (ends, ends[::-1]))
        return joins and (moved.flow.operation in WRITES or moved.flow.operation == "transfer")

    def look(self, moved: Moved) -> Sequence[Finding]:
        """A finding for a write that no validated hop allows."""
        flow = moved.flow
        ends = self._written(moved)
        if ends is None or not (self._models(ends[0]) and (_commands(moved) or self._steers(ends[1]))):
            return ()
        source, destination = ends
        hop = None if moved.hop is None else self._architecture.hops[moved.hop]
        if hop is not None and moved.approved and hop.validated is not None:
            return ()
        severity: Severity = "critical" if hop is None or flow.operation in ("write", "call", "history-write") else "high"
        wanted = "no hop from models to the plant" if hop is None else f"{moved.hop}: validated: <reference>"
        seen = f"{flow.operation} by {moved.who}" + (f" to {_named(moved)}" if flow.objects else "")
        return (
            self._cases.say(
                "write-back",
                severity,
                plant=flow.plant,
                who=moved.account,
                source=source.shown,
                destination=destination.shown,
                first_ns=moved.start_ns,
                last_ns=moved.end_ns,
                differences=[("what", wanted, seen)],
                moved=moved,
                hop=moved.hop,
            ),
        )

    def _written(self, moved: Moved) -> tuple[End, End] | None:
        """From where to where the window writes; None if it only reads, or nobody can say."""
        if moved.flow.operation in WRITES:
            return moved.source, moved.destination
        if moved.flow.operation == "transfer":
            # Opener to server: the other way counts as ``bytes_back``.
            if moved.bytes >= BACK_BYTES_MIN and moved.bytes > moved.bytes_back:
                return moved.source, moved.destination
            if moved.bytes_back >= BACK_BYTES_MIN and moved.bytes_back > moved.bytes:
                return moved.destination, moved.source
        return None

    def _models(self, end: End) -> bool:
        """A host of a model kind, or one that nobody declared in a zone of such hosts."""
        asset = end.host or end.asset
        if asset is not None:
            return self._architecture.assets[asset].kind in MODEL_KINDS
        return end.zone in self._model_zones

    def _steers(self, end: End) -> bool:
        asset = end.asset or end.host
        if asset is not None:
            declared = self._architecture.assets[asset]
            if declared.kind in STEERING_KINDS or declared.system_of_record:
                return True
        return end.zone is not None and self._architecture.zones[end.zone].level <= STEERING_LEVEL_MAX


def _commands(moved: Moved) -> bool:
    """Whether the window tells a broker what others are to do."""
    return moved.flow.operation == "write" and moved.flow.protocol in RELAYED


def _named(moved: Moved) -> str:
    names = dict.fromkeys(name for part in moved.flow.objects for name in part.names)
    return ", ".join(list(names)[:4])

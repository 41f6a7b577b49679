"""What each program may do on a cluster, and nothing beside it: the table of docs/kafka.md, as Kafka's authorizer takes it.

Rights name topics, so a program with a ``topic_prefix`` gets those of its own prefix only (docs/kafka.md, "Plant from plant").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from hopwatch.bus.topics import Kind, topic_name

Role = Literal["agent", "detect", "store", "apply", "alerts"]
ResourceKind = Literal["topic", "group"]
Operation = Literal["read", "write", "describe"]

READER: Final = "hopwatch-reader"
"""No group anybody joins: the client asks for the coordinator of the name it was given when it reads the declarations."""


@dataclass(frozen=True, slots=True)
class Right:
    """One operation on one topic or group."""

    resource: ResourceKind
    name: str
    operation: Operation


@dataclass(frozen=True, slots=True)
class _Needs:
    reads: tuple[Kind, ...] = ()
    writes: tuple[Kind, ...] = ()
    group: str | None = None
    """The consumer group it joins, if nobody says another."""


_NEEDS: Final[dict[Role, _Needs]] = {
    "agent": _Needs(writes=("flow", "loss", "heartbeat")),
    "detect": _Needs(reads=("flow", "loss", "heartbeat", "declared"), writes=("finding", "rejected"), group="hopwatch-detect"),
    "store": _Needs(reads=("flow", "loss", "heartbeat", "finding", "declared"), writes=("rejected",), group="hopwatch-store"),
    "apply": _Needs(reads=("declared",), writes=("declared",)),
    "alerts": _Needs(writes=("alert", "decision")),
}
ROLES: Final = tuple(_NEEDS)


def rights(role: Role, prefix: str = "", group: str | None = None) -> list[Right]:
    """What a program of this kind needs; ``group`` is the consumer group it was told to join."""
    needs = _NEEDS[role]
    found = [Right("topic", topic_name(kind, prefix), operation) for kind in needs.reads for operation in _READING]
    found += [Right("topic", topic_name(kind, prefix), operation) for kind in needs.writes for operation in _WRITING]
    if needs.group is not None:
        found.append(Right("group", group or needs.group, "read"))
    if "declared" in needs.reads:
        found.append(Right("group", READER, "describe"))
    return list(dict.fromkeys(found))


_READING: Final[tuple[Operation, ...]] = ("read", "describe")
_WRITING: Final[tuple[Operation, ...]] = ("write", "describe")

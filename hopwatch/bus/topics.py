"""The topics: one for each kind of event, with what each needs of a cluster and why.

**The key is the plant.** Flows, losses and heartbeats of one plant therefore lie in the partition of the same number of their three
topics, and one member of a group gets all three: what a detector needs of a plant meets on one machine, in order, without
repartitioning. These three topics must have the same number of partitions, and the number must never change: another number
would send a plant's later events to another partition than its earlier ones.

**A plant that is too much for one core** is split into shards by the two addresses of a flow, so that every view of a connection meets
the others, and a login that is known by its address alone meets the connections it names; the key then is ``plant/shard``. What
concerns no two addresses (a loss, a heartbeat) goes to every shard. The price is that a budget over several pairs of hosts is known
only in parts, and that what two hosts say to one another stays in one shard, however much it is.

**A prefix** stands before every name where plants must not be able to write for one another: Kafka's access rules know topics,
not keys, so ``north.`` may be given to the agents of that plant and to no other.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import quote

from hopwatch.bus import EVENT_BYTES_MAX

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
FOREVER_MS = -1

SHARDS_MAX = 64
PARTITIONS = 12
"""Divisible by 1, 2, 3, 4, 6 and 12 detectors; many more plants than partitions share them evenly enough."""

MESSAGE_BYTES_MAX = EVENT_BYTES_MAX + (1 << 16)
"""The largest event with its key and headers."""

Kind = Literal["flow", "loss", "heartbeat", "finding", "alert", "decision", "declared", "rejected"]


@dataclass(frozen=True, slots=True)
class Topic:
    """What one topic needs; ``retention_ms`` is -1 for ever."""

    kind: Kind
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention_ms: int
    about: str
    why: str

    @property
    def name(self) -> str:
        """The name without a prefix."""
        return f"hopwatch.{self.kind}.v1"

    def config(self, replication: int = 1) -> dict[str, str]:
        """The topic's settings in Kafka's words; with three copies, two must be written before an event is acknowledged."""
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
            # The broker keeps what the producer compressed; another codec would cost its processor a second compression.
            "compression.type": "producer",
            "min.insync.replicas": "2" if replication >= 3 else "1",
            # The broker's own time, against which every agent's is held.
            "message.timestamp.type": "LogAppendTime",
        }


TOPICS: Final[dict[str, Topic]] = {
    topic.kind: topic
    for topic in (
        Topic("flow", PARTITIONS, "delete", 3 * DAY_MS, "windows of movements", "a detector may be away over a weekend and still read all"),
        Topic(
            "loss", PARTITIONS, "delete", 3 * DAY_MS, "what an agent could not see", "lies beside the flows it explains, as long as they"
        ),
        Topic("heartbeat", PARTITIONS, "delete", 3 * DAY_MS, "an agent lives", "its absence is judged in the order of the flows"),
        Topic(
            "finding", 1, "delete", 30 * DAY_MS, "differences from what was declared", "small; one partition is one order for the company"
        ),
        Topic("alert", 1, "delete", 30 * DAY_MS, "findings somebody has to act on", "small, as the findings"),
        Topic("decision", 1, "delete", 365 * DAY_MS, "what a person decided about an alert", "small; the record of a year's review"),
        Topic("declared", 1, "compact", FOREVER_MS, "the declarations in force", "the newest of each plant is all a new detector needs"),
        Topic(
            "rejected", 1, "delete", 30 * DAY_MS, "messages nobody could read", "small; a person looks at it, and it may be played again"
        ),
    )
}

TOGETHER: Final[tuple[Kind, ...]] = ("flow", "loss", "heartbeat")
"""The topics a detector reads side by side: the same key, the same number of partitions."""

EVERY_SHARD: Final[tuple[Kind, ...]] = ("loss", "heartbeat")
"""What concerns a plant and no single connection of it."""


@lru_cache(maxsize=256)
def topic_name(kind: str, prefix: str = "") -> str:
    """The name of the topic for events of ``kind``."""
    return f"{prefix}{TOPICS[kind].name}"


@lru_cache(maxsize=256)
def kind_of(topic: str) -> str | None:
    """The kind of event in a topic, whatever its prefix; None if it is none of ours."""
    match = re.search(r"hopwatch\.([a-z]+)\.v1$", topic)
    return match[1] if match and match[1] in TOPICS else None


_ENDS: Final = [re.compile(rb'"%b"\s*:\s*\{\s*"address"\s*:\s*"([^"\\]{1,64})"' % end) for end in (b"source", b"destination")]


def between(line: bytes) -> str | None:
    """Which two addresses a flow is between, in one order whoever sends; None if the line does not say."""
    found = [pattern.search(line) for pattern in _ENDS]
    if found[0] is None or found[1] is None:
        return None
    return "|".join(sorted(match[1].decode("ascii", "replace") for match in found if match is not None))


def keys(kind: str, plant: str, ends: str | None = None, shards: int = 1) -> list[bytes]:
    """The keys an event is sent under: one, or for what concerns a split plant as a whole one for each shard. ``ends``: see ``between``."""
    if shards <= 1 or kind not in TOGETHER:
        return [plant.encode()]
    if kind in EVERY_SHARD:
        return [f"{plant}/{shard}".encode() for shard in range(shards)]
    if ends is None:
        raise ValueError(f"a {kind} of a plant in {shards} shards needs its two addresses")
    return [f"{plant}/{zlib.crc32(ends.encode()) % shards}".encode()]


def _time(field: str) -> re.Pattern[bytes]:
    """Where the field of a line says a time."""
    return re.compile(rb'"%b"\s*:\s*"([0-9TtZz:.+-]{20,45})"' % field.encode())


_TIMES: Final = {
    **dict.fromkeys(("flow", "loss"), _time("end")),
    **dict.fromkeys(("heartbeat", "alert", "decision", "declared"), _time("time")),
    "finding": _time("last_seen"),
}
"""The time an event is about, by its kind."""


def headers(kind: str, plant: str, event_id: str, speaker: str, line: bytes) -> list[tuple[str, str | bytes | None]]:
    """The event's context attributes (CloudEvents 1.0, Kafka Protocol Binding 3.2.3: binary content mode, ``ce_`` headers).

    ``ce_id`` and ``ce_source`` together name one event (CloudEvents 1.0, 3.1.1); a repeated one has the same. ``ce_time`` is when
    the window ended, read out of the line without parsing all of it, and left out where the line has no such field.
    """
    said: list[tuple[str, str | bytes | None]] = [*_common(kind, plant, speaker), ("ce_id", event_id)]
    pattern = _TIMES.get(kind)
    if pattern is not None and (match := pattern.search(line)) is not None:
        said.append(("ce_time", match[1]))
    return said


@lru_cache(maxsize=1_024)
def _common(kind: str, plant: str, speaker: str) -> tuple[tuple[str, str], ...]:
    """What all events of a kind, a plant and a speaker say; written once, as quoting takes longer than all the rest."""
    return (
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_type", f"hopwatch.{kind}.v1"),
        ("ce_source", f"/plants/{quote(plant, safe='')}/{speaker}"),
    )

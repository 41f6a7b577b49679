"""The one door to Apache Kafka: a publisher that loses nothing, a member of a consumer group, and a reader of a whole topic.

Only this file and ``admin.py`` import the client (docs/decisions/0014 says why it is confluent-kafka, which wraps librdkafka).

**Publishing** is idempotent, acknowledged by every in-sync replica and ordered per key. Whoever sends keeps the event until its
token comes back in ``Reports.acknowledged``: that is the moment at which it may leave the spool. A broker that is away is no error:
sent events wait here, up to a bound of messages and bytes, then ``send`` answers False and the caller waits. Nothing here expires by
time, because an event that expired and was sent again could overtake another of its key. ::

    publisher: Publisher[int] = Publisher(connection, speaker="agents/tap-idmz")
    while publisher.send("flow", "north", event_id, line, offset) is False:
        reports = publisher.poll(0.1)      # reports.acknowledged, reports.failed, reports.stalls
    publisher.close()

**Reading** is an ordinary member of a consumer group; assignment, rebalancing and fencing are Kafka's. The offset to begin at is
told by the caller when a partition is assigned, because what is durable is what PostgreSQL holds; Kafka's own committed offsets are
written for the tools that show lag, and never read. ::

    subscriber = Subscriber(connection, group="detect", kinds=TOGETHER, on_assigned=offsets_of, on_revoked=finish)
    for message in subscriber.poll(0.5):   # message.partition, .offset, .key, .value
        ...
    subscriber.commit({partition: offset_to_read_next})

All three are for one thread: callbacks run inside ``poll`` and ``close`` and nowhere else.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from hopwatch.bus.connection import BrokerError, Connection, Value
from hopwatch.bus.topics import MESSAGE_BYTES_MAX, SHARDS_MAX, between, headers, keys, kind_of, topic_name

IN_FLIGHT_MESSAGES_MAX = 20_000
IN_FLIGHT_BYTES_MAX = 16 << 20
"""Sent and not yet acknowledged; a second at 10,000 events a second. The spool holds what is more."""

LINGER_MS = 20
BATCH_BYTES = 256 << 10
STALL_S = 30.0
SILENT_S = 10.0
WITHDRAW_S = 1.0
CHECK_S = 1.0
STATISTICS_MS = 5_000
FETCH_QUEUE_KBYTES = 16_384
FETCH_QUEUE_MESSAGES = 10_000
POLL_MESSAGES = 1_000
GATHER_S = 0.01
SESSION_MS = 45_000
TIMEOUT_S = 10.0
REASON_CHARACTERS_MAX = 300

_LASTING = frozenset(
    (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
    )
)

T = TypeVar("T")


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Failure(Generic[T]):
    """An event the cluster did not take; ``lasting`` if it never will, else the caller sends it again, and what followed it."""

    token: T
    reason: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class Stall:
    """Events under ``key`` have waited ``age_s`` for an acknowledgement while the cluster answered for other keys.

    ``partition`` is None if none of this key was ever acknowledged.
    """

    topic: str
    key: str
    partition: int | None
    waiting: int
    age_s: float


@dataclass(slots=True)
class Reports(Generic[T]):
    """What became of sent events since the last poll, each token once; stalls are told anew while they last."""

    acknowledged: list[T] = field(default_factory=list)
    failed: list[Failure[T]] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Lane(Generic[T]):
    """One key of one topic and its unacknowledged copies, oldest first: they lie in one partition."""

    topic: str
    key: bytes
    waiting: deque[_Copy[T]] = field(default_factory=deque)
    held: deque[_Copy[T]] = field(default_factory=deque)
    """Those of the waiting ones, the last, that the client does not have."""

    asking: bool = False
    """It has answered nothing for too long: one copy asks, the others are held."""

    answered_s: float = 0.0
    """When it last answered, or the client last got its copies anew."""

    partition: int | None = None

    def silent_s(self, now: float) -> float:
        """Seconds since an answer was due."""
        return now - max(self.waiting[0].sent_s, self.answered_s) if self.waiting else 0.0


@dataclass(slots=True)
class _Sent(Generic[T]):
    """One event on its way; with several copies (one for each shard) it has arrived when all have."""

    token: T
    line: bytes
    headers: list[tuple[str, str | bytes | None]]
    copies: int
    failed: bool = False


class _Copy(Generic[T]):
    """One event in one lane; the client calls it when it knows what became of it."""

    __slots__ = ("edition", "event", "lane", "publisher", "sent_s")

    def __init__(self, publisher: Publisher[T], event: _Sent[T], lane: _Lane[T], sent_s: float) -> None:
        self.publisher, self.event, self.lane, self.sent_s = publisher, event, lane, sent_s
        self.edition = 0

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        self.publisher._delivered(self, error, message)


class Publisher(Generic[T]):
    """Sends events; ``T`` is the caller's token for one, for example its offset in the spool.

    A key for which nothing is answered for SILENT_S is asked with one event until it answers again; what is in flight is taken back,
    and what else there is of that key is kept here, in order. librdkafka would otherwise look at waiting events without a pause, on a
    whole core, for as long as a broker takes connections and says nothing (measured: docs/decisions/0014). What the broker had
    taken without saying so is then sent twice, and recognised by its event_id.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        speaker: str,
        shards: int = 1,
        messages_max: int = IN_FLIGHT_MESSAGES_MAX,
        bytes_max: int = IN_FLIGHT_BYTES_MAX,
        stall_s: float = STALL_S,
        silent_s: float = SILENT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ready to send; the cluster need not be there. ``speaker`` names the program within the plant, as ``agents/tap-idmz``.

        Raises:
            BrokerError: a setting is wrong or a file it names cannot be read.
        """
        if not 1 <= shards <= SHARDS_MAX:
            raise BrokerError(f"shards {shards}: expected 1 to {SHARDS_MAX}")
        self._connection, self._speaker, self._shards = connection, speaker, shards
        self._messages_max, self._bytes_max, self._stall_s, self._silent_s, self._clock = messages_max, bytes_max, stall_s, silent_s, clock
        self._reports: Reports[T] = Reports()
        self._lanes: dict[tuple[str, bytes], _Lane[T]] = {}
        self._holding: set[_Lane[T]] = set()
        self._messages = self._bytes = self._edition = 0
        self._checked_s = self._answered_s = self._resumed_s = clock()
        self._retries = self._retries_before = self._queued = 0
        self._looked_s, self._look_s = clock(), min(CHECK_S, silent_s / 4)
        self._fatal = self._closed = False
        self._withdrawn_s = -WITHDRAW_S
        self._counters = dict.fromkeys(("sent", "acknowledged", "failed", "refused", "withdrawn"), 0)
        self.trouble: str | None = None
        """What the client last said was wrong; None again once an event is acknowledged."""
        self._producer = self._made()

    def _made(self) -> Producer:
        settings: dict[str, Any] = {  # Any: settings and callbacks.
            **self._connection.client(),
            **_COMMON,
            "client.id": f"hopwatch/{self._speaker}",
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "zstd",
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            # 0 is for ever: see the module's docstring.
            "message.timeout.ms": 0,
            # The Java client's choice of a partition for a key, so that any other producer of a plant's events agrees.
            "partitioner": "murmur2",
            # The bounds are ours; the client's own stand above them, with room for one largest event to every shard.
            "queue.buffering.max.messages": 2 * self._messages_max,
            "queue.buffering.max.kbytes": (2 * self._bytes_max + 2 * MESSAGE_BYTES_MAX * self._shards) >> 10,
            "statistics.interval.ms": STATISTICS_MS,
            "stats_cb": self._statistics,
            "error_cb": self._erred,
            "logger": _UNHEARD,
        }
        try:
            return Producer(settings)
        except KafkaException as error:
            raise BrokerError(f"kafka: {_said(error.args[0])}") from None

    def send(self, kind: str, plant: str, event_id: str, line: bytes, token: T) -> bool:
        """Put an event on its way; False if the bound of what is in flight is reached: poll, then send it again.

        An event larger than MESSAGE_BYTES_MAX is accepted and reported as a lasting failure.
        """
        topic = topic_name(kind, self._connection.topic_prefix)
        said = headers(kind, plant, event_id, self._speaker, line)
        ends = between(line) or "" if self._shards > 1 and kind == "flow" else None
        return self._send(topic, keys(kind, plant, ends, self._shards), line, token, said)

    def reject(self, message: Received, reason: str, token: T) -> bool:
        """Put a message nobody can read, its bytes as they came, on the topic of the rejected; False as for ``send``.

        Its place in the topic it came from is its id, so that a message rejected twice is seen to be one. ``reason`` must not
        quote the message.
        """
        place = f"{message.partition.topic}/{message.partition.number}/{message.offset}"
        said: list[tuple[str, str | bytes | None]] = [
            ("content-type", "application/octet-stream"),
            ("ce_specversion", "1.0"),
            ("ce_type", "hopwatch.rejected.v1"),
            ("ce_source", f"/{self._speaker}"),
            ("ce_id", place),
            # Extension attributes: lower-case letters and digits only (CloudEvents 1.0, 3.1).
            ("ce_reason", " ".join(reason.split())[:REASON_CHARACTERS_MAX]),
            ("ce_fromtopic", message.partition.topic),
            ("ce_frompartition", str(message.partition.number)),
            ("ce_fromoffset", str(message.offset)),
        ]
        return self._send(topic_name("rejected", self._connection.topic_prefix), [message.key], message.value, token, said)

    def _send(self, topic: str, under: Sequence[bytes], line: bytes, token: T, said: list[tuple[str, str | bytes | None]]) -> bool:
        assert not self._closed, "the publisher is closed"
        if self._messages and (self._messages + len(under) > self._messages_max or self._bytes + len(line) * len(under) > self._bytes_max):
            self._counters["refused"] += 1
            return False
        now = self._clock()
        event = _Sent(token, line, said, len(under))
        self._messages += len(under)
        self._bytes += len(under) * len(line)
        self._counters["sent"] += 1
        for key in under:
            lane = self._lanes.get((topic, key))
            if lane is None:
                lane = self._lanes[topic, key] = _Lane(topic, key)
            copy = _Copy(self, event, lane, now)
            lane.waiting.append(copy)
            if lane.held or (lane.asking and len(lane.waiting) > 1) or not self._hand(copy):
                lane.held.append(copy)
                self._holding.add(lane)
        return True

    def _hand(self, copy: _Copy[T]) -> bool:
        """Give a copy to the client; False if the client's own queue is full."""
        event, lane = copy.event, copy.lane
        copy.edition = self._edition
        try:
            self._producer.produce(lane.topic, event.line, lane.key, on_delivery=copy, headers=event.headers)
        except BufferError:
            return False
        except KafkaException as error:
            self._settled(copy, error.args[0])
            return True
        return True

    def poll(self, timeout_s: float = 0.0) -> Reports[T]:
        """What became of sent events; waits at most ``timeout_s`` for the first report."""
        self._serve(0.0 if self._reports.acknowledged or self._reports.failed else timeout_s)
        now = self._clock()
        if now - self._checked_s >= CHECK_S:
            self._checked_s = now
            self._reports.stalls += self.stalled()
        reports, self._reports = self._reports, Reports()
        return reports

    def _serve(self, timeout_s: float) -> None:
        """Let the client report, then look whether it has to be replaced and what it can be given."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:
            # An error after which this client can send nothing leaves it here, and is not told.
            self._erred(error.args[0])
            self._fatal = True
        now = self._clock()
        if self._fatal:
            # Whoever is refused for good does not ask in a circle.
            if now - self._withdrawn_s >= WITHDRAW_S:
                self._withdraw([lane for lane in self._lanes.values() if lane.waiting])
        elif now - self._looked_s >= self._look_s:
            self._looked_s = now
            silent = [lane for lane in self._lanes.values() if not lane.asking and lane.silent_s(now) >= self._silent_s]
            if silent:
                self._withdraw(silent)
        for lane in list(self._holding):
            self._hand_over(lane)

    def _hand_over(self, lane: _Lane[T]) -> None:
        """Give the client what is held of a lane, in order: all of it, or one copy if the lane is being asked."""
        while lane.held and not (lane.asking and len(lane.waiting) > len(lane.held)):
            copy = lane.held.popleft()
            if not self._hand(copy):
                lane.held.appendleft(copy)
                return
        if not lane.held:
            self._holding.discard(lane)

    def _withdraw(self, silent: list[_Lane[T]]) -> None:
        """Take back what is in flight and let the client go that cannot send it; the silent lanes are asked through a new one."""
        now = self._clock()
        for lane in self._lanes.values():
            # Other objects than those the old client may still call.
            lane.waiting = deque(_Copy(self, copy.event, lane, copy.sent_s) for copy in lane.waiting)
            lane.held = lane.waiting.copy()
            lane.answered_s = now
            lane.asking = lane.asking or lane in silent
            if lane.held:
                self._holding.add(lane)
        self._counters["withdrawn"] += 1
        self._fatal = False
        self._withdrawn_s = now
        self._edition += 1
        self._retries_before, self._retries = self._retries_before + self._retries, 0
        # Nobody polls it any more, so that nothing it still had to say is heard.
        self._producer.purge(blocking=False)
        self._producer = self._made()

    def stalled(self) -> list[Stall]:
        """The keys that have waited longer than the limit although the cluster answered for others meanwhile."""
        now = self._clock()
        if now - self._answered_s >= self._stall_s:
            return []  # It answers nobody: away, not stalled.
        found = []
        for lane in self._lanes.values():
            # What had to wait because the whole cluster was away waits for its lane only since that came back.
            age_s = now - max(lane.waiting[0].sent_s, self._resumed_s) if lane.waiting else 0.0
            if age_s >= self._stall_s:
                found.append(Stall(lane.topic, lane.key.decode(errors="replace"), lane.partition, len(lane.waiting), age_s))
        return found

    @property
    def away(self) -> bool:
        """Events wait, and nothing was acknowledged for SILENT_S."""
        waiting = [lane.waiting[0].sent_s for lane in self._lanes.values() if lane.waiting]
        return bool(waiting) and self._clock() - max(min(waiting), self._answered_s) >= self._silent_s

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; False if something still is. What was reported waits for ``poll``."""
        until = time.monotonic() + timeout_s
        while self._messages and (left := until - time.monotonic()) > 0:
            self._serve(min(left, 0.1))
        return not self._messages

    def counters(self) -> dict[str, int]:
        """Totals, and what is in flight now; ``retries`` and ``queued`` are as old as STATISTICS_MS."""
        return self._counters | {
            "in_flight": self._messages,
            "in_flight_bytes": self._bytes,
            "held": sum(len(lane.held) for lane in self._holding),
            "queued": self._queued,
            "retries": self._retries_before + self._retries,
        }

    def close(self, timeout_s: float = TIMEOUT_S) -> Reports[T]:
        """Wait for what is in flight, let go of the cluster, and tell the last reports; a token never told was not acknowledged."""
        if not self._closed:
            self.flush(timeout_s)
            self._closed = True
            self._edition += 1
            self._producer.purge(blocking=False)
            with contextlib.suppress(KafkaException):  # Whoever was refused for good is told so here once more.
                self._producer.flush(1.0)
        reports, self._reports = self._reports, Reports()
        return reports

    def _delivered(self, copy: _Copy[T], error: KafkaError | None, message: Message) -> None:
        if copy.edition != self._edition:
            return
        if error is None:
            now, lane = self._clock(), copy.lane
            if now - self._answered_s >= self._silent_s:
                self._resumed_s = now
            self._answered_s = lane.answered_s = now
            lane.asking, lane.partition = False, message.partition()
            self.trouble = None
        self._settled(copy, error)

    def _settled(self, copy: _Copy[T], error: KafkaError | None) -> None:
        """One copy is no longer in flight; its event is told when all its copies are acknowledged or the first has failed."""
        event, waiting = copy.event, copy.lane.waiting
        if waiting[0] is copy:
            waiting.popleft()
        else:
            waiting.remove(copy)
        self._messages -= 1
        self._bytes -= len(event.line)
        event.copies -= 1
        if event.failed:
            return
        if error is not None:
            event.failed = True
            self._counters["failed"] += 1
            self._reports.failed.append(Failure(event.token, _said(error), error.code() in _LASTING))
        elif event.copies == 0:
            self._counters["acknowledged"] += 1
            self._reports.acknowledged.append(event.token)

    def _erred(self, error: KafkaError) -> None:
        self.trouble = _told(self.trouble, error)
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = True

    def _statistics(self, text: str) -> None:
        said = json.loads(text)
        self._queued = int(said.get("msg_cnt", 0))
        self._retries = sum(int(broker.get("txretries", 0)) for broker in said.get("brokers", {}).values())


class Received(NamedTuple):
    """One message as it lies in its partition; the value is whatever somebody wrote there."""

    partition: Partition
    offset: int
    key: bytes
    value: bytes
    message: Message

    @property
    def kind(self) -> str | None:
        """The kind of event its topic is for."""
        return kind_of(self.partition.topic)

    @property
    def received_ns(self) -> int:
        """When the broker received it, by the broker's clock; 0 where the topic has the sender's times."""
        kind, time_ms = self.message.timestamp()
        return time_ms * 1_000_000 if kind == TIMESTAMP_LOG_APPEND_TIME else 0

    def headers(self) -> dict[str, bytes]:
        """The headers; the last of a repeated one."""
        pairs = cast(list[tuple[str, bytes | None]], self.message.headers() or [])  # The stub's type is that of what may be sent.
        return {name: value or b"" for name, value in pairs}


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that were to be read and are not there: ``lost`` were deleted before they were read.

    ``lost`` is negative if the caller's offset lies behind the end: the topic is not the one it was read from.
    """

    partition: Partition
    wanted: int
    resumed: int

    @property
    def lost(self) -> int:
        """How many events were not read."""
        return self.resumed - self.wanted


class Subscriber:
    """A member of the group ``group`` that reads the topics of ``kinds``.

    The topics of one partition number go to one member (assignor ``range``), so that the events of a plant meet.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        group: str,
        kinds: Iterable[str],
        on_assigned: Callable[[list[Partition]], Mapping[Partition, int]],
        on_revoked: Callable[[list[Partition], bool], None],
        member: str = "",
    ) -> None:
        """Join the group at the first poll.

        ``on_assigned`` answers the offset to begin at for each partition; one it leaves out is read from its beginning. If it raises,
        the partitions stay paused and the exception leaves ``poll``. ``on_revoked(partitions, lost)`` runs before another member gets
        them, its last chance to finish; with ``lost`` the group has already given them to another, and nothing may be written
        for them. ``member`` names this process in the group's tools.

        Raises:
            BrokerError: a setting is wrong or a file it names cannot be read.
        """
        self._connection, self._on_assigned, self._on_revoked = connection, on_assigned, on_revoked
        self._counters = dict.fromkeys(("received", "errors", "lost", "rebalances"), 0)
        self._next: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._held: set[Partition] = set()
        """Not fetched while nothing is asked for."""
        self._gaps: list[Gap] = []
        self._raised: BaseException | None = None
        self._closed = self._abandoned = False
        self.trouble: str | None = None
        """What the client last said was wrong; None again once a message is received."""
        settings: dict[str, Any] = {  # Any: settings and callbacks.
            **connection.client(),
            **_COMMON,
            **_READING,
            "client.id": f"hopwatch/{member or group}",
            "group.id": group,
            "group.protocol": connection.group_protocol,
            "max.poll.interval.ms": 300_000,
            "error_cb": self._erred,
        }
        if connection.group_protocol == "consumer":
            settings["group.remote.assignor"] = "range"
        else:
            # Only the eager assignor of the classic protocol keeps the topics' partitions of one number together.
            settings |= {"partition.assignment.strategy": "range", "session.timeout.ms": SESSION_MS}
        try:
            self._consumer = Consumer(settings)
            self._consumer.subscribe(
                [topic_name(kind, connection.topic_prefix) for kind in kinds],
                on_assign=self._assigned,
                on_revoke=lambda consumer, partitions: self._revoked(partitions, lost=False),
                on_lost=lambda consumer, partitions: self._revoked(partitions, lost=True),
            )
        except KafkaException as error:
            raise BrokerError(f"kafka: {_said(error.args[0])}") from None
        _OPEN.add(self)

    def poll(self, timeout_s: float, limit: int = POLL_MESSAGES) -> list[Received]:
        """At most ``limit`` messages, in order within each partition; empty after ``timeout_s`` or while the cluster is away.

        Whoever can take none asks for 0: nothing is fetched, and membership in the group goes on.
        """
        found: list[Received] = []
        self._hold(limit == 0)
        # A partition that comes to this member meanwhile may bring one.
        for message in self._consume(timeout_s, max(limit, 1)):
            if message.error() is not None:
                self._unreadable(message)
                continue
            received = _received(message)
            if received.partition in self._next:
                self._next[received.partition] = received.offset + 1
                found.append(received)
        if found:
            self.trouble = None
            self._counters["received"] += len(found)
        return found

    def _hold(self, held: bool) -> None:
        """Fetch nothing of what is not paused anyway, or all of that again."""
        if held:
            more = self._next.keys() - self._paused - self._held
            if more:
                self._consumer.pause([TopicPartition(*partition) for partition in more])
                self._held |= more
        elif self._held:
            again, self._held = (self._held & self._next.keys()) - self._paused, set()
            self._consumer.resume([TopicPartition(*partition) for partition in again])

    def _consume(self, timeout_s: float, limit: int) -> list[Message]:
        try:
            messages = _gathered(self._consumer, timeout_s, limit)
        except KafkaException as error:
            self._counters["errors"] += 1
            self.trouble = _said(error.args[0])
            messages = []
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        return messages

    def _unreadable(self, message: Message) -> None:
        """An error in place of a message: the offset is not there, or the client tells of trouble it will overcome."""
        error = message.error()
        assert error is not None
        self._counters["errors"] += 1
        self.trouble = _said(error)
        topic, number = message.topic(), message.partition()
        if error.code() == KafkaError._AUTO_OFFSET_RESET and topic is not None and number is not None:
            partition = Partition(topic, number)
            if partition in self._next:
                self._resume_behind_gap(partition)

    def _resume_behind_gap(self, partition: Partition) -> None:
        try:
            low, _ = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=TIMEOUT_S)
            gap = Gap(partition, self._next[partition], low)
            self._next[partition] = low
            # A partition whose offset was refused has stopped, and one that has stopped cannot seek.
            if self._connection.group_protocol == "consumer":
                self._consumer.incremental_unassign([TopicPartition(*partition)])
                self._consumer.incremental_assign([TopicPartition(*partition, low)])
            else:
                self._consumer.assign([TopicPartition(*each, offset) for each, offset in self._next.items()])
            if stopped := self._paused | self._held:
                self._consumer.pause([TopicPartition(*each) for each in stopped])
        except KafkaException as error:
            self.trouble = _said(error.args[0])
            return
        self._gaps.append(gap)
        self._counters["lost"] += max(gap.lost, 0)

    def gaps(self) -> list[Gap]:
        """Events that were deleted before they were read, since this was last asked."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def assigned(self) -> frozenset[Partition]:
        """The partitions this member has now."""
        return frozenset(self._next)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch no more of these; what is fetched and not polled is fetched again later."""
        held = [partition for partition in partitions if partition in self._next]
        self._paused.update(held)
        if held:
            self._consumer.pause([TopicPartition(*partition) for partition in held])

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch them again."""
        held = [partition for partition in partitions if partition in self._next]
        self._paused.difference_update(held)
        self._held.difference_update(held)
        if held:
            self._consumer.resume([TopicPartition(*partition) for partition in held])

    def seek(self, partition: Partition, offset: int | None) -> None:
        """Read on from ``offset``, as after a transaction that was rolled back; None is the partition's beginning."""
        if partition not in self._next:
            return
        self._next[partition] = offset or 0
        try:
            self._consumer.seek(TopicPartition(*partition, OFFSET_BEGINNING if offset is None else offset))
        except KafkaException as error:
            raise BrokerError(f"kafka: {partition.topic}/{partition.number}: {_said(error.args[0])}") from None

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the cluster what is finished (the offset to read next), for the tools that show lag; nobody waits for it."""
        told = [TopicPartition(*partition, offset) for partition, offset in offsets.items() if partition in self._next]
        if told:
            try:
                self._consumer.commit(offsets=told, asynchronous=True)
            except KafkaException as error:
                self.trouble = _said(error.args[0])

    def lag(self) -> dict[Partition, int]:
        """Messages behind the end of each partition, as far as the last fetch told; without asking the cluster."""
        behind: dict[Partition, int] = {}
        for partition, wanted in self._next.items():
            try:
                _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            except KafkaException:
                continue
            if high >= 0 and wanted >= 0:
                behind[partition] = max(high - wanted, 0)
        return behind

    def counters(self) -> dict[str, int]:
        """Totals, and the lag and number of partitions now."""
        return self._counters | {"partitions": len(self._next), "paused": len(self._paused), "lag": sum(self.lag().values())}

    def close(self) -> None:
        """Leave the group; ``on_revoked`` runs for what is held. Idempotent."""
        if not self._closed:
            self._closed = True
            self._consumer.close()
            _OPEN.discard(self)
            if self._raised is not None:
                raise self._raised

    def _abandon(self) -> None:
        """Leave the group without a word to the caller, whose state is unknown now."""
        self._closed = self._abandoned = True
        self._consumer.close()

    def _assigned(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        partitions = [Partition(one.topic, one.partition) for one in assigned]
        self._counters["rebalances"] += 1
        offsets: Mapping[Partition, int] = {}
        try:
            if partitions:
                offsets = self._on_assigned(partitions)
        except BaseException as error:  # It leaves poll; through the client it would end the process's thread state.
            self._raised = error
        begin = [TopicPartition(*partition, offsets.get(partition, OFFSET_BEGINNING)) for partition in partitions]
        if self._connection.group_protocol == "consumer":
            consumer.incremental_assign(begin)
        else:
            consumer.assign(begin)
        if self._raised is not None:
            consumer.pause([TopicPartition(*partition) for partition in partitions])
            self._paused.update(partitions)
        self._next.update((partition, max(offsets.get(partition, 0), 0)) for partition in partitions)

    def _revoked(self, revoked: list[TopicPartition], *, lost: bool) -> None:
        partitions = [Partition(one.topic, one.partition) for one in revoked]
        try:
            if partitions and not self._abandoned:
                self._on_revoked(partitions, lost)
        except BaseException as error:  # As above.
            self._raised = self._raised or error
        for partition in partitions:
            self._next.pop(partition, None)
            self._paused.discard(partition)
            self._held.discard(partition)

    def _erred(self, error: KafkaError) -> None:
        self.trouble = _told(self.trouble, error)


_OPEN: weakref.WeakSet[Subscriber] = weakref.WeakSet()


@atexit.register
def _abandon_all() -> None:
    """A process that ends by an exception must end: a member that is not closed waits for its next poll, for ever and on a whole core."""
    for subscriber in list(_OPEN):
        subscriber._abandon()


class Reader:
    """All of one topic from its beginning, in no group: for a small topic that everybody needs whole, as the declarations."""

    def __init__(self, connection: Connection, kind: str) -> None:
        """Ready to read; the cluster is asked at the first poll.

        Raises:
            BrokerError: a setting is wrong or a file it names cannot be read.
        """
        self.topic = topic_name(kind, connection.topic_prefix)
        self.trouble: str | None = None
        """What the client last said was wrong; None again once a message is received or an end is reached."""
        self._partitions: frozenset[int] = frozenset()
        self._ended: set[int] = set()
        settings: dict[str, Any] = {  # Any: settings and callbacks.
            **connection.client(),
            **_COMMON,
            **_READING,
            "client.id": "hopwatch/reader",
            # A reader without a group still has to name one; nothing is ever committed to it.
            "group.id": "hopwatch-reader",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "error_cb": self._erred,
        }
        try:
            self._consumer = Consumer(settings)
        except KafkaException as error:
            raise BrokerError(f"kafka: {_said(error.args[0])}") from None

    def poll(self, timeout_s: float, limit: int = POLL_MESSAGES) -> list[Received]:
        """The next messages; empty after ``timeout_s``, at the end, or while the cluster is away."""
        try:
            if not self._partitions and not self._begin(max(timeout_s, 0.1)):
                return []
            messages = _gathered(self._consumer, timeout_s, limit)
        except KafkaException as error:
            self.trouble = _said(error.args[0])
            return []
        found = []
        for message in messages:
            error_ = message.error()
            if error_ is None:
                found.append(_received(message))
                self.trouble = None
            elif error_.code() == KafkaError._PARTITION_EOF:
                self._ended.add(cast(int, message.partition()))  # The end is that of a partition.
                self.trouble = None
            else:
                self.trouble = _said(error_)
        return found

    def _begin(self, timeout_s: float) -> bool:
        about = self._consumer.list_topics(self.topic, timeout=timeout_s).topics.get(self.topic)
        if about is None or about.error is not None:
            self.trouble = _said(about.error) if about is not None else f"{self.topic}: not there"
            return False
        self._partitions = frozenset(about.partitions)
        self._consumer.assign([TopicPartition(self.topic, number, OFFSET_BEGINNING) for number in self._partitions])
        return True

    @property
    def caught_up(self) -> bool:
        """The end of every partition was reached once."""
        return bool(self._partitions) and self._ended >= self._partitions

    def close(self) -> None:
        """Let go of the cluster."""
        self._consumer.close()

    def _erred(self, error: KafkaError) -> None:
        self.trouble = _told(self.trouble, error)


_UNHEARD = logging.getLogger("hopwatch.kafka.unheard")
"""Where the client writes what even its lowest level lets through; ``error_cb`` has told it by then."""
_UNHEARD.addHandler(logging.NullHandler())
_UNHEARD.propagate = False

# log_level 0: what the client would write to standard error comes through error_cb.
_COMMON: dict[str, Value] = {
    "log_level": 0,
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 5_000,
    # A broker that takes a connection and says nothing must not keep a new client long from asking the next one.
    "socket.connection.setup.timeout.ms": 5_000,
    "api.version.request.timeout.ms": 3_000,
}
_READING: dict[str, Value] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # An offset that is gone is told (Gap), not skipped in silence.
    "auto.offset.reset": "error",
    "queued.max.messages.kbytes": FETCH_QUEUE_KBYTES,
    "queued.min.messages": FETCH_QUEUE_MESSAGES,
    "fetch.wait.max.ms": 100,
    "allow.auto.create.topics": False,
    "isolation.level": "read_committed",
}


def _gathered(consumer: Consumer, timeout_s: float, limit: int) -> list[Message]:
    """The first message as soon as it is there and what follows it at once; the client itself waits until ``limit`` is reached."""
    messages = consumer.consume(1, timeout_s)
    if messages and limit > 1:
        messages += consumer.consume(limit - 1, min(timeout_s, GATHER_S))
    return messages


_partition = lru_cache(maxsize=4_096)(Partition)
"""Millions of messages lie in a few dozen partitions."""


def _received(message: Message) -> Received:
    topic, number, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None and number is not None and offset is not None, "a message without an error has a place"
    return Received(_partition(topic, number), offset, message.key() or b"", message.value() or b"", message)


def _told(before: str | None, error: KafkaError) -> str:
    """What is wrong now: that all brokers are down follows every refusal and hides its reason."""
    return before if before is not None and error.code() == KafkaError._ALL_BROKERS_DOWN else _said(error)


def _said(error: KafkaError) -> str:
    """One line for a person: the client's name of the error and its words."""
    return f"{error.name()}: {' '.join(error.str().split())}"[:REASON_CHARACTERS_MAX]

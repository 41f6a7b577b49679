"""`hopwatch store`: flows, losses, heartbeats and findings from Kafka into PostgreSQL, each once.

A batch is written, then the offsets behind it are told to the group; in between anything may end, since an event written again is the
same event. One batch is written by a thread of its own while the next is read, never two at once. While the database is away reading
pauses, membership in the group goes on, and the batch in hand is written when it is back. An event that the database refuses is looked
for by halves and goes to the rejected ones, with the reason and nothing of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from hopwatch.bus.dead_letters import DeadLetters
from hopwatch.bus.kafka import Partition, Publisher, Reader, Received, Subscriber
from hopwatch.bus.topics import Kind
from hopwatch.declared.model import NAME_PATTERN
from hopwatch.editions import Declarations, Edition, Editions
from hopwatch.events import time_ns
from hopwatch.figures import STORING, RunningFigures
from hopwatch.store import StoreError, StoreFull
from hopwatch.store.postgresql import ClassDays, Hiding, PostgresStore, Said, StoreAway, StoreRefused

KINDS: Final[tuple[Kind, ...]] = ("flow", "loss", "heartbeat", "finding")
"""What is kept."""

BATCH_EVENTS: Final = 10_000
BATCH_S: Final = 0.5
POLL_S: Final = 0.1
AGAIN_S: Final = 1.0
SAY_AGAIN_S: Final = 60.0
TIDY_S: Final = 3_600.0
"""How often what is too old goes."""

_TIMES: Final = {"flow": ("start", "end"), "loss": ("start", "end"), "heartbeat": ("time",), "finding": ("first_seen", "last_seen")}


class Subscribe(Protocol):
    """Makes the member of the group."""

    def __call__(
        self, *, on_assigned: Callable[[list[Partition]], Mapping[Partition, int]], on_revoked: Callable[[list[Partition], bool], None]
    ) -> Subscriber: ...


@dataclass(frozen=True, slots=True)
class Keeping:
    """How many days records are kept, by table; a table that is not named keeps all. ``person_days`` is for accounts of persons.

    ``classes`` are days by class of data; ``declared``: what moved data of a class stays no longer than its ``keep_max``.
    """

    days: Mapping[str, int]
    person_days: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    declared: bool = False

    @classmethod
    def parse(cls, text: str) -> Keeping:
        """From ``flows=30,persons=7,losses=90,class:process_ip=14,keep_max``.

        Raises:
            ValueError: a name nobody knows, or no number of days.
        """
        days: dict[str, int] = {}
        classes: dict[str, int] = {}
        declared = False
        for part in filter(None, (each.strip() for each in text.split(","))):
            if part == DECLARED:
                declared = True
                continue
            name, _, count = part.partition("=")
            of_class = name.removeprefix(CLASS)
            if (
                not count.isdigit()
                or not 0 < int(count) < 100_000
                or not (name in TABLES or (of_class != name and _NAME.fullmatch(of_class)))
            ):
                raise ValueError(f"{part}: expected NAME=DAYS, names are {', '.join(TABLES)}, {CLASS}NAME; or {DECLARED} alone")
            (classes if of_class != name else days)[of_class] = int(count)
        persons = days.pop("persons", None)
        # What was said of a window goes with it.
        for name, with_it in (("findings", ("finding_events",)), ("flows", ("judgements", "outcomes"))):
            if name in days:
                days |= dict.fromkeys(with_it, days[name])
        return cls(days, persons, classes, declared)

    def by_class(self, editions: Mapping[str, Edition]) -> list[ClassDays]:
        """How long each class is kept, by the declarations in force; of two numbers the smaller."""
        kept = [ClassDays(None, name, count) for name, count in self.classes.items()]
        if self.declared:
            for plant, edition in editions.items():
                for name, declared in edition.architecture.classes.items():
                    kept.append(ClassDays(plant, name, max(1, int(declared.keep_max.seconds // DAY_S))))
        return kept


TABLES: Final = ("flows", "losses", "heartbeats", "findings", "persons")
CLASS: Final = "class:"
DECLARED: Final = "keep_max"
DAY_S: Final = 86_400
_NAME: Final = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class _Writing:
    """A batch on its way into the database, and the offsets behind it."""

    batch: list[tuple[Received, Said]]
    offsets: dict[Partition, int]
    began_s: float
    new: Future[int]


class Storing:
    """One member of the group; everything runs inside ``step``, in one thread, but for the batch that is being written."""

    def __init__(
        self,
        subscribe: Subscribe,
        publisher: Publisher[None],
        store: PostgresStore,
        hiding: Hiding,
        *,
        declared: Reader | None,
        editions: Editions,
        keeping: Keeping,
        clock: Callable[[], float],
        say: Callable[[str], None],
        consumer: str,
    ) -> None:
        """``consumer`` names the group in the database; ``declared`` brings the accounts that are no persons."""
        self._publisher, self._store, self._editions = publisher, store, editions
        self._declared = Declarations(declared, editions, lambda plant, edition: hiding.declare(plant, edition.is_clear()), clock, say)
        self._keeping, self._clock, self._say, self._consumer = keeping, clock, say, consumer
        self._batch: list[tuple[Received, Said]] = []
        self._offsets: dict[Partition, int] = {}
        self._writer = ThreadPoolExecutor(1, "writing")
        self._writing: _Writing | None = None
        """Nothing else is asked of the database before it has ended (``_settle``)."""
        self._unplaced: set[Partition] = set()
        self._dead: DeadLetters[None] = DeadLetters(publisher, None)
        self._written_s = self._tidied_s = self._arrived_s = clock()
        self._again_s = self._said_s = 0.0
        self._away = False
        self.counters: Counter[str] = Counter()
        self.figures = self._figures()
        self._subscriber = subscribe(on_assigned=self._assigned, on_revoked=self._revoked)

    def _figures(self) -> RunningFigures:
        """What Prometheus is told."""
        made = RunningFigures(STORING)
        made.follow(self.counters, lambda: self._away, {"hopwatch_store_new_events_total": "new"})
        made.ask("hopwatch_queue_events", lambda: len(self._batch) + (0 if (writing := self._writing) is None else len(writing.batch)))
        return made

    def read_declarations(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Read what was declared before this process began: until then every account would be a person's."""
        self._declared.read(stopping)

    def step(self) -> int:
        """Read, and write what is due; returns how many messages were read."""
        self._declared.step(0)
        # What is in hand waits for the database, or for the dead letters.
        stuck = self._away or len(self._batch) + self._dead.waiting >= BATCH_EVENTS
        messages = self._subscriber.poll(POLL_S, 0 if stuck else BATCH_EVENTS)
        polled_s = self._clock()
        for message in messages:
            self._take(message)
        many = len(self._batch) >= BATCH_EVENTS
        self._settle(wait=many)
        now_s = self._clock()
        if self._writing is None and now_s >= self._again_s and (many or now_s - self._written_s >= BATCH_S):
            self._write()
        self._reported()
        if now_s - self._tidied_s >= TIDY_S and not self._away:
            self.tidy()
        for gap in self._subscriber.gaps():
            if gap.lost > 0:
                self.counters["missed"] += gap.lost
                self._say(f"{gap.partition.topic}/{gap.partition.number}: {gap.lost} messages were deleted before they were read")
        if messages:
            self.figures.took("hopwatch_step_seconds", self._clock() - polled_s)
        self.figures.put("hopwatch_partitions", len(self._subscriber.assigned()))
        self.figures.lags((one.topic, left) for one, left in self._subscriber.lag().items())
        return len(messages)

    def tidy(self) -> None:
        """Let go of what is older than it may be kept."""
        self._tidied_s = self._clock()
        self._settle()
        try:
            by_class = self._keeping.by_class(self._editions.of)
            for name, count in self._store.keep_only(self._keeping.days, self._keeping.person_days, by_class).items():
                self._say(f"{name}: {count} gone, older than they are kept")
        except StoreError as error:
            self._say(f"what is too old could not go: {error}")

    def close(self) -> None:
        """Write what is in hand, leave the group, let go of the database."""
        self._keep()
        self._subscriber.close()
        self._writer.shutdown()
        self._publisher.close()
        self._store.close()
        self._declared.close()

    def _assigned(self, partitions: list[Partition]) -> Mapping[Partition, int]:
        self._settle()
        try:
            known = self._store.offsets(self._consumer)
        except StoreAway as error:
            # From where to read is asked when the database is back.
            self._unplaced |= set(partitions)
            self._gone(error)
            return {}
        return {partition: known[partition] for partition in partitions if partition in known}  # A partition is such a pair.

    def _take(self, message: Received) -> None:
        if message.partition in self._unplaced:
            return
        self._offsets[message.partition] = message.offset + 1
        self.counters["events"] += 1
        try:
            event = msgspec.json.decode(message.value)
            check(event, message.kind)
        except (ValueError, RecursionError) as error:
            self._reject(message, "no JSON" if isinstance(error, msgspec.DecodeError | UnicodeDecodeError) else str(error))
            return
        self._batch.append((message, Said(message.value, event)))

    def _keep(self) -> None:
        """What is in hand is in the database when this returns, if that answers."""
        self._settle()
        if not self._away:
            self._write()
            self._settle()

    def _write(self) -> None:
        """Begin to write what is in hand; what is read from now on belongs to the next batch."""
        self._written_s = self._clock()
        if not self._offsets and not self._away:
            return
        try:
            if self._away:
                self._store.reconnect()
                self._place()
            if not self._rejections_arrived():
                return
        except (StoreAway, StoreFull) as error:
            self._gone(error)
            return
        batch, offsets, self._batch, self._offsets = self._batch, self._offsets, [], {}
        self._writing = _Writing(batch, offsets, self._written_s, self._writer.submit(self._written, [said for _, said in batch], offsets))

    def _written(self, events: Sequence[Said], offsets: Mapping[Partition, int]) -> int:
        """Runs in the thread that writes: the events, then where they end; how many were new."""
        new = self._store.add(events) if events else 0
        self._finish(offsets)
        return new

    def _finish(self, offsets: Mapping[Partition, int]) -> None:
        self._store.finished(self._consumer, {(one.topic, one.number): offset for one, offset in offsets.items()})

    def _settle(self, *, wait: bool = True) -> None:
        """What follows from the batch that was being written, if that has ended or ``wait``."""
        writing = self._writing
        if writing is None or not (wait or writing.new.done()):
            return
        self._writing = None
        try:
            try:
                self.counters["new"] += writing.new.result()
            except StoreRefused:
                self._add(writing.batch)
                if not self._rejections_arrived():
                    # The events are there; that they are is told with those that follow.
                    self._offsets = writing.offsets | self._offsets
                    return
                self._finish(writing.offsets)
        except (StoreAway, StoreFull) as error:
            self._batch = writing.batch + self._batch
            self._offsets = writing.offsets | self._offsets
            self._gone(error)
            return
        self.figures.took("hopwatch_write_seconds", self._clock() - writing.began_s)
        self._subscriber.commit(writing.offsets)
        self.counters["batches"] += 1
        if self._away:
            self._away = False
            self._say("the database is back")

    def _place(self) -> None:
        """Read on where the group stands what was assigned while nobody could say."""
        known = self._store.offsets(self._consumer) if self._unplaced else {}
        for partition in self._unplaced & self._subscriber.assigned():
            self._subscriber.seek(partition, known.get(partition))
        self._unplaced.clear()

    def _rejections_arrived(self) -> bool:
        if self._dead.waiting:
            self._reported()
            self._publisher.flush(POLL_S)
            self._reported()
        now_s = self._clock()
        if not self._dead.waiting:
            self._arrived_s = now_s
        elif now_s - max(self._arrived_s, self._said_s) >= SAY_AGAIN_S:
            self._said_s = now_s
            self._say(f"{self._dead.waiting} bad messages do not arrive on their topic, nothing is written before")
        return self._dead.waiting == 0

    def _add(self, batch: Sequence[tuple[Received, Said]]) -> None:
        """The batch, but for what the database refuses."""
        try:
            self.counters["new"] += self._store.add([said for _, said in batch])
        except StoreRefused as error:
            if len(batch) > 1:
                self._add(batch[: len(batch) // 2])
                self._add(batch[len(batch) // 2 :])
            else:
                self._reject(batch[0][0], str(error))

    def _gone(self, error: StoreError) -> None:
        now_s = self._clock()
        if not self._away or now_s - self._said_s >= SAY_AGAIN_S:
            self._said_s = now_s
            self._say(f"the database is {'still ' if self._away else ''}away, reading pauses: {error}")
        self._away = True
        self._again_s = now_s + AGAIN_S
        self.counters["away"] += 1

    def _revoked(self, partitions: list[Partition], lost: bool) -> None:
        """Write what was read of them; what cannot be written now is read by whoever gets them."""
        self._settle()
        if not lost:
            self._keep()
        gone = set(partitions)
        self._batch = [one for one in self._batch if one[0].partition not in gone]
        self._unplaced -= gone
        for partition in gone:
            self._offsets.pop(partition, None)

    def _reject(self, message: Received, reason: str) -> None:
        self.counters["rejected"] += 1
        self._dead.put(message, reason)

    def _reported(self) -> None:
        self._dead.send()
        reports = self._publisher.poll()
        for failure in reports.failed:
            self._say(f"the bus does not take a message: {failure.reason}")
        self._dead.arrived(len(reports.acknowledged) + len(reports.failed))


def check(event: Any, kind: str | None) -> None:  # Any: JSON values.
    """What the store relies on; whether the event means something is the detector's question.

    Raises:
        ValueError: a field is missing or of another type; says which, never what stood in it.
    """
    if not isinstance(event, dict) or event.get("kind") != kind or kind not in _TIMES:
        raise ValueError("kind: not that of the topic")
    names = ("event_id", "plant", "flow_id", "agent") if kind == "flow" else ("event_id", "plant")
    for name in (*names, *_TIMES[kind]):
        if not isinstance(event.get(name), str):
            raise ValueError(f"{name}: expected a text")
    if kind == "flow":
        for name in ("source", "destination"):
            if not isinstance(event.get(name), dict) or not isinstance(event[name].get("address"), str):
                raise ValueError(f"{name}.address: expected a text")
        for name in ("sequence", "rows", "bytes"):
            if not isinstance(event.get(name, 0), int):
                raise ValueError(f"{name}: expected a count")
    for name in _TIMES[kind]:
        try:
            time_ns(event[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

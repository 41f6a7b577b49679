"""Detectors past one machine: a member of a consumer group that runs the embedded engine, once for each plant of each partition.

Which partitions are whose is Kafka's to say; what was done is PostgreSQL's: one transaction holds what changed in memory, the
offsets and the findings (``store.progress``). So nothing here has to end well. A detector that is killed, cut off or stopped for an
hour leaves partitions behind that the next owner takes up at the last transaction, reads the same events again, and finds the same.
What goes to the bus goes there after the transaction, from its outbox.

A transaction is written by a thread of its own while the next events are judged, one after the other and never two at once. What was
judged beyond it is in memory alone: when it fails, or finds that a partition is another's, that is forgotten with it.

When the database is away the partitions pause, membership in the group goes on, and what was done since the last transaction is
forgotten: it is read again when the database is back. A message that is no event goes to the rejected ones with the reason; events of
a plant that nobody declared are counted and said, and not judged.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from detectors.judgement import Judgement
from hopwatch.bus.connection import BrokerError
from hopwatch.bus.dead_letters import DeadLetters
from hopwatch.bus.kafka import Gap, Partition, Publisher, Reader, Received, Subscriber
from hopwatch.bus.topics import TOGETHER, topic_name
from hopwatch.declared.model import Architecture
from hopwatch.declared.rows import rows
from hopwatch.editions import Declarations, Edition, Editions
from hopwatch.engine import Detector, Engine, SnapshotError
from hopwatch.engine.order import Order
from hopwatch.events import Event, EventError, Finding, Flow, Heartbeat, Loss, line_of
from hopwatch.figures import DETECTING, JudgingFigures, Tally
from hopwatch.lines import reader
from hopwatch.store import StoreError, StoreFull
from hopwatch.store.judgements import Judged
from hopwatch.store.postgresql import Hiding, Said, StoreAway, StoreRefused
from hopwatch.store.progress import Kept, Memory, Progress, Step
from hopwatch.watch import findings_of

KEEP_S: Final = 0.5
"""How often a transaction is made, at most; a finding reaches the bus so much later."""

KEEP_EVENTS_MAX: Final = 20_000
"""Events after which a transaction is made whatever the time; so many more may be judged while it is written, and none before it begins."""

POLL_S: Final = 0.1
POLL_EVENTS: Final = 2_000

WRITTEN_S: Final = 0.02
"""How long to wait for messages while a transaction is written: its findings wait for its end."""

AWAY: Final = (StoreAway, StoreFull)
"""A database that takes nothing now and may later."""

AGAIN_S: Final = 1.0
"""How long to wait before a database that was away is asked again."""

PLANTS_COUNTED_MAX: Final = 1_000
"""Plants without a declaration whose events are counted apart; beyond them they are counted together."""

FENCED_S: Final = 10.0
"""How long after another detector took a partition the group may take to say so."""

IDLE_S: Final = 10.0
"""How often, and by how much late, time passes for a plant of which nothing comes."""

LIVE_NS: Final = 3_600 * 10**9
"""A plant is live whose last event was no older when it was judged; for an old capture that is read again no time passes by itself."""

RECEIVED_NS: Final = 500_000_000
"""How far the broker's time moves before the detectors are told."""

SAY_AGAIN_S: Final = 60.0
"""How often what lasts is said again."""

RESEND_MAX: Final = 100_000
"""Findings on their way to the bus; at the bound nothing more is read until some have arrived."""

_ELSEWHERE: Final = "(further plants)"


class MakeDetectors(Protocol):
    """The questions asked of a plant."""

    def __call__(self, architecture: Architecture, edition: str) -> list[Detector]: ...


@dataclass(slots=True)
class _Plant:
    """The engine of one plant in one partition. ``whole``: its next step brings a snapshot."""

    engine: Engine
    edition: Edition
    whole: bool
    moved: bool = False
    received_ns: int = 0
    live: bool = False


@dataclass(slots=True)
class _Share:
    """One partition number, with what this process knows and has not kept yet."""

    number: int
    epoch: int
    order: Order
    read: dict[str, int]
    """The offset to read next, by topic, of what was taken off the bus; what waits for its turn lies before it."""

    tally: Tally
    """What was judged since the last step, for the figures."""

    plants: dict[str, _Plant] = field(default_factory=dict)
    waiting: dict[str, Memory] = field(default_factory=dict)
    """Memories of plants whose declaration is not there (yet)."""

    ends: dict[str, int] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    verdicts: bool = True
    """Whether verdicts are kept beside the flows."""
    judged: list[Judged] = field(default_factory=list)
    events: int = 0
    """Taken since the last step."""
    moved: bool = False
    received_ns: int = 0
    """When the broker received what is being taken, to RECEIVED_NS; 0 if it does not say."""

    def say(self, outcome: Any) -> None:  # Any: what detectors say, a finding or a judgement of a window.
        """The engine's sink. A finding accumulates: of several of one step the last says all."""
        if isinstance(outcome, Judgement):
            self.tally.judged(outcome)
            if self.verdicts:
                self.judged.append(judged_of(outcome))
        for finding in [outcome] if isinstance(outcome, Finding) else findings_of(outcome):
            self.findings.pop(finding.finding_id, None)
            self.findings[finding.finding_id] = finding

    def offsets(self) -> dict[str, int]:
        """The offsets of what is neither judged nor passed over."""
        held = {topic: self.order.held(topic) for topic in self.read}
        return {topic: offset if (first := held[topic]) is None else min(offset, first) for topic, offset in self.read.items()}


@dataclass(frozen=True, slots=True)
class _Doing:
    """What one share did, on its way into the database."""

    share: _Share
    step: Step
    tally: Tally
    findings: dict[str, Finding]
    events: int


@dataclass(frozen=True, slots=True)
class _Writing:
    """A transaction that is being made."""

    doing: Sequence[_Doing]
    arrived: Sequence[int]
    began_s: float
    kept: Future[Kept]


@dataclass(slots=True)
class _Outgoing:
    """A step's findings on their way to the bus: the row of the outbox goes when all have arrived."""

    number: int
    left: int


Token = tuple[int, bytes] | None
"""A finding's place in the outbox and its line; None for a message on its way to the rejected."""


class Detecting:
    """One member of the group; everything runs inside ``step``, in one thread, but for the transaction that is being written."""

    def __init__(
        self,
        subscribe: Callable[..., Subscriber],
        publisher: Publisher[Token],
        progress: Progress,
        detectors: MakeDetectors,
        editions: Editions,
        hiding: Hiding,
        *,
        declared: Reader | None,
        prefix: str,
        clock: Callable[[], float],
        wall_ns: Callable[[], int],
        say: Callable[[str], None],
        owner: str | None = None,
        keep_s: float = KEEP_S,
        verdicts: bool = True,
    ) -> None:
        """``subscribe`` makes the member, given ``on_assigned`` and ``on_revoked``; ``declared`` brings editions while it runs.

        ``verdicts``: what is said of each window is kept, too, for whoever reads the flows.
        """
        self._publisher, self._progress, self._detectors, self._editions = publisher, progress, detectors, editions
        self._hiding, self._prefix, self._clock, self._say = hiding, prefix, clock, say
        self._declared = Declarations(declared, editions, self._in_force, clock, say)
        self._owner = owner or secrets.token_hex(8)
        self._verdicts = verdicts
        self._read = reader()
        self._keep_s, self._wall_ns, self._idle_s = keep_s, wall_ns, clock()
        self._kinds: dict[str, str] = {kind: topic_name(kind, prefix) for kind in TOGETHER}
        self._shares: dict[int, _Share] = {}
        self._unclaimed: set[int] = set()
        self._writer = ThreadPoolExecutor(1, "writing")
        self._writing: _Writing | None = None
        """Nothing else is asked of the database before it has ended (``_settle``)."""
        self._outgoing: dict[int, _Outgoing] = {}
        self._arrived: list[int] = []
        self._unsent: deque[tuple[int, str, str, bytes]] = deque()
        self._dead: DeadLetters[Token] = DeadLetters(publisher, None)
        self._undeclared: Counter[str] = Counter()
        self._undeclared_said: Counter[str] = Counter()
        self._said_s: dict[str, float] = {}
        self._kept_s = self._now_s = clock()
        self._again_s = 0.0
        self._lost_s: dict[int, float] = {}
        self._away = False
        self.counters: Counter[str] = Counter()
        self.figures = self._figures()
        self._unwritten: dict[str, Edition] = dict(editions.of)
        """Declarations in force that the database may not have."""
        for plant, edition in editions.of.items():
            hiding.declare(plant, edition.is_clear())
        self._subscriber = subscribe(on_assigned=self._assigned, on_revoked=self._revoked)

    # What the caller calls

    def read_declarations(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Read what was declared before this process began; without it the first events would be of nobody's plant."""
        self._declared.read(stopping)

    def _figures(self) -> JudgingFigures:
        """What Prometheus is told."""
        made = JudgingFigures(DETECTING)
        own = {"hopwatch_detect_published_findings_total": "findings", "hopwatch_detect_fenced_total": "fenced"}
        made.follow(self.counters, lambda: self._away, own)
        made.ask("hopwatch_detect_undeclared_events_total", lambda: {(plant,): count for plant, count in self._undeclared.copy().items()})
        made.ask("hopwatch_detect_unpublished_findings", lambda: len(self._outgoing))
        made.ask("hopwatch_partitions", lambda: len(self._shares))
        return made

    def _highest(self, plant: str, classes: Sequence[str]) -> str | None:
        edition = self._editions.of.get(plant)
        return None if edition is None else edition.highest(classes)

    def step(self) -> int:
        """Read, judge, keep what is due, and send what was kept; returns how many messages were read."""
        self._declared.step(0)
        self._ask_again()
        self._claim_due()
        self._write_declared()
        if self._unclaimed:
            self._subscriber.pause(one for one in self._subscriber.assigned() if one.number in self._unclaimed)
        full = len(self._outgoing) + len(self._unsent) >= RESEND_MAX
        # A transaction waits for the dead letters, and what was judged waits for the transaction.
        stuck = self._taken() >= KEEP_EVENTS_MAX
        waits = full or stuck or self._writing is not None
        messages = self._subscriber.poll(WRITTEN_S if waits else POLL_S, 0 if full or stuck else POLL_EVENTS)
        polled_s = self._clock()
        self._look_ahead(messages)
        for message in messages:
            self._take(message)
        self._waited_enough()
        for gap in self._subscriber.gaps():
            self._gap(gap)
        self._idle()
        many = self._taken() >= KEEP_EVENTS_MAX
        self._settle(wait=many or full)
        if self._writing is None and (many or self._clock() - self._kept_s >= self._keep_s):
            self._write(self._shares.values())
        self._send()
        if messages:
            self.figures.took("hopwatch_step_seconds", self._clock() - polled_s)
        self.figures.put("hopwatch_queue_events", self._unkept())
        return len(messages)

    def _taken(self) -> int:
        """Events that were taken and are in no transaction yet."""
        return sum(share.events for share in self._shares.values())

    def _unkept(self) -> int:
        """Events that were taken and whose keeping is not confirmed."""
        return self._taken() + (0 if self._writing is None else sum(one.events for one in self._writing.doing))

    def close(self) -> None:
        """Keep what was done, leave the group, and wait for what is on its way to the bus."""
        self._subscriber.close()
        self._settle()
        self._writer.shutdown()
        self._send()
        self._reported(self._publisher.close())
        if self._arrived:
            with contextlib.suppress(StoreError):  # Then they are said again, with the same ids.
                self._progress.clear(self._arrived)
        self._progress.close()
        self._declared.close()

    def assigned(self) -> list[int]:
        """The partitions this process works on."""
        return sorted(self._shares)

    def undeclared(self) -> dict[str, int]:
        """Events that were not judged because nobody declared their plant, by plant."""
        return dict(self._undeclared)

    # Declarations

    def _in_force(self, plant: str, edition: Edition) -> None:
        """From the next event on the plant is judged by this edition; what was spent is spent."""
        self._hiding.declare(plant, edition.is_clear())
        self._unwritten[plant] = edition
        for share in self._shares.values():
            before = share.plants.get(plant)
            if before is not None:
                engine = self._engine(share, edition)
                engine.restore(before.engine.snapshot())
                share.plants[plant] = _Plant(engine, edition, whole=True, moved=True)
                share.moved = True
            elif plant in share.waiting:
                share.plants[plant] = self._remembered(share, edition, share.waiting.pop(plant))

    def _write_declared(self) -> None:
        """What is in force stands in the database, for whoever joins it to what moved."""
        if self._unwritten:
            self._settle()
        while self._unwritten and not self._away:
            plant, edition = next(iter(self._unwritten.items()))
            try:
                self._progress.declare(plant, edition.name, rows(edition.architecture, edition.name))
            except AWAY as error:
                self._gone(error)
                return
            except StoreRefused as error:
                self._say(f"declaration of {plant}: the database does not list it: {error}")
            del self._unwritten[plant]

    def _engine(self, share: _Share, edition: Edition, name: str | None = None) -> Engine:
        return Engine(self._detectors(edition.architecture, name or edition.name), share)

    def _remembered(self, share: _Share, edition: Edition, memory: Memory) -> _Plant:
        """The plant as it was kept; one kept under another edition is read under that one's name first, since its changes build on it."""
        kept_under = _edition_of(memory.snapshot)
        engine = self._engine(share, edition, kept_under)
        try:
            engine.restore(memory.snapshot)
            for changes in memory.changes:
                engine.merge(changes)
        except (SnapshotError, ValueError, KeyError) as error:
            self._say(f"{edition.architecture.plant}: budgets begin anew: {error}")
            return _Plant(self._engine(share, edition), edition, whole=True, moved=True)
        if kept_under == edition.name:
            engine.changes()
            return _Plant(engine, edition, whole=False)
        now = self._engine(share, edition)
        now.restore(engine.snapshot())
        return _Plant(now, edition, whole=True, moved=True)

    # Partitions

    def _assigned(self, partitions: list[Partition]) -> Mapping[Partition, int]:
        """Where to begin. Only who has the flows of a number has the number; the losses and heartbeats follow."""
        flow = topic_name("flow", self._prefix)
        self._unclaimed |= {one.number for one in partitions if one.topic == flow and one.number not in self._shares}
        self._again_s = 0.0
        self._claim_due(seek=False)
        return {
            one: share.read[one.topic]
            for one in partitions
            if (share := self._shares.get(one.number)) is not None and one.topic in share.read
        }

    def _revoked(self, partitions: list[Partition], lost: bool) -> None:
        flow = topic_name("flow", self._prefix)
        numbers = {one.number for one in partitions if one.topic == flow}
        self._unclaimed -= numbers
        self._settle()
        shares = [self._shares[number] for number in numbers if number in self._shares]
        if shares and not lost:
            self._keep(shares)
        for number in numbers:
            self._shares.pop(number, None)

    def _claim_due(self, *, seek: bool = True) -> None:
        """Take over what the group gave us, as soon as the database answers."""
        if not self._unclaimed:
            return
        self._settle()
        if self._clock() < self._again_s:
            return
        try:
            if self._away:
                self._progress.reconnect()
            for number in sorted(self._unclaimed):
                self._claim(number)
                self._unclaimed.discard(number)
                if seek:
                    self._begin(self._shares[number])
        except AWAY as error:
            self._gone(error)
            return
        except BrokerError as error:
            # The client cannot seek yet; what was claimed is claimed once more.
            self._say_once("seek", str(error), first=False)
            self._unclaimed |= self._shares.keys()
            self._shares.clear()
            self._again_s = self._clock() + POLL_S
            return
        if self._away:
            self._away = False
            self._say("the database is back")

    def _claim(self, number: int) -> None:
        claim = self._progress.claim(number, self._owner)
        share = _Share(number, claim.epoch, Order(claim.numbers), dict(claim.offsets), Tally(self._highest), verdicts=self._verdicts)
        for plant, memory in claim.memories.items():
            edition = self._editions.of.get(plant)
            if edition is None:
                share.waiting[plant] = memory
            else:
                share.plants[plant] = self._remembered(share, edition, memory)
                share.moved = share.moved or share.plants[plant].moved
        for place, lines in self._progress.outbox(number):
            said = [(json.loads(line), line) for line in lines]
            self._out(number, place, [(event["plant"], event["event_id"], line) for event, line in said])
        self._shares[number] = share
        self.counters["claims"] += 1

    def _begin(self, share: _Share) -> None:
        """Read on where the share stands, all of its topics."""
        held = [one for one in self._subscriber.assigned() if one.number == share.number]
        for one in held:
            self._subscriber.seek(one, share.read.get(one.topic))
        self._subscriber.resume(held)

    def _ask_again(self) -> None:
        """A partition that another took, and that the group says is still ours after a while, is claimed again."""
        flow = topic_name("flow", self._prefix)
        for number, since_s in list(self._lost_s.items()):
            if self._clock() - since_s >= FENCED_S:
                del self._lost_s[number]
                if Partition(flow, number) in self._subscriber.assigned():
                    self._unclaimed.add(number)

    def _gone(self, error: StoreError) -> None:
        """The database is away: forget what is not kept, and pause."""
        if not self._away:
            self._away = True
            self._say(f"the database is away, reading pauses: {error}")
        self._say_once("away", f"the database is still away: {error}", first=False)
        self.counters["away"] += 1
        self._again_s = self._clock() + AGAIN_S
        self._unclaimed |= self._shares.keys()
        self._shares.clear()
        self._outgoing.clear()
        self._arrived.clear()
        self._unsent.clear()
        self._dead.forget()
        self._subscriber.pause(self._subscriber.assigned())

    # Events

    def _take(self, message: Received) -> None:
        share = self._shares.get(message.partition.number)
        topic = message.partition.topic
        if share is None or message.offset < share.read.get(topic, 0):
            return  # Another's, or not ours yet: it is read from the offset that was kept.
        share.read[topic] = message.offset + 1
        share.events += 1
        share.moved = True
        self.counters["events"] += 1
        if (received_ns := message.received_ns) - share.received_ns >= RECEIVED_NS:
            share.received_ns = received_ns
        try:
            event = self._read(message.value)
            if self._kinds.get(event.kind) != topic or not isinstance(event, Flow | Loss | Heartbeat):
                raise EventError(f"a {event.kind} on the topic of another kind")
            plant = event.plant.encode()
            if message.key != plant and not message.key.startswith(plant + b"/"):
                raise EventError("the key is not the plant's")
        except EventError as error:
            self._reject(message, str(error))
            return
        # A shard of a plant has some of an agent's numbers, and nothing to wait for.
        alone = message.key != plant
        if alone or (isinstance(event, Flow) and share.order.is_next(event.spool, event.agent_sequence)):
            self._judge(share, event)
            return
        for ready in share.order.put(topic, message.offset, event, message.value, share.ends, self._now_s):
            self._judge(share, ready)

    def _look_ahead(self, messages: Sequence[Received]) -> None:
        """Where each topic of each share ends, as far as the last fetch told."""
        self._now_s = self._clock()
        behind = self._subscriber.lag()
        self.figures.lags((one.topic, left) for one, left in behind.items())
        read = {message.partition: message.offset + 1 for message in messages}
        for share in self._shares.values():
            share.ends = {
                one.topic: read.get(one, share.read.get(one.topic, 0)) + left for one, left in behind.items() if one.number == share.number
            }

    def _waited_enough(self) -> None:
        for share in self._shares.values():
            if share.order:
                read = {one.topic: 0 for one in self._subscriber.assigned() if one.number == share.number} | share.read
                for event in share.order.overdue(read, share.ends, self._now_s):
                    share.moved = True
                    self._judge(share, event)

    def _judge(self, share: _Share, event: Event) -> None:
        assert isinstance(event, Flow | Loss | Heartbeat)
        plant = share.plants.get(event.plant)
        if plant is None:
            edition = self._editions.of.get(event.plant)
            if edition is None:
                name = event.plant if event.plant in self._undeclared or len(self._undeclared) < PLANTS_COUNTED_MAX else _ELSEWHERE
                self._undeclared[name] += 1
                return
            plant = share.plants[event.plant] = _Plant(self._engine(share, edition), edition, whole=True)
        plant.moved = True
        if plant.received_ns != share.received_ns:
            plant.received_ns = share.received_ns
            plant.engine.received(share.received_ns)
        if not isinstance(event, Flow):
            share.tally.heard(event, share.received_ns / 1e9 or self._wall_ns() / 1e9)
        plant.engine.take((event,))

    def _reject(self, message: Received, reason: str) -> None:
        """To the dead letters, with the reason; its offset is kept only when it has arrived there."""
        self.counters["rejected"] += 1
        self._dead.put(message, reason)

    def _gap(self, gap: Gap) -> None:
        share = self._shares.get(gap.partition.number)
        if share is not None:
            share.read[gap.partition.topic] = gap.resumed
            share.moved = True
        if gap.lost > 0:
            self.counters["missed"] += gap.lost
            self._say(f"{gap.partition.topic}/{gap.partition.number}: {gap.lost} messages were deleted before they were read")

    def _idle(self) -> None:
        """Time passes for live plants of which everything was read and nothing comes, too: what is not there is for detectors to see."""
        if self._clock() - self._idle_s < IDLE_S:
            return
        self._idle_s = self._clock()
        now_ns = self._wall_ns() - int(IDLE_S * 10**9)
        for share in self._shares.values():
            if any(share.read.get(topic, 0) < end for topic, end in share.ends.items()):
                continue
            for plant in share.plants.values():
                if plant.live and now_ns - plant.engine.now_ns >= IDLE_S * 10**9:
                    plant.engine.advance(now_ns)
                    plant.moved = share.moved = True

    # Keeping

    def _keep(self, shares: Iterable[_Share]) -> None:
        """What the shares did since the last transaction is durable when this returns, if the database answers."""
        self._settle()
        self._write(shares)
        self._settle()

    def _write(self, shares: Iterable[_Share]) -> None:
        """Begin one transaction for what the shares did since the last; what they do from now on belongs to the next."""
        self._kept_s = self._clock()
        moved = [share for share in shares if share.moved and self._shares.get(share.number) is share]
        if not moved and not self._arrived:
            return
        if self._dead.waiting and not self._rejections_arrived():
            return
        doing = [self._doing(share) for share in moved]
        arrived = self._arrived[:]
        kept = self._writer.submit(self._progress.keep, [one.step for one in doing], arrived)
        self._writing = _Writing(doing, arrived, self._clock(), kept)

    def _doing(self, share: _Share) -> _Doing:
        """What the share did, taken off it."""
        done = _Doing(share, self._step(share), share.tally, share.findings, share.events)
        for plant in share.plants.values():
            if share.events and plant.moved:
                plant.live = abs(self._wall_ns() - plant.engine.now_ns) < LIVE_NS
            plant.whole = plant.moved = False
        share.tally, share.findings, share.judged = Tally(self._highest), {}, []
        share.events, share.moved = 0, False
        return done

    def _settle(self, *, wait: bool = True) -> None:
        """What follows from the transaction that was being written, if it has ended or ``wait``."""
        writing = self._writing
        if writing is None or not (wait or writing.kept.done()):
            return
        self._writing = None
        try:
            kept = self._kept(writing)
        except AWAY as error:
            self._gone(error)
            return
        self.figures.took("hopwatch_write_seconds", self._clock() - writing.began_s)
        self.counters["steps"] += 1
        del self._arrived[: len(writing.arrived)]
        for one in writing.doing:
            number, step = one.step.number, one.step
            # One that was given up meanwhile says what it found through its next owner, who finds it in the outbox.
            held = self._shares.get(number) is one.share
            if number in kept.fenced:
                if held:
                    self._fenced(one.share)
                continue
            one.tally.found(one.findings.values())
            one.tally.into(self.figures)
            if held:
                if step.findings:
                    told = [(one.event["plant"], one.event["event_id"], one.line) for one in step.findings]
                    self._out(number, kept.outbox[number], told)
                self._subscriber.commit({Partition(topic, number): offset for topic, offset in step.offsets.items()})
        self._tell_undeclared()

    def _kept(self, writing: _Writing) -> Kept:
        """What became of it; without what the database refuses to list, if it does."""
        try:
            return writing.kept.result()
        except StoreRefused as error:
            # Whatever it is about them, they reach the bus, and nothing stops.
            steps = [one.step for one in writing.doing]
            self.counters["unsearchable"] += sum(len(step.findings) for step in steps)
            self._say(f"findings and verdicts that the database does not list: {error}")
            for step in steps:
                step.listed = False
            return self._progress.keep(steps, writing.arrived)

    def _step(self, share: _Share) -> Step:
        step = Step(share.number, share.epoch, share.offsets(), share.order.next_numbers())
        step.judged = share.judged
        step.findings = [Said(line_of(event), event) for event in (finding.model_dump() for finding in share.findings.values())]
        snapshots, changes = {}, {}
        for name, plant in share.plants.items():
            if plant.whole or self._progress.wants_snapshot(share.number, name):
                snapshots[name] = plant.engine.snapshot()
                plant.engine.changes()  # What comes next is counted from here.
            elif plant.moved:
                changes[name] = plant.engine.changes()
        step.snapshots, step.changes = snapshots, changes
        return step

    def _fenced(self, share: _Share) -> None:
        """Another has the partition: what was done for it here since it was taken away is nobody's."""
        self.counters["fenced"] += 1
        self._say(f"partition {share.number} is another detector's now")
        self._shares.pop(share.number, None)
        self._lost_s[share.number] = self._clock()

    def _rejections_arrived(self) -> bool:
        self._dead.send()
        self._publisher.flush(POLL_S)
        self._reported(self._publisher.poll(0))
        if waiting := self._dead.waiting:
            self._say_once("rejected", f"{waiting} bad messages do not arrive on their topic, nothing is kept before", first=False)
        else:
            self._said_s.pop("rejected", None)
        return waiting == 0

    def _tell_undeclared(self) -> None:
        new = self._undeclared - self._undeclared_said
        if new and self._due("undeclared"):
            self._undeclared_said = self._undeclared.copy()
            told = ", ".join(f"{plant} {count}" for plant, count in new.most_common(5))
            self._say(f"events of plants without a declaration, not judged: {told}")

    # The bus

    def _out(self, number: int, place: int, told: Sequence[tuple[str, str, bytes]]) -> None:
        """Findings are on their way to the bus: the plant, the id and the line of each."""
        self._outgoing[place] = _Outgoing(number, len(told))
        self._unsent.extend((place, *one) for one in told)

    def _send(self) -> None:
        """Findings and dead letters to the bus, as many as it takes; a finding it has taken leaves the outbox with the next transaction."""
        self._dead.send()
        while self._unsent:
            place, plant, event_id, line = self._unsent[0]
            if not self._publisher.send("finding", plant, event_id, line, (place, line)):
                break
            self._unsent.popleft()
        self._reported(self._publisher.poll(0))

    def _reported(self, reports: Any) -> None:  # Any: Reports[Token]
        for token in reports.acknowledged:
            self._done(token)
        for failure in reports.failed:
            self.counters["unsendable"] += 1
            self._say(f"the bus does not take a message: {failure.reason}")
            self._done(failure.token)

    def _done(self, token: Token) -> None:
        if token is None:
            self._dead.arrived()
            return
        self.counters["findings"] += 1
        outgoing = self._outgoing.get(token[0])
        if outgoing is not None:
            outgoing.left -= 1
            if outgoing.left <= 0:
                del self._outgoing[token[0]]
                self._arrived.append(token[0])

    # Words

    def _due(self, about: str, *, first: bool = True) -> bool:
        """Whether it is time to say something again that lasts."""
        said_s = self._said_s.get(about)
        if said_s is None and not first:
            self._said_s[about] = self._clock()
            return False
        if said_s is not None and self._clock() - said_s < SAY_AGAIN_S:
            return False
        self._said_s[about] = self._clock()
        return True

    def _say_once(self, about: str, line: str, *, first: bool = True) -> None:
        if self._due(about, first=first):
            self._say(line)


def judged_of(judgement: Judgement) -> Judged:
    """What stands beside a flow of what was said of it."""
    flow, said = judgement.flow, judgement.outcome
    return Judged(
        flow.event_id,
        flow.start,
        flow.plant,
        said,
        None if judgement.finding is None else judgement.finding.finding_id,
        (flow.account, flow.role, flow.on_behalf_of, _administered(flow)) if said.differences else None,
        judgement.net.get("rows", 0),
        judgement.net.get("bytes", 0),
        flow.depth,
    )


def _administered(flow: Flow) -> list[dict[str, list[str]]]:
    """Objects that are accounts."""
    return [{"names": part.names, "columns": part.columns} for part in flow.objects] if flow.operation == "admin" else []


def _edition_of(snapshot: bytes) -> str:
    """The edition a snapshot was kept under."""
    states = json.loads(snapshot)["detectors"]
    return next((str(state["edition"]) for state in states.values() if "edition" in state), "")


KINDS: Final = TOGETHER
"""What a detector reads."""

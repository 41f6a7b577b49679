"""Runs the detectors it is given over the events of a bus: order, timers, state.

The engine knows events, not questions: what a detector says of one is handed to the sink as it is. Events are taken in the bus's
order; time is that of the events (the engine reads no clock), and a detector's ``advance`` is called at most once a second of it.

State and position are one snapshot. Whoever stores it stores both together, so that after a restart no event is judged against a
state that has already counted it, and none is left out: the sink may see an event's outcome twice, with the same ids.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, cast, runtime_checkable

from msgspec import MsgspecError
from msgspec.json import decode, encode

from hopwatch.events import Event, EventError, Loss, parse, time_ns

Outcome = TypeVar("Outcome")

CONSUMER: Final = "engine"
BATCH_EVENTS: Final = 1_000
"""Events read from the bus at once."""

TIMER_NS: Final = 10**9
"""How often, in event time, detectors are told that time has passed."""

AHEAD_NS_MAX: Final = 24 * 3600 * 10**9
"""One time further ahead of everything before it moves no timer: a wrong clock must not age out a plant."""

SNAPSHOT_VERSION: Final = 3


class Bus(Protocol):
    """What the engine needs of the log; offsets are those of Kafka: ``commit`` names the one to read next."""

    def read(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        """At most ``limit`` events from ``offset`` on."""
        ...

    def commit(self, consumer: str, offset: int) -> None:
        """Everything below ``offset`` is done."""
        ...

    def committed(self, consumer: str) -> int:
        """The offset to read next."""
        ...


class Detector(Protocol):
    """One question asked of the events. Its state is made of JSON values."""

    @property
    def name(self) -> str:
        """What its state is kept under."""
        ...

    def observe(self, event: Event) -> Sequence[object]:
        """What the event shows."""
        ...

    def advance(self, now_ns: int) -> Sequence[object]:
        """What the passing of time shows."""
        ...

    def blind(self, loss: Loss) -> None:
        """Something was not seen."""
        ...

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything the detector remembers."""
        ...

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Go on where ``state`` was taken."""
        ...


class Changing(Detector, Protocol):
    """A detector that can say what of its state has changed, so that keeping it costs what moved and not what is remembered."""

    def changes(self) -> dict[str, Any]:  # Any: JSON values
        """What changed since the last call; the first only begins to note it, and goes with a ``state`` of the same moment."""
        ...

    def merge(self, changes: dict[str, Any]) -> None:  # Any: JSON values
        """Go on where the changes were taken, from the state or the changes before them."""
        ...


@runtime_checkable
class Receiving(Protocol):
    """A detector that holds times against those of the bus."""

    def received(self, at_ns: int) -> None:
        """The bus received what comes next at this time."""
        ...


class Sink(Protocol):
    """Where outcomes go: a screen, a store, another bus."""

    def say(self, outcome: object) -> None:
        """One outcome of one detector, in order."""
        ...


class SnapshotError(ValueError):
    """A snapshot that is not one of these detectors, or of this version."""


@dataclass(slots=True)
class Engine:
    """Detectors in the order given, and where in the stream they stand.

    ``refused_total`` counts lines that were no event; they are passed over, never a reason to stop.
    """

    detectors: Sequence[Detector]
    sink: Sink
    offset: int = 0
    now_ns: int = 0
    events_total: int = 0
    refused_total: int = 0
    ahead_total: int = 0
    _told_ns: int = 0
    _jumped: bool = False

    def take(self, events: Iterable[Event]) -> None:
        """Show the events to every detector, each event to all of them before the next."""
        say = self.sink.say
        for event in events:
            self.events_total += 1
            # Of many windows a second one lets time pass.
            if event.kind != "flow" or event.end_ns > self.now_ns or self._jumped:
                self._pass_time(event)
            for detector in self.detectors:
                if event.kind == "loss":
                    detector.blind(event)
                    continue
                for outcome in detector.observe(event):
                    say(outcome)

    def received(self, at_ns: int) -> None:
        """The bus received what is taken next at this time; a detector that has a ``received`` is told."""
        for detector in self.detectors:
            if isinstance(detector, Receiving):
                detector.received(at_ns)

    def drain(self, bus: Bus, consumer: str = CONSUMER) -> int:
        """Take what the bus holds beyond this engine's offset; returns how many lines there were. Commits nothing."""
        taken = 0
        self.offset = max(self.offset, bus.committed(consumer))
        while batch := bus.read(self.offset, BATCH_EVENTS):
            for at, line in batch:
                try:
                    event = parse(line)
                except EventError:
                    self.refused_total += 1
                else:
                    self.take((event,))
                self.offset = at + 1
            taken += len(batch)
        return taken

    def snapshot(self) -> bytes:
        """State and position as one value: keep it before committing ``offset``."""
        return self._written({detector.name: detector.state() for detector in self.detectors})

    def restore(self, snapshot: bytes) -> None:
        """Go on where the snapshot was taken.

        Raises:
            SnapshotError: it is of another version, of other detectors, or no snapshot.
        """
        said, states = self._read(snapshot)
        for detector in self.detectors:
            detector.restore(states[detector.name])
        self._stand(said)

    def changes(self) -> bytes:
        """What a snapshot of now says that the snapshot or the changes before it did not; call it once right after the snapshot.

        Every detector must be a ``Changing`` one.
        """
        return self._written({detector.name: _changing(detector).changes() for detector in self.detectors})

    def merge(self, changes: bytes) -> None:
        """Go on where the changes were taken, from the snapshot or the changes before them.

        Raises:
            SnapshotError: as ``restore``.
        """
        said, states = self._read(changes)
        for detector in self.detectors:
            _changing(detector).merge(states[detector.name])
        self._stand(said)

    def _written(self, states: dict[str, Any]) -> bytes:  # Any: JSON values
        return encode(
            {
                "version": SNAPSHOT_VERSION,
                "offset": self.offset,
                "now_ns": self.now_ns,
                "told_ns": self._told_ns,
                "jumped": self._jumped,
                "totals": [self.events_total, self.refused_total, self.ahead_total],
                "detectors": states,
            }
        )

    def _read(self, written: bytes) -> tuple[dict[str, Any], dict[str, Any]]:  # Any: JSON values
        try:
            said = decode(written)
            version, states = said["version"], said["detectors"]
        except (MsgspecError, ValueError, KeyError, TypeError):
            raise SnapshotError("no snapshot of the engine") from None
        names = {detector.name for detector in self.detectors}
        if version != SNAPSHOT_VERSION or set(states) != names:
            raise SnapshotError(f"snapshot version {version} of {sorted(states)}, expected {SNAPSHOT_VERSION} of {sorted(names)}")
        return said, states

    def _stand(self, said: dict[str, Any]) -> None:  # Any: JSON values
        self.offset, self.now_ns, self._told_ns = said["offset"], said["now_ns"], said["told_ns"]
        self._jumped = said["jumped"]
        self.events_total, self.refused_total, self.ahead_total = said["totals"]

    def _pass_time(self, event: Event) -> None:
        if event.kind == "flow":
            at_ns = event.end_ns
        elif event.kind == "loss":
            at_ns = time_ns(event.end)
        elif event.kind == "heartbeat":
            at_ns = time_ns(event.time)
        else:
            return
        ahead = bool(self.now_ns) and at_ns > self.now_ns + AHEAD_NS_MAX
        if ahead and not self._jumped:
            # One event so far ahead is a wrong clock; two in a row are a stream that was silent.
            self._jumped = True
            self.ahead_total += 1
            return
        self._jumped = False
        self.advance(at_ns)

    def advance(self, at_ns: int) -> None:
        """It is this time at least, whether or not an event said so; detectors are told, at most once in TIMER_NS."""
        self.now_ns = max(self.now_ns, at_ns)
        if self.now_ns - self._told_ns < TIMER_NS:
            return
        self._told_ns = self.now_ns
        for detector in self.detectors:
            for outcome in detector.advance(self.now_ns):
                self.sink.say(outcome)


def _changing(detector: Detector) -> Changing:
    assert hasattr(detector, "changes"), f"detector {detector.name} cannot say what changed"
    return cast(Changing, detector)  # just looked


class Judge(Generic[Outcome]):
    """The engine where events come from hand to hand: outcomes are returned instead of sunk."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._outcomes: list[Any] = []  # Any: what the detectors given say, the caller's ``Outcome``
        self.engine = Engine(detectors, self)

    def say(self, outcome: object) -> None:
        """Keep an outcome for the call that is under way."""
        self._outcomes.append(outcome)

    def judge(self, events: Iterable[Event]) -> list[Outcome]:
        """What the detectors say of the events, in order."""
        self.engine.take(events)
        said, self._outcomes = self._outcomes, []
        return said

    def finish(self) -> list[Outcome]:
        """What the detectors still say when the stream has ended."""
        for detector in self.engine.detectors:
            self._outcomes.extend(detector.advance(self.engine.now_ns))
        said, self._outcomes = self._outcomes, []
        return said

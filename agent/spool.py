"""The spool: where events wait until the broker has acknowledged them; the embedded bus's own log, bounded on disk.

An event enters it with a number of its own (``agent_sequence``: its offset in this log, ``spool``: the log's identity) and leaves it
when it was acknowledged. Number and bytes are kept through every restart, so what is published again is the same event. What was
handed to the publisher may have arrived, acknowledged or not, so it is marked durably before it is handed over and never changed.

At the bound room is made among what was not yet handed over: the oldest windows of the same flow are merged, then the oldest
windows and heartbeats dropped, then events of accounts (connect, refused, admin, ddl), then losses, whose counts go on. What was
dropped is one ``loss`` of stage ``spool`` for each run of drops, kept in the place of the first event dropped. Below the bound
nothing is merged and nothing lost.

One thread appends and another takes and acknowledges: every public method holds the lock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from msgspec import MsgspecError
from msgspec.json import decode, encode

from agent.merge import ACCOUNT_OPERATIONS, RANGES_MAX, is_low_value, merge, numbers_of
from hopwatch.bus import EVENT_BYTES_MAX, LogDamaged, LogFull
from hopwatch.bus.embedded import EmbeddedLog, salvage
from hopwatch.bus.numbers import Ranges, joined
from hopwatch.events import time_ns

SPOOL_BYTES_MAX: Final = 1 << 30
"""Default bound of the spool's file."""

REGION_EVENTS_MAX: Final = 1_024
"""Events looked at together when room is made: as much is held in memory and rewritten in one transaction."""

SCAN_EVENTS_MAX: Final = 8_192
"""Events looked at for windows to merge before the oldest is dropped: what comes next looks further."""

ROOM_SHARE: Final = 1 / 16
ROOM_BYTES_MAX: Final = 4 << 20
"""Share of the bound that is made free at once, so that room is not made again for every event, nor the capture held up for long."""

AGAIN_SHARE: Final = 1 / 4
"""Share of the bound that merging must have freed before everything is gone through once more."""

CHUNK_BYTES_MAX: Final = 1 << 20
"""Appended, or looked at to make room, in one transaction; of a small spool SHARE of its bound."""

SHARE: Final = 1 / 32

RESERVE_BYTES_MAX: Final = 8 << 20
"""Room taken from the disk when the spool is opened: on a disk that others have filled, events still pass through it."""

GROWTH_BYTES: Final = 1 << 20
"""Taken from the disk at once, when the spool needs more."""

OVERHEAD: Final = 1.25
"""Pages an event takes beyond its bytes: they are not filled to the last, and its key is remembered."""

FLOWS_NAMED_MAX: Final = 64
"""Flows a loss names; where there were more it names none, which means any of the agent's."""

_BROKER, _HANDED = "broker", "handed"
_SUFFIX_BYTES: Final = 64


@dataclass(slots=True)
class Dropped:
    """What was dropped since there was room the last time, so far."""

    agent: str
    plant: str
    start: str
    end: str
    events: int = 0
    packets: int = 0
    bytes: int = 0
    flows: set[str] = field(default_factory=set)
    flows_all_named: bool = True
    numbers: Ranges = field(default_factory=list)

    def add(self, event: dict[str, Any], spool: str) -> None:  # Any: JSON values.
        """One event more; a loss adds what it had lost."""
        start, end = event.get("start") or event.get("time") or self.start, event.get("end") or event.get("time") or self.end
        self.start, self.end = min(self.start, start, key=time_ns), max(self.end, end, key=time_ns)
        self.events += (event.get("merged") or {}).get("windows", 1)
        if event.get("kind") == "loss":
            self.events += event.get("events", 0)
        self.packets += event.get("packets", 0)
        self.bytes += event.get("bytes", 0) + event.get("bytes_back", 0)
        named = event.get("flows", []) if event.get("kind") == "loss" else [event["flow_id"]] if "flow_id" in event else []
        self.flows.update(named)
        if event.get("kind") == "loss" and not named:
            self.flows_all_named = False
        if len(self.flows) > FLOWS_NAMED_MAX:
            self.flows_all_named = False
            self.flows.clear()
        if event.get("spool") == spool and "agent_sequence" in event:
            number = event["agent_sequence"]
            if self.numbers and self.numbers[-1][1] + 1 == number and not event.get("merged") and not event.get("agent_sequences"):
                self.numbers[-1][1] = number
            else:
                self.numbers = joined([*self.numbers, *numbers_of(event)])

    def loss(self, why: str, identity: str) -> dict[str, Any]:  # Any: JSON values.
        """The loss that says so."""
        return {
            "kind": "loss", "event_id": blake2b(identity.encode(), digest_size=16).hexdigest(), "plant": self.plant, "agent": self.agent,
            "stage": "spool", "start": self.start, "end": self.end, "packets": self.packets, "bytes": self.bytes, "events": self.events,
            "flows": sorted(self.flows) if self.flows_all_named else [], "why": why, "agent_sequences": self.numbers,
        }  # fmt: skip


class Spool:
    """The log at ``path`` between what an agent sees and what a broker has; ``append`` never fails for want of room."""

    def __init__(self, path: str | Path, *, size_bytes_max: int = SPOOL_BYTES_MAX) -> None:
        """Open the spool, or make one.

        Raises:
            LogError: the file cannot be opened or another agent holds it.
        """
        self._lock = threading.RLock()
        self._path = Path(path)
        self._bound = self.size_bytes_max = size_bytes_max
        damaged = None
        if self._mark.exists():
            damaged = self._set_aside()
        try:
            self._log = EmbeddedLog(path, size_bytes_max=size_bytes_max, synced=True, shared=True)
        except LogDamaged:
            damaged = self._set_aside()
            self._log = EmbeddedLog(path, size_bytes_max=size_bytes_max, synced=True, shared=True)
        self.set_aside = damaged
        """Where a damaged spool lies; what could be read of it is in this one, and a loss says what could not."""
        self.name = self._log.identity()
        self._log.commit(_BROKER, 0)
        self._log.commit(_HANDED, 0)
        self._chunk_bytes = min(CHUNK_BYTES_MAX, int(size_bytes_max * SHARE))
        with contextlib.suppress(LogFull):
            self._log.reserve(min(RESERVE_BYTES_MAX, size_bytes_max // 4))
        self._next = self._acknowledged = self._log.committed(_BROKER)
        self._handed = self._log.committed(_HANDED)
        self._merged_to = self._low_from = self._handed
        self._merged_bytes = 0
        self._run: tuple[int, Dropped] | None = None
        self._refused: tuple[int, Dropped] | None = None
        self._unkept: Dropped | None = None
        self.merged_total = 0
        self.dropped_total = 0
        self.known_total = 0
        if damaged is not None:
            self._salvage(damaged)

    # After damage

    @property
    def _mark(self) -> Path:
        """Stands beside a spool that was found to be damaged while it was used: what is on its way makes sense with it only."""
        return Path(f"{self._path}.damaged")

    def _set_aside(self) -> Path:
        aside = next(path for number in range(1, 10_000) if not (path := Path(f"{self._path}.damaged-{number}")).exists())
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        self._mark.unlink(missing_ok=True)
        return aside

    def _salvage(self, aside: Path) -> None:
        """What can be read enters this spool under new numbers; the old numbers are answered for by a loss."""
        left = salvage(aside)
        events: list[bytes] = []
        for _, line in left.events:
            with contextlib.suppress(ValueError, MsgspecError):
                event = decode(line)
                # Which numbers a merged window or a loss answers for was said of the other spool.
                for name in ("agent_sequence", "spool", "agent_sequences"):
                    event.pop(name, None)
                if isinstance(event.get("merged"), dict):
                    event["merged"].pop("agent_sequences", None)
                events.append(_line(event))
        self.append(events)
        if not left.identity or not events or left.end <= left.first:
            return
        last = decode(events[-1])
        lost = max(0, left.end - left.first - len(events))
        when = last.get("end") or last["time"]
        loss = Dropped(last["agent"], last["plant"], decode(events[0]).get("start") or when, when, events=lost)
        loss.numbers = [[left.first, left.end - 1]]
        why = f"the spool was damaged: {len(events)} of its events were read and are numbered anew, it lies in {aside.name}"
        said = loss.loss(why, f"damaged {left.identity} {left.end}") | {"agent_sequence": left.end - 1, "spool": left.identity}
        self._put([_line(said)])

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Damage that shows in use is left to the next start, and marked."""
        with self._lock:
            try:
                yield
            except LogDamaged:
                with contextlib.suppress(OSError):
                    self._mark.touch()
                raise

    # What the collectors do

    def append(self, events: Sequence[bytes], *, once: bool = False) -> None:
        """Keep the events, each with its number. With ``once`` those it has had already are passed over: a capture is read again.

        Raises:
            LogError: the log is damaged or gone; what was not kept is still the caller's.
        """
        with self._watched():
            if self._unkept is not None:
                self._say_unkept()
            chunk: list[bytes] = []
            size_bytes = 0
            for event in events:
                if size_bytes + len(event) > self._chunk_bytes and chunk:
                    self._append(chunk, once)
                    chunk, size_bytes = [], 0
                chunk.append(event)
                size_bytes += len(event)
            if chunk:
                self._append(chunk, once)

    def _append(self, events: list[bytes], once: bool) -> None:
        keys: list[bytes] = []
        if once:
            keys = [_identity(event) for event in events]
            known = self._log.known(keys)
            self.known_total += sum(key in known for key in keys)
            events = [event for event, key in zip(events, keys, strict=True) if key not in known]
            keys = [key for key in keys if key not in known]
        large = [event for event in events if len(event) + _SUFFIX_BYTES > EVENT_BYTES_MAX]
        if large:
            keys = [key for event, key in zip(events, keys, strict=True) if event not in large] if keys else keys
            events = [event for event in events if event not in large]
            self._lose(large)
        if not events:
            return
        first = self._log.end()
        numbered = [
            b'%s,"agent_sequence":%d,"spool":"%s"}' % (event[:-1], at, self.name.encode()) for at, event in enumerate(events, first)
        ]
        if not self._put(numbered, keys):
            self._lose(events)

    def _put(self, numbered: list[bytes], keys: Sequence[bytes] = ()) -> bool:
        """Append, making room if there is none; False if none can be made."""
        while True:
            with contextlib.suppress(LogFull):
                if self._has_room(sum(map(len, numbered))):
                    self._log.append(numbered, keys)
                    return True
            if not self._make_room():
                return False

    def _has_room(self, size_bytes: int) -> bool:
        """Whether so much fits into free pages, with as much left over as making room may need; takes more from the disk if it can."""
        wanted = int(size_bytes * OVERHEAD) + 2 * self._chunk_bytes
        if self._log.free_bytes() < wanted:
            with contextlib.suppress(LogFull):
                self._log.reserve(min(wanted + GROWTH_BYTES, self._bound // 8))
        return self._log.free_bytes() >= wanted

    def _lose(self, events: Iterable[bytes]) -> None:
        """What found no room at all, and has no number: said as soon as there is room."""
        for line in events:
            event = decode(line)
            start = event.get("start") or event.get("time")
            if self._unkept is None:
                self._unkept = Dropped(event["agent"], event["plant"], start, event.get("end") or start)
            self._unkept.add(event, self.name)
            self.dropped_total += 1

    def _say_unkept(self) -> None:
        lost, self._unkept = self._unkept, None
        assert lost is not None
        first = self._log.end()
        loss = lost.loss(f"no room in the spool of {self._bound} bytes, or on its disk", f"unkept {self.name} {first}")
        if not self._put([_line(loss | {"agent_sequence": first, "spool": self.name})]):
            self._unkept = lost

    # What the publisher does

    def take(self, limit: int, size_bytes_max: int) -> list[tuple[int, bytes]]:
        """The next events to publish with their offsets, marked as handed over; empty if there are none."""
        with self._watched():
            read = self._log.read(self._next, limit, size_bytes_max=size_bytes_max)
            if not read:
                return []
            behind = read[-1][0] + 1
            if behind > self._handed:
                try:
                    self._log.commit(_HANDED, behind)
                except LogFull:
                    return []
                self._handed = behind
            self._next = behind
            return read

    def acknowledge(self, offset: int) -> None:
        """Everything below ``offset`` is with the broker, and leaves the spool."""
        with self._watched():
            if offset > self._acknowledged:
                # On a full disk it stays, and is published once more by a later run at worst.
                with contextlib.suppress(LogFull):
                    self._log.commit(_BROKER, offset)
                self._acknowledged = offset

    def rewind(self) -> None:
        """Whatever was not acknowledged is taken again."""
        with self._watched():
            self._next = self._acknowledged

    def refuse(self, offset: int, why: str) -> None:
        """The broker will never take the event at ``offset``: a loss takes its place at the end of the spool.

        Events refused one after another are one loss, until it is handed over itself.
        """
        with self._watched():
            found = self._log.read(offset, 1)
            if not found or found[0][0] != offset:
                return
            event = decode(found[0][1])
            self.dropped_total += 1
            if self._refused is not None and self._refused[0] >= self._handed and len(self._refused[1].numbers) < RANGES_MAX:
                position, refused = self._refused
                refused.add(event, self.name)
                self._log.replace([], [(position, self._refusal(position, refused, why))])
                return
            first = event.get("start") or event.get("time")
            refused = Dropped(event["agent"], event["plant"], first, event.get("end") or first)
            refused.add(event, self.name)
            position = self._log.end()
            if self._put([self._refusal(position, refused, why)]):
                self._refused = position, refused

    def _refusal(self, position: int, refused: Dropped, why: str) -> bytes:
        loss = refused.loss(f"the broker refuses it: {why}", f"refused {self.name} {position} {refused.events}")
        return _line(loss | {"agent_sequence": position, "spool": self.name})

    # What health asks

    def waiting(self) -> int:
        """Events that wait for the broker's acknowledgement, those merged or dropped among them counted too; 0 if none does."""
        with self._watched():
            return self._log.end() - self._acknowledged if self._log.read(self._acknowledged, 1) else 0

    def oldest_age_s(self, now_ns: int) -> float:
        """Seconds since the oldest event that waits was over; 0 if none does."""
        with self._watched():
            found = self._log.read(self._acknowledged, 1)
        if not found:
            return 0.0
        event = decode(found[0][1])
        return max(0.0, (now_ns - time_ns(event.get("end") or event["time"])) / 1e9)

    def end(self) -> int:
        """The number the next event gets."""
        with self._watched():
            return self._log.end()

    def size_bytes(self) -> int:
        """Bytes in use of the spool's bound."""
        with self._watched():
            return self._log.size_bytes()

    def close(self) -> None:
        """Let go of the file; what waits in it is published by the next run."""
        with self._watched():
            if self._unkept is not None:
                self._say_unkept()
            self._log.close()

    # At the bound

    def _make_room(self) -> bool:
        """Free a share of the bound; False if nothing more can be done."""
        self._merged_to, self._low_from = max(self._merged_to, self._handed), max(self._low_from, self._handed)
        if self._run is not None and self._run[0] < self._handed:
            self._run = None
        wanted = min(int(self._bound * ROOM_SHARE), ROOM_BYTES_MAX)
        freed = scanned = 0
        with contextlib.suppress(LogFull):
            while freed < wanted and scanned < SCAN_EVENTS_MAX and (region := self._region(self._merged_to)):
                scanned += len(region)
                freed += self._merge(region)
                self._merged_to = region[-1][0] + 1
            if freed > 0:
                return True
            if scanned < SCAN_EVENTS_MAX and self._merged_bytes > self._bound * AGAIN_SHARE:
                # Windows of neighbouring regions have not met yet; once for so much, or every event would be looked at for ever.
                self._merged_to, self._merged_bytes = self._handed, 0
                return True
            self._low_from, freed = self._drop(self._low_from, wanted, is_low_value)
            if freed < wanted:
                freed += self._drop(self._handed, wanted - freed, lambda event: event.get("operation") in ACCOUNT_OPERATIONS)[1]
            if freed == 0:
                freed += self._drop(self._handed, wanted - freed, lambda event: True)[1]
        return freed > 0

    def _region(self, offset: int) -> list[tuple[int, bytes]]:
        return self._log.read(offset, REGION_EVENTS_MAX, size_bytes_max=2 * self._chunk_bytes)

    def _merge(self, region: list[tuple[int, bytes]]) -> int:
        windows = [(at, event) for at, event in ((at, decode(line)) for at, line in region) if _is_window(event)]
        sizes = {at: len(line) for at, line in region}
        made = merge((at, event) for at, event in windows if event.get("spool") == self.name)
        if not made:
            return 0
        placed = [(one.position, _line(one.event())) for one in made]
        removed = [at for one in made for at in one.taken]
        self._log.replace(removed, placed)
        self.merged_total += len(removed)
        freed = sum(sizes[at] for at in removed) + sum(sizes[at] - len(line) for at, line in placed)
        self._merged_bytes += freed
        return freed

    def _drop(self, start: int, wanted: int, droppable: Callable[[dict[str, Any]], bool]) -> tuple[int, int]:
        """Drop the oldest droppable events from ``start`` on; where it stopped, and how many bytes that freed."""
        at, freed = start, 0
        while freed < wanted and (region := self._region(at)):
            removed: list[int] = []
            size_bytes = 0
            for position, line in region:
                at = position + 1
                event = decode(line)
                if (self._run is None or position != self._run[0]) and droppable(event):
                    if self._run is None or len(self._run[1].numbers) >= RANGES_MAX:
                        # Its place is that of the event it begins with: what another loss has said so far stays said.
                        self._say_run(removed)
                        removed = []
                        first = event.get("start") or event.get("time")
                        self._run = position, Dropped(event["agent"], event["plant"], first, event.get("end") or first)
                    self._run[1].add(event, self.name)
                    removed.append(position)
                    self.dropped_total += 1
                    size_bytes += len(line)
                if freed + size_bytes >= wanted:
                    break
            freed += size_bytes
            self._say_run(removed)
        return at, freed

    def _say_run(self, removed: list[int]) -> None:
        if self._run is None or not removed:
            return
        position, dropped = self._run
        loss = dropped.loss(f"the spool reached its bound of {self._bound} bytes", f"dropped {self.name} {position} {dropped.events}")
        self._log.replace(removed, [(position, _line(loss | {"agent_sequence": position, "spool": self.name}))])


def _is_window(event: dict[str, Any]) -> bool:  # Any: JSON values.
    return event.get("kind") == "flow" and is_low_value(event)


def _identity(event: bytes) -> bytes:
    """The event's id as bytes, without reading the rest: 32 hex digits behind its name."""
    at = event.find(b'"event_id":"')
    try:
        return bytes.fromhex(event[at + 12 : at + 44].decode()) if at >= 0 else blake2b(event, digest_size=16).digest()
    except ValueError:
        return blake2b(event, digest_size=16).digest()


def _line(event: dict[str, Any]) -> bytes:  # Any: JSON values.
    return encode(event)

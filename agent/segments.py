"""Segments: files that carry events over a one-way line, where no broker can be reached and nothing can be asked for again.

A segment is written whole, synced and renamed into its place, so that whatever carries it away sees no half of one::

    hopwatch segment 1
    {"chain": "9f2c…", "number": 17, "previous": "hash of header 16", "plant": …, "agent": …, "events": 812,
     "body_bytes": …, "body_sha256": …}
    base64 of the Ed25519 signature (RFC 8032) over the two lines above
    the events as lines of JSON, in gzip (RFC 1952)

The header names the body's hash and the header before it, so one signature holds the segment and the chain to its beginning: a
segment that is missing, changed, torn or put in from elsewhere shows. A chain begins anew (another name, number 1) only where the
folder's own record of it was lost.

``SegmentWriter`` stands where a publisher stands: an event leaves the spool when its segment is in place.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hopwatch.bus import LogError

SEGMENT_BYTES_MAX: Final = 4 << 20
"""Bytes of events in one segment, before compression."""

SEGMENT_EVENTS_MAX: Final = 20_000
SEGMENT_S: Final = 10.0
"""How long events wait for others before their segment is written."""

EXPORT_BYTES_MAX: Final = 1 << 30
"""Default bound of what lies in the folder; when nobody carries it away, events stay in the spool."""

HEADER_BYTES_MAX: Final = 4_096
FILE_BYTES_MAX: Final = 4 * SEGMENT_BYTES_MAX
"""A larger file is no segment; events that do not compress are hardly larger than they were."""

BEYOND_MAX: Final = 4_096
"""Segments behind a gap that an import remembers; older gaps are then taken as final."""

MAGIC: Final = b"hopwatch segment 1\n"
SUFFIX: Final = ".segment"
CHAIN: Final = "chain.json"
_NAME: Final = re.compile(r"^([0-9a-f]{16})-(\d{12})\.segment$")
RETRY_S: Final = 5.0

Sign = Callable[[bytes], bytes]
"""One line of base64 for what is signed."""
Verify = Callable[[bytes, bytes], str | None]
"""Of what was signed and its signature: None if a known key made it, else why not."""


class SegmentError(Exception):
    """A file is no whole segment of ours; ``fault`` is ``torn`` or ``forged``."""

    def __init__(self, fault: str, why: str) -> None:
        super().__init__(why)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that was verified."""

    chain: str
    number: int
    previous: str
    digest: str
    header: dict[str, Any]  # Any: JSON values.
    lines: list[bytes]


def name_of(chain: str, number: int) -> str:
    """The file of a segment."""
    return f"{chain}-{number:012d}{SUFFIX}"


def made(chain: str, number: int, previous: str, plant: str, agent: str, lines: Sequence[bytes], sign: Sign) -> tuple[bytes, str]:
    """The bytes of a segment, and its digest, which the next one names."""
    body = gzip.compress(b"".join(line + b"\n" for line in lines), 6, mtime=0)
    header = {
        "chain": chain, "number": number, "previous": previous, "plant": plant, "agent": agent, "events": len(lines),
        "body_bytes": len(body), "body_sha256": hashlib.sha256(body).hexdigest(),
    }  # fmt: skip
    signed = MAGIC + json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    return signed + sign(signed).strip() + b"\n" + body, hashlib.sha256(signed).hexdigest()


def opened(name: str, content: bytes, verify: Verify) -> Segment:
    """The segment in a file's content; nothing of it is used before its signature is known.

    Raises:
        SegmentError: torn or forged, and why.
    """
    parts = content.split(b"\n", 3)
    if not content.startswith(MAGIC):
        raise SegmentError("torn" if MAGIC.startswith(content[: len(MAGIC)]) else "forged", "does not begin as a segment")
    if len(parts) < 4 or len(parts[1]) > HEADER_BYTES_MAX:
        raise SegmentError("torn", "ends within its header")
    signed = MAGIC + parts[1] + b"\n"
    if (why := verify(signed, parts[2])) is not None:
        raise SegmentError("forged", why)
    header = json.loads(parts[1])
    found = _NAME.match(name)
    if found is None or (found[1], int(found[2])) != (header["chain"], header["number"]):
        raise SegmentError("forged", f"is segment {header['number']} of chain {header['chain']}, not what its name says")
    body = parts[3]
    if len(body) != header["body_bytes"] or hashlib.sha256(body).hexdigest() != header["body_sha256"]:
        raise SegmentError("torn", f"holds {len(body)} bytes of events that are not the {header['body_bytes']} signed for")
    return Segment(
        header["chain"],
        header["number"],
        header["previous"],
        hashlib.sha256(signed).hexdigest(),
        header,
        gzip.decompress(body).splitlines(),
    )


def written(path: Path, content: bytes) -> None:
    """Write a file whole: beside its place, synced, renamed, and the folder synced."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    beside.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Written:
    """What became of events given to the writer; it refuses none."""

    acknowledged: list[int] = field(default_factory=list)
    failed: list[Any] = field(default_factory=list)  # Any: never filled; the pump asks for failures by their fields.


class SegmentWriter:
    """Writes segments into a folder; for one thread."""

    def __init__(
        self,
        folder: Path,
        plant: str,
        agent: str,
        sign: Sign,
        clock: Callable[[], float],
        *,
        size_bytes_max: int = EXPORT_BYTES_MAX,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        segment_s: float = SEGMENT_S,
    ) -> None:
        """Go on where the folder's chain stands, or begin one.

        Raises:
            LogError: the folder cannot be made or written.
        """
        self._folder, self._plant, self._agent, self._sign, self._clock = folder, plant, agent, sign, clock
        self._size_bytes_max, self._segment_bytes_max, self._segment_s = size_bytes_max, segment_bytes_max, segment_s
        self._lines: list[bytes] = []
        self._tokens: list[int] = []
        self._bytes = 0
        self._begun_s = 0.0
        self._not_before_s = 0.0
        self._reports = Written()
        self._written = self._written_bytes = 0
        self.trouble: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._chain, self._number, self._previous = self._recorded()
        except OSError as error:
            raise LogError(f"{folder}: {error.strerror}") from error

    def _recorded(self) -> tuple[str, int, str]:
        """The chain, its last segment and that one's digest. A segment that was synced and not yet in its place is put there."""
        try:
            said = json.loads((self._folder / CHAIN).read_bytes())
            chain, number, previous = str(said["chain"]), int(said["number"]), str(said["previous"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return secrets.token_hex(8), 0, ""
        waiting = self._folder / f".{name_of(chain, number)}.ready"
        if waiting.exists():
            waiting.rename(self._folder / name_of(chain, number))
            _sync(self._folder)
        return chain, number, previous

    def send(self, kind: str, plant: str, event_id: str, line: bytes, token: int) -> bool:
        """Take an event into the segment; False if the segment is full and could not be written."""
        if (self._bytes + len(line) > self._segment_bytes_max or len(self._lines) >= SEGMENT_EVENTS_MAX) and self._lines:
            self._write()
            if self._lines:
                return False
        if not self._lines:
            self._begun_s = self._clock()
        self._lines.append(line)
        self._tokens.append(token)
        self._bytes += len(line)
        return True

    def poll(self, timeout_s: float = 0.0) -> Written:
        """The events whose segment is in place."""
        if self._lines and self._clock() - self._begun_s >= self._segment_s:
            self._write()
        reports, self._reports = self._reports, Written()
        return reports

    def stalled(self) -> Sequence[object]:
        """Nothing overtakes anything in a file."""
        return ()

    def counters(self) -> dict[str, int]:
        """Segments and their bytes so far, and what waits for the next."""
        return {
            "in_flight": len(self._lines), "in_flight_bytes": self._bytes, "segments": self._written, "segment_bytes": self._written_bytes,
        }  # fmt: skip

    def close(self, timeout_s: float = 0.0) -> Written:
        """Write what waits."""
        if self._lines:
            self._not_before_s = 0.0
            self._write()
        return self.poll()

    def _write(self) -> None:
        """Put the segment in its place, if the folder has room; else the events wait, and the reason is in ``trouble``."""
        if self._clock() < self._not_before_s:
            return
        try:
            held = sum(entry.stat().st_size for entry in os.scandir(self._folder) if entry.name.endswith(SUFFIX))
            content, digest = made(self._chain, self._number + 1, self._previous, self._plant, self._agent, self._lines, self._sign)
            if held + len(content) > self._size_bytes_max:
                self._wait(f"{self._folder}: holds {held} bytes that nobody has carried away, its bound is {self._size_bytes_max}")
                return
            place = self._folder / name_of(self._chain, self._number + 1)
            ready = self._folder / f".{place.name}.ready"
            written(ready, content)
            # First the record, then the name: a segment that was carried away at once is never numbered again.
            record = {"chain": self._chain, "number": self._number + 1, "previous": digest}
            written(self._folder / CHAIN, json.dumps(record).encode())
            ready.rename(place)
            _sync(self._folder)
        except OSError as error:
            self._wait(f"{self._folder}: {error.strerror}")
            return
        self._number, self._previous, self.trouble = self._number + 1, digest, None
        self._written += 1
        self._written_bytes += len(content)
        self._reports.acknowledged += self._tokens
        self._lines, self._tokens, self._bytes = [], [], 0

    def _wait(self, why: str) -> None:
        self.trouble = why
        self._not_before_s = self._clock() + RETRY_S


# Reading


@dataclass(slots=True)
class Chain:
    """What of one chain was imported: everything ``through`` a number with its digest, and single segments behind gaps."""

    through: int = 0
    digest: str = ""
    beyond: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a folder of segments: ``gap``, ``torn`` or ``forged``, where, and what."""

    fault: str
    name: str
    why: str


class Imports:
    """Which segments of a folder are still to be published, and what is wrong with it."""

    def __init__(self, folder: Path, record: Path, verify: Verify) -> None:
        """Read the record of earlier imports.

        Raises:
            LogError: the folder or the record cannot be read.
        """
        self._folder, self._record, self._verify = folder, record, verify
        self.faults: list[Fault] = []
        self.known_total = 0
        self._chains: dict[str, Chain] = {}
        try:
            said = json.loads(record.read_bytes())
            for name, one in said.items():
                beyond = {int(number): str(digest) for number, digest in one["beyond"].items()}
                self._chains[name] = Chain(int(one["through"]), str(one["digest"]), beyond)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise LogError(f"{record}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LogError(f"{record}: no record of imported segments") from None

    def new(self) -> Iterator[Segment]:
        """Segments that were not imported yet, verified, by chain and number. Mark each as ``imported`` before the next."""
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.name.endswith(SUFFIX) and entry.name[0] != ".")
        except OSError as error:
            raise LogError(f"{self._folder}: {error.strerror}") from error
        for name in names:
            found = _NAME.match(name)
            if found is None:
                self.faults.append(Fault("forged", name, "no name of a segment"))
                continue
            chain, number = self._chains.setdefault(found[1], Chain()), int(found[2])
            try:
                with (self._folder / name).open("rb") as file:
                    segment = opened(name, file.read(FILE_BYTES_MAX), self._verify)
            except SegmentError as error:
                self.faults.append(Fault(error.fault, name, str(error)))
                continue
            except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
                self.faults.append(Fault("torn", name, f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"))
                continue
            if number <= chain.through or number in chain.beyond:
                self.known_total += 1
                known = chain.beyond.get(number) or (chain.digest if number == chain.through else None)
                if known is not None and known != segment.digest:
                    self.faults.append(Fault("forged", name, "another segment of this number was imported before"))
                continue
            before = chain.digest if number == chain.through + 1 else chain.beyond.get(number - 1)
            if before is not None and before != segment.previous:
                self.faults.append(Fault("forged", name, "does not follow the segment before it"))
                continue
            yield segment

    def imported(self, segment: Segment) -> None:
        """The segment's events are with the broker: it is remembered."""
        self.seen(segment)
        said = {
            name: {"through": one.through, "digest": one.digest, "beyond": {str(at): digest for at, digest in one.beyond.items()}}
            for name, one in self._chains.items()
        }
        try:
            written(self._record, json.dumps(said).encode())
        except OSError as error:
            raise LogError(f"{self._record}: {error.strerror}") from error

    def seen(self, segment: Segment) -> None:
        """The segment is known from now on, in this process."""
        chain = self._chains[segment.chain]
        chain.beyond[segment.number] = segment.digest
        if len(chain.beyond) > BEYOND_MAX:
            chain.through = min(chain.beyond) - 1
        while chain.through + 1 in chain.beyond:
            chain.through += 1
            chain.digest = chain.beyond.pop(chain.through)

    def gaps(self) -> list[Fault]:
        """The numbers that are missing before a segment that is there."""
        found = []
        for name, chain in sorted(self._chains.items()):
            expected = chain.through + 1
            for number in sorted(chain.beyond):
                if number > expected:
                    few = str(expected) if number == expected + 1 else f"{expected} to {number - 1}"
                    found.append(Fault("gap", name_of(name, expected), f"missing: segment {few} of chain {name}"))
                expected = number + 1
        return found

"""Flow records of switches and routers: NetFlow 5 and 9 (RFC 3954) and IPFIX (RFC 7011) over UDP, for conduits that say ``sees: sizes``.

A record counts the octets of IP packets one way; what was moved is that less the headers that so many packets have at least, an
estimate. Two records of opposite ways that come soon after each other are one connection, one alone is ``one-sided``. What did not
come is known by the exporter's sequence numbers, over a restart too. The sets are read here and not by scapy (docs/decisions/0045).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Final

from collectors.dialled import number
from collectors.feed import POLL_S, FeedError, Told, windows
from collectors.log import read_state, write_state
from hopwatch.events import Loss, dump, time_text

EXPORTERS_MAX: Final = 256
"""Addresses that may be named in ``from``."""

SOURCES_MAX: Final = 64
"""Exporters' observation domains followed at a time; of more, the one heard longest ago is forgotten, and counted (``sources_over``)."""

TEMPLATES_MAX: Final = 64
"""Templates of one source; of more, the one told longest ago is forgotten, and counted (``templates_over``)."""

FIELDS_MAX: Final = 128
"""Fields of a template that is kept; the records of a longer one are ``templates_missing``."""

PENDING_MAX: Final = 8_192
"""Records that wait for the other way; of more, the oldest is told as one-sided, and counted (``pending_over``)."""

JOIN_NS: Final = 15 * 10**9
"""How long a record waits for the one of the other way: switches send both within a time-out of each other, or in one datagram."""

REORDER_MAX: Final = 1_000
"""By how much a sequence number may lie behind and be of a datagram that was overtaken; else the exporter has begun again."""

DATAGRAMS_MAX: Final = 500
"""Datagrams of one batch."""

RECEIVE_BYTES: Final = 4 << 20
"""What the kernel is asked to hold while others have their turn; what it drops is missed by the sequence."""

AGE_MS_MAX: Final = 2 * 3_600_000
"""How long before its export a flow may have ended; of one that says longer ago, the time is that of the export (``untimed``)."""

CLOCK_NS_MAX: Final = 86_400 * 10**9
"""How far an exporter's clock may be from ours; from one that is farther, records have the time at which they came (``untimed``)."""

PAYLOAD_BYTES_MAX: Final = 1 << 43
"""What one record may have moved, 8 TiB; one that says more is no record (``implausible``)."""

SAVE_NS: Final = 10**9

PROTOCOLS: Final = {6: ("tcp", 20), 17: ("udp", 8)}
V5_HEADER: Final = struct.Struct("!HHIIIIBBH")
V5_RECORD: Final = struct.Struct("!4s4s4sHHIIIIHHBBBBHHBBH")
V9_HEADER: Final = struct.Struct("!HHIIII")
IPFIX_HEADER: Final = struct.Struct("!HHIII")
SET_HEADER: Final = struct.Struct("!HH")
VARIABLE: Final = 65_535
REVERSE: Final = 29_305
"""Whose elements are those of the other way (RFC 5103, 6.1)."""

SYN, PSH, ACK = 0x02, 0x08, 0x10

# The elements that are read (RFC 7012 and the registry of IANA), and what of them are addresses.
ADDRESSES: Final = {8: "src", 12: "dst", 27: "src", 28: "dst"}
NUMBERS: Final = {
    1: "octets", 2: "packets", 4: "protocol", 6: "flags", 7: "src_port", 11: "dst_port", 21: "end_up", 34: "sampling", 50: "sampling",
    151: "end_s", 153: "end_ms", 155: "end_ntp", 157: "end_ntp", 239: "initiated", 305: "sampled", 306: "skipped",
}  # fmt: skip
NAMES: Final = ADDRESSES | NUMBERS
BACK: Final = {1: "octets_back", 2: "packets_back", 6: "flags_back"}

Fields = list[tuple[str, int]]
"""What a template says of each field: our name of it, empty if it is not read, and its octets."""


class Malformed(Exception):
    """A datagram that is not what it says."""


@dataclass(slots=True)
class Template:
    """How records lie. ``skipped``: they are about the exporter itself (options)."""

    fields: Fields
    skipped: bool = False
    varies: bool = False
    """A field is of variable length."""
    size: int = 0
    """Octets of a record; of one that varies, the least."""
    places: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Where the fields lie, if none is of variable length."""
        for name, length in self.fields:
            if length == VARIABLE:
                self.varies = True
            elif name and length:
                self.places.append((name, self.size, self.size + length))
            self.size += 1 if length == VARIABLE else length


@dataclass(slots=True)
class Source:
    """One observation domain of an exporter: its templates, and the sequence number and number of records heard last."""

    last: int | None = None
    count: int | None = 0
    """Of its records, or of it alone, what the number counts; None: not known, a template was missing."""
    heard_ns: int = 0
    uptime: int = 0
    after: bool | None = None
    """The number counts the records of its own datagram too: softflowd 1.1.0 does, against RFC 7011, 3.1."""
    templates: OrderedDict[int, Template] = field(default_factory=OrderedDict)


@dataclass(slots=True)
class Way:
    """What one record says of one way."""

    octets: int = 0
    packets: int = 0
    flags: int | None = None
    payload: int = 0


@dataclass(slots=True)
class Pending:
    """A record that waits for the other way; ``before``: where its source was when it came."""

    key: tuple[str, int, int]
    before: tuple[int | None, int | None, int]
    came_ns: int
    time_ns: int
    way: Way
    initiated: int


Ends = tuple[str, str, int, str, int]
"""Transport, source and destination, each an address and a port."""


class Netflow:
    """A listener. Counters: ``datagrams``, ``records``, ``lost``, ``templates_missing``, ``malformed``, ``strangers``, …"""

    KIND: ClassVar = "netflow"

    def __init__(self, told: Told, plant: str, state: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Listens.

        Raises:
            FeedError: an option is wrong, the state is of something else, or the port is not free.
        """
        told.only("from", "sampling", "quiet")
        address, port = _listening(told)
        self._allowed = _exporters(told)
        self._sampling = number(told, "sampling", 1, 1, 1_000_000)
        self._quiet_ns = number(told, "quiet", 300, 1, 86_400) * 10**9
        self._plant, self._feed, self._state, self._now_ns = plant, told.feed, state, now_ns
        self._place = [plant, told.feed, told.where]
        self._windows = windows(plant, told.feed)
        self._sources: OrderedDict[tuple[str, int, int], Source] = OrderedDict()
        self._pending: OrderedDict[tuple[tuple[str, int, int], Ends], Pending] = OrderedDict()
        self._counts: dict[str, int] = dict.fromkeys(("datagrams", "records", "lost", "templates_missing", "malformed", "strangers"), 0)
        self._losses: dict[tuple[tuple[str, int, int], str], list[int]] = {}
        self._heard_ns = 0
        self._saved_ns = 0
        """When the place was written down; 0 if at once, because somebody new was heard."""
        self.example, self.unreadable = "", 0
        self._resume(read_state(state, self._place))
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            self._socket.setblocking(False)
            self._socket.bind((address, port))
        except OSError as error:
            self._socket.close()
            raise FeedError(f"{told.kind} {told.where!r}: {error.strerror}") from None
        self.port: int = self._socket.getsockname()[1]

    @classmethod
    def of(cls, told: Told, plant: str, state: Path, now_ns: Callable[[], int] = time.time_ns) -> Netflow:
        """``[FEED=]ADDRESS:PORT?from=EXPORTER,…[&sampling=N][&quiet=SECONDS]``.

        Raises:
            FeedError: something else.
        """
        return cls(told, plant, state, now_ns)

    @property
    def lives(self) -> bool:
        """An exporter was heard not long ago."""
        return bool(self._heard_ns) and self._now_ns() - self._heard_ns <= self._quiet_ns

    def counters(self) -> dict[str, int]:
        """What came, what did not, and what waits."""
        more = {"unreadable": self.unreadable, "pending": len(self._pending), "sources": len(self._sources)}
        return {f"{self.KIND}_{name}": count for name, count in (self._counts | more).items()}

    def batches(self, stopping: Callable[[], bool], *, follow: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[list[bytes]]:
        """The events, until ``stopping``. Whoever asks for the next batch has the one before.

        Raises:
            FeedError: a listener has no end to read to, or the state cannot be written.
        """
        if not follow:
            raise FeedError(f"{self.KIND} {self._feed}: an exporter is heard as it goes, there is nothing to read again: use -i")
        try:
            while not stopping():
                taken = self._take()
                self._expire(self._now_ns() - JOIN_NS)
                yield self._told()
                if self._now_ns() - self._saved_ns >= SAVE_NS:
                    self._save()
                    self._saved_ns = self._now_ns()
                if not taken:
                    sleep(POLL_S)
            # What waited; of what comes meanwhile there may be no end.
            while self._take() == DATAGRAMS_MAX:
                yield self._told()
            self._expire(None)
            yield self._told()
            self._save()
        finally:
            self._socket.close()

    def _take(self) -> int:
        for taken in range(DATAGRAMS_MAX):
            try:
                data, sender = self._socket.recvfrom(65_535)
            except BlockingIOError:
                return taken
            self.heard(data, sender[0])
        return DATAGRAMS_MAX

    def _told(self) -> list[bytes]:
        events = [self._loss(key, why, *said) for (key, why), said in self._losses.items()]
        self._losses.clear()
        return [*events, *self._windows.take()]

    # What a datagram says.

    def heard(self, data: bytes, sender: str) -> None:
        """One datagram; whatever it is, it is taken or counted."""
        address = _plain(sender)
        if address not in self._allowed:
            self._count("strangers")
            return
        try:
            self._datagram(data, address, self._now_ns())
        except (Malformed, struct.error) as error:
            self._count("malformed")
            self.unreadable += 1
            self.example = f"{address}: a datagram of {len(data)} bytes: {error}"

    def _datagram(self, data: bytes, exporter: str, now_ns: int) -> None:
        version = int.from_bytes(data[:2], "big")
        if version == 5:
            self._version_5(data, exporter, now_ns)
        elif version == 9:
            _, count, uptime, seconds, sequence, domain = V9_HEADER.unpack_from(data)
            self._sets(data, V9_HEADER.size, (exporter, 9, domain), sequence, uptime, seconds, now_ns, count)
        elif version == 10:
            _, length, seconds, sequence, domain = IPFIX_HEADER.unpack_from(data)
            if length != len(data):
                raise Malformed("its length is another")
            self._sets(data, IPFIX_HEADER.size, (exporter, 10, domain), sequence, 0, seconds, now_ns, 0)
        else:
            raise Malformed("expected version 5, 9 or 10")
        self._heard_ns = now_ns
        self._count("datagrams")

    def _version_5(self, data: bytes, exporter: str, now_ns: int) -> None:
        """Cisco, NetFlow Export Datagram Formats: version 5."""
        _, count, uptime, seconds, nanoseconds, sequence, kind, engine, sampling = V5_HEADER.unpack_from(data)
        if len(data) != V5_HEADER.size + count * V5_RECORD.size:
            raise Malformed("its length is another")
        key = (exporter, 5, kind << 8 | engine)
        source = self._source(key)
        before = (source.last, source.count, source.heard_ns)
        self._sequence(key, source, sequence, count, 0, uptime, now_ns)
        for src, dst, _, _, _, packets, octets, _, end, src_port, dst_port, _, flags, protocol, *_ in V5_RECORD.iter_unpack(
            data[V5_HEADER.size :]
        ):
            said: dict[str, Any] = {  # Any: numbers, and addresses as they lie there
                "src": src, "dst": dst, "src_port": src_port, "dst_port": dst_port, "protocol": protocol, "octets": octets,
                "packets": packets, "flags": flags, "end_up": end, "sampling": sampling & 0x3FFF,
            }  # fmt: skip
            self._record(key, before, said, uptime, seconds * 10**9 + nanoseconds, now_ns)

    def _sets(
        self, data: bytes, at: int, key: tuple[str, int, int], sequence: int, uptime: int, seconds: int, now_ns: int, stated: int
    ) -> None:
        """The sets of a datagram (RFC 3954, 5; RFC 7011, 3.3); one that lies wrong takes the whole datagram with it."""
        sets = []
        while len(data) - at >= SET_HEADER.size:
            kind, length = SET_HEADER.unpack_from(data, at)
            if length < SET_HEADER.size or at + length > len(data):
                raise Malformed("a set is longer than what is there, or has no length")
            sets.append((kind, data[at + SET_HEADER.size : at + length]))
            at += length
        source = self._source(key)
        before = (source.last, source.count, source.heard_ns)
        if key[1] == 9 and _restarted(source, uptime):
            source.templates.clear()
        taken = options = templates = missing = 0
        found: list[dict[str, Any]] = []  # Any: numbers, and addresses as they lie there
        for kind, body in sets:
            if kind in (0, 2):
                templates += self._templates(source, body, key[1])
            elif kind in (1, 3):
                templates += self._option_templates(source, body, key[1])
            elif kind >= 256:
                template = source.templates.get(kind)
                if template is None:
                    missing += 1
                    continue
                source.templates.move_to_end(kind)
                records = list(_records(template, body))
                if template.skipped:
                    options += len(records)
                    self._count("options_skipped", len(records))
                else:
                    taken += len(records)
                    found += records
        unknown = 0
        if missing:
            unknown = max(missing, stated - taken - options - templates)
            self._count("templates_missing", unknown)
            self._miss(key, "the template of records was not known", now_ns, now_ns, unknown)
        # NetFlow 9 numbers datagrams (RFC 3954, 5.1), IPFIX the records before this message (RFC 7011, 3.1).
        counted = 1 if key[1] == 9 else None if missing else taken + options
        self._sequence(key, source, sequence, counted, 0 if key[1] == 9 else options, uptime, now_ns)
        for said in found:
            self._record(key, before, said, uptime if key[1] == 9 else None, seconds * 10**9, now_ns)

    def _source(self, key: tuple[str, int, int]) -> Source:
        source = self._sources.get(key)
        if source is None:
            if len(self._sources) >= SOURCES_MAX:
                self._sources.popitem(last=False)
                self._count("sources_over")
            source = self._sources[key] = Source()
            self._saved_ns = 0
        self._sources.move_to_end(key)
        return source

    def _templates(self, source: Source, body: bytes, version: int) -> int:
        """RFC 3954, 5.2; RFC 7011, 3.4.1: how many there are."""
        at = found = 0
        while len(body) - at >= 4:
            number_, count = SET_HEADER.unpack_from(body, at)
            if number_ < 256:
                # Padding, or a withdrawal of all: over UDP there is none (RFC 7011, 8.1).
                break
            fields, at = _fields(body, at + 4, count, version)
            self._keep(source, number_, Template(fields))
            found += 1
        return found

    def _option_templates(self, source: Source, body: bytes, version: int) -> int:
        """RFC 3954, 6.1; RFC 7011, 3.4.2: only how long their records are."""
        at = found = 0
        while len(body) - at >= 6:
            number_, first, second = struct.unpack_from("!HHH", body, at)
            if number_ < 256:
                break
            count = (first + second) // 4 if version == 9 else first
            fields, at = _fields(body, at + 6, count, version)
            self._keep(source, number_, Template(fields, skipped=True))
            found += 1
        return found

    def _keep(self, source: Source, number_: int, template: Template) -> None:
        if len(template.fields) > FIELDS_MAX or not template.size:
            # Of records without an octet every set would have any number.
            source.templates.pop(number_, None)
            self._count("templates_refused")
            return
        source.templates[number_] = template
        source.templates.move_to_end(number_)
        if len(source.templates) > TEMPLATES_MAX:
            source.templates.popitem(last=False)
            self._count("templates_over")

    def _sequence(
        self, key: tuple[str, int, int], source: Source, sequence: int, count: int | None, options: int, uptime: int, now_ns: int
    ) -> None:
        lost = 0
        if source.last is not None:
            step = (sequence - source.last) & 0xFFFFFFFF
            began = _restarted(source, uptime) if key[1] != 10 else False
            if began or 1 << 31 <= step < (1 << 32) - REORDER_MAX:
                self._count("exporter_restarts")
                self._miss(key, "the exporter began again: what it did not send is unknown", source.heard_ns, now_ns, 1)
                source.after = None
            elif step >= 1 << 31:
                self._count("reordered")
                return
            else:
                lost = _gap(source, step, count, options)
        if lost > 0:
            self._count("lost", lost)
            unit = "datagrams" if key[1] == 9 else "records"
            self._miss(key, f"{unit} of the exporter did not come", source.heard_ns, now_ns, lost)
        source.last, source.count, source.uptime, source.heard_ns = sequence, count, uptime, now_ns

    # What a record says.

    def _record(
        self,
        key: tuple[str, int, int],
        before: tuple[int | None, int | None, int],
        said: dict[str, Any],  # Any: numbers, and addresses as they lie there
        uptime: int | None,
        export_ns: int,
        now_ns: int,
    ) -> None:
        self._count("records")
        transport, header = PROTOCOLS.get(said.get("protocol", 0), ("", 0))
        src, dst = said.get("src", b""), said.get("dst", b"")
        if not transport or len(src) not in (4, 16) or len(src) != len(dst) or "octets" not in said or "src_port" not in said:
            self._count("other_records")
            return
        least = header + (20 if len(src) == 4 else 40)
        factor = max(1, said.get("sampling", 0), self._sampling)
        if said.get("sampled"):
            factor = max(factor, (said["sampled"] + said.get("skipped", 0)) // said["sampled"])
        way, back = _way(said, "", least, factor), _way(said, "_back", least, factor)
        if max(way.payload, back.payload) > PAYLOAD_BYTES_MAX:
            self._count("implausible")
            return
        if abs(export_ns - now_ns) > CLOCK_NS_MAX:
            self._count("untimed")
            export_ns, uptime = now_ns, None
        a, b = (str(ipaddress.ip_address(src)), said["src_port"]), (str(ipaddress.ip_address(dst)), said.get("dst_port", 0))
        time_ns = self._ended(said, uptime, export_ns)
        initiated = said.get("initiated", 0)
        if said.get("packets_back") or said.get("octets_back"):
            self._tell(transport, a, b, time_ns, way, back, initiated or 1)
            return
        other = self._pending.pop((key, (transport, *b, *a)), None)
        if other is not None:
            flipped = {1: 2, 2: 1}.get(other.initiated, 0)
            self._tell(transport, a, b, max(time_ns, other.time_ns), way, other.way, initiated or flipped)
            return
        again = self._pending.pop((key, (transport, *a, *b)), None)
        if again is not None:
            self._alone((transport, *a, *b), again)
        self._pending[key, (transport, *a, *b)] = Pending(key, before, now_ns, time_ns, way, initiated)
        if len(self._pending) > PENDING_MAX:
            self._count("pending_over")
            (_, ends), oldest = self._pending.popitem(last=False)
            self._alone(ends, oldest)

    def _ended(self, said: dict[str, Any], uptime: int | None, export_ns: int) -> int:  # Any: as above
        """When the flow ended; when it was exported, if that is not said in a way that can be."""
        ended_ns: int | None = None
        if uptime is not None and "end_up" in said:
            ended_ns = export_ns - ((uptime - said["end_up"]) & 0xFFFFFFFF) * 10**6
        elif "end_ms" in said:
            ended_ns = said["end_ms"] * 10**6
        elif "end_s" in said:
            ended_ns = said["end_s"] * 10**9
        elif "end_ntp" in said:
            # Seconds since 1900 and their 2^32nd parts (RFC 7011, 6.1.9).
            ended_ns = ((said["end_ntp"] >> 32) - 2_208_988_800) * 10**9 + ((said["end_ntp"] & 0xFFFFFFFF) * 10**9 >> 32)
        if ended_ns is None or not export_ns - AGE_MS_MAX * 10**6 <= ended_ns <= export_ns + 10**9:
            self._count("untimed")
            return export_ns
        return ended_ns

    def _expire(self, until_ns: int | None) -> None:
        while self._pending:
            key_ends = next(iter(self._pending))
            one = self._pending[key_ends]
            if until_ns is not None and one.came_ns > until_ns:
                return
            del self._pending[key_ends]
            self._alone(key_ends[1], one)

    def _alone(self, ends: Ends, one: Pending) -> None:
        self._count("one_sided")
        transport, src, src_port, dst, dst_port = ends
        self._tell(transport, (src, src_port), (dst, dst_port), one.time_ns, one.way, None, one.initiated)

    def _tell(
        self, transport: str, a: tuple[str, int], b: tuple[str, int], time_ns: int, way: Way, back: Way | None, initiated: int
    ) -> None:
        opened = _opened(way, back, initiated)
        # Who is not known to have opened it: the lower port is the server's.
        if opened == 2 or (not opened and (a[1], a[0]) < (b[1], b[0])):
            client, server, forth, returned = b, a, 0 if back is None else back.payload, way.payload
        else:
            client, server, forth, returned = a, b, way.payload, 0 if back is None else back.payload
        operation = "transfer" if forth or returned else "attempt"
        connection = self._windows.open(
            client,
            server,
            time_ns,
            depth="sizes",
            seen_by="switch",
            transport=transport,
            opened_by="client" if opened else None,
        )
        if back is None:
            self._windows.describe(connection, time_ns, one_sided=True)
        self._windows.add(connection, time_ns, operation, "client", bytes=forth, bytes_back=returned)
        self._windows.estimated(connection, time_ns, operation, "client")
        self._windows.close(connection, time_ns)

    # What is kept and said.

    def _miss(self, key: tuple[str, int, int], why: str, since_ns: int, until_ns: int, events: int) -> None:
        said = self._losses.setdefault((key, why), [since_ns, until_ns, 0])
        said[1] = until_ns
        said[2] += events

    def _loss(self, key: tuple[str, int, int], why: str, since_ns: int, until_ns: int, events: int) -> bytes:
        print_ = " ".join(map(str, [*self._place, *key, why, since_ns, until_ns]))
        return dump(
            Loss(
                event_id=blake2b(print_.encode(), digest_size=16).hexdigest(),
                plant=self._plant,
                agent=self._feed,
                stage="collector",
                start=time_text(since_ns),
                end=time_text(max(since_ns, until_ns)),
                events=events,
                why=f"{why} ({key[0]}, version {key[1]}, domain {key[2]})",
            )
        )

    def _save(self) -> None:
        """Where each source was before the oldest record of it that waits: who is killed now says those lost, too."""
        settled: dict[tuple[str, int, int], tuple[int | None, int | None, int]] = {}
        for one in self._pending.values():
            settled.setdefault(one.key, one.before)
        sources = []
        for key, source in self._sources.items():
            place = settled.get(key, (source.last, source.count, source.heard_ns))
            templates = [[number_, template.fields, template.skipped] for number_, template in source.templates.items()]
            sources.append([*key, *place, source.uptime, source.after, templates])
        write_state(self._state, {"version": 1, "of": self._place, "sources": sources})

    def _resume(self, said: dict[str, Any] | None) -> None:  # Any: JSON values
        for exporter, version, domain, last, count, heard_ns, uptime, after, templates in said["sources"] if said else ():
            source = Source(last, count, heard_ns, uptime, after)
            for number_, fields, skipped in templates:
                self._keep(source, number_, Template([(name, length) for name, length in fields], skipped))
            self._sources[exporter, version, domain] = source

    def _count(self, name: str, count: int = 1) -> None:
        if count:
            self._counts[name] = self._counts.get(name, 0) + count


def _fields(body: bytes, at: int, count: int, version: int) -> tuple[Fields, int]:
    """Field specifiers, and where they end. Only those of IPFIX can bear an enterprise's number (RFC 7011, 3.2)."""
    fields: Fields = []
    for _ in range(count):
        kind, length = SET_HEADER.unpack_from(body, at)
        at += 4
        name = NAMES.get(kind, "")
        if version == 10 and kind & 0x8000:
            (enterprise,) = struct.unpack_from("!I", body, at)
            at += 4
            name = BACK.get(kind & 0x7FFF, "") if enterprise == REVERSE else ""
        # A number is of at most 8 octets, an address of 4 or 16 (RFC 7011, 6.1, 6.2).
        fields.append((name if length <= (16 if name in ("src", "dst") else 8) else "", length))
    return fields, at


def _records(template: Template, body: bytes) -> Iterator[dict[str, Any]]:  # Any: numbers, and addresses as they lie there
    """The records of a set; what is too short for one is padding."""
    if not template.varies:
        for at in range(0, len(body) - template.size + 1, template.size):
            yield {
                name: body[at + begin : at + end] if name in ("src", "dst") else int.from_bytes(body[at + begin : at + end], "big")
                for name, begin, end in template.places
            }
        return
    at = 0
    while len(body) - at >= template.size:
        said: dict[str, Any] = {}  # Any: as above
        for name, stated in template.fields:
            length = stated
            if stated == VARIABLE:
                # One octet says how long, or 255 and two more (RFC 7011, 7).
                length, at = body[at] if at < len(body) else 0, at + 1
                if length == 255:
                    length, at = int.from_bytes(body[at : at + 2], "big"), at + 2
            if at + length > len(body):
                raise Malformed("a record is longer than its set")
            if name:
                said[name] = body[at : at + length] if name in ("src", "dst") else int.from_bytes(body[at : at + length], "big")
            at += length
        yield said


def _way(said: dict[str, Any], side: str, least: int, factor: int) -> Way:  # Any: as above
    octets, packets = said.get(f"octets{side}", 0), said.get(f"packets{side}", 0)
    flags = said.get(f"flags{side}")
    payload = max(0, octets - packets * least) * factor
    if flags and not flags & PSH and flags & SYN and not flags & ACK:
        # A SYN's options are no payload (RFC 9293, 3.1).
        payload = 0
    return Way(octets, packets, flags, payload)


def _opened(way: Way, back: Way | None, initiated: int) -> int:
    """1: the source has opened it, 2: the destination, 0: not said. ``initiated`` is biflowDirection (RFC 5103, 6.3)."""
    if initiated in (1, 2):
        return initiated
    for side, one in ((1, way), (2, back)):
        if one is not None and one.flags and one.flags & (SYN | ACK) == SYN:
            return side
    return 0


def _restarted(source: Source, uptime: int) -> bool:
    """The exporter's clock is back by more than datagrams overtake each other, and did not wrap."""
    return source.last is not None and uptime + 60_000 < source.uptime < (1 << 32) - 3_600_000


def _gap(source: Source, step: int, count: int | None, options: int) -> int:
    """How many did not come, of those that the number counts."""
    if source.count is None or (count is None and source.after):
        return 0
    before = step - source.count
    itself = [step - count, step - count + options] if count is not None else []
    if source.after is None and count is not None and source.count != count:
        if before == 0:
            source.after = False
        elif 0 in itself:
            source.after = True
    if source.after:
        return 0 if 0 in itself else max(0, min(itself))
    return max(0, before)


def _plain(address: str) -> str:
    """An address in the one spelling; IPv4 where a listener of both has it mapped."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(found, "ipv4_mapped", None) or found)


def _listening(told: Told) -> tuple[str, int]:
    host, _, port = told.where.rpartition(":")
    try:
        address = str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        address = ""
    if not address or not port.isdecimal() or int(port) > 65_535:
        raise FeedError(f"{told.kind} {told.where!r}: expected ADDRESS:PORT, 0.0.0.0:2055")
    return address, int(port)


def _exporters(told: Told) -> frozenset[str]:
    text = told.options.get("from", "")
    try:
        found = frozenset(_plain(one) for one in text.split(",") if one)
    except ValueError:
        found = frozenset()
    if not found or len(found) > EXPORTERS_MAX:
        raise FeedError(f"{told.kind} {told.feed}: from={text}, expected 1 to {EXPORTERS_MAX} addresses of exporters, from=10.20.0.1")
    return found

"""Feeds beside, or instead of, packets: which of them a command reads, and their events among those of the capture."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from agent.clock import ClockState
from agent.health import Health, beating
from collectors.feed import POLL_S, Feed, FeedError, Told
from collectors.packets import CaptureError
from hopwatch.config import CaptureSettings, ConfigError
from hopwatch.store.rows import sortable

if TYPE_CHECKING:
    from collectors.feed import Kind

FEEDS_MAX: Final = 64

STATE_NAME_MAX: Final = 100
"""Characters of where a feed is that the name of its state bears."""

_ENDED: Final = re.compile(rb'"(?:end|time)":"([^"]{20,45})"')

TURNS_MAX: Final = 16
"""Batches of one feed that are taken before the capture has its turn again."""

TURN_S: Final = 0.1
"""After so long no further batch of a feed is taken in one turn: a log that grows while it is read never runs dry."""


class Known(NamedTuple):
    """A kind of feed: the class that reads it, loaded when it is needed, and what a person is told of it."""

    module: str
    name: str
    where: str
    about: str


KINDS: Final = {
    "mariadb-log": Known(
        "collectors.mariadb_log", "MariadbLog", "ADDRESS:PORT=PATH,…", "a MariaDB or MySQL server's audit, slow and general log"
    ),
    "logins": Known(
        "collectors.logins", "Logins", "ADDRESS:PORT=PATH", "records of logins as JSON lines: Windows events, or our own shape"
    ),
    "oracle-log": Known(
        "collectors.oracle_log", "OracleLog", "ADDRESS:PORT=PATH", "an Oracle database's audit trail and sessions as JSON lines"
    ),
    "sqlserver-log": Known(
        "collectors.sqlserver_log", "SqlserverLog", "ADDRESS:PORT=PATH", "a SQL Server's audit, events and connections as JSON lines"
    ),
    "pgbouncer-log": Known("collectors.pgbouncer_log", "PgbouncerLog", "ADDRESS:PORT=PATH", "a PgBouncer's log: who is before the pool"),
    "postgresql-activity": Known(
        "collectors.postgresql_activity",
        "PostgresqlActivity",
        "ADDRESS:PORT=DATABASE",
        "a PostgreSQL server's sessions and counts of statements, asked for",
    ),
    "postgresql-log": Known("collectors.postgresql_log", "PostgresqlLog", "ADDRESS:PORT=PATH", "a PostgreSQL server's csvlog or jsonlog"),
    "relay-log": Known("collectors.relay_log", "RelayLog", "PATTERN", "a proxy's or load balancer's log: JSON lines, or IIS's W3C"),
    "suricata": Known("collectors.suricata", "Suricata", "PATTERN", "Suricata's eve.json"),
    "zeek": Known("collectors.zeek", "Zeek", "PATTERN", "Zeek's logs, JSON or tab-separated"),
    "mosquitto-log": Known("collectors.mosquitto_log", "MosquittoLog", "ADDRESS:PORT=PATH", "a Mosquitto broker's log"),
    "mqtt-broker": Known("collectors.mqtt_broker", "MqttBroker", "mqtts://HOST:PORT", "a metered subscription of an MQTT broker"),
    "netflow": Known("collectors.netflow", "Netflow", "ADDRESS:PORT?from=EXPORTER,…", "flow records of switches: NetFlow 5 and 9, IPFIX"),
    "opcua-server": Known("collectors.opcua_server", "OpcuaServer", "opc.tcp://ADDRESS:PORT", "an OPC UA server's diagnostics"),
}
"""Every kind by its name; a new one is a line here and a file in collectors/."""


class Feeds:
    """The feeds of the settings, each under its own name as the declaration's ``feed`` says it."""

    def __init__(self, settings: CaptureSettings, plant: str, version: str) -> None:
        """Opens them.

        Raises:
            ConfigError, CaptureError: one line each.
        """
        if len(settings.feeds) > FEEDS_MAX:
            raise ConfigError(f"feeds: {len(settings.feeds)}, expected at most {FEEDS_MAX}")
        self._plant, self._version = plant, version
        self._feeds: list[tuple[str, Feed]] = []
        states: set[Path] = set()
        for text in settings.feeds:
            told = Told.of(text, settings.agent)
            state = state_of(settings.feeds_state, told)
            if state in states:
                # Each would go on where the other was.
                raise ConfigError(f"feed {told.kind}:{told.feed}={told.where}: there is one of this kind, name and place already")
            states.add(state)
            self._feeds.append((told.feed, kind(told).of(told, plant, state)))

    def __len__(self) -> int:
        return len(self._feeds)

    def names(self) -> list[str]:
        """The names the events bear."""
        return [name for name, _ in self._feeds]

    def lives(self) -> bool:
        """One of them hears its source now."""
        return any(feed.lives for _, feed in self._feeds)

    def counters(self) -> dict[str, int]:
        """What all feeds have counted."""
        said: dict[str, int] = {}
        for _, feed in self._feeds:
            for name, count in feed.counters().items():
                said[name] = said.get(name, 0) + count
        return said

    def examples(self) -> list[str]:
        """Where records lie that could not be read, one for each feed that has any."""
        counted = [(name, feed.example, feed.unreadable) for name, feed in self._feeds if feed.example]
        return [f"{name}: {example} (in all {count})" for name, example, count in counted]

    def alongside(
        self, batches: Iterator[list[bytes]] | None, stopping: Callable[[], bool], *, live: bool, beat: bool
    ) -> Iterator[list[bytes]]:
        """The batches of a capture with those of the feeds; of the feeds alone if there is no capture.

        ``live``: they are followed until ``stopping``, else read to their end, in the order of time with the capture, so that a login
        comes before what it names. ``beat``: each says in heartbeats that it lives.

        Raises:
            CaptureError: as the capture does, or a feed cannot be read any more.
        """
        if not self._feeds:
            yield from batches or ()
            return
        feeds = [self._beating(name, feed, stopping, live=live, beat=beat) for name, feed in self._feeds]
        if not live:
            yield from _by_time([one for one in (batches, *feeds) if one is not None])
            return
        if batches is not None:
            for batch in batches:
                yield batch
                for one in feeds:
                    yield from _turn(one)
        while not stopping():
            for one in feeds:
                yield from _turn(one)
            time.sleep(POLL_S)
        for one in feeds:
            yield from one

    def _beating(self, name: str, feed: Feed, stopping: Callable[[], bool], *, live: bool, beat: bool) -> Iterator[list[bytes]]:
        batches = feed.batches(stopping, follow=live, sleep=lambda seconds: None)
        if not beat:
            return batches
        health = Health(self._plant, name, self._version, ClockState())
        # What cannot hear its source must not make an unread connection look as if somebody read it.
        return beating(batches, health, feed.counters, time.monotonic, time.time_ns, lambda: feed.lives)


@dataclass(slots=True)
class _Source:
    """What is read to its end, and how far; a line that says no time, or an earlier one, has that of the line before it."""

    batches: Iterator[list[bytes]]
    lines: list[bytes] = field(default_factory=list)
    at: int = 0
    time: str = ""

    def look(self) -> None:
        """The time of the line that comes next."""
        found = _ENDED.search(self.lines[self.at])
        if found is not None:
            self.time = max(self.time, sortable(found[1].decode("ascii")))


def _by_time(every: Iterable[Iterator[list[bytes]]]) -> Iterator[list[bytes]]:
    """All lines, each source's in its order. A source that is asked for more has had all that it gave taken: it notes its place then."""
    sources = [_Source(batches) for batches in every]
    taken: list[bytes] = []
    failed: CaptureError | None = None
    while sources:
        for source in list(sources):
            if source.at < len(source.lines):
                continue
            if taken:
                yield taken
                taken = []
            try:
                more = next(source.batches, None)
            except CaptureError as error:
                # What the others have is told first.
                failed, more = failed or error, None
            if more is None:
                sources.remove(source)
                continue
            source.lines, source.at = more, 0
            if more:
                source.look()
        ready = [source for source in sources if source.at < len(source.lines)]
        if len(ready) < len(sources) or not ready:
            continue
        first = min(ready, key=lambda source: source.time)
        taken.append(first.lines[first.at])
        first.at += 1
        if first.at < len(first.lines):
            first.look()
    if taken:
        yield taken
    if failed is not None:
        raise failed


def _turn(batches: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    began_s = time.monotonic()
    for _ in range(TURNS_MAX):
        batch = next(batches, None)
        if not batch:
            return
        yield batch
        if time.monotonic() - began_s > TURN_S:
            return


def kind(told: Told) -> Kind:
    """The class of the feeds of this kind.

    Raises:
        FeedError: there is none.
    """
    known = KINDS.get(told.kind)
    if known is None:
        raise FeedError(f"feed {told.kind}: expected one of {', '.join(KINDS)}")
    return cast("Kind", getattr(import_module(known.module), known.name))


def state_of(path: Path, told: Told) -> Path:
    """The file in which the place in one feed is kept."""
    where = re.sub(r"[^\w.-]", "_", told.where.partition("=")[0])
    return path.with_name(f"{path.name}.{told.kind}.{told.feed}.{where[-STATE_NAME_MAX:]}")

"""`hopwatch agent` and `hopwatch import`: the program at one boundary, and the end of a one-way line.

The agent reads packets, keeps events in its spool and publishes them, or writes them as segments; it judges nothing.

Exit status: 0 the broker has everything (or a live run was ended: what waits is in the spool), 1 an import found gaps, torn or
forged segments, 2 a wrong command or input, or a run that could not go on.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

from agent.clock import ClockState
from agent.health import HEARTBEAT_S, Health
from agent.metrics import figures
from agent.notify import Notifier
from agent.pump import Publisher as Sink
from agent.pump import Pump
from agent.run import Agent, Chore
from agent.segments import SEGMENT_S, Imports, SegmentWriter, Sign, Verify
from agent.spool import Spool
from agent.vault import VaultError
from collectors import packets
from hopwatch import flags
from hopwatch.bus import LogError
from hopwatch.bus.connection import SECRETS, Connection
from hopwatch.bus.kafka import IN_FLIGHT_BYTES_MAX, Publisher
from hopwatch.config import AgentSettings, ConfigError, chosen, kafka, served, vault
from hopwatch.declared.sign import SignatureError, read_approvers, sign, verify
from hopwatch.events import EventError, parse
from hopwatch.feeds import KINDS, Feeds
from hopwatch.metrics import Figures
from hopwatch.process import Ending, say
from hopwatch.sensing import listening, sensor_of
from hopwatch.version import version

DONE, FAULTS, WRONG = 0, 1, 2

SEGMENT_OF_FILE_S = 0.5
"""A capture ends, and its last segment is not to wait for more."""

POLL_S = 0.2
SAY_S = 10.0
"""How often a broker that comes and goes is spoken of."""

RELOADED = "the connection to Kafka and its secrets, the signing key"


def add_agent(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch agent`."""
    flags.sources(parser)
    parser.add_argument("--brokers", metavar="HOST:PORT,…", help="some brokers of the Kafka cluster")
    parser.add_argument("--plant", metavar="NAME", help="the plant the events belong to")
    parser.add_argument("--spool", type=Path, metavar="PATH", help="the file in which events wait for the broker (default hopwatch.spool)")
    parser.add_argument("--spool-bytes-max", type=int, metavar="BYTES", help="bound of that file")
    flags.metrics(parser)
    parser.add_argument("--export", type=Path, metavar="DIR", help="write signed segments there instead of publishing")
    parser.add_argument("--signing-key", type=Path, metavar="FILE", help="the Ed25519 key that signs segments, PEM or OpenSSH")
    flags.capturing(parser, KINDS)
    flags.common(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch import`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder the segments arrived in")
    parser.add_argument("--brokers", metavar="HOST:PORT,…", help="some brokers of the Kafka cluster")
    parser.add_argument("--signers", type=Path, metavar="FILE", help="the keys whose signature a segment must bear, as of --approvers")
    parser.add_argument("--record", type=Path, metavar="FILE", help="what was imported already (default DIR/imported.json)")
    parser.add_argument("--check", action="store_true", help="verify only; publish and remember nothing")
    flags.common(parser)


# agent


def run_agent(arguments: argparse.Namespace, sensors: packets.Sensors, ending: Ending) -> int:
    """`hopwatch agent`.

    Raises:
        ConfigError, LogError, CaptureError: one line each.
    """
    settings = chosen(AgentSettings, vars(arguments), arguments.config)
    files: list[str] | None = arguments.files
    if not files and not settings.interfaces and not settings.feeds:
        raise ConfigError("agent: something to read is needed: -r FILE, -i INTERFACE or --feed")
    if settings.plant is None:
        raise ConfigError("agent: the plant is needed: --plant NAME")
    feeds = Feeds(settings, settings.plant, version())
    if feeds.names() and (files or settings.interfaces or set(feeds.names()) != {settings.agent}):
        # An agent's events are numbered under one name.
        raise ConfigError("agent: a server's log needs an agent of its own: --agent FEED, and neither -r nor -i")
    making = _sink(arguments, settings)
    sensor = sensor_of(settings, settings.plant, sensors)
    with contextlib.ExitStack() as stack:
        spool = Spool(settings.spool, size_bytes_max=settings.spool_bytes_max)
        stack.callback(spool.close)
        pump = Pump(spool, making, time.monotonic)
        health = Health(settings.plant, settings.agent, version(), ClockState())
        notifier = Notifier()
        running = _Running(
            arguments, settings, spool, pump, health, notifier, lambda: sensor.counters() | feeds.counters(),
            lives=lambda: not len(feeds) or feeds.lives(),
        )  # fmt: skip
        stack.enter_context(served(settings.metrics, running.figures()))
        agent = Agent(spool, pump, time.monotonic, time.sleep, running.chores(live=not files))
        over = packets.until(settings.duration)

        def stopping() -> bool:
            return agent.stopping() or over()

        if files:
            batches = packets.from_files(sensor, files, stopping)
        elif feeds.names():
            batches = feeds.alongside(None, stopping, live=True, beat=False)
        else:
            batches = listening(settings, sensor, stopping)
        stack.enter_context(ending(agent.stop))
        stack.enter_context(running.reloading())
        ended = agent.run(running.seen(batches), (packets.CaptureError,), live=not files)
        notifier.say("STOPPING=1")
    for line in ended.errors:
        say(line)
    if ended.waiting:
        say(f"{settings.spool}: {ended.waiting} events wait to be published; the next run begins with them")
    return WRONG if ended.errors or (files and ended.waiting) else DONE


class _Running:
    """What an agent does beside capturing: health, figures, reloading."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        settings: AgentSettings,
        spool: Spool,
        pump: Pump,
        health: Health,
        notifier: Notifier,
        counters: Callable[[], Mapping[str, int]],
        lives: Callable[[], bool],
    ) -> None:
        self._arguments, self._settings = arguments, settings
        self._spool, self._pump, self._health, self._notifier = spool, pump, health, notifier
        self._count, self._lives = counters, lives
        self._counted: dict[str, int] = {}
        self._reload = self._ready = False
        self._trouble: str | None = None
        self._say_at_s = 0.0
        self._reloads = self._reloads_refused = 0

    def chores(self, *, live: bool) -> list[Chore]:
        """What is done between two batches. A capture has no heartbeats: its events are of another time than now."""
        chores = [Chore(1.0, self._look)]
        if live:
            chores.append(Chore(HEARTBEAT_S, self._beat))
        if self._notifier.watchdog_s is not None:
            chores.append(Chore(self._notifier.watchdog_s / 3, self._alive))
        return chores

    def seen(self, batches: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
        """The batches, on their way to the spool."""
        for batch in batches:
            self._health.coverage.take(batch)
            # The sensor answers only between two reads.
            self._counted = dict(self._count())
            if not self._ready:
                self._ready = True
                self._notifier.say("READY=1", f"STATUS=capturing, spool {self._settings.spool}")
            yield batch

    def _look(self) -> None:
        if self._pump.trouble != self._trouble and time.monotonic() >= self._say_at_s:
            self._trouble, self._say_at_s = self._pump.trouble, time.monotonic() + SAY_S
            waiting = f"; {self._spool.waiting()} events wait in {self._settings.spool}"
            say(f"{self._trouble}{waiting}" if self._trouble else f"publishing again{waiting}")
            self._notifier.say(f"STATUS={self._trouble or 'publishing'}")
        if self._reload:
            self._reload = False
            self._renew()

    def _beat(self) -> None:
        if not self._lives():
            # What cannot hear its source must not make an unread connection look as if somebody read it.
            return
        spool = self._spool
        said = self._counted | self._pump.counters()
        said |= {"spool_waiting": spool.waiting(), "spool_bytes": spool.size_bytes(), "merged": spool.merged_total}
        said |= {"dropped": spool.dropped_total, "published": self._pump.published_total, "stalled": self._pump.stalls}
        spool.append([self._health.heartbeat(time.time_ns(), said)])

    def _alive(self) -> None:
        """A sign of life only while both halves live: a service that captures and publishes nothing is to be restarted."""
        if self._pump.lives():
            self._notifier.say("WATCHDOG=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """SIGHUP reads the configuration again."""

        def handle(number: int, frame: FrameType | None) -> None:
            self._reload = True

        try:
            before = signal.signal(signal.SIGHUP, handle)
        except ValueError:  # Not in the main thread: whoever embeds the command restarts it.
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def _renew(self) -> None:
        """Use what may change while capturing goes on; a configuration that is wrong changes nothing."""
        self._notifier.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings = chosen(AgentSettings, vars(self._arguments), self._arguments.config)
            changed = [name for name, value in settings if name != "signing_key" and value != getattr(self._settings, name)]
            self._pump.renew(_sink(self._arguments, settings))
        except (ConfigError, LogError) as error:
            self._reloads_refused += 1
            say(f"the configuration is not used, what was read before holds: {error}")
        else:
            self._reloads += 1
            say(f"configuration read again: {RELOADED}" + (f"; needs a restart: {', '.join(changed)}" if changed else ""))
        self._notifier.say("READY=1")

    def figures(self) -> Figures:
        """The figures for Prometheus."""
        spool, pump, health = self._spool, self._pump, self._health

        def in_flight(name: str) -> Callable[[], float]:
            return lambda: pump.counters().get(name, 0)

        return figures(
            {
                "spool_events": spool.waiting,
                "spool_bytes": spool.size_bytes,
                "spool_limit_bytes": lambda: spool.size_bytes_max,
                "oldest_event_age_seconds": lambda: spool.oldest_age_s(time.time_ns()),
                "in_flight_events": in_flight("in_flight"),
                "in_flight_bytes": in_flight("in_flight_bytes"),
                "stalled_partitions": lambda: pump.stalls,
                "publishing": lambda: float(pump.trouble is None),
                "clock_offset_seconds": lambda: health.clock_now.offset_s,
                "clock_error_seconds": lambda: health.clock_now.error_s,
                "clock_synchronised": lambda: float(health.clock_now.synchronised),
                "events_published_total": lambda: pump.published_total,
                "events_repeated_total": lambda: pump.repeated_total,
                "events_refused_total": lambda: pump.refused_total,
                "events_dropped_total": lambda: spool.dropped_total,
                "windows_merged_total": lambda: spool.merged_total,
                "client_retries_total": in_flight("retries"),
                "reloads_total": lambda: self._reloads,
                "reloads_refused_total": lambda: self._reloads_refused,
            },
            lambda: self._counted,
        )


def _sink(arguments: argparse.Namespace, settings: AgentSettings) -> Callable[[], Sink]:
    """What makes a publisher, or a writer of segments; what can be wrong with its settings is wrong now.

    Raises:
        ConfigError: a setting, a secret or a key.
    """
    if settings.export is not None:
        if settings.signing_key is None:
            raise ConfigError("agent: --export needs the key that signs segments: --signing-key FILE")
        signing = _signer(settings.signing_key)
        age_s = SEGMENT_OF_FILE_S if arguments.files else SEGMENT_S
        return lambda: SegmentWriter(
            settings.export or Path(),
            settings.plant or "",
            settings.agent,
            signing,
            time.monotonic,
            size_bytes_max=settings.export_bytes_max,
            segment_s=age_s,
        )
    reached = _reached(arguments)
    # What is in flight can be neither merged nor dropped: most of the spool must not be.
    in_flight = min(IN_FLIGHT_BYTES_MAX, settings.spool_bytes_max // 4)
    return lambda: Publisher(reached, speaker=f"agents/{settings.agent}", shards=settings.shards, bytes_max=in_flight)


def _reached(arguments: argparse.Namespace) -> Connection:
    kept = vault(arguments.config)
    try:
        secrets = kept.secrets(SECRETS) if kept is not None else {}
    except VaultError as error:
        raise ConfigError(str(error)) from None
    reached = kafka({"bootstrap_servers": arguments.brokers}, arguments.config, secrets)
    try:
        reached.client()
    except LogError as error:
        raise ConfigError(str(error)) from None
    return reached


def _signer(path: Path) -> Sign:
    try:
        key = path.read_bytes()
        sign(b"", key)
    except OSError as error:
        raise ConfigError(f"--signing-key {path}: {error.strerror}") from None
    except SignatureError as error:
        raise ConfigError(f"--signing-key {path}: {error}") from None
    return lambda content: sign(content, key)


# import


def run_import(arguments: argparse.Namespace, ending: Ending) -> int:
    """`hopwatch import`.

    Raises:
        ConfigError, LogError: one line each.
    """
    settings = chosen(AgentSettings, vars(arguments), arguments.config)
    verifying = _verifier(settings)
    record = arguments.record or arguments.folder / "imported.json"
    imports = Imports(arguments.folder, record, verifying)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    segments = events = 0
    publisher = None if arguments.check else Publisher[int](_reached(arguments), speaker="import", shards=settings.shards)
    try:
        with ending(stop):
            for segment in imports.new():
                if publisher is not None:
                    if not _published(publisher, segment.lines, lambda: stopped):
                        break
                    imports.imported(segment)
                else:
                    imports.seen(segment)
                segments += 1
                events += len(segment.lines)
    finally:
        if publisher is not None:
            publisher.close(1.0)
    faults = [*imports.faults, *imports.gaps()]
    done = "verified" if arguments.check else "published"
    print(f"{segments} segments with {events} events {done}, {imports.known_total} known before")
    for fault in faults:
        print(f"{fault.fault}: {fault.name}: {fault.why}")
    if stopped:
        say("interrupted; the next run goes on with the segment that was begun")
        return WRONG
    return FAULTS if faults else DONE


def _published(publisher: Sink, lines: list[bytes], stopping: Callable[[], bool]) -> bool:
    """Send the events and wait until the broker has them; False if the run was asked to end before."""
    waiting = set(range(len(lines)))
    unsent = list(waiting)
    while waiting:
        left: list[int] = []
        for at, number in enumerate(unsent):
            try:
                event = parse(lines[number])
            except EventError as error:
                # What is signed and no event was written by another version of the agent: a person decides.
                raise LogError(f"line {number + 1} of a signed segment is no event: {error}") from None
            said = event.model_dump()
            if not publisher.send(event.kind, said["plant"], said["event_id"], lines[number], number):
                left = unsent[at:]
                break
        reports = publisher.poll(POLL_S)
        waiting.difference_update(reports.acknowledged)
        for failure in reports.failed:
            if failure.lasting:
                raise LogError(f"the broker refuses an event for good: {failure.reason}")
        unsent = left
        if reports.failed:
            # What followed a refused event may have arrived before it: it is sent again behind it, and known by its id.
            unsent = list(range(min(failure.token for failure in reports.failed), len(lines)))
            waiting.update(unsent)
        if stopping():
            return False
    return True


def _verifier(settings: AgentSettings) -> Verify:
    if settings.signers is None:
        raise ConfigError("import: the keys of who signs segments are needed: --signers FILE")
    try:
        signers = read_approvers(settings.signers.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--signers {settings.signers}: {getattr(error, 'strerror', None) or 'no text'}") from None
    except SignatureError as error:
        raise ConfigError(f"--signers {settings.signers}: {error}") from None

    def verifying(content: bytes, signature: bytes) -> str | None:
        verdict = verify(content, signature, signers, ())
        return None if verdict.signed else "its signature is of none of the signers' keys, or it was changed"

    return verifying

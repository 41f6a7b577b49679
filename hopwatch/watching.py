"""`hopwatch watch`: flags, and a run put together of sensor, log, engine, detectors, store and view."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import blake2b
from pathlib import Path

from rich.console import Console

from agent.clock import ClockState
from agent.health import Health, beating
from collectors import packets
from detectors.judgement import Judgement
from detectors.online import Online, online
from detectors.verdict import VerdictDetector
from hopwatch import alerting, console, flags
from hopwatch.bus import Log
from hopwatch.bus.embedded import EmbeddedLog
from hopwatch.bus.memory import MemoryLog
from hopwatch.config import NO_STORE, Settings, served, settings
from hopwatch.declared.load import load
from hopwatch.declared.match import Index
from hopwatch.declared.model import Architecture
from hopwatch.engine import CONSUMER, Engine, SnapshotError
from hopwatch.events import Event, Finding
from hopwatch.feeds import KINDS, Feeds
from hopwatch.figures import Metered, Tally
from hopwatch.located import Located
from hopwatch.process import FINDINGS, NOTHING, WRONG, Wrong, mute, say, steady
from hopwatch.sensing import listening, sensor_of
from hopwatch.sizes import TableSizes
from hopwatch.store import Store
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.terminal import JsonView, LiveView, PlainView
from hopwatch.version import version
from hopwatch.watch import Outcome, Run, View


def add_watch(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch watch`."""
    parser.add_argument("-d", "--declaration", type=Path, metavar="FILE", help="the plant's declared architecture, plant.yaml")
    parser.add_argument("--approvers", type=Path, metavar="FILE", help="the keys whose signature approves the declaration")
    flags.sources(parser)
    parser.add_argument("--json", action="store_true", help="events as JSON lines on standard output, and nothing else")
    parser.add_argument("--store", metavar="PATH", help=f"the store's file, or {NO_STORE} (default hopwatch.db)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key of the store's pseudonyms (default STORE.key)")
    parser.add_argument("--at", type=date.fromisoformat, metavar="DATE", help="the day expiries are judged for (default: the packets')")
    flags.questions(parser)
    parser.add_argument("--console", nargs="?", const="", metavar="ADDRESS", help="serve the console beside it (default 127.0.0.1:8710)")
    parser.add_argument("--alerts", action="store_true", help="make alerts of findings; so do destinations in the settings")
    flags.locations(parser)
    flags.metrics(parser)
    flags.capturing(parser, KINDS)
    flags.common(parser)


def watch(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    chosen = settings(vars(arguments), arguments.config)
    if chosen.declaration is None:
        raise Wrong("watch: a declaration is needed: -d plant.yaml")
    files: list[str] | None = arguments.files
    if not files and not chosen.interfaces and not chosen.feeds:
        raise Wrong("watch: something to read is needed: -r FILE, -i INTERFACE or --feed")
    if "://" in chosen.store:
        raise Wrong("watch: its store is a file; `hopwatch agent`, `detect` and `store` bring events to PostgreSQL")
    architecture = load(chosen.declaration, at=chosen.at, approvers=chosen.approvers)
    edition = _edition(chosen.declaration, chosen.at)
    feeds = Feeds(chosen, architecture.plant, version())
    sensor = sensor_of(chosen, architecture.plant, sensors)
    with contextlib.ExitStack() as stack:
        log, store = _rooms(chosen, architecture, stack)
        shown = ", ".join([*(files or chosen.interfaces), *feeds.names()])
        unsigned = "" if architecture.declaration.signed else "  UNSIGNED"
        view = _view(arguments.json, f"{architecture.plant} v{architecture.version}{unsigned}  {shown}")
        if not architecture.declaration.signed and not arguments.json:
            say(f"{chosen.declaration}: UNSIGNED: nobody has signed this declaration")
        if chosen.questions:
            detector: VerdictDetector | Online = online(
                architecture,
                at=chosen.at,
                edition=edition,
                located=Located(chosen.locations),
                sizes=TableSizes(chosen.table_sizes, time.monotonic, say),
            )
        else:
            detector = VerdictDetector(architecture, at=chosen.at, edition=edition)
        if arguments.console is not None:
            if store is None:
                raise Wrong("watch: the console looks at a store: --store PATH")
            stack.callback(console.beside(chosen, arguments.console).stop)
        if arguments.alerts and store is None:
            raise Wrong("watch: alerts are made from a store: --store PATH")
        if store is not None and (arguments.alerts or alerting.configured(arguments)):
            stack.enter_context(alerting.beside(chosen, arguments))
        judges = _Judges(detector)
        metered = None if chosen.metrics is None else _metered(view, judges, architecture, log)
        run = Run(log, judges, store, metered or view, f"{CONSUMER}/{architecture.plant}")
        over = packets.until(chosen.duration)

        def stopping() -> bool:
            return run.stopping() or over()

        batches: Iterator[list[bytes]] | None = None
        if files:
            batches = packets.from_files(sensor, files, stopping)
        elif chosen.interfaces:
            batches = listening(chosen, sensor, stopping)
            # Of a capture there are none: its events are of another time than now, and reading it twice gives the same.
            health = Health(architecture.plant, chosen.agent, version(), ClockState())
            batches = beating(batches, health, sensor.counters, time.monotonic, time.time_ns)
        batches = feeds.alongside(batches, stopping, live=not files, beat=not files)
        if metered is not None:
            batches = metered.batches(batches, sensor.counters)
            stack.enter_context(served(chosen.metrics, metered.figures))
        with steady(run.stop):
            outcome = run.run(batches, sensor.counters, time.monotonic, (packets.CaptureError,), packets.damaged)
        for example in feeds.examples():
            say(f"a line that could not be read, {example}")
    return _ended(outcome)


def _rooms(chosen: Settings, architecture: Architecture, stack: contextlib.ExitStack) -> tuple[Log, Store | None]:
    """The log and the store; without a store nothing outlives the run, and the log is in memory."""
    if chosen.store == NO_STORE:
        return MemoryLog(size_bytes_max=chosen.log_bytes_max), None
    log = EmbeddedLog(f"{chosen.store}.log", size_bytes_max=chosen.log_bytes_max)
    stack.callback(log.close)
    index = Index(architecture)

    def is_clear(account: str) -> bool:
        """Services and vendors are no persons; an identity on the wire counts as the account it is declared for."""
        name = account if account in architecture.accounts else index.account(account)
        return name is not None and architecture.accounts[name].kind in ("service", "vendor")

    store = EmbeddedStore(chosen.store, is_clear=is_clear, key_path=chosen.key, size_bytes_max=chosen.store_bytes_max)
    stack.callback(store.close)
    return log, store


def _metered(view: View, judges: _Judges, architecture: Architecture, log: Log) -> Metered:
    """The view, counting for Prometheus."""
    highest = Index(architecture).highest
    metered = Metered(
        view, Tally(lambda _, classes: highest(classes)), time.monotonic, time.time, lambda: log.end() - log.committed(CONSUMER)
    )
    metered.figures.ask("hopwatch_forgotten_total", lambda: {(table,): count for table, count in judges.forgotten().items()})
    return metered


def _view(as_json: bool, title: str) -> View:
    if as_json:
        return JsonView(sys.stdout.buffer)
    if sys.stdout.isatty():
        return LiveView(Console(), title)
    return PlainView(sys.stdout)


def _ended(outcome: Outcome) -> int:
    for line in (*outcome.broken_off, *outcome.errors):
        say(line)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        mute()
    if outcome.errors:
        return WRONG
    return FINDINGS if outcome.summary.findings or outcome.broken_off else NOTHING


class _Judges:
    """The engine with its detectors, as the run wants it: events in, judgements out."""

    def __init__(self, detector: VerdictDetector | Online) -> None:
        self._said: list[Judgement] = []
        self._found: list[Finding] = []
        self._detector = detector
        self._engine = Engine([self._detector], self)

    def say(self, outcome: object) -> None:
        """The engine's sink."""
        if isinstance(outcome, Finding):
            self._found.append(outcome)
        else:
            assert isinstance(outcome, Judgement)
            self._said.append(outcome)

    def found(self) -> list[Finding]:
        """What was found that is about no window."""
        found, self._found = self._found, []
        return found

    def judge(self, events: Sequence[Event]) -> list[Judgement]:
        """What the detectors say of the events, in order."""
        self._engine.take(events)
        said, self._said = self._said, []
        return said

    def finish(self) -> list[Judgement]:
        """Every window is judged when it comes: nothing waits."""
        return self.judge(())

    def snapshot(self, offset: int) -> bytes:
        """The engine's state, at the offset the run has reached."""
        self._engine.offset = offset
        return self._engine.snapshot()

    def restore(self, snapshot: bytes) -> int:
        """The engine's state again; one that another version of the program wrote is left, and said so."""
        try:
            self._engine.restore(snapshot)
        except SnapshotError as error:
            say(f"budgets begin anew: {error}")
        return self._engine.offset

    def forgotten(self) -> dict[str, int]:
        """What the detector's bounds have pushed out."""
        return self._detector.forgotten()


def _edition(declaration: Path, at: date | None) -> str:
    """A name for what judgements are made by: the declaration's bytes and the stated day."""
    return blake2b(declaration.read_bytes() + b"\0" + str(at).encode(), digest_size=16).hexdigest()

"""The `hopwatch` command: parses, assembles, runs.

Exit status: 0 nothing to report, 1 findings or a damaged capture, 2 a wrong command, input or declaration, or a run that could
not go on; of the last two one line on standard error says why, and what was read until then is judged and stored. Standard
output carries results only.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

from rich.console import Console

from agent.clock import ClockState
from agent.health import Health, beating
from collectors import packets
from detectors.judgement import Judgement
from detectors.online import Online, online
from detectors.verdict import VerdictDetector
from detectors.whatif import what_if
from hopwatch import agents, alerting, console, scale
from hopwatch.bus import Log, LogError
from hopwatch.bus import cli as bus
from hopwatch.bus.embedded import EmbeddedLog
from hopwatch.bus.memory import MemoryLog
from hopwatch.capture import SECONDS, Measuring, check, expected, show
from hopwatch.config import ConfigError, Settings, add_metrics, kafka, served, settings
from hopwatch.declared.load import load
from hopwatch.declared.match import Index
from hopwatch.declared.model import Architecture
from hopwatch.declared.problem import ArchitectureError
from hopwatch.engine import CONSUMER, Engine, SnapshotError
from hopwatch.events import Event, Finding, schema
from hopwatch.feeds import KINDS, Feeds
from hopwatch.figures import Metered, Tally
from hopwatch.flags import instant
from hopwatch.located import Located
from hopwatch.show import clean, explained_flow, flow_line, grouped, loss_line, size, violation
from hopwatch.sizes import TableSizes
from hopwatch.store import ID_CHARACTERS_MIN, Query, Reader, Store, StoreError
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.terminal import JsonView, LiveView, PlainView
from hopwatch.watch import Outcome, Run, View

NOTHING, FINDINGS, WRONG = 0, 1, 2

NO_STORE = "none"

COLLECTION_OBJECTS = 500_000
"""Objects made and not yet freed before Python looks for cycles; a batch of events has fewer."""

FLOWS_LISTED = 100


class _Wrong(Exception):
    """One line for standard error, and exit status 2."""


class _Parser(argparse.ArgumentParser):
    """An unknown command or flag is answered in one line that names the nearest known one."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split(" ")[0] if "unrecognized" in message else ""
        known = _options(self)
        near = difflib.get_close_matches(unknown, known, 1, 0.6)
        hint = f" (did you mean {near[0]}?)" if near else f" (see `{self.prog} --help`)"
        self.exit(WRONG, f"{self.prog}: {message}{hint}\n")


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """Every flag of a parser and of its commands: argparse reports a command's unknown flag from the outermost parser."""
    options: list[str] = []
    for action in parser._actions:
        options += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            options += [option for command in action.choices.values() for option in _options(command)]
    return options


def main(argv: Sequence[str] | None = None, *, sensors: packets.Sensors = packets.sensor) -> int:
    """Run the command; returns its exit status."""
    try:
        arguments = _parse(argv)
    except SystemExit as exit_:  # argparse ends the process itself after --help and wrong usage.
        return exit_.code if isinstance(exit_.code, int) else WRONG
    try:
        return int(arguments.run(arguments, sensors))
    except ArchitectureError as error:
        more = f" (and {len(error.problems) - 1} more; see `hopwatch declared validate`)" if len(error.problems) > 1 else ""
        return _say(f"{error.problems[0]}{more}")
    except (_Wrong, ConfigError, StoreError, LogError, packets.CaptureError) as error:
        return _say(str(error))
    except BrokenPipeError:
        _mute()
        return NOTHING
    except OSError as error:
        return _say(packets.line(error))
    except KeyboardInterrupt:
        return _say("interrupted")


def _say(line: str) -> int:
    print(f"hopwatch: {' '.join(line.split())}", file=sys.stderr)
    return WRONG


def _mute() -> None:
    """Standard output is gone; keep the interpreter from writing to it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Flags


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="hopwatch", description="What data moves in a plant, against what was declared.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"hopwatch {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    watch = commands.add_parser("watch", help="judge captures or interfaces against a declaration", allow_abbrev=False)
    watch.set_defaults(run=_watch)
    watch.add_argument("-d", "--declaration", type=Path, metavar="FILE", help="the plant's declared architecture, plant.yaml")
    watch.add_argument("--approvers", type=Path, metavar="FILE", help="the keys whose signature approves the declaration")
    source = watch.add_mutually_exclusive_group()
    source.add_argument("-i", "--interface", dest="interfaces", nargs="+", metavar="IFACE", help="listen on these interfaces, passively")
    source.add_argument("-r", "--read", dest="files", nargs="+", metavar="FILE", help="read captures: pcap, pcapng, gz, zstd; - is stdin")
    watch.add_argument("--json", action="store_true", help="events as JSON lines on standard output, and nothing else")
    watch.add_argument("--store", metavar="PATH", help=f"the store's file, or {NO_STORE} (default hopwatch.db)")
    watch.add_argument("--key", type=Path, metavar="FILE", help="the key of the store's pseudonyms (default STORE.key)")
    watch.add_argument("--at", type=date.fromisoformat, metavar="DATE", help="the day expiries are judged for (default: the packets')")
    scale.add_questions(watch)
    watch.add_argument("--console", nargs="?", const="", metavar="ADDRESS", help="serve the console beside it (default 127.0.0.1:8710)")
    watch.add_argument("--alerts", action="store_true", help="make alerts of findings; so do destinations in the settings")
    scale.add_locations(watch)
    add_metrics(watch)
    _capturing(watch)
    _common(watch)

    agent = commands.add_parser("agent", help="publish what captures or interfaces show to Kafka, judging nothing", allow_abbrev=False)
    agent.set_defaults(run=lambda arguments, sensors: agents.run_agent(arguments, sensors, _ending))
    source = agent.add_mutually_exclusive_group()
    source.add_argument("-i", "--interface", dest="interfaces", nargs="+", metavar="IFACE", help="listen on these interfaces, passively")
    source.add_argument("-r", "--read", dest="files", nargs="+", metavar="FILE", help="read captures: pcap, pcapng, gz, zstd; - is stdin")
    agents.add_agent_flags(agent)
    _capturing(agent)
    _common(agent)

    bring = commands.add_parser("import", help="publish the segments that came over a one-way line", allow_abbrev=False)
    bring.set_defaults(run=lambda arguments, sensors: agents.run_import(arguments, sensors, _ending))
    agents.add_import_flags(bring)
    _common(bring)

    detect = commands.add_parser("detect", help="judge what agents publish to Kafka, as one of any number of detectors", allow_abbrev=False)
    detect.set_defaults(run=lambda arguments, sensors: scale.detect(arguments, _steady))
    scale.add_detect(detect)
    _common(detect)

    store = commands.add_parser("store", help="keep what agents and detectors publish to Kafka in PostgreSQL", allow_abbrev=False)
    store.set_defaults(run=lambda arguments, sensors: scale.store(arguments, _steady))
    scale.add_store(store)
    _common(store)

    inspect = commands.add_parser("inspect", help="what a capture holds, and how well it could be read", allow_abbrev=False)
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("files", nargs="+", metavar="FILE")
    inspect.add_argument("--json", action="store_true", help="one line a conversation, one loss a line, then the summary")
    inspect.add_argument("--verify-checksums", action="store_true", help="drop segments whose checksum is wrong")
    _vlans_equal(inspect)

    capture = commands.add_parser("capture", help="the capture itself", allow_abbrev=False)
    checks = capture.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    check = checks.add_parser("check", help="is this capture any good, and what to do about it", allow_abbrev=False)
    check.set_defaults(run=_check)
    source = check.add_mutually_exclusive_group(required=True)
    source.add_argument("-i", "--interface", dest="interfaces", nargs="+", metavar="IFACE", default=(), help="listen on these interfaces")
    source.add_argument("-r", "--read", dest="files", nargs="+", metavar="FILE", default=(), help="read captures; - is standard input")
    check.add_argument("--bpf", metavar="FILTER", help="what of the interfaces is looked at, pcap-filter(7)")
    check.add_argument("--seconds", type=_seconds, metavar="N", help=f"listen for so long (default {SECONDS:.0f})")
    check.add_argument("-d", "--declaration", type=Path, metavar="FILE", help="name the declared networks that are not seen")
    check.add_argument("--json", action="store_true", help="the report as one JSON object")

    for name, run, what in (("flows", _flows, "stored flows"), ("findings", _findings, "stored findings")):
        listing = commands.add_parser(name, help=f"list {what}, newest first", allow_abbrev=False)
        listing.set_defaults(run=run)
        listing.add_argument("--verdict")
        listing.add_argument("--account", metavar="NAME", help="in clear; accounts that rest as pseudonyms are found too")
        listing.add_argument("--address", help="either end")
        listing.add_argument("--hop", metavar="NAME")
        listing.add_argument("--since", type=instant, metavar="TIME", help="RFC 3339, or a day")
        listing.add_argument("--until", type=instant, metavar="TIME", help="RFC 3339, or a day; not included")
        listing.add_argument("--limit", type=_count, default=FLOWS_LISTED, metavar="N")
        _reading(listing)

    looked = commands.add_parser(
        "console", help="a web application on this machine: map, alerts, declaration, coverage", allow_abbrev=False
    )
    looked.set_defaults(run=lambda arguments, sensors: _console(arguments))
    _reading(looked)
    console.add_console(looked, _Parser)

    alerts = commands.add_parser("alerts", help="what a person is to act on: look, decide, deliver", allow_abbrev=False)
    alerts.set_defaults(run=lambda arguments, sensors: alerting.run(arguments, _ending))
    alerting.add_alerts(alerts, _Parser, _reading)

    explain = commands.add_parser("explain", help="one finding, flow or loss in full", allow_abbrev=False)
    explain.set_defaults(run=_explain)
    explain.add_argument("id", metavar="ID", help=f"at least {ID_CHARACTERS_MIN} characters of it")
    _reading(explain)

    _add_declared(commands)
    bus.add_parser(commands)
    commands.choices["topics"].set_defaults(run=lambda arguments, sensors: bus.run(arguments, kafka(vars(arguments), arguments.config)))

    published = commands.add_parser("schema", help="the JSON Schema of the events", allow_abbrev=False)
    published.set_defaults(run=_schema)
    return parser.parse_args(argv)


def _add_declared(commands: Any) -> None:  # Any: argparse names the type of its subparsers privately.
    from hopwatch.declared import cli as declared

    def apply(arguments: argparse.Namespace) -> int:
        # The client of Kafka is loaded by who needs it.
        from hopwatch.apply import run

        return run(arguments)

    def look(arguments: argparse.Namespace) -> int:
        from hopwatch.backtest import run

        return run(arguments)

    declared.add_parser(commands)
    # Its parser sets no ``run`` of ours: the commands of the declaration have one entrance.
    commands.choices["declared"].set_defaults(run=lambda arguments, sensors: declared.run(arguments, what_if, apply, look))


def _capturing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bpf", metavar="FILTER", help="capture filter, pcap-filter(7)")
    parser.add_argument("--snaplen", type=int, metavar="BYTES", help="bytes kept of a packet")
    parser.add_argument("--agent", metavar="NAME", help="the name of this agent in events (default hopwatch)")
    parser.add_argument("--tap", metavar="NAME", help="the name of the tap in events")
    _vlans_equal(parser)
    parser.add_argument(
        "--tap-of", action="append", metavar="IFACE=TAP", help="the tap an interface belongs to; other taps are other networks"
    )
    parser.add_argument("--verify-checksums", action="store_true", default=None, help="drop segments whose checksum is wrong")
    parser.add_argument(
        "--feed", action="append", dest="feeds", metavar="KIND:[FEED=]WHERE", help=f"a source beside packets: {', '.join(KINDS)}"
    )
    parser.add_argument("--feeds-state", type=Path, metavar="PATH", help="where the place in each is kept (default hopwatch.feed)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="end after so long")


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="PATH", help="the store's file (default hopwatch.db), or postgresql://… of the store at scale")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key of the store's pseudonyms (default STORE.key)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    _common(parser)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default ./hopwatch.toml, if it is there)")


def _vlans_equal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vlans-equal", action="append", metavar="A=B", help="VLANs that are one network: 120=220, or vni:7=vni:9; again for each pair"
    )


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 1 to 1000000")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text}: expected seconds, more than 0 and at most 86400")
    return seconds


def _version() -> str:
    try:
        return version("hopwatch")
    except PackageNotFoundError:
        return "not installed"


# watch


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
            print(f"hopwatch: budgets begin anew: {error}", file=sys.stderr)
        return self._engine.offset

    def forgotten(self) -> dict[str, int]:
        """What the detector's bounds have pushed out."""
        return self._detector.forgotten()


def _edition(declaration: Path, at: date | None) -> str:
    """A name for what judgements are made by: the declaration's bytes and the stated day."""
    return blake2b(declaration.read_bytes() + b"\0" + str(at).encode(), digest_size=16).hexdigest()


def _watch(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    chosen = settings(vars(arguments), arguments.config)
    if chosen.declaration is None:
        raise _Wrong("watch: a declaration is needed: -d plant.yaml")
    files: list[str] | None = arguments.files
    if not files and not chosen.interfaces and not chosen.feeds:
        raise _Wrong("watch: something to read is needed: -r FILE, -i INTERFACE or --feed")
    if "://" in chosen.store:
        raise _Wrong("watch: its store is a file; `hopwatch agent`, `detect` and `store` bring events to PostgreSQL")
    architecture = load(chosen.declaration, at=chosen.at, approvers=chosen.approvers)
    edition = _edition(chosen.declaration, chosen.at)
    feeds = Feeds(chosen, architecture.plant, _version())
    sensor = sensors(
        architecture.plant,
        chosen.agent,
        tap=chosen.tap,
        verify_checksums=chosen.verify_checksums,
        vlans_equal=chosen.vlans_equal,
        tap_of=chosen.tap_of,
    )
    with contextlib.ExitStack() as stack:
        log, store = _rooms(chosen, architecture, stack)
        shown = ", ".join([*(files or chosen.interfaces), *feeds.names()])
        unsigned = "" if architecture.declaration.signed else "  UNSIGNED"
        view = _view(arguments.json, f"{architecture.plant} v{architecture.version}{unsigned}  {shown}")
        if not architecture.declaration.signed and not arguments.json:
            print(f"hopwatch: {chosen.declaration}: UNSIGNED: nobody has signed this declaration", file=sys.stderr)
        if chosen.questions:
            detector: VerdictDetector | Online = online(
                architecture,
                at=chosen.at,
                edition=edition,
                located=Located(chosen.locations),
                sizes=TableSizes(chosen.table_sizes, time.monotonic, _say),
            )
        else:
            detector = VerdictDetector(architecture, at=chosen.at, edition=edition)
        if arguments.console is not None:
            if store is None:
                raise _Wrong("watch: the console looks at a store: --store PATH")
            stack.callback(console.beside(chosen, arguments.console).stop)
        if arguments.alerts and store is None:
            raise _Wrong("watch: alerts are made from a store: --store PATH")
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
            batches = packets.from_interfaces(sensor, chosen.interfaces, stopping, bpf=chosen.bpf, snaplen=chosen.snaplen)
            # Of a capture there are none: its events are of another time than now, and reading it twice gives the same.
            health = Health(architecture.plant, chosen.agent, _version(), ClockState())
            batches = beating(batches, health, sensor.counters, time.monotonic, time.time_ns)
        batches = feeds.alongside(batches, stopping, live=not files, beat=not files)
        if metered is not None:
            batches = metered.batches(batches, sensor.counters)
            stack.enter_context(served(chosen.metrics, metered.figures))
        with _ending(run.stop), _rare_collections():
            outcome = run.run(batches, sensor.counters, time.monotonic, (packets.CaptureError,), packets.damaged)
        for example in feeds.examples():
            print(f"hopwatch: a line that could not be read, {example}", file=sys.stderr)
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
        _say(line)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _mute()
    if outcome.errors:
        return WRONG
    return FINDINGS if outcome.summary.findings or outcome.broken_off else NOTHING


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Events are trees and are freed as they are let go; looking among them for cycles takes half of the time it takes to read them."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextlib.contextmanager
def _ending(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run; a second one ends the process."""
    before: dict[signal.Signals, Any] = {}  # Any: what signal.signal returns.

    def handle(number: int, frame: FrameType | None) -> None:
        stop()
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # Not in the main thread: whoever embeds the command stops it.
            before[each] = signal.signal(each, handle)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _steady(stop: Callable[[], None]) -> Iterator[None]:
    """Ends as it is asked to, and looks for cycles rarely."""
    with _ending(stop), _rare_collections():
        yield


def _console(arguments: argparse.Namespace) -> int:
    return console.run(arguments, _ending)


# inspect


def _inspect(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    """Each capture by itself: a file that fails hides no other."""
    status = NOTHING
    for path in arguments.files:
        sensor = sensors(
            "inspect",
            "inspect",
            conversations=True,
            verify_checksums=arguments.verify_checksums,
            vlans_equal=arguments.vlans_equal or (),
        )
        losses: list[bytes] = []
        conversations: list[bytes] = []
        started = time.monotonic()
        try:
            for batch in packets.from_files(sensor, [path]):
                losses += (event for event in batch if b'"kind":"loss"' in event[:64])
                conversations += sensor.conversations()
        except packets.CaptureError as error:
            # A capture that breaks off is something found in it; what is no capture is a wrong input.
            _say(str(error))
            status = max(status, FINDINGS if packets.damaged(error) else WRONG)
        conversations += sensor.conversations()
        counters = sensor.counters()
        if arguments.json:
            for line in (*conversations, *losses):
                print(line.decode())
            summary = {"kind": "summary", "file": path, "counters": counters, "seconds": round(time.monotonic() - started, 3)}
            print(json.dumps(summary))
        else:
            _print_capture(path, [json.loads(line) for line in conversations], [json.loads(line) for line in losses], counters)
    return status


def _print_capture(path: str, conversations: list[dict[str, Any]], losses: list[dict[str, Any]], counters: dict[str, int]) -> None:
    """What is in a capture, in a few lines; Any: JSON values."""
    amount = f"{grouped(counters.get('packets', 0))} packets, {size(counters.get('bytes', 0))}"
    print(f"{clean(path)}: {amount}, {len(conversations)} conversations")
    for one in conversations:
        read = ", ".join(one.get("facts") or ()) or "unread"
        vlans = f"  vlan {','.join(map(str, one['vlans']))}" if one.get("vlans") else ""
        print(
            f"  {one['transport']:5} {one['a']}:{one['a_port']} - {one['b']}:{one['b_port']}  "
            f"{grouped(one.get('packets_ab') or 0)} -> {size(one.get('payload_bytes_ab') or 0)}, "
            f"{grouped(one.get('packets_ba') or 0)} <- {size(one.get('payload_bytes_ba') or 0)}  {clean(read)}{vlans}"
        )
    for loss in losses:
        print("  " + loss_line(loss))
    wrong = {name: count for name, count in counters.items() if count and (name.startswith("malformed_") or name in _UNWELL)}
    if wrong:
        print("  not read well: " + ", ".join(f"{name.replace('_', ' ')} {grouped(count)}" for name, count in sorted(wrong.items())))


def _check(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    nets = expected(arguments.declaration) if arguments.declaration else []
    if arguments.files and (arguments.seconds is not None or arguments.bpf is not None):
        raise _Wrong("capture check: --seconds and --bpf are for interfaces; a file is read to its end")
    over = packets.until(None if arguments.files else arguments.seconds or SECONDS)
    asked = False

    def stop() -> None:
        nonlocal asked
        asked = True

    sensor = cast(Measuring, sensors("check", "check"))  # What `sensors` makes measures too; other commands do not ask for it.
    with _ending(stop):
        found, report = check(sensor, nets, arguments.files, arguments.interfaces, lambda: asked or over(), arguments.bpf)
    if arguments.json:
        print(json.dumps(report))
    else:
        show(Console(highlight=False), found, report)
    return FINDINGS if found else NOTHING


_UNWELL = frozenset(
    ("checksum_errors", "decode_errors", "evicted", "flows_folded", "gaps", "kernel_drops", "lost_bytes", "conversations_dropped")
)


# The store


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Reader]:
    chosen = settings({"store": arguments.store, "key": arguments.key}, arguments.config)
    if chosen.store == NO_STORE:
        raise _Wrong("there is no store to read: --store PATH")
    # The client of PostgreSQL is loaded by who needs it.
    from hopwatch.store.reader import reader

    store = reader(chosen.store, chosen.key)
    try:
        yield store
    finally:
        store.close()


def _query(arguments: argparse.Namespace) -> Query:
    names = ("verdict", "account", "address", "hop", "since", "until", "limit")
    return Query(**{name: getattr(arguments, name) for name in names})


def _flows(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    with _opened(arguments) as store:
        for flow in store.flows(_query(arguments)):
            print(json.dumps(flow, ensure_ascii=False) if arguments.json else flow_line(flow, (flow["judgement"] or {}).get("verdict")))
    return NOTHING


def _findings(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    with _opened(arguments) as store:
        found = store.findings(_query(arguments))
    for number, finding in enumerate(found):
        print(json.dumps(finding, ensure_ascii=False) if arguments.json else ("\n" if number else "") + violation(finding))
    return FINDINGS if found else NOTHING


def _explain(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    with _opened(arguments) as store:
        record = store.find(arguments.id)
    if arguments.json:
        print(json.dumps(record, ensure_ascii=False))
    else:
        print({"finding": violation, "flow": explained_flow, "loss": loss_line}[record["kind"]](record))
    return FINDINGS if record["kind"] == "finding" else NOTHING


def _schema(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    print(json.dumps(schema(), indent=2))
    return NOTHING


if __name__ == "__main__":
    sys.exit(main())

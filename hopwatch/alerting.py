"""`hopwatch alerts`: look at alerts, decide about them, and run the book that makes them.

Exit status: 0 done, or nothing is open; 1 `list` shows open alerts; 2 a wrong command, a decision that cannot be carried out, or a
store or book that cannot be used. Of the last one line on standard error says why.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from hopwatch import flags
from hopwatch.beside import Beside, until_eof
from hopwatch.config import NO_STORE, ConfigError, Settings, alerts, kafka, settings
from hopwatch.events import SEVERITIES, Alert, Decision, time_text
from hopwatch.process import WRONG, Ending, say
from hopwatch.show import clean, grouped, violation
from hopwatch.show import instant as shown

if TYPE_CHECKING:
    from alerts.book import Book
    from alerts.delivery.run import Delivery
    from alerts.running import Runner
    from alerts.settings import AlertsSettings

DONE, OPEN = 0, 1
LISTED: Final = 100
FIRING_MAX: Final = 10_000
"""Open alerts that an Alertmanager is told of when a process begins; it hears of further ones when they change."""

_COLOURS = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "blue"}
_STATES: Final = ("open", "new", "in-progress", "suppressed", "resolved", "all")
_DISPOSITIONS: Final = ("true-positive", "benign-trigger", "false-positive", "duplicate", "test")
_SCOPE: Final = ("verdict", "who", "source", "destination", "hop", "client")
_SPAN: Final = re.compile(r"(\d{1,5})(min|h|d)")
_SPANS_S: Final = {"min": 60, "h": 3_600, "d": 86_400}

_DECISIONS: Final = {
    "ack": ("acknowledge", "it is looked at: new becomes in progress, and stays open"),
    "comment": ("comment", "a word for the record"),
    "resolve": ("resolve", "it is closed, with what it was"),
    "reopen": ("reopen", "it was closed too soon"),
    "shelve": ("shelve", "quiet until a time; it returns by itself"),
    "unshelve": ("unshelve", "back from the shelf"),
    "suppress": ("suppress", "quiet until a time: one alert, or all with these fields"),
    "unsuppress": ("unsuppress", "a suppression ends now"),
}


class AlertsError(ConfigError):
    """What was asked cannot be done; one line."""


def add_alerts(parser: argparse.ArgumentParser) -> None:
    """The commands of `hopwatch alerts`, and their flags."""
    # What delivers is loaded by who needs it.
    from alerts.delivery.cli import add_commands

    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="alerts_command")
    run = commands.add_parser("run", help="make alerts of findings and deliver them, until it is ended", allow_abbrev=False)
    how = run.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="take in what there is, then end; nothing is delivered")
    how.add_argument(
        "--until-eof",
        action="store_true",
        help="end with standard input, whatever is there taken in, and on no signal; other programs go first",
    )
    run.add_argument("--metrics", metavar="ADDRESS:PORT", help="serve figures for Prometheus there (default: `metrics` of [alerts])")
    listing = commands.add_parser("list", help="open alerts, the last changed first", allow_abbrev=False)
    listing.add_argument("--state", choices=_STATES, default="open", help="(default open: all that is not resolved)")
    listing.add_argument("--severity", choices=SEVERITIES, help="at least")
    listing.add_argument("--verdict")
    listing.add_argument("--account", metavar="NAME", help="in clear; accounts that rest as pseudonyms are found too")
    listing.add_argument("--plant", metavar="NAME")
    listing.add_argument("--since", type=flags.instant, metavar="TIME", help="changed since; RFC 3339, or a day")
    listing.add_argument("--until", type=flags.instant, metavar="TIME", help="changed before")
    listing.add_argument("--limit", type=flags.count, default=LISTED, metavar="N")
    one = commands.add_parser("show", help="one alert in full: finding, history, decisions", allow_abbrev=False)
    one.add_argument("id", metavar="ID", help="the beginning of its id, or of its finding's")
    for name, (_, about) in _DECISIONS.items():
        _add_decision(commands.add_parser(name, help=about, allow_abbrev=False), name)
    commands.add_parser("suppressions", help="what is suppressed by scope: who, why, until when, and how much it hid", allow_abbrev=False)
    commands.add_parser("report", help="how alerts were judged, by detector; what is open; what was counted", allow_abbrev=False)
    export = commands.add_parser("export", help="every revision and decision in the order of time, a line each", allow_abbrev=False)
    export.add_argument("--since", type=flags.instant, metavar="TIME", help="RFC 3339, or a day")
    export.add_argument("--until", type=flags.instant, metavar="TIME", help="RFC 3339, or a day; not included")
    export.add_argument("--format", metavar="NAME", default="event", help="of alerts: event, ocsf, ecs, cef, … (default event)")
    for name in ("run", "list", "show", "suppressions", "report", "export", *_DECISIONS):
        flags.reading(commands.choices[name])
    add_commands(commands, flags.reading)


def _add_decision(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("ids", nargs="*" if name in ("ack", "resolve", "suppress", "unsuppress") else "+", metavar="ID")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept, and sent with the decision")
    parser.add_argument("--person", metavar="NAME", help="who decides (default: who is logged in)")
    parser.add_argument("--ticket", metavar="REF", help="whose authority it has")
    if name in ("suppress", "shelve"):
        end = parser.add_mutually_exclusive_group(required=True)
        end.add_argument("--until", type=flags.instant, metavar="TIME", help="RFC 3339, or a day")
        end.add_argument("--for", dest="span", type=_span, metavar="SPAN", help="30min, 8h, 7d")
    if name == "resolve":
        parser.add_argument("--as", dest="disposition", required=True, choices=_DISPOSITIONS, help="what it was")
    if name in ("ack", "resolve", "suppress", "unsuppress"):
        parser.add_argument("--plant", metavar="NAME", help="of a scope; needed where the book has several")
        for field in _SCOPE:
            parser.add_argument(f"--{field}", metavar="NAME", help="of a scope: alerts whose finding has it")


def run(arguments: argparse.Namespace, ending: Ending) -> int:
    """Run a command of the group.

    Raises:
        ConfigError, StoreError: one line each.
    """
    from alerts.delivery import cli as delivery

    chosen = settings({"store": arguments.store, "key": arguments.key}, arguments.config)
    if chosen.store == NO_STORE:
        raise AlertsError("alerts: there is no store: --store PATH")
    command: str = arguments.alerts_command
    if command in delivery.COMMANDS:
        from alerts.outbox import open_outbox
        from alerts.settings import SettingsError

        try:
            return delivery.run(
                command, arguments, alerts(arguments.config), lambda: open_outbox(place(chosen)), lambda: kafka({}, arguments.config)
            )
        except SettingsError as error:
            raise AlertsError(str(error)) from None
    if command == "run":
        return _run(arguments, chosen, ending)
    with _opened(chosen) as book:
        if command in _DECISIONS:
            return _decide(book, arguments, command)
        return _COMMANDS[command](book, arguments)


def place(chosen: Settings) -> str:
    """Where the queues of the store's book are."""
    return chosen.store if "://" in chosen.store else f"{chosen.store}.alerts"


@contextlib.contextmanager
def _opened(chosen: Settings) -> Iterator[Book]:
    from alerts.book import book

    made = book(chosen.store, chosen.key)
    try:
        yield made
    finally:
        made.close()


# Looking


def _list(book: Book, arguments: argparse.Namespace) -> int:
    from alerts.book import AlertQuery

    state = None if arguments.state == "all" else arguments.state
    names = ("severity", "verdict", "account", "plant", "since", "until", "limit")
    found = book.alerts(AlertQuery(state=state, **{name: getattr(arguments, name) for name in names}))
    if arguments.json:
        for alert in found:
            print(json.dumps(alert, ensure_ascii=False))
    else:
        # Colours on a terminal only, as rich decides; lines are not cut where there is none.
        console = Console(highlight=False, soft_wrap=True)
        for alert in found:
            console.print(_line(alert))
    return OPEN if any(alert["state"] != "resolved" for alert in found) else DONE


def _line(alert: dict[str, Any]) -> Text:  # Any: JSON values
    finding = alert["finding"]
    state = "shelved" if alert["shelved_until"] else "inhibited" if alert["inhibited_by"] else alert["state"]
    who = f"{clean(finding['who'] or 'account unread')}  {clean(finding['source'])} -> {clean(finding['destination'])}"
    if folded := alert.get("folded"):
        who = f"{clean(alert['group'])}  {grouped(folded)} findings like this one"
    line = Text(f"{alert['severity'].upper():8}", style=_COLOURS[alert["severity"]])
    line.append(f"  {state:11}  {finding['verdict']:22}  {alert['alert_id'][:10]}  {shown(alert['time'])}  ", style="default not bold")
    line.append(f"{clean(alert['plant'])}  {who}", style="default not bold")
    if alert["owner"]:
        line.append(f"  {clean(alert['owner'])}", style="default not bold")
    return line


def _show(book: Book, arguments: argparse.Namespace) -> int:
    alert = book.alert(arguments.id)
    identity = alert["alert_id"]
    revisions, decisions = book.revisions(identity), book.decisions(identity)
    if arguments.json:
        print(json.dumps(alert | {"revisions": revisions, "decisions": decisions}, ensure_ascii=False))
        return DONE
    for line in _told(alert):
        print(line)
    for revision in revisions:
        told = "told" if revision["notify"] else "    "
        print(f"  {shown(revision['time'])}  {told}  {revision['change']:12}  {clean(revision['why'])}")
    if "folded" in alert:
        members = book.members(identity)
        print(f"  findings: {', '.join(members)}{' …' if alert['folded'] > len(members) else ''}")
    print()
    print(violation(alert["finding"]))
    return DONE


def _told(alert: dict[str, Any]) -> Iterator[str]:  # Any: JSON values
    disposition = f" as {alert['disposition']}" if alert["disposition"] else ""
    owner = f", {clean(alert['owner'])}" if alert["owner"] else ""
    yield f"alert {alert['alert_id']}   {alert['state']}{disposition}{owner}   {clean(alert['group'])}"
    yield f"  {alert['severity']} because {clean(alert['severity_because'])}"
    quiet = {"shelved_until": "shelved until", "suppressed_by": "suppressed by decision", "inhibited_by": "needless while open:"}
    for name, said in quiet.items():
        if alert[name]:
            yield f"  {said} {clean(alert[name])}"
    yield f"  told {alert['notified']} times, hidden {alert['hidden']} times"
    if alert["techniques"]:
        yield f"  ATT&CK {', '.join(alert['techniques'])}"
    yield f"  {clean(alert['page'])}"


def _suppressions(book: Book, arguments: argparse.Namespace) -> int:
    for rule in book.suppressions():
        said = rule["decision"]
        if arguments.json:
            print(json.dumps(rule, ensure_ascii=False))
            continue
        scope = ", ".join(f"{name} {clean(value)}" for name, value in said["scope"].items())
        ticket = f" ({clean(said['ticket'])})" if said["ticket"] else ""
        print(f"{clean(said['plant'])}  {scope}  until {shown(said['until'])}  hid {rule['hidden']}  {clean(said['person'])}: "
              f"{clean(said['reason'])}{ticket}")  # fmt: skip
    return DONE


def _report(book: Book, arguments: argparse.Namespace) -> int:
    judged = book.precision()
    counts = book.counts()
    if arguments.json:
        detectors = [
            {"verdict": one.verdict, "alerts": one.alerts, "true_positive": one.true_positive, "benign_trigger": one.benign_trigger,
             "false_positive": one.false_positive, "precision": one.precision, "worth": one.worth} for one in judged
        ]  # fmt: skip
        there = [{"plant": plant, "state": state, "severity": severity, "alerts": count} for plant, state, severity, count in counts]
        print(json.dumps({"detectors": detectors, "alerts": there, "counted": book.counted()}))
        return DONE
    print("detector                alerts     true   benign    false  precision  worth acting on")
    for one in judged:
        print(f"{one.verdict:22} {one.alerts:7} {one.true_positive:8} {one.benign_trigger:8} {one.false_positive:8}"
              f"  {_percent(one.precision):>9}  {_percent(one.worth):>15}")  # fmt: skip
    for plant, state, severity, count in counts:
        print(f"{clean(plant)}  {state:12} {severity:9} {grouped(count)}")
    counted = [f"{grouped(count)} {name.replace('_', ' ')}" for name, count in sorted(book.counted().items())]
    print(", ".join(counted) or "nothing counted yet")
    return DONE


def _percent(share: float | None) -> str:
    return "not yet" if share is None else f"{share:.0%}"


def _export(book: Book, arguments: argparse.Namespace) -> int:
    from alerts.delivery.make import origin
    from alerts.delivery.rendering import renderer
    from hopwatch.events import parse

    try:
        render = renderer(arguments.format, origin(alerts(arguments.config)))
    except ValueError as error:
        raise AlertsError(f"--format: {error}") from None
    for event in book.history(arguments.since, arguments.until):
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        if arguments.format == "event":
            print(line)
            continue
        said = parse(line)
        assert isinstance(said, Alert | Decision)
        sys.stdout.buffer.write(render(said).rstrip(b"\n") + b"\n")
    return DONE


_COMMANDS: Final = {"list": _list, "show": _show, "suppressions": _suppressions, "report": _report, "export": _export}


# Deciding


def _decide(book: Book, arguments: argparse.Namespace, command: str) -> int:
    from alerts.book import DecisionRefused, decision_id

    now_ns = time.time_ns()
    person = arguments.person or os.environ.get("SUDO_USER") or getpass.getuser()
    until = getattr(arguments, "until", None)
    if (span := getattr(arguments, "span", None)) is not None:
        until = time_text(now_ns + span * 10**9)
    scope = {name: value for name in _SCOPE if (value := getattr(arguments, name, None)) is not None}
    if bool(scope) == bool(arguments.ids):
        fields = ", ".join(f"--{name}" for name in _SCOPE)
        raise AlertsError(f"alerts {command}: expected ids, or one to three of {fields}, not {'both' if scope else 'neither'}")
    if "who" in scope:
        scope["who"] = book.spelling(scope["who"])
    wanted: list[tuple[str | None, str]] = [(None, _plant(book, arguments.plant))] if scope else []
    for each in arguments.ids:
        alert = book.alert(each)
        wanted.append((alert["alert_id"], alert["plant"]))
    action, time_ = _DECISIONS[command][0], time_text(now_ns)
    for alert_id, plant in wanted:
        of = alert_id or json.dumps(scope, sort_keys=True)
        decision = Decision.model_validate(
            {"event_id": decision_id(plant, time_, person, action, of), "plant": plant, "time": time_, "person": person, "action": action,
             "reason": arguments.reason, "alert_id": alert_id, "scope": scope, "until": until,
             "disposition": getattr(arguments, "disposition", None), "ticket": arguments.ticket}
        )  # fmt: skip
        try:
            made = book.decide(decision)
        except DecisionRefused as error:
            raise AlertsError(f"alerts {command}: {error}") from None
        if arguments.json:
            print(json.dumps(decision.model_dump(), ensure_ascii=False))
            for revision in made:
                print(json.dumps(revision.model_dump(), ensure_ascii=False))
        elif alert_id is None:
            print(f"{action}: {len(made)} alerts changed now" + ("; what comes is hidden until it ends" if action == "suppress" else ""))
        else:
            own = next((one for one in made if one.alert_id == alert_id), None)
            print(f"{alert_id[:10]}  {own.state if own else 'unchanged'}  {clean(own.why) if own else ''}")
    return DONE


def _plant(book: Book, named: str | None) -> str:
    plants = sorted({plant for plant, *_ in book.counts()})
    if named is not None:
        return named
    if len(plants) != 1:
        raise AlertsError(f"--plant is needed: the book has {', '.join(plants) or 'no alert yet'}")
    return plants[0]


def _span(text: str) -> int:
    """Seconds in ``30min``, ``8h`` or ``7d``."""
    found = _SPAN.fullmatch(text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text}: expected 30min, 8h or 7d")
    return int(found[1]) * _SPANS_S[found[2]]


# Running


def _run(arguments: argparse.Namespace, chosen: Settings, ending: Ending) -> int:
    # `watch` has a key `metrics` of its own; two programs cannot serve under one port.
    of = alerts(arguments.config)
    where = arguments.metrics or of.metrics
    with contextlib.ExitStack() as stack:
        book = stack.enter_context(_opened(chosen))
        delivery = None if arguments.once else _delivery(of, chosen, arguments)
        runner = _runner(book, of, delivery)
        if arguments.once:
            return DONE if runner.drain() else WRONG
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True

        if delivery is not None:
            delivery.start()
            stack.callback(delivery.stop)
        if where is not None:
            from hopwatch.metrics import MetricsError, serve

            try:
                server, _ = serve(where, runner.figures, *([] if delivery is None else [delivery.collector]))
            except MetricsError as error:
                raise AlertsError(str(error)) from None
            stack.callback(server.shutdown)
        with until_eof(stop) if arguments.until_eof else ending(stop):
            if not arguments.until_eof:
                say(f"alerts of {book.name}: {', '.join(of.destinations) or 'no destination is configured'}")
            said: set[str] = set()
            while not stopped:
                pause_s = runner.turn()
                for line in () if delivery is None else delivery.troubles():
                    if line not in said:
                        said.add(line)
                        say(line)
                until = time.monotonic() + pause_s
                while not stopped and time.monotonic() < until:
                    time.sleep(0.1)
            return DONE if not arguments.until_eof or runner.drain() else WRONG


def _runner(book: Book, of: AlertsSettings, delivery: Delivery | None) -> Runner:
    from alerts.delivery.run import letters
    from alerts.running import Runner
    from alerts.techniques import page, techniques

    wake = (lambda: None) if delivery is None else delivery.wake
    return Runner(
        book,
        letters=letters(of),
        about=lambda verdict: (techniques(verdict), page(verdict)),
        say=say,
        wake=wake,
    )


def _delivery(of: AlertsSettings, chosen: Settings, arguments: argparse.Namespace) -> Delivery | None:
    if not of.destinations:
        return None
    from alerts.book import AlertQuery
    from alerts.delivery.run import Delivery
    from alerts.outbox import open_outbox
    from alerts.settings import SettingsError

    def firing() -> list[Alert]:
        """Called in the thread of a sender, which needs a connection of its own."""
        with _opened(chosen) as book:
            return [Alert.model_validate(alert) for alert in book.alerts(AlertQuery(state="open", limit=FIRING_MAX))]

    try:
        return Delivery(of, lambda: open_outbox(place(chosen)), lambda: kafka({}, arguments.config), firing=firing)
    except SettingsError as error:
        raise AlertsError(str(error)) from None


def configured(arguments: argparse.Namespace) -> bool:
    """Whether the settings say where alerts go."""
    return bool(alerts(arguments.config).destinations)


@contextlib.contextmanager
def beside(chosen: Settings, arguments: argparse.Namespace) -> Iterator[None]:
    """`alerts run` in a process of its own, for as long as `watch` runs; at the end everything found is taken in.

    A process, since detection in the same interpreter would wait for it (docs/measurements/delay.md).

    Raises:
        ConfigError, StoreError: one line each.
    """
    # What is wrong with settings or book shows now, and ends the command.
    with _opened(chosen):
        _delivery(alerts(arguments.config), chosen, arguments)
    command = ["alerts", "run", "--until-eof", "--store", chosen.store]
    for flag, path in (("--key", chosen.key), ("--config", arguments.config)):
        command += [] if path is None else [flag, str(path)]
    running = Beside("alerts", command)
    try:
        yield
    finally:
        if not running.stop():
            say("alerts: not all findings were taken in; `hopwatch alerts run` goes on")

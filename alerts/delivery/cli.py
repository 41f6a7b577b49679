"""``hopwatch alerts test|destinations|dead-letters|replay``: whether alerts arrive, and what to do with those that did not.

Exit status: 0 all well; 1 a canary did not arrive, a destination's circuit is open, or dead letters lie there; 2 as every command.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

from alerts.delivery import Item, Refused, Retry
from alerts.delivery.canary import canary
from alerts.outbox import READ_MAX, Outbox, QueueState, Waiting, letter
from alerts.settings import AlertsSettings, SettingsError
from hopwatch.events import Alert, EventError, dump, parse, time_ns, time_text
from hopwatch.show import clean

if TYPE_CHECKING:
    from alerts.delivery.make import Cluster

DONE, FOUND = 0, 1
WAIT_S: Final = 60.0
LOOK_S: Final = 0.1

COMMANDS: Final = ("test", "destinations", "dead-letters", "replay")

Parser = TypeVar("Parser", bound=argparse.ArgumentParser)


def add_commands(commands: argparse._SubParsersAction[Parser], common: Callable[[Parser], None]) -> None:
    """Add the commands to the group ``alerts``; ``common`` adds the flags that all of the group have."""
    test = commands.add_parser("test", help="send a marked canary to a destination and measure how long it takes", allow_abbrev=False)
    test.add_argument("destination", metavar="DESTINATION", help="its name in [alerts.destinations.NAME]")
    test.add_argument("--queued", action="store_true", help="through the queue and the running `hopwatch alerts run`, not directly")
    test.add_argument("--wait", type=float, default=WAIT_S, metavar="SECONDS", help=f"with --queued, how long (default {WAIT_S:g})")
    test.add_argument("--plant", default="hopwatch", metavar="NAME", help="the plant that stands in the canary")
    shown = commands.add_parser("destinations", help="how each destination stands: what waits, what failed", allow_abbrev=False)
    dead = commands.add_parser("dead-letters", help="what destinations refused for good, and why", allow_abbrev=False)
    dead.add_argument("destination", nargs="?", metavar="DESTINATION", help="only of this one")
    again = commands.add_parser("replay", help="put dead letters at the end of their queue", allow_abbrev=False)
    again.add_argument("destination", metavar="DESTINATION", help="whose dead letters")
    again.add_argument("--place", type=int, nargs="+", metavar="N", help="only those at these places, as dead-letters shows them")
    for parser in (test, shown, dead, again):
        common(parser)


def run(command: str, arguments: argparse.Namespace, settings: AlertsSettings, outbox: Callable[[], Outbox], cluster: Cluster) -> int:
    """Run one of ``COMMANDS``; returns the exit status.

    Raises:
        SettingsError, StoreError: one line each.
    """
    if command == "test":
        of = settings.destinations.get(arguments.destination)
        if of is None:
            known = ", ".join(settings.destinations) or "none"
            raise SettingsError(f"{arguments.destination}: no such destination in the settings; there are {known}")
        return _test_queued(arguments, outbox) if arguments.queued else _test(arguments, settings, cluster)
    queues = outbox()
    try:
        if command == "destinations":
            return _destinations(queues.states(), settings, json_=arguments.json, now_ns=time.time_ns())
        if command == "dead-letters":
            return _dead_letters(queues.dead_letters(arguments.destination), json_=arguments.json)
        count = queues.replay(arguments.destination, time.time_ns(), arguments.place)
        print(json.dumps({"destination": arguments.destination, "replayed": count}) if arguments.json else f"{count} letters wait again")
        return DONE
    finally:
        queues.close()


def _test(arguments: argparse.Namespace, settings: AlertsSettings, cluster: Cluster) -> int:
    """Straight to the receiver: no queue, and nothing else that has to run."""
    # Clients of every kind of destination, loaded when one is spoken to.
    from alerts.delivery.make import destination, origin

    name = arguments.destination
    to = destination(name, settings.destinations[name], cluster, sender=origin(settings))
    event = canary(name, arguments.plant, time.time_ns())
    before, why = time.monotonic(), None
    try:
        to.send([Item(event, dump(event))])
    except (Retry, Refused) as error:
        why = str(error)
    finally:
        delay_s = time.monotonic() - before
        to.close()
    known = why is None and not to.acknowledgement.startswith("none")
    if arguments.json:
        said = {"destination": name, "event_id": event.event_id, "arrived": known if why is None else False, "delay_s": round(delay_s, 6)}
        print(json.dumps(said | {"acknowledgement": to.acknowledgement, "remark": to.remark, "error": why}))
    elif why is not None:
        print(f"{name}: the canary was not taken after {delay_s:.3f} s: {clean(why)}")
    else:
        print(f"{name}: canary {event.event_id} {'taken' if known else 'sent'} in {delay_s:.3f} s")
        print(f"  acknowledgement: {to.acknowledgement}")
        if to.remark:
            print(f"  {clean(to.remark)}")
    return DONE if why is None else FOUND


def _test_queued(arguments: argparse.Namespace, outbox: Callable[[], Outbox]) -> int:
    """The whole way an alert takes, behind what waits already."""
    name, queues = arguments.destination, outbox()
    try:
        event = canary(name, arguments.plant, time.time_ns())
        queues.add([letter(name, event)], time.time_ns())
        began_s = time.monotonic()
        until = began_s + arguments.wait
        while True:
            state = next(one for one in queues.states() if one.destination == name)
            # Behind it another canary may have gone by now.
            gone = state.canary_time is not None and time_ns(state.canary_time) >= time_ns(event.time)
            if gone and (state.canary_event == event.event_id or not _waits(queues, name, event)):
                delay_s = state.canary_delay_s if state.canary_event == event.event_id else time.monotonic() - began_s
                break
            if (refused := next((one for one in queues.dead_letters(name) if one.event_id == event.event_id), None)) is not None:
                return _untaken(arguments, event, f"refused for good: {refused.error}")
            if time.monotonic() > until:
                why = f"{state.waiting} letters wait; " + (state.error or "is `hopwatch alerts run` running?")
                return _untaken(arguments, event, why)
            time.sleep(LOOK_S)
    finally:
        queues.close()
    if arguments.json:
        print(json.dumps({"destination": name, "event_id": event.event_id, "arrived": True, "delay_s": delay_s, "error": None}))
    else:
        print(f"{name}: canary {event.event_id} taken {delay_s:.3f} s after it was made")
    return DONE


def _waits(queues: Outbox, name: str, event: Alert) -> bool:
    return any(one.event_id == event.event_id for one in queues.waiting(name, READ_MAX))


def _untaken(arguments: argparse.Namespace, event: Alert, why: str) -> int:
    name = arguments.destination
    if arguments.json:
        print(json.dumps({"destination": name, "event_id": event.event_id, "arrived": False, "delay_s": None, "error": why}))
    else:
        print(f"{name}: the canary was not taken within {arguments.wait:g} s: {clean(why)}")
    return FOUND


def _destinations(states: Sequence[QueueState], settings: AlertsSettings, *, json_: bool, now_ns: int) -> int:
    by = {state.destination: state for state in states}
    names = [*settings.destinations, *(name for name in by if name not in settings.destinations)]
    found = DONE
    for name in names:
        state, of = by.get(name), settings.destinations.get(name)
        kind = of.kind if of is not None else None
        if state is not None and (state.circuit == "open" or state.dead):
            found = FOUND
        if json_:
            said: dict[str, Any] = (
                {"destination": name} if state is None else asdict(state) | {"circuit": state.circuit, "said": state.said}
            )
            print(json.dumps(said | {"kind": kind, "configured": of is not None}))
        else:
            print(_line(name, kind, state, now_ns))
            for remark in _remarks(state):
                print(f"    {clean(remark)}")
    if not names and not json_:
        print("no destination: [alerts.destinations.NAME] in the settings says where alerts go")
    return found


def _line(name: str, kind: str | None, state: QueueState | None, now_ns: int) -> str:
    head = f"{name:20} {kind or 'no longer configured':12}"
    if state is None:
        return f"{head} nothing was ever sent"
    age = "" if state.oldest_time is None else f" (the oldest for {_age(now_ns - time_ns(state.oldest_time))})"
    last = "never" if state.last_sent_time is None else f"{_age(now_ns - time_ns(state.last_sent_time))} ago"
    return f"{head} {state.circuit:8} {state.waiting} wait{age}, {state.dead} dead, {state.sent_total} sent, last {last}"


def _remarks(state: QueueState | None) -> Iterable[str]:
    if state is None:
        return
    if state.failures:
        yield f"failed {state.failures} times in a row, next attempt {_short(state.next_time)}: {state.error}"
    elif state.error and state.error_time:
        yield f"last said at {_short(state.error_time)}: {state.error}"
    if state.canary_delay_s is not None:
        yield f"last canary {_short(state.canary_time)}, after {state.canary_delay_s:.3f} s"
    if state.said:
        yield state.said


def _dead_letters(dead: Sequence[Waiting], *, json_: bool) -> int:
    for one in dead:
        if json_:
            said = asdict(one) | {"line": None, "queued_time": time_text(one.queued_ns), "event": _event(one.line)}
            print(json.dumps({name: value for name, value in said.items() if name not in ("line", "queued_ns")}))
        else:
            print(clean(f"{one.destination} {one.place:>8}  {_short(time_text(one.queued_ns))}  {_about(one.line)}: {one.error}"))
    if not dead and not json_:
        print("no dead letters")
    if len(dead) == READ_MAX and not json_:
        print(f"the first {READ_MAX} are shown")
    return FOUND if dead else DONE


def _about(line: bytes) -> str:
    try:
        event = parse(line)
    except EventError as error:
        return f"no event ({error})"
    if isinstance(event, Alert):
        return f"{event.severity} {event.finding.verdict} {event.plant} {event.alert_id} revision {event.revision}"
    return event.kind


def _event(line: bytes) -> Any:  # Any: JSON values
    try:
        return json.loads(line)
    except ValueError:
        return None


def _age(age_ns: int) -> str:
    seconds = max(0, age_ns) // 10**9
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _short(time: str | None) -> str:
    return "-" if time is None else f"{time[:19]}Z"

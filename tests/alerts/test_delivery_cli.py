"""The commands about delivery say how destinations stand, and give back what was refused."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from alerts.delivery.cli import add_commands, run
from alerts.delivery.run import letters as letters_of
from alerts.outbox import SqliteOutbox, letter
from alerts.settings import AlertsSettings, SettingsError, alerts_settings
from hopwatch.bus.connection import Connection
from hopwatch.events import Decision, time_text
from tests.alerts.letters import T0_NS, alert, letters

S = 10**9


def _settings(tmp_path: Path) -> AlertsSettings:
    told = {
        "siem": {"kind": "file", "address": str(tmp_path / "alerts.jsonl"), "min_severity": "high"},
        "ticket": {"kind": "webhook", "address": "https://tickets.example/in", "notify_only": True},
        "udp": {"kind": "syslog", "address": "udp://127.0.0.1:9"},
    }
    return alerts_settings({"destinations": told}, "test", {})


def _no_cluster() -> Connection:
    raise AssertionError("Kafka is not asked for")


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def said(*argv: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        add_commands(parser.add_subparsers(dest="command"), lambda one: one.add_argument("--json", action="store_true") and None)
        arguments = parser.parse_args(argv)
        code = run(arguments.command, arguments, _settings(tmp_path), lambda: SqliteOutbox(tmp_path / "book"), _no_cluster)
        return code, capsys.readouterr().out

    return said


Say = Callable[..., tuple[int, str]]


def test_event_has_a_letter_for_each_destination_that_wants_it(tmp_path: Path) -> None:
    of = letters_of(_settings(tmp_path))
    assert [one.destination for one in of(alert())] == ["siem", "ticket", "udp"]
    assert [one.destination for one in of(alert(severity="low"))] == ["ticket", "udp"]
    assert [one.destination for one in of(alert(notify=False))] == ["siem", "udp"]
    decision = Decision(event_id="d", plant="north", time=time_text(T0_NS), person="a", action="acknowledge", reason="seen")
    assert [one.destination for one in of(decision)] == ["siem"]


def test_canary_that_is_taken_says_what_that_means(say: Say, tmp_path: Path) -> None:
    code, out = say("test", "siem")
    assert code == 0 and "taken in 0." in out and "acknowledgement: fsync(2): it is on the disk" in out
    assert json.loads((tmp_path / "alerts.jsonl").read_text())["canary"] is True


def test_canary_by_udp_is_sent_and_nobody_knows(say: Say) -> None:
    code, out = say("test", "udp")
    assert code == 0 and " sent in 0." in out and "none: UDP cannot know whether anything arrived" in out
    said = json.loads(say("test", "udp", "--json")[1])
    assert said["arrived"] is False and said["error"] is None


def test_canary_that_is_not_taken_says_why(say: Say, tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl").mkdir()
    code, out = say("test", "siem")
    assert code == 1 and "the canary was not taken after 0." in out and "Is a directory" in out


def test_canary_through_a_queue_that_nobody_reads_says_so(say: Say) -> None:
    code, out = say("test", "siem", "--queued", "--wait", "0")
    assert code == 1 and "1 letters wait; is `hopwatch alerts run` running?" in out


def test_unknown_destination_is_one_line(say: Say) -> None:
    with pytest.raises(SettingsError, match="sime: no such destination in the settings; there are siem, ticket, udp"):
        say("test", "sime")


def test_destinations_show_what_waits_what_failed_and_what_is_no_longer_configured(say: Say, tmp_path: Path) -> None:
    assert say("destinations")[0] == 0
    outbox = SqliteOutbox(tmp_path / "book")
    outbox.add([*letters("siem", range(3)), *letters("old", range(1))], T0_NS)
    for _ in range(5):
        outbox.failed("siem", 0, "ConnectionRefusedError: \x1b[31mrefused", T0_NS, T0_NS + 60 * S)
    code, out = say("destinations")
    assert code == 1
    lines = out.splitlines()
    assert (
        lines[0].startswith("siem                 file         open     3 wait (the oldest for ")
        and "0 dead, 0 sent, last never" in lines[0]
    )
    assert lines[1].startswith("    failed 5 times in a row, next attempt 2026-04-07T10:43:08Z: ConnectionRefusedError")
    assert lines[2] == "ticket               webhook      nothing was ever sent"
    assert lines[4].startswith("old                  no longer configured closed   1 wait")
    (siem, _, _, old) = [json.loads(line) for line in say("destinations", "--json")[1].splitlines()]
    assert (siem["waiting"], siem["circuit"], siem["kind"], siem["configured"]) == (3, "open", "file", True)
    assert old["configured"] is False


def test_dead_letters_are_listed_and_replayed(say: Say, tmp_path: Path) -> None:
    outbox = SqliteOutbox(tmp_path / "book")
    assert say("dead-letters") == (0, "no dead letters\n")
    outbox.add([*letters("siem", range(2)), letter("ticket", alert(5, why="x\x1b[0m"))], T0_NS)
    for name, place in (("siem", 0), ("siem", 1), ("ticket", 0)):
        outbox.dead(name, place, "HTTP 422", T0_NS)
    code, out = say("dead-letters", "siem")
    assert code == 1 and out.count("\n") == 2 and "critical undeclared-hop north A-" in out and out.endswith("revision 0: HTTP 422\n")
    whole = [json.loads(line) for line in say("dead-letters", "--json")[1].splitlines()]
    assert [(one["destination"], one["place"]) for one in whole] == [("siem", 0), ("siem", 1), ("ticket", 0)]
    assert whole[0]["event"]["event_id"] == alert(0).event_id
    assert say("replay", "siem", "--place", "1") == (0, "1 letters wait again\n")
    assert [one.event_id for one in outbox.waiting("siem", 10)] == [alert(1).event_id]
    assert say("replay", "siem")[1] == "1 letters wait again\n"
    assert say("dead-letters")[1].startswith("ticket ")

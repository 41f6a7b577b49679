"""`hopwatch alerts` from its arguments to its exit status, over a store in a file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from said import finding

from alerts.book import book
from alerts.desk import ALIKE_MAX, alert_id
from alerts.running import Runner
from hopwatch.cli import main
from hopwatch.events import Finding, parse
from hopwatch.store import StoreError
from hopwatch.store.embedded import EmbeddedStore

A1 = alert_id(finding(1).finding_id)
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedStore]:
    monkeypatch.chdir(tmp_path)
    made = EmbeddedStore(tmp_path / "hopwatch.db", is_clear=lambda account: account.startswith("svc_"))
    yield made
    made.close()


@pytest.fixture
def say(store: EmbeddedStore, capsys: pytest.CaptureFixture[str]) -> Say:
    def said(*argv: str) -> tuple[int, str, str]:
        code = main(["alerts", *argv])
        out, err = capsys.readouterr()
        return code, out, err

    return said


def add(store: EmbeddedStore, *findings: Finding) -> None:
    store.add(findings=[one.model_dump() for one in findings])
    assert main(["alerts", "run", "--once"]) == 0


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_open_alerts_are_listed_with_status_one_and_none_with_zero(store: EmbeddedStore, say: Say) -> None:
    assert say("list") == (0, "", "")
    add(store, finding(1), finding(2, "dump", severity="critical", who="h.keller"))
    code, out, _ = say("list")
    assert code == 1
    assert "CRITICAL  new          dump" in out and "svc_report  mes-db -> 10.40.9.1" in out
    assert "\x1b" not in out, "no colours where there is no terminal"
    assert "h.keller" not in out
    assert [one["alert_id"] for one in lines(say("list", "--account", "h.keller", "--json")[1])] == [alert_id(finding(2).finding_id)]
    assert lines(say("list", "--severity", "critical", "--json")[1])[0]["techniques"] != []


def test_a_decision_bears_person_time_and_reason_and_changes_the_state(store: EmbeddedStore, say: Say) -> None:
    add(store, finding(1))
    code, out, _ = say("ack", "A-0000000000000001", "--reason", "asked the owner", "--person", "analyst-7", "--ticket", "CHG-1")
    assert (code, out) == (0, "A-00000000  in-progress  acknowledged by analyst-7: asked the owner (CHG-1)\n")
    said = lines(say("comment", A1, "--reason", "waits", "--json")[1])
    assert [one["kind"] for one in said] == ["decision", "alert"]
    assert say("resolve", A1, "--as", "false-positive", "--reason", "wrong host")[0] == 0
    assert say("list") == (0, "", "")
    code, out, _ = say("show", "F-0000000000000001")
    assert "resolved as false-positive, analyst-7" in out
    assert "medium because medium by its difference" in out
    assert "told  raised        first seen" in out
    assert "nearest approved hop" in out or "no approved hop is near" in out
    assert "0%" in say("report")[1]


def test_a_suppression_by_scope_is_listed_with_what_it_hid_and_ends(store: EmbeddedStore, say: Say) -> None:
    assert (
        say("suppress", "--who", "svc_x", "--for", "8h", "--reason", "r")[2] == "hopwatch: --plant is needed: the book has no alert yet\n"
    )
    add(store, finding(1))
    code, out, _ = say(
        "suppress", "--verdict", "over-limit", "--who", "svc_report", "--for", "8h", "--reason", "load test", "--person", "a"
    )
    assert (code, out) == (0, "suppress: 1 alerts changed now; what comes is hidden until it ends\n")
    add(store, finding(2))
    _, out, _ = say("suppressions")
    assert "verdict over-limit, who svc_report" in out and "hid 1  a: load test" in out
    assert "suppressed" in say("list")[1]
    assert say("unsuppress", "--verdict", "over-limit", "--who", "svc_report", "--reason", "done")[0] == 0
    assert say("suppressions")[1] == ""


def test_a_person_named_in_clear_is_suppressed_under_the_pseudonym(store: EmbeddedStore, say: Say) -> None:
    add(store, finding(1, who="h.keller"))
    assert say("suppress", "--who", "h.keller", "--for", "1h", "--reason", "r")[1].startswith("suppress: 1 alerts changed")
    assert "h.keller" not in say("suppressions")[1]


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("ack", "A-ffffffffffff", "--reason", "r"), "no alert in"),
        (("ack", "--reason", "r"), "expected ids, or one to three of --verdict"),
        (("ack", A1, "--verdict", "dump", "--reason", "r"), "not both"),
        (("reopen", A1, "--reason", "r"), "is not resolved"),
        (("shelve", A1, "--for", "40d", "--reason", "r"), "an end within 31 days"),
        (("export", "--format", "nonsense"), "--format"),
        (("list", "--store", "none"), "there is no store"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_two(store: EmbeddedStore, say: Say, argv: tuple[str, ...], why: str) -> None:
    add(store, finding(1))
    code, out, err = say(*argv)
    assert (code, out) == (2, "")
    assert why in err and err.count("\n") == 1


def test_shelving_needs_a_span_that_can_be_read(store: EmbeddedStore, say: Say) -> None:
    for span in ("8", "h", "0h", "8 h", "-1d"):
        code, _, err = say("shelve", A1, f"--for={span}", "--reason", "r")
        assert code == 2 and "expected 30min, 8h or 7d" in err


def test_export_has_every_revision_and_decision_in_the_order_of_time(store: EmbeddedStore, say: Say) -> None:
    add(store, finding(1))
    say("ack", A1, "--reason", "r")
    said = say("export")[1].splitlines()
    assert [parse(one).kind for one in said] == ["alert", "decision", "alert"]
    ocsf = lines(say("export", "--format", "ocsf")[1])
    assert ocsf[0]["class_uid"] == 2004
    assert say("export", "--until", "2020-01-01")[1] == ""


def test_folded_findings_are_listed_as_one(store: EmbeddedStore, say: Say) -> None:
    add(store, *(finding(number) for number in range(1, 150)))
    _, out, _ = say("list", "--limit", "1000")
    assert out.count("\n") == ALIKE_MAX + 1
    assert f"{149 - ALIKE_MAX} findings like this one" in out
    fold = next(one for one in lines(say("list", "--limit", "1000", "--json")[1]) if "folded" in one)
    assert "findings: F-" in say("show", fold["alert_id"])[1]


class Clock:
    """A clock that the test turns."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_trouble_is_said_once_a_minute_and_tried_again(store: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    the_book, clock, said = book(str(tmp_path / "hopwatch.db")), Clock(), list[str]()
    runner = Runner(
        the_book, letters=lambda event: [], about=lambda verdict: ([], ""), clock=clock, clock_ns=lambda: 10**18, say=said.append
    )

    def away(now_ns: int, most: int) -> int:
        raise StoreError("the disk is full")

    monkeypatch.setattr(the_book, "step", away)
    for _ in range(5):
        assert runner.turn() > 0
    assert said == ["alerts wait: the disk is full"]
    clock.now_s += 61
    runner.turn()
    assert len(said) == 2
    monkeypatch.undo()
    store.add(findings=[finding(1).model_dump()])
    runner.drain()
    assert len(the_book.alerts()) == 1
    the_book.close()


def test_watch_makes_alerts_of_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    examples = Path(__file__).parents[2] / "examples"
    day = ["watch", "-d", str(examples / "plant-demo.yaml"), "-r", str(examples / "plant-day.pcap.gz")]
    assert main([*day, "--alerts", "--store", "none"]) == 2
    assert "alerts are made from a store" in capsys.readouterr().err
    assert main([*day, "--alerts"]) == 1
    capsys.readouterr()
    assert main(["alerts", "list", "--json"]) == 1
    alerts = lines(capsys.readouterr().out)
    assert main(["findings", "--json"]) == 1
    assert {one["finding"]["finding_id"] for one in alerts} == {one["finding_id"] for one in lines(capsys.readouterr().out)}
    assert main([*day, "--alerts"]) == 1, "and again"
    capsys.readouterr()
    main(["alerts", "list", "--json"])
    again = lines(capsys.readouterr().out)
    assert sorted((one["alert_id"], one["notified"]) for one in again) == sorted((one["alert_id"], one["notified"]) for one in alerts)


def test_taking_in_once_what_cannot_be_read_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database, whatever its name says " * 100)
    assert main(["alerts", "run", "--once", "--store", str(broken)]) == 2
    assert "alerts wait" in capsys.readouterr().err
